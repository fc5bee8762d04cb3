defmodule DSPexTelemetry.Reporter.PropertyTest do
  # Random definitions and events against a model in plain Elixir that keeps every number.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  @rounds 30
  @events 120

  # Numbers at which something changes: bounds, powers of two, zero, both signs, large and small.
  @numbers [0, 1, -1, 5, 10, -10, 127, 128, 129, 1_000, 65_536, -70_000, 9_007_199_254_740_993] ++
             [0.5, 0.1, -0.25, 10.0, 10.000001, 1.0e-3, -1.0e3, 123_456.789]
  @tags ["a", "b", :a, "", nil, 7, 1.5, "with \"quotes\" and \\", String.duplicate("long", 30)]
  @bounds [-10, 0, 0.5, 10, 1_000, 1.0e6]

  for seed <- 1..@rounds do
    test "round #{seed}: a scrape has what the model has" do
      :rand.seed(:exsss, {unquote(seed), 17, 42})
      event = [:reporter_property, :"event_#{System.unique_integer([:positive])}"]
      metrics = for number <- 1..(1 + :rand.uniform(6)), do: metric(number, event)
      instance = start!(metrics: Enum.map(metrics, & &1.definition))
      events = for _event <- 1..@events, do: event()

      for {measurements, metadata} <- events,
          do: :telemetry.execute(event, measurements, metadata)

      text = DSPexTelemetry.scrape(instance: instance)

      for metric <- metrics do
        expected = expected(metric, events)

        assert samples(text, metric.name) |> Map.keys() |> Enum.sort() ==
                 expected |> Map.keys() |> Enum.sort()

        for {key, value} <- samples(text, metric.name),
            do: assert_close(value, expected[key], {key, metric.kind})
      end
    end
  end

  defp pick(list), do: Enum.random(list)

  defp metric(number, event) do
    kind = pick([:counter, :sum, :last_value, :distribution, :summary])
    tags = pick([[], [:t], [:t, :u], [:u]])
    how = pick([:key, :function, :metadata])
    keep = pick([nil, nil, 1, 2])
    keys = [:x, :y]
    key = pick(keys)

    options = [
      event_name: event,
      tags: tags,
      measurement: measurement(how, key),
      keep: keep(keep),
      reporter_options: if(kind == :distribution, do: [buckets: @bounds], else: [])
    ]

    name = "m#{number}"
    definition = apply(Telemetry.Metrics, kind, ["#{name}.v", options])

    %{
      name: "#{name}_v",
      kind: kind,
      tags: tags,
      key: key,
      keep: keep,
      how: how,
      definition: definition
    }
  end

  defp measurement(:key, key), do: key
  defp measurement(:function, key), do: &Map.get(&1, key)

  defp measurement(:metadata, key),
    do: fn measurements, _metadata -> Map.get(measurements, key) end

  defp keep(nil), do: nil
  defp keep(1), do: &(&1.keep == true)

  defp keep(2),
    do: fn metadata, measurements -> metadata.keep == true or is_map_key(measurements, :y) end

  defp event do
    measurements = for key <- [:x, :y], :rand.uniform(5) > 1, into: %{}, do: {key, number()}
    tags = for key <- [:t, :u], :rand.uniform(8) > 1, into: %{}, do: {key, pick(@tags)}
    {measurements, Map.put(tags, :keep, pick([true, false]))}
  end

  defp number, do: pick([pick(@numbers), pick(@numbers), nil, "text"])

  # The model.

  defp expected(metric, events) do
    for(
      {measurements, metadata} <- events,
      takes?(metric, measurements, metadata),
      do: {labels(metric, metadata), measurements[metric.key]}
    )
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
    |> Enum.flat_map(fn {labels, numbers} -> model(metric, labels, numbers) end)
    |> Map.new()
  end

  defp takes?(metric, measurements, metadata) do
    kept? =
      case metric.keep do
        nil -> true
        1 -> metadata.keep
        2 -> metadata.keep or is_map_key(measurements, :y)
      end

    kept? and (metric.kind == :counter or is_number(measurements[metric.key])) and
      Enum.all?(metric.tags, &is_map_key(metadata, &1))
  end

  defp labels(metric, metadata),
    do: for(tag <- metric.tags, do: {to_string(tag), to_string(metadata[tag])})

  defp model(%{kind: :counter, name: name}, labels, numbers),
    do: [{{name, labels}, length(numbers)}]

  defp model(%{kind: :sum, name: name}, labels, numbers),
    do: [{{name, labels}, Enum.sum(numbers)}]

  defp model(%{kind: :last_value, name: name}, labels, numbers),
    do: [{{name, labels}, List.last(numbers)}]

  defp model(%{kind: :distribution, name: name}, labels, numbers) do
    buckets =
      for bound <- @bounds ++ [:infinity] do
        text = if bound == :infinity, do: "+Inf", else: to_string(bound)
        # Atoms are above all numbers.
        {{"#{name}_bucket", labels ++ [{"le", text}]}, Enum.count(numbers, &(&1 <= bound))}
      end

    buckets ++ totals(name, labels, numbers)
  end

  defp model(%{kind: :summary, name: name}, labels, numbers) do
    sorted = Enum.sort(numbers)

    quantiles =
      for quantile <- [0.5, 0.9, 0.95, 0.99, 0.999] do
        rank = max(ceil(quantile * length(numbers)), 1)

        {{name, labels ++ [{"quantile", to_string(quantile)}]},
         {:about, Enum.at(sorted, rank - 1)}}
      end

    quantiles ++ totals(name, labels, numbers)
  end

  defp totals(name, labels, numbers),
    do: [
      {{"#{name}_sum", labels}, Enum.sum(numbers)},
      {{"#{name}_count", labels}, length(numbers)}
    ]

  defp assert_close(value, {:about, number}, what),
    do: assert_in_delta(value, number, abs(number) / 100 + 1.0e-4, inspect(what))

  # Floats that are added in another order.
  defp assert_close(value, number, what),
    do: assert_in_delta(value, number, abs(number) * 1.0e-12 + 1.0e-7, inspect(what))

  defp samples(text, metric) do
    for line <- String.split(text, "\n"),
        line =~ ~r/^#{metric}(_bucket|_sum|_count)?[{ ]/,
        into: %{} do
      [_all, name, labels, value] = Regex.run(~r/^(\w+)(?:\{(.*)\})? (\S+)$/, line)

      labels =
        for [_all, key, value] <- Regex.scan(~r/(\w+)="((?:[^"\\]|\\.)*)"/, labels),
            do: {key, unescape(value)}

      {number, ""} = Float.parse(value)
      {{name, labels}, number}
    end
  end

  defp unescape(text), do: Regex.replace(~r/\\(.)/, text, "\\1")
end
