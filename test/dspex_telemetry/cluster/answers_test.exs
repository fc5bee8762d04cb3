defmodule DSPexTelemetry.Cluster.AnswersTest do
  # Not async: several VMs run at once.
  use ExUnit.Case, async: false

  import DSPexTelemetry.ClusterTesting
  import DSPexTelemetry.TestCluster
  import DSPexTelemetry.TestInstance, only: [row: 2]

  alias DSPexTelemetry.{Cluster, StrictJSON, TestCluster}

  @instance DSPexTelemetry.ClusterTesting.Shared

  setup_all do
    [caller | others] = nodes = for _node <- 1..3, do: start_node!()
    connect!(caller, others)
    %{caller: caller, others: others, nodes: nodes}
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
end
