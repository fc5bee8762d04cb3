defmodule DSPexTelemetry.AdaptiveCacheTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestCache

  alias DSPexTelemetry.{AdaptiveCache, Emit, TestInstance}

  doctest DSPexTelemetry.AdaptiveCache

  describe "the rule" do
    test "keeps results of a method that is called often and repeats itself, and says so" do
      instance = TestInstance.start!(cache: [cacheable: ["embed"]])
      for _ <- 1..100, do: assert({:not_cached, _} = put(instance, [1], {:ok, 1}))
      assert row(instance).decision == "not cached: 100 calls, more than 100 are needed"
      assert get(instance, [1]) == :miss
      assert put(instance, [1], {:ok, 1}) == :cached
      assert get(instance, [1]) == {:ok, {:ok, 1}}

      assert %{cached: true, ttl_ms: ttl_ms, calls: 102, hits: 1, misses: 101} = row(instance)
      assert ttl_ms in [6_060, 6_120]
    end

    test "keeps none of a method that does not repeat itself" do
      instance = TestInstance.start!(cache: [cacheable: ["embed"]])
      for number <- 1..1_000, do: put(instance, [rem(number, 900)], {:ok, 1})
      assert {:not_cached, why} = put(instance, [0], {:ok, 1})
      assert why =~ ~r/^hit rate 0\.1\d? < 0\.3$/

      assert %{cached: false, ttl_ms: nil, entries: 0, decision: "not cached: hit rate 0.1" <> _} =
               row(instance)
    end

    test "keeps none of a method whose results always change" do
      instance = start!()
      for number <- 1..200, do: put(instance, [1], {:ok, number})
      assert put(instance, [1], {:ok, 0}) == {:not_cached, "100 % of results changed"}
      assert %{variance: 1.0, entries: 0} = row(instance)
    end
  end

  describe "what is not declared" do
    test "runs every time, is measured, and is never kept" do
      instance = start_warm!()

      for number <- 1..50 do
        result = AdaptiveCache.fetch("append", [1], [instance: instance], fn -> number end)
        assert result == number
        metadata = %{instance: instance}

        assert AdaptiveCache.maybe_cache("append", [1], number, metadata) ==
                 {:not_cached, "not declared cacheable"}
      end

      report = AdaptiveCache.report(instance: instance)
      row = Enum.find(report.methods, &(&1.method == "append"))

      assert %{calls: 100, hits: 0, entries: 0, decision: "not cached: not declared cacheable"} =
               row

      assert row.hit_rate > 0.9
    end

    test "runs beside another that does the same" do
      instance = start!()
      options = [instance: instance]
      held = held()
      test = self()

      for _ <- 1..2 do
        spawn(fn -> send(test, AdaptiveCache.fetch("append", [1], options, held)) end)
      end

      assert_receive {:running, one}
      assert_receive {:running, other} when other != one
      for pid <- [one, other], do: send(pid, {:return, pid})
      assert_receive ^one
      assert_receive ^other
    end

    test "is declared by a name, by a class and a name, or by a function that sees the call" do
      asked = fn call -> call.method == "asked" and call.args == [:pure] and call.ref == "r" end
      instance = start!(cacheable: [:embed, {Index, :search}, {"Index", "scan"}, asked])

      kept? = fn method, args, metadata ->
        metadata = Map.put(metadata, :instance, instance)
        kept = for _ <- 1..3, do: AdaptiveCache.maybe_cache(method, args, :result, metadata)
        List.last(kept) == :cached
      end

      assert kept?.("embed", [1], %{})
      assert kept?.("search", [1], %{python_class: Index})
      refute kept?.("search", [2], %{python_class: "Other"})
      refute kept?.("search", [3], %{})
      assert kept?.("asked", [:pure], %{ref: "r"})
      refute kept?.("asked", [:impure], %{ref: "r"})

      # The class of a reference is enough.
      Emit.create_instance(%{python_class: "Index"}, fn -> {:ok, "ref-of-index"} end)
      assert kept?.("scan", [4], %{ref: "ref-of-index"})
      refute kept?.("scan", [4], %{ref: "another"})
    end

    test "is everything for an instance without the option, where functions just run" do
      instance = TestInstance.start!()
      assert fetch(instance, [1], fn -> 1 end) == 1
      assert fetch(instance, [1], fn -> 2 end) == 2
      assert get(instance, [1]) == :miss
      assert put(instance, [1], 1) == {:not_cached, "the instance has no cache"}
      assert AdaptiveCache.get("embed", [1]) == :miss
      assert AdaptiveCache.invalidate(:all, instance: instance) == :ok

      assert AdaptiveCache.report(instance: instance) ==
               %{methods: [], entries: 0, bytes: 0, max_bytes: 0, running: 0, waiting: 0}
    end
  end

  describe "errors" do
    test "are not kept" do
      instance = start_warm!()

      for error <- [:error, {:error, :timeout}] do
        assert put(instance, [error], error) == {:not_cached, "an error"}
        assert fetch(instance, [error], fn -> error end) == error
        assert get(instance, [error]) == :miss
      end
    end

    test "are kept if that is asked for" do
      instance = start_warm!(error_ttl: 86_400_000)
      assert put(instance, [1], {:error, :timeout}) == :cached
      assert fetch(instance, [1], fn -> flunk("is kept") end) == {:error, :timeout}
    end
  end

  describe "large things" do
    test "a result that is too large is returned and not kept" do
      instance = start_warm!()
      large = :binary.copy("x", 10_000_000)
      assert fetch(instance, [1], fn -> {:ok, large} end) == {:ok, large}
      assert get(instance, [1]) == :miss
      assert put(instance, [2], large) == {:not_cached, "larger than max_result_bytes"}
      assert row(instance).too_large == 2
    end

    test "a result of 10 MB is kept if it may be, whole, and by those who have it even after it went" do
      instance = start_warm!(max_result_bytes: 20_000_000)
      large = %{binary: :binary.copy("x", 5_000_000), list: Enum.to_list(1..1_000_000)}
      assert fetch(instance, [1], fn -> large end) == large
      assert {:ok, ^large = kept} = get(instance, [1])
      AdaptiveCache.invalidate(:all, instance: instance)
      DSPexTelemetry.reset(instance: instance)
      :erlang.garbage_collect()
      assert kept == large
    end

    test "binaries of any size are what they were, and stay when the cache has forgotten them" do
      instance = start_warm!()

      results =
        for size <- [0, 1, 63, 64, 65, 1_024, 16_384, 100_000],
            binary = :crypto.strong_rand_bytes(size),
            result <- [binary, {:ok, binary}, {:other, binary}, {:ok, binary, 1}, [binary]],
            do: result

      numbered = Enum.with_index(results)
      for {result, number} <- numbered, do: assert(put(instance, number, result) == :cached)

      kept =
        for {result, number} <- numbered do
          assert get(instance, number) == {:ok, result}
          assert {:ok, found} = get(instance, number)
          found
        end

      DSPexTelemetry.reset(instance: instance)
      :erlang.garbage_collect()
      assert kept == results
    end

    test "arguments that are too large or too deep are not looked at further" do
      instance = start_warm!()
      deep = Enum.reduce(1..1_000_000, [], fn _, list -> [list] end)
      large = [:binary.copy("x", 10_000_000)]
      many = Enum.to_list(1..1_000_000)
      wide = Map.new(1..100_000, &{&1, &1})

      for {args, why} <- [
            {deep, "nested too deeply"},
            {large, "larger than max_key_bytes"},
            {many, "larger than max_key_bytes"},
            {wide, "larger than max_key_bytes"}
          ] do
        assert fetch(instance, args, fn -> 1 end) == 1
        assert fetch(instance, args, fn -> 2 end) == 2
        assert put(instance, args, 1) == {:not_cached, "arguments " <> why}
      end
    end

    test "bytes stay within their bound" do
      instance = start_warm!(max_bytes: 100_000)
      for number <- 1..500, do: put(instance, [number], :binary.copy("x", 1_000))
      report = AdaptiveCache.report(instance: instance)
      assert report.bytes in 50_000..100_000
      assert row(instance).evictions > 300
    end
  end

  describe "through Emit" do
    test "the stop event says whether the result was cached" do
      instance = start_warm!()
      event = [:dspex, :bridge, :call_method, :stop]
      test = self()
      id = make_ref()
      forward = fn _event, _measurements, metadata, _config -> send(test, {:stop, metadata}) end

      :telemetry.attach(
        id,
        event,
        fn e, m, d, c -> if(self() == test, do: forward.(e, m, d, c)) end,
        nil
      )

      on_exit(fn -> :telemetry.detach(id) end)

      call = fn fun ->
        metadata = %{ref: "ref-emit", method: "embed", args: ["emit"]}
        Emit.call_method(metadata, [cache: [instance: instance]], fun)
      end

      added = fn -> Emit.result({:ok, 1}, %{worker: 7}) end
      assert call.(added) == {:ok, 1}
      assert_received {:stop, %{cached: false, success: true, worker: 7}}
      assert call.(fn -> flunk("is kept") end) == {:ok, 1}
      assert_received {:stop, %{cached: true, success: true} = metadata}
      refute Map.has_key?(metadata, :worker)
      assert get(instance, ["emit"], ref: "ref-emit") == {:ok, {:ok, 1}}
    end
  end

  describe "workers" do
    test "a result goes with the worker in whose memory its instance lives" do
      instance = start_warm!()
      worker = TestInstance.unique_name()
      other = TestInstance.unique_name()
      ref = Atom.to_string(worker)
      assert put(instance, [1], 1, %{ref: "told", worker_id: worker}) == :cached
      assert put(instance, [2], 2, %{ref: "another", worker_id: other}) == :cached

      Emit.create_instance(%{python_class: "Index"}, fn ->
        Emit.result({:ok, ref}, %{worker_id: worker})
      end)

      # Its class is known, so it is a method of its own, and it takes a repetition to see its worth.
      put(instance, [3], 3, %{ref: ref})
      assert put(instance, [3], 3, %{ref: ref}) == :cached

      Emit.worker_died(%{lifetime_ms: 1}, %{worker_id: worker, reason: :killed})
      assert get(instance, [1], ref: "told") == :miss
      assert get(instance, [2], ref: "another") == {:ok, 2}
      assert get(instance, [3], ref: ref) == :miss
      assert put(instance, [3], 3, %{ref: ref}) == :cached
      assert get(instance, [3], ref: ref) == {:ok, 3}
    end
  end

  describe "the report" do
    test "adds up, and a scrape says the same" do
      instance = start_warm!()
      for _ <- 1..5, do: fetch(instance, ["a"], fn -> {:ok, "a"} end)
      # Of the repetitions, one has another result.
      for result <- [1, 1, 2, 2, 2], do: put(instance, ["b"], result)
      row = row(instance)
      assert %{calls: 20, hits: 4, joined: 0, misses: 16, entries: 3, evictions: 0} = row
      assert row.variance > 0 and row.variance < 0.1
      assert row.mean_us > 0
      assert_in_delta row.time_saved_us, 4 * row.mean_us, 0.001
      assert AdaptiveCache.report(instance: instance).bytes == row.bytes

      text = DSPexTelemetry.scrape(instance: instance)
      labels = ~s({method="embed",python_class="unknown"})

      for {name, value} <- [
            hits_total: 4,
            misses_total: 16,
            entries: 3,
            bytes: row.bytes,
            hit_rate: row.hit_rate,
            variance: row.variance,
            cached: 1
          ] do
        assert text =~ "\ndspex_cache_#{name}#{labels} #{value}\n"
      end

      assert text =~ "\n# TYPE dspex_cache_time_saved_seconds_total counter\n"
      assert DSPexTelemetry.info(instance: instance).memory_bytes > row.bytes
    end

    test "has one row for methods without room" do
      instance = start!(cacheable: ["a", "b", "c"], method_limit: 1)

      for method <- ["a", "b", "c"],
          do: AdaptiveCache.fetch(method, [], [instance: instance], fn -> 1 end)

      assert [overflow] =
               for(
                 %{method: "otel_metric_overflow"} = row <-
                   AdaptiveCache.report(instance: instance).methods,
                 do: row
               )

      assert %{calls: 2, decision: "not cached: more methods than method_limit"} = overflow

      assert DSPexTelemetry.scrape(instance: instance) =~
               ~s(dspex_cache_misses_total{otel_metric_overflow="true"} 2)
    end

    test "starts anew at a reset" do
      instance = start_warm!()
      put(instance, [1], 1)
      DSPexTelemetry.reset(instance: instance)
      assert %{methods: [], entries: 0, bytes: 0} = AdaptiveCache.report(instance: instance)
      assert get(instance, [1]) == :miss
    end
  end

  test "refuses what it does not know" do
    assert_raise ArgumentError, ~r/unknown option :reff/, fn ->
      AdaptiveCache.fetch("embed", [], [reff: 1], fn -> 1 end)
    end

    assert_raise ArgumentError, ~r/no instance NoSuch.Instance is running/, fn ->
      AdaptiveCache.fetch("embed", [], [instance: NoSuch.Instance], fn -> 1 end)
    end

    for {cacheable, ok?} <- [
          {["a", :a, {A, "b"}, &is_map/1], true},
          {"a", false},
          {[nil], false},
          {[{"A", 1}], false},
          {[&is_map_key/2], false},
          {["a" | "b"], false}
        ] do
      options = [cache: [cacheable: cacheable]]

      if ok? do
        assert DSPexTelemetry.Options.validate!(options).cache.cacheable == cacheable
      else
        assert_raise ArgumentError, ~r/option :cache, key :cacheable must be a list of/, fn ->
          DSPexTelemetry.Options.validate!(options)
        end
      end
    end
  end
end
