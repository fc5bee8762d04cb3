defmodule DSPexTelemetry.HdrEncoding do
  @moduledoc """
  Decodes HdrHistogram's V2 encoding, written from its description and from nothing of this
  library: a header of 40 bytes, then counts as ZigZag LEB128 numbers, in which a negative one
  stands for so many zeros.
  """

  import Bitwise

  # The last digit of a cookie is the format's version, the one before it the size of a word: 1
  # says that words are of variable length.
  @cookie 0x1C849313
  @compressed_cookie 0x1C849314

  @doc "What an encoded histogram holds. `:counts` maps a bucket's lowest value to its count."
  def decode!(
        <<@cookie::32, payload_length::32, normalizing_index_offset::signed-32, digits::32,
          lowest::64, highest::64, conversion_ratio::float-64,
          payload::binary-size(payload_length)>>
      ) do
    sub_buckets = sub_buckets(digits)

    counts =
      for {count, index} <- payload |> counts(0, []) |> Enum.reverse(), into: %{} do
        {value_at(index, sub_buckets), count}
      end

    %{
      normalizing_index_offset: normalizing_index_offset,
      digits: digits,
      lowest: lowest,
      highest: highest,
      conversion_ratio: conversion_ratio,
      counts: counts
    }
  end

  @doc "The V2 encoding in a compressed one."
  def inflate!(<<@compressed_cookie::32, length::32, compressed::binary-size(length)>>),
    do: :zlib.uncompress(compressed)

  @doc "The lowest value of the bucket that a value falls into."
  def lowest_equivalent(value, digits) do
    exponent = max(bit_length(value) - bit_length(sub_buckets(digits) - 1), 0)
    value >>> exponent <<< exponent
  end

  # A power of two is split so finely that the values at its lower end still differ by less than
  # the precision: twice as many counters as 10^digits, rounded up to a power of two.
  defp sub_buckets(digits), do: 1 <<< bit_length(2 * 10 ** digits - 1)

  defp bit_length(value), do: value |> Integer.digits(2) |> length()

  # The first row of counters covers the values below `sub_buckets`; every later one has only the
  # upper half, since the lower half is in the rows before it.
  defp value_at(index, sub_buckets) when index < sub_buckets, do: index

  defp value_at(index, sub_buckets) do
    half = div(sub_buckets, 2)
    row = div(index, half) - 1
    (rem(index, half) + half) <<< row
  end

  defp counts(<<>>, _index, counts), do: counts

  defp counts(payload, index, counts) do
    {number, rest} = leb128(payload, 0, 0)

    case bxor(number >>> 1, -(number &&& 1)) do
      zeros when zeros < 0 -> counts(rest, index - zeros, counts)
      0 -> counts(rest, index + 1, counts)
      count -> counts(rest, index + 1, [{count, index} | counts])
    end
  end

  # The ninth byte has no continuation bit, so that nine bytes hold 64 bits.
  defp leb128(<<byte, rest::binary>>, 56, value), do: {value ||| byte <<< 56, rest}

  defp leb128(<<0::1, bits::7, rest::binary>>, shift, value),
    do: {value ||| bits <<< shift, rest}

  defp leb128(<<1::1, bits::7, rest::binary>>, shift, value),
    do: leb128(rest, shift + 7, value ||| bits <<< shift)
end
