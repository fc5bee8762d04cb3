defmodule DSPexTelemetry.TextColumns do
  @moduledoc """
  How many columns text takes on a terminal: East Asian wide characters and emoji take two,
  combining marks none.
  """

  @wide [
    0x1100..0x115F,
    0x2E80..0x303E,
    0x3041..0xA4CF,
    0xAC00..0xD7A3,
    0xF900..0xFAFF,
    0xFE30..0xFE6F,
    0xFF00..0xFF60,
    0xFFE0..0xFFE6,
    0x1F300..0x1F64F,
    0x1F680..0x1F6FF,
    0x1F900..0x1FAFF,
    0x20000..0x3FFFD
  ]
  @combining [0x0300..0x036F, 0x1AB0..0x1AFF, 0x20D0..0x20FF, 0x200B..0x200B]

  def width(text), do: text |> String.to_charlist() |> Enum.map(&columns/1) |> Enum.sum()

  @doc "The beginning of a text, as long as it takes no more than so many columns."
  def take(text, columns) do
    text
    |> String.to_charlist()
    |> Enum.scan({0, nil}, fn char, {sum, _char} -> {sum + columns(char), char} end)
    |> Enum.take_while(fn {sum, _char} -> sum <= columns end)
    |> Enum.map(&elem(&1, 1))
    |> List.to_string()
  end

  defp columns(char) do
    cond do
      Enum.any?(@combining, &(char in &1)) -> 0
      Enum.any?(@wide, &(char in &1)) -> 2
      true -> 1
    end
  end
end
