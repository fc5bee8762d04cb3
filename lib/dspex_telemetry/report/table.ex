defmodule DSPexTelemetry.Report.Table do
  @moduledoc false
  # The report as text of at most 120 columns.

  import DSPexTelemetry.Report.Columns

  alias DSPexTelemetry.{Alert, Report, Window}

  @width 120
  @most_rows 50
  # Of what is read line by line.
  @most_methods 10
  @most_calls 5
  @moment "%Y-%m-%d, %H:%M:%S"

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

  # Where Python has measured calls, its mean stands beside theirs. Something has to make room for it.
  @with_python @numbers
               |> List.keydelete("p90", 0)
               |> List.insert_at(4, {"python", :python_mean_us, :duration})

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
      operations(report.operations),
      failures(report.operations),
      slowest(report.slowest),
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

  @doc """
  A time that a report covers, such as `2026-12-01, 10:15:00 to 10:16:07 UTC (67.0s)`.

  The end has a date of its own if it is on another day.
  """
  @spec interval_text(Window.interval()) :: String.t()
  def interval_text(interval) do
    from = DateTime.from_unix!(interval.from_unix_ms, :millisecond)
    to = DateTime.from_unix!(interval.to_unix_ms, :millisecond)
    same_day = DateTime.to_date(from) == DateTime.to_date(to)
    end_format = if same_day, do: "%H:%M:%S", else: @moment

    "#{Calendar.strftime(from, @moment)} to #{Calendar.strftime(to, end_format)} UTC " <>
      "(#{duration(interval.duration_ms * 1_000)})"
  end

  defp operations(rows) do
    # Only method calls have it, and not all of them.
    python? = Enum.any?(rows, & &1[:python_us])
    rows = for row <- rows, do: Map.put(row, :python_mean_us, row[:python_us][:mean])
    numbers = if python?, do: @with_python, else: @numbers
    section("Method calls", rows, [{"method", :method}, {"class", :python_class}], numbers)
  end

  # Only there if a call failed.
  defp failures(rows) do
    case for(%{reasons: [_ | _]} = row <- rows, do: row) do
      [] ->
        []

      failing ->
        {shown, more} = failing |> Enum.sort_by(& &1.errors, :desc) |> Enum.split(@most_methods)
        names = distinct(for(row <- shown, do: {row, Alert.method(row)}), 48)

        lines =
          for row <- shown do
            "  #{left(names[row], 48)} #{right(integer(row.errors), 8)}#{Alert.causes(row.reasons)}\n"
          end

        [clip(["Why calls fail\n" | lines]), more_rows(more)]
    end
  end

  # Only there if there was a call.
  defp slowest([]), do: []

  defp slowest(calls) do
    lines =
      for call <- Enum.take(calls, @most_calls) do
        time =
          call.at_unix_ms |> DateTime.from_unix!(:millisecond) |> Calendar.strftime("%H:%M:%S")

        known = for {name, id} <- found_by(call), id != nil, do: " #{name} #{printable(id)}"

        name = left(Alert.method(call), if(known == [], do: 100, else: 48))

        String.trim_trailing(
          "  #{time} #{right(duration(call.duration_us), @number_width)} #{name}#{known}"
        ) <> "\n"
      end

    clip(["Slowest calls\n" | lines])
  end

  defp found_by(call) do
    [
      failed: call.reason,
      worker: call.worker_id,
      trace: call.trace_id,
      correlation: call.correlation_id,
      session: call.session_id
    ]
  end

  defp interval(interval), do: [interval_text(interval), "\n"]

  # Only there with option `metrics`.
  defp summaries([]), do: []

  defp summaries(rows) do
    rows = for row <- rows, do: Map.put(row, :metric, {row.name, Enum.sort(row.labels)})
    section("Summaries", rows, [{"metric", :metric}], @measured)
  end

  defp section(title, rows, labels, numbers \\ @numbers)
  defp section(title, [], _labels, _numbers), do: [title, "\n  none\n"]

  defp section(title, rows, labels, numbers) do
    {shown, more} = Enum.split(rows, @most_rows)
    # Two columns of indent, the numbers, and what is left for the labels.
    space = @width - 2 - length(numbers) * (@number_width + 1)
    heads = for {name, _key, _type} <- numbers, do: right(name, @number_width)
    [names | label_rows] = label_rows(labels, shown, space)

    lines =
      for {label_cells, row} <- Enum.zip(label_rows, shown) do
        number_cells =
          for {_name, key, type} <- numbers,
              do: right(number(type, Map.fetch!(row, key)), @number_width)

        line(label_cells ++ number_cells)
      end

    [title, "\n", line(names ++ heads), lines, more_rows(more)]
  end

  defp label({name, []}), do: printable(name)

  defp label({name, labels}) do
    printable("#{name}{#{Enum.map_join(labels, ",", fn {key, value} -> "#{key}=#{value}" end)}}")
  end

  defp label(label), do: printable(label)

  # The cells of the labels, row by row, the names of the columns first. No two labels of a column
  # look alike.
  defp label_rows(labels, rows, space) do
    columns =
      for {name, key} <- labels do
        {name, for(row <- rows, do: {Map.fetch!(row, key), label(Map.fetch!(row, key))})}
      end

    needed =
      for {name, labels} <- columns do
        Enum.reduce(labels, width(name), fn {_label, text}, most -> max(most, width(text)) end)
      end

    columns
    |> Enum.zip_with(widths(needed, space - length(labels)), fn {name, labels}, width ->
      cells = distinct(labels, width)
      [left(name, width) | for({label, _text} <- labels, do: left(cells[label], width))]
    end)
    |> Enum.zip_with(& &1)
  end

  # Each of two columns has half, and one that needs more what the other does not need.
  defp widths([_one], space), do: [space]

  defp widths([first, second], space) do
    half = div(space, 2)
    # No less than `distinct/2` wants.
    [first, second] = [max(first, 8), max(second, 8)]

    cond do
      first > half and second < half -> [min(first, space - second), second]
      second > half and first < half -> [first, min(second, space - first)]
      true -> [half, half]
    end
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
