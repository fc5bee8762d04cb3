defmodule DSPexTelemetry.WindowTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{ErrorAnalyzer, Native, PerformanceMonitor}
  alias DSPexTelemetry.Instance.{Clock, Lookup}
  alias DSPexTelemetry.{ReportModel, StrictJSON}

  @call [:dspex, :bridge, :call_method]
  @windows [
    :last_minute,
    :previous_minute,
    :last_hour,
    :previous_hour,
    {1, :second},
    {30, :seconds},
    {1, :minute},
    {5, :minutes},
    {1, :hour},
    {2, :hours}
  ]
  @not_windows [
    nil,
    :today,
    60,
    "minute",
    [],
    {},
    {5},
    {0, :minutes},
    {-1, :minutes},
    {1.5, :minutes},
    {5, :days},
    {5, "minutes"},
    {5, nil},
    {1, :minute, :ago},
    {10 ** 30, :hours}
  ]
  @precision 0.01

  describe "slices of any length, with any calls" do
    setup do
      :rand.seed(:exsss, {11, 24, 2026})
      %{instance: instance} = started = start()
      model = Enum.reduce(1..150, started.model, fn _, model -> slice(model, started) end)
      # Of the slice that is under way.
      %{instance: instance, model: Enum.reduce(1..50, model, fn _, m -> call(m, started) end)}
    end

    test "show in reports of every window as they were", %{instance: instance, model: model} do
      for window <- @windows do
        {from_ms, to_ms, calls} = cover(model, window)
        report = DSPexTelemetry.report(instance: instance, window: window)
        assert_interval(report.interval, from_ms, to_ms)
        expected = Enum.group_by(calls, &{&1.method, &1.python_class})
        assert {window, length(report.operations)} == {window, map_size(expected)}

        for row <- report.operations do
          calls = Map.fetch!(expected, {row.method, row.python_class})
          samples = Enum.map(calls, & &1.duration)
          assert row.count == length(calls)
          assert row.errors == Enum.count(calls, & &1.cause)
          assert row.mean_us == Enum.sum(samples) / length(samples) / 1_000
          assert row.max_us == Enum.max(samples) / 1_000

          for {key, share} <- [p50_us: 0.5, p95_us: 0.95],
              do: assert_quantile(row, key, samples, share)
        end
      end
    end

    test "show in performance reports as they were", %{instance: instance, model: model} do
      for window <- @windows do
        {from_ms, to_ms, calls} = cover(model, window)
        rows = PerformanceMonitor.report(instance: instance, window: window)
        expected = Enum.group_by(calls, &{&1.method, &1.python_class})
        assert {window, length(rows)} == {window, map_size(expected)}

        for row <- rows do
          assert_interval(row.interval, from_ms, to_ms)
          calls = Map.fetch!(expected, {row.method, row.python_class})
          samples = Enum.map(calls, & &1.duration)
          errors = Enum.count(calls, & &1.cause)
          assert {row.count, row.errors} == {length(calls), errors}
          assert row.error_rate == errors / length(calls)
          assert row.calls_per_second == length(calls) / max((to_ms - from_ms) / 1_000, 0.001)
          assert row.total_us == Enum.sum(samples) / 1_000
          assert row.avg_us == Enum.sum(samples) / length(samples) / 1_000
          assert row.max_us == Enum.max(samples) / 1_000

          for {key, share} <- [p50_us: 0.5, p95_us: 0.95, p99_us: 0.99],
              do: assert_quantile(row, key, samples, share)
        end
      end
    end

    test "show in error reports as they were", %{instance: instance, model: model} do
      for window <- @windows do
        {from_ms, to_ms, calls} = cover(model, window)
        report = ErrorAnalyzer.report(instance: instance, window: window)
        causes = for %{cause: {kind, reason}} <- calls, do: {kind, reason}
        assert_interval(report.interval, from_ms, to_ms)
        assert {window, report.errors} == {window, length(causes)}
        assert report.by_kind == Enum.frequencies_by(causes, &elem(&1, 0))
        assert report.by_reason == Enum.frequencies_by(causes, &elem(&1, 1))
      end
    end

    test "are all in what is reported since the start", %{instance: instance, model: model} do
      calls = Enum.flat_map(model.slices, & &1.calls) ++ model.calls
      report = DSPexTelemetry.report(instance: instance, window: :since_start)
      assert report.operations |> Enum.map(& &1.count) |> Enum.sum() == length(calls)
      assert report.interval.duration_ms == model.now_ms - model.start_ms
    end

    test "are in the JSON text as they are in the struct", %{instance: instance} do
      for window <- @windows do
        json = DSPexTelemetry.report(instance: instance, window: window, format: :json)
        report = DSPexTelemetry.report(instance: instance, window: window)
        {interval, json} = json |> StrictJSON.decode!() |> Map.pop!("interval")
        {expected, report} = report |> Map.from_struct() |> string_keys() |> Map.pop!("interval")
        assert json === report
        assert interval["duration_ms"] == expected["duration_ms"]
        assert interval["to_unix_ms"] - interval["from_unix_ms"] == interval["duration_ms"]
      end
    end

    test "are counted by info", %{instance: instance, model: model} do
      assert %{slice_ms: 3_600_000, slices: 150, merged: 0, dropped: 0} =
               windows = DSPexTelemetry.info(instance: instance).windows

      assert windows.covered_ms == model.now_ms - model.start_ms
      assert windows.memory_bytes > 0 and windows.memory_bytes <= windows.memory_limit
    end

    test "are gone after a reset", %{instance: instance} do
      :ok = DSPexTelemetry.reset(instance: instance)

      for window <- [:since_start | @windows] do
        options = [instance: instance, window: window]
        assert DSPexTelemetry.report(options).operations == []
        assert PerformanceMonitor.report(options) == []
        assert %{errors: 0, by_kind: none, by_reason: none} = ErrorAnalyzer.report(options)
        assert none == %{}
      end

      assert %{slices: 0, covered_ms: 0, memory_bytes: 0} =
               DSPexTelemetry.info(instance: instance).windows
    end
  end

  test "what is no window is refused by every report, with the option named" do
    instance = start!()

    for report <- [
          &DSPexTelemetry.report/1,
          &PerformanceMonitor.report/1,
          &ErrorAnalyzer.report/1
        ],
        window <- @not_windows do
      message = ~r/^option :window must be .*, got: #{Regex.escape(inspect(window))}$/

      assert_raise ArgumentError, message, fn ->
        report.(window: window, instance: instance)
      end
    end
  end

  test "a full memory of slices makes the past coarser and then shorter, and what is told stays true" do
    options = [window_memory_limit: 65_536, history: 36_000_000]
    %{instance: instance, model: model} = started = start(options)
    slices = 1..170

    model =
      Enum.reduce(slices, model, fn _, model ->
        model = Enum.reduce(1..20, model, fn _, model -> call(model, started) end)
        model = end_slice(model, 200_000, started)
        windows = DSPexTelemetry.info(instance: instance).windows
        assert windows.memory_bytes <= windows.memory_limit
        model
      end)

    windows = DSPexTelemetry.info(instance: instance).windows
    assert windows.merged > 0
    assert windows.dropped > 0
    assert windows.slices == Enum.count(slices) - windows.merged - windows.dropped
    assert windows.covered_ms < model.now_ms - model.start_ms

    # Whatever is kept begins where a slice began, and has all calls since then.
    for window <- [{200, :seconds}, {1, :hour}, {100, :hours}] do
      report = DSPexTelemetry.report(instance: instance, window: window)
      from_ms = model.now_ms - report.interval.duration_ms
      kept = Enum.filter(model.slices, &(&1.from_ms >= from_ms))
      assert List.last(kept).from_ms == from_ms
      count = kept |> Enum.map(&length(&1.calls)) |> Enum.sum()
      assert report.operations |> Enum.map(& &1.count) |> Enum.sum() == count
    end

    last = DSPexTelemetry.report(instance: instance, window: {200, :seconds})
    assert last.interval.duration_ms == 200_000
    all = DSPexTelemetry.report(instance: instance, window: {100, :hours})
    assert all.interval.duration_ms == windows.covered_ms
  end

  test "a series that was idle and went is still in the windows of its time" do
    %{instance: instance, model: model} = started = start()
    native = native(instance)
    record(started, "first")
    model = end_slice(model, 60_000, started)
    record(started, "second")

    # The first sweep begins to watch, the second finds nothing new.
    assert Native.retire_idle(native, {model.now_ms + 1_000, 0}, 1_000) == 0
    assert Native.retire_idle(native, {model.now_ms + 2_000, 0}, 1_000) == 2
    assert series(instance, "dspex.bridge.call_method").series == 0
    assert methods(instance, :since_start) == []
    assert methods(instance, {1, :minute}) == ["first", "second"]

    end_slice(model, 60_000, started)
    assert methods(instance, {1, :minute}) == ["second"]
    assert methods(instance, :previous_minute) == ["first"]
  end

  # An instance that sees no events but those of its test, and whose slices end by hand: its own
  # come after an hour, and never once time has been driven into the future.
  defp start(options \\ []) do
    quiet = [attach: false, slice: 3_600_000, summary_interval: :infinity]
    keeping = [history: 604_800_000, error_spike_threshold: 1_000]
    instance = start!(Keyword.merge(quiet ++ keeping, options))
    %{started_at_ms: now_ms} = Lookup.fetch!(instance)
    :ok = Native.reset(native(instance), {now_ms, 0})
    model = %{start_ms: now_ms, now_ms: now_ms, slices: [], calls: []}
    %{instance: instance, plans: plans(instance), native: native(instance), model: model}
  end

  # The model: slices, the latest first, each with its calls.

  defp slice(model, started) do
    calls = Enum.random([0, 1, 10, 60])
    model = Enum.reduce(1..calls//1, model, fn _, model -> call(model, started) end)
    end_slice(model, Enum.random([1, 999, 10_000, 20_000, 60_000]), started)
  end

  defp end_slice(model, duration_ms, started) do
    now_ms = model.now_ms + duration_ms
    :ok = Native.end_slice(started.native, {now_ms, 0})
    slice = %{from_ms: model.now_ms, calls: model.calls}
    %{model | now_ms: now_ms, slices: [slice | model.slices], calls: []}
  end

  defp call(model, started) do
    call = %{
      method: "method#{:rand.uniform(8)}",
      python_class: "Class#{:rand.uniform(3)}",
      duration: :rand.uniform(2 ** :rand.uniform(40)) - 1,
      cause: Enum.random([nil, nil, nil, {"unsuccessful", "unsuccessful"}, {"exit", "timeout"}])
    }

    metadata = Map.take(call, [:method, :python_class])
    measurements = Map.take(call, [:duration])

    case call.cause do
      {"exit", _reason} ->
        metadata = Map.merge(metadata, %{kind: :exit, reason: :timeout})
        :ok = handle(started.plans, @call ++ [:exception], measurements, metadata)

      other ->
        metadata = Map.put(metadata, :success, other == nil)
        :ok = handle(started.plans, @call ++ [:stop], measurements, metadata)
    end

    %{model | calls: [call | model.calls]}
  end

  defp record(started, method) do
    metadata = %{method: method, python_class: "Class", success: true}
    :ok = handle(started.plans, @call ++ [:stop], %{duration: 1}, metadata)
  end

  # From, to, and the calls in between.
  defp cover(model, window) when window in [:previous_minute, :previous_hour] do
    length_ms = length_ms(window)
    from_ms = beginning_at(model, model.now_ms - 2 * length_ms)
    to_ms = beginning_at(model, model.now_ms - length_ms)
    slices = Enum.filter(model.slices, &(&1.from_ms >= from_ms and &1.from_ms < to_ms))
    {from_ms, to_ms, Enum.flat_map(slices, & &1.calls)}
  end

  defp cover(model, window) do
    from_ms = beginning_at(model, model.now_ms - length_ms(window))
    slices = Enum.filter(model.slices, &(&1.from_ms >= from_ms))
    {from_ms, model.now_ms, model.calls ++ Enum.flat_map(slices, & &1.calls)}
  end

  # Where the slice begins that a time lies in; the first, if it lies before all.
  defp beginning_at(model, ms) do
    Enum.find_value(model.slices, model.start_ms, &if(&1.from_ms <= ms, do: &1.from_ms))
  end

  defp length_ms(window) when window in [:last_minute, :previous_minute], do: 60_000
  defp length_ms(window) when window in [:last_hour, :previous_hour], do: 3_600_000
  defp length_ms({number, unit}) when unit in [:second, :seconds], do: number * 1_000
  defp length_ms({number, unit}) when unit in [:minute, :minutes], do: number * 60_000
  defp length_ms({number, unit}) when unit in [:hour, :hours], do: number * 3_600_000

  # The clocks are read one after the other, so the calendar's time may be off by what lies between.
  defp assert_interval(interval, from_ms, to_ms) do
    {now_ms, unix_ms} = Clock.now()
    assert interval.duration_ms == to_ms - from_ms
    assert interval.to_unix_ms - interval.from_unix_ms == interval.duration_ms
    assert_in_delta interval.to_unix_ms, unix_ms + to_ms - now_ms, 1_000
  end

  # The upper end of a bucket: never below the sample, and above it by the precision.
  defp assert_quantile(row, key, samples, share) do
    exact = ReportModel.quantile(samples, share) / 1_000
    assert row[key] >= exact and row[key] <= min(exact * (1 + @precision), row.max_us)
  end

  defp methods(instance, window) do
    report = DSPexTelemetry.report(instance: instance, window: window)
    report.operations |> Enum.map(& &1.method) |> Enum.sort()
  end

  defp string_keys(%{} = map),
    do: Map.new(map, fn {key, value} -> {to_string(key), string_keys(value)} end)

  defp string_keys(list) when is_list(list), do: Enum.map(list, &string_keys/1)
  defp string_keys(value), do: value
end
