defmodule DSPexTelemetry.Report.Table do
  @moduledoc false
  # The report as text of at most 120 columns.

  import DSPexTelemetry.Report.Columns

  alias DSPexTelemetry.{Report, Window}

  @width 120
  @most_rows 50

  @numbers [
    {"calls", :count, :integer},
    {"errors", :errors, :integer},
    {"err %", :error_rate, :percent},
    {"mean", :mean_us, :duration},
    {"p50", :p50_us, :duration},
    {"p90", :p90_us, :duration},
    {"p95", :p95_us, :duration},
    {"p99", :p99_us, :duration},
    {"p99.9", :p999_us, :duration},
    {"max", :max_us, :duration}
  ]
  @number_width 8

  # In whatever unit a definition has.
  @measured [
    {"count", :count, :integer},
    {"mean", :mean, :measured},
    {"p50", :p50, :measured},
    {"p90", :p90, :measured},
    {"p95", :p95, :measured},
    {"p99", :p99, :measured},
    {"p99.9", :p999, :measured},
    {"max", :max, :measured}
  ]

  @spec render(Report.t()) :: String.t()
  def render(%Report{} = report) do
    [
      interval(report.interval),
      section("Method calls", report.operations, [{"method", :method}, {"class", :python_class}]),
      section("Instances created", report.instances, [{"class", :python_class}]),
      section("Tool calls", report.tools, [{"tool", :tool_name}]),
      sessions(report.sessions, report.variables),
      pool(report.pool),
      summaries(report.summaries)
    ]
    |> Enum.reject(&(&1 == []))
    |> Enum.intersperse("\n")
    |> IO.iodata_to_binary()
    |> String.trim_trailing()
  end

  @doc "A number of microseconds in the unit that fits, with three significant digits."
  @spec duration(number() | nil) :: String.t()
  def duration(nil), do: "-"
  def duration(us) when us < 0.9995, do: significant(us * 1_000, "ns")
  def duration(us) when us < 999.5, do: significant(us, "us")
  def duration(us) when us < 999_500, do: significant(us / 1_000, "ms")
  def duration(us) when us < 999_500_000, do: significant(us / 1_000_000, "s")
  def duration(us), do: significant(us / 3_600_000_000, "h")

  @doc "A time that a report covers, such as `10:15:00 to 10:16:07 UTC (67.0 s)`."
  @spec interval_text(Window.interval()) :: String.t()
  def interval_text(interval) do
    time = fn unix_ms ->
      unix_ms |> DateTime.from_unix!(:millisecond) |> Calendar.strftime("%H:%M:%S")
    end

    day = DateTime.from_unix!(interval.to_unix_ms, :millisecond) |> DateTime.to_date()

    "#{day}, #{time.(interval.from_unix_ms)} to #{time.(interval.to_unix_ms)} UTC " <>
      "(#{duration(interval.duration_ms * 1_000)})"
  end

  defp interval(interval), do: [interval_text(interval), "\n"]

  # Only there with option `metrics`.
  defp summaries([]), do: []

  defp summaries(rows) do
    rows =
      for row <- rows do
        labels = row.labels |> Enum.sort() |> Enum.map_join(",", fn {k, v} -> "#{k}=#{v}" end)
        %{row | name: if(labels == "", do: row.name, else: "#{row.name}{#{labels}}")}
      end

    section("Summaries", rows, [{"metric", :name}], @measured)
  end

  defp section(title, rows, labels, numbers \\ @numbers)
  defp section(title, [], _labels, _numbers), do: [title, "\n  none\n"]

  defp section(title, rows, labels, numbers) do
    {shown, more} = Enum.split(rows, @most_rows)
    # Two columns of indent, the numbers, and what is left for the labels.
    space = @width - 2 - length(numbers) * (@number_width + 1)
    width = div(space, length(labels)) - 1
    names = for {name, _key} <- labels, do: left(name, width)
    heads = for {name, _key, _type} <- numbers, do: right(name, @number_width)

    lines =
      for row <- shown do
        label_cells = for {_name, key} <- labels, do: left(printable(Map.fetch!(row, key)), width)

        number_cells =
          for {_name, key, type} <- numbers,
              do: right(number(type, Map.fetch!(row, key)), @number_width)

        line(label_cells ++ number_cells)
      end

    [title, "\n", line(names ++ heads), lines, more_rows(more)]
  end

  defp line(cells), do: ["  ", Enum.intersperse(cells, " "), "\n"]

  defp more_rows([]), do: []
  defp more_rows(more), do: "  ... and #{length(more)} more\n"

  defp sessions(sessions, variables) do
    reads = variables.get_found + variables.get_missed

    [
      "Sessions\n",
      "  created #{sessions.created}, expired #{by(sessions.expired)}\n",
      "  lifetime p50 #{milliseconds(sessions.lifetime_ms.p50)}, " <>
        "max #{milliseconds(sessions.lifetime_ms.max)}, " <>
        "operations p50 #{plain(sessions.operations.p50)}, " <>
        "max #{plain(sessions.operations.max)}\n",
      "  variables set #{by(variables.set)}\n",
      "  variables read #{reads}, found #{variables.get_found}, missed #{variables.get_missed}\n"
    ]
    |> clip()
  end

  defp pool(pool) do
    wait = pool.queue_wait_us

    [
      "Worker pool\n",
      "  size #{pool.size}, spawned #{pool.spawned}, died #{by(pool.died)}\n",
      "  startup p50 #{duration(pool.startup_us.p50)}, max #{duration(pool.startup_us.max)}\n",
      "  queue wait of #{wait.count} requests: p50 #{duration(wait.p50)}, " <>
        "p95 #{duration(wait.p95)}, p99 #{duration(wait.p99)}, max #{duration(wait.max)}\n"
    ]
    |> clip()
  end

  @doc "Counts by label: their sum and, in brackets, each of them, the largest first."
  @spec by(%{(String.t() | atom()) => non_neg_integer()}) :: String.t()
  def by(counts) when map_size(counts) == 0, do: "0"

  def by(counts) do
    total = counts |> Map.values() |> Enum.sum()

    parts =
      counts
      |> Enum.sort_by(fn {label, count} -> {-count, to_string(label)} end)
      |> Enum.map_join(", ", fn {label, count} -> printable("#{label} #{count}") end)

    "#{total} (#{parts})"
  end

  defp clip(lines) do
    for text <- lines, do: [text |> String.trim_trailing("\n") |> fit(@width), "\n"]
  end

  defp number(:integer, value), do: integer(value)
  defp number(:percent, rate), do: :erlang.float_to_binary(rate * 100, decimals: 2)
  defp number(:duration, us), do: duration(us)
  defp number(:measured, value), do: measured(value)

  # Four significant digits, or two where these would not fit.
  defp measured(value) when value == 0, do: "0"

  defp measured(value) do
    exponent = floor(:math.log10(abs(value)))

    cond do
      exponent in -2..4 ->
        :erlang.float_to_binary(value * 1.0, [:compact, decimals: max(3 - exponent, 1)])

      abs(exponent) < 99 ->
        :erlang.float_to_binary(value * 1.0, scientific: 1)

      true ->
        :erlang.float_to_binary(value * 1.0, scientific: 0)
    end
  end

  defp integer(value) when value < 10_000_000, do: Integer.to_string(value)
  defp integer(value) when value < 999_950_000, do: decimal(value / 1_000_000, 1) <> "M"
  defp integer(value), do: decimal(value / 1_000_000_000, 1) <> "G"

  defp milliseconds(nil), do: "-"
  defp milliseconds(ms), do: duration(ms * 1_000)

  defp plain(nil), do: "-"
  defp plain(value), do: value |> round() |> Integer.to_string()

  defp significant(value, unit) when value < 9.995, do: decimal(value, 2) <> unit
  defp significant(value, unit) when value < 99.95, do: decimal(value, 1) <> unit
  defp significant(value, unit), do: "#{round(value)}#{unit}"

  defp decimal(value, digits), do: :erlang.float_to_binary(value * 1.0, decimals: digits)
end
