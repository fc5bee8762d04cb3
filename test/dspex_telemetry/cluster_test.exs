defmodule DSPexTelemetry.ClusterTest do
  # Not async: several VMs run at once.
  use ExUnit.Case, async: false

  import DSPexTelemetry.ClusterTesting
  import DSPexTelemetry.TestCluster
  import DSPexTelemetry.TestInstance, only: [row: 2]

  alias DSPexTelemetry.{Cluster, Report, StrictJSON}

  doctest DSPexTelemetry.Cluster

  @call [:dspex, :bridge, :call_method, :stop]
  @instance DSPexTelemetry.ClusterTesting.Shared

  setup_all do
    [caller | others] = nodes = for _node <- 1..3, do: start_node!()
    connect!(caller, others)
    %{caller: caller, others: others, nodes: nodes}
  end

  test "three nodes merge to what one node counts that is fed everything", context do
    %{caller: caller, nodes: nodes} = context
    alone = start_node!()
    start_instances!([alone | nodes])

    for {node, number} <- Enum.with_index(nodes, 1) do
      emit!(node, events(number))
      emit!(alone, events(number))
    end

    merged = report(caller)
    expected = call(alone, DSPexTelemetry, :report, [[instance: @instance]])

    fields = fn report ->
      report |> Map.from_struct() |> Map.drop([:interval, :nodes, :slowest])
    end

    assert fields.(merged) == fields.(expected)
    assert row(merged.operations, %{method: "everywhere"}).count > 300
    assert merged.pool.size == 150

    assert Enum.sort(names(merged.nodes)) == Enum.sort(names(nodes))
    assert hd(merged.nodes).node == caller.node
    assert states(merged) == [:merged, :merged, :merged]
    assert Enum.map(merged.nodes, & &1.calls) == [400, 400, 400]

    assert Enum.sum(Enum.map(merged.nodes, & &1.errors)) ==
             Enum.sum(Enum.map(merged.operations, & &1.errors))

    usage = cluster(caller, :usage, top: 3)

    expected =
      call(alone, DSPexTelemetry.UsageAnalytics, :get_usage_report, [
        [instance: @instance, window: :since_start, top: 3]
      ])

    assert Map.drop(usage, [:interval, :nodes]) == Map.delete(expected, :interval)

    errors = cluster(caller, :errors, [])
    expected = call(alone, DSPexTelemetry.ErrorAnalyzer, :report, [[instance: @instance]])

    assert Map.take(errors, [:errors, :by_kind, :by_reason]) ==
             Map.take(expected, [:errors, :by_kind, :by_reason])

    assert errors.errors > 100
  end

  test "a quantile over nodes is that of all samples, where an average of quantiles is not",
       context do
    %{caller: caller, others: [other | _]} = context
    start_instances!([caller, other])
    emit!(caller, List.duplicate(call_event("skewed", 1_000), 99))
    emit!(other, [call_event("skewed", 1_000_000_000)])

    assert [%{count: 100, p50_us: p50, p99_us: p99, max_us: 1.0e6}] =
             report(caller, nodes: [caller.node, other.node]).operations

    # The mean of both nodes' 0.99 quantiles would be half a second.
    assert {p50, p99} == {1.003, 1.003}
  end

  test "spikes have their node, and their errors add up", %{caller: caller, others: [other | _]} do
    start_instances!([caller, other])
    emit!(other, List.duplicate(call_event("spiky", 1, false), 5))
    emit!(caller, List.duplicate(call_event("spiky", 1, false), 2))
    errors = cluster(caller, :errors, nodes: [other.node, caller.node])
    assert errors.errors == 7
    assert [%{method: "spiky", total: 5, node: node}] = errors.spikes
    assert node == other.node
  end

  test "a window is each node's own", %{caller: caller, others: [other | _]} do
    start_instances!([caller, other])
    emit!(other, [call_event("now", 5)])
    options = [nodes: [caller.node, other.node]]
    assert [%{count: 1}] = report(caller, [window: :last_minute] ++ options).operations
    before = report(caller, [window: :previous_minute] ++ options)
    assert before.operations == [] and states(before) == [:merged, :merged]
  end

  test "JSON has the same numbers and the nodes", %{caller: caller, others: [other | _]} do
    start_instances!([caller, other])
    emit!(other, [call_event("<script>\"é\n", 5), call_event("b", 1_000_000, false)])
    options = [nodes: [caller.node, other.node, :"nobody@127.0.0.1"]]
    json = StrictJSON.decode!(report(caller, [format: :json] ++ options))
    report = report(caller, options)

    assert [%{"method" => "b"}, %{"method" => "<script>\"é\n", "max_us" => 0.005}] =
             json["operations"]

    assert Enum.map(json["operations"], & &1["count"]) == Enum.map(report.operations, & &1.count)
    assert Enum.map(json["nodes"], & &1["state"]) == ["merged", "merged", "not_connected"]

    assert Enum.map(json["nodes"], & &1["node"]) ==
             Enum.map(report.nodes, &Atom.to_string(&1.node))

    keys = Report |> struct([]) |> Map.from_struct() |> Map.keys() |> Enum.map(&Atom.to_string/1)
    assert Enum.sort(Map.keys(json)) == Enum.sort(["nodes" | keys])
  end

  test "it prints as a table with the nodes and why some are missing", %{caller: caller} do
    start_instances!([caller])
    emit!(caller, [call_event("printed", 5)])
    text = caller |> report(nodes: [caller.node, :"nobody@127.0.0.1"]) |> inspect()
    assert text =~ ~r/printed +Class +1 /
    assert text =~ ~r/#{caller.node} +merged +1 +0 +1/
    assert text =~ "nobody@127.0.0.1"
    assert text =~ "there is no connection to it"
    assert text |> String.split("\n") |> Enum.all?(&(String.length(&1) <= 120))
  end

  test "a node that hangs is left out when time is up, and comes back", context do
    %{caller: caller, others: [other, hanging]} = context
    start_instances!([caller, other, hanging])
    for node <- [caller, other, hanging], do: emit!(node, [call_event("m", 5)])
    signal(hanging, "STOP")
    options = [nodes: [caller.node, hanging.node, other.node]]
    {microseconds, report} = :timer.tc(fn -> report(caller, [timeout: 1_000] ++ options) end)
    signal(hanging, "CONT")

    assert states(report) == [:merged, :timeout, :merged]
    assert Enum.at(report.nodes, 1).reason == "it did not answer within 1000 ms"
    assert [%{count: 2}] = report.operations
    assert microseconds >= 1_000_000 and microseconds < 15_000_000

    assert [%{count: 3}] = report(caller, options).operations
  end

  test "a node that is killed while it is asked is left out at once", %{caller: caller} do
    killed = start_node!()
    connect!(caller, [killed])
    start_instances!([caller, killed])
    emit!(caller, [call_event("m", 5)])
    # It cannot answer before it is killed.
    signal(killed, "STOP")

    asking =
      Task.async(fn -> report(caller, nodes: [caller.node, killed.node], timeout: 50_000) end)

    await_request(caller)
    signal(killed, "KILL")

    report = Task.await(asking, 40_000)
    assert states(report) == [:merged, :not_connected]
    assert [%{count: 1}] = report.operations
  end

  # The caller waits in erpc, so the request is on its way.
  defp await_request(caller) do
    waiting? =
      for pid <- call(caller, :erlang, :processes, []),
          {:current_stacktrace, stack} <- [
            call(caller, :erlang, :process_info, [pid, :current_stacktrace])
          ],
          {:erpc, _function, _arity, _location} <- stack,
          do: pid

    if waiting? == [], do: await_request(caller)
  end

  test "other significant digits are refused and said so", %{
    caller: caller,
    others: [other, third]
  } do
    start_instances!([caller, third])
    start_instances!([other], significant_digits: 3)
    for node <- [caller, other, third], do: emit!(node, [call_event("m", 5)])
    report = report(caller, nodes: names([other, caller, third]))
    # The caller's own configuration is the one that counts.
    assert states(report) == [:merged, :other_configuration, :merged]
    assert Enum.at(report.nodes, 1).reason =~ "significant digits"
    assert [%{count: 2}] = report.operations
  end

  test "series, bytes and nodes are bounded", %{caller: caller, others: [other, third]} do
    start_instances!([caller, other])

    for node <- [caller, other],
        number <- 1..30,
        do: emit!(node, [call_event("#{node.node}-#{number}", 5)])

    nodes = [caller.node, other.node]

    report = report(caller, nodes: nodes, series_limit: 20)
    assert length(report.operations) == 21
    assert report.operations |> Enum.map(& &1.count) |> Enum.sum() == 60
    assert row(report.operations, %{method: "otel_metric_overflow"}).count == 40
    assert Enum.map(report.nodes, & &1.folded) == [10, 30]

    report = report(caller, nodes: nodes, max_bytes: 2_000)
    assert states(report) == [:too_large, :too_large]
    assert hd(report.nodes).reason =~ "2000 are allowed"

    report = report(caller, nodes: nodes ++ [third.node], node_limit: 2)
    assert states(report) == [:merged, :merged, :not_asked]
  end

  test "metrics of definitions are merged where they are the same, and keep nothing from merging",
       context do
    %{caller: caller, others: [other, third]} = context

    summary = fn name ->
      Telemetry.Metrics.summary(name, event_name: @call, measurement: :duration)
    end

    start_instances!([caller, other], metrics: [summary.("of.node")])
    start_instances!([third], metrics: [summary.("of.another")])
    for node <- context.nodes, do: emit!(node, [call_event("m", 5)])
    report = report(caller, nodes: names(context.nodes))
    assert states(report) == [:merged, :merged, :merged]
    assert [%{count: 3}] = report.operations
    assert [%{name: "of_node", count: 2, sum: 10}] = report.summaries
    assert to_string(report) =~ ~r/^  of_node +2 /m
    [nil, nil, reason] = Enum.map(report.nodes, & &1.reason)
    assert reason =~ "without the metrics of #{Enum.join(@call, ".")}: the definitions of"
    assert to_string(report) =~ "without the metrics of"
    own = call(third, DSPexTelemetry, :report, [[instance: @instance]])
    assert [%{name: "of_another", count: 1}] = own.summaries
  end

  test "options that are not allowed are refused" do
    for {option, value} <- [
          nodes: [],
          nodes: :a@b,
          nodes: ["a@b"],
          timeout: :infinity,
          series_limit: 0,
          max_bytes: 1,
          node_limit: 2_000,
          format: :xml,
          window: :yesterday
        ] do
      error = assert_raise ArgumentError, fn -> Cluster.report([{option, value}]) end
      assert error.message =~ inspect(option)
      assert error.message =~ inspect(value)
    end

    assert_raise ArgumentError, ~r/unknown option :foo/, fn -> Cluster.report(foo: 1) end
    assert_raise ArgumentError, ~r/:top/, fn -> Cluster.usage(top: -1) end
  end
end
