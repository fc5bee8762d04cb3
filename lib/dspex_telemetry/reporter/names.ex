defmodule DSPexTelemetry.Reporter.Names do
  @moduledoc false
  # Which metric has which name, where several want it: the first one, as a name that is exposed twice would
  # make the whole scrape unreadable.

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

  defp reserved(%{name: name}) do
    if String.starts_with?(name, @own_prefixes), do: :reserved
  end

  # All that its samples are called.
  defp names(%{kind: :distribution, name: name}),
    do: [name | suffixed(name, ~w(_bucket _sum _count))]

  defp names(%{kind: :summary, name: name}), do: [name | suffixed(name, ~w(_sum _count))]
  defp names(%{name: name}), do: [name]

  defp suffixed(name, suffixes), do: Enum.map(suffixes, &(name <> &1))

  defp own_names do
    families = Catalogue.families()
    counters = for family <- families, counter <- family.counters, do: to_string(counter.name)

    gauges = for gauge <- Catalogue.gauges() ++ Catalogue.levels(), do: to_string(gauge.name)

    histograms =
      for name <- Catalogue.histogram_names(),
          do: [name | suffixed(name, ~w(_bucket _sum _count))]

    counters ++ gauges ++ List.flatten(histograms)
  end
end
