defmodule DSPexTelemetry.Catalogue.SnakeBridgeEventsTest do
  # Not async: replays events that other tests' instances see.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias Bridge.Recording
  alias DSPexTelemetry.{Emit, ErrorAnalyzer, Report, UsageAnalytics}

  @moduletag :capture_log

  @folder "test/fixtures/recorded_events"
  @call [:snakepit, :python, :call]
  @bridge_call [:dspex, :bridge, :call_method]
  @execute [:snakepit, :grpc_worker, :execute]

  setup do
    watch_handler_failures()
    on_exit(fn -> assert_no_handler_failed() end)
  end

  defp recording(file), do: @folder |> Path.join(file) |> Recording.stream!() |> Enum.to_list()

  defp emit({_time, event, measurements, metadata}),
    do: :telemetry.execute(event, measurements, metadata)

  defp emit(event, measurements, metadata), do: :telemetry.execute(event, measurements, metadata)

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

  test "rejected events of one name count together, whichever plan rejected them" do
    instance = start!()
    from_elixir = %{function: "f", python_module: "m"}
    emit(@call ++ [:stop], %{duration: "1"}, from_elixir)

    emit(
      @call ++ [:stop],
      %{duration: "1"},
      Map.merge(from_elixir, %{worker_id: "w", python_pid: 1})
    )

    assert DSPexTelemetry.info(instance: instance).rejected == [
             %{event: "snakepit.python.call.stop", reason: "invalid_measurement", count: 2}
           ]

    samples =
      for line <- String.split(DSPexTelemetry.scrape(instance: instance), "\n"),
          line =~ ~r/rejected\w*\{event="snakepit.python.call.stop"/,
          do: line

    assert [sample] = samples
    assert String.ends_with?(sample, " 2")
  end

  describe "processes that call by different ways at the same time" do
    test "are each counted once and wholly" do
      instance = start!()
      rounds = 200

      execute = fn command, process ->
        metadata = %{command: command, pool: Snakepit.Pool, worker_id: "w-#{inspect(process)}"}
        emit(@execute ++ [:start], %{system_time: 1}, metadata)
        emit(@execute ++ [:stop], %{duration: 1_000}, Map.put(metadata, :status, :ok))
      end

      # As Snakepit does it: the execution is in a process of the pool's, which monitors its caller.
      dispatch = fn command ->
        caller = self()

        Task.await(
          Task.async(fn ->
            Process.monitor(caller)

            metadata = %{
              command: command,
              pool: :default,
              worker_id: "w-#{inspect(caller)}",
              queued: false
            }

            emit([:snakepit, :pool, :call, :dispatched], %{system_time: 1}, metadata)
            Task.await(Task.async(fn -> execute.(command, caller) end))
          end)
        )
      end

      direct = fn -> dispatch.("predict") end

      snakebridge = fn ->
        metadata = %{function: "sqrt", python_module: "math", library: "math"}
        emit(@call ++ [:start], %{system_time: 1}, metadata)
        dispatch.("snakebridge.call")
        emit(@call ++ [:stop], %{duration: 2_000}, metadata)
      end

      own = fn ->
        metadata = %{method: "search", python_class: "Index", ref: "r", success: true}
        emit(@bridge_call ++ [:start], %{system_time: 1}, metadata)
        # The same command as that of the process that calls Snakepit directly.
        dispatch.("predict")
        emit(@bridge_call ++ [:stop], %{duration: 2_000}, metadata)
      end

      callers =
        for call <- [direct, snakebridge, own, direct, own],
            do: Task.async(fn -> for _round <- 1..rounds, do: call.() end)

      Task.await_many(callers, :infinity)
      rows = DSPexTelemetry.report(instance: instance).operations

      assert rows |> Enum.map(&{&1.python_class, &1.method, &1.count}) |> Enum.sort() == [
               {"Index", "search", 2 * rounds},
               {"math", "sqrt", rounds},
               {"snakepit", "predict", 2 * rounds}
             ]
    end

    test "are told apart by commands where a bridge calls Snakepit from another process" do
      instance = start!(transport_commands: ["relay.*"])
      metadata = %{command: "relay.call", worker_id: "w", status: :ok}
      emit(@execute ++ [:stop], %{duration: 1_000}, metadata)
      emit(@execute ++ [:stop], %{duration: 1_000}, %{metadata | command: "predict"})

      assert [%{method: "predict", count: 1}] =
               DSPexTelemetry.report(instance: instance).operations
    end

    test "forget a process that was killed in a call" do
      instance = start!()
      test = self()

      caller =
        spawn(fn ->
          emit(@bridge_call ++ [:start], %{system_time: 1}, %{method: "m", python_class: "C"})
          send(test, :started)
          Process.sleep(:infinity)
        end)

      assert_receive :started
      kill(caller)
      # Nothing keeps the number of a process that is gone; another may get it.
      :ok = DSPexTelemetry.Native.tick(native(instance), DSPexTelemetry.Instance.Clock.now())

      emit(@execute ++ [:stop], %{duration: 1}, %{command: "predict", worker_id: "w", status: :ok})

      assert [%{method: "predict"}] = DSPexTelemetry.report(instance: instance).operations
    end
  end

  describe "a call of SnakeBridge" do
    test "inside a call of a bridge is the bridge's" do
      instance = start!()
      metadata = %{method: "ask", python_class: "Program", ref: "r"}

      :telemetry.span(@bridge_call, metadata, fn ->
        emit(@call ++ [:stop], %{duration: 1}, %{function: "forward", python_module: "dspy"})
        {:ok, Map.put(metadata, :success, true)}
      end)

      assert [%{method: "ask", count: 1}] = DSPexTelemetry.report(instance: instance).operations
    end

    test "is named by its library or module where there is no Python module" do
      instance = start!()

      for {metadata, class} <- [
            {%{library: "numpy", module: Numpy}, "numpy"},
            {%{module: Dspy.Predict}, "Dspy.Predict"},
            {%{}, "unknown"}
          ] do
        emit(@call ++ [:stop], %{duration: 1}, Map.put(metadata, :function, "f-#{class}"))

        assert %{python_class: ^class} =
                 row(DSPexTelemetry.report(instance: instance).operations, %{method: "f-#{class}"})
      end
    end

    test "that raised has the exception's name for its reason" do
      instance = start!()
      metadata = %{function: "f", python_module: "m", reason: %ArgumentError{message: "no"}}
      emit(@call ++ [:exception], %{duration: 1}, metadata)

      assert [%{reasons: [%{kind: "error", reason: "ArgumentError"}]}] =
               DSPexTelemetry.report(instance: instance).operations
    end

    test "counts once, though SnakeBridge's forwarder emits a copy" do
      instance = start!()
      metadata = %{function: "f", python_module: "m"}
      emit(@call ++ [:stop], %{duration: 1}, metadata)
      emit([:snakebridge, :runtime, :call, :stop], %{duration: 1}, metadata)
      assert [%{count: 1}] = DSPexTelemetry.report(instance: instance).operations
    end

    test "leaves its transport to count where the preset is not wanted" do
      instance = start!(presets: [:snakepit])
      Enum.each(recording("dspex.exs.txt"), &emit/1)
      methods = for row <- DSPexTelemetry.report(instance: instance).operations, do: row.method

      assert Enum.sort(methods) == [
               "snakebridge.call",
               "snakebridge.release_ref",
               "snakebridge.stream"
             ]
    end
  end

  test "a failed stop has its reason, whatever key it is under" do
    instance = start!()

    for {metadata, reason} <- [
          {%{error: :timeout}, "timeout"},
          {%{reason: {:grpc_server_exited, 137}}, "grpc_server_exited"},
          {%{error_type: "KeyError", error_message: "'k'"}, "KeyError"},
          {%{error: "text"}, "other"},
          {%{}, "unsuccessful"}
        ] do
      metadata = Map.merge(%{method: "m-#{reason}", python_class: "C", success: false}, metadata)
      emit(@bridge_call ++ [:stop], %{duration: 1}, metadata)
      row = row(DSPexTelemetry.report(instance: instance).operations, %{method: "m-#{reason}"})
      assert row.reasons == [%{kind: "unsuccessful", reason: reason, count: 1}]
    end

    {:error, :timeout} =
      Emit.call_method(%{ref: "r", method: "emitted"}, fn -> {:error, :timeout} end)

    assert [%{kind: "unsuccessful", reason: "timeout", count: 1}] =
             row(DSPexTelemetry.report(instance: instance).operations, %{method: "emitted"}).reasons
  end

  test "sessions that SnakeBridge releases are counted by what made it do so" do
    instance = start!()

    for {source, reason} <- [manual: :manual, owner_down: :normal, owner_down: {:shutdown, :left}] do
      emit([:snakebridge, :session, :cleanup], %{system_time: 1}, %{
        session_id: "s",
        source: source,
        reason: reason
      })
    end

    emit([:snakebridge, :session, :cleanup, :error], %{system_time: 1}, %{
      session_id: "s",
      source: :manual,
      reason: {:timeout, {GenServer, :call, []}}
    })

    scrape = DSPexTelemetry.scrape(instance: instance)

    for line <- [
          ~S(snakebridge_session_cleanup_total{source="manual",reason="manual"} 1),
          ~S(snakebridge_session_cleanup_total{source="owner_down",reason="normal"} 1),
          ~S(snakebridge_session_cleanup_total{source="owner_down",reason="left"} 1),
          ~S(snakebridge_session_cleanup_error_total{source="manual",reason="timeout"} 1)
        ],
        do: assert(scrape =~ line <> "\n")
  end

  test "an older bridge names method and instance otherwise" do
    instance = start!()
    created = %{python_class: "Index", ref: "i-1", success: true}
    emit([:dspex, :bridge, :create_instance, :stop], %{duration: 1}, created)
    metadata = %{instance_id: "i-1", method_name: "search"}
    emit(@bridge_call ++ [:start], %{system_time: 1}, metadata)
    emit(@bridge_call ++ [:stop], %{duration: 1}, Map.put(metadata, :success, true))
    failed = Map.merge(metadata, %{kind: :error, reason: :timeout, stacktrace: []})
    emit(@bridge_call ++ [:exception], %{duration: 1}, failed)

    assert [%{method: "search", python_class: "Index", count: 2, errors: 1}] =
             DSPexTelemetry.report(instance: instance).operations

    assert DSPexTelemetry.info(instance: instance).rejected == []
  end
end
