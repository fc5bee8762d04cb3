defmodule DSPexTelemetry.Catalogue.SelfMetricsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Catalogue, PerformanceRouter}

  @stop [:dspex, :bridge, :call_method, :stop]
  @spawned [:snakepit, :worker, :spawned]

  # The counters about the library itself that have counted something.
  defp counted(instance) do
    scrape = DSPexTelemetry.scrape(instance: instance)

    for %{kind: :counter, name: name} <- Catalogue.self_metrics(),
        scrape =~ ~r/^#{name}(\{.*\})? (?!0$)\S+$/m,
        do: name
  end

  test "counters begin anew with a reset, or go on, as the table says" do
    instance = start!(series_limit: 1, worker_limit: 2, presets: [:dspex, :snakepit])
    plans = plans(instance)

    for method <- ["a", "b"] do
      metadata = %{method: method, python_class: "C", success: true}
      handle(plans, @stop, %{duration: 1}, metadata)
    end

    handle(plans, @stop, %{}, %{})

    for id <- ["w1", "w2", "w3"],
        do: handle(plans, @spawned, %{startup_time: 1}, %{worker_id: id, python_version: "3"})

    PerformanceRouter.put_workers(["w1"], instance: instance)
    {:ok, _worker} = PerformanceRouter.route_request("search", nil, instance: instance)

    before = counted(instance)

    assert before == [
             :dspex_router_decisions_total,
             :dspex_telemetry_overflow_total,
             :dspex_telemetry_rejected_total,
             :dspex_telemetry_workers_overflow_total
           ]

    DSPexTelemetry.reset(instance: instance)
    kept = for %{reset: :keeps, name: name} <- Catalogue.self_metrics(), do: name
    assert counted(instance) == Enum.filter(before, &(&1 in kept))
  end
end
