defmodule DSPexTelemetry.Instance.SnakepitWorkersTest do
  # Not async: stands in for Snakepit's registry, which instances of other tests would ask too.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias Bridge.Recording
  alias DSPexTelemetry.PerformanceRouter

  @registry Snakepit.Pool.Registry
  @key {__MODULE__, :workers}
  @recording "test/fixtures/recorded_events/snakepit.exs.txt"

  # A registry with the two functions that Snakepit's has, over a list of the test's.
  defp stand_in!(body) do
    Module.create(@registry, body, Macro.Env.location(__ENV__))

    on_exit(fn ->
      :persistent_term.erase(@key)
      :code.purge(@registry)
      :code.delete(@registry)
    end)
  end

  defp registry! do
    stand_in!(
      quote do
        def list_workers, do: Map.keys(:persistent_term.get(unquote(Macro.escape(@key))))

        def fetch_worker(id) do
          case :persistent_term.get(unquote(Macro.escape(@key))) do
            %{^id => metadata} -> {:ok, self(), metadata}
            _gone -> {:error, :not_found}
          end
        end
      end
    )
  end

  defp running!(workers), do: :persistent_term.put(@key, workers)

  defp worker_ids(instance) do
    on = [instance: instance]
    on |> PerformanceRouter.report() |> Map.fetch!(:workers) |> Enum.map(& &1.worker_id)
  end

  defp pool_size(instance), do: DSPexTelemetry.report(instance: instance).pool.size

  test "an instance that starts after Snakepit knows its workers, and their pools" do
    registry!()
    running!(%{"w1" => %{pool_identifier: :default}, "w2" => %{pool_name: :gpu}, "w3" => %{}})
    instance = start!()

    assert worker_ids(instance) == ["w1", "w2", "w3"]
    assert pool_size(instance) == 3
    assert {:ok, _id} = PerformanceRouter.route_request("m", nil, instance: instance)

    for id <- ["w1", "w2", "w3"] do
      metadata = %{command: "predict", worker_id: id, pool: Snakepit.Pool, status: :ok}
      :telemetry.execute([:snakepit, :grpc_worker, :execute, :stop], %{duration: 1_000}, metadata)
    end

    scrape = DSPexTelemetry.scrape(instance: instance)

    for pool <- ["default", "gpu"],
        line =
          ~s(snakepit_grpc_execute_total{pool="#{pool}",command="predict",success="true"} 1\n),
        do: assert(scrape =~ line)
  end

  test "a worker that ended before the handlers were attached is forgotten at a tick" do
    registry!()
    running!(%{"gone" => %{}, "stays" => %{}})
    instance = start!()
    assert worker_ids(instance) == ["gone", "stays"]
    running!(%{"stays" => %{}})
    send(pid(instance), :tick)
    await("the tick", fn -> worker_ids(instance) == ["stays"] end)
    assert pool_size(instance) == 1
    assert DSPexTelemetry.report(instance: instance).pool.died == %{}
  end

  test "workers that came while an instance was detached are known when it is attached again" do
    registry!()
    running!(%{"w1" => %{}})
    instance = start!()
    :ok = DSPexTelemetry.detach(instance: instance)
    running!(%{"w1" => %{}, "w2" => %{}})
    :ok = DSPexTelemetry.attach(instance: instance)
    assert worker_ids(instance) == ["w1", "w2"]
    assert pool_size(instance) == 2
  end

  test "what the registry says wrongly, or a registry that is going, stops no instance" do
    stand_in!(
      quote do
        def list_workers, do: ["fine", :not_text, nil, "broken"]
        def fetch_worker("fine"), do: {:ok, self(), %{pool_name: self()}}
        def fetch_worker("broken"), do: raise(ArgumentError, "its table is gone")
      end
    )

    instance = start!()
    assert worker_ids(instance) == ["broken", "fine"]
    assert DSPexTelemetry.info(instance: instance).rejected == []
    refute DSPexTelemetry.scrape(instance: instance) =~ "#PID"
  end

  test "without preset :snakepit nobody is asked" do
    stand_in!(quote do: def(list_workers, do: raise("asked")))
    assert worker_ids(start!(presets: [:dspex])) == []
  end

  test "workers are learned from what they do, until they end" do
    seen = [
      [:snakepit, :heartbeat, :pong_received],
      [:snakepit, :grpc_worker, :execute, :start]
    ]

    ended = [:snakepit, :pool, :worker, :terminated]
    # No other events, as if the handlers had come when the pool was up.
    instance = start!()

    {known, most, ends} =
      for {_time, event, measurements, %{worker_id: id} = metadata} <-
            Recording.stream!(@recording),
          event in [ended | seen],
          reduce: {MapSet.new(), 0, 0} do
        {known, most, ends} ->
          :telemetry.execute(event, measurements, metadata)
          known = if event == ended, do: MapSet.delete(known, id), else: MapSet.put(known, id)
          assert {event, worker_ids(instance)} == {event, Enum.sort(known)}
          {known, max(most, MapSet.size(known)), ends + if(event == ended, do: 1, else: 0)}
      end

    # A worker that ended returns with its id.
    assert {most, ends} == {2, 6}
    assert pool_size(instance) == MapSet.size(known)
    assert DSPexTelemetry.report(instance: instance).pool.died |> Map.values() |> Enum.sum() == 6
  end
end
