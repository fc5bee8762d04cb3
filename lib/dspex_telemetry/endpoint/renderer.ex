defmodule DSPexTelemetry.Endpoint.Renderer do
  @moduledoc false
  # Bounds what concurrent requests cost: few renderings run at a time, and requests for the same that
  # wait share one. A request never gets one that began before it came, so it sees all that was
  # recorded until then.
  #
  # Nothing is rendered for nobody: a request that has waited too long, or whose connection has ended,
  # leaves, and what nobody waits for any more is not rendered.

  use GenServer

  alias DSPexTelemetry.Endpoint
  alias DSPexTelemetry.Endpoint.Rendering
  alias DSPexTelemetry.Instance.Lookup

  @at_once 2

  # There are a billion windows that a client may ask for, and few that anybody looks at.
  @waiting_reports 32

  def start_link({_name, _render} = arguments), do: GenServer.start_link(__MODULE__, arguments)

  @doc """
  Has something rendered, and waits for it, at most as many milliseconds as given.

  Nobody waits any more once `connection` has ended. That is the calling process, or the socket through
  which it answers.
  """
  @spec render(atom(), Rendering.what(), pos_integer(), pid() | port()) :: Rendering.result()
  def render(name, what, patience_ms, connection \\ self()) do
    GenServer.call(
      {:via, Registry, {Lookup.registry(), key(name)}},
      {:render, what, patience_ms, connection},
      :infinity
    )
  catch
    # It is being restarted, or stopped.
    :exit, _reason -> {:error, :not_running}
  end

  defp key(name), do: {:renderer, name}

  @impl true
  def init({name, render}) do
    :ok = Endpoint.Supervisor.register(key(name))
    # Those that wait are in the order in which they came, and so few that a list does.
    {:ok, %{render: render, waiting: [], running: %{}}}
  end

  @impl true
  def handle_call({:render, what, patience_ms, connection}, from, state) do
    cond do
      map_size(state.running) < @at_once ->
        {:noreply, start(state, {what, [asker(from, patience_ms)]})}

      List.keymember?(state.waiting, what, 0) or room?(what, state.waiting) ->
        asker = from |> asker(patience_ms) |> watch(connection)
        {:noreply, %{state | waiting: enqueue(state.waiting, what, asker)}}

      true ->
        {:reply, {:error, :busy}, state}
    end
  end

  @impl true
  def handle_info({:DOWN, monitor, _kind, _pid_or_port, reason}, state) do
    case Map.pop(state.running, monitor) do
      {nil, _running} ->
        {:noreply, leave(state, :monitor, monitor)}

      {{_what, askers}, running} ->
        answer(askers, result(reason))
        {:noreply, start_next(%{state | running: running})}
    end
  end

  def handle_info({:timeout, timer, :patience}, state),
    do: {:noreply, leave(state, :timer, timer)}

  def handle_info(_message, state), do: {:noreply, state}

  defp result({:rendered, result}), do: result
  defp result(_killed), do: {:error, :failed}

  defp asker(from, patience_ms) do
    %{from: from, timer: :erlang.start_timer(patience_ms, self(), :patience), monitor: nil}
  end

  defp watch(asker, connection) when is_pid(connection),
    do: %{asker | monitor: Process.monitor(connection)}

  defp watch(asker, connection) do
    # A socket ends when its client goes only while it is read from. Whoever waits here reads nothing.
    # Only those that have to wait are watched: a client may close its side behind a request.
    _already_closed = :inet.setopts(connection, active: :once)
    %{asker | monitor: Port.monitor(connection)}
  end

  # Of scrapes there are only as many as there are formats and encodings.
  defp room?(what, waiting),
    do: scrape?(what) or Enum.count(waiting, &(not scrape?(&1))) < @waiting_reports

  defp enqueue(waiting, what, asker) do
    case List.keyfind(waiting, what, 0) do
      {^what, askers} -> List.keyreplace(waiting, what, 0, {what, [asker | askers]})
      nil -> waiting ++ [{what, [asker]}]
    end
  end

  # It is told that it has waited too long; if its connection has ended, nobody hears it.
  defp leave(state, key, reference) do
    waiting =
      for {what, askers} <- state.waiting, left = without(askers, key, reference), left != [] do
        {what, left}
      end

    running =
      Map.new(state.running, fn {monitor, {what, askers}} ->
        {monitor, {what, without(askers, key, reference)}}
      end)

    %{state | waiting: waiting, running: running}
  end

  defp without(askers, key, reference) do
    {leaving, left} = Enum.split_with(askers, &(Map.fetch!(&1, key) == reference))
    answer(leaving, {:error, :busy})
    left
  end

  defp answer(askers, result) do
    for %{from: from, timer: timer, monitor: monitor} <- askers do
      :erlang.cancel_timer(timer)
      if monitor, do: Process.demonitor(monitor, [:flush])
      GenServer.reply(from, result)
    end
  end

  defp start_next(state) do
    case next(state) do
      nil ->
        state

      {what, _askers} = entry ->
        start(%{state | waiting: List.keydelete(state.waiting, what, 0)}, entry)
    end
  end

  # A scrape comes before reports, for Prometheus gives up sooner than people and asks rarely. Unless one
  # runs already: many that scrape leave reports a place.
  defp next(%{waiting: waiting, running: running}) do
    case Enum.split_with(waiting, &scrape?/1) do
      {[scrape | _], [report | _]} ->
        if Enum.any?(running, fn {_monitor, entry} -> scrape?(entry) end),
          do: report,
          else: scrape

      {scrapes, reports} ->
        List.first(scrapes ++ reports)
    end
  end

  defp start(%{render: render} = state, {what, _askers} = entry) do
    {_pid, monitor} = spawn_monitor(fn -> exit({:rendered, render.(what)}) end)
    %{state | running: Map.put(state.running, monitor, entry)}
  end

  defp scrape?({{:scrape, _format}, _encoding}), do: true
  defp scrape?({{{:scrape, _format}, _encoding}, _askers}), do: true
  defp scrape?(_report), do: false
end
