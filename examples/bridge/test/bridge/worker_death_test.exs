defmodule Bridge.WorkerDeathTest do
  use Bridge.Case

  test "a call in which Python exits is an error with the exit status" do
    start_bridge(workers: 1)
    ref = Bridge.create_instance!("Saboteur")

    assert {:error, %WorkerError{reason: {:exit_status, 3}}} =
             Bridge.call_method(ref, "exit", [3])
  end

  test "a call in which Python is killed by a signal is an error with 128 and its number" do
    start_bridge(workers: 1)
    ref = Bridge.create_instance!("Saboteur")

    assert_raise WorkerError, ~r/exit_status, 137/, fn -> Bridge.call_method!(ref, "kill") end
  end

  test "who waits for the dead worker gets an error, and who works with another nothing of it" do
    start_bridge(workers: 2)
    doomed = busy_probe()
    waiting = for _ <- 1..3, do: queue(fn -> Bridge.call_method(doomed.ref, "pid") end)
    other = busy_probe()
    assert %{waiting: 3} = Pool.status()

    kill(worker_of(doomed))

    for task <- [doomed.call | waiting] do
      assert {:error, %WorkerError{reason: {:exit_status, 137}}} = Task.await(task)
    end

    unblock(other)
    assert Task.await(other.call) == {:ok, "done"}
  end

  test "a dead worker is replaced, and its refs are unknown from then on" do
    start_bridge(workers: 1)
    ref = Bridge.create_instance!("Saboteur")
    {:error, _} = Bridge.call_method(ref, "kill")

    assert :ok = Pool.await_ready()
    assert %{size: 1, spawned: 2, died: %{"exit_status" => 1}} = Pool.status()
    assert {:error, %PoolError{reason: {:unknown_ref, ^ref}}} = Bridge.call_method(ref, "kill")
    assert {:ok, _} = Bridge.create_instance("Probe")
  end

  test "a request that takes too long ends the worker, even if Python never returns" do
    start_bridge(workers: 1)
    [os_pid] = os_pids(1)
    ref = Bridge.create_instance!("Probe")

    assert {:error, %WorkerError{reason: :timeout}} =
             Bridge.call_method(ref, "spin", [], timeout: 50)

    assert ended?(os_pid)
    assert :ok = Pool.await_ready()
  end

  test "every spawned worker has its death, with what it did in its life" do
    listen([[:snakepit, :worker, :spawned], [:snakepit, :worker, :died]])
    start_bridge(workers: 1)

    assert_received {[_, _, :spawned], %{startup_time: time}, %{worker_id: id} = metadata}
    assert time > 0
    assert metadata.python_version =~ ~r/^3\.\d+\.\d+/

    ref = Bridge.create_instance!("Saboteur")
    {:error, _} = Bridge.call_method(ref, "kill")

    assert_receive {[_, _, :died], measurements, %{worker_id: ^id, reason: {:exit_status, 137}}}
    assert %{operations_handled: 1, lifetime_ms: ms} = measurements
    assert ms > 0

    assert :ok = Pool.await_ready()
    assert_received {[_, _, :spawned], _, %{worker_id: successor}}
    stop_supervised!(Bridge.Supervisor)
    assert_received {[_, _, :died], _, %{worker_id: ^successor, reason: :shutdown}}
  end

  # The worker whose queue the probe's calls are in.
  defp worker_of(probe) do
    %{refs: refs} = :sys.get_state(Pool)
    :sys.get_state(refs[probe.ref]).os_pid
  end

  defp kill(os_pid), do: System.cmd("kill", ["-KILL", "#{os_pid}"])
end
