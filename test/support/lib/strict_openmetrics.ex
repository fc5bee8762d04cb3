defmodule DSPexTelemetry.StrictOpenMetrics do
  @moduledoc """
  The rules of OpenMetrics 1.0 that Prometheus' own client for Python holds a scrape to, as far as definitions could
  break them. `test/dspex_telemetry/reporter/openmetrics_test.exs` holds this module to that client.
  """

  # What a metric of a type owns its name with, and what its samples may be called.
  @suffixes %{
    "counter" => ~w(_total _created),
    "gauge" => [""],
    "unknown" => [""],
    "summary" => ["" | ~w(_count _sum _created)],
    "histogram" => ~w(_count _sum _bucket _created)
  }

  @doc "What is wrong with a scrape, in words; an empty list if nothing is."
  @spec faults(String.t()) :: [String.t()]
  def faults(scrape) do
    {lines, [last]} = scrape |> String.split("\n", trim: true) |> Enum.split(-1)

    metrics =
      lines
      |> Enum.chunk_while(nil, &chunk/2, &{:cont, &1, nil})
      |> Enum.reject(&is_nil/1)
      |> Enum.map(fn metric -> Map.update!(metric, :samples, &Enum.reverse/1) end)

    if(last == "# EOF", do: [], else: ["no end"]) ++
      clashes(metrics) ++ Enum.flat_map(metrics, &faults_of_metric/1)
  end

  defp chunk("# HELP " <> rest, metric) do
    [name, _help] = String.split(rest, " ", parts: 2)
    {:cont, metric, %{name: name, type: nil, samples: []}}
  end

  defp chunk("# TYPE " <> rest, %{type: nil, samples: []} = metric) do
    [name, type] = String.split(rest, " ")
    ^name = metric.name
    {:cont, %{metric | type: type}}
  end

  defp chunk("# UNIT " <> _rest, %{samples: []} = metric), do: {:cont, metric}

  defp chunk(line, metric) do
    [_all, name, labels, value] =
      Regex.run(~r/^(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)(?: # \{.*)?$/, line)

    labels =
      for [_all, key, value] <- Regex.scan(~r/(\w+)="((?:[^"\\]|\\.)*)"/, labels),
          into: %{},
          do: {key, value}

    {number, ""} = Float.parse(value)
    sample = %{name: name, labels: labels, value: number}
    {:cont, Map.update!(metric, :samples, &[sample | &1])}
  end

  defp clashes(metrics) do
    owned = for %{name: name, type: type} <- metrics, suffix <- own(type), do: name <> suffix
    for name <- Enum.uniq(owned -- Enum.uniq(owned)), do: "clashing name: #{name}"
  end

  defp own(type), do: Enum.uniq(["" | @suffixes[type]])

  defp faults_of_metric(metric) do
    foreign =
      for %{name: name} <- metric.samples,
          name not in Enum.map(@suffixes[metric.type], &(metric.name <> &1)),
          do: "#{name} is no sample of #{metric.name}"

    foreign ++
      Enum.flat_map(metric.samples, &negative(metric, &1)) ++
      twice(metric) ++ Enum.flat_map(groups(metric), &faults_of_group(metric, &1))
  end

  defp negative(metric, sample) do
    suffix = suffix(metric, sample)

    if sample.value < 0 and
         (suffix in ~w(_total _sum _count _bucket) or (metric.type == "summary" and suffix == "")),
       do: ["negative: #{sample.name}"],
       else: []
  end

  defp twice(%{samples: samples}) do
    series = Enum.map(samples, &{&1.name, &1.labels})
    for {name, _labels} <- series -- Enum.uniq(series), do: "twice: #{name}"
  end

  # Samples of a group stand together.
  defp groups(metric), do: Enum.chunk_by(metric.samples, &Map.drop(&1.labels, ["le", "quantile"]))

  defp faults_of_group(%{type: "histogram"} = metric, samples) do
    suffixes = Enum.map(samples, &suffix(metric, &1))
    bounds = for %{labels: %{"le" => bound}} <- samples, do: bound

    numbers =
      for bound <- List.delete(bounds, "+Inf"), {number, ""} = Float.parse(bound), do: number

    for {fault, true} <- [
          {"no bucket above all", List.last(bounds) != "+Inf"},
          {"bounds out of order", numbers != numbers |> Enum.sort() |> Enum.dedup()},
          {"sum without count or count without sum", "_sum" in suffixes != "_count" in suffixes},
          {"sum with negative bounds", "_sum" in suffixes and Enum.any?(numbers, &(&1 < 0))}
        ],
        do: "#{metric.name}: #{fault}"
  end

  defp faults_of_group(_metric, _samples), do: []

  defp suffix(metric, sample), do: String.replace_prefix(sample.name, metric.name, "")
end
