defmodule Bridge.Session do
  @moduledoc """
  A process that keeps the variables of one conversation and the refs made in it.

  Both sides set and get the variables: Elixir here, Python by `Bridge.Upcall`. A session that
  nobody uses for its timeout expires, and its instances are released in their workers.
  """

  use GenServer, restart: :temporary

  alias Bridge.{JSON, Pool, SessionError}
  alias DSPexTelemetry.Emit

  @type id :: String.t()
  @type gone :: {:error, SessionError.t()}

  # Milliseconds without use.
  @timeout 60_000

  @doc """
  Opens a session with some variables set. Option: `:timeout`, milliseconds without use until it
  expires.
  """
  @spec open(map(), keyword()) :: {:ok, id()}
  def open(vars \\ %{}, options \\ []) do
    id = "session-#{System.unique_integer([:positive])}"
    timeout = Keyword.get(options, :timeout, @timeout)
    child = {__MODULE__, %{id: id, vars: vars, timeout: timeout}}

    with {:ok, _pid} <- DynamicSupervisor.start_child(Bridge.SessionSupervisor, child) do
      {:ok, id}
    end
  end

  @doc "Ends a session now; `reason` is what telemetry reports. Fine when it has expired already."
  @spec close(id(), atom()) :: :ok
  def close(id, reason \\ :closed) do
    _ = ask(id, {:close, reason})
    :ok
  end

  @doc "Ends every session."
  @spec close_all(atom()) :: :ok
  def close_all(reason) do
    Bridge.SessionRegistry
    |> Registry.select([{{:"$1", :_, :_}, [], [:"$1"]}])
    |> Enum.each(&close(&1, reason))
  end

  @doc "The session's process, or nil when it has expired."
  @spec whereis(id()) :: pid() | nil
  def whereis(id) do
    case Registry.lookup(Bridge.SessionRegistry, id) do
      [{pid, _}] -> pid
      [] -> nil
    end
  end

  @doc "Sets a variable to anything that has JSON."
  @spec set(id(), String.t(), term()) :: :ok | gone()
  def set(id, name, value) do
    with :ok <- ask(id, {:set, name, value}) do
      metadata = %{session_id: id, var_name: name, var_type: type(value)}
      Emit.variable_set(%{size: size(value)}, metadata)
    end
  end

  @doc "The value of a variable, or `:error` when it is not set."
  @spec get(id(), String.t()) :: {:ok, term()} | :error | gone()
  def get(id, name) do
    case ask(id, {:get, name}) do
      {:ok, value} ->
        emit_get(id, name, true, size(value))
        {:ok, value}

      :error ->
        emit_get(id, name, false, 0)
        :error

      {:error, error} ->
        {:error, error}
    end
  end

  @doc "Tells the session that it is in use."
  @spec touch(id()) :: :ok
  def touch(id), do: tell(id, :touch)

  @doc "Ties an instance to the session's life."
  @spec own(id(), Bridge.ref()) :: :ok
  def own(id, ref) do
    case tell(id, {:own, ref}) do
      :ok -> :ok
      {:error, _} -> Pool.release([ref])
    end
  end

  @doc """
  The name of a variable's type, as JSON has it.

  ## Examples

      iex> Enum.map(["a", 1, 1.5, true, nil, [1], %{}], &Bridge.Session.type/1)
      ["string", "integer", "float", "boolean", "null", "list", "map"]
  """
  @spec type(term()) :: String.t()
  def type(nil), do: "null"
  def type(value) when is_boolean(value), do: "boolean"
  def type(value) when is_binary(value) or is_atom(value), do: "string"
  def type(value) when is_integer(value), do: "integer"
  def type(value) when is_float(value), do: "float"
  def type(value) when is_list(value), do: "list"
  def type(value) when is_map(value), do: "map"

  @doc false
  def start_link(settings) do
    name = {:via, Registry, {Bridge.SessionRegistry, settings.id}}
    GenServer.start_link(__MODULE__, settings, name: name)
  end

  @impl true
  def init(settings) do
    # So that terminate/2 runs when the supervisor stops.
    Process.flag(:trap_exit, true)
    Emit.session_created(%{}, %{session_id: settings.id, initial_vars: settings.vars})
    opened = System.monotonic_time(:millisecond)
    {:ok, Map.merge(settings, %{opened: opened, refs: [], operations: 0}), settings.timeout}
  end

  @impl true
  def handle_call({:set, name, value}, _from, session) do
    {:reply, :ok, used(put_in(session.vars[name], value)), session.timeout}
  end

  def handle_call({:get, name}, _from, session) do
    {:reply, Map.fetch(session.vars, name), used(session), session.timeout}
  end

  def handle_call({:close, reason}, _from, session) do
    {:stop, {:shutdown, reason}, :ok, session}
  end

  @impl true
  def handle_cast(:touch, session), do: {:noreply, used(session), session.timeout}

  def handle_cast({:own, ref}, session) do
    {:noreply, used(%{session | refs: [ref | session.refs]}), session.timeout}
  end

  @impl true
  def handle_info(:timeout, session), do: {:stop, {:shutdown, :timeout}, session}

  @impl true
  def terminate(reason, session) do
    measurements = %{
      lifetime_ms: System.monotonic_time(:millisecond) - session.opened,
      total_operations: session.operations
    }

    Emit.session_expired(measurements, %{session_id: session.id, reason: why(reason)})
    Pool.release(session.refs)
  end

  defp why({:shutdown, reason}), do: reason
  defp why(reason) when is_atom(reason), do: reason
  defp why(_crash), do: :crash

  defp used(session), do: %{session | operations: session.operations + 1}

  defp emit_get(id, name, found?, size) do
    Emit.variable_get(%{size: size}, %{session_id: id, var_name: name, found: found?})
  end

  # Bytes on the wire.
  defp size(value), do: value |> JSON.encode!() |> byte_size()

  defp ask(id, message) do
    case whereis(id) do
      nil -> {:error, %SessionError{session_id: id}}
      # Without a timeout: it answers or it is gone, and a guess would make the counts wrong.
      pid -> GenServer.call(pid, message, :infinity)
    end
  catch
    # It expired between the look-up and the call.
    :exit, _ -> {:error, %SessionError{session_id: id}}
  end

  defp tell(id, message) do
    case whereis(id) do
      nil -> {:error, %SessionError{session_id: id}}
      pid -> GenServer.cast(pid, message)
    end
  end
end
