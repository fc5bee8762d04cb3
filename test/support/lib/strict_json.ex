defmodule DSPexTelemetry.StrictJSON do
  @moduledoc """
  Decodes JSON as RFC 8259 has it and raises at anything else: keys that occur twice, numbers with
  leading zeros, text after the value, control characters in strings.
  """

  @doc "The value of a JSON text. Objects are maps with string keys, `null` is `nil`."
  def decode!(text) when is_binary(text) do
    {value, rest} = text |> skip() |> value()
    "" = skip(rest)
    value
  end

  defp value("{" <> rest), do: rest |> skip() |> members(%{}, :first)
  defp value("[" <> rest), do: rest |> skip() |> items([], :first)
  defp value("\"" <> rest), do: string(rest, [])
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("null" <> rest), do: {nil, rest}
  defp value(text), do: number(text)

  defp members("}" <> rest, members, place) when place != :comma, do: {members, rest}

  defp members("\"" <> rest, members, _place) do
    {key, rest} = string(rest, [])
    ":" <> rest = skip(rest)
    {value, rest} = rest |> skip() |> value()
    false = Map.has_key?(members, key)
    members = Map.put(members, key, value)

    case skip(rest) do
      "," <> rest -> rest |> skip() |> members(members, :comma)
      "}" <> rest -> {members, rest}
    end
  end

  defp items("]" <> rest, items, place) when place != :comma, do: {Enum.reverse(items), rest}

  defp items(text, items, _place) do
    {item, rest} = value(text)

    case skip(rest) do
      "," <> rest -> rest |> skip() |> items([item | items], :comma)
      "]" <> rest -> {Enum.reverse([item | items]), rest}
    end
  end

  defp string("\"" <> rest, parts), do: {parts |> Enum.reverse() |> IO.iodata_to_binary(), rest}

  defp string("\\u" <> <<hex::binary-size(4), rest::binary>>, parts) do
    case {String.to_integer(hex, 16), rest} do
      {high, "\\u" <> <<hex::binary-size(4), rest::binary>>} when high in 0xD800..0xDBFF ->
        low = String.to_integer(hex, 16)
        true = low in 0xDC00..0xDFFF
        string(rest, [<<0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)::utf8>> | parts])

      {code, rest} ->
        string(rest, [<<code::utf8>> | parts])
    end
  end

  for {escape, char} <-
        [{?b, ?\b}, {?f, ?\f}, {?n, ?\n}, {?r, ?\r}, {?t, ?\t}] ++
          Enum.map(~c("\\/), &{&1, &1}) do
    defp string(<<?\\, unquote(escape), rest::binary>>, parts),
      do: string(rest, [unquote(char) | parts])
  end

  defp string(<<char::utf8, rest::binary>>, parts) when char >= 0x20 and char != ?\\,
    do: string(rest, [<<char::utf8>> | parts])

  defp number(text) do
    [number] = Regex.run(~r/^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/, text)
    rest = binary_part(text, byte_size(number), byte_size(text) - byte_size(number))
    {parse(number), rest}
  end

  defp parse(number) do
    case Regex.run(~r/^([^eE.]+)(\.[0-9]+)?(?:[eE](.+))?$/, number) do
      [_all, integer] -> String.to_integer(integer)
      [_all, integer, fraction] -> String.to_float(integer <> fraction)
      [_all, integer, "", exponent] -> String.to_float("#{integer}.0e#{exponent}")
      [_all, integer, fraction, exponent] -> String.to_float("#{integer}#{fraction}e#{exponent}")
    end
  end

  defp skip(<<space, rest::binary>>) when space in ~c( \t\n\r), do: skip(rest)
  defp skip(text), do: text
end
