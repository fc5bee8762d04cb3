defmodule DSPexTelemetry.PerformanceMonitorTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Native, PerformanceMonitor}
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  doctest PerformanceMonitor

  @stop [:dspex, :bridge, :call_method, :stop]
  @summary [:dspex, :performance, :summary]
  # Of one of the two numbers that a change is made of.
  @precision 0.01

  describe "report/1" do
    test "has rows of the documented fields, those that took most time first" do
      %{instance: instance, plans: plans} = start_in_minutes()
      record(plans, "often", 10, 2_000)
      record(plans, "slow", 1, 50_000, false)
      record(plans, "quick", 3, 10)

      rows = PerformanceMonitor.report(instance: instance)
      assert Enum.map(rows, & &1.method) == ["slow", "often", "quick"]

      assert hd(rows) |> Map.drop([:calls_per_second, :interval]) == %{
               method: "slow",
               python_class: "Class",
               count: 1,
               errors: 1,
               error_rate: 1.0,
               total_us: 50_000.0,
               avg_us: 50_000.0,
               max_us: 50_000.0,
               p50_us: 50_000.0,
               p95_us: 50_000.0,
               p99_us: 50_000.0,
               change: %{calls_per_second: nil, error_rate: nil, avg_us: nil, p95_us: nil}
             }

      for row <- rows do
        assert row.interval |> Map.keys() |> Enum.sort() == [
                 :duration_ms,
                 :from_unix_ms,
                 :to_unix_ms
               ]

        assert is_float(row.calls_per_second)
      end
    end

    test "shows a method that has become slower, less reliable and more popular" do
      %{instance: instance, plans: plans} = minutes = start_in_minutes()
      record(plans, "search", 10, 1_000, false)
      record(plans, "search", 90, 1_000)
      next_minute(minutes, 1)
      record(plans, "search", 45, 2_000, false)
      record(plans, "search", 105, 2_000)
      record(plans, "new", 1, 1)
      next_minute(minutes, 2)

      assert [%{method: "search"} = search, %{method: "new"} = new] =
               PerformanceMonitor.report(instance: instance, window: :last_minute)

      assert {search.count, search.error_rate, search.calls_per_second} == {150, 0.3, 2.5}
      assert_in_delta search.change.p95_us, 1.0, 2 * @precision
      assert search.change.avg_us == 1.0
      assert_in_delta search.change.error_rate, 0.2, 1.0e-9
      assert_in_delta search.change.calls_per_second, 0.5, 1.0e-9
      assert new.change == %{calls_per_second: nil, error_rate: nil, avg_us: nil, p95_us: nil}

      for window <- [:since_start, :previous_minute],
          row <- PerformanceMonitor.report(instance: instance, window: window),
          do: assert({window, row.change} == {window, new.change})

      assert [%{count: 100, error_rate: 0.1}] =
               PerformanceMonitor.report(instance: instance, window: :previous_minute)
    end

    test "shows a method that has become faster" do
      %{instance: instance, plans: plans} = minutes = start_in_minutes()
      record(plans, "search", 4, 4_000, false)
      next_minute(minutes, 1)
      record(plans, "search", 1, 1_000)
      next_minute(minutes, 2)

      assert [%{change: change}] = PerformanceMonitor.report(instance: instance)
      assert_in_delta change.p95_us, -0.75, @precision
      assert %{avg_us: -0.75, error_rate: -1.0, calls_per_second: -0.75} = change
    end

    test "refuses an option that it does not know" do
      assert_raise ArgumentError, ~r/^unknown option :top/, fn ->
        PerformanceMonitor.report(top: 5)
      end
    end
  end

  describe "summaries" do
    test "have the documented measurements and metadata" do
      instance = start_by_hand()
      record(plans(instance), "search", 3, 1_000)
      record(plans(instance), "search", 1, 5_000, false)
      summarise(instance)
      assert_receive {:emitted, @summary, measurements, metadata}, 10_000

      assert measurements == %{
               count: 4,
               avg_duration_us: 2_000.0,
               max_duration_us: 5_000.0,
               error_rate: 0.25,
               p50_us: measurements.p50_us,
               p95_us: 5_000.0,
               p99_us: 5_000.0
             }

      assert_in_delta measurements.p50_us, 1_000.0, 1_000 * @precision
      {interval, metadata} = Map.pop!(metadata, :interval)
      assert metadata == %{method: "search", python_class: "Class", instance: instance}
      assert interval.to_unix_ms - interval.from_unix_ms == interval.duration_ms
    end

    test "have every call once, however many come meanwhile" do
      instance = start_summarised()
      plans = plans(instance)
      methods = for at <- 1..4, do: "method#{at}"

      recorders =
        for method <- methods, do: Task.async(fn -> record_until_told(plans, method, 0) end)

      early = for _ <- 1..20, do: next_summary()
      for recorder <- recorders, do: send(recorder.pid, :enough)
      recorded = Map.new(Enum.zip(methods, Task.await_many(recorders, 60_000)))

      # When this one comes, all that was recorded before it has come: it took no time, so it is the
      # last of its interval.
      record(plans, "end", 1, 0)
      summaries = early ++ summaries_until("end")

      told = Enum.group_by(summaries, & &1.method, & &1.count)
      assert Map.new(told, fn {method, counts} -> {method, Enum.sum(counts)} end) == recorded

      # Once in an interval, of which there were several.
      keys = Enum.map(summaries, &{&1.method, &1.from_unix_ms})
      assert keys == Enum.uniq(keys)
      assert told |> Map.values() |> Enum.map(&length/1) |> Enum.max() >= 5

      # What went on after the end was nothing.
      record(plans, "later", 1, 1)
      assert summaries_until("later") == []
    end

    test "have every call once, though the monitor is killed" do
      instance = start_by_hand()

      for {method, count} <- [first: 1, second: 2, third: 3] do
        record(plans(instance), method, count, 1)
        summarise(instance)
        assert %{method: told, count: ^count} = next_summary()
        assert told == Atom.to_string(method)
        kill_child(instance, PerformanceMonitor)
      end
    end

    test "begin anew after a reset" do
      instance = start_by_hand()
      record(plans(instance), "before", 1, 1)
      :ok = DSPexTelemetry.reset(instance: instance)
      record(plans(instance), "after", 2, 1)
      summarise(instance)
      assert %{method: "after", count: 2} = next_summary()
    end

    test "are logged in one line, which names the methods that took most time" do
      class = label("Class")
      watch_log(class)
      instance = start_by_hand()

      for {method, duration_us} <- [a: 4_000, b: 3_000, c: 2_000, d: 1_000, e: 500],
          do: record(plans(instance), method, 1, duration_us, method != :b, class)

      summarise(instance)
      assert_receive {:logged, :info, line}, 10_000
      assert line =~ ~r/^Performance in [^:]+: 5 calls, 20\.0% errors; most time in /

      assert line =~
               "#{class}.a (1, p95 4.00ms, 0.0% errors), " <>
                 "#{class}.b (1, p95 3.00ms, 100.0% errors), " <>
                 "#{class}.c (1, p95 2.00ms, 0.0% errors), and 2 more"

      summarise(instance)
      refute_received {:logged, _level, _line}
    end

    test "come for nothing that was not called" do
      instance = start_summarised()
      monitor = child(instance, PerformanceMonitor)
      :erlang.trace(monitor, true, [:receive, :send])
      for _ <- 1..3, do: assert_receive({:trace, _, :receive, :summarise}, 10_000)
      :erlang.trace(monitor, false, [:receive, :send])
      refute_received {:emitted, _event, _measurements, _metadata}
      refute_received {:trace, ^monitor, :send, _message, _to}
    end

    test "come not at all with an interval of infinity" do
      instance = start!(attach: false, summary_interval: :infinity)
      watch_events(instance, [PerformanceMonitor.event()])
      record(plans(instance), "search", 1, 1)
      # It answers after all that it had to do.
      assert :sys.get_state(child(instance, PerformanceMonitor)).options.summary_interval ==
               :infinity

      refute_received {:emitted, _event, _measurements, _metadata}
    end
  end

  # Minutes end by hand.
  defp start_in_minutes do
    instance = start!(attach: false, slice: 3_600_000, summary_interval: :infinity)
    %{started_at_ms: now_ms} = Lookup.fetch!(instance)
    :ok = Native.reset(native(instance), {now_ms, 0})
    %{instance: instance, plans: plans(instance), start_ms: now_ms}
  end

  defp next_minute(%{instance: instance, start_ms: start_ms}, number),
    do: :ok = Native.end_slice(native(instance), {start_ms + number * 60_000, 0})

  defp start_summarised do
    instance = start!(attach: false, summary_interval: 100)
    watch_events(instance, [PerformanceMonitor.event()])
    instance
  end

  # A summary is made when the test says so.
  defp start_by_hand do
    instance = start!(attach: false, summary_interval: 3_600_000)
    watch_events(instance, [PerformanceMonitor.event()])
    instance
  end

  # It answers when it is done. Summaries by themselves are never in the same millisecond.
  defp summarise(instance) do
    monitor = child(instance, PerformanceMonitor)
    now_ms = Clock.now_ms()
    await("the clock to go on", fn -> Clock.now_ms() > now_ms end)
    send(monitor, :summarise)
    _ = :sys.get_state(monitor)
    :ok
  end

  defp record(plans, method, count, duration_us, success \\ true, class \\ "Class") do
    metadata = %{method: method, python_class: class, success: success}

    for _ <- 1..count,
        do: :ok = handle(plans, @stop, %{duration: duration_us * 1_000}, metadata)
  end

  defp record_until_told(plans, method, count) do
    receive do
      :enough -> count
    after
      0 ->
        record(plans, method, 1, 1)
        record_until_told(plans, method, count + 1)
    end
  end

  defp next_summary do
    assert_receive {:emitted, @summary, measurements, metadata}, 10_000

    %{
      method: metadata.method,
      count: measurements.count,
      from_unix_ms: metadata.interval.from_unix_ms
    }
  end

  # Those before the first of this method.
  defp summaries_until(method) do
    case next_summary() do
      %{method: ^method} -> []
      summary -> [summary | summaries_until(method)]
    end
  end
end
