defmodule Bridge.Servers.DashboardData do
  @moduledoc """
  Which queries of the dashboard have data in a Prometheus, and which of them need a real Snakepit or SnakeBridge.
  """

  alias Bridge.Servers.{Program, Prometheus}
  alias DSPexTelemetry.{Catalogue, DashboardQueries}

  @type query :: {title :: String.t(), ref :: String.t(), expression :: String.t()}

  # Longer than a test takes, so that a rate sees all of it.
  @variables %{"__rate_interval" => "5m"}

  @doc "The queries that have no data, as title and reference."
  @spec without_data(Program.t(), [query()]) :: [{String.t(), String.t()}]
  def without_data(prometheus, queries) do
    for {title, ref, expression} <- queries,
        samples = Prometheus.query(prometheus, DashboardQueries.concrete(expression, @variables)),
        not Enum.any?(samples, &data?(&1.value)),
        do: {title, ref}
  end

  defp data?(%{count: count}), do: count > 0
  defp data?(value), do: is_number(value)

  @doc "Whether a query names a metric that events of the bridge demo do not feed."
  @spec beyond_demo?(query()) :: boolean()
  def beyond_demo?(query), do: not MapSet.disjoint?(metrics(query), only_recorded())

  @doc "Whether events of Snakepit and SnakeBridge feed every metric that a query names."
  @spec recorded?(query()) :: boolean()
  def recorded?(query), do: MapSet.subset?(metrics(query), recorded())

  defp only_recorded, do: MapSet.difference(recorded(), fed([:dspex]))

  defp recorded do
    levels = for level <- Catalogue.levels() ++ Catalogue.gauges(), do: "#{level.name}"
    MapSet.union(fed([:snakebridge, :snakepit]), MapSet.new(levels))
  end

  defp fed(presets) do
    for family <- Catalogue.families(presets),
        metric <- family.counters ++ family.histograms,
        into: MapSet.new(),
        do: "#{metric.name}"
  end

  # A series of a histogram is of the histogram.
  defp metrics({_title, _ref, expression}) do
    for [_all, name] <- Regex.scan(~r/([a-zA-Z_]\w*)\{/, expression), into: MapSet.new() do
      String.replace(name, ~r/_(bucket|sum|count)$/, "")
    end
  end
end
