defmodule DSPexTelemetry.Markdown do
  @moduledoc "What stands in a Markdown file: code, headings and links."

  @type block :: %{
          language: String.t(),
          code: String.t(),
          line: pos_integer(),
          heading: String.t() | nil
        }

  @doc """
  The fenced blocks of a text with the language that each has, the line on which it begins, and the heading
  that it stands under.
  """
  @spec blocks(String.t()) :: [block()]
  def blocks(text) do
    {open, blocks, _heading} =
      text
      |> String.split("\n")
      |> Enum.with_index(1)
      |> Enum.reduce({nil, [], nil}, &line/2)

    if open, do: raise(ArgumentError, "the block in line #{open.line - 1} does not end")
    Enum.reverse(blocks)
  end

  defp line({text, number}, {nil, blocks, heading}) do
    case Regex.run(~r/^(\s*)```(\S*)\s*$/, text) do
      [_all, indentation, language] ->
        open = %{language: language, code: [], line: number + 1, heading: heading}
        {Map.put(open, :indentation, byte_size(indentation)), blocks, heading}

      nil ->
        {nil, blocks, heading(text) || heading}
    end
  end

  defp line({text, _number}, {open, blocks, heading}) do
    if text =~ ~r/^\s*```\s*$/ do
      code = open.code |> Enum.reverse() |> Enum.map_join(&(unindent(&1, open) <> "\n"))
      {nil, [open |> Map.put(:code, code) |> Map.delete(:indentation) | blocks], heading}
    else
      {%{open | code: [text | open.code]}, blocks, heading}
    end
  end

  defp unindent(text, %{indentation: spaces}),
    do: String.replace(text, ~r/^ {0,#{spaces}}/, "")

  defp heading(text) do
    with [_all, heading] <- Regex.run(~r/^\#{1,6} (.*)$/, text), do: heading
  end

  @doc "The one block of a language under a heading."
  @spec block!(String.t(), String.t(), String.t()) :: String.t()
  def block!(text, heading, language \\ "elixir") do
    case Enum.filter(blocks(text), &(&1.heading == heading and &1.language == language)) do
      [block] -> block.code
      blocks -> raise ArgumentError, "#{length(blocks)} blocks of #{language} under #{heading}"
    end
  end

  @doc "The text without its blocks."
  @spec prose(String.t()) :: String.t()
  def prose(text), do: Regex.replace(~r/^(\s*)```.*?^\1```\s*$/ms, text, "")

  @doc "Where the links and images of a text lead."
  @spec links(String.t()) :: [String.t()]
  def links(text) do
    text = Regex.replace(~r/`[^`\n]*`/, prose(text), "code")
    for [_all, target] <- Regex.scan(~r/\]\(([^)\s]+)\)/, text), do: target
  end

  @doc "The anchors that the headings of a text have where it is shown as HTML."
  @spec anchors(String.t()) :: [String.t()]
  def anchors(text) do
    for [_all, heading] <- Regex.scan(~r/^\#{1,6} (.*)$/m, prose(text)) do
      heading
      |> String.replace(~r/\[([^\]]*)\]\([^)]*\)/, "\\1")
      |> String.downcase()
      |> String.replace(~r/[^\w\s-]/u, "")
      |> String.replace(" ", "-")
    end
  end

  @doc """
  The expressions of an `iex` session, without what they return: what stands after `iex>` and the `...>` below
  it.
  """
  @spec inputs(String.t()) :: [String.t()]
  def inputs(code) do
    code
    |> String.split("\n")
    |> Enum.reduce([], fn line, inputs ->
      case {Regex.run(~r/^(iex|\.\.\.)(?:\(\d+\))?> ?(.*)$/, line), inputs} do
        {[_all, "iex", input], inputs} -> [input | inputs]
        {[_all, "...", more], [input | inputs]} -> [input <> "\n" <> more | inputs]
        {nil, inputs} -> inputs
      end
    end)
    |> Enum.reverse()
  end
end
