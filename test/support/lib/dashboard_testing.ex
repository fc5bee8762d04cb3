defmodule DSPexTelemetry.DashboardTesting do
  @moduledoc """
  The dashboard, decoded, and which series there are.
  """

  alias DSPexTelemetry.{Catalogue, Dashboard, StrictJSON}

  # What a scrape says of the library itself, and the labels of each. A test holds it to one.
  @own Map.new(
         Catalogue.self_metrics(),
         &{to_string(&1.name), Enum.map(&1.labels, fn label -> to_string(label) end)}
       )

  # What Prometheus itself has.
  @foreign %{
    "up" => [],
    "scrape_duration_seconds" => [],
    "ALERTS" => ~w(alertname alertstate severity)
  }

  def decoded(options \\ []), do: options |> Dashboard.render() |> StrictJSON.decode!()

  def panels(dashboard) do
    for %{"panels" => inside} = row <- dashboard["panels"], panel <- inside ++ [row] do
      panel
    end ++ Enum.reject(dashboard["panels"], &Map.has_key?(&1, "panels"))
  end

  def drawn(dashboard), do: Enum.reject(panels(dashboard), &(&1["type"] == "row"))

  def variables(dashboard), do: dashboard["templating"]["list"]

  # Every metric with its labels; those of a histogram as in the text formats.
  defp catalogued do
    for family <- Catalogue.families(),
        labels = Enum.map(family.labels, &to_string/1),
        {name, labels} <-
          Enum.map(family.counters, &{to_string(&1.name), counter_labels(&1, labels)}) ++
            Enum.flat_map(family.histograms, &histogram_series(&1, labels)),
        into: gauges() |> Map.merge(levels()) |> Map.merge(cache_metrics()) do
      {name, labels}
    end
  end

  def gauges, do: Map.new(Catalogue.gauges(), &{to_string(&1.name), []})

  def levels,
    do:
      Map.new(
        Catalogue.levels(),
        &{to_string(&1.name), Enum.map(&1.labels, fn l -> to_string(l) end)}
      )

  def cache_metrics,
    do: Map.new(Catalogue.cache_metrics(), &{to_string(&1.name), ~w(method python_class)})

  defp counter_labels(counter, labels) do
    dropped = counter |> Map.get(:drop_labels, []) |> Enum.map(&to_string/1)
    (labels -- dropped) ++ for {name, _values} <- counter.dimensions, do: to_string(name)
  end

  defp histogram_series(histogram, labels) do
    [
      {"#{histogram.name}_bucket", ["le" | labels]},
      {"#{histogram.name}_sum", labels},
      {"#{histogram.name}_count", labels}
    ]
  end

  @doc "What a scrape says of the library itself, and the labels of each."
  def own, do: @own

  @doc "What Prometheus itself has."
  def foreign, do: @foreign

  def known, do: catalogued() |> Map.merge(@own) |> Map.merge(@foreign)

  @doc "The metrics that a query names, each with the labels that its matchers name."
  def selectors(expression) do
    for [_all, metric, matchers] <- Regex.scan(~r/([a-zA-Z_:][\w:]*)\{([^}]*)\}/, expression) do
      {metric, Enum.map(Regex.scan(~r/(\w+)=/, matchers), &List.last/1)}
    end
  end

  def metrics(expression), do: Enum.map(selectors(expression), &elem(&1, 0))
end
