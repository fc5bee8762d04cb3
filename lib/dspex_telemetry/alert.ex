defmodule DSPexTelemetry.Alert do
  @moduledoc """
  Alerts: events that the library itself emits, each with a line in the log.

  They come from a process of the instance, at most so many at a time as option `:signal_limit`
  says. All carry `instance` in their metadata, the name of the instance that noticed.

  `[:dspex, :alerts, :error_spike]` - many errors of one method in a short time, and many of its
  calls (options `:error_spike_threshold`, `:error_spike_window`, `:error_spike_percent`). Logged as an
  error.

    * measurements: `error_count`, the errors within the window, and `repeats` if spikes of the method
      were held back since the last alert: how many
    * metadata: `method`, `python_class`, `causes` (a list of `%{kind, reason, count}`, the most
      frequent first, at most eight), `first_unix_ms` and `last_unix_ms` (when the first and the last
      of these errors came, in milliseconds since 1970)

  `[:dspex, :alerts, :error_spike_over]` - fewer than half as many errors as make a spike are in the
  window, or less than half the percentage of the calls failed throughout the window.

    * measurements: `duration` (native time units, from the first error to the end), `total` (errors)
    * metadata: as above; the causes are those of the whole spike

  Further spikes of a method within `:error_spike_repeat` milliseconds after an alert are *repeats*.
  They are neither logged nor emitted, but held back and counted: in `repeats` of the next alert, in
  `dspex_alerts_error_spike_total`, and in `:recent_spikes` of
  `DSPexTelemetry.ErrorAnalyzer.report/1`. A repeat that is still on after that time is an alert then,
  with all of its errors as `error_count`. If none is on, a warning says how many repeats there were.

  `[:dspex, :alerts, :latency_anomaly]` - the 0.95 quantile of a method in a slice of time is far
  from what it was in the slices before, once when that begins and once when it is over (options
  `:anomaly_deviations`, `:anomaly_min_calls`, `:anomaly_min_slices`).

    * measurements: `p95_us`, `median_us` (of the slices before), `mad_us` (their median absolute
      deviation), `lower_us` and `upper_us` (the usual range), `count` (calls in the slice) and, when
      it is over, `duration` in native time units
    * metadata: `method`, `python_class`, `state` (`:started` or `:over`), `direction` (`:above` or
      `:below`), `started_unix_ms` (when it began, in milliseconds since 1970) and, when it is over,
      `reason` (`:back_in_range` or `:no_calls`)

  Only logged, as warnings: repeats of error spikes, requests that waited too long for a worker (option
  `:queue_wait_threshold`), and the first event over a series limit.
  """

  require Logger

  alias DSPexTelemetry.Report.{Columns, Table}

  @events [
    [:dspex, :alerts, :error_spike],
    [:dspex, :alerts, :error_spike_over],
    [:dspex, :alerts, :latency_anomaly]
  ]

  @doc """
  The names of the events.

      iex> hd(DSPexTelemetry.Alert.events())
      [:dspex, :alerts, :error_spike]
  """
  @spec events() :: [[atom()]]
  def events, do: @events

  @doc false
  @spec raise({atom(), map()}, atom()) :: :ok
  def raise({:error_spike, spike}, instance) do
    {repeats, spike} = Map.pop(spike, :repeats, 0)

    Logger.error(fn ->
      "Error spike: #{method(spike)} failed #{spike.error_count} times within " <>
        "#{milliseconds(max(spike.last_unix_ms - spike.first_unix_ms, 1))}" <>
        "#{repeats(repeats)}#{causes(spike.causes)}"
    end)

    # When a spike is signalled, the total is the count.
    {measurements, metadata} = spike |> Map.delete(:total) |> Map.split([:error_count])
    repeated = if repeats > 0, do: %{repeats: repeats}, else: %{}
    emit(:error_spike, Map.merge(measurements, repeated), metadata, instance)
  end

  def raise({:error_spike_over, spike}, instance) do
    Logger.info(fn ->
      "Error spike over: #{method(spike)} failed #{spike.total} times in " <>
        "#{milliseconds(spike.duration_ms)}#{causes(spike.causes)}"
    end)

    # The end of a spike comes before its repeats.
    metadata = Map.drop(spike, [:total, :duration_ms, :repeats])
    measurements = %{total: spike.total, duration: native(spike.duration_ms)}
    emit(:error_spike_over, measurements, metadata, instance)
  end

  def raise({:error_spike_repeats, spikes}, _instance) do
    Logger.warning(fn ->
      "Error spikes: #{spikes.repeats} more of #{method(spikes)} since the last alert"
    end)
  end

  def raise({:latency_anomaly, %{state: :started} = anomaly}, instance) do
    Logger.warning(fn ->
      "Unusual latency: p95 of #{method(anomaly)} is #{Table.duration(anomaly.p95_us)}, " <>
        "usually #{range(anomaly)}"
    end)

    emit_anomaly(anomaly, %{}, [:duration_ms, :reason], instance)
  end

  def raise({:latency_anomaly, %{state: :over} = anomaly}, instance) do
    Logger.info(fn ->
      "Unusual latency of #{method(anomaly)} is over after #{milliseconds(anomaly.duration_ms)}: " <>
        case anomaly.reason do
          :back_in_range -> "p95 is #{Table.duration(anomaly.p95_us)}, usually #{range(anomaly)}"
          :no_calls -> "there were no more calls"
        end
    end)

    added = %{duration: native(anomaly.duration_ms)}
    emit_anomaly(anomaly, added, [:duration_ms], instance)
  end

  def raise({:queue_wait, wait}, _instance) do
    Logger.warning(fn ->
      "Long queue wait: #{printable(wait.command)} waited #{Table.duration(wait.wait_us)} for worker " <>
        "#{printable(wait.worker_id)}#{suppressed(wait.suppressed)}"
    end)
  end

  def raise({:queue_waits_suppressed, wait}, _instance) do
    Logger.warning(fn ->
      "Long queue waits: #{wait.suppressed} more of #{printable(wait.command)}"
    end)
  end

  def raise({:overflow, overflow}, instance) do
    Logger.warning(fn ->
      "Series limit of #{overflow.limit} reached for #{overflow.event} of #{inspect(instance)}: " <>
        "further label sets are counted in one series, otel_metric_overflow. Option :series_limit " <>
        "allows more"
    end)
  end

  @doc """
  The most frequent causes in words, with a colon in front; nothing if there is none.

      iex> DSPexTelemetry.Alert.causes([%{kind: "error", reason: "ArgumentError", count: 3}])
      ": 3 × error ArgumentError"
  """
  @spec causes([map()]) :: String.t()
  def causes([]), do: ""

  def causes(causes) do
    ": " <>
      (causes
       |> Enum.take(3)
       |> Enum.map_join(", ", &"#{&1.count} × #{printable(cause(&1))}"))
  end

  @doc """
  The kind and reason of a cause in words.

      iex> DSPexTelemetry.Alert.cause(%{kind: "exit", reason: "timeout"})
      "exit timeout"
  """
  @spec cause(%{
          :kind => String.t(),
          :reason => String.t(),
          optional(atom()) => term()
        }) :: String.t()
  def cause(%{kind: same, reason: same}), do: same
  def cause(%{kind: kind, reason: reason}), do: "#{kind} #{reason}"

  defp emit_anomaly(anomaly, added, without, instance) do
    {measurements, metadata} =
      anomaly
      |> Map.drop(without)
      |> Map.split([:p95_us, :median_us, :mad_us, :lower_us, :upper_us, :count])

    emit(:latency_anomaly, Map.merge(measurements, added), metadata, instance)
  end

  defp emit(name, measurements, metadata, instance) do
    metadata = Map.put(metadata, :instance, instance)
    :telemetry.execute([:dspex, :alerts, name], measurements, metadata)
  end

  @doc """
  The class and method of a row as one name, fit to be printed.

      iex> DSPexTelemetry.Alert.method(%{python_class: "Index", method: "search"})
      "Index.search"
  """
  @spec method(%{
          :method => String.t(),
          :python_class => String.t(),
          optional(atom()) => term()
        }) :: String.t()
  def method(row), do: printable("#{row.python_class}.#{row.method}")

  defp range(anomaly),
    do: "#{Table.duration(anomaly.lower_us)} to #{Table.duration(anomaly.upper_us)}"

  defp repeats(0), do: ""
  defp repeats(1), do: ", and 1 more spike since the last alert"
  defp repeats(count), do: ", and #{count} more spikes since the last alert"

  defp suppressed(0), do: ""
  defp suppressed(count), do: ", and #{count} more since the last warning"

  defp milliseconds(ms), do: Table.duration(ms * 1_000)
  defp native(ms), do: System.convert_time_unit(ms, :millisecond, :native)
  defp printable(text), do: Columns.printable(text)
end
