for {name, kind} <- [
      Counter: "counter",
      Sum: "sum",
      LastValue: "last value",
      Summary: "summary",
      Distribution: "distribution"
    ] do
  defmodule Module.concat(Telemetry.Metrics, name) do
    @moduledoc "A stand-in for the definition of a #{kind} in telemetry_metrics, with the same fields."
    defstruct [
      :name,
      :event_name,
      :measurement,
      :tags,
      :tag_values,
      :keep,
      :description,
      :unit,
      :reporter_options
    ]
  end
end

defmodule Telemetry.Metrics do
  @moduledoc """
  A stand-in for telemetry_metrics, which cannot be installed where Hex is not: makes the same structs of
  the same arguments, without checking them.
  """

  for {function, struct} <- [
        counter: Telemetry.Metrics.Counter,
        sum: Telemetry.Metrics.Sum,
        last_value: Telemetry.Metrics.LastValue,
        summary: Telemetry.Metrics.Summary,
        distribution: Telemetry.Metrics.Distribution
      ] do
    def unquote(function)(name, options \\ []),
      do: struct!(unquote(struct), fields(name, options))
  end

  defp fields(name, options) do
    name = segments(name)
    {event, [measurement]} = Enum.split(name, -1)
    {unit, ratio} = unit(Keyword.get(options, :unit, :unit))
    measurement = Keyword.get(options, :measurement, measurement)

    [
      name: name,
      event_name: options |> Keyword.get(:event_name, event) |> segments(),
      measurement: convert(measurement, ratio),
      tags: Keyword.get(options, :tags, []),
      tag_values: Keyword.get(options, :tag_values, &Function.identity/1),
      keep: keep(options[:keep], options[:drop]),
      description: options[:description],
      unit: unit,
      reporter_options: Keyword.get(options, :reporter_options, [])
    ]
  end

  defp segments(name) when is_binary(name),
    do: name |> String.split(".") |> Enum.map(&String.to_atom/1)

  defp segments(name), do: name

  defp keep(keep, nil), do: keep
  defp keep(nil, drop) when is_function(drop, 1), do: &(not drop.(&1))
  defp keep(nil, drop), do: &(not drop.(&1, &2))

  @bytes %{byte: 1, kilobyte: 1_000, megabyte: 1_000_000}

  defp unit({from, to}) when is_map_key(@bytes, from), do: {to, @bytes[from] / @bytes[to]}

  defp unit({from, to}) do
    case System.convert_time_unit(1, from, to) do
      0 -> {to, 1 / System.convert_time_unit(1, to, from)}
      ratio -> {to, ratio}
    end
  end

  defp unit(unit), do: {unit, 1}

  defp convert(measurement, 1), do: measurement

  defp convert(function, ratio) when is_function(function, 2),
    do: fn measurements, metadata -> times(function.(measurements, metadata), ratio) end

  defp convert(function, ratio) when is_function(function, 1),
    do: fn measurements -> times(function.(measurements), ratio) end

  defp convert(key, ratio), do: fn measurements -> times(Map.get(measurements, key), ratio) end

  defp times(nil, _ratio), do: nil
  defp times(value, ratio), do: value * ratio
end
