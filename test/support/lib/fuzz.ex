defmodule DSPexTelemetry.Fuzz do
  @moduledoc """
  Damage to bytes and terms, by a seed that says all of it.

  `FUZZ_SECONDS` is how long each decoder gets, 2 by default. A case that fails names its seed; with `FUZZ_SEED` set to
  it, that case is the first.
  """

  import ExUnit.Assertions

  @longest_piece 64
  @lengths [
    <<0xFF, 0xFF, 0xFF, 0xFF>>,
    <<0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1>>,
    "18446744073709551616",
    "-1",
    "\r\n",
    "\r\n\r\n",
    <<0>>
  ]

  @doc "The files of a folder, as `{name, bytes}`."
  @spec corpus(Path.t()) :: [{String.t(), binary()}]
  def corpus(folder) do
    for name <- folder |> File.ls!() |> Enum.sort(),
        do: {name, File.read!(Path.join(folder, name))}
  end

  @doc "Runs one case after another until the time is over, each with random numbers of its own. Returns how many."
  @spec run((() -> term())) :: pos_integer()
  def run(try_case) do
    seconds = String.to_integer(System.get_env("FUZZ_SECONDS", "2"))

    seed =
      case System.get_env("FUZZ_SEED") do
        nil -> System.system_time(:microsecond)
        seed -> String.to_integer(seed)
      end

    run(try_case, seed, 0, System.monotonic_time(:millisecond) + seconds * 1_000)
  end

  defp run(try_case, first, cases, end_ms) do
    seed = first + cases
    :rand.seed(:exsss, seed)

    try do
      try_case.()
    rescue
      error -> flunk("FUZZ_SEED=#{seed} tries this case first\n" <> Exception.message(error))
    end

    if System.monotonic_time(:millisecond) < end_ms,
      do: run(try_case, first, cases + 1, end_ms),
      else: cases + 1
  end

  @doc "Bytes after one to eight changes. Pieces of `other` may come in."
  @spec bytes(binary(), binary()) :: binary()
  def bytes(bytes, other),
    do: Enum.reduce(1..:rand.uniform(8), bytes, fn _, bytes -> change(bytes, other) end)

  defp change(bytes, other) do
    at = :rand.uniform(byte_size(bytes) + 1) - 1
    size = min(:rand.uniform(@longest_piece), byte_size(bytes) - at)
    <<before::binary-size(at), piece::binary-size(size), rest::binary>> = bytes

    case :rand.uniform(6) do
      1 -> before <> flip(piece) <> rest
      2 -> before
      3 -> before <> rest
      4 -> before <> piece <> piece <> rest
      5 -> before <> Enum.random(@lengths) <> rest
      6 -> before <> binary_part(other, 0, :rand.uniform(byte_size(other) + 1) - 1)
    end
  end

  defp flip(<<byte, rest::binary>>),
    do: <<Bitwise.bxor(byte, Bitwise.bsl(1, :rand.uniform(8) - 1)), rest::binary>>

  defp flip(<<>>), do: <<:rand.uniform(256) - 1>>

  @doc "A term of which one part is another: damaged, left out, doubled, or one of `hostile`."
  @spec term(term(), [term()]) :: term()
  def term(term, hostile) do
    if :rand.uniform(3) == 1, do: Enum.random(hostile), else: part(term, hostile)
  end

  defp part([_ | _] = list, hostile) do
    at = :rand.uniform(length(list)) - 1

    case :rand.uniform(6) do
      1 -> List.delete_at(list, at)
      2 -> list ++ list
      3 -> list ++ :improper
      _ -> List.update_at(list, at, &term(&1, hostile))
    end
  end

  defp part(tuple, hostile) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> part_of_tuple(hostile) |> List.to_tuple()

  defp part(map, hostile) when is_map(map) and map_size(map) > 0 do
    key = map |> Map.keys() |> Enum.random()

    case :rand.uniform(5) do
      1 -> Map.delete(map, key)
      2 -> Map.put(map, Enum.random(hostile), 1)
      _ -> Map.update!(map, key, &term(&1, hostile))
    end
  end

  defp part(binary, _hostile) when is_binary(binary), do: bytes(binary, binary)

  defp part(integer, _hostile) when is_integer(integer),
    do: Enum.random([-integer, integer + 1, integer * 2 ** 40, integer * 2 ** 70, integer / 1])

  defp part(_term, hostile), do: Enum.random(hostile)

  defp part_of_tuple([], _hostile), do: []

  defp part_of_tuple(items, hostile) do
    at = :rand.uniform(length(items)) - 1

    if :rand.uniform(4) == 1,
      do: List.delete_at(items, at),
      else: List.update_at(items, at, &term(&1, hostile))
  end
end
