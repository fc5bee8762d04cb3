defmodule DSPexTelemetry.SnakepitSamples do
  @moduledoc """
  Events as Snakepit 0.13.0 (commit 18c3a5a) emits them, with all their measurements and metadata. Written by
  reading the code that emits each, which is named above it.
  """

  @pool :default
  @worker "pool_worker_12"

  @doc "Events as `{name, measurements, metadata}`."
  def all do
    List.flatten([
      executions(),
      requests(),
      pools(),
      workers(),
      heartbeats(),
      breakers(),
      errors(),
      retries(),
      sessions(),
      copies(),
      gpu(),
      python()
    ])
  end

  @doc "The events with this name."
  def of(name), do: Enum.filter(all(), fn {other, _, _} -> other == name end)

  @doc "The metadata of the start of an execution: `base_execute_metadata/6` in grpc_worker/instrumentation.ex."
  def execution(operation \\ :execute, command \\ "predict") do
    %{
      operation: operation,
      worker_id: @worker,
      worker_pid: self(),
      command: command,
      adapter: "Snakepit.Adapters.GRPCPython",
      adapter_module: Snakepit.Adapters.GRPCPython,
      pool: @pool,
      session_id: "session_7",
      correlation_id: "sp-0f1e2d3c4b5a69788796a5b4",
      timeout_ms: 30_000,
      span_kind: :client,
      rpc_system: :grpc,
      telemetry_source: :snakepit_grpc_worker
    }
  end

  # grpc_worker/instrumentation.ex, through `:telemetry.span/3`.
  defp executions do
    for operation <- [:execute, :execute_session] do
      metadata = Map.put(execution(operation), :telemetry_span_context, make_ref())
      failed = Map.merge(metadata, %{status: :error, error: %{status: 14, message: "closed"}})
      event = &[:snakepit, :grpc_worker, operation, &1]
      times = %{monotonic_time: System.monotonic_time()}

      [
        {event.(:start), Map.put(times, :system_time, System.system_time()), metadata},
        {event.(:stop), Map.merge(times, %{duration: 12_000_000, duration_ms: 12, executions: 1}),
         Map.put(metadata, :status, :ok)},
        {event.(:stop),
         Map.merge(times, %{duration: 7_000_000, duration_ms: 7, executions: 1, errors: 1}),
         Map.put(failed, :error_kind, :grpc_error)},
        {event.(:stop),
         Map.merge(times, %{duration: 1_000_000, duration_ms: 1, executions: 1, errors: 1}),
         %{failed | error: %{__struct__: Snakepit.Error, category: :worker, details: %{}}}},
        {event.(:stop),
         Map.merge(times, %{duration: 5_000_000, duration_ms: 5, executions: 1, errors: 1}),
         %{failed | error: :timeout}},
        {event.(:exception), Map.put(times, :duration, 3_000_000),
         Map.merge(metadata, %{
           kind: :error,
           reason: %ArgumentError{message: "no channel"},
           stacktrace: [{__MODULE__, :executions, 0, []}]
         })}
      ]
    end
  end

  # pool/dispatcher.ex; of a stream pool/pool.ex.
  defp requests do
    request = %{pool: @pool, worker_id: @worker, command: "predict"}
    event = [:snakepit, :request, :executed]

    [
      {event, %{duration_us: 12_500}, Map.put(request, :success, true)},
      {event, %{duration_us: 9_000}, Map.put(request, :success, false)},
      {event, %{duration_us: 40},
       Map.merge(request, %{
         success: false,
         aborted: true,
         reason: :client_down,
         client_down_reason: :noproc
       })},
      # The pool of a stream is what the caller gave: a name or a pid.
      {event, %{duration_us: 90_000},
       %{request | pool: Snakepit.Pool, command: "stream"}
       |> Map.merge(%{success: true, streaming: true})},
      {event, %{duration_us: 80_000},
       %{request | pool: self(), command: "stream"}
       |> Map.merge(%{success: false, streaming: true})}
    ]
  end

  # pool/dispatcher.ex, pool/event_handler.ex, pool/scheduler.ex, pool/pool.ex, worker_profile/thread.ex,
  # pool/initializer.ex, grpc_worker/instrumentation.ex.
  defp pools do
    dispatched = %{pool: @pool, worker_id: @worker, command: "predict"}
    threaded = %{worker_pid: self(), profile: :thread}

    [
      {[:snakepit, :pool, :call, :dispatched], %{system_time: System.system_time()},
       Map.put(dispatched, :queued, false)},
      {[:snakepit, :pool, :call, :dispatched], %{system_time: System.system_time()},
       Map.put(dispatched, :queued, true)},
      {[:snakepit, :pool, :saturated], %{queue_size: 1_000, max_queue_size: 1_000},
       %{pool: @pool, available_workers: 0, busy_workers: 4}},
      {[:snakepit, :pool, :capacity_reached], %{capacity: 8, load: 8}, threaded},
      {[:snakepit, :pool, :capacity_reached], %{capacity: 8, load: 8},
       Map.put(threaded, :rejected, true)},
      {[:snakepit, :pool, :init_complete], %{duration_ms: 2_400, total_workers: 4, count: 1},
       %{pool_workers: %{default: 4}}},
      {[:snakepit, :pool, :worker_ready], %{worker_count: 4, count: 1},
       %{pool_name: @pool, worker_id: @worker}},
      {[:snakepit, :pool, :worker, :spawned],
       %{duration: 1_900_000_000, system_time: System.system_time()},
       %{
         node: node(),
         pool_name: @pool,
         worker_id: @worker,
         worker_pid: self(),
         python_port: 50_053,
         python_pid: 4_711,
         mode: :process
       }},
      {[:snakepit, :pool, :worker, :terminated], %{lifetime: 61_000_000_000, total_commands: 17},
       %{
         node: node(),
         pool_name: @pool,
         worker_id: @worker,
         worker_pid: self(),
         reason: {:shutdown, :heartbeat_timeout},
         planned: false
       }}
    ]
  end

  # crash_barrier.ex, health_monitor.ex, worker/lifecycle_manager.ex.
  defp workers do
    crash = %{
      worker_id: @worker,
      pool: @pool,
      reason: {:grpc_server_exited, 139},
      exit_code: 139,
      device: nil
    }

    recycled = %{
      worker_id: @worker,
      pool: @pool,
      reason: :ttl_expired,
      uptime_seconds: 3_600,
      request_count: 500
    }

    [
      {[:snakepit, :worker, :crash], %{}, crash},
      {[:snakepit, :worker, :crash], %{}, %{pool: @pool, worker_id: @worker, reason: :segfault}},
      {[:snakepit, :worker, :tainted], %{duration_ms: 60_000}, crash},
      {[:snakepit, :worker, :restarted], %{}, crash},
      {[:snakepit, :worker, :recycled], %{count: 1}, recycled},
      {[:snakepit, :worker, :recycled], %{count: 1, memory_mb: 2_100},
       Map.merge(recycled, %{
         reason: :memory_threshold,
         memory_threshold_mb: 2_048,
         memory_mb: 2_100
       })},
      {[:snakepit, :worker, :health_check_failed], %{count: 1},
       %{worker_id: @worker, pool: @pool, reason: :unresponsive}}
    ]
  end

  # `emit_event/3` in heartbeat_monitor.ex.
  defp heartbeats do
    metadata = %{worker_id: @worker, worker_pid: self(), missed_heartbeats: 0, dependent: true}
    count = %{timestamp: System.monotonic_time(:millisecond), count: 1}
    event = &[:snakepit, :heartbeat, &1]

    [
      {event.(:ping_sent), Map.put(count, :pings, 1), metadata},
      {event.(:pong_received), Map.merge(count, %{pongs: 1, latency_ms: 4}),
       Map.put(metadata, :latency_ms, 4)},
      {event.(:heartbeat_timeout), Map.merge(count, %{timeouts: 1, missed: 3}),
       Map.merge(metadata, %{missed_heartbeats: 3, missed_count: 3})},
      {event.(:monitor_failure), Map.put(count, :failures, 1),
       Map.merge(metadata, %{missed_heartbeats: 3, failure_reason: :heartbeat_timeout})}
    ]
  end

  # circuit_breaker.ex.
  defp breakers do
    [
      {[:snakepit, :circuit_breaker, :opened], %{failure_count: 5},
       %{pool: :model_breaker, reason: :failures}},
      {[:snakepit, :circuit_breaker, :half_open], %{}, %{pool: :model_breaker}},
      {[:snakepit, :circuit_breaker, :closed], %{}, %{pool: :model_breaker}}
    ]
  end

  # error/shape.ex, error/device.ex, error/python_translation.ex.
  defp errors do
    python = %{python_type: "ValueError", library: nil, function: nil}

    [
      {[:snakepit, :error, :shape_mismatch], %{},
       %{expected: [3, 224], got: [3, 225], dimension: 1, operation: "matmul"}},
      {[:snakepit, :error, :device], %{},
       %{expected_device: :cpu, actual_device: {:cuda, 0}, operation: "add"}},
      {[:snakepit, :error, :oom], %{requested_bytes: 8_000_000, available_bytes: 1_000},
       %{device: {:cuda, 0}, operation: nil}},
      {[:snakepit, :python, :exception, :mapped], %{}, python},
      {[:snakepit, :python, :exception, :unmapped], %{}, %{python | python_type: "MyError"}}
    ]
  end

  # executor.ex.
  defp retries do
    [
      {[:snakepit, :retry, :attempt], %{attempt: 1, delay_ms: 100}, %{pool: nil, operation: nil}},
      {[:snakepit, :retry, :success], %{attempts: 2, total_duration: 0}, %{pool: nil}},
      {[:snakepit, :retry, :exhausted], %{attempts: 3, total_duration: 0},
       %{pool: nil, last_error: {:error, :timeout}}}
    ]
  end

  # bridge/session_store.ex.
  defp sessions do
    table = :snakepit_sessions

    [
      {[:snakepit, :bridge, :session, :pruned],
       %{count: 3, remaining_sessions: 40, system_time: System.system_time()},
       %{reason: :ttl, table_name: table, max_sessions: :infinity}},
      {[:snakepit, :bridge, :session, :accumulation_warning],
       %{
         current_sessions: 9_000,
         max_sessions: 10_000,
         utilization: 0.9,
         system_time: System.system_time()
       }, %{reason: :threshold_warning, table_name: table, strict_mode: false}}
    ]
  end

  # zero_copy.ex.
  defp copies do
    for op <- [:export, :import, :fallback] do
      {[:snakepit, :zero_copy, op], %{duration_ms: 0.25, bytes: 4_096},
       %{kind: :dlpack, device: :cpu, dtype: :f32, shape: {32, 32}}}
    end
  end

  # telemetry/gpu_profiler.ex.
  defp gpu do
    device = %{device: {:cuda, 0}}

    [
      {[:snakepit, :gpu, :memory, :sampled], %{used_mb: 1_024, total_mb: 4_096, free_mb: 3_072},
       Map.put(device, :utilization, 0.25)},
      {[:snakepit, :gpu, :utilization, :sampled], %{gpu_percent: 45.5, memory_percent: 25.0},
       device},
      {[:snakepit, :gpu, :temperature, :sampled], %{celsius: 61.5}, device},
      {[:snakepit, :gpu, :power, :sampled], %{watts: 120.25, limit_watts: 0.0}, device}
    ]
  end

  # `translate_and_emit/2` in telemetry/grpc_stream.ex, of what priv/python/snakepit_bridge/telemetry sends: all that Python
  # gives as metadata is text, and keys that are not allowed stay strings.
  defp python do
    sent = %{
      :node => node(),
      :worker_id => @worker,
      :pool_name => @pool,
      :python_pid => 4_711,
      :correlation_id => "sp-0f1e2d3c4b5a69788796a5b4",
      :timestamp_ns => 1_790_000_000_000_000_000,
      "model_name" => "resnet"
    }

    tool = Map.merge(sent, %{tool: "telemetry_demo", operation: "compute"})
    call = Map.put(sent, :command, "predict")
    error = %{error_type: "ValueError", error_message: "no"}
    event = &[:snakepit, :python | &1]

    [
      {event.([:call, :stop]), %{duration: 6_000_000}, call},
      {event.([:call, :exception]), %{duration: 2_000_000}, Map.merge(call, error)},
      {event.([:tool, :execution, :start]), %{system_time: 1_790_000_000_000_000_000}, tool},
      {event.([:tool, :execution, :stop]), %{duration: 100_000_000}, tool},
      {event.([:tool, :execution, :exception]), %{duration: 1_000_000}, Map.merge(tool, error)},
      {event.([:tool, :result_size]), %{bytes: 42}, tool},
      {event.([:tool, :result_size]), %{message_size: 43}, tool},
      {event.([:memory, :sampled]), %{rss_bytes: 200_000_000, vms_bytes: 900_000_000}, sent},
      {event.([:cpu, :sampled]), %{cpu_percent: 87.5}, sent},
      {event.([:gc, :completed]), %{count: 1, generation: 2}, sent},
      {event.([:error, :occurred]), %{count: 1}, Map.merge(sent, error)}
    ]
  end
end
