defmodule Bridge.Servers.Exposition do
  @moduledoc "Reads a scrape in the text format or in OpenMetrics, as far as counters go."

  @type series :: String.t()

  @doc """
  What may never go down, by series: counters, and the buckets, counts and sums of histograms.

  ## Examples

      iex> Bridge.Servers.Exposition.cumulative("# TYPE a_total counter\\na_total{b=\\"c d\\"} 2\\n")
      %{~S(a_total{b="c d"}) => 2.0}

      iex> Bridge.Servers.Exposition.cumulative("# TYPE a gauge\\na 2\\n")
      %{}
  """
  @spec cumulative(String.t()) :: %{series() => float()}
  def cumulative(text) do
    lines = String.split(text, "\n", trim: true)

    types =
      for "# TYPE " <> type <- lines, into: %{}, do: type |> String.split() |> List.to_tuple()

    for line <- lines,
        not String.starts_with?(line, "#"),
        # An exemplar follows a sharp; no label value of the demo has one.
        [sample | _] = String.split(line, " # "),
        {series, value} = split(sample),
        cumulative?(series, types),
        into: %{},
        do: {series, value}
  end

  @doc "The series of the first that are lower in the second, or not in it."
  @spec drops(%{series() => float()}, %{series() => float()}) :: [
          {series(), float(), float() | nil}
        ]
  def drops(before, now) do
    for {series, value} <- before, now[series] == nil or now[series] < value do
      {series, value, now[series]}
    end
  end

  # A label's value may have spaces, the number after it has none.
  defp split(sample) do
    [value | series] = sample |> String.split(" ") |> Enum.reverse()
    {value, ""} = Float.parse(value)
    {series |> Enum.reverse() |> Enum.join(" "), value}
  end

  defp cumulative?(series, types) do
    [name | _labels] = String.split(series, "{")

    types[name] == "counter" or types[String.replace_suffix(name, "_total", "")] == "counter" or
      types[String.replace(name, ~r/_(bucket|count|sum)$/, "")] == "histogram"
  end
end
