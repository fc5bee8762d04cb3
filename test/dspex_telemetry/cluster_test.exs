defmodule DSPexTelemetry.ClusterTest do
  # Not async: several VMs run at once.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestCluster
  import DSPexTelemetry.TestInstance, only: [row: 2]

  alias DSPexTelemetry.{Cluster, Report, StrictJSON, TestCluster}

  doctest DSPexTelemetry.Cluster

  @call [:dspex, :bridge, :call_method, :stop]
  @instance __MODULE__.Shared

  setup_all do
    [caller | others] = nodes = for _node <- 1..3, do: start_node!()
    connect!(caller, others)
    %{caller: caller, others: others, nodes: nodes}
  end

  # The same instance on each node, gone when the test ends.
  defp start_instances!(nodes, options \\ []) do
    for node <- nodes do
      options = Keyword.merge([name: @instance, duration_unit: :nanosecond], options)
      :ok = call(node, TestCluster, :start_instance, [options])
      on_exit(fn -> stop_instance(node) end)
    end

    :ok
  end

  defp stop_instance(node) do
    with pid when is_pid(pid) <- supervisor(node), do: call(node, Supervisor, :stop, [pid])
  catch
    :exit, _node_is_gone -> :ok
  end

  defp supervisor(node) do
    name = {DSPexTelemetry.Instance.Lookup.registry(), {:supervisor, @instance}}
    call(node, Registry, :whereis_name, [name])
  end

  defp emit!(node, events), do: :ok = call(node, TestCluster, :emit, [events])

  defp report(caller, options \\ []), do: cluster(caller, :report, options)

  defp cluster(caller, function, options) do
    options = Keyword.merge([instance: @instance, timeout: 30_000], options)
    call(caller, Cluster, function, [options])
  end

  defp states(report), do: Enum.map(report.nodes, & &1.state)
  defp names(nodes), do: Enum.map(nodes, & &1.node)

  defp call_event(method, duration, success \\ true) do
    metadata = %{method: method, python_class: "Class", success: success}
    {@call, %{duration: duration, result_size: rem(duration, 7_000)}, metadata}
  end

  # Events that some nodes share and others do not, and durations that differ by node.
  defp events(number) do
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

  test "nodes without the instance or the library are named", %{
    caller: caller,
    others: [other | _]
  } do
    bare = start_bare_node!()
    connect!(caller, [bare])
    start_instances!([caller])
    emit!(caller, [call_event("m", 5)])
    report = report(caller, nodes: [caller.node, other.node, bare.node])
    assert states(report) == [:merged, :no_instance, :no_library]
    assert Enum.at(report.nodes, 1).reason =~ "no instance #{inspect(@instance)} is running"
    assert [%{count: 1}] = report.operations

    # And where the application does not run, or the caller itself has no instance.
    :ok = call(other, Application, :stop, [:dspex_telemetry])
    on_exit(fn -> call(other, Application, :ensure_all_started, [:dspex_telemetry]) end)
    assert states(report(caller, nodes: [other.node])) == [:no_instance]
    stop_instance(caller)
    report = report(caller, nodes: [caller.node])
    assert {states(report), report.operations} == {[:no_instance], []}
  end

  test "another version of the library is refused and said so", %{caller: caller} do
    other = start_node!()
    connect!(caller, [other])
    start_instances!([caller, other])
    for node <- [caller, other], do: emit!(node, [call_event("m", 5)])

    answers = %{
      other_version:
        "fn <<head::binary-size(4), _::16, rest::binary>> -> {:ok, <<head::binary, 1::16, rest::binary>>} end",
      corrupt: "fn snapshot -> {:ok, binary_part(snapshot, 0, 40)} end",
      failed: "fn _snapshot -> raise \"broken\" end"
    }

    for {state, answer} <- answers do
      :ok = call(other, TestCluster, :answer_otherwise, [answer])
      report = report(caller, nodes: [caller.node, other.node])
      assert states(report) == [:merged, state]
      assert [%{count: 1}] = report.operations
      assert is_binary(Enum.at(report.nodes, 1).reason)
    end

    for answer <- [
          "fn _ -> :what end",
          "fn _ -> {:error, {:unheard_of, \"x\"}} end",
          "fn _ -> {:ok, 1} end"
        ] do
      :ok = call(other, TestCluster, :answer_otherwise, [answer])
      assert states(report(caller, nodes: [caller.node, other.node])) == [:merged, :corrupt]
    end
  end

  @tag timeout: 180_000
  test "whatever a node answers, the report has the others, and says why in a sentence", %{
    caller: caller
  } do
    other = start_node!()
    connect!(caller, [other])
    start_instances!([caller, other])
    for node <- [caller, other], do: emit!(node, [call_event("m", 5)])
    {:ok, snapshot} = snapshot(other)
    :ok = call(other, TestCluster, :answer_as_told, [])
    :rand.seed(:exsss, {11, 13, 17})
    options = [instance: @instance, timeout: 30_000]

    answers = answers() ++ for(_n <- 1..150, do: any_answer(snapshot))

    for answers <- Enum.chunk_every(answers, 20),
        told = call(caller, TestCluster, :reports, [other.node, answers, options]),
        {answer, %{report: report} = told} <- Enum.zip(answers, told) do
      assert [%{state: :merged, calls: 1}, %{state: state, reason: reason}] = report.nodes

      assert {answer, state in [:no_instance, :too_large, :failed, :corrupt, :merged]} ==
               {answer, true}

      assert is_nil(reason) == (state == :merged)
      assert_sentence(answer, reason || "")
      # A changed snapshot can be one.
      assert state == :merged or row(report.operations, %{method: "m"}).count == 1
      assert String.valid?(inspect(report))

      assert [%{"reason" => nil}, %{"reason" => ^reason}] = StrictJSON.decode!(told.json)["nodes"]

      for other_report <- [told.errors, told.usage] do
        assert [%{state: :merged}, %{state: ^state, reason: ^reason}] = other_report.nodes
      end
    end
  end

  # What a node sends, by its own view of the request.
  defp snapshot(node) do
    request = %{instance: @instance, window: :since_start, limits: {1_000, 1_000_000}}
    call(node, Cluster, :snapshot, [request])
  end

  defp assert_sentence(answer, reason) do
    assert {answer, String.valid?(reason), String.length(reason) <= 1_000} == {answer, true, true}
  end

  # One of each shape, and those that were once too much.
  defp answers do
    invalid = <<255, 254>>
    deep = Enum.reduce(1..20_000, [], fn _depth, inner -> [inner] end)

    reasons = [
      invalid,
      "half of a character \xC3",
      String.duplicate("é", 10_000),
      String.duplicate("\xFF", 10_000),
      "x" <> String.duplicate("日本", 5_000),
      "",
      "\0\e[2J\u202E"
    ]

    terms = [
      invalid,
      <<1::3>>,
      deep,
      [1 | 2],
      Integer.pow(7, 20_000),
      %{__struct__: Date, calendar: Nowhere, year: 1},
      %{__struct__: DSPexTelemetry.Cluster.Report},
      %{__struct__: invalid},
      List.duplicate({invalid, self()}, 1_000)
    ]

    for(state <- [:no_instance, :too_large, :failed], reason <- reasons, do: {state, reason})
    |> Enum.map(&{:return, {:error, &1}})
    |> Enum.concat(
      for kind <- [:throw, :exit, :error, :die], term <- reasons ++ terms, do: {kind, term}
    )
    |> Enum.concat(
      for term <- reasons ++ terms,
          answer <- [
            term,
            {:ok, term},
            {:error, term},
            {:error, {term, term}},
            {:error, {:failed, term}}
          ],
          do: {:return, answer}
    )
  end

  defp any_answer(snapshot) do
    case :rand.uniform(5) do
      1 -> {:return, {:ok, mutated(snapshot)}}
      2 -> {:return, {:error, {Enum.random([:failed, :no_instance, any_term(2)]), any_term(2)}}}
      3 -> {:return, any_term(4)}
      _ -> {Enum.random([:throw, :exit, :error, :die]), any_term(4)}
    end
  end

  defp mutated(snapshot) do
    {front, <<byte, back::binary>>} =
      :erlang.split_binary(snapshot, :rand.uniform(byte_size(snapshot)) - 1)

    Enum.random([
      front,
      front <> <<Bitwise.bxor(byte, :rand.uniform(255))>> <> back,
      snapshot <> front
    ])
  end

  defp any_term(0), do: Enum.random([:ok, :failed, 1, -1.5, "é", <<255>>, <<5::7>>, nil, [], {}])

  defp any_term(depth) do
    inner = fn -> any_term(:rand.uniform(depth) - 1) end

    case :rand.uniform(7) do
      1 -> [inner.(), inner.()]
      2 -> [inner.() | inner.()]
      3 -> {inner.(), inner.()}
      4 -> {Enum.random([:ok, :error, :exception, :erpc, :undef]), inner.()}
      5 -> {:exception, inner.(), Enum.random([[], [{Cluster, :snapshot, 1, []}], inner.()])}
      6 -> %{inner.() => inner.(), __struct__: Enum.random([Date, RuntimeError, Cluster, 1])}
      7 -> :crypto.strong_rand_bytes(:rand.uniform(40))
    end
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
