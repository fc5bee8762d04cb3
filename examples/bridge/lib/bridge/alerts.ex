defmodule Bridge.Alerts do
  @moduledoc """
  Remembers what telemetry told by itself: its alerts, and its summaries of performance.

  Alerts come as events, but for waits in the queue, which are only logged. A filter of the log
  takes those; it also keeps the other alerts out of the log, since the demo prints them in its
  own section.

  All alerts are kept until `end_scenes/0`. Of the later ones, which nobody staged, the latest
  are, and how many there were.
  """

  use GenServer

  alias DSPexTelemetry.{Alert, PerformanceMonitor}

  @handler "bridge-demo-alerts"
  @filter :bridge_demo_alerts
  @kept 5

  @type key :: {method :: String.t(), python_class :: String.t()}
  @type kind :: :error_spike | :spike_over | :latency_anomaly | :anomaly_over | :queue_wait
  @type alert :: %{
          kind: kind(),
          key: key() | nil,
          at_unix_ms: integer(),
          measurements: map(),
          metadata: map()
        }

  @typedoc """
  The calls of each method in all summaries; how many summaries there were, and the method that
  took most time in the last one.
  """
  @type summaries :: %{
          times: non_neg_integer(),
          calls: %{key() => pos_integer()},
          last: %{key: key(), measurements: map(), interval: map()} | nil
        }

  @typedoc "Alerts are in the order in which they came."
  @type told :: %{
          staged: [alert()],
          others: [alert()],
          others_count: non_neg_integer(),
          summaries: summaries()
        }

  @spec start_link() :: GenServer.on_start()
  def start_link, do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The names of all events that an instance of telemetry emits by itself."
  @spec events() :: [[atom()]]
  def events, do: Alert.events() ++ [PerformanceMonitor.event()]

  @doc "What was told so far."
  @spec told() :: told()
  def told, do: GenServer.call(__MODULE__, :told)

  @doc "Whether the condition holds for what was told, now or within so many milliseconds."
  @spec await((told() -> boolean()), non_neg_integer()) :: boolean()
  def await(condition, timeout) do
    GenServer.call(__MODULE__, {:await, condition, timeout}, :infinity)
  end

  @doc "What comes from now on was not staged."
  @spec end_scenes() :: :ok
  def end_scenes, do: GenServer.call(__MODULE__, :end_scenes)

  @doc "The kinds of a key's alerts, in the order in which they came."
  @spec kinds([alert()], key()) :: [kind()]
  def kinds(alerts, key), do: for(alert <- alerts, alert.key == key, do: alert.kind)

  @doc false
  def handle(event, measurements, metadata, server) do
    GenServer.cast(server, {:event, List.last(event), measurements, metadata, now()})
  end

  @doc false
  def filter(%{meta: %{mfa: {Alert, :raise, 2}}, msg: {:string, text}}, server) do
    case IO.chardata_to_string(text) do
      # It has no event, and must be told by somebody.
      "Series limit" <> _ ->
        :ignore

      "Long queue wait: " <> wait ->
        GenServer.cast(server, {:event, :queue_wait, %{}, %{text: wait}, now()})
        :stop

      _has_an_event ->
        :stop
    end
  end

  def filter(_log_event, _server), do: :ignore

  @impl true
  def init(nil) do
    # So that terminate/2 runs when the demo crashes.
    Process.flag(:trap_exit, true)
    :ok = :telemetry.attach_many(@handler, events(), &__MODULE__.handle/4, self())
    :ok = :logger.add_primary_filter(@filter, {&__MODULE__.filter/2, self()})

    told = %{
      staged: [],
      others: [],
      others_count: 0,
      summaries: %{times: 0, calls: %{}, last: nil}
    }

    {:ok, %{told: told, staging?: true, waiting: []}}
  end

  @impl true
  def terminate(_reason, _state) do
    :telemetry.detach(@handler)
    :logger.remove_primary_filter(@filter)
  end

  @impl true
  def handle_call(:told, _from, state), do: {:reply, in_order(state.told), state}
  def handle_call(:end_scenes, _from, state), do: {:reply, :ok, %{state | staging?: false}}

  def handle_call({:await, condition, timeout}, from, state) do
    timer = Process.send_after(self(), {:late, from}, timeout)
    waiting = [%{from: from, condition: condition, timer: timer} | state.waiting]
    {:noreply, answer(%{state | waiting: waiting})}
  end

  @impl true
  def handle_cast({:event, :summary, measurements, metadata, _at}, state) do
    {:noreply, answer(update_in(state.told.summaries, &add(&1, measurements, metadata)))}
  end

  def handle_cast({:event, name, measurements, metadata, at}, state) do
    alert = %{
      kind: kind(name, metadata),
      key: key(metadata),
      at_unix_ms: at,
      measurements: measurements,
      metadata: metadata
    }

    {:noreply, answer(%{state | told: remember(state.told, alert, state.staging?)})}
  end

  @impl true
  def handle_info({:late, from}, state) do
    {late, waiting} = Enum.split_with(state.waiting, &(&1.from == from))
    Enum.each(late, &GenServer.reply(&1.from, false))
    {:noreply, %{state | waiting: waiting}}
  end

  def handle_info({:EXIT, _pid, reason}, state), do: {:stop, reason, state}

  # The latest first, until somebody asks.
  defp remember(told, alert, true), do: %{told | staged: [alert | told.staged]}

  defp remember(told, alert, false) do
    others = Enum.take([alert | told.others], @kept)
    %{told | others: others, others_count: told.others_count + 1}
  end

  defp in_order(told) do
    %{told | staged: Enum.reverse(told.staged), others: Enum.reverse(told.others)}
  end

  # Methods come one by one, those that took most time first.
  defp add(summaries, measurements, metadata) do
    key = key(metadata)
    calls = Map.update(summaries.calls, key, measurements.count, &(&1 + measurements.count))

    case summaries do
      %{last: %{interval: interval}} when interval == metadata.interval ->
        %{summaries | calls: calls}

      _first_of_a_summary ->
        last = %{key: key, measurements: measurements, interval: metadata.interval}
        %{summaries | calls: calls, last: last, times: summaries.times + 1}
    end
  end

  defp answer(%{waiting: []} = state), do: state

  defp answer(state) do
    told = in_order(state.told)
    {answered, waiting} = Enum.split_with(state.waiting, & &1.condition.(told))

    for %{from: from, timer: timer} <- answered do
      Process.cancel_timer(timer)
      GenServer.reply(from, true)
    end

    %{state | waiting: waiting}
  end

  defp kind(:error_spike_over, _metadata), do: :spike_over
  defp kind(:latency_anomaly, %{state: :over}), do: :anomaly_over
  defp kind(name, _metadata), do: name

  defp key(%{method: method, python_class: class}), do: {method, class}
  defp key(_queue_wait), do: nil

  defp now, do: System.system_time(:millisecond)
end
