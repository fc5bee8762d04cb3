defmodule Bridge.ProgramTest do
  use Bridge.Case

  alias Bridge.Servers
  alias Bridge.Servers.{Program, Prometheus}

  @moduletag :servers

  test "no server is left when its test is over" do
    %{os_pid: os_pid, server: server} = Prometheus.start(name: "brief", target: "127.0.0.1:1")
    refute ended?(os_pid, 0)
    stop_supervised!(child_id(server))

    assert ended?(os_pid)
  end

  test "no server is left when the BEAM is killed" do
    folder = Servers.new_folder("orphan")
    File.write!("#{folder}/empty.yml", "")

    beam =
      other_beam("""
      {:ok, server} = Bridge.Servers.Program.start_link(#{inspect(options(folder))})
      IO.puts(GenServer.call(server, :program).os_pid)
      Process.sleep(:infinity)
      """)

    assert_receive {^beam, {:data, {:eol, line}}}, 30_000
    os_pid = String.to_integer(line)
    refute ended?(os_pid, 0)
    {:os_pid, beam_pid} = Port.info(beam, :os_pid)
    System.cmd("kill", ["-KILL", "#{beam_pid}"])

    assert ended?(os_pid)
  end

  test "a server that does not start says why, and is not left" do
    Process.flag(:trap_exit, true)
    folder = Servers.new_folder("wrong")
    File.write!("#{folder}/empty.yml", "what is this")

    assert {:error, said} = Program.start_link(options(folder))
    assert said =~ ~r/^wrong ended with status 2; it wrote:\n.*cannot unmarshal/s
  end

  defp options(folder) do
    [
      name: "wrong",
      folder: folder,
      command: [
        "prometheus",
        "--config.file=#{folder}/empty.yml",
        "--storage.tsdb.path=#{folder}/data",
        "--web.listen-address=127.0.0.1:0"
      ]
    ]
  end

  defp child_id(server) do
    {:ok, supervisor} = ExUnit.fetch_test_supervisor()
    [id] = for {id, ^server, _, _} <- Supervisor.which_children(supervisor), do: id
    id
  end
end
