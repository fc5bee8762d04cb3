defmodule DSPexTelemetry.Dashboard.JSON do
  @moduledoc false
  # JSON with two spaces of indentation and the keys of an object in order, so that the same
  # dashboard is always the same text.

  @type value ::
          nil | boolean() | number() | String.t() | atom() | [value()] | %{key() => value()}
  @type key :: String.t() | atom()

  @doc """
  The text, with a newline at its end. Raises `ArgumentError` for a binary that is not UTF-8.

  ## Examples

      iex> DSPexTelemetry.Dashboard.JSON.encode(%{b: [1, 2.5], a: %{"c" => nil}})
      ~S({
        "a": {
          "c": null
        },
        "b": [
          1,
          2.5
        ]
      }
      )
  """
  @spec encode(value()) :: String.t()
  def encode(value), do: IO.iodata_to_binary([value(value, "\n"), ?\n])

  # `newline` is a line's end with the indentation of the line that follows.
  defp value(nil, _newline), do: "null"
  defp value(value, _newline) when is_boolean(value), do: Atom.to_string(value)
  defp value(value, _newline) when is_integer(value), do: Integer.to_string(value)
  defp value(value, _newline) when is_float(value), do: Float.to_string(value)
  defp value(value, _newline) when is_atom(value), do: string(Atom.to_string(value))
  defp value(value, _newline) when is_binary(value), do: string(value)
  defp value([], _newline), do: "[]"
  defp value(map, _newline) when map == %{}, do: "{}"

  defp value(list, newline) when is_list(list),
    do: [?[, items(list, newline, &value/2), newline, ?]]

  defp value(%{} = map, newline) do
    members =
      map
      |> Enum.map(fn {key, value} -> {to_string(key), value} end)
      |> Enum.sort_by(&elem(&1, 0))

    [?{, items(members, newline, &member/2), newline, ?}]
  end

  defp member({key, value}, newline), do: [string(key), ": ", value(value, newline)]

  defp items(items, newline, encode) do
    newline = newline <> "  "
    items |> Enum.map(&[newline, encode.(&1, newline)]) |> Enum.intersperse(?,)
  end

  defp string(text) do
    unless String.valid?(text), do: raise(ArgumentError, "not UTF-8: #{inspect(text)}")
    [?", for(<<char::utf8 <- text>>, do: character(char)), ?"]
  end

  defp character(?"), do: ~S(\")
  defp character(?\\), do: ~S(\\)
  defp character(?\n), do: ~S(\n)

  defp character(char) when char < 0x20,
    do: ["\\u", char |> Integer.to_string(16) |> String.pad_leading(4, "0")]

  defp character(char), do: <<char::utf8>>
end
