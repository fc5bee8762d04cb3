# Records what telemetry_metrics_prometheus_core exposes of the definitions and events of
# test/support/lib/recorded_metrics.ex. To be run by `elixir` with its compiled modules, those of
# telemetry_metrics and of telemetry in the code path:
#
#     elixir -pa telemetry/ebin -pa telemetry_metrics/ebin -pa telemetry_metrics_prometheus_core/ebin \
#       test/support/record_telemetry_metrics.exs > test/fixtures/telemetry_metrics.txt

Logger.configure(level: :error)
{:ok, _started} = Application.ensure_all_started(:telemetry)
[{module, _binary}] = Code.compile_file("lib/recorded_metrics.ex", __DIR__)

options = [metrics: module.definitions(), start_async: false]
{:ok, _pid} = apply(TelemetryMetricsPrometheus.Core, :start_link, [options])

for {event, measurements, metadata} <- module.events(),
    do: :telemetry.execute(event, measurements, metadata)

IO.write(apply(TelemetryMetricsPrometheus.Core, :scrape, []))
