defmodule Bridge.Case do
  @moduledoc """
  For tests with real Python workers. The bridge's processes have names, so these tests are not
  async.

  Nothing here waits by the clock: a worker is busy because a tool that Python asked for has not
  answered yet, and it answers when the test says so.
  """

  use ExUnit.CaseTemplate

  alias Bridge.{Pool, Upcall}

  using do
    quote do
      import Bridge.Case
      alias Bridge.{Pool, PoolError, PythonError, Session, Tools, WorkerError}
    end
  end

  @doc """
  Starts a bridge, and waits for its workers.

  Its Python may ask for two more tools: `block` answers when the test does, `note` tells the
  test.
  """
  def start_bridge(options \\ []) do
    test = self()
    options = Keyword.put_new(options, :answer, &answer(&1, test))
    bridge = start_supervised!({Bridge, options})
    assert :ok = Pool.await_ready()
    bridge
  end

  @doc "An instance of Probe, and a call of it that keeps its worker busy until `unblock/2`."
  def busy_probe do
    {:ok, ref} = Bridge.create_instance("Probe")
    call = Task.async(fn -> Bridge.call_method(ref, "ask", ["block"]) end)
    assert_receive {:blocked, tool}
    %{ref: ref, call: call, tool: tool}
  end

  def unblock(%{tool: tool}, value \\ "done"), do: send(tool, {:answer, {:ok, value}})

  @doc "Runs `fun` in a task, and returns when its request is in the pool's queue."
  def queue(fun) do
    pool = Process.whereis(Pool)
    :erlang.trace(pool, true, [:receive])
    task = Task.async(fun)
    %{pid: caller} = task
    assert_receive {:trace, ^pool, :receive, {:"$gen_call", {^caller, _}, {:checkout, _}}}
    :erlang.trace(pool, false, [:receive])
    task
  end

  @doc "The process ids of as many workers, by one instance in each."
  def os_pids(workers) do
    for _ <- 1..workers do
      {:ok, ref} = Bridge.create_instance("Probe")
      {:ok, os_pid} = Bridge.call_method(ref, "pid")
      os_pid
    end
  end

  @doc "True when the process has ended, or does so within some seconds."
  def ended?(os_pid, seconds \\ 5) do
    script = Path.join(__DIR__, "await_exit.py")
    {_, status} = System.cmd("python3", [script, "#{os_pid}", "#{seconds}"])
    status == 0
  end

  @doc "Runs code in an Elixir of its own, with the code of this one; a port, whose lines are messages."
  def other_beam(code) do
    code = "{:ok, _} = Application.ensure_all_started(:bridge)\n" <> code

    Port.open({:spawn_executable, System.find_executable("elixir")}, [
      :binary,
      :exit_status,
      line: 1_000,
      args: Enum.flat_map(:code.get_path(), &["-pa", &1]) ++ ["-e", code]
    ])
  end

  @doc "Sends the test every event of these names as `{name, measurements, metadata}`."
  def listen(events) do
    id = {__MODULE__, make_ref()}
    :telemetry.attach_many(id, events, &__MODULE__.forward/4, self())
    on_exit(fn -> :telemetry.detach(id) end)
  end

  @doc false
  def forward(event, measurements, metadata, test),
    do: send(test, {event, measurements, metadata})

  defp answer(%{"kind" => "tool", "name" => "block"}, test) do
    send(test, {:blocked, self()})

    receive do
      {:answer, answer} -> answer
    end
  end

  defp answer(%{"kind" => "tool", "name" => "note", "args" => [value]}, test) do
    send(test, {:noted, value})
    {:ok, value}
  end

  defp answer(question, _test), do: Upcall.answer(question)
end
