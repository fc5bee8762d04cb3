defmodule DSPexTelemetry.AdaptiveCache.FlightTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestCache
  import DSPexTelemetry.TestInstance, only: [await: 2, kill: 1]

  alias DSPexTelemetry.AdaptiveCache
  alias DSPexTelemetry.AdaptiveCache.Failure

  @reason %ArgumentError{message: "no such document"}

  # One that runs the function and `count` that wait for it.
  defp flight(instance, count, options \\ []) do
    leader = spawn_fetch(instance, [1], held())
    assert_receive {:running, ^leader}
    unexpected = fn -> flunk("ran twice") end
    waiters = for _ <- 1..count, do: spawn_fetch(instance, [1], options, unexpected)
    await_waiting(instance, count)
    {leader, waiters}
  end

  defp results(pids) do
    for pid <- pids do
      assert_receive {:fetched, ^pid, result}, 10_000
      result
    end
  end

  test "a thousand concurrent misses of one key run the function once" do
    instance = start!()
    {leader, waiters} = flight(instance, 999)
    send(leader, {:return, {:ok, "result"}})
    assert results([leader | waiters]) == List.duplicate({:ok, "result"}, 1_000)
    refute_received {:running, _}
    assert %{misses: 1, joined: 999, calls: 1_000} = row(instance)
    assert %{running: 0, waiting: 0} = AdaptiveCache.report(instance: instance)
  end

  test "a result that is too large to be kept answers those who wait" do
    instance = start!(max_result_bytes: 1_000)
    {leader, waiters} = flight(instance, 3)
    large = :binary.copy("x", 1_000_000)
    send(leader, {:return, large})
    assert results([leader | waiters]) == List.duplicate(large, 4)
  end

  test "different keys do not wait for each other" do
    instance = start!()
    {leader, _waiters} = flight(instance, 1)
    assert fetch(instance, [2], fn -> 2 end) == 2
    assert fetch(instance, [1], [ref: "other"], fn -> 3 end) == 3
    send(leader, {:return, 1})
    assert results([leader]) == [1]
  end

  for {kind, raise, reason} <- [
        {:error, quote(do: fn -> raise @reason end), quote(do: @reason)},
        {:exit, quote(do: fn -> exit(:gone) end), :gone},
        {:throw, quote(do: fn -> throw(:ball) end), :ball}
      ] do
    test "an #{kind} goes on where it happened, and those who wait are told" do
      instance = start_warm!()
      {leader, waiters} = flight(instance, 5)
      send(leader, {:do, unquote(raise)})
      assert [{:caught, unquote(kind), unquote(reason)}] = results([leader])

      for result <- results(waiters) do
        assert {:error, %Failure{kind: unquote(kind), reason: unquote(reason)} = failure} = result

        assert Exception.message(failure) =~
                 ~s(another process ran "embed" for all that waited: **)
      end

      assert get(instance, [1]) == :miss
      assert fetch(instance, [1], fn -> :again end) == :again
    end
  end

  test "those who wait for a caller that is killed are told, and the next runs the function" do
    instance = start_warm!()
    {leader, waiters} = flight(instance, 5)
    kill(leader)
    failure = %Failure{kind: :died, method: "embed"}
    assert results(waiters) == List.duplicate({:error, failure}, 5)
    assert Exception.message(failure) =~ "died"
    assert fetch(instance, [1], fn -> :again end) == :again
    assert %{running: 0, waiting: 0} = AdaptiveCache.report(instance: instance)
  end

  test "those who get no result are no hits, and a run is counted whatever becomes of it" do
    ends = [
      killed: &kill/1,
      raised: &send(&1, {:do, fn -> raise @reason end}),
      exited: &send(&1, {:do, fn -> exit(:gone) end})
    ]

    for {why, end_it} <- ends do
      instance = start!()

      for round <- 1..3 do
        {leader, waiters} = flight(instance, 5)
        end_it.(leader)
        for result <- results(waiters), do: assert({:error, %Failure{}} = result)

        assert {why, row(instance)} ==
                 {why,
                  Map.merge(row(instance), %{
                    calls: round,
                    misses: round,
                    joined: 0,
                    hits: 0,
                    unanswered: 5 * round,
                    hit_rate: 0.0
                  })}
      end
    end
  end

  test "the stop event of a caller that got no result says neither cached nor success" do
    instance = start!()
    {leader, []} = flight_alone(instance)
    stop = [:dspex, :bridge, :call_method, :stop]
    handler = make_ref()
    # In the process that emits.
    tell = fn _event, _measurements, metadata, _config -> send(self(), {:stopped, metadata}) end
    :telemetry.attach(handler, stop, tell, nil)
    metadata = %{method: "embed", args: [1]}
    options = [instance: instance, timeout: 0]

    assert {:error, %Failure{kind: :timeout}} =
             DSPexTelemetry.Emit.call_method(metadata, [cache: options], fn -> flunk() end)

    :telemetry.detach(handler)
    assert_received {:stopped, %{cached: false, success: false}}
    send(leader, {:return, 1})
    assert results([leader]) == [1]
  end

  test "a caller that did not wait until the end is no hit, one that did is" do
    instance = start!()
    {leader, waiters} = flight(instance, 2)
    timed_out = spawn_fetch(instance, [1], [timeout: 0], fn -> flunk() end)
    assert [{:error, %Failure{kind: :timeout}}] = results([timed_out])
    # Nobody is answered while the function runs.
    assert %{calls: 0, joined: 0, unanswered: 1} = row(instance)
    send(leader, {:return, 1})
    assert results([leader | waiters]) == [1, 1, 1]
    assert %{calls: 3, misses: 1, joined: 2, unanswered: 1, hit_rate: 0.5} = row(instance)
  end

  test "a caller that is killed while it waits is in nobody's way, and no hit" do
    instance = start!()
    {leader, [killed, waiter]} = flight(instance, 2)
    kill(killed)
    send(leader, {:return, 1})
    assert results([leader, waiter]) == [1, 1]
    assert %{calls: 2, misses: 1, joined: 1, unanswered: 1} = row(instance)
    assert %{running: 0, waiting: 0} = AdaptiveCache.report(instance: instance)
  end

  test "a caller waits no longer than it wants, and gets no message later" do
    instance = start!()
    {leader, []} = flight_alone(instance)

    assert {:error, %Failure{kind: :timeout}} =
             fetch(instance, [1], [timeout: 0], fn -> flunk() end)

    assert AdaptiveCache.report(instance: instance).waiting == 0
    send(leader, {:return, 1})
    assert results([leader]) == [1]
    refute_received {_tag, {:landed, _binary}}
  end

  defp flight_alone(instance) do
    leader = spawn_fetch(instance, [1], held())
    assert_receive {:running, ^leader}
    {leader, []}
  end

  test "no more wait than may, the others run the function" do
    instance = start!(waiter_limit: 2)
    {leader, waiters} = flight(instance, 2)
    assert fetch(instance, [1], fn -> :own end) == :own
    send(leader, {:return, 1})
    assert results([leader | waiters]) == [1, 1, 1]
  end

  test "a function that fetches what it is run for is told so" do
    instance = start!()
    again = fn -> fetch(instance, [1], fn -> :never end) end

    assert_raise ArgumentError, ~r/fetch of "embed" waits for itself/, fn ->
      fetch(instance, [1], again)
    end

    # Another key is no problem, also after that.
    assert fetch(instance, [1], fn -> fetch(instance, [2], fn -> 2 end) end) == 2
  end

  test "two functions that fetch each other's key are told so, and nobody waits for ever" do
    instance = start!()
    one = spawn_fetch(instance, [1], held())
    assert_receive {:running, ^one}
    two = spawn_fetch(instance, [2], held())
    assert_receive {:running, ^two}
    send(one, {:do, fn -> fetch(instance, [2], fn -> :never end) end})
    await_waiting(instance, 1)
    send(two, {:do, fn -> fetch(instance, [1], fn -> :never end) end})

    assert [{:caught, :error, %ArgumentError{}}] = results([two])
    assert [{:error, %Failure{kind: :error, reason: %ArgumentError{}}}] = results([one])
  end

  test "a stop lets those who wait run the function, and the run's end changes nothing" do
    instance = start!()
    leader = spawn_fetch(instance, [1], held())
    assert_receive {:running, ^leader}
    waiter = spawn_fetch(instance, [1], fn -> :own end)
    await_waiting(instance, 1)
    :ok = stop_supervised({DSPexTelemetry, instance})
    assert results([waiter]) == [:own]
    send(leader, {:return, 1})
    assert results([leader]) == [1]
    # It may be restarted any moment, so calls go on.
    assert fetch(instance, [1], fn -> :without end) == :without
    assert get(instance, [1]) == :miss
  end

  test "a killed instance lets those who wait run the function" do
    instance = start!()
    {leader, []} = flight_alone(instance)
    waiter = spawn_fetch(instance, [1], fn -> :own end)
    await_waiting(instance, 1)
    instance |> DSPexTelemetry.TestInstance.child(DSPexTelemetry.Instance) |> kill()
    assert results([waiter]) == [:own]
    send(leader, {:return, 1})
    assert results([leader]) == [1]
  end

  test "a reset while a run is under way keeps nothing of it" do
    instance = start_warm!()
    {leader, [waiter]} = flight(instance, 1)
    DSPexTelemetry.reset(instance: instance)
    next = spawn_fetch(instance, [1], held())
    assert_receive {:running, ^next}
    send(leader, {:return, :old})
    assert results([leader, waiter]) == [:old, :old]
    for _ <- 1..10, do: put(instance, :warm, :warm)
    assert get(instance, [1]) == :miss
    send(next, {:return, :new})
    assert results([next]) == [:new]
    assert get(instance, [1]) == {:ok, :new}
  end

  test "nothing is left when callers die at every moment" do
    instance = start!()

    pids =
      for number <- 1..2_000 do
        pid = spawn_fetch(instance, [rem(number, 7)], fn -> :erlang.yield() end)
        if rem(number, 3) == 0, do: Process.exit(pid, :kill)
        pid
      end

    for pid <- pids,
        monitor = Process.monitor(pid),
        do: assert_receive({:DOWN, ^monitor, _, _, _}, 10_000)

    await("no run", fn ->
      match?(%{running: 0, waiting: 0}, AdaptiveCache.report(instance: instance))
    end)
  end
end
