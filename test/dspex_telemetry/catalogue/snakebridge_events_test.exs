defmodule DSPexTelemetry.Catalogue.SnakeBridgeEventsTest do
  # Not async: replays events that other tests' instances see.
  use ExUnit.Case, async: false

  import DSPexTelemetry.RecordingsTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Emit

  @moduletag :capture_log

  @call [:snakepit, :python, :call]
  @bridge_call [:dspex, :bridge, :call_method]
  @execute [:snakepit, :grpc_worker, :execute]

  setup do
    watch_handler_failures()
    on_exit(fn -> assert_no_handler_failed() end)
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
