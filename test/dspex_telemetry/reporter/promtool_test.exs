defmodule DSPexTelemetry.Reporter.PromtoolTest do
  # Not async: the events have the names that other libraries give them.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance
  import Telemetry.Metrics

  alias DSPexTelemetry.RecordedMetrics

  @moduletag :servers
  @moduletag :tmp_dir

  defp check(instance, folder, format \\ :text) do
    path = Path.join(folder, "scrape")
    File.write!(path, DSPexTelemetry.scrape(instance: instance, format: format))
    {output, _status} = System.cmd("sh", ["-c", "promtool check metrics < #{path} 2>&1"])
    String.split(output, "\n", trim: true)
  end

  test "has nothing to say of metrics that are named as Prometheus advises", %{tmp_dir: folder} do
    event = [:promtool, :request]

    metrics = [
      counter("promtool.requests.total", event_name: event, tags: [:route]),
      sum("promtool.request.bytes.total", event_name: event, measurement: :bytes, tags: [:route]),
      sum("promtool.connections",
        event_name: event,
        measurement: :delta,
        reporter_options: [prometheus_type: :gauge]
      ),
      last_value("promtool.memory.bytes", event_name: event, measurement: :bytes),
      distribution("promtool.request.duration.seconds",
        event_name: event,
        measurement: :duration,
        unit: {:native, :second},
        tags: [:route]
      ),
      summary("promtool.response.size.bytes",
        event_name: event,
        measurement: :bytes,
        unit: :byte,
        tags: [:route]
      )
    ]

    instance = start!(metrics: metrics)

    for route <- ["/", "/\"quoted\"\n\\"],
        do:
          :telemetry.execute(event, %{bytes: 10, delta: -1, duration: 1_000_000}, %{route: route})

    assert check(instance, folder) == []
  end

  test "reads what the recorded definitions are exposed as, and objects to their names alone", %{
    tmp_dir: folder
  } do
    instance = start!(metrics: RecordedMetrics.definitions())

    for {event, measurements, metadata} <- RecordedMetrics.events(),
        do: :telemetry.execute(event, measurements, metadata)

    about_names =
      ~r/should have "_total" suffix|should not have "_(total|count)" suffix|use base unit|should not contain|abbreviated/

    complaints = check(instance, folder)
    assert complaints != []
    assert Enum.reject(complaints, &(&1 =~ about_names)) == []
  end
end
