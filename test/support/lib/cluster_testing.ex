defmodule DSPexTelemetry.ClusterTesting do
  @moduledoc """
  Reports over nodes that have an instance of the same name.
  """

  import DSPexTelemetry.TestCluster
  import ExUnit.Callbacks, only: [on_exit: 1]

  alias DSPexTelemetry.{Cluster, TestCluster}

  @call [:dspex, :bridge, :call_method, :stop]
  @instance __MODULE__.Shared

  @doc "The same instance on each node, gone when the test ends."
  def start_instances!(nodes, options \\ []) do
    for node <- nodes do
      options = Keyword.merge([name: @instance, duration_unit: :nanosecond], options)
      :ok = call(node, TestCluster, :start_instance, [options])
      on_exit(fn -> stop_instance(node) end)
    end

    :ok
  end

  def stop_instance(node) do
    with pid when is_pid(pid) <- supervisor(node), do: call(node, Supervisor, :stop, [pid])
  catch
    :exit, _node_is_gone -> :ok
  end

  def supervisor(node) do
    name = {DSPexTelemetry.Instance.Lookup.registry(), {:supervisor, @instance}}
    call(node, Registry, :whereis_name, [name])
  end

  def emit!(node, events), do: :ok = call(node, TestCluster, :emit, [events])

  def report(caller, options \\ []), do: cluster(caller, :report, options)

  def cluster(caller, function, options) do
    options = Keyword.merge([instance: @instance, timeout: 30_000], options)
    call(caller, Cluster, function, [options])
  end

  def states(report), do: Enum.map(report.nodes, & &1.state)
  def names(nodes), do: Enum.map(nodes, & &1.node)

  def call_event(method, duration, success \\ true) do
    metadata = %{method: method, python_class: "Class", success: success}
    {@call, %{duration: duration, result_size: rem(duration, 7_000)}, metadata}
  end

  @doc "Events that some nodes share and others do not, and durations that differ by node."
  def events(number) do
    :rand.seed(:exsss, {number, 7, 7})

    calls =
      for _call <- 1..400 do
        method = Enum.random(["everywhere", "only-#{number}", "shared-#{div(number, 2)}"])
        duration = round(:math.exp(:rand.uniform() * 12 + number * 3))
        call_event(method, duration, :rand.uniform(10) > 1)
      end

    others =
      for step <- 1..50 do
        [
          {[:snakepit, :pool, :queue_time], %{wait_time_us: step * number},
           %{command: "c#{rem(step, 3)}"}},
          {[:snakepit, :worker, :spawned], %{startup_time: step * 1_000},
           %{worker_id: "w#{number}-#{step}", python_version: "3.#{rem(step, 2)}"}},
          {[:dspex, :session, :created], %{}, %{session_id: "s#{number}-#{step}"}},
          {[:dspex, :session, :expired], %{lifetime_ms: step, total_operations: step},
           %{reason: "timeout"}},
          {[:dspex, :tools, :call, :stop], %{duration: step * 10},
           %{tool_name: "t", caller: :python, success: true}}
        ]
      end

    Enum.shuffle(calls ++ List.flatten(others))
  end
end
