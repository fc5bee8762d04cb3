defmodule DSPexTelemetry.TestCluster do
  @moduledoc """
  Nodes for tests: VMs of their own with distributed Erlang among them, to which the test speaks over
  standard input and output, so that its own VM is no part of the cluster.
  """

  import ExUnit.Callbacks, only: [on_exit: 1]

  alias DSPexTelemetry.Cluster

  @cookie ~c"dspex_telemetry_test"

  @doc "Starts a node with the library running on it."
  def start_node! do
    peer = start_bare_node!(Enum.flat_map(:code.get_path(), &[~c"-pa", &1]))
    {:ok, _started} = call(peer, :application, :ensure_all_started, [:logger])
    # Its lines would come out among the test's.
    :ok = call(peer, Logger, :configure, [[level: :none]])
    {:ok, _started} = call(peer, :application, :ensure_all_started, [:dspex_telemetry])
    peer
  end

  @doc "Starts a node with Erlang only."
  def start_bare_node!(arguments \\ []) do
    # Nodes find each other through it; it stays as it is if it runs already.
    {_output, 0} = System.cmd(epmd(), ["-daemon"])

    {:ok, pid, node} =
      :peer.start(%{
        name: :peer.random_name(),
        host: ~c"127.0.0.1",
        longnames: true,
        connection: :standard_io,
        wait_boot: 60_000,
        args:
          [~c"-setcookie", @cookie, ~c"-kernel", ~c"prevent_overlapping_partitions", ~c"false"] ++
            arguments
      })

    os_pid = :peer.call(pid, :os, :getpid, [])
    on_exit(fn -> stop(pid, os_pid) end)
    %{peer: pid, node: node, os_pid: List.to_string(os_pid)}
  end

  @doc "Calls a function on a node."
  def call(%{peer: peer}, module, function, arguments),
    do: :peer.call(peer, module, function, arguments, 60_000)

  @doc "Connects a node to others and waits until it is."
  def connect!(from, others) do
    for other <- others, do: true = call(from, :net_kernel, :connect_node, [other.node])
    :ok
  end

  @doc "Sends a signal to the process of a node, such as `STOP` or `KILL`."
  def signal(%{os_pid: os_pid}, name) do
    {_output, 0} = System.cmd("kill", ["-#{name}", os_pid])
    :ok
  end

  @doc "Executes events on the node that it is called on."
  def emit(events) do
    for {name, measurements, metadata} <- events,
        do: :telemetry.execute(name, measurements, metadata)

    :ok
  end

  @doc "Starts an instance on the node that it is called on, which goes on when the caller has ended."
  def start_instance(options) do
    {:ok, pid} = DSPexTelemetry.start_link(options)
    Process.unlink(pid)
    :ok
  end

  @doc """
  Makes the node that it is called on answer as another version of the library does: `answer` gets what
  this one would say.
  """
  def answer_otherwise(answer) do
    Code.put_compiler_option(:ignore_module_conflict, true)

    Code.compile_string("""
    defmodule DSPexTelemetry.Cluster do
      def snapshot(request) do
        {:ok, %{native: native}} = DSPexTelemetry.Instance.Lookup.fetch(request.instance)
        now = DSPexTelemetry.Instance.Clock.now()
        {:ok, snapshot} = DSPexTelemetry.Native.cluster_snapshot(native, request.window, now, request.limits)
        (#{answer}).(snapshot)
      end
    end
    """)

    :ok
  end

  @doc """
  Makes the node that it is called on end the next snapshots as `answer_with/1` is told there:
  `{:return, term}`, `{:throw, term}`, `{:exit, term}`, `{:error, term}`, or `{:die, term}`.
  """
  def answer_as_told do
    answer_otherwise("""
    fn _snapshot ->
      case :persistent_term.get(#{inspect(__MODULE__)}) do
        {:return, term} -> term
        {:throw, term} -> throw(term)
        {:exit, term} -> exit(term)
        {:error, term} -> :erlang.error(term)
        {:die, term} -> Process.exit(self(), term)
      end
    end
    """)
  end

  @doc "What the node that it is called on does when it is asked, see `answer_as_told/0`."
  def answer_with(answer), do: :persistent_term.put(__MODULE__, answer)

  @doc "What the node that it is called on reports of itself and of one that gives these answers, one by one."
  def reports(node, answers, options) do
    for answer <- answers do
      :ok = :erpc.call(node, __MODULE__, :answer_with, [answer])
      options = [nodes: [node(), node]] ++ options

      %{
        report: Cluster.report(options),
        json: Cluster.report([format: :json] ++ options),
        errors: Cluster.errors(options),
        usage: Cluster.usage(options)
      }
    end
  end

  defp stop(pid, os_pid) do
    # A node that a test has stopped would not end.
    System.cmd("kill", ["-CONT", List.to_string(os_pid)], stderr_to_stdout: true)
    if Process.alive?(pid), do: :peer.stop(pid)
  catch
    :exit, _ended_meanwhile -> :ok
  end

  defp epmd do
    erts = Path.join([:code.root_dir(), "erts-#{:erlang.system_info(:version)}", "bin", "epmd"])
    System.find_executable("epmd") || erts
  end
end
