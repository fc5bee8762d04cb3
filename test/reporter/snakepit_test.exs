defmodule DSPexTelemetry.Reporter.SnakepitTest do
  # Not async: every instance sees events of these names.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.SnakepitSamples

  @worker "pool_worker_12"

  # The definitions of `Snakepit.TelemetryMetrics.metrics/0`, from the table that the documentation has of them.
  defp definitions do
    [_before, table] =
      "docs/snakepit.md" |> File.read!() |> String.split("## Definitions that Snakepit has")

    for line <- String.split(table, "\n"), String.starts_with?(line, "| `") do
      [name, type, event, measurement, tags, unit] =
        line
        |> String.split("|", trim: true)
        |> Enum.map(&(&1 |> String.replace("`", "") |> String.trim()))

      options = [
        event_name: "snakepit." <> event,
        measurement: measurement(measurement),
        tags: for(tag <- String.split(tags, ", "), do: String.to_atom(tag))
      ]

      unit = if unit == "", do: [], else: [unit: unit |> String.trim(":") |> String.to_atom()]
      apply(Telemetry.Metrics, String.to_existing_atom(type), [name, options ++ unit])
    end
  end

  defp measurement("function: " <> key), do: &Map.get(&1, String.to_existing_atom(key))
  defp measurement(key), do: String.to_atom(key)

  defp samples(instance, format) do
    for line <- instance |> scrape(format) |> String.split("\n", trim: true),
        not String.starts_with?(line, "#"),
        [name, value] = String.split(line, ~r/ (?=[^ ]+$)/),
        into: %{},
        do: {name, value |> Float.parse() |> elem(0)}
  end

  defp scrape(instance, format), do: DSPexTelemetry.scrape(instance: instance, format: format)

  defp emit do
    for {name, measurements, metadata} <- SnakepitSamples.all(),
        do: :telemetry.execute(name, measurements, metadata)
  end

  test "its own definitions run beside the library's metrics of the same events" do
    assert length(definitions()) == 10
    log = capture_log(fn -> send(self(), {:started, start!(metrics: definitions())}) end)
    assert_received {:started, instance}
    refute log =~ "left out"
    capture_log(&emit/0)
    command = ~s(worker_id="#{@worker}",command="predict")

    for format <- [:text, :openmetrics], samples = samples(instance, format) do
      expected = %{
        ~s(snakepit_heartbeat_pings{worker_id="#{@worker}"}) => 1,
        ~s(snakepit_heartbeat_pongs{worker_id="#{@worker}"}) => 1,
        ~s(snakepit_heartbeat_failures{worker_id="#{@worker}",failure_reason="heartbeat_timeout"}) =>
          1,
        ~s(snakepit_heartbeat_latency_sum{worker_id="#{@worker}"}) => 4,
        ~s(snakepit_heartbeat_latency_count{worker_id="#{@worker}"}) => 1,
        ~s(snakepit_heartbeat_latency{worker_id="#{@worker}",quantile="0.5"}) => 4,
        ~s(snakepit_heartbeat_missed{worker_id="#{@worker}"}) => 3,
        # Those of sessions are other events.
        ~s(snakepit_grpc_worker_executions{#{command}}) => 4,
        # One has no error, and of two it is a map.
        ~s(snakepit_grpc_worker_errors{#{command},error="timeout"}) => 1,
        ~s(snakepit_grpc_worker_duration_sum{#{command}}) => 12 + 7 + 1 + 5,
        ~s(snakepit_grpc_worker_duration_count{#{command}}) => 4,
        ~s(snakepit_worker_recycled{pool="default",reason="ttl_expired"}) => 1,
        ~s(snakepit_worker_recycled{pool="default",reason="memory_threshold"}) => 1,
        ~s(snakepit_worker_memory_mb_sum{pool="default"}) => 2_100,
        ~s(snakepit_worker_memory_mb_count{pool="default"}) => 1,
        "snakepit_heartbeat_pings_total" => 1
      }

      assert Map.take(samples, Map.keys(expected)) == expected
    end

    assert [
             %{metric: "snakepit_grpc_worker_errors", reason: "invalid_tag", count: 2},
             %{metric: "snakepit_grpc_worker_errors", reason: "missing_tag", count: 1},
             %{metric: "snakepit_worker_memory_mb", reason: "missing_measurement", count: 1}
           ] =
             Enum.sort_by(
               DSPexTelemetry.info(instance: instance).metrics_rejected,
               &{&1.metric, &1.reason}
             )
  end

  test "no name is announced twice, though OpenMetrics takes a suffix off some" do
    capture_log(fn -> send(self(), {:started, start!(metrics: definitions())}) end)
    assert_received {:started, instance}
    capture_log(&emit/0)

    for format <- [:text, :openmetrics], text = scrape(instance, format) do
      types =
        for [_all, name, type] <- Regex.scan(~r/^# TYPE (\S+) (\w+)$/m, text), do: {name, type}

      names = Enum.map(types, &elem(&1, 0))
      assert names -- Enum.uniq(names) == []
      type = if format == :text, do: "counter", else: "unknown"
      assert {"snakepit_heartbeat_pings", type} in types
      assert {"snakepit_heartbeat_pings_total", type} in types
    end
  end
end
