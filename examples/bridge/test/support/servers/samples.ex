defmodule Bridge.Servers.Samples do
  @moduledoc """
  A `:telemetry` handler that keeps every sample, so that a test can work out by itself what a
  metric must say. It shares nothing with the library but the events, and how a reason becomes a word.
  """

  use GenServer

  alias DSPexTelemetry.Reason

  @events [
            [:dspex, :bridge, :create_instance],
            [:dspex, :bridge, :call_method],
            [:dspex, :tools, :call]
          ]
          |> Enum.flat_map(fn span -> for(e <- [:start, :stop, :exception], do: span ++ [e]) end)
          |> Enum.concat([
            [:dspex, :session, :created],
            [:dspex, :session, :variable, :set],
            [:dspex, :session, :variable, :get],
            [:dspex, :session, :expired],
            [:dspex, :alerts, :error_spike],
            [:snakepit, :worker, :spawned],
            [:snakepit, :worker, :died],
            [:snakepit, :pool, :queue_time]
          ])

  @type labels :: %{String.t() => String.t()}

  @doc "Attaches; what was kept ends with the process."
  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil)

  @impl true
  def init(nil) do
    # So that terminate/2 runs.
    Process.flag(:trap_exit, true)
    :ets.new(__MODULE__, [:named_table, :public, :duplicate_bag, write_concurrency: true])
    :ok = :telemetry.attach_many(__MODULE__, @events, &__MODULE__.handle/4, nil)
    {:ok, nil}
  end

  @impl true
  def terminate(_reason, nil), do: :telemetry.detach(__MODULE__)

  @doc "The sessions that were created."
  @spec sessions() :: [String.t()]
  def sessions, do: Map.get(of(:session_id), %{}, [])

  @doc "The metrics of which there are samples."
  @spec metrics() :: [atom()]
  def metrics do
    for name when is_atom(name) <- __MODULE__ |> :ets.select([{{:"$1", :_, :_}, [], [:"$1"]}]),
        name != :session_id,
        uniq: true,
        do: name
  end

  @doc "The samples of a metric by labels, sorted: microseconds, bytes, seconds, or 1 for a counter."
  @spec of(atom()) :: %{labels() => [number()]}
  def of(metric) do
    __MODULE__
    |> :ets.lookup(metric)
    |> Enum.group_by(fn {_, labels, _} -> labels end, fn {_, _, value} -> value end)
    |> Map.new(fn {labels, values} -> {strings(labels), Enum.sort(values)} end)
  end

  @doc false
  def handle([:dspex, :bridge, :create_instance, :start], _, metadata, _) do
    keep(:dspex_bridge_create_instance_start_total, %{python_class: metadata.python_class}, 1)
  end

  def handle([:dspex, :bridge, :create_instance, event], measurements, metadata, _) do
    class = metadata.python_class
    success = event == :stop and metadata.success
    if ref = metadata[:ref], do: :ets.insert(__MODULE__, {{:class, ref}, class})

    labels = %{python_class: class, success: success}
    keep(:dspex_bridge_create_instance_duration, labels, microseconds(measurements.duration))
    keep(:dspex_bridge_create_instance_total, labels, 1)

    if event == :exception do
      labels = %{python_class: class, kind: metadata.kind}
      keep(:dspex_bridge_create_instance_exception_total, labels, 1)
    end
  end

  def handle([:dspex, :bridge, :call_method, event], measurements, metadata, _) do
    labels = %{method: metadata.method, python_class: class(metadata[:ref])}

    case event do
      :start ->
        keep(:dspex_bridge_call_method_start_total, labels, 1)
        keep(:dspex_bridge_call_method_args_size_bytes, labels, metadata[:args_size])

      :stop ->
        unless metadata.success, do: failed(labels, why(metadata), :unsuccessful)
        called(labels, metadata.success, metadata[:cached] || false, measurements.duration)
        keep(:dspex_bridge_call_method_result_size_bytes, labels, measurements[:result_size])

      :exception ->
        failed(labels, Reason.class(metadata.reason), metadata.kind)
        called(labels, false, false, measurements.duration)
        labels = Map.put(labels, :kind, metadata.kind)
        keep(:dspex_bridge_call_method_exception_total, labels, 1)
    end
  end

  def handle([:dspex, :tools, :call, :start], _, metadata, _) do
    labels = %{tool_name: metadata.tool_name, caller: metadata.caller}
    keep(:dspex_tools_call_start_total, labels, 1)
  end

  def handle([:dspex, :tools, :call, event], measurements, metadata, _) do
    labels = %{tool_name: metadata.tool_name}
    success = event == :stop and metadata.success
    keep(:dspex_tools_call_duration, labels, microseconds(measurements.duration))
    keep(:dspex_tools_call_total, Map.put(labels, :success, success), 1)

    if event == :exception do
      keep(:dspex_tools_call_exception_total, Map.put(labels, :kind, metadata.kind), 1)
    end
  end

  def handle([:dspex, :session, :created], _, %{session_id: session}, _) do
    keep(:dspex_session_created_total, %{}, 1)
    keep(:session_id, %{}, session)
  end

  def handle([:dspex, :session, :variable, op], measurements, metadata, _) do
    keep(:dspex_session_variable_size_bytes, %{op: op}, measurements[:size])
    keep(:dspex_session_variable_use_total, %{var_name: metadata.var_name}, 1)

    case op do
      :set -> keep(:dspex_session_variable_set_total, %{var_type: metadata.var_type}, 1)
      :get -> keep(:dspex_session_variable_get_total, %{found: metadata.found}, 1)
    end
  end

  def handle([:dspex, :session, :expired], measurements, metadata, _) do
    labels = %{reason: metadata.reason}
    keep(:dspex_session_expired_total, labels, 1)
    keep(:dspex_session_lifetime_seconds, labels, measurements.lifetime_ms / 1_000)
    keep(:dspex_session_operations, labels, measurements.total_operations)
  end

  def handle([:dspex, :alerts, :error_spike], _, metadata, _) do
    labels = Map.take(metadata, [:method, :python_class])
    keep(:dspex_alerts_error_spike_total, labels, 1)
  end

  def handle([:snakepit, :worker, :spawned], %{startup_time: time}, metadata, _) do
    keep(:snakepit_worker_startup_time, %{}, microseconds(time))
    keep(:snakepit_worker_spawned_total, %{python_version: metadata.python_version}, 1)
  end

  def handle([:snakepit, :worker, :died], %{lifetime_ms: lifetime}, metadata, _) do
    keep(:snakepit_worker_died_total, %{reason: Reason.class(metadata.reason)}, 1)
    keep(:snakepit_worker_lifetime_seconds, %{}, lifetime / 1_000)
  end

  def handle([:snakepit, :pool, :queue_time], %{wait_time_us: wait}, %{command: command}, _) do
    keep(:snakepit_pool_queue_time, %{command: command}, wait)
  end

  defp called(labels, success, cached, duration) do
    keep(:dspex_bridge_call_method_duration, labels, microseconds(duration))
    labels = Map.merge(labels, %{success: success, cached: cached})
    keep(:dspex_bridge_call_method_total, labels, 1)
  end

  defp why(%{error: error}), do: Reason.class(error)
  defp why(_metadata), do: "unsuccessful"

  defp failed(labels, reason, kind) do
    why = %{reason: reason, kind: kind}
    keep(:dspex_bridge_error_total, why, 1)
    keep(:dspex_bridge_call_method_error_total, Map.merge(labels, why), 1)
  end

  defp keep(_metric, _labels, nil), do: :ok
  defp keep(metric, labels, value), do: :ets.insert(__MODULE__, {metric, labels, value})

  defp class(ref) do
    case :ets.lookup(__MODULE__, {:class, ref}) do
      [{_, class} | _] -> class
      [] -> "unknown"
    end
  end

  defp microseconds(native), do: System.convert_time_unit(native, :native, :nanosecond) / 1_000

  defp strings(labels), do: Map.new(labels, fn {name, value} -> {"#{name}", "#{value}"} end)
end
