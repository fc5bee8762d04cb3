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

  # They take no column and change nothing of how a text looks.
  @invisible ~r/[\x{AD}\x{200B}-\x{200D}\x{2060}-\x{2064}\x{FE00}-\x{FE0F}\x{FEFF}]/u

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

  @doc """
  A cell for each key, no wider than `width` (at least 8), and no two that look alike.

  A text that is too long is cut in the middle, as names often begin or end alike. Where cells still
  look alike, a digest of the key stands at the end.
  """
  @spec distinct([{key, String.t()}], pos_integer()) :: %{key => String.t()} when key: term()
  def distinct(labels, width) do
    groups =
      labels
      |> Enum.uniq_by(fn {key, _text} -> key end)
      |> Enum.group_by(fn {_key, text} -> text |> middle(width) |> look() end)

    {alone, alike} = groups |> Map.values() |> Enum.split_with(&match?([_one], &1))
    cells = for [{key, text}] <- alone, into: %{}, do: {key, middle(text, width)}

    {cells, _taken} =
      for {key, text} <- alike |> Enum.concat() |> Enum.sort(),
          reduce: {cells, groups |> Map.keys() |> MapSet.new()} do
        {cells, taken} ->
          cell = digested(key, text, width, taken, 0)
          {Map.put(cells, key, cell), MapSet.put(taken, look(cell))}
      end

    cells
  end

  # More is left of the beginning than of the end.
  defp middle(text, width) do
    if width(text) <= width do
      text
    else
      tail = div(width - 1, 3)
      take(text, width - 1 - tail) <> "…" <> take_last(text, tail)
    end
  end

  defp digested(key, text, width, taken, salt) do
    digest = {key, salt} |> :erlang.phash2(0x10000) |> Integer.to_string(16)
    cell = fit(text, width - 5) <> "#" <> String.pad_leading(String.downcase(digest), 4, "0")

    if look(cell) in taken, do: digested(key, text, width, taken, salt + 1), else: cell
  end

  # What a reader sees of a cell.
  defp look(cell) do
    cell |> String.replace(@invisible, "") |> String.normalize(:nfc) |> String.trim_trailing()
  end

  defp take(text, width), do: text |> String.graphemes() |> within(width) |> Enum.join()

  defp take_last(text, width) do
    text
    |> String.graphemes()
    |> Enum.reverse()
    |> within(width)
    |> Enum.reverse()
    |> Enum.join()
  end

  defp within(graphemes, width) do
    graphemes
    |> Enum.reduce_while({[], width}, fn grapheme, {taken, left} ->
      case left - width(grapheme) do
        rest when rest >= 0 -> {:cont, {[grapheme | taken], rest}}
        _too_wide -> {:halt, {taken, left}}
      end
    end)
    |> elem(0)
    |> Enum.reverse()
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
