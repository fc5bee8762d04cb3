defmodule Bridge.Servers.Program do
  @moduledoc """
  A server that is somebody else's program, running as long as this process does.

  It takes a free port by itself and says which in its log; `start/1` returns when it answers that
  it is ready. It ends with this process, however that ends. What it wrote is kept until all tests
  have passed, and shown when it does not become ready.
  """

  use GenServer

  import ExUnit.Callbacks, only: [start_supervised!: 1]

  alias Bridge.Servers.HTTP

  @enforce_keys [:server, :url, :folder, :os_pid]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          server: pid(),
          url: String.t(),
          folder: Path.t(),
          os_pid: pos_integer()
        }

  # Milliseconds.
  @ready_timeout 30_000
  @stop_timeout 15_000
  @pause 20

  @wrapper Path.expand("../until_stdin_closes.py", __DIR__)

  @doc """
  Starts a program under the test's supervisor.

  Options: `:name`; `:folder`, which is there and takes its log; `:command`, a list.
  """
  @spec start(keyword()) :: t()
  def start(options) do
    server =
      start_supervised!(%{
        id: {__MODULE__, options[:folder]},
        start: {__MODULE__, :start_link, [options]},
        restart: :temporary,
        shutdown: @stop_timeout
      })

    GenServer.call(server, :program)
  end

  @doc false
  def start_link(options), do: GenServer.start_link(__MODULE__, options, timeout: :infinity)

  @doc "Everything that the program has written so far."
  @spec log(t()) :: String.t()
  def log(%__MODULE__{folder: folder}), do: File.read!(log_file(folder))

  @impl true
  def init(options) do
    # So that terminate/2 runs.
    Process.flag(:trap_exit, true)
    folder = options[:folder]

    port =
      Port.open({:spawn_executable, System.find_executable("python3")}, [
        :binary,
        :exit_status,
        line: 100,
        args: [@wrapper, log_file(folder) | options[:command]]
      ])

    state = %{name: options[:name], port: port, folder: folder, program: nil}

    with {:ok, os_pid} <- await_start(state),
         deadline = now() + @ready_timeout,
         {:ok, url} <- await_address(state, deadline),
         :ok <- await_ready(state, url, deadline) do
      program = %__MODULE__{server: self(), url: url, folder: folder, os_pid: os_pid}
      {:ok, %{state | program: program}}
    else
      {:error, what} ->
        stop(port)
        {:stop, "#{state.name} #{what}; it wrote:\n#{File.read!(log_file(folder))}"}
    end
  end

  @impl true
  def handle_call(:program, _from, state), do: {:reply, state.program, state}

  # The tests that need it would fail anyhow, and less clearly.
  @impl true
  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    {:stop, "#{state.name} ended with status #{status}", state}
  end

  def handle_info({:EXIT, _port, _reason}, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: stop(state.port)

  # Returns when the wrapper, and so the program, has ended.
  defp stop(port) do
    with {:os_pid, os_pid} <- Port.info(port, :os_pid) do
      Port.close(port)
      true = Bridge.Case.ended?(os_pid, div(@stop_timeout, 1_000))
    end

    :ok
  end

  defp await_start(%{port: port}) do
    receive do
      {^port, {:data, {:eol, os_pid}}} -> {:ok, String.to_integer(os_pid)}
      {^port, {:exit_status, status}} -> {:error, "could not be started, status #{status}"}
    end
  end

  defp await_address(state, deadline) do
    case Regex.run(~r/msg="Listening on" address=(\S+)/, File.read!(log_file(state.folder))) do
      [_, address] -> {:ok, "http://" <> address}
      nil -> again(state, deadline, fn -> await_address(state, deadline) end)
    end
  end

  defp await_ready(state, url, deadline) do
    case HTTP.get(url <> "/-/ready") do
      {:ok, %{status: 200}} -> :ok
      _not_yet -> again(state, deadline, fn -> await_ready(state, url, deadline) end)
    end
  end

  defp again(%{port: port}, deadline, attempt) do
    receive do
      {^port, {:exit_status, status}} -> {:error, "ended with status #{status}"}
    after
      @pause -> if now() < deadline, do: attempt.(), else: {:error, "did not become ready"}
    end
  end

  defp log_file(folder), do: Path.join(folder, "log")
  defp now, do: System.monotonic_time(:millisecond)
end
