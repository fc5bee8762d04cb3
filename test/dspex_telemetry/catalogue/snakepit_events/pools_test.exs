defmodule DSPexTelemetry.Catalogue.SnakepitEvents.PoolsTest do
  # Not async: emits events that other tests' instances see.
  use ExUnit.Case, async: false

  import DSPexTelemetry.SnakepitTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{PerformanceRouter, SnakepitSamples}

  @moduletag :capture_log

  @stop [:snakepit, :grpc_worker, :execute, :stop]
  @spawned [:snakepit, :pool, :worker, :spawned]
  @terminated [:snakepit, :pool, :worker, :terminated]
  @bridge_call [:dspex, :bridge, :call_method]

  setup do
    watch_handler_failures()
    on_exit(fn -> assert_no_handler_failed() end)
  end

  defp spawn_worker(id), do: worker(@spawned, id, %{duration: 1_000_000_000})
  defp end_worker(id), do: worker(@terminated, id, %{lifetime: 5_000_000_000, total_commands: 1})

  defp worker(event, id, measurements) do
    [{_event, _measurements, metadata} | _] = SnakepitSamples.of(event)
    emit(event, measurements, %{metadata | worker_id: id})
  end

  describe "workers" do
    test "count once if bridge and Snakepit both tell of them, whoever is first" do
      bridge = fn id ->
        version = %{worker_id: id, python_version: "3.12"}
        emit([:snakepit, :worker, :spawned], %{startup_time: 1_000}, version)
      end

      for order <- [[bridge, &spawn_worker/1], [&spawn_worker/1, bridge]] do
        instance = start!()
        for id <- ["w1", "w2"], emit <- order, do: emit.(id)

        died = %{worker_id: "w1", reason: :normal}
        emit([:snakepit, :worker, :died], %{lifetime_ms: 5_000}, died)
        end_worker("w1")

        pool = DSPexTelemetry.report(instance: instance).pool
        assert %{size: 1, spawned: 2, died: died} = pool
        assert died |> Map.values() |> Enum.sum() == 1
        stop_supervised!({DSPexTelemetry, instance})
      end
    end

    test "are known to the router, which learns from executions how they do" do
      instance = start!()
      for id <- ["fast", "slow"], do: spawn_worker(id)
      ready = %{pool_name: :default, worker_id: "ready"}
      emit([:snakepit, :pool, :worker_ready], %{worker_count: 3, count: 1}, ready)

      for {id, ms} <- [{"fast", 1}, {"slow", 50}, {"ready", 10}], _call <- 1..20 do
        metadata = %{command: "predict", worker_id: id, status: :ok}
        emit(@stop, %{duration: ms * 1_000_000}, metadata)
      end

      %{candidates: candidates} = PerformanceRouter.explain("predict", instance: instance)
      assert Enum.sort(Enum.map(candidates, & &1.worker_id)) == ["fast", "ready", "slow"]

      latency = Map.new(candidates, &{&1.worker_id, &1.latency_us})
      assert latency["fast"] < latency["ready"] and latency["ready"] < latency["slow"]

      for id <- ["fast", "slow", "ready"], do: end_worker(id)

      assert {:error, :no_workers} =
               PerformanceRouter.route_request("predict", nil, instance: instance)
    end

    test "take their levels with them" do
      instance = start!()
      emit(SnakepitSamples.of([:snakepit, :python, :memory, :sampled]))
      assert [_rss] = scraped(instance, ["snakepit_python_memory_rss_bytes"])
      end_worker(SnakepitSamples.worker())
      assert scraped(instance, ["snakepit_python_memory_rss_bytes"]) == []
    end
  end

  test "a request is told to the router once, by the bridge where that names the worker" do
    instance = start!()
    # So that one may be ejected.
    for id <- ["w", "x", "y"], do: spawn_worker(id)
    metadata = %{method: "predict", ref: "r", worker_id: "w", success: true, python_class: "C"}

    call = fn ->
      :telemetry.span(@bridge_call, metadata, fn ->
        failed = %{command: "predict", worker_id: "w", status: :error, error: :timeout}
        emit(@stop, %{duration: 1_000_000}, failed)
        {:ok, metadata}
      end)
    end

    # Of the first call the execution tells, and of the others the bridge.
    for _call <- 1..10, do: call.()
    assert ejected_for(instance, "predict") == nil
    for _call <- 1..5, do: execute("predict", :error, %{worker_id: "w", error: :timeout})
    assert is_integer(ejected_for(instance, "predict"))
  end

  describe "a worker" do
    # As Snakepit's errors are, whose structs are not here.
    defp python(type) do
      exception = %{__struct__: Snakepit.Error.PythonException, python_type: type, message: "no"}
      details = %{reason: exception}
      %{__struct__: Snakepit.Error, category: :python_error, message: "no", details: details}
    end

    defp fail_at_worker(:bridge, error) do
      metadata = %{method: "predict", python_class: "C", ref: "r", worker_id: "w"}

      emit(
        @bridge_call ++ [:stop],
        %{duration: 1},
        Map.merge(metadata, %{success: false, error: error})
      )
    end

    defp fail_at_worker(:exception, error) do
      metadata = %{method: "predict", python_class: "C", ref: "r", worker_id: "w", kind: :error}
      emit(@bridge_call ++ [:exception], %{duration: 1}, Map.put(metadata, :reason, error))
    end

    defp fail_at_worker(:execution, error),
      do: execute("predict", :error, %{worker_id: "w", error: error})

    for way <- [:bridge, :exception, :execution] do
      @way way
      test "is not ejected for what Python raised, told by #{way}, but for its own faults" do
        instance = start!()
        for id <- ["w", "x", "y"], do: spawn_worker(id)

        for type <- ["ValueError", "KeyError", "JSONDecodeError", "ValueError", "ValueError"],
            do: fail_at_worker(@way, python(type))

        fail_at_worker(@way, {:invalid_parameter, :json_encode_failed, "no protocol"})
        assert ejected_for(instance, "predict") == nil
        # A failure is a failure in every report.
        assert [%{errors: 6}] = DSPexTelemetry.report(instance: instance).operations

        for error <- [:timeout, :internal, :unavailable, {:grpc_server_exited, 137}, :timeout],
            do: fail_at_worker(@way, error)

        assert is_integer(ejected_for(instance, "predict"))
      end
    end
  end

  defp ejected_for(instance, command) do
    %{candidates: workers} = PerformanceRouter.explain(command, instance: instance)
    Enum.find(workers, &(&1.worker_id == "w")).ejected_for_ms
  end
end
