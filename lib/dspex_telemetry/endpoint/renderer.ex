defmodule DSPexTelemetry.Endpoint.Renderer do
  @moduledoc false
  # Bounds what concurrent requests cost: few renderings run at a time, and requests for the same that
  # wait share one. A request never gets one that began before it came, so it sees all that was
  # recorded until then.

  use GenServer

  alias DSPexTelemetry.Endpoint
  alias DSPexTelemetry.Endpoint.Rendering
  alias DSPexTelemetry.Instance

  @at_once 2

  def start_link({_name, _render} = arguments), do: GenServer.start_link(__MODULE__, arguments)

  @doc "Has something rendered, and waits for it."
  @spec render(atom(), Rendering.what(), pos_integer()) :: Rendering.result()
  def render(name, what, patience_ms) do
    GenServer.call(
      {:via, Registry, {Instance.registry(), key(name)}},
      {:render, what},
      patience_ms
    )
  catch
    :exit, {:timeout, _call} -> {:error, :busy}
    # It is being restarted, or stopped.
    :exit, _reason -> {:error, :not_running}
  end

  defp key(name), do: {:renderer, name}

  @impl true
  def init({name, render}) do
    :ok = Endpoint.Supervisor.register(key(name))
    {:ok, %{render: render, queue: :queue.new(), waiting: %{}, running: %{}}}
  end

  @impl true
  def handle_call({:render, what}, from, state) do
    queue =
      if is_map_key(state.waiting, what), do: state.queue, else: :queue.in(what, state.queue)

    waiting = Map.update(state.waiting, what, [from], &[from | &1])
    {:noreply, start_next(%{state | queue: queue, waiting: waiting})}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, reason}, state) do
    {clients, running} = Map.pop(state.running, monitor)

    result =
      case reason do
        {:rendered, result} -> result
        _killed -> {:error, :failed}
      end

    for client <- clients, do: GenServer.reply(client, result)
    {:noreply, start_next(%{state | running: running})}
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp start_next(%{running: running} = state) when map_size(running) >= @at_once, do: state

  defp start_next(%{render: render} = state) do
    case :queue.out(state.queue) do
      {{:value, what}, queue} ->
        {clients, waiting} = Map.pop!(state.waiting, what)
        {_pid, monitor} = spawn_monitor(fn -> exit({:rendered, render.(what)}) end)
        running = Map.put(state.running, monitor, clients)
        start_next(%{state | queue: queue, waiting: waiting, running: running})

      {:empty, _queue} ->
        state
    end
  end
end
