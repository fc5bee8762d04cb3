defmodule DSPexTelemetry.SnakepitSamples do
  @moduledoc """
  Events as Snakepit 0.13.0 emits them, with all their measurements and metadata.

  Most are from the recordings in `test/fixtures/recorded_events`: of each event the first with each set of keys and each
  outcome. The others were written by reading the code that emits them (commit 18c3a5a), which is named above each.
  """

  alias Bridge.Recording
  alias DSPexTelemetry.Catalogue

  @folder Path.expand("../../fixtures/recorded_events", __DIR__)
  @files for file <- ["snakepit.exs.txt", "dspex.exs.txt"], do: Path.join(@folder, file)

  # A test adapter sent these, to see what happens to durations that are none.
  @malformed_tools ["float_seconds", "text", "negative", "none", "ms"]

  @pool Snakepit.Pool
  @worker "default_worker_1_2050"

  @doc "The worker of most events."
  def worker, do: @worker

  @doc "Events as `{name, measurements, metadata}`."
  def all do
    List.flatten([
      recorded(),
      exceptions(),
      requests(),
      capacity(),
      workers(),
      heartbeats(),
      breakers(),
      errors(),
      retries(),
      sessions(),
      copies(),
      gpu()
    ])
  end

  @doc "The events with this name."
  def of(name), do: Enum.filter(all(), fn {other, _, _} -> other == name end)

  @doc "The metadata of the start of an execution, as recorded."
  def execution(operation \\ :execute, command \\ "predict") do
    [{_name, _measurements, metadata} | _] = of([:snakepit, :grpc_worker, operation, :start])
    %{metadata | command: command}
  end

  # Read once, since tests ask often.
  defp recorded do
    case :persistent_term.get(__MODULE__, nil) do
      nil -> tap(read(), &:persistent_term.put(__MODULE__, &1))
      recorded -> recorded
    end
  end

  defp read do
    names = for event <- Catalogue.events([:snakepit]), do: event.name

    for path <- @files,
        {_time, name, measurements, metadata} <- Recording.stream!(path),
        name in names,
        not from_elixir?(name, metadata),
        metadata[:tool] not in @malformed_tools,
        is_number(Map.get(measurements, :cpu_percent, 0)) do
      {name, measurements, metadata}
    end
    |> Enum.uniq_by(&shape/1)
    # With a worker that is gone goes what is known of it, so this is of its life before.
    |> Enum.sort_by(fn {name, _measurements, _metadata} -> List.last(name) != :terminated end)
  end

  # SnakeBridge's own.
  defp from_elixir?([:snakepit, :python, :call | _], metadata),
    do: not is_map_key(metadata, :python_pid)

  defp from_elixir?(_name, _metadata), do: false

  defp shape({name, measurements, metadata}) do
    outcome = Map.take(metadata, [:status, :success, :streaming, :queued, :planned])
    {name, Map.keys(measurements), Map.keys(metadata), outcome, shape_of_error(metadata)}
  end

  defp shape_of_error(%{error: %{__struct__: module}}), do: module
  defp shape_of_error(%{error: error}) when is_tuple(error), do: elem(error, 0)
  defp shape_of_error(%{error: error}), do: error
  defp shape_of_error(%{reason: reason}), do: reason
  defp shape_of_error(_metadata), do: nil

  # grpc_worker/instrumentation.ex, through `:telemetry.span/3`.
  defp exceptions do
    for operation <- [:execute, :execute_session] do
      {[:snakepit, :grpc_worker, operation, :exception],
       %{duration: 3_000_000, monotonic_time: System.monotonic_time()},
       Map.merge(hd(executions(operation)), %{
         kind: :error,
         reason: %ArgumentError{message: "no channel"},
         stacktrace: [{__MODULE__, :exceptions, 0, []}]
       })}
    end
  end

  defp executions(operation) do
    for {[:snakepit, :grpc_worker, ^operation, :start], _measurements, metadata} <- recorded(),
        do: metadata
  end

  # pool/dispatcher.ex; of a stream pool/pool.ex, where the pool is what the caller gave: a name or a process.
  defp requests do
    [stream | _] =
      for {[_, :request, _], _, %{streaming: true} = metadata} <- recorded(), do: metadata

    [request | _] = for {[_, :request, _], _, metadata} <- recorded(), do: metadata
    event = [:snakepit, :request, :executed]

    [
      {event, %{duration_us: 40},
       Map.merge(request, %{
         success: false,
         aborted: true,
         reason: :client_down,
         client_down_reason: :noproc
       })},
      {event, %{duration_us: 80_000}, %{stream | pool: self()}}
    ]
  end

  # worker_profile/thread.ex.
  defp capacity do
    threaded = %{worker_pid: self(), profile: :thread}

    [
      {[:snakepit, :pool, :capacity_reached], %{capacity: 8, load: 8}, threaded},
      {[:snakepit, :pool, :capacity_reached], %{capacity: 8, load: 8},
       Map.put(threaded, :rejected, true)}
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
    [
      {[:snakepit, :heartbeat, :heartbeat_timeout],
       %{timestamp: System.monotonic_time(:millisecond), count: 1, timeouts: 1, missed: 3},
       %{
         worker_id: @worker,
         worker_pid: self(),
         missed_heartbeats: 3,
         missed_count: 3,
         dependent: true
       }}
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

  # error/shape.ex, error/device.ex.
  defp errors do
    [
      {[:snakepit, :error, :shape_mismatch], %{},
       %{expected: [3, 224], got: [3, 225], dimension: 1, operation: "matmul"}},
      {[:snakepit, :error, :device], %{},
       %{expected_device: :cpu, actual_device: {:cuda, 0}, operation: "add"}},
      {[:snakepit, :error, :oom], %{requested_bytes: 8_000_000, available_bytes: 1_000},
       %{device: {:cuda, 0}, operation: nil}}
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
end
