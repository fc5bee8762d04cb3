defmodule DSPexTelemetry.Catalogue.RecordingsTest do
  # Not async: replays events that other tests' instances see.
  use ExUnit.Case, async: false

  import DSPexTelemetry.RecordingsTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{ErrorAnalyzer, Report, UsageAnalytics}

  @moduletag :capture_log

  @call [:snakepit, :python, :call]

  setup do
    watch_handler_failures()
    on_exit(fn -> assert_no_handler_failed() end)
  end

  # What the user called, by the events alone.
  defp ends(events) do
    for {_time, @call ++ [outcome], measurements, metadata} <- events,
        outcome in [:stop, :exception],
        not is_map_key(metadata, :python_pid),
        do: {{metadata.function, metadata.python_module}, outcome, measurements, metadata}
  end

  defp inside_python(events) do
    for {_time, @call ++ [outcome], %{duration: duration}, %{python_pid: _} = metadata} <- events,
        outcome in [:stop, :exception],
        do: {{metadata.function, metadata["python_module"]}, duration}
  end

  defp microseconds(nanoseconds), do: nanoseconds / 1_000

  # What an Elixir error of SnakeBridge says of Python's, read without `DSPexTelemetry.Reason`.
  defp python_type(%{error: %{details: %{reason: %{python_type: type}}}}), do: type
  defp python_type(%{error: %{details: %{reason: {tag, _status}}}}), do: to_string(tag)

  defp assert_calls(report, events, times) do
    rows = Map.new(report.operations, &{{&1.method, &1.python_class}, &1})
    by_method = events |> ends() |> Enum.group_by(&elem(&1, 0))
    assert map_size(by_method) > 10
    assert Map.keys(rows) |> Enum.sort() == Map.keys(by_method) |> Enum.sort()

    for {method, ends} <- by_method, row = rows[method] do
      failed = for {_method, :exception, _, metadata} <- ends, do: python_type(metadata)
      assert {method, row.count} == {method, times * length(ends)}
      assert {method, row.errors} == {method, times * length(failed)}
      durations = for {_method, _, %{duration: duration}, _} <- ends, do: duration
      assert_in_delta row.mean_us, microseconds(Enum.sum(durations)) / length(durations), 0.01
      assert row.max_us == microseconds(Enum.max(durations))

      reasons = for %{reason: reason, count: count} <- row.reasons, into: %{}, do: {reason, count}

      expected =
        for {reason, count} <- Enum.frequencies(failed), into: %{}, do: {reason, times * count}

      assert {method, reasons} == {method, expected}
    end

    python = events |> inside_python() |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))

    for {method, row} <- rows do
      inside = Map.get(python, method, [])

      assert {method, row.python_us && row.python_us.count} ==
               {method, if(inside != [], do: times * length(inside))}

      if inside != [] do
        mean = microseconds(Enum.sum(inside)) / length(inside)
        assert_in_delta row.python_us.mean, mean, 0.01
        assert_in_delta row.overhead_us, row.mean_us - mean, 0.01
      end
    end
  end

  describe "a recording of DSPex" do
    test "is one row for each function, with the reasons of its failures and Python's time" do
      events = recording("dspex.exs.txt")
      instance = start!()
      Enum.each(events, &emit/1)
      report = DSPexTelemetry.report(instance: instance)
      assert_calls(report, events, 1)
      refute Enum.any?(report.operations, &(&1.method =~ "snakebridge."))
      assert DSPexTelemetry.info(instance: instance).rejected == []

      # 35 executions carry 36 calls, one of them a stream.
      assert report.operations |> Enum.map(& &1.count) |> Enum.sum() == length(ends(events))

      scrape = DSPexTelemetry.scrape(instance: instance)

      assert scrape =~
               ~s(snakepit_grpc_execute_total{pool="default",command="snakebridge.call",success="true"} 23\n)

      refute scrape =~ "Elixir."
    end

    test "is the same at full speed from several processes, each with its own copy" do
      events = recording("dspex.exs.txt")
      instance = start!()
      copies = for _copy <- 1..4, do: Task.async(fn -> Enum.each(events, &emit/1) end)
      Task.await_many(copies, :infinity)
      assert_calls(DSPexTelemetry.report(instance: instance), events, 4)
      assert DSPexTelemetry.info(instance: instance).rejected == []
    end

    test "feeds errors, usage, spikes and the slowest calls as calls of any bridge do" do
      events = recording("dspex.exs.txt")
      instance = start!()
      watch_events(instance, [[:dspex, :alerts, :error_spike]])
      Enum.each(events, &emit/1)

      errors = ErrorAnalyzer.report(instance: instance)

      assert %{"JSONDecodeError" => 6, "ValueError" => 4, "grpc_server_exited" => 1} =
               errors.by_reason

      assert errors.errors == 11

      assert [%{method: "loads", python_class: "json", errors: 6, reasons: [reason]} | _] =
               errors.by_method

      assert %{kind: "error", reason: "JSONDecodeError", count: 6} = reason

      assert_receive {:emitted, _event, %{error_count: 5},
                      %{method: "loads", python_class: "json"}},
                     10_000

      # The newest first: a call that failed because the worker went.
      aborted = Enum.find(errors.last_failures, &(&1.method == "abort"))
      assert aborted.reason == "grpc_server_exited"
      assert aborted.message == "grpc_server_exited 134"
      assert aborted.worker_id == "default_worker_1_1154"
      decoded = Enum.find(errors.last_failures, &(&1.method == "loads"))
      assert decoded.message =~ "Expecting property name"
      assert length(errors.last_failures) == 11

      assert %Report{slowest: [%{method: "DummyLM", failed: false} | _] = slowest} =
               DSPexTelemetry.report(instance: instance)

      assert length(slowest) == 20
      assert slowest == Enum.sort_by(slowest, & &1.duration_us, :desc)

      usage = UsageAnalytics.get_usage_report(instance: instance)
      assert inspect(usage, limit: :infinity) =~ "math.sqrt"
    end

    test "keeps no message where none is wanted, and no call where none is" do
      events = recording("dspex.exs.txt")
      options = [failure_messages: false, last_failures: 3, slowest_calls: 0]
      instance = start!(options)
      Enum.each(events, &emit/1)
      failures = ErrorAnalyzer.report(instance: instance).last_failures
      assert [nil, nil, nil] = Enum.map(failures, & &1.message)
      assert DSPexTelemetry.report(instance: instance).slowest == []
    end
  end

  describe "a recording of Snakepit" do
    test "counts every execution and stream as a call, as without SnakeBridge's preset" do
      events = recording("snakepit.exs.txt")

      for presets <- [[:snakepit], [:dspex, :snakebridge, :snakepit]] do
        instance = start!(presets: presets)
        Enum.each(events, &emit/1)

        expected =
          for {_time, event, _measurements, metadata} <- events, reduce: %{} do
            counts ->
              ended = List.last(event)
              execution? = match?([:snakepit, :grpc_worker, _, :stop], event)
              stream? = ended == :executed and metadata[:streaming] == true
              failed? = metadata[:status] == :error or metadata[:success] == false

              if execution? or stream? do
                Map.update(counts, metadata.command, {1, if(failed?, do: 1, else: 0)}, fn {all,
                                                                                           failed} ->
                  {all + 1, if(failed?, do: failed + 1, else: failed)}
                end)
              else
                counts
              end
          end

        rows = DSPexTelemetry.report(instance: instance).operations
        counted = Map.new(rows, &{&1.method, {&1.count, &1.errors}})
        assert counted == expected
        assert Enum.all?(rows, &(&1.python_class == "snakepit"))
      end
    end

    test "knows the pool of each worker, and no pool by the name of its process" do
      instance = start!()
      Enum.each(recording("snakepit.exs.txt"), &emit/1)
      scrape = DSPexTelemetry.scrape(instance: instance)

      assert scrape =~
               ~s(snakepit_grpc_execute_total{pool="default",command="nap",success="true"} 118\n)

      assert scrape =~ ~s(snakepit_worker_recycled_total{pool="default",reason="worker_died"} 6\n)
      refute scrape =~ "Snakepit.Pool"
    end

    test "says why workers died" do
      instance = start!()
      Enum.each(recording("snakepit.exs.txt"), &emit/1)

      assert %{"grpc_server_exited" => 4, "ping_failed" => 1, "shutdown" => 1} =
               DSPexTelemetry.report(instance: instance).pool.died
    end
  end

  test "two systems in one VM are each exact, both recordings at once from several processes" do
    bridge = recording("dspex.exs.txt")
    direct = recording("snakepit.exs.txt")

    [{bridge_only, []}, {direct_only, rejected}] =
      for events <- [bridge, direct] do
        instance = start!()
        Enum.each(events, &emit/1)
        operations = DSPexTelemetry.report(instance: instance).operations
        rejected = DSPexTelemetry.info(instance: instance).rejected
        stop_supervised!({DSPexTelemetry, instance})
        {operations, rejected}
      end

    instance = start!()

    [bridge, direct, bridge, direct]
    |> Enum.map(&Task.async(fn -> Enum.each(&1, fn event -> emit(event) end) end))
    |> Task.await_many(:infinity)

    report = DSPexTelemetry.report(instance: instance)
    {ours, theirs} = Enum.split_with(report.operations, &(&1.python_class != "snakepit"))
    assert_calls(%{report | operations: ours}, bridge, 2)

    # All else that a row says does not change if each of its calls comes twice.
    for {rows, alone} <- [{ours, bridge_only}, {theirs, direct_only}] do
      assert Enum.sort_by(rows, &{&1.method, &1.python_class}) ==
               alone |> Enum.map(&twice/1) |> Enum.sort_by(&{&1.method, &1.python_class})
    end

    # One of the recorded workers sent malformed events on purpose.
    assert rejected != []

    assert Enum.sort(DSPexTelemetry.info(instance: instance).rejected) ==
             Enum.sort(for row <- rejected, do: %{row | count: 2 * row.count})
  end

  defp twice(row) do
    reasons = for reason <- row.reasons, do: %{reason | count: 2 * reason.count}
    python = row.python_us && %{row.python_us | count: 2 * row.python_us.count}
    %{row | count: 2 * row.count, errors: 2 * row.errors, reasons: reasons, python_us: python}
  end
end
