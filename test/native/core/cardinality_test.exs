defmodule DSPexTelemetry.Native.Core.CardinalityTest do
  # Not async: limits count the series of all tests, and this one keeps all cores busy.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Handler

  @label_sets 1_000_000
  @limit 2_000
  @hour 3_600_000
  @overflow "otel_metric_overflow"
  @stop [:dspex, :bridge, :call_method, :stop]
  # The most that a series may take whose samples span three decades.
  @series_bytes 16 * 1_024

  setup do
    # Series take more once a slice of time ends, which none does during a test.
    %{instance: start!(series_limit: @limit, slice: @hour, history: @hour)}
  end

  test "of a million label sets all are counted, #{@limit} of them apart, in bounded memory",
       %{instance: instance} do
    half = div(@label_sets, 2)
    record(instance, 1..half)
    after_half = DSPexTelemetry.info(instance: instance).memory_bytes
    record(instance, (half + 1)..@label_sets)

    info = DSPexTelemetry.info(instance: instance)
    calls = Enum.find(info.series, &(&1.event == "dspex.bridge.call_method"))
    assert %{series: @limit, limit: @limit, overflow: overflow} = calls
    assert overflow == @label_sets - @limit
    assert info.rejected == []

    assert info.memory_bytes < (@limit + 1) * @series_bytes
    # A scheduler that had no overflow to record before makes itself a place for it.
    assert info.memory_bytes - after_half < @series_bytes

    rows = DSPexTelemetry.report(instance: instance).operations
    assert length(rows) == @limit + 1
    assert rows |> Enum.map(& &1.count) |> Enum.sum() == @label_sets

    assert %{count: ^overflow, python_class: @overflow, mean_us: 5.0} =
             row(rows, %{method: @overflow})

    assert Enum.all?(rows, &(&1.count == 1 or &1.method == @overflow))
  end

  test "the limit holds exactly while several processes make new label sets",
       %{instance: instance} do
    plan = plans(instance)[@stop]

    1..8
    |> Task.async_stream(
      fn producer ->
        for number <- 1..1_000, do: :ok = call(plan, "#{producer}-#{number}")
      end,
      max_concurrency: 8
    )
    |> Stream.run()

    overflow = 8_000 - @limit
    assert %{series: @limit, overflow: ^overflow} = series(instance, "dspex.bridge.call_method")
    rows = DSPexTelemetry.report(instance: instance).operations
    assert %{count: ^overflow} = row(rows, %{method: @overflow})
    assert rows |> Enum.map(& &1.count) |> Enum.sum() == 8_000
  end

  test "series that have a place keep it when the limit is reached", %{instance: instance} do
    plan = plans(instance)[@stop]
    for number <- 1..(@limit + 10), do: :ok = call(plan, "m#{number}")
    for number <- 1..@limit, do: :ok = call(plan, "m#{number}")

    rows = DSPexTelemetry.report(instance: instance).operations
    assert %{count: 10} = row(rows, %{method: @overflow})
    assert Enum.count(rows, &(&1.count == 2)) == @limit
  end

  test "a reset gives all places back", %{instance: instance} do
    plan = plans(instance)[@stop]
    for number <- 1..(@limit + 1), do: :ok = call(plan, "old#{number}")
    :ok = DSPexTelemetry.reset(instance: instance)
    assert %{series: 0, overflow: 0} = series(instance, "dspex.bridge.call_method")
    for number <- 1..@limit, do: :ok = call(plan, "new#{number}")
    assert %{series: @limit, overflow: 0} = series(instance, "dspex.bridge.call_method")
    assert length(DSPexTelemetry.report(instance: instance).operations) == @limit
  end

  # From two processes, each with every other number.
  defp record(instance, first..last//1) do
    plan = plans(instance)[@stop]

    [first, first + 1]
    |> Enum.map(fn start ->
      Task.async(fn ->
        for number <- start..last//2, do: :ok = call(plan, Integer.to_string(number))
        :ok
      end)
    end)
    |> Task.await_many(:infinity)
  end

  defp call(plan, method) do
    metadata = %{method: method, python_class: "C", success: true, cached: false, ref: "r"}

    Handler.dspex_bridge_call_method_stop(
      @stop,
      %{duration: 5_000, result_size: 64},
      metadata,
      plan
    )
  end
end
