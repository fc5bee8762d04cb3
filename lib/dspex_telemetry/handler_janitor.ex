defmodule DSPexTelemetry.HandlerJanitor do
  @moduledoc false
  # Detaches the handlers of an instance whose process was killed before it could do so itself, and
  # frees its series here rather than in a garbage collection on a normal scheduler.

  use GenServer

  alias DSPexTelemetry.{Instance, Native}

  def start_link(_options), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc """
  Cleans up after the process of an instance, whenever it ends. The instance is in the registry
  already, so a janitor that is not there at this moment finds it when it starts.
  """
  @spec watch(pid(), Instance.handle()) :: :ok
  def watch(owner, handle), do: GenServer.cast(__MODULE__, {:watch, owner, handle})

  @impl true
  def init([]) do
    # After a restart: what ended in between left handlers behind, what runs is watched again.
    handles =
      for {owner, handle} <- Instance.running(), into: %{}, do: {Process.monitor(owner), handle}

    Instance.detach_stale_handlers()
    {:ok, handles}
  end

  @impl true
  def handle_cast({:watch, owner, handle}, handles),
    do: {:noreply, Map.put(handles, Process.monitor(owner), handle)}

  @impl true
  def handle_info({:DOWN, monitor, :process, _owner, _reason}, handles) do
    {handle, handles} = Map.pop(handles, monitor)

    if handle do
      Instance.detach_handlers(handle)
      Native.stop(handle.native)
    end

    {:noreply, handles}
  end

  def handle_info(_message, handles), do: {:noreply, handles}
end
