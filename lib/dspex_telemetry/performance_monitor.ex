defmodule DSPexTelemetry.PerformanceMonitor do
  @moduledoc """
  Performance of method calls: what they took in a window, and how that changed.

      DSPexTelemetry.PerformanceMonitor.report(window: :last_minute)

  Every instance has a monitor, which every minute (option `:summary_interval`) emits the event
  `[:dspex, :performance, :summary]` for each method that completed a call since the last time, and
  logs one line about the methods that took most time. The event has

    * measurements: `avg_duration_us`, `max_duration_us`, `error_rate`, `count`, `p50_us`, `p95_us`,
      `p99_us`
    * metadata: `method`, `python_class`, `instance`, `interval` (see `DSPexTelemetry.Window`)

  Latencies that leave their usual range are told by `DSPexTelemetry.Alert`.
  """

  use GenServer

  require Logger

  alias DSPexTelemetry.{Alert, Native, Window}
  alias DSPexTelemetry.Instance.{Clock, Lookup}
  alias DSPexTelemetry.Report.Table

  @summary [:dspex, :performance, :summary]

  @typedoc """
  Calls of one method of one class. Numbers that end in `_us` are microseconds. `change` compares
  with the window before: 0.5 is half as much again, but for `error_rate` it is the difference of
  the two; `nil` where there is nothing to compare with.
  """
  @type row :: %{
          method: String.t(),
          python_class: String.t(),
          count: pos_integer(),
          errors: non_neg_integer(),
          error_rate: float(),
          calls_per_second: float(),
          total_us: float(),
          avg_us: float(),
          max_us: float(),
          p50_us: float(),
          p95_us: float(),
          p99_us: float(),
          change: %{
            calls_per_second: float() | nil,
            error_rate: float() | nil,
            avg_us: float() | nil,
            p95_us: float() | nil
          },
          interval: Window.interval()
        }

  @doc """
  A row for each method and class that completed a call in the window, those that took most time in
  total first.

  Options:

    * `:window` - see `DSPexTelemetry.Window`; `:last_minute` by default. Only windows up to now,
      other than `:since_start`, have a window before to compare with.
    * `:instance` - the instance's name

  Every row says in `:interval` which time it covers.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Monitored)
      iex> DSPexTelemetry.Emit.call_method(%{method: "rank", python_class: "Doc"}, fn -> :error end)
      iex> rows = DSPexTelemetry.PerformanceMonitor.report(instance: MyApp.Monitored)
      iex> row = Enum.find(rows, &(&1.method == "rank"))
      iex> {row.python_class, row.count, row.errors, row.error_rate}
      {"Doc", 1, 1, 1.0}
  """
  @spec report(keyword()) :: [row()]
  def report(options \\ []) do
    {window, options} = Keyword.pop(options, :window, :last_minute)
    %{interval: interval, rows: rows} = fetch(window, DSPexTelemetry.instance!(options))
    Enum.map(rows, &Map.put(&1, :interval, interval))
  end

  @doc false
  # The rows with the intervals that they cover and compare with.
  @spec fetch(Window.t(), atom()) :: %{
          interval: Window.interval(),
          previous: Window.interval() | nil,
          rows: [map()]
        }
  def fetch(window, instance) do
    window = Window.native!(window)
    Native.performance(Lookup.native!(instance), window, Clock.now())
  end

  @doc """
  The name of the event.

      iex> DSPexTelemetry.PerformanceMonitor.event()
      [:dspex, :performance, :summary]
  """
  @spec event() :: [atom()]
  def event, do: @summary

  @doc false
  def start_link(options), do: GenServer.start_link(__MODULE__, options)

  @impl true
  def init(options) do
    handle = Lookup.fetch!(options.name)
    schedule(options)
    {:ok, %{native: handle.native, options: options, until: handle.summarised_until_ms}}
  end

  @impl true
  def handle_info(:summarise, %{native: native, options: options} = state) do
    # A slice ends here, so that each call is in one summary. How far that has come is kept where it
    # survives this process, and before anybody is told, for the same reason.
    {now_ms, _unix_ms} = now = Clock.now()
    :ok = Native.end_slice(native, now)
    from_ms = :atomics.exchange(state.until, 1, now_ms)
    performance = Native.performance(native, {:between, from_ms, now_ms}, now)
    Enum.each(performance.rows, &emit(&1, performance.interval, options.name))
    if performance.rows != [], do: Logger.info(fn -> line(performance) end)
    schedule(options)
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp schedule(%{summary_interval: :infinity}), do: :ok

  defp schedule(%{summary_interval: interval}),
    do: Process.send_after(self(), :summarise, interval)

  defp emit(row, interval, instance) do
    measurements = %{
      avg_duration_us: row.avg_us,
      max_duration_us: row.max_us,
      error_rate: row.error_rate,
      count: row.count,
      p50_us: row.p50_us,
      p95_us: row.p95_us,
      p99_us: row.p99_us
    }

    metadata = %{
      method: row.method,
      python_class: row.python_class,
      instance: instance,
      interval: interval
    }

    :telemetry.execute(@summary, measurements, metadata)
  end

  @most_rows 3

  defp line(%{interval: interval, rows: rows}) do
    count = rows |> Enum.map(& &1.count) |> Enum.sum()
    errors = rows |> Enum.map(& &1.errors) |> Enum.sum()
    {shown, more} = Enum.split(rows, @most_rows)
    more = if more == [], do: "", else: ", and #{length(more)} more"

    "Performance in #{Table.duration(interval.duration_ms * 1_000)}: #{count} calls, " <>
      "#{percent(errors / count)} errors; most time in " <>
      Enum.map_join(shown, ", ", &method/1) <> more
  end

  defp method(row) do
    "#{Alert.method(row)} (#{row.count}, p95 #{Table.duration(row.p95_us)}#{trend(row.change.p95_us)}, " <>
      "#{percent(row.error_rate)} errors)"
  end

  defp trend(nil), do: ""
  defp trend(change) when change >= 0, do: " +#{percent(change)}"
  defp trend(change), do: " #{percent(change)}"

  defp percent(rate), do: :erlang.float_to_binary(rate * 100, decimals: 1) <> "%"
end
