defmodule Bridge.ProcessesTest do
  use Bridge.Case

  test "no Python process is left when the bridge stops" do
    start_bridge(workers: 3)
    os_pids = os_pids(3)
    stop_supervised!(Bridge.Supervisor)

    for os_pid <- os_pids, do: assert({_, 1} = signal("0", os_pid))
  end

  test "no Python process is left when the bridge stops while methods run" do
    start_bridge(workers: 2)
    os_pids = os_pids(2)
    ref = Bridge.create_instance!("Probe")
    call = queue(fn -> Bridge.call_method(ref, "spin") end)
    stop_supervised!(Bridge.Supervisor)

    assert {:error, _} = Task.await(call)
    for os_pid <- os_pids, do: assert({_, 1} = signal("0", os_pid))
  end

  test "no Python process is left when the BEAM is killed, even with a method running" do
    beam =
      other_beam("""
      {:ok, _} = Bridge.start_link(workers: 3)
      refs = for _ <- 1..3, do: Bridge.create_instance!("Probe")
      IO.puts(Enum.map_join(refs, " ", &Bridge.call_method!(&1, "pid")))
      Bridge.call_method(hd(refs), "spin")
      """)

    os_pids = beam |> line() |> String.split() |> Enum.map(&String.to_integer/1)
    assert length(os_pids) == 3
    signal("KILL", os_pid(beam))

    for os_pid <- os_pids, do: assert(ended?(os_pid))
  end

  test "SIGTERM ends a run of the demo early and in order, with its report" do
    beam =
      other_beam("""
      {:interrupted, :sigterm} = Bridge.Demo.run(seconds: 600, workers: 1)
      IO.puts("over, and \#{inspect(Process.whereis(Bridge.Supervisor))} runs")
      """)

    assert line(beam) =~ "600 s of 2 callers"
    signal("TERM", os_pid(beam))

    assert_receive {^beam, {:data, {:eol, "over, and nil runs"}}}, 30_000
    assert_receive {^beam, {:exit_status, 0}}, 10_000
  end

  defp line(beam) do
    assert_receive {^beam, {:data, {:eol, line}}}, 30_000
    line
  end

  defp os_pid(beam), do: beam |> Port.info(:os_pid) |> elem(1)

  defp signal(name, os_pid) do
    System.cmd("kill", ["-#{name}", "#{os_pid}"], stderr_to_stdout: true)
  end
end
