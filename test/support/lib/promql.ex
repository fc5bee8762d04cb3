defmodule DSPexTelemetry.PromQL do
  @moduledoc """
  Which metrics and labels an expression of PromQL reads. Understands what our rules and runbooks
  use; that the expressions are valid, `promtool` says.
  """

  @token ~r/"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][\w:]*|\d[\w.]*|[!=]~|!=|\S/

  @grouping ~w(by without on ignoring group_left group_right)
  @operators ~w(and or unless offset bool)

  @type selector :: {metric :: String.t(), [{label :: String.t(), value :: String.t()}]}

  @doc "The selectors with the labels that they ask for, and the labels that are grouped by."
  @spec read(String.t()) :: %{selectors: [selector()], grouped: [String.t()]}
  def read(expression) do
    tokens = @token |> Regex.scan(expression) |> Enum.map(&hd/1)
    walk(tokens, %{selectors: [], grouped: []})
  end

  defp walk([], read), do: read

  defp walk([word, "(" | rest], read) when word in @grouping do
    {labels, [")" | rest]} = Enum.split_while(rest, &(&1 != ")"))
    walk(rest, %{read | grouped: read.grouped ++ Enum.reject(labels, &(&1 == ","))})
  end

  defp walk([word | rest], read) when word in @operators, do: walk(rest, read)

  # A function, or an aggregation before its argument or its grouping.
  defp walk([_function, next | rest], read) when next == "(" or next in @grouping,
    do: walk([next | rest], read)

  defp walk([metric, "{" | rest], read) do
    {matchers, ["}" | rest]} = Enum.split_while(rest, &(&1 != "}"))
    walk(rest, select(read, metric, matchers(matchers)))
  end

  defp walk([word | rest], read),
    do: walk(rest, if(word =~ ~r/^[a-zA-Z_:]/, do: select(read, word, []), else: read))

  defp select(read, metric, matchers),
    do: %{read | selectors: read.selectors ++ [{metric, matchers}]}

  defp matchers(tokens) do
    for [label, _operator, value] <- tokens |> Enum.reject(&(&1 == ",")) |> Enum.chunk_every(3),
        do: {label, String.slice(value, 1..-2//1)}
  end
end
