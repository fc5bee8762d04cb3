defmodule Bridge.Detected do
  @moduledoc """
  The alerts of a run as text, and which of the staged ones are not as they must be.

  Of a staged error spike and a staged anomaly the beginning and the end must be told, each once.
  They may come more than once, one after the other: the machine adds real noise.
  """

  alias Bridge.Alerts
  alias DSPexTelemetry.Alert

  @spiking {"post", "Ledger"}
  @slow {"scan", "Ledger"}

  @names %{
    error_spike: "error spike",
    spike_over: "spike over",
    latency_anomaly: "latency anomaly",
    anomaly_over: "anomaly over",
    queue_wait: "queue wait"
  }

  @doc "The method whose errors are staged."
  @spec spiking() :: Alerts.key()
  def spiking, do: @spiking

  @doc "The method whose latency is staged."
  @spec slow() :: Alerts.key()
  def slow, do: @slow

  @doc "The section: what was staged, the summaries, and the latest of what else was noticed."
  @spec section(Alerts.told()) :: String.t()
  def section(told) do
    lines = Enum.map(told.staged, &line/1) ++ summaries(told.summaries) ++ others(told)
    Enum.join(["Detected" | if(lines == [], do: ["  nothing"], else: lines)], "\n")
  end

  @doc """
  A sentence for every staged alert that is missing or was not told once.

  `calls` is how often the slow method was called: the summaries must have as many.
  """
  @spec disagreements(Alerts.told(), non_neg_integer()) :: [String.t()]
  def disagreements(told, calls) do
    pair(told.staged, @spiking, :error_spike, :spike_over) ++
      pair(told.staged, @slow, :latency_anomaly, :anomaly_over) ++
      queue_wait(told.staged) ++ summary(told.summaries, calls)
  end

  defp pair(alerts, key, begins, ends) do
    kinds = for kind <- Alerts.kinds(alerts, key), kind in [begins, ends], do: kind

    # One that was not staged, on a busy machine, may still go on at the end.
    with [[^begins, ^ends] | more] <- Enum.chunk_every(kinds, 2),
         true <- Enum.all?(more, &(&1 in [[begins, ends], [begins]])) do
      []
    else
      _missing_or_told_twice ->
        told = if kinds == [], do: "never", else: Enum.map_join(kinds, ", ", &@names[&1])

        [
          "the #{@names[begins]} of #{name(key)} must be told once when it begins and once when it " <>
            "is over, and was told: #{told}"
        ]
    end
  end

  defp queue_wait(alerts) do
    if Enum.any?(alerts, &(&1.kind == :queue_wait)),
      do: [],
      else: ["a long wait for a worker was staged, and never told"]
  end

  defp summary(summaries, calls) do
    case Map.get(summaries.calls, @slow, 0) do
      ^calls -> []
      count -> ["the demo called #{name(@slow)} #{calls} times, the summaries say #{count}"]
    end
  end

  # Lines

  defp line(alert), do: row(alert.at_unix_ms, @names[alert.kind], text(alert))

  defp text(%{kind: :error_spike, measurements: numbers, metadata: metadata}) do
    within = (metadata.last_unix_ms - metadata.first_unix_ms) * 1_000

    "#{Alert.method(metadata)} failed #{numbers.error_count} times within #{duration(within)}" <>
      Alert.causes(metadata.causes)
  end

  defp text(%{kind: :spike_over, measurements: numbers, metadata: metadata}) do
    "#{Alert.method(metadata)} failed #{numbers.total} times in #{native(numbers.duration)}"
  end

  defp text(%{kind: :latency_anomaly, measurements: numbers, metadata: metadata}) do
    "#{Alert.method(metadata)} p95 #{duration(numbers.p95_us)}, usually #{range(numbers)}"
  end

  defp text(%{kind: :anomaly_over, measurements: numbers, metadata: metadata}) do
    "#{Alert.method(metadata)} " <>
      case metadata.reason do
        :back_in_range -> "p95 #{duration(numbers.p95_us)}, "
        :no_calls -> "not called any more, "
      end <> "after #{native(numbers.duration)}"
  end

  defp text(%{kind: :queue_wait, metadata: %{text: text}}), do: text

  defp summaries(%{last: nil}), do: []

  defp summaries(%{last: %{interval: interval, measurements: numbers} = last} = summaries) do
    [
      row(
        interval.to_unix_ms,
        "summary",
        "#{times(summaries.times)}, #{map_size(summaries.calls)} methods; most time in the last " <>
          "#{duration(interval.duration_ms * 1_000)}: #{name(last.key)}, " <>
          "#{numbers.count} calls, p95 #{duration(numbers.p95_us)}"
      )
    ]
  end

  defp times(1), do: "once"
  defp times(number), do: "#{number} times"

  defp others(%{others: []}), do: []

  defp others(%{others: others, others_count: count}) do
    what =
      if count == length(others), do: "#{count}", else: "the last #{length(others)} of #{count}"

    ["  Not staged, #{what}:" | Enum.map(others, &line/1)]
  end

  defp row(unix_ms, name, text) do
    time = unix_ms |> DateTime.from_unix!(:millisecond) |> Calendar.strftime("%H:%M:%S")
    "  #{time}  #{String.pad_trailing(name, 16)} #{text}"
  end

  defp range(%{lower_us: lower} = numbers) when lower == 0,
    do: "up to #{duration(numbers.upper_us)}"

  defp range(numbers), do: "#{duration(numbers.lower_us)} to #{duration(numbers.upper_us)}"
  defp name({method, class}), do: Alert.method(%{method: method, python_class: class})

  defp native(time), do: time |> System.convert_time_unit(:native, :microsecond) |> duration()

  defp duration(us) when us < 999.5, do: "#{round(us)}us"
  defp duration(us) when us < 999_500, do: decimals(us / 1_000) <> "ms"
  defp duration(us), do: decimals(us / 1_000_000) <> "s"

  defp decimals(number) when number < 9.995, do: :erlang.float_to_binary(number, decimals: 2)
  defp decimals(number) when number < 99.95, do: :erlang.float_to_binary(number, decimals: 1)
  defp decimals(number), do: :erlang.float_to_binary(number, decimals: 0)
end
