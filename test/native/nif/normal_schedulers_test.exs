defmodule DSPexTelemetry.Native.NIF.NormalSchedulersTest do
  # Not async: it looks at what memory the whole VM has touched.
  #
  # What runs on a normal scheduler keeps everything else from running there, so whatever comes in, it has to be
  # quick: it looks at no more of a term than it may keep.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{
    AdaptiveCache,
    Catalogue,
    EventSamples,
    Native,
    PerformanceRouter,
    TestCache,
    TouchedMemory
  }

  alias DSPexTelemetry.Instance.Lookup
  alias DSPexTelemetry.Recording.Details

  @stop [:dspex, :bridge, :call_method, :stop]

  # A term of each kind that has this size, far more than anything that a function may keep.
  @size 32 * 1024 * 1024
  @most @size / 2
  @kinds [:binary, :invalid, :tuple, :list]

  # The functions that get no term of any size, but numbers, atoms, pids and handles.
  @without_terms ~w(cache_leave/2 cache_now/1 cache_open/1 cache_prepare/4 cluster_format/0 complete/3
                    demand_signals/2 panics/0)

  @with_terms ~w(bind_to_worker/3 cache_enter/3 cache_fail/4 cache_get/5 cache_invalidate_key/5 cache_land/5
                 checkout/3 keep/5 observe/3 observe/4 observe/5 record/1 record/2 record/3 record/4
                 record/5 record/6 record/7 record/8 record/9 record/10 route/3)

  setup_all do
    # As literals, which no garbage collection looks at.
    for kind <- @kinds, do: :persistent_term.put({__MODULE__, kind}, make(kind))
    :erlang.garbage_collect()
    on_exit(fn -> for kind <- @kinds, do: :persistent_term.erase({__MODULE__, kind}) end)
  end

  defp make(:binary), do: :binary.copy("x", @size)
  defp make(:invalid), do: :binary.copy(<<0x80>>, @size)
  defp make(:tuple), do: Tuple.duplicate(0, div(@size, 8))
  defp make(:list), do: List.duplicate(0, div(@size, 16))

  defp large(kind), do: :persistent_term.get({__MODULE__, kind})

  test "every function of the library that is not for a dirty scheduler is looked at here" do
    assert Enum.sort(normal_functions()) == Enum.sort(@without_terms ++ @with_terms)
  end

  # From the sources, since the VM does not tell on which scheduler a function runs.
  defp normal_functions do
    stubs = MapSet.new(Native.__info__(:functions))
    arities = fn name -> for {^name, arity} <- stubs, do: "#{name}/#{arity}" end

    for path <- Path.wildcard("native/nif/src/**/*.rs"),
        text = File.read!(path),
        [_all, name] <-
          Regex.scan(~r/^#\[rustler::nif\]\n(?:#\[.*\n)*fn (\w+)/m, text) ++
            Regex.scan(~r/name: c"(\w+)"/, text),
        function <- arities.(String.to_existing_atom(name)),
        do: function
  end

  describe "no more of a large term is looked at than may be kept:" do
    unless TouchedMemory.known?(),
      do: @describetag(skip: "only Linux tells what memory is touched")

    # Calls each function with each large term, twice: what was seen before may take another way.
    defp assert_little_is_touched(calls, kinds \\ @kinds) do
      for kind <- kinds do
        term = large(kind)
        all = fn -> for {_what, fun} <- calls, _again <- 1..2, do: call(fun, term) end
        {bytes, _results} = TouchedMemory.by(all)

        if bytes >= @most do
          each = for {what, fun} <- calls, do: {what, touched_kib(fun, term)}
          most = each |> Enum.sort_by(&elem(&1, 1), :desc) |> Enum.take(5)
          flunk("of a large #{kind} are looked at, in KiB: #{inspect(most)}")
        end
      end
    end

    defp touched_kib(fun, term) do
      {bytes, _result} = TouchedMemory.by(fn -> call(fun, term) end)
      div(bytes, 1024)
    end

    # That a term is refused is as good as any answer.
    defp call(fun, term) do
      fun.(term)
    rescue
      ArgumentError -> :refused
    end

    test "that it is noticed at all" do
      for kind <- @kinds do
        {bytes, _hash} = TouchedMemory.by(fn -> :erlang.phash2(large(kind)) end)
        assert bytes > @most
      end
    end

    test "by events of the catalogue" do
      plans = plans(start!(attach: false))

      calls =
        for event <- Catalogue.events(),
            {measurements, metadata} = EventSamples.good(event),
            {place, keys} <- [measurements: Map.keys(measurements), metadata: Map.keys(metadata)],
            key <- keys do
          call = fn term ->
            {measurements, metadata} =
              if place == :measurements,
                do: {Map.put(measurements, key, term), metadata},
                else: {measurements, Map.put(metadata, key, term)}

            handle(plans, event.name, measurements, metadata)
          end

          {{event.name, key}, call}
        end

      assert_little_is_touched(calls)
    end

    test "by what is noted of an event" do
      plan = plans(start!(attach: false))[@stop]
      failed = [1, nil, nil, "m", false, nil, "C", "w"]

      assert_little_is_touched(
        fields: &Native.keep(plan, 15, &1, [], false),
        field: &Native.keep(plan, 15, [1, &1, &1, &1], [], false),
        details: &Native.keep(plan, 15, failed, &1, false),
        detail: &Native.keep(plan, 15, failed, List.duplicate(&1, 7), false),
        reason: &Details.keep(15, plan, failed, %{reason: &1}),
        error: &Details.keep(15, plan, failed, %{error: {:error, {:shutdown, &1}}}),
        exception: &Details.keep(15, plan, failed, %{error: %RuntimeError{message: &1}}),
        type: &Details.keep(15, plan, failed, %{error_type: &1, error_message: &1}),
        session: &Details.keep(15, plan, failed, %{session_id: &1, worker_id: &1})
      )
    end

    test "by events of other definitions" do
      event = [:normal_schedulers_test, :"event_#{System.unique_integer([:positive])}"]

      metric =
        Telemetry.Metrics.sum("large.sum", event_name: event, measurement: :n, tags: [:tag])

      instance = start!(metrics: [metric])
      assert [{^event, _function, plan}] = Lookup.fetch!(instance).reporting

      assert_little_is_touched(
        tag: &Native.observe(plan, %{n: 1}, %{tag: &1}),
        value: &Native.observe(plan, %{n: &1}, %{tag: 1}),
        maps: &Native.observe(plan, &1, &1),
        computed: &Native.observe(plan, %{n: 1}, %{tag: 1}, &1),
        final: &Native.observe(plan, %{n: 1}, %{tag: &1}, {}, :final)
      )
    end

    test "by requests" do
      instance = start!(attach: false)
      native = native(instance)
      PerformanceRouter.put_workers(["w"], instance: instance)

      assert_little_is_touched(
        command: &Native.route(instance, &1, nil),
        key: &Native.route(instance, "m", &1),
        checkout_command: &Native.checkout(instance, &1, nil),
        checkout_key: &Native.checkout(instance, "m", &1),
        bound_key: &Native.bind_to_worker(native, &1, "w"),
        bound_worker: &Native.bind_to_worker(native, "key", &1)
      )
    end

    test "by calls of a cache" do
      cache = Native.cache_open(native(TestCache.start!()))
      tag = make_ref()

      assert_little_is_touched(
        method: &Native.cache_get(cache, &1, nil, nil, []),
        class: &Native.cache_get(cache, "embed", &1, nil, []),
        ref: &Native.cache_get(cache, "embed", nil, &1, []),
        arguments: &Native.cache_get(cache, "embed", nil, nil, &1),
        nested: &Native.cache_get(cache, "embed", nil, nil, [%{a: {&1}}]),
        enter_method: &Native.cache_enter(cache, {{&1, nil, nil, []}, nil, false}, tag),
        enter_class: &Native.cache_enter(cache, {{"embed", &1, nil, []}, nil, false}, tag),
        enter_ref: &Native.cache_enter(cache, {{"embed", nil, &1, []}, nil, false}, tag),
        enter_arguments: &Native.cache_enter(cache, {{"embed", nil, nil, &1}, nil, false}, tag),
        enter_worker: &Native.cache_enter(cache, {{"embed", nil, "ref", []}, &1, false}, tag),
        invalidate_method: &Native.cache_invalidate_key(cache, &1, nil, nil, []),
        invalidate_arguments: &Native.cache_invalidate_key(cache, "embed", nil, nil, &1)
      )
    end

    test "by what comes of a run" do
      cache = Native.cache_open(native(TestCache.start!()))

      enter = fn ->
        Native.cache_enter(cache, {{"embed", nil, nil, [1]}, nil, false}, make_ref())
      end

      assert {:run, flight} = enter.()

      assert_little_is_touched([result: &Native.cache_land(cache, flight, &1, false, 1)], [
        :binary
      ])

      assert Native.cache_land(cache, flight, large(:binary), false, 1) == :dirty
      assert_little_is_touched([reason: &Native.cache_fail(cache, flight, &1, 1)], [:binary])
    end
  end

  test "an integer that would take seconds to be written is no text" do
    event = [:normal_schedulers_test, :"event_#{System.unique_integer([:positive])}"]
    metric = Telemetry.Metrics.counter("huge.count", event_name: event, tags: [:tag])
    instance = start!(metrics: [metric])
    huge = Bitwise.bsl(1, 8_192)

    for tag <- [huge, -huge, huge - 1], do: :telemetry.execute(event, %{}, %{tag: tag})

    assert [%{metric: "huge_count", reason: "invalid_tag", count: 2}] =
             DSPexTelemetry.info(instance: instance).metrics_rejected

    instance = start!(attach: false)
    plan = plans(instance)[@stop]
    metadata = %{method: "m", python_class: "C", success: true}
    assert handle(plans(instance), @stop, %{duration: 1}, metadata) == :ok

    exemplars = fn ->
      DSPexTelemetry.scrape(instance: instance, format: :openmetrics) =~ " # {"
    end

    fields = [1, nil, nil, "m", true, nil, "C", nil]
    ids = %{trace_id: huge, span_id: huge, session_id: huge}
    assert Details.keep(1, plan, fields, ids) == :ok
    refute exemplars.()
    assert Details.keep(1, plan, fields, %{ids | session_id: 1}) == :ok
    assert exemplars.()
  end

  test "what the VM can only copy has no place in a key" do
    cache = Native.cache_open(native(TestCache.start!(max_key_bytes: 131_072)))
    get = &Native.cache_enter(cache, {{"embed", nil, nil, [&1]}, nil, false}, make_ref())
    huge = Bitwise.bsl(1, 8 * 1024)

    for integer <- [huge, huge * huge, -huge],
        do: assert(get.(integer) == {:uncacheable, :too_large})

    for integer <- [huge - 1, -huge + 1], do: assert({:run, _flight} = get.(integer))
    assert get.(<<1::7>>) == {:uncacheable, :bit_string}
  end

  test "a key has a length that can be written there" do
    assert_raise ArgumentError, ~r/max_key_bytes must be an integer from 64 to 131072/, fn ->
      DSPexTelemetry.Options.validate!(cache: [max_key_bytes: 131_073])
    end
  end

  describe "many who wait for a run" do
    # More than are told at once.
    @many 101

    defp run!(count) do
      instance = TestCache.start!()
      cache = Native.cache_open(native(instance))

      assert {:run, flight} =
               Native.cache_enter(cache, {{"embed", nil, nil, [1]}, nil, false}, make_ref())

      wait!(instance, count)
      {cache, flight}
    end

    defp wait!(instance, count) do
      for _ <- 1..count do
        TestCache.spawn_fetch(instance, [1], fn -> flunk("ran twice") end)
      end

      TestCache.await_waiting(instance, count)
    end

    test "are not told on a normal scheduler" do
      {cache, flight} = run!(@many)
      one = :erlang.term_to_binary(1)
      assert Native.cache_land(cache, flight, one, false, 1) == :dirty
      assert Native.cache_fail(cache, flight, one, 1) == :dirty
      # Nothing was done.
      refute_received {:fetched, _pid, _result}
      assert Native.cache_land_dirty(cache, flight, one, false, 1) == :ok
      for _ <- 1..@many, do: assert_receive({:fetched, _pid, 1}, 10_000)
    end

    test "are told there if they are fewer" do
      {cache, flight} = run!(@many - 1)
      failure = :erlang.term_to_binary({:exit, :gone})
      assert Native.cache_fail(cache, flight, failure, 1) == :ok
      for _ <- 2..@many, do: assert_receive({:fetched, _pid, {:error, %{kind: :exit}}}, 10_000)
    end

    test "are told if the function fails, and if who runs it dies" do
      for {stop, kind} <- [
            {&send(&1, {:do, fn -> exit(:gone) end}), :exit},
            {&Process.exit(&1, :kill), :died}
          ] do
        instance = TestCache.start!()
        leader = TestCache.spawn_fetch(instance, [1], TestCache.held())
        assert_receive {:running, ^leader}
        wait!(instance, 2_000)
        stop.(leader)
        for _ <- 1..2_000, do: assert_receive({:fetched, _pid, {:error, %{kind: ^kind}}}, 10_000)
        assert %{running: 0, waiting: 0} = AdaptiveCache.report(instance: instance)
      end
    end
  end

  test "texts that differ only behind the cut share a series, a reference and a worker" do
    instance = start!(attach: false)
    plans = plans(instance)
    long = String.duplicate("a", 256)
    created = [:dspex, :bridge, :create_instance, :stop]

    handle(plans, created, %{duration: 1}, %{python_class: "C", ref: long <> "1", success: true})

    for _ <- 1..2, ending <- ["", "1", "2"] do
      metadata = %{method: long <> ending, ref: long <> ending, success: true}
      assert handle(plans, @stop, %{duration: 1}, metadata) in [:ok, :exemplary]
    end

    assert [%{method: ^long, python_class: "C", count: 6}] =
             DSPexTelemetry.report(instance: instance).operations

    workers = for number <- 1..16, do: "w#{number}"
    PerformanceRouter.put_workers(workers, instance: instance)
    assert PerformanceRouter.bind(long <> "1", "w7", instance: instance) == :ok

    for ending <- ["", "1", "2"] do
      key = [sticky: long <> ending, instance: instance]
      assert PerformanceRouter.route_request("m", %{}, key) == {:ok, "w7"}
    end
  end
end
