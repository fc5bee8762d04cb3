defmodule DSPexTelemetry.Instance.HandlerJanitor do
  @moduledoc false
  # Detaches the handlers of an instance whose process was killed before it could do so itself, and
  # frees its series here rather than in a garbage collection on a normal scheduler.

  use GenServer

  alias DSPexTelemetry.Instance
  alias DSPexTelemetry.Instance.Lookup

  def start_link(_options), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc """
  Cleans up after the process of an instance, whenever it ends. The instance is in the registry
  already, so a janitor that is not there at this moment finds it when it starts.
  """
  @spec watch(pid(), Lookup.handle()) :: :ok
  def watch(owner, handle), do: GenServer.cast(__MODULE__, {:watch, owner, handle})

  @doc """
  Returns when what an instance of this name has left behind is cleaned up, if its process is dead.
  Its successor waits for that, so that it finds on disk what was counted until then.
  """
  @spec await_clean_up(atom()) :: :ok
  def await_clean_up(name) do
    GenServer.call(__MODULE__, {:clean_up, name}, :infinity)
  catch
    # It is not running, and nobody waits for it.
    :exit, _reason -> :ok
  end

  @impl true
  def init([]) do
    # After a restart: what ended in between left handlers behind, what runs is watched again.
    handles =
      for {owner, handle} <- Lookup.running(),
          into: %{},
          do: {Process.monitor(owner), {owner, handle}}

    Instance.detach_stale_handlers()
    {:ok, handles}
  end

  @impl true
  def handle_call({:clean_up, name}, _from, handles) do
    {dead, handles} =
      Enum.split_with(handles, fn {_monitor, {owner, handle}} ->
        handle.options.name == name and not Process.alive?(owner)
      end)

    for {monitor, {_owner, handle}} <- dead do
      Process.demonitor(monitor, [:flush])
      clean_up(handle)
    end

    {:reply, :ok, Map.new(handles)}
  end

  @impl true
  def handle_cast({:watch, owner, handle}, handles),
    do: {:noreply, Map.put(handles, Process.monitor(owner), {owner, handle})}

  @impl true
  def handle_info({:DOWN, monitor, :process, _owner, _reason}, handles) do
    {watched, handles} = Map.pop(handles, monitor)
    with {_owner, handle} <- watched, do: clean_up(handle)
    {:noreply, handles}
  end

  def handle_info(_message, handles), do: {:noreply, handles}

  defp clean_up(handle) do
    Instance.detach_handlers(handle)
    Instance.stop_native(handle)
  end
end
