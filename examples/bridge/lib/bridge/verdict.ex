defmodule Bridge.Verdict do
  @moduledoc """
  What Python says of its own performance when it is asked, and whether that is what Elixir's
  report says.

  Python asks Elixir by a tool, so its numbers have been through JSON twice. They must be the
  same, one by one.
  """

  alias Bridge.Tally
  alias DSPexTelemetry.PerformanceMonitor

  @type answer :: %{String.t() => term()}

  # Asking is a call itself.
  @asking "Advisor"

  @doc "Has Python ask, about all the time since the start; counted like any call."
  @spec ask() :: {:ok, answer()} | {:error, Bridge.error()}
  def ask do
    with {:ok, ref} <- Tally.count({:instance, @asking}, Bridge.create_instance(@asking)) do
      Tally.count({:operation, {"verdict", @asking}}, Bridge.call_method(ref, "verdict", [0]))
    end
  end

  @doc "The section."
  @spec section({:ok, answer()} | {:error, Exception.t()}) :: String.t()
  def section({:ok, answer}), do: "Python's verdict, slowest first\n  #{answer["verdict"]}"
  def section({:error, error}), do: "Python's verdict\n  none: #{Exception.message(error)}"

  @doc """
  A sentence for every number on which Python and `DSPexTelemetry.PerformanceMonitor.report/1`
  do not agree. Calls per second go with the moment of asking, and are held against the length
  of the answer's own interval.
  """
  @spec disagreements({:ok, answer()} | {:error, Exception.t()}, [PerformanceMonitor.row()]) ::
          [String.t()]
  def disagreements({:error, error}, _rows),
    do: ["Python could not ask: #{Exception.message(error)}"]

  def disagreements({:ok, answer}, rows) do
    said = for row <- answer["methods"], into: %{}, do: {key(row), row}
    reported = for row <- rows, row = strings(row), into: %{}, do: {key(row), row}
    keys = Enum.uniq(Map.keys(said) ++ Map.keys(reported))

    rates(said, answer["interval"]) ++
      for {_method, class} = key <- Enum.sort(keys),
          class != @asking,
          number <- numbers(said[key], reported[key]),
          says = value(said[key], number),
          reports = value(reported[key], number),
          says != reports do
        "Python says #{number} of #{name(key)} is #{says}, the report says #{reports}"
      end
  end

  defp rates(said, interval) do
    seconds = interval["duration_ms"] / 1_000

    for {key, row} <- Enum.sort(said),
        abs(row["calls_per_second"] * seconds - row["count"]) > 0.001 * row["count"] do
      "Python says #{row["calls_per_second"]} calls per second of #{name(key)}, " <>
        "which are not #{row["count"]} in #{seconds} s"
    end
  end

  defp numbers(said, reported) do
    (Map.keys(said || %{}) ++ Map.keys(reported || %{}))
    |> Enum.uniq()
    |> Enum.reject(&(&1 == "calls_per_second"))
  end

  # As text: JSON must keep 1 and 1.0 apart, and a missing number is not one that is nil.
  defp value(nil, _number), do: "missing"

  defp value(row, number) do
    case row do
      %{^number => value} -> inspect(value)
      _ -> "missing"
    end
  end

  defp strings(row) do
    row
    |> Map.delete(:interval)
    |> Map.update!(:change, &Map.new(&1, fn {name, change} -> {to_string(name), change} end))
    |> Map.new(fn {name, value} -> {to_string(name), value} end)
  end

  defp key(row), do: {row["method"], row["python_class"]}
  defp name({method, class}), do: "#{class}.#{method}"
end
