defmodule DSPexTelemetry.Top.Screen do
  @moduledoc """
  One screen of `DSPexTelemetry.Top` as text: what it shows and how much of it fits.

  Nothing here knows a terminal: the text is a function of the data and of the size. Labels come
  from outside, so characters that would move the cursor are replaced, and widths are counted in
  columns and not in characters.
  """

  import DSPexTelemetry.Report.Columns

  alias DSPexTelemetry.Alert
  alias DSPexTelemetry.Report.Table

  # Names, widths and cells of the numbers behind the name of a method.
  @numbers [
    {"time %", 6},
    {"calls/s", 7},
    {"err %", 6},
    {"p50", 6},
    {"p95", 6},
    {"trend", 6},
    {"p99", 6},
    {"max", 6}
  ]
  @numbers_width @numbers |> Enum.map(fn {_name, width} -> width + 1 end) |> Enum.sum()

  @remark_width 80
  @least_name_width 20

  @least_rows 10
  # Header, heads of the three sections, pool.
  @frame 5
  # From so many rows on there are some to spare for empty lines between the sections.
  @spacious 20
  @spaces 4

  # A change of the 95th percentile by more than this share is a trend, and less is noise.
  @trend 0.1

  @typedoc "Columns and rows. `:infinity` has a line for everything."
  @type size :: {columns :: pos_integer(), rows :: pos_integer() | :infinity}

  @typedoc "How one method did in the interval. Changes compare it with the interval before."
  @type operation :: %{
          method: String.t(),
          python_class: String.t(),
          count: non_neg_integer(),
          errors: non_neg_integer(),
          error_rate: float(),
          avg_us: float() | nil,
          max_us: float() | nil,
          p50_us: float() | nil,
          p95_us: float() | nil,
          p99_us: float() | nil,
          calls_per_second: float(),
          total_us: float(),
          change: %{
            calls_per_second: float() | nil,
            error_rate: float() | nil,
            avg_us: float() | nil,
            p95_us: float() | nil
          }
        }

  @typedoc "Errors of a method that came within a short time; `total` are all since the first."
  @type spike :: %{
          method: String.t(),
          python_class: String.t(),
          error_count: non_neg_integer(),
          total: non_neg_integer(),
          first_unix_ms: integer(),
          last_unix_ms: integer(),
          causes: [%{kind: String.t(), reason: String.t(), count: non_neg_integer()}]
        }

  @typedoc "A method whose latency is far from what it was before."
  @type anomaly :: %{
          method: String.t(),
          python_class: String.t(),
          direction: :above | :below | String.t(),
          p95_us: float(),
          median_us: float()
        }

  @typedoc "The worker pool in the interval; `died` counts by reason."
  @type pool :: %{
          size: non_neg_integer(),
          spawned: non_neg_integer(),
          died: %{(String.t() | atom()) => non_neg_integer()},
          queue_wait_us: %{
            count: non_neg_integer(),
            p50: float() | nil,
            p95: float() | nil,
            p99: float() | nil,
            max: float() | nil
          }
        }

  @typedoc "What a screen shows. Times are milliseconds since 1970, durations as in their names."
  @type data :: %{
          instance: atom(),
          interval: %{from_unix_ms: integer(), to_unix_ms: integer(), duration_ms: integer()},
          operations: [operation()],
          spikes: [spike()],
          anomalies: [anomaly()],
          pool: pool()
        }

  @doc """
  The lines of a screen, separated by `"\\n"`: no more than `rows`, none wider than `columns`.

  Methods stand in the order of the time that they took. Sections share the rows: what does not fit
  is counted in a line "... and 3 more". Fewer than #{@least_rows} rows are taken for #{@least_rows}.

  Options:

    * `:colours` - `true` for errors in red and regressions in yellow, the text being the same;
      `false` is the default
  """
  @spec render(data(), size(), keyword()) :: iodata()
  def render(data, {columns, rows}, options \\ []) do
    paint = if Keyword.get(options, :colours, false), do: &coloured/1, else: &text/1
    name_width = max(columns - @numbers_width - 1, 8)
    sections = [methods(data, name_width), spikes(data, columns), anomalies(data, columns)]
    rows = rows(rows, sections)
    gap = if rows >= @spacious, do: [[""]], else: []
    free = rows - @frame - length(gap) * @spaces

    bodies =
      for {{head, lines}, room} <- Enum.zip(sections, rooms(sections, free)) do
        [head | cut(lines, room)]
      end

    ([[header(data, columns)]] ++ bodies ++ [[pool(data.pool)]])
    |> Enum.intersperse(gap)
    |> Enum.concat()
    |> Enum.map(&(&1 |> clip(columns) |> Enum.map(paint)))
    |> Enum.intersperse("\n")
  end

  # A section is its first line and the lines below, a line is a list of cells, and a cell is text
  # or text with a colour.

  defp header(data, columns) do
    %{from_unix_ms: from, to_unix_ms: to, duration_ms: duration} = data.interval
    count = data.operations |> Enum.map(& &1.count) |> Enum.sum()
    errors = data.operations |> Enum.map(& &1.errors) |> Enum.sum()
    rate = data.operations |> Enum.map(& &1.calls_per_second) |> Enum.sum()

    interval =
      "  #{clock(from)} to #{clock(to)} UTC (#{Table.duration(duration * 1_000)})  " <>
        "#{rate(rate)} calls/s  "

    failed = "#{percent(share(errors, count))} % errors"
    room = max(columns - width(interval) - width(failed), 8)

    [
      data.instance |> inspect() |> printable() |> fit(room),
      interval,
      errors_cell(failed, errors)
    ]
  end

  defp methods(%{operations: []}, _name_width), do: {["no calls"], []}

  defp methods(%{operations: operations}, name_width) do
    total = operations |> Enum.map(& &1.total_us) |> Enum.sum()
    heads = for {name, width} <- @numbers, do: " " <> right(name, width)

    operations = Enum.sort_by(operations, & &1.total_us, :desc)

    lines =
      for {operation, name} <- Enum.zip(operations, names(operations, name_width)) do
        cells = Enum.zip_with(@numbers, numbers(operation, total), &number_cell/2)
        [" " <> left(name, name_width) | cells]
      end

    {[left("Methods by time", name_width + 1) | heads], lines}
  end

  defp numbers(operation, total) do
    [
      percent(share(operation.total_us, total), 1),
      rate(operation.calls_per_second),
      errors_cell(percent(operation.error_rate), operation.errors),
      Table.duration(operation.p50_us),
      Table.duration(operation.p95_us),
      trend(operation.change.p95_us),
      Table.duration(operation.p99_us),
      Table.duration(operation.max_us)
    ]
  end

  defp number_cell({_name, width}, {colour, text}), do: {colour, " " <> right(text, width)}
  defp number_cell({_name, width}, text), do: " " <> right(text, width)

  defp trend(change) when is_number(change) and change > @trend,
    do: {:yellow, "↑" <> change_percent(change)}

  defp trend(change) when is_number(change) and change < -@trend,
    do: "↓" <> change_percent(-change)

  defp trend(_none_or_small), do: ""

  defp change_percent(change) when change > 9.99, do: ">999%"
  defp change_percent(change), do: "#{round(change * 100)}%"

  defp spikes(%{spikes: []}, _columns), do: {["no error spikes"], []}

  defp spikes(%{spikes: spikes}, columns) do
    lines =
      for {spike, name} <- Enum.zip(spikes, aligned_names(spikes, columns)) do
        [
          name,
          {:red, "  #{spike.total} errors"},
          "  #{clock(spike.first_unix_ms)} to #{clock(spike.last_unix_ms)}",
          cause(spike.causes)
        ]
      end

    {["Error spikes"], lines}
  end

  defp cause([]), do: ""

  defp cause(causes) do
    cause = Enum.max_by(causes, & &1.count)
    printable("  #{Alert.cause(cause)} (#{cause.count})")
  end

  defp anomalies(%{anomalies: []}, _columns), do: {["no latency anomalies"], []}

  defp anomalies(%{anomalies: anomalies}, columns) do
    lines =
      for {anomaly, name} <- Enum.zip(anomalies, aligned_names(anomalies, columns)) do
        compared =
          "  p95 #{Table.duration(anomaly.p95_us)}, #{anomaly.direction} the median of " <>
            Table.duration(anomaly.median_us)

        [name, anomaly_cell(compared, to_string(anomaly.direction))]
      end

    {["Latency anomalies"], lines}
  end

  defp anomaly_cell(text, "above"), do: {:yellow, text}
  defp anomaly_cell(text, "below"), do: text

  defp pool(%{size: 0, spawned: 0, died: died, queue_wait_us: %{count: 0}})
       when map_size(died) == 0,
       do: ["no worker pool"]

  defp pool(pool) do
    [
      "Worker pool  size #{pool.size}, spawned #{pool.spawned}, died ",
      pool.died |> Table.by() |> errors_cell(map_size(pool.died)),
      queue_wait(pool.queue_wait_us)
    ]
  end

  defp queue_wait(%{count: 0}), do: ", nobody queued"

  defp queue_wait(wait) do
    ", #{wait.count} queued: p50 #{Table.duration(wait.p50)}, p95 #{Table.duration(wait.p95)}, " <>
      "p99 #{Table.duration(wait.p99)}, max #{Table.duration(wait.max)}"
  end

  # As wide as the names are, if that leaves enough for what is said about them.
  defp aligned_names(rows, columns) do
    names = names(rows, max(columns - @remark_width, @least_name_width))
    widest = names |> Enum.map(&width/1) |> Enum.max()
    for name <- names, do: " " <> left(name, widest)
  end

  # No two methods of a section look alike.
  defp names(rows, width) do
    labels =
      for %{method: method, python_class: class} <- rows do
        {{method, class}, printable("#{method} (#{class})")}
      end

    cells = distinct(labels, width)
    for {labels, _text} <- labels, do: cells[labels]
  end

  defp rows(:infinity, sections), do: @frame + @spaces + @spacious + sum_lines(sections)
  defp rows(rows, _sections), do: max(rows, @least_rows)

  defp sum_lines(sections),
    do: sections |> Enum.map(fn {_head, lines} -> length(lines) end) |> Enum.sum()

  # A quarter each is kept for spikes and anomalies if they need it, methods get what they need of
  # the rest, and what is then left goes to the others.
  defp rooms([{_, methods}, {_, spikes}, {_, anomalies}], free) do
    quarter = max(div(free, 4), 1)
    kept = min(length(spikes), quarter) + min(length(anomalies), quarter)
    for_methods = min(length(methods), free - kept)
    for_anomalies = max(min(length(anomalies), quarter), free - for_methods - length(spikes))
    for_anomalies = min(for_anomalies, length(anomalies))
    [for_methods, free - for_methods - for_anomalies, for_anomalies]
  end

  defp cut(lines, room) when length(lines) <= room, do: lines

  defp cut(lines, room) do
    {shown, more} = Enum.split(lines, room - 1)
    shown ++ [[" ... and #{length(more)} more"]]
  end

  defp clip(cells, columns) do
    {cells, _left} =
      Enum.flat_map_reduce(cells, columns, fn
        _cell, 0 -> {[], 0}
        cell, left -> fit_cell(cell, left)
      end)

    cells
  end

  defp fit_cell(cell, left) do
    text = cell |> text() |> fit(left)
    cell = if is_tuple(cell), do: put_elem(cell, 1, text), else: text
    {[cell], left - width(text)}
  end

  defp text({_colour, text}), do: text
  defp text(text), do: text

  defp coloured({:red, text}), do: [IO.ANSI.red(), text, IO.ANSI.reset()]
  defp coloured({:yellow, text}), do: [IO.ANSI.yellow(), text, IO.ANSI.reset()]
  defp coloured(text), do: text

  defp errors_cell(text, 0), do: text
  defp errors_cell(text, _errors), do: {:red, text}

  defp clock(unix_ms) do
    unix_ms |> DateTime.from_unix!(:millisecond) |> Calendar.strftime("%H:%M:%S")
  end

  defp share(_part, total) when total == 0, do: 0.0
  defp share(part, total), do: part / total

  defp percent(share, digits \\ 2), do: decimal(share * 100, digits)

  defp rate(value) when value < 9.995, do: decimal(value, 2)
  defp rate(value) when value < 9_999.5, do: decimal(value, 1)
  defp rate(value) when value < 999_950, do: decimal(value / 1_000, 1) <> "k"
  defp rate(value), do: decimal(value / 1_000_000, 1) <> "M"

  defp decimal(value, digits), do: :erlang.float_to_binary(value * 1.0, decimals: digits)
end
