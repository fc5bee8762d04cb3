defmodule DSPexTelemetry.AdaptiveCache.InvalidationTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestCache

  alias DSPexTelemetry.AdaptiveCache

  @ways [
    :all,
    {:method, "embed"},
    {:method, {"Index", "embed"}},
    {:ref, "r"},
    {:worker, "w"},
    {:key, "embed", [1]}
  ]

  @options [ref: "r", python_class: "Index"]

  defp invalidate(instance, what),
    do: AdaptiveCache.invalidate(what, [instance: instance] ++ @options)

  defp warm_class(instance),
    do: for(_ <- 1..10, do: put(instance, :warm, :warm, %{python_class: "Index"}))

  for what <- @ways do
    test "#{inspect(what)} forgets what it says" do
      instance = start_warm!()
      warm_class(instance)
      metadata = %{ref: "r", python_class: "Index", worker_id: "w"}
      assert put(instance, [1], :old, metadata) == :cached
      assert get(instance, [1], @options) == {:ok, :old}
      invalidate(instance, unquote(Macro.escape(what)))
      assert get(instance, [1], @options) == :miss
      assert put(instance, [1], :new, metadata) == :cached
      assert get(instance, [1], @options) == {:ok, :new}
    end

    test "#{inspect(what)} forgets what is under way" do
      instance = start_warm!()
      warm_class(instance)
      options = @options ++ [worker_id: "w"]
      old = spawn_fetch(instance, [1], options, held())
      assert_receive {:running, ^old}
      invalidate(instance, unquote(Macro.escape(what)))

      # Who comes now does not wait for the old run.
      new = spawn_fetch(instance, [1], options, held())
      assert_receive {:running, ^new}
      send(old, {:return, :old})
      assert_receive {:fetched, ^old, :old}
      assert get(instance, [1], @options) == :miss
      send(new, {:return, :new})
      assert_receive {:fetched, ^new, :new}
      assert get(instance, [1], @options) == {:ok, :new}
    end
  end

  test "what was computed before an invalidation is not kept after it, if its time is told" do
    instance = start_warm!()
    since = AdaptiveCache.mark(instance: instance)
    AdaptiveCache.invalidate({:key, "embed", [1]}, instance: instance)
    assert put(instance, [1], :old, %{since: since}) == {:not_cached, "invalidated meanwhile"}
    since = AdaptiveCache.mark(instance: instance)
    assert put(instance, [1], :new, %{since: since}) == :cached
  end

  test "others are left alone" do
    instance = start_warm!()
    put(instance, [1], 1, %{ref: "a"})
    put(instance, [2], 2, %{ref: "b"})
    AdaptiveCache.invalidate({:method, "other"}, instance: instance)
    AdaptiveCache.invalidate({:method, {"Index", "embed"}}, instance: instance)
    assert get(instance, [1], ref: "a") == {:ok, 1}
    assert get(instance, [2], ref: "b") == {:ok, 2}
  end

  test "an instance goes with the worker in which its creation was told" do
    instance = start_warm!()
    warm_class(instance)

    # Every attached instance sees the events, so the names are this test's own.
    for worker <- ["cache-here", "cache-there"] do
      created = %{python_class: "Index", success: true, ref: "in-" <> worker, worker_id: worker}
      :telemetry.execute([:dspex, :bridge, :create_instance, :stop], %{duration: 1}, created)
      metadata = %{ref: "in-" <> worker, python_class: "Index"}
      assert put(instance, [1], worker, metadata) == :cached
    end

    died = %{lifetime_ms: 1, operations_handled: 1}
    metadata = %{worker_id: "cache-here", reason: :killed}
    :telemetry.execute([:snakepit, :worker, :died], died, metadata)
    assert get(instance, [1], ref: "in-cache-here", python_class: "Index") == :miss

    assert get(instance, [1], ref: "in-cache-there", python_class: "Index") ==
             {:ok, "cache-there"}
  end

  test "the memory of what was forgotten is given back" do
    instance = start_warm!()
    for number <- 1..1_000, do: put(instance, [number], number, %{ref: "r"})
    assert row(instance).entries == 1_001
    AdaptiveCache.invalidate({:ref, "r"}, instance: instance)

    DSPexTelemetry.Native.tick(
      DSPexTelemetry.TestInstance.native(instance),
      DSPexTelemetry.Instance.Clock.now()
    )

    # Those that share the place went too, which may be the one that is left.
    assert row(instance).entries in [0, 1]
  end

  # Writers raise a number, invalidate, and then raise the floor to it. Who has read the floor before it
  # fetches must not get less.
  for what <- [:all, {:method, "embed"}, {:ref, "r"}, {:worker, "w"}, {:key, "embed", [1]}] do
    test "nobody gets a stale result after #{inspect(what)} has returned, under load" do
      instance = start_warm!()
      numbers = :atomics.new(2, [])
      options = [worker_id: "w"] ++ @options
      [number, floor] = [1, 2]

      writer = fn ->
        for _ <- 1..2_000 do
          written = :atomics.add_get(numbers, number, 1)
          invalidate(instance, unquote(Macro.escape(what)))
          raise_to(numbers, floor, written)
          if rem(written, 10) == 0, do: :erlang.yield()
        end

        []
      end

      reader = fn ->
        for _ <- 1..10_000,
            least = :atomics.get(numbers, floor),
            got = fetch(instance, [1], options, fn -> :atomics.get(numbers, number) end),
            got < least,
            do: {got, least}
      end

      tasks = for fun <- [writer, writer, reader, reader, reader, reader], do: Task.async(fun)
      assert Task.await_many(tasks, 60_000) |> List.flatten() == []
      assert row(instance).calls > 10_000
    end
  end

  defp raise_to(numbers, floor, written) do
    known = :atomics.get(numbers, floor)

    if known < written and :atomics.compare_exchange(numbers, floor, known, written) != :ok,
      do: raise_to(numbers, floor, written)
  end
end
