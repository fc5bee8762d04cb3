defmodule DSPexTelemetry.Report.TableTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance, only: [label: 1, start!: 0]

  alias DSPexTelemetry.{Report, TextColumns}
  alias DSPexTelemetry.Report.Table

  @interval %{from_unix_ms: 1_700_000_000_000, to_unix_ms: 1_700_000_067_000, duration_ms: 67_000}
  @empty [:mean, :min, :max, :p50, :p90, :p95, :p99, :p999]
         |> Map.new(&{&1, nil})
         |> Map.put(:count, 0)

  @narrow [
    "search",
    "",
    String.duplicate("m", 256),
    "control \0 \t \b \x7F \r\n end",
    "\e[31mred\e[0m \e]0;title\a",
    "C1 \u0085 \u009B31m \u009D",
    "otel_metric_overflow",
    "Umlaut äöü ß É",
    "combining e\u0301 a\u0308 o\u0302\u0323"
  ]
  @wide [
    String.duplicate("🦀", 64),
    String.duplicate("日本語", 28),
    "mixed 日a本b語c 🦀🎉",
    "ｆｕｌｌｗｉｄｔｈ ｌａｔｉｎ ｌｅｔｔｅｒｓ"
  ]
  @movers [
    "right to left \u202E override",
    "line\u2028separator",
    "para\u2029graph",
    "\u2066isolate"
  ]

  test "summaries of option metrics are there if there are any" do
    refute to_string(empty()) =~ "Summaries"

    summary = fn name, labels, values ->
      [:count, :mean, :p50, :p90, :p95, :p99, :p999, :max]
      |> Enum.zip(values)
      |> Map.new()
      |> Map.merge(%{name: name, labels: labels})
    end

    report = %Report{
      empty()
      | summaries: [
          summary.("query_time", %{"source" => "users", "a" => "b\e"}, [
            12_345_678,
            0.25,
            -1.5,
            12,
            1_234.56,
            -99_999.4,
            -1.0e9,
            -1.0e-9
          ]),
          summary.("vm", %{}, [1, 0, 0.0, 1 / 3, 1.0e-3, 123_456, 123.456, -1.0e300])
        ]
    }

    assert [
             "Summaries",
             "  metric                                           count     mean      p50      p90      p95      p99    p99.9      max",
             "  query_time{a=b?,source=users}                    12.3M     0.25     -1.5     12.0   1234.6 -99999.4 -1.0e+09 -1.0e-09",
             "  vm                                                   1        0        0   0.3333  1.0e-03  1.2e+05    123.5  -1e+300"
           ] = report |> to_string() |> String.split("\n\n") |> List.last() |> String.split("\n")
  end

  test "a report is laid out as documented" do
    report = %Report{
      empty()
      | operations: [
          row(%{method: "search", python_class: "Index"}, count: 12_345, errors: 12, mean: 1_500.0),
          row(%{method: "add", python_class: "Index"}, count: 1, mean: 0.25)
        ],
        instances: [row(%{python_class: "Index"}, count: 3, errors: 3, mean: 2.5e6)],
        sessions: %{
          created: 5,
          expired: %{"timeout" => 1, "closed" => 2},
          lifetime_ms: %{@empty | count: 3, p50: 1_500.0, max: 60_000.0},
          operations: %{@empty | count: 3, p50: 7.0, max: 12.0}
        },
        variables: %{
          set: %{"str" => 4},
          get_found: 8,
          get_missed: 2,
          set_size_bytes: @empty,
          get_size_bytes: @empty
        },
        pool: %{
          size: 2,
          spawned: 4,
          died: %{"exit_status" => 2},
          startup_us: %{@empty | count: 4, p50: 80_000.0, max: 120_000.0},
          lifetime_ms: @empty,
          queue_wait_us: %{@empty | count: 9, p50: 10.0, p95: 20.0, p99: 999.4, max: 999.6},
          queue_wait_us_by_command: %{}
        }
    }

    assert to_string(report) == """
           2023-11-14, 22:13:20 to 22:14:27 UTC (67.0s)

           Method calls
             method        class            calls   errors    err %     mean      p50      p90      p95      p99    p99.9      max
             search        Index            12345       12     0.10   1.50ms   1.50ms   1.50ms   1.50ms   1.50ms   1.50ms   1.50ms
             add           Index                1        0     0.00    250ns    250ns    250ns    250ns    250ns    250ns    250ns

           Instances created
             class                          calls   errors    err %     mean      p50      p90      p95      p99    p99.9      max
             Index                              3        3   100.00    2.50s    2.50s    2.50s    2.50s    2.50s    2.50s    2.50s

           Tool calls
             none

           Sessions
             created 5, expired 3 (closed 2, timeout 1)
             lifetime p50 1.50s, max 60.0s, operations p50 7, max 12
             variables set 4 (str 4)
             variables read 10, found 8, missed 2

           Worker pool
             size 2, spawned 4, died 2 (exit_status 2)
             startup p50 80.0ms, max 120ms
             queue wait of 9 requests: p50 10.0us, p95 20.0us, p99 999us, max 1.00ms\
           """

    assert inspect(report) == to_string(report)
  end

  test "rows stand in the order of the report" do
    rows = for name <- ~w(second first third), do: row(%{tool_name: name}, count: 1, mean: 1.0)
    printed = Table.render(%Report{empty() | tools: rows})
    assert Regex.scan(~r/second|first|third/, printed) == [["second"], ["first"], ["third"]]
  end

  test "no line is longer than 120 columns, and columns are aligned, whatever the labels" do
    assert_lines_fit(report_with(@narrow))
  end

  test "characters of two columns count as two" do
    assert_lines_fit(report_with(@wide))
  end

  test "control characters do not reach the terminal" do
    refute Table.render(report_with(@narrow)) =~ ~r/[\x00-\x09\x0B-\x1F\x7F\x{80}-\x{9F}]/u
  end

  test "characters that move the text around do not reach the terminal" do
    refute Table.render(report_with(@movers)) =~
             ~r/[\x{2028}\x{2029}\x{202A}-\x{202E}\x{2066}-\x{2069}]/u
  end

  test "hostile labels pass from the event to the table" do
    instance = start!()
    method = label("hostile")
    hostile = "\e[2J\n" <> String.duplicate("x", 300)
    # It takes long enough to be among the rows that are shown.
    call(method, hostile, 10 ** 15)

    [%{python_class: class}] =
      Enum.filter(DSPexTelemetry.report(instance: instance).operations, &(&1.method == method))

    assert class == binary_part(hostile, 0, 256)
    printed = to_string(DSPexTelemetry.report(instance: instance))
    assert printed =~ "?[2J?xxx"
    refute printed =~ "\e"
  end

  # Names that begin or end alike, have characters that are not printed or that take no column, or
  # look as others do once they are cut.
  for seed <- 1..40 do
    test "no two labels of a table print alike (#{seed})" do
      :rand.seed(:exsss, {unquote(seed), 5, 8})
      pairs = Enum.uniq(for _n <- 1..50, do: {alike(), alike()})
      names = pairs |> Enum.map(&elem(&1, 0)) |> Enum.uniq()
      numbers = %{count: 1, mean: 1, p50: 1, p90: 1, p95: 1, p99: 1, p999: 1, max: 1}

      report = %Report{
        empty()
        | operations:
            for({method, class} <- pairs, do: named(%{method: method, python_class: class})),
          instances: for(name <- names, do: named(%{python_class: name})),
          tools: for(name <- names, do: named(%{tool_name: name})),
          summaries:
            for {name, value} <- pairs do
              Map.merge(numbers, %{name: name, labels: %{"label" => value}})
            end
      }

      assert_lines_fit(report)
      [_interval, calls, instances, tools, _sessions, _pool, summaries] = sections(report)
      assert_all_differ(calls, 27)
      assert_all_differ(instances, 27)
      assert_all_differ(tools, 27)
      assert_all_differ(summaries, 45)
    end
  end

  test "a name that is cut keeps its end, and one that is not shown apart by that has a digest" do
    long = String.duplicate("x", 30)
    names = ["generate_#{long}_v1", "generate_#{long}_v2", "a", "a ", "generate_#{long}x_v2"]
    rows = for name <- names, do: named(%{tool_name: name})

    assert [_interval, _calls, _instances, ["Tool calls", _heads | lines] | _rest] =
             sections(%Report{empty() | tools: rows})

    names = for "  " <> line <- lines, do: line |> String.slice(0, 27) |> String.trim_trailing()
    assert ["generate_xxxxxxxxx…xxxxx_v1", second, third, fourth, fifth] = names
    assert second =~ ~r/^generate_xxxxxxxxxxxx…#[0-9a-f]{4}$/
    assert fifth =~ ~r/^generate_xxxxxxxxxxxx…#[0-9a-f]{4}$/
    assert third =~ ~r/^a#[0-9a-f]{4}$/
    assert fourth =~ ~r/^a #[0-9a-f]{4}$/
    assert second != fifth
  end

  test "no two nodes of a report over several print alike" do
    member = fn node ->
      %{node: node, state: :merged, calls: 1, errors: 0, series: 1, reason: nil}
    end

    host = String.duplicate("x", 80)

    nodes =
      for name <- ["a", "b"],
          end_of_host <- ["x", "y", "yy"],
          do: :"#{name}@#{host}#{end_of_host}"

    fields = Map.from_struct(empty())

    report =
      struct!(DSPexTelemetry.Cluster.Report, Map.put(fields, :nodes, Enum.map(nodes, member)))

    ["Nodes", _heads | lines] = report |> to_string() |> String.split("\n") |> Enum.take(-8)
    assert lines == Enum.uniq(lines)
    assert length(lines) == 6
  end

  test "a column has the room that the other does not need" do
    method = "an_18_column_name!"
    rows = [row(%{method: method, python_class: "Index"}, count: 1, mean: 1.0)]
    [_interval, [_title, heads, line] | _rest] = sections(%Report{empty() | operations: rows})
    assert heads =~ "  method             class  "
    assert line =~ "  an_18_column_name! Index"
  end

  test "an interval that ends on another day has both dates" do
    day = 86_400_000

    for {days, text} <- [
          {0, "2023-11-14, 22:13:20 to 22:14:27 UTC (67.0s)"},
          {1, "2023-11-14, 22:13:20 to 2023-11-15, 22:14:27 UTC (24.0h)"},
          {30, "2023-11-14, 22:13:20 to 2023-12-14, 22:14:27 UTC (720h)"}
        ] do
      interval = %{
        @interval
        | to_unix_ms: @interval.to_unix_ms + days * day,
          duration_ms: @interval.duration_ms + days * day
      }

      assert Table.interval_text(interval) == text
    end
  end

  test "huge and tiny numbers keep their columns" do
    numbers = [0.0, 1.0e-3, 0.9996, 999.6, 9.995e5, 3.6e9, 9.3e15]
    counts = [0, 9_999_999, 10_000_000, 999_949_999, 999_950_000, 2 ** 53]

    rows =
      for mean <- numbers, count <- counts do
        row(%{method: "m", python_class: "C"}, count: count, errors: count, mean: mean)
      end

    assert_lines_fit(%Report{empty() | operations: rows})
  end

  test "durations have the unit that fits and three significant digits" do
    for {us, text} <- [
          {nil, "-"},
          {0.0, "0.00ns"},
          {0.001, "1.00ns"},
          {0.9994, "999ns"},
          {0.9996, "1.00us"},
          {9.994, "9.99us"},
          {9.996, "10.0us"},
          {99.94, "99.9us"},
          {99.96, "100us"},
          {999.4, "999us"},
          {999.6, "1.00ms"},
          {999_400, "999ms"},
          {999_600, "1.00s"},
          {59_940_000, "59.9s"},
          {999_400_000, "999s"},
          {3_600_000_000, "1.00h"}
        ] do
      assert {us, Table.duration(us)} == {us, text}
    end
  end

  test "more than 50 rows are counted and not shown" do
    rows = for n <- 1..53, do: row(%{tool_name: "tool#{n}"}, count: 1, mean: 1.0)
    printed = Table.render(%Report{empty() | tools: rows})
    assert printed =~ "tool50 "
    refute printed =~ "tool51"
    assert printed =~ "\n  ... and 3 more\n"

    printed = Table.render(%Report{empty() | tools: Enum.take(rows, 50)})
    assert printed =~ "tool50 "
    refute printed =~ "more"
  end

  defp alike do
    start =
      Enum.at(
        ["", "a", "日本語", String.duplicate("lm.generate_", 1 + :rand.uniform(8))],
        :rand.uniform(4) - 1
      )

    middle =
      Enum.at(
        ["", "x", "y", " ", "\n", "?", "\u200B", "é", "e\u0301", "#12ab"],
        :rand.uniform(10) - 1
      )

    stop =
      Enum.at(
        ["", " ", "…", String.duplicate("_with_retries", :rand.uniform(8))],
        :rand.uniform(4) - 1
      )

    start <> middle <> stop
  end

  defp named(labels), do: row(labels, count: 1, mean: 1.0)

  # Compares what a reader sees: the columns of the labels, without what takes no room.
  defp assert_all_differ([_title, _heads | lines], columns) do
    seen =
      for line <- lines do
        line
        |> String.normalize(:nfc)
        |> String.replace("\u200B", "")
        |> TextColumns.take(columns + 2)
      end

    assert seen -- Enum.uniq(seen) == []
  end

  defp sections(report) do
    report |> Table.render() |> String.split("\n\n") |> Enum.map(&String.split(&1, "\n"))
  end

  defp assert_lines_fit(report) do
    for [title | lines] <- sections(report) do
      for line <- lines, do: assert({line, TextColumns.width(line) <= 120} == {line, true})

      # Every line of a table ends in the same column, as its last cell is aligned to the right.
      if title in ["Method calls", "Instances created", "Tool calls"] and lines != ["  none"] do
        assert [_one] = lines |> Enum.map(&TextColumns.width/1) |> Enum.uniq()
      end
    end
  end

  defp report_with(labels) do
    counts = Map.new(labels, &{&1, 1_000_000})

    rows = fn keys ->
      for label <- labels, do: row(Map.new(keys, &{&1, label}), count: 1, mean: 1.0)
    end

    %Report{
      empty()
      | operations: rows.([:method, :python_class]),
        instances: rows.([:python_class]),
        tools: rows.([:tool_name]),
        sessions: %{empty().sessions | expired: counts},
        variables: %{empty().variables | set: counts},
        pool: %{empty().pool | died: counts}
    }
  end

  defp empty do
    %Report{
      interval: @interval,
      operations: [],
      instances: [],
      tools: [],
      sessions: %{created: 0, expired: %{}, lifetime_ms: @empty, operations: @empty},
      variables: %{
        set: %{},
        get_found: 0,
        get_missed: 0,
        set_size_bytes: @empty,
        get_size_bytes: @empty
      },
      pool: %{
        size: 0,
        spawned: 0,
        died: %{},
        startup_us: @empty,
        lifetime_ms: @empty,
        queue_wait_us: @empty,
        queue_wait_us_by_command: %{}
      }
    }
  end

  defp row(labels, numbers) do
    count = numbers[:count]
    errors = Keyword.get(numbers, :errors, 0)
    keys = [:mean_us, :min_us, :max_us, :p50_us, :p90_us, :p95_us, :p99_us, :p999_us]

    keys
    |> Map.new(&{&1, numbers[:mean]})
    |> Map.merge(labels)
    |> Map.merge(%{
      count: count,
      errors: errors,
      error_rate: if(count > 0, do: errors / count, else: 0.0)
    })
  end

  defp call(method, class, duration) do
    metadata = %{method: method, python_class: class, success: true}
    :telemetry.execute([:dspex, :bridge, :call_method, :stop], %{duration: duration}, metadata)
  end
end
