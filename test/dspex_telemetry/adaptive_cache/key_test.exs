defmodule DSPexTelemetry.AdaptiveCache.KeyTest do
  use ExUnit.Case, async: true

  import Bitwise
  import DSPexTelemetry.TestCache

  setup do: {:ok, instance: start_warm!()}

  # Whether what is kept by one is found by the other.
  defp same?(instance, left, right) do
    unique = make_ref()
    assert put(instance, left, unique) == :cached
    get(instance, right) == {:ok, unique}
  end

  test "equal maps find each other, whatever order they were made in", %{instance: instance} do
    for size <- [2, 5, 31, 32, 33, 100, 1_000] do
      pairs = for number <- 1..size, do: {number * 7919, "#{number}"}
      one = Map.new(pairs)
      # Grown beyond the other and shrunk again, in another order.
      more = for number <- 1..200, do: {{:other, number}, number}

      other = (more ++ Enum.shuffle(pairs)) |> Map.new() |> Map.drop(Enum.map(more, &elem(&1, 0)))

      assert one == other
      assert same?(instance, [%{nested: one}], [%{nested: other}])
      refute same?(instance, [one], [Map.put(one, 7919, "x")])
      refute same?(instance, [one], [Map.delete(one, 7919)])
    end
  end

  test "what only compares equal differs", %{instance: instance} do
    for {left, right} <- [
          {1, 1.0},
          {[1], [1.0]},
          {%{1 => 1}, %{1.0 => 1}},
          {:a, "a"},
          {~c"a", "a"},
          {[], %{}},
          {{}, []},
          {nil, []},
          {true, :True},
          {[1, 2], {1, 2}},
          {[[1], 2], [[1, 2]]},
          {[1 | 2], [1, 2]},
          {["ab", "c"], ["a", "bc"]},
          {1 <<< 70, (1 <<< 70) + 1},
          {1 <<< 63, -(1 <<< 63)},
          {%{a: 1, b: 2}, %{a: 2, b: 1}},
          {%{a: %{b: 1}}, %{a: :b}}
        ] do
      refute same?(instance, left, right), "#{inspect(left)} found #{inspect(right)}"
      assert same?(instance, left, left)
      assert same?(instance, right, right)
    end
  end

  test "a part of a binary is the same as a copy of it", %{instance: instance} do
    <<_, part::binary-size(100), _::binary>> = :crypto.strong_rand_bytes(1_000)
    assert same?(instance, [part], [:binary.copy(part)])
    <<_::1, unaligned::binary-size(10), _::bitstring>> = part
    assert same?(instance, [unaligned], [:binary.copy(unaligned)])
  end

  test "pids, references, ports and large integers are arguments like others", %{
    instance: instance
  } do
    other = spawn(fn -> :ok end)
    port = hd(Port.list())

    for {left, right} <- [
          {self(), other},
          {make_ref(), make_ref()},
          {port, self()},
          {1 <<< 1_000, 1 <<< 1_001},
          {[self() | :improper], [self() | other]},
          {%DSPexTelemetry.AdaptiveCache.Failure{kind: :died}, %{kind: :died}}
        ] do
      assert same?(instance, [left], [left])
      refute same?(instance, [left], [right])
    end
  end

  test "a call with a function among its arguments runs", %{instance: instance} do
    bound = self()

    for fun <- [fn -> bound end, &is_map/1, &Enum.map/2] do
      args = [%{callback: fun}]
      assert fetch(instance, args, fn -> 1 end) == 1
      assert fetch(instance, args, fn -> 2 end) == 2
      assert put(instance, args, 1) == {:not_cached, "a function among the arguments"}
    end
  end

  test "a call with what the VM could only copy among its arguments runs", %{instance: instance} do
    for {argument, why} <- [
          {<<1::7>>, "a bit string among the arguments"},
          {1 <<< 8_192, "arguments larger than max_key_bytes"}
        ] do
      assert fetch(instance, [argument], fn -> 1 end) == 1
      assert fetch(instance, [argument], fn -> 2 end) == 2
      assert put(instance, [argument], 1) == {:not_cached, why}
    end
  end

  test "method, class and reference are part of the key, and no confusion between them", %{
    instance: instance
  } do
    metadatas = [
      %{},
      %{ref: "a"},
      %{ref: "b"},
      %{python_class: "a"},
      %{ref: "a", python_class: "a"}
    ]

    for _ <- 1..10, metadata <- metadatas, do: put(instance, :warm, :warm, metadata)
    for metadata <- metadatas, do: assert(put(instance, [1], metadata, metadata) == :cached)

    for metadata <- metadatas,
        do: assert(get(instance, [1], Keyword.new(metadata)) == {:ok, metadata})

    assert get(instance, [1], ref: :a) == {:ok, %{ref: "a"}}

    assert put(instance, [1], 1, %{ref: {:no, :text}}) ==
             {:not_cached, "method, class or reference is no text"}
  end

  test "random terms find themselves, however they were made, and nothing else", %{
    instance: instance
  } do
    :rand.seed(:exsss, {1, 2, 3})
    terms = for _ <- 1..500, do: term(4)
    for term <- terms, do: assert(put(instance, term, term) == :cached)

    for term <- terms do
      # The same by another way, which shares nothing with the first.
      copy = term |> :erlang.term_to_binary() |> :erlang.binary_to_term()
      assert {:ok, found} = get(instance, copy)
      assert found === term
    end
  end

  defp term(0),
    do: Enum.random([1, 1.0, -0.5, :a, "a", "", [], nil, 1 <<< 64, -(1 <<< 99), ~c"ab"])

  defp term(depth) do
    case :rand.uniform(6) do
      1 -> for _ <- 1..:rand.uniform(4), do: term(depth - 1)
      2 -> List.to_tuple(for _ <- 1..:rand.uniform(4), do: term(depth - 1))
      3 -> Map.new(1..:rand.uniform(40), fn _ -> {term((depth - 2) |> max(0)), term(0)} end)
      4 -> [term(depth - 1) | term(depth - 1)]
      _ -> term(0)
    end
  end
end
