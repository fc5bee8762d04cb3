defmodule DSPexTelemetry.Reporter.RecordedTest do
  # Not async: the events have the names that other libraries give them, and every instance sees them.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{RecordedMetrics, RecordedScrape}

  defp emit do
    for {event, measurements, metadata} <- RecordedMetrics.events(),
        do: :telemetry.execute(event, measurements, metadata)
  end

  setup do
    watch_handler_failures()
    :ok
  end

  test "the scrape has each series of telemetry_metrics_prometheus_core, with its value" do
    instance = start!(metrics: RecordedMetrics.definitions())
    emit()
    RecordedScrape.assert_recorded(DSPexTelemetry.scrape(instance: instance))
    assert_no_handler_failed()
  end

  test "what was not recorded is told by metric and reason" do
    instance = start!(metrics: RecordedMetrics.definitions())
    emit()

    rejected =
      for %{metric: metric, reason: reason, count: count} <-
            DSPexTelemetry.info(instance: instance).metrics_rejected,
          into: %{},
          do: {{metric, reason}, count}

    assert rejected == %{
             {"phoenix_router_dispatch_exception_count", "missing_tag"} => 1,
             {"http_request_duration_seconds", "missing_measurement"} => 1,
             {"my_app_repo_query_queue_time", "missing_measurement"} => 1,
             {"my_app_repo_query_idle_time", "missing_measurement"} => 1,
             {"my_app_ratio", "invalid_measurement"} => 1,
             {"my_app_ratio", "missing_measurement"} => 1,
             {"myapp_oddname_total", "missing_tag"} => 1,
             {"myapp_oddname_total", "invalid_tag"} => 1
           }
  end

  test "the summaries that mix phx.new generates have quantiles" do
    instance = start!(metrics: RecordedMetrics.summaries())
    emit()
    rows = DSPexTelemetry.report(instance: instance).summaries
    row = Enum.find(rows, &(&1.name == "phoenix_endpoint_stop_duration"))
    assert row.labels == %{}
    assert row.count == 6
    assert_in_delta row.min, 0.1, 1.0e-12
    assert_in_delta row.max, 2_000, 1.0e-9
    assert_in_delta row.p50, 5, 0.05
    assert_in_delta row.p99, 2_000, 0.001
    assert_in_delta row.sum, 0.7 + 5 + 12.5 + 2_000 + 0.1 + 499.999, 1.0e-6

    assert Enum.map(rows, & &1.name) |> Enum.uniq() |> Enum.sort() == [
             "my_app_repo_query_queue_time",
             "my_app_repo_query_total_time",
             "phoenix_channel_handled_in_duration",
             "phoenix_endpoint_stop_duration",
             "phoenix_router_dispatch_exception_duration",
             "phoenix_router_dispatch_stop_duration",
             "vm_memory_total",
             "vm_total_run_queue_lengths_cpu",
             "vm_total_run_queue_lengths_io",
             "vm_total_run_queue_lengths_total"
           ]

    assert RecordedScrape.types(DSPexTelemetry.scrape(instance: instance))["vm_memory_total"] ==
             "summary"

    assert_no_handler_failed()
  end
end
