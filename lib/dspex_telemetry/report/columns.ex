defmodule DSPexTelemetry.Report.Columns do
  @moduledoc false
  # Text in the columns of a terminal: characters that are two columns wide, or none, and those
  # that must not reach it.

  # The blocks that terminals draw two columns wide (Unicode's East Asian Width W and F, emoji).
  @wide [
    0x1100..0x115F,
    0x231A..0x231B,
    0x2329..0x232A,
    0x23E9..0x23F3,
    0x25FD..0x25FE,
    0x2614..0x2615,
    0x2648..0x2653,
    0x2B1B..0x2B1C,
    0x2B50..0x2B55,
    0x2E80..0xA4CF,
    0xA960..0xA97C,
    0xAC00..0xD7A3,
    0xF900..0xFAFF,
    0xFE30..0xFE6F,
    0xFF00..0xFF60,
    0xFFE0..0xFFE6,
    0x16FE0..0x18DFF,
    0x1AFF0..0x1B2FF,
    0x1F000..0x1FAFF,
    0x20000..0x3FFFD
  ]
  @combining [0x0300..0x036F, 0x1AB0..0x1AFF, 0x20D0..0x20FF, 0xFE00..0xFE0F, 0x200B..0x200D]

  # Control characters, line separators, and characters that turn the direction of writing.
  @unprintable ~r/[\x{00}-\x{1F}\x{7F}-\x{9F}\x{61C}\x{200E}\x{200F}\x{2028}-\x{202E}\x{2066}-\x{2069}]/u

  @doc "Text without the characters that would move the rest around."
  @spec printable(String.t()) :: String.t()
  def printable(text), do: String.replace(text, @unprintable, "?")

  @doc "How many columns a text takes."
  @spec width(String.t()) :: non_neg_integer()
  def width(text), do: for(<<char::utf8 <- text>>, reduce: 0, do: (sum -> sum + columns(char)))

  @doc "The text, cut to a width, with an ellipsis if something is missing."
  @spec fit(String.t(), pos_integer()) :: String.t()
  def fit(text, width) do
    if width(text) <= width, do: text, else: take(text, width - 1) <> "…"
  end

  @doc "Fits the text and fills up with spaces behind it."
  @spec left(String.t(), pos_integer()) :: String.t()
  def left(text, width) do
    text = fit(text, width)
    text <> String.duplicate(" ", width - width(text))
  end

  @doc "Fits the text and fills up with spaces before it."
  @spec right(String.t(), pos_integer()) :: String.t()
  def right(text, width) do
    text = fit(text, width)
    String.duplicate(" ", width - width(text)) <> text
  end

  defp take(text, width) do
    text
    |> String.graphemes()
    |> Enum.reduce_while({[], width}, fn grapheme, {taken, left} ->
      case left - width(grapheme) do
        rest when rest >= 0 -> {:cont, {[taken, grapheme], rest}}
        _too_wide -> {:halt, {taken, left}}
      end
    end)
    |> elem(0)
    |> IO.iodata_to_binary()
  end

  defp columns(char) when char < 0x0300, do: 1

  defp columns(char) do
    cond do
      Enum.any?(@combining, &(char in &1)) -> 0
      Enum.any?(@wide, &(char in &1)) -> 2
      true -> 1
    end
  end
end
