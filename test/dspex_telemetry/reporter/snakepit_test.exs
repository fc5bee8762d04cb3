defmodule DSPexTelemetry.Reporter.SnakepitTest do
  # Not async: every instance sees events of these names.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.SnakepitSamples

  @worker SnakepitSamples.worker()

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
    stops = SnakepitSamples.of([:snakepit, :grpc_worker, :execute, :stop])
    recycled = SnakepitSamples.of([:snakepit, :worker, :recycled])
    [{_, %{latency_ms: latency}, _}] = SnakepitSamples.of([:snakepit, :heartbeat, :pong_received])

    of_command =
      stops
      |> Enum.filter(fn {_, _, metadata} -> metadata.worker_id == @worker end)
      |> Enum.group_by(fn {_, _, metadata} -> metadata.command end, &elem(&1, 1))

    assert map_size(of_command) > 2

    for format <- [:text, :openmetrics], samples = samples(instance, format) do
      executions =
        for {command, measured} <- of_command,
            tags = ~s(worker_id="#{@worker}",command="#{command}"),
            milliseconds = measured |> Enum.map(& &1.duration_ms) |> Enum.sum(),
            {name, value} <- [
              {"executions{#{tags}}", length(measured)},
              {"duration_count{#{tags}}", length(measured)},
              {"duration_sum{#{tags}}", milliseconds}
            ],
            into: %{},
            do: {"snakepit_grpc_worker_" <> name, value}

      expected = %{
        ~s(snakepit_heartbeat_pings{worker_id="#{@worker}"}) => 1,
        ~s(snakepit_heartbeat_pongs{worker_id="#{@worker}"}) => 1,
        ~s(snakepit_heartbeat_failures{worker_id="#{@worker}",failure_reason="ping_failed"}) => 1,
        ~s(snakepit_heartbeat_latency_sum{worker_id="#{@worker}"}) => latency,
        ~s(snakepit_heartbeat_latency_count{worker_id="#{@worker}"}) => 1,
        ~s(snakepit_heartbeat_latency{worker_id="#{@worker}",quantile="0.5"}) => latency,
        ~s(snakepit_heartbeat_missed{worker_id="#{@worker}"}) => 3,
        ~s(snakepit_grpc_worker_errors{worker_id="#{@worker}",command="nap",error="timeout"}) =>
          1,
        ~s(snakepit_worker_recycled{pool="Elixir.Snakepit.Pool",reason="memory_threshold"}) => 1,
        ~s(snakepit_worker_memory_mb_sum{pool="Elixir.Snakepit.Pool"}) => 2_100,
        ~s(snakepit_worker_memory_mb_count{pool="Elixir.Snakepit.Pool"}) => 1,
        "snakepit_heartbeat_pings_total" => 1
      }

      expected = Map.merge(expected, executions)
      assert Map.take(samples, Map.keys(expected)) == expected
    end

    # An error that is a map or a tuple is no tag.
    errors = for {_, _, %{error: error}} <- stops, do: error

    assert [
             %{metric: "snakepit_grpc_worker_errors", reason: "invalid_tag", count: invalid},
             %{metric: "snakepit_grpc_worker_errors", reason: "missing_tag", count: missing},
             %{
               metric: "snakepit_worker_memory_mb",
               reason: "missing_measurement",
               count: no_memory
             }
           ] =
             Enum.sort_by(
               DSPexTelemetry.info(instance: instance).metrics_rejected,
               &{&1.metric, &1.reason}
             )

    assert invalid == Enum.count(errors, &(not is_atom(&1)))
    assert missing == length(stops) - length(errors)
    assert no_memory == length(recycled) - 1
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
