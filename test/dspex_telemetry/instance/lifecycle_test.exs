defmodule DSPexTelemetry.Instance.LifecycleTest do
  # Not async: looks at all handlers of the VM, and restarts processes that all instances use.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance
  import DSPexTelemetry.TestCalls

  alias DSPexTelemetry.{Catalogue, Native}
  alias DSPexTelemetry.Instance.HandlerJanitor

  doctest DSPexTelemetry

  @moduletag :capture_log

  @stop [:dspex, :bridge, :call_method, :stop]

  setup do
    watch_handler_failures()
  end

  describe "child_spec/1" do
    test "has an id and a start function of the instance's name" do
      assert DSPexTelemetry.child_spec(name: MyApp.Telemetry, series_limit: 5) == %{
               id: {DSPexTelemetry, MyApp.Telemetry},
               start: {DSPexTelemetry, :start_link, [[name: MyApp.Telemetry, series_limit: 5]]},
               type: :supervisor
             }

      assert %{id: {DSPexTelemetry, DSPexTelemetry}} = DSPexTelemetry.child_spec([])
    end

    test "starts instances of different names under one supervisor" do
      names = [unique_name(), unique_name()]
      start_supervised!(supervisor(names))
      for name <- names, do: assert(DSPexTelemetry.attached?(instance: name))
    end
  end

  test "two instances share no numbers" do
    {first, second} = {start!(), start!()}
    call("m")
    :ok = DSPexTelemetry.detach(instance: first)
    call("m")
    call("m")

    assert counts(first) == %{"m" => 1}
    assert counts(second) == %{"m" => 3}

    :ok = DSPexTelemetry.reset(instance: second)
    assert counts(first) == %{"m" => 1}
    assert counts(second) == %{}
  end

  test "a second instance of a name is refused, and the first goes on as it was" do
    name = start!()
    pid = pid(name)
    call("m")

    assert DSPexTelemetry.start_link(name: name, attach: false) ==
             {:error, {:already_started, supervisor_of(name)}}

    call("m")
    assert counts(name) == %{"m" => 2}
    assert_all_attached(plans(name))
    assert pid(name) == pid
  end

  test "the handlers of an instance can be detached and attached again, as often as one likes" do
    name = start!()
    plans = plans(name)
    assert DSPexTelemetry.attached?(instance: name)
    assert_all_attached(plans)

    for _ <- 1..2 do
      for _ <- 1..2, do: assert(DSPexTelemetry.detach(instance: name) == :ok)
      refute DSPexTelemetry.attached?(instance: name)
      assert attached_events(plans) == []
      call("detached")

      for _ <- 1..2, do: assert(DSPexTelemetry.attach(instance: name) == :ok)
      assert DSPexTelemetry.attached?(instance: name)
      assert_all_attached(plans)
      call("attached")
    end

    assert counts(name) == %{"attached" => 2}
  end

  test "an instance can start without handlers" do
    name = start!(attach: false)
    refute DSPexTelemetry.attached?(instance: name)
    assert attached_events(plans(name)) == []
  end

  test "the time of the start is the same in every scrape" do
    name = start!()

    times =
      for _ <- 1..2_000, uniq: true do
        [time] =
          Regex.run(
            ~r/^dspex_telemetry_start_time_seconds .*$/m,
            DSPexTelemetry.scrape(instance: name)
          )

        time
      end

    assert [_always] = times
  end

  test "attaching restores the one handler that somebody else has removed" do
    name = start!()
    plans = plans(name)

    [handler] =
      for handler <- :telemetry.list_handlers(@stop), handler.config == plans[@stop], do: handler

    :ok = :telemetry.detach(handler.id)
    assert DSPexTelemetry.attached?(instance: name)
    all = for event <- Catalogue.events(), do: event.name
    assert Enum.sort(attached_events(plans)) == Enum.sort(all -- [@stop])

    :ok = DSPexTelemetry.attach(instance: name)
    assert_all_attached(plans)
  end

  test "a reset forgets series, overflow and rejections, and keeps workers and references" do
    name = start!(series_limit: 1)
    for method <- ~w(a b), do: call(method)
    :telemetry.execute(@stop, %{}, %{method: "m", success: true})
    created = %{python_class: "C", ref: "r", success: true}
    :telemetry.execute([:dspex, :bridge, :create_instance, :stop], %{duration: 1}, created)
    spawned = %{worker_id: "w", python_version: "3.11"}
    :telemetry.execute([:snakepit, :worker, :spawned], %{startup_time: 1}, spawned)

    info = DSPexTelemetry.info(instance: name)
    assert %{rejected: [%{count: 1}], refs: 1, workers: 1} = info
    assert %{series: 1, overflow: 1} = series(name, "dspex.bridge.call_method")

    assert DSPexTelemetry.reset(instance: name) == :ok
    info = DSPexTelemetry.info(instance: name)
    assert %{rejected: [], refs: 1, workers: 1} = info
    for series <- info.series, do: assert(%{series: 0, overflow: 0} = series)
    assert counts(name) == %{}
    assert %{size: 1, spawned: 0} = DSPexTelemetry.report(instance: name).pool
    assert DSPexTelemetry.attached?(instance: name)
  end

  test "info says what the instance is, holds and takes" do
    # The slowest calls take memory too.
    name = start!(series_limit: 7, slowest_calls: 0)
    empty = DSPexTelemetry.info(instance: name)
    assert %{instance: ^name, attached: true, rejected: [], refs: 0, workers: 0} = empty
    assert empty.workers_overflow == 0
    assert is_integer(empty.uptime_ms) and empty.uptime_ms >= 0

    families = Enum.map(Catalogue.families(), & &1.name)
    assert Enum.map(empty.series, & &1.event) == families

    for series <- empty.series do
      assert %{series: 0, limit: 7, overflow: 0, memory_bytes: bytes} = series
      assert bytes > 0
    end

    # And a little for windows, alerts and usage, of which there is nothing yet.
    series_bytes = empty.series |> Enum.map(& &1.memory_bytes) |> Enum.sum()
    assert empty.memory_bytes in series_bytes..(series_bytes + 1_000)

    for method <- ~w(a b c), do: call(method)
    :ok = DSPexTelemetry.detach(instance: name)
    full = DSPexTelemetry.info(instance: name)

    assert %{series: 3} =
             calls = Enum.find(full.series, &(&1.event == "dspex.bridge.call_method"))

    before = Enum.find(empty.series, &(&1.event == "dspex.bridge.call_method"))
    assert full.memory_bytes - empty.memory_bytes == calls.memory_bytes - before.memory_bytes
    assert calls.memory_bytes > before.memory_bytes
    assert full.uptime_ms >= empty.uptime_ms
    refute full.attached
  end

  test "stopping an instance detaches its handlers and no others" do
    {stays, goes} = {start!(), start!()}
    plans = plans(goes)
    others = all_handlers() -- handlers(plans)
    :ok = stop_supervised!({DSPexTelemetry, goes})

    assert Enum.sort(all_handlers()) == Enum.sort(others)
    assert_all_attached(plans(stays))
    assert_raise ArgumentError, ~r/^no instance/, fn -> DSPexTelemetry.report(instance: goes) end
  end

  test "the plan of an instance that has stopped says so and raises nothing" do
    name = start!()
    plans = plans(name)
    assert record(plans) == :ok
    :ok = stop_supervised!({DSPexTelemetry, name})
    assert record(plans) == :stopped

    # On all schedulers, whose caches may have known the plan.
    for _ <- 1..16, do: assert(Task.await(Task.async(fn -> record(plans) end)) == :stopped)
  end

  test "what no plan has ever been says that it has stopped" do
    for plan <- [0, -1, 2 ** 63, 2 ** 64, 1.0, nil, :plan, "1", [], {}, make_ref(), self(), %{}] do
      assert {plan, Native.record(plan)} == {plan, :stopped}
      assert {plan, Native.record(plan, 1, "m", "C", true)} == {plan, :stopped}
    end
  end

  test "the native instance of one that has stopped answers as an empty one" do
    name = start!()
    native = native(name)
    call("m")
    :ok = stop_supervised!({DSPexTelemetry, name})

    assert Native.report(native, :since_start, {0, 0}).operations == []
    assert Native.report(native, {:last, 60_000}, {0, 0}).operations == []
    assert Native.tick(native, {1_000_000_000, 0}) == :ok
    assert Native.stop(native) == :ok
    assert Native.reset(native, {0, 0}) == :ok
    assert Native.retire_idle(native, {0, 0}, 0) == 0
  end

  test "a name can be used again, and starts from zero" do
    name = start!()
    plans = plans(name)
    call("m")
    :ok = stop_supervised!({DSPexTelemetry, name})
    start!(name: name)

    assert counts(name) == %{}
    call("m")
    assert counts(name) == %{"m" => 1}
    assert record(plans) == :stopped
    assert_all_attached(plans(name))
  end

  describe "idle series" do
    test "are removed, give their place back and start anew" do
      name = start!(series_limit: 2)
      for method <- ~w(a b c), do: call(method)
      assert %{series: 2, overflow: 1} = series(name, "dspex.bridge.call_method")

      assert Native.retire_idle(native(name), {1_000, 0}, 500) == 0
      assert Native.retire_idle(native(name), {1_499, 0}, 500) == 0
      call("b")
      assert Native.retire_idle(native(name), {1_500, 0}, 500) == 1
      assert %{series: 1} = series(name, "dspex.bridge.call_method")

      call("c")
      call("b")
      assert counts(name) == %{"b" => 3, "c" => 1, "otel_metric_overflow" => 1}
      assert Native.retire_idle(native(name), {1_999, 0}, 500) == 0
      assert Native.retire_idle(native(name), {2_500, 0}, 500) == 2
      call("b")
      assert counts(name) == %{"b" => 1, "otel_metric_overflow" => 1}
    end

    test "of every event are removed, but for those without labels, which take no slot from others" do
      name = start!()

      for event <- Catalogue.events() do
        {measurements, metadata} = DSPexTelemetry.EventSamples.good(event)
        :telemetry.execute(event.name, measurements, metadata)
      end

      unlabelled = for %{labels: []} = family <- Catalogue.families(), do: family.name

      assert unlabelled ==
               ["dspex.session.created", "snakepit.worker"] ++
                 ~w(snakepit.pool.capacity snakepit.pool.init snakepit.heartbeat snakepit.retry) ++
                 ["snakepit.python.gc"]

      held = DSPexTelemetry.info(instance: name).series |> Enum.map(& &1.series) |> Enum.sum()
      assert held > length(Catalogue.families())
      assert Native.retire_idle(native(name), {1, 0}, 1) == 0
      assert Native.retire_idle(native(name), {2, 0}, 1) == held - length(unlabelled)

      for %{event: event, series: series} <- DSPexTelemetry.info(instance: name).series,
          do: assert({event, series} == {event, if(event in unlabelled, do: 1, else: 0)})
    end

    test "are looked for again and again with an idle_timeout" do
      name = start!(idle_timeout: 1_000)
      call("m")
      :erlang.trace(pid(name), true, [:receive])
      for _ <- 1..2, do: assert_receive({:trace, _pid, :receive, :retire_idle}, 10_000)
      assert counts(name) == %{"m" => 1}
    end
  end

  test "the janitor watches an instance once and forgets one that has ended" do
    name = start!()
    native = native(name)

    watched = fn ->
      Enum.count(:sys.get_state(HandlerJanitor), fn {_monitor, {_owner, handle}} ->
        handle.native == native
      end)
    end

    await("the janitor to watch the instance", fn -> watched.() == 1 end)
    :ok = stop_supervised!({DSPexTelemetry, name})
    await("the janitor to forget the instance", fn -> watched.() == 0 end)
    assert_no_handler_failed()
  end

  defp supervisor(names) do
    children = for name <- names, do: {DSPexTelemetry, name: name}
    %{id: Supervisor, start: {Supervisor, :start_link, [children, [strategy: :one_for_one]]}}
  end

  defp all_handlers,
    do: for(handler <- :telemetry.list_handlers([]), do: {handler.id, handler.event_name})

  defp handlers(plans) do
    plans = Map.values(plans)

    for handler <- :telemetry.list_handlers([]),
        handler.config in plans,
        do: {handler.id, handler.event_name}
  end
end
