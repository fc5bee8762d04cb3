defmodule Bridge.ComparisonTest do
  use Bridge.Case

  alias Bridge.{Caching, Phase, Routing}

  doctest Bridge.Phase

  # What fails here fails on purpose.
  @moduletag :capture_log

  @texts ["heapq", "difflib", "tokenize", "textwrap", "shlex", "queue"]

  defp options(more) do
    [workers: 3, callers: 3, seed: 1, texts: @texts, slow_ms: 5, continue?: fn -> true end] ++
      more
  end

  describe "handicaps" do
    test "make a worker fail each call, and leave the others alone" do
      start_bridge(workers: 2, handicaps: %{"worker-2" => ["--failing"]})
      assert Pool.workers() == ["worker-1", "worker-2"]
      {:ok, well} = Bridge.create_instance("Probe", %{}, worker: "worker-1")
      {:ok, ill} = Bridge.create_instance("Probe", %{}, worker: "worker-2")

      assert Bridge.call_method(well, "echo", [1]) == {:ok, 1}

      assert {:error, %PythonError{message: message} = error} =
               Bridge.call_method(ill, "echo", [1])

      assert error.type =~ "Failing"
      assert message =~ "--failing"
    end

    test "make a worker slow" do
      listen([[:dspex, :bridge, :call_method, :stop]])
      start_bridge(workers: 1, handicaps: %{"worker-1" => ["--slow-ms", "30"]})
      {:ok, ref} = Bridge.create_instance("Probe")
      assert Bridge.call_method(ref, "echo", [1]) == {:ok, 1}

      assert_received {_, %{duration: duration}, %{method: "echo"}}
      assert System.convert_time_unit(duration, :native, :millisecond) >= 30
    end
  end

  test "an instance is created in the worker that is named, or not at all" do
    listen([[:snakepit, :pool, :queue_time]])
    start_bridge(workers: 3)

    for id <- ["worker-3", "worker-3", "worker-1"] do
      {:ok, ref} = Bridge.create_instance("Probe", %{}, worker: id)
      assert_received {_, _, %{worker_id: ^id, command: "create_instance"}}
      {:ok, _pid} = Bridge.call_method(ref, "pid")
      assert_received {_, _, %{worker_id: ^id, command: "call_method"}}
    end

    assert {:error, %PoolError{reason: {:unknown_worker, "worker-9"}} = error} =
             Bridge.create_instance("Probe", %{}, worker: "worker-9")

    assert Exception.message(error) == ~s(there is no worker "worker-9")
  end

  test "requests are the same for the same seed, and others for another" do
    requests = &Phase.requests(Enum.to_list(1..100), 3, 20, &1)
    assert requests.(1) == requests.(1)
    assert requests.(1) != requests.(2)
    assert [20, 20, 20] = Enum.map(requests.(1), &length/1)
    assert requests.(1) |> Enum.uniq() |> length() == 3
  end

  describe "routing" do
    @tag timeout: 300_000
    test "sends the failing worker fewer calls than chance does, and its figures agree" do
      {:ok, %{random: random, router: router} = figures} = Routing.run(options(calls: 60))

      assert random.wrong == []
      assert router.wrong == []
      assert random.count == 180 and router.count == 180
      # Each call of the failing worker fails, and no other.
      assert random.errors == random.by_worker["worker-2"]
      assert router.errors == router.by_worker["worker-2"]
      assert router.error_rate < random.error_rate
      assert router.by_worker["worker-3"] > random.by_worker["worker-3"]

      section = Routing.section(figures, options(calls: 60))
      assert section =~ ~r/^Routing: 180 calls of Summarizer.line_lengths/
      assert section =~ ~r/^  failed +#{random.errors} \(.* %\) +#{router.errors} \(/m
    end

    test "is told to be no better than chance where it is not" do
      bad = %{wrong: [], error_rate: 0.3, p99_us: 9_000.0}
      good = %{bad | error_rate: 0.1, p99_us: 1_000.0}
      assert Routing.disagreements(%{random: bad, router: good}) == []

      assert Routing.disagreements(%{random: good, router: bad}) == [
               "the router's share of failed calls, 30.0 %, must be less than that of random choice, 10.0 %",
               "the router's p99, 9.0 ms, must be less than that of random choice, 1.0 ms"
             ]

      assert ["the router's p99" <> _] =
               Routing.disagreements(%{random: bad, router: %{bad | error_rate: 0.1}})
    end

    test "of nothing is no disagreement with a report" do
      {:ok, %{random: random}} =
        Routing.run(options(calls: 5) |> Keyword.put(:continue?, fn -> false end))

      assert random == %{
               count: 0,
               errors: 0,
               error_rate: 0.0,
               p99_us: nil,
               by_worker: %{},
               wrong: []
             }
    end
  end

  describe "caching" do
    @tag timeout: 300_000
    test "keeps calls from Python, and its figures agree" do
      {:ok, %{without: without, with: with_it} = figures} = Caching.run(options(calls: 60))

      assert Caching.disagreements(figures) == []
      assert without.reached == 180
      # 100 calls are needed, and 5 pairs to be kept; the others could come while those are run.
      assert with_it.reached in 5..150
      assert with_it.reached + with_it.hits + with_it.joined == 180
      assert with_it.decision =~ "cached"

      assert Caching.section(figures, options(calls: 60)) =~
               ~r/^  reached Python +180 +#{with_it.reached}$/m
    end

    test "is told to be of no use where it is not" do
      half = %{wrong: [], reached: 10, results: %{["a", "b"] => [ok: 1]}}

      assert ["with the cache 10 calls" <> _] =
               Caching.disagreements(%{without: half, with: half})

      assert Caching.disagreements(%{without: half, with: %{half | reached: 9}}) == []

      stale = %{half | reached: 9, results: %{["a", "b"] => [ok: 2]}}

      assert ["with the cache similarity of [\"a\", \"b\"] is [ok: 2], and without it [ok: 1]"] =
               Caching.disagreements(%{without: half, with: stale})
    end
  end
end
