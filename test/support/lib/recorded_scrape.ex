defmodule DSPexTelemetry.RecordedScrape do
  @moduledoc """
  What telemetry_metrics_prometheus_core exposed of the definitions and events of
  `DSPexTelemetry.RecordedMetrics`, and how a scrape is held to it.
  """

  import ExUnit.Assertions

  @doc "The types of metrics in a text of Prometheus, by name."
  def types(text) do
    for [_all, name, type] <- Regex.scan(~r/^# TYPE (\w+) (\w+)$/m, text),
        into: %{},
        do: {name, type}
  end

  @doc """
  Asserts that a scrape has each series that was recorded, with its type and value, and none beside but the library's
  own and those of `except`, names of metrics.
  """
  def assert_recorded(scrape, except \\ []) do
    recorded = File.read!("test/fixtures/telemetry_metrics.txt")
    names = Map.keys(types(recorded))
    assert Map.take(types(scrape), names) == types(recorded)

    own = ~r/^(dspex|snakepit)_/
    except = Enum.flat_map(except, &[&1, &1 <> "_sum", &1 <> "_count"])

    ours =
      for {{name, _labels}, _value} = series <- series(scrape),
          not (name =~ own) and name not in except,
          into: %{},
          do: series

    recorded = series(recorded)
    assert Map.keys(recorded) -- Map.keys(ours) == []
    assert Map.keys(ours) -- Map.keys(recorded) == []

    for {key, value} <- recorded do
      # Floats that are added in another order.
      assert_in_delta ours[key], value, abs(value) * 1.0e-12, inspect(key)
    end

    assert map_size(recorded) > 200
  end

  # By name and labels, in whatever order these stand.
  defp series(text) do
    for line <- String.split(text, "\n", trim: true),
        not String.starts_with?(line, "#"),
        into: %{} do
      [_all, name, labels, value] = Regex.run(~r/^(\w+)(?:\{(.*)\})? (\S+)$/, line)

      labels =
        for [_all, key, value] <- Regex.scan(~r/(\w+)="((?:[^"\\]|\\.)*)"/, labels),
            do: {key, value}

      {number, ""} = Float.parse(value)
      {{name, Map.new(labels)}, number}
    end
  end
end
