defmodule DSPexTelemetry.Reporter.Names do
  @moduledoc false
  # Which metric has which name, where several want it: the first one, as a name that is exposed twice would
  # make the whole scrape unreadable. A counter that OpenMetrics would give the name of another metric is no
  # such case: Rust writes it there under its whole name.

  alias DSPexTelemetry.Catalogue
  alias DSPexTelemetry.Reporter.Metric

  # What the instance tells of itself and of its router.
  @own_prefixes ["dspex_telemetry_", "dspex_router_", "dspex_cache_"]

  @doc "Those that have their name, and those that do not, each with the one that has it."
  @spec settle([Metric.t()]) :: {[Metric.t()], [{Metric.t(), Metric.t() | :reserved}]}
  def settle(metrics) do
    own = Map.new(own_names(), &{&1, :reserved})

    {_taken, kept, left_out} =
      Enum.reduce(metrics, {own, [], []}, fn metric, {taken, kept, left_out} ->
        case Enum.find_value(names(metric), &Map.get(taken, &1)) || reserved(metric) do
          nil ->
            {Map.merge(taken, Map.new(names(metric), &{&1, metric})), [metric | kept], left_out}

          owner ->
            {taken, kept, [{metric, owner} | left_out]}
        end
      end)

    {Enum.reverse(kept), Enum.reverse(left_out)}
  end

  defp reserved(metric) do
    if Enum.any?(names(metric), &String.starts_with?(&1, @own_prefixes)), do: :reserved
  end

  # All that its samples are called in any format.
  defp names(%{kind: :distribution, name: name}), do: histogram_names(name)
  defp names(%{kind: :summary, name: name}), do: suffixed(name, ~w(_sum _count _created))
  defp names(%{name: name}), do: [name]

  defp histogram_names(name), do: suffixed(name, ~w(_bucket _sum _count _created))

  defp suffixed(name, suffixes), do: [name | Enum.map(suffixes, &(name <> &1))]

  defp own_names do
    families = Catalogue.families()
    counters = for family <- families, counter <- family.counters, do: to_string(counter.name)

    gauges = for gauge <- Catalogue.gauges() ++ Catalogue.levels(), do: to_string(gauge.name)

    histograms = Enum.flat_map(Catalogue.histogram_names(), &histogram_names/1)

    counters ++ gauges ++ histograms
  end
end
