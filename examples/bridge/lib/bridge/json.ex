defmodule Bridge.JSON do
  @moduledoc """
  JSON for the frames between Elixir and Python: Elixir has had a codec of its own only since
  1.18.

  Objects become maps with string keys (of repeated keys the last one counts), null becomes nil,
  and numbers with a fraction or an exponent become floats.
  """

  @type value ::
          nil | boolean() | number() | String.t() | atom() | [value()] | %{key() => value()}
  @type key :: String.t() | atom()

  @doc """
  The JSON text of a value; raises ArgumentError for what has none (tuples, structs, pids,
  binaries that are not UTF-8).

  ## Examples

      iex> Bridge.JSON.encode!(%{name: "Ada\\n", sizes: [1, 2.5, nil]})
      ~S({"name":"Ada\\n","sizes":[1,2.5,null]})
  """
  @spec encode!(value()) :: binary()
  def encode!(value), do: value |> encode() |> IO.iodata_to_binary()

  @doc """
  The value of a JSON text, or a sentence that says what was expected at which byte.

  ## Examples

      iex> Bridge.JSON.decode(~S({"a": [1, -2.5e1, "\\u00e9"]}))
      {:ok, %{"a" => [1, -25.0, "é"]}}

      iex> Bridge.JSON.decode("[1,]")
      {:error, "expected a value at byte 3"}
  """
  @spec decode(binary()) :: {:ok, value()} | {:error, String.t()}
  def decode(text) when is_binary(text) do
    with {:ok, value, rest} <- value(space(text)),
         "" <- space(rest) do
      {:ok, value}
    else
      {:error, expected, rest} ->
        {:error, "expected #{expected} at byte #{byte_size(text) - byte_size(rest)}"}

      rest ->
        {:error, "expected the end at byte #{byte_size(text) - byte_size(rest)}"}
    end
  end

  # Encoding

  defp encode(nil), do: "null"
  defp encode(true), do: "true"
  defp encode(false), do: "false"
  defp encode(value) when is_atom(value), do: value |> Atom.to_string() |> quoted()
  defp encode(value) when is_integer(value), do: Integer.to_string(value)
  defp encode(value) when is_float(value), do: Float.to_string(value)
  defp encode(value) when is_binary(value), do: quoted(value)
  defp encode([]), do: "[]"
  defp encode(list) when is_list(list), do: [?[, separated(list, &encode/1), ?]]
  defp encode(map) when is_map(map) and not is_struct(map), do: [?{, separated(map, &pair/1), ?}]
  defp encode(other), do: raise(ArgumentError, "there is no JSON for #{inspect(other)}")

  defp separated(items, encode), do: items |> Enum.map(encode) |> Enum.intersperse(?,)

  defp pair({key, value}) when is_binary(key), do: [quoted(key), ?:, encode(value)]
  defp pair({key, value}) when is_atom(key), do: [quoted(Atom.to_string(key)), ?:, encode(value)]
  defp pair({key, _}), do: raise(ArgumentError, "an object's key is a string: #{inspect(key)}")

  defp quoted(text) do
    unless String.valid?(text), do: raise(ArgumentError, "not UTF-8: #{inspect(text)}")
    [?", escaped(text, ""), ?"]
  end

  defp escaped("", done), do: done
  defp escaped(<<?", rest::binary>>, done), do: escaped(rest, <<done::binary, ~S(\")>>)
  defp escaped(<<?\\, rest::binary>>, done), do: escaped(rest, <<done::binary, ~S(\\)>>)
  defp escaped(<<?\n, rest::binary>>, done), do: escaped(rest, <<done::binary, ~S(\n)>>)
  defp escaped(<<?\r, rest::binary>>, done), do: escaped(rest, <<done::binary, ~S(\r)>>)
  defp escaped(<<?\t, rest::binary>>, done), do: escaped(rest, <<done::binary, ~S(\t)>>)

  defp escaped(<<control, rest::binary>>, done) when control < 0x20 do
    digits = control |> Integer.to_string(16) |> String.pad_leading(4, "0")
    escaped(rest, <<done::binary, ~S(\u), digits::binary>>)
  end

  defp escaped(<<byte, rest::binary>>, done), do: escaped(rest, <<done::binary, byte>>)

  # Decoding: every function takes the text from where it is and returns
  # {:ok, value, rest} or {:error, what was expected, rest}.

  defp value(<<?{, rest::binary>>), do: object(space(rest))
  defp value(<<?[, rest::binary>>), do: array(space(rest))
  defp value(<<?", rest::binary>>), do: string(rest, "")
  defp value(<<"null", rest::binary>>), do: {:ok, nil, rest}
  defp value(<<"true", rest::binary>>), do: {:ok, true, rest}
  defp value(<<"false", rest::binary>>), do: {:ok, false, rest}
  defp value(<<c, _::binary>> = text) when c == ?- or c in ?0..?9, do: number(text)
  defp value(rest), do: {:error, "a value", rest}

  defp array(<<?], rest::binary>>), do: {:ok, [], rest}
  defp array(text), do: elements(text, [])

  defp elements(text, done) do
    with {:ok, value, rest} <- value(text) do
      case space(rest) do
        <<?,, rest::binary>> -> elements(space(rest), [value | done])
        <<?], rest::binary>> -> {:ok, Enum.reverse(done, [value]), rest}
        rest -> {:error, ", or ]", rest}
      end
    end
  end

  defp object(<<?}, rest::binary>>), do: {:ok, %{}, rest}
  defp object(text), do: members(text, [])

  defp members(text, done) do
    with {:ok, key, rest} <- key(text),
         {:ok, rest} <- colon(space(rest)),
         {:ok, value, rest} <- value(space(rest)) do
      case space(rest) do
        <<?,, rest::binary>> -> members(space(rest), [{key, value} | done])
        <<?}, rest::binary>> -> {:ok, Map.new(Enum.reverse(done, [{key, value}])), rest}
        rest -> {:error, ", or }", rest}
      end
    end
  end

  defp key(<<?", rest::binary>>), do: string(rest, "")
  defp key(rest), do: {:error, "a key", rest}

  defp colon(<<?:, rest::binary>>), do: {:ok, rest}
  defp colon(rest), do: {:error, ":", rest}

  defp string(<<?", rest::binary>>, done) do
    if String.valid?(done), do: {:ok, done, rest}, else: {:error, "UTF-8", rest}
  end

  defp string(<<?\\, rest::binary>>, done) do
    with {:ok, character, rest} <- escape(rest), do: string(rest, done <> character)
  end

  defp string(<<byte, rest::binary>>, done) when byte >= 0x20 do
    string(rest, <<done::binary, byte>>)
  end

  defp string(rest, _done), do: {:error, "the end of a string", rest}

  for {letter, character} <- %{?" => "\"", ?\\ => "\\", ?/ => "/", ?n => "\n", ?t => "\t"} do
    defp escape(<<unquote(letter), rest::binary>>), do: {:ok, unquote(character), rest}
  end

  for {letter, character} <- %{?r => "\r", ?b => "\b", ?f => "\f"} do
    defp escape(<<unquote(letter), rest::binary>>), do: {:ok, unquote(character), rest}
  end

  defp escape(<<?u, digits::binary-size(4), rest::binary>> = text) do
    case Base.decode16(digits, case: :mixed) do
      {:ok, <<unit::16>>} -> utf16(unit, rest)
      :error -> {:error, "four hexadecimal digits", text}
    end
  end

  defp escape(rest), do: {:error, "an escape", rest}

  defp utf16(high, <<?\\, ?u, digits::binary-size(4), rest::binary>> = text)
       when high in 0xD800..0xDBFF do
    case Base.decode16(digits, case: :mixed) do
      {:ok, <<low::16>>} when low in 0xDC00..0xDFFF ->
        {:ok, <<0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)::utf8>>, rest}

      _ ->
        {:ok, "\uFFFD", text}
    end
  end

  # Half a pair: Python strings may hold one, Elixir strings may not.
  defp utf16(unit, rest) when unit in 0xD800..0xDFFF, do: {:ok, "\uFFFD", rest}
  defp utf16(unit, rest), do: {:ok, <<unit::utf8>>, rest}

  defp number(text) do
    case Regex.run(~r/^-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/, text) do
      nil -> {:error, "a number", text}
      [digits] -> {:ok, String.to_integer(digits), skip(text, digits)}
      [digits, _fraction] -> float(digits, digits, text)
      [digits, fraction, exponent] -> float(digits, fraction, exponent, text)
    end
  end

  # String.to_float/1 wants a fraction.
  defp float(digits, "", exponent, text) do
    float(String.replace_suffix(digits, exponent, ".0" <> exponent), digits, text)
  end

  defp float(digits, _fraction, _exponent, text), do: float(digits, digits, text)

  defp float(digits, original, text) do
    {:ok, String.to_float(digits), skip(text, original)}
  rescue
    ArgumentError -> {:error, "a number that fits a float", text}
  end

  defp skip(text, prefix) do
    binary_part(text, byte_size(prefix), byte_size(text) - byte_size(prefix))
  end

  defp space(<<c, rest::binary>>) when c in [?\s, ?\n, ?\t, ?\r], do: space(rest)
  defp space(rest), do: rest
end
