defmodule DSPexTelemetry.Instance.RecoveryTest do
  @moduledoc """
  What is left when processes are killed and code is loaded again.
  """
  # Not async: kills processes that all instances use.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance
  import DSPexTelemetry.TestCalls

  alias DSPexTelemetry.{Handler, Instance, Native}
  alias DSPexTelemetry.Instance.{HandlerJanitor, Lookup}

  @moduletag :capture_log

  # Kills count against the application's supervisor, so every test has one of its own.
  setup do
    restart_application()
    on_exit(&restart_application/0)
    watch_handler_failures()
  end

  describe "an instance that is killed" do
    test "and not restarted leaves no handler and no numbers behind" do
      {name, plans} = start_temporary()
      kill(pid(name))
      await_gone(plans)
      await("its plans to stop", fn -> record(plans) == :stopped end)
    end

    test "leaves the handlers of others where they are" do
      {name, plans} = start_temporary()
      {_name, others} = start_temporary()
      kill(pid(name))
      await_gone(plans)
      assert_all_attached(others)
      assert_all_attached(plans(DSPexTelemetry))
    end

    test "and restarted has exactly one handler for every event, however often it happens" do
      name = unique_name()
      start_supervisor([name])

      for _ <- 1..30 do
        kill_and_await_restart(name)
        assert_all_attached(plans(name))
      end

      assert_counts_each_event_once(name)
    end

    test "and restarted has exactly one handler for every event on a machine that is busy" do
      name = unique_name()
      start_supervisor([name])
      # The janitor is still cleaning up after the old instance when the new one is at work.
      for _ <- 1..(2 * System.schedulers_online()), do: start_burner()
      :sys.replace_state(HandlerJanitor, &tap(&1, fn _ -> Process.flag(:priority, :low) end))

      for _ <- 1..10 do
        kill_and_await_restart(name)
        assert_all_attached(plans(name))
      end

      assert_counts_each_event_once(name)
    end

    test "while events come in raises nothing" do
      name = unique_name()
      start_supervisor([name])
      test = self()
      emitter = start_supervised!({Task, fn -> emit_until_told(test) end})

      for _ <- 1..20, do: kill_and_await_restart(name)
      send(emitter, :enough)
      assert_receive {:emitted, _count}, 10_000
      assert_no_handler_failed()
      assert_counts_each_event_once(name)
    end
  end

  describe "an instance with a usage file that is killed" do
    @describetag :tmp_dir

    test "waits for the janitor to save what it had counted", %{tmp_dir: folder} do
      File.chmod!(folder, 0o700)
      name = unique_name()
      options = [name: name, attach: false, usage_path: Path.join(folder, "usage")]
      start_supervised!({DSPexTelemetry, options})
      for _ <- 1..3, do: assert(record(plans(name)) == :ok)

      :ok = :sys.suspend(HandlerJanitor)
      before = pid(name)
      kill(before)
      await("a successor", fn -> pid(name) not in [before, :undefined] end)
      # It does not get past the janitor, whatever time it has.
      for _ <- 1..1_000, do: :erlang.yield()
      refute running?(name, before)
      :ok = :sys.resume(HandlerJanitor)
      await("the instance to be restarted", fn -> running?(name, before) end)
      assert %{before: 3} = DSPexTelemetry.UsageAnalytics.get_usage_report(instance: name)
    end
  end

  describe "a supervisor that is killed" do
    test "takes its instances and their handlers with it" do
      names = [unique_name(), unique_name()]
      supervisor = start_supervisor(names)
      plans = for name <- names, do: plans(name)
      kill(supervisor)
      Enum.each(plans, &await_gone/1)
    end

    test "leaves nothing in the way of the next one" do
      name = unique_name()
      kill(start_supervisor([name]))
      # The old instance may still be ending when the new one is started.
      await("the name to be free", fn ->
        {pid(name), supervisor_of(name)} == {:undefined, :undefined}
      end)

      start_supervisor([name])
      await_settled([name])
      assert_counts_each_event_once(name)
    end

    test "is started again by its own, which takes no harm, and the old instance ends" do
      name = unique_name()
      children = [{DSPexTelemetry, name: name}]
      {:ok, parent} = Supervisor.start_link(children, strategy: :one_for_one, max_restarts: 6)

      for _ <- 1..5 do
        [{_id, supervisor, _type, _modules}] = Supervisor.which_children(parent)
        old = pid(name)
        kill(supervisor)

        await("the successor", fn ->
          DSPexTelemetry.Instance.Lookup.running?(name) and pid(name) != old
        end)

        refute Process.alive?(old)
      end

      assert Process.alive?(parent)
      await_settled([name])
      assert_counts_each_event_once(name)
      Supervisor.stop(parent)
    end
  end

  describe "a janitor that is killed" do
    test "is replaced by one that watches the running instances" do
      {name, plans} = start_temporary()
      kill_janitor()
      assert_all_attached(plans)
      kill(pid(name))
      await_gone(plans)
    end

    test "together with an instance leaves no stale handler" do
      {name, plans} = start_temporary()
      janitor = Process.whereis(HandlerJanitor)
      pid = pid(name)
      # Nobody is there to be told of the instance's end.
      :erlang.suspend_process(janitor)
      kill(pid)
      kill(janitor)
      await_gone(plans)
      await("the default instance", fn -> running?(DSPexTelemetry, nil) end)
      await_settled([DSPexTelemetry])
      assert_all_attached(plans(DSPexTelemetry))
    end

    test "and an instance after it leave one handler for every event of a restarted instance" do
      name = unique_name()
      start_supervisor([name])
      kill_janitor()
      kill_and_await_restart(name)
      await_settled([DSPexTelemetry])
      assert_counts_each_event_once(name)
      assert_counts_each_event_once(DSPexTelemetry)
    end
  end

  test "a registry that is killed leaves no instance that cannot be reached" do
    name = unique_name()
    start_supervisor([name])
    [{_, partition, _, _}] = Supervisor.which_children(Lookup.registry())
    kill(partition)

    for name <- [name, DSPexTelemetry] do
      await("#{inspect(name)} to be back", fn -> running?(name, nil) end)
    end

    await_settled([name, DSPexTelemetry])
    assert_counts_each_event_once(name)
  end

  test "an application that stops detaches the default instance, and attaches it at start" do
    plans = plans(DSPexTelemetry)
    :ok = Application.stop(:dspex_telemetry)
    assert attached_events(plans) == []
    assert record(plans) == :stopped
    {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
    assert_all_attached(plans(DSPexTelemetry))
  end

  describe "code that is loaded again" do
    test "leaves handlers attached, running and recording" do
      {name, plans} = start_temporary()
      test = self()
      emitter = start_supervised!({Task, fn -> emit_until_told(test) end})

      for _ <- 1..20, module <- [Handler, DSPexTelemetry.Reason, DSPexTelemetry.Catalogue] do
        await("no process to run old code", fn -> :code.soft_purge(module) end)
        assert :code.load_file(module) == {:module, module}
      end

      send(emitter, :enough)
      assert_receive {:emitted, count}, 10_000
      assert_no_handler_failed()
      assert_all_attached(plans)
      assert counts(name)["emitted"] == count
    end

    test "leaves instances and the janitor running" do
      {name, plans} = start_temporary()
      {instance, janitor} = {pid(name), Process.whereis(HandlerJanitor)}

      for _ <- 1..2, module <- [Instance, HandlerJanitor, DSPexTelemetry] do
        :code.purge(module)
        assert :code.load_file(module) == {:module, module}
      end

      :ok = DSPexTelemetry.detach(instance: name)
      :ok = DSPexTelemetry.attach(instance: name)
      assert {pid(name), Process.whereis(HandlerJanitor)} == {instance, janitor}
      kill(instance)
      await_gone(plans)
    end

    test "is refused for the module of the Rust library, which goes on recording" do
      {name, plans} = start_temporary()
      assert record(plans) == :ok

      for _ <- 1..2 do
        :code.purge(Native)
        assert :code.load_file(Native) == {:error, :on_load_failure}
      end

      assert record(plans) == :ok
      call("m")
      assert counts(name)["m"] == 3
      assert_all_attached(plans)
    end
  end

  defp restart_application do
    _ = Application.stop(:dspex_telemetry)
    {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
  end

  defp start_temporary do
    name = unique_name()
    options = [name: name, duration_unit: :nanosecond]
    start_supervised!({DSPexTelemetry, options}, restart: :temporary)
    {name, plans(name)}
  end

  # Not linked to the test, which outlives it when it is killed.
  defp start_supervisor(names) do
    children = for name <- names, do: {DSPexTelemetry, name: name, duration_unit: :nanosecond}
    options = [strategy: :one_for_one, max_restarts: 10_000]

    start_supervised!(%{
      id: make_ref(),
      start: {Supervisor, :start_link, [children, options]},
      type: :supervisor,
      restart: :temporary
    })
  end

  defp start_burner do
    start_supervised!({Task, fn -> burn(0) end}, id: make_ref(), restart: :temporary)
  end

  defp burn(hash), do: burn(:erlang.phash2({hash, make_ref()}))

  defp kill_and_await_restart(name) do
    before = pid(name)
    kill(before)
    await("the instance to be restarted", fn -> running?(name, before) end)
    await_settled([name])
  end

  defp kill_janitor do
    before = Process.whereis(HandlerJanitor)
    kill(before)
    await("another janitor", fn -> Process.whereis(HandlerJanitor) not in [nil, before] end)
    await("the default instance", fn -> running?(DSPexTelemetry, nil) end)
  end

  # Said to be running before it has attached its handlers; see `await_settled/1`.
  defp running?(name, before),
    do: match?([{pid, %{}}] when pid != before, Registry.lookup(Lookup.registry(), name))

  defp await_gone(plans), do: await("handlers to go", fn -> attached_events(plans) == [] end)

  # Whoever may still attach or detach has done so when it answers.
  defp await_settled(names) do
    await("the janitor", fn -> Process.whereis(HandlerJanitor) != nil end)
    _ = :sys.get_state(HandlerJanitor)
    for name <- names, do: :sys.get_state(pid(name))
    _ = :sys.get_state(HandlerJanitor)
  end

  defp assert_counts_each_event_once(name) do
    assert_all_attached(plans(name))

    live = for {_pid, handle} <- Lookup.running(), plan <- Map.values(handle.plans), do: plan

    handlers =
      for %{function: function} = handler <- :telemetry.list_handlers([]),
          Function.info(function, :module) == {:module, Handler},
          do: handler

    assert for(handler <- handlers, handler.config not in live, do: handler) == []

    method = label("once")
    call(method)
    assert counts(name)[method] == 1
  end

  defp emit_until_told(test, count \\ 0) do
    receive do
      :enough -> send(test, {:emitted, count})
    after
      0 ->
        call("emitted")
        emit_until_told(test, count + 1)
    end
  end
end
