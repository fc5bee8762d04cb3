defmodule DSPexTelemetry.Top.ScreenTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TopSamples

  alias DSPexTelemetry.TextColumns
  alias DSPexTelemetry.Top.Screen

  @labels [
    "search",
    "",
    String.duplicate("m", 256),
    "control \0 \t \b \x7F \r\n end",
    "\e[31mred\e[0m \e]0;title\a",
    "C1 \u0085 \u009B31m \u009D",
    "combining e\u0301 a\u0308 o\u0302\u0323",
    "right to left \u202E override \u2066isolate",
    "line\u2028separator para\u2029graph",
    String.duplicate("🦀", 64),
    String.duplicate("日本語", 28)
  ]
  @unprintable ~r/[\x00-\x09\x0B-\x1F\x7F\x{80}-\x{9F}\x{2028}-\x{202E}\x{2066}-\x{2069}]/u

  test "a screen is laid out as documented" do
    assert render(example(), {80, 24}) == """
           DSPexTelemetry  09:00:00 to 09:01:00 UTC (60.0s)  12.5 calls/s  2.00 % errors

           Methods by time         time % calls/s  err %    p50    p95  trend    p99    max
            search (Index)           75.0    10.0   0.00 1.00ms 4.00ms   ↑50% 8.00ms 9.00ms
            add (Index)              25.0    2.50  10.00  100us  250us   ↓25%  500us  1.00s

           Error spikes
            add (Index)  40 errors  09:00:01 to 09:00:04  exception TimeoutError (9)

           Latency anomalies
            search (Index)  p95 12.0ms, above the median of 3.00ms

           Worker pool  size 4, spawned 6, died 2 (exit 2), 9 queued: p50 1.00ms, p95 2.00…\
           """
  end

  test "a wide screen has room for all of it" do
    text = render(example(), {200, 24})
    assert text =~ ", 9 queued: p50 1.00ms, p95 2.00ms, p99 3.00ms, max 4.00ms"

    long = String.duplicate("m", 100)
    spikes = [spike(long, "Index", [%{kind: "exception", reason: "TimeoutError", count: 9}])]
    data = %{empty() | operations: [operation(long, "Index")], spikes: spikes}
    text = render(data, {200, 24})
    assert length(String.split(text, "#{long} (Index)")) == 3
    assert text =~ "exception TimeoutError (9)\n"
    refute render(data, {80, 24}) =~ long
  end

  test "no two methods of a section look alike, however narrow it is" do
    long = String.duplicate("generate_", 20)

    names =
      for a <- ["", "1", "2"], b <- ["", "1", "\n", "?"], do: "#{long}#{a}#{long}#{b}#{long}"

    names = [") (", "a", "a) (b", "\n", "?" | names]
    pairs = Enum.uniq(for name <- names, class <- ["b", "b) (b", "C" | names], do: {name, class})

    data = %{
      empty()
      | operations: for({method, class} <- pairs, do: operation(method, class)),
        spikes: for({method, class} <- pairs, do: spike(method, class, [])),
        anomalies: for({method, class} <- pairs, do: anomaly(method, class, "below"))
    }

    for columns <- [66, 80, 120, 200] do
      lines = for " " <> _ = line <- lines(data, {columns, :infinity}), do: line
      assert length(lines) == 3 * length(pairs)
      assert {columns, lines -- Enum.uniq(lines)} == {columns, []}
    end
  end

  test "without data every section says so in a line" do
    assert render(empty(), {80, 10}) == """
           DSPexTelemetry  09:00:00 to 09:01:00 UTC (60.0s)  0.00 calls/s  0.00 % errors
           no calls
           no error spikes
           no latency anomalies
           no worker pool\
           """
  end

  test "methods stand in the order of their time" do
    operations = for {name, us} <- [b: 2.0, a: 3.0, c: 1.0], do: timed(name, us)
    text = render(%{empty() | operations: operations}, {80, 24})

    assert Regex.scan(~r/ ([abc]) \(C\) +([\d.]+) /, text, capture: :all_but_first) ==
             [["a", "50.0"], ["b", "33.3"], ["c", "16.7"]]
  end

  test "a change of the 95th percentile by more than a tenth is a trend" do
    for {change, trend} <- [
          {nil, ""},
          {0.0, ""},
          {0.1, ""},
          {-0.1, ""},
          {0.11, "↑11%"},
          {-0.5, "↓50%"},
          {9.99, "↑999%"},
          {12.0, "↑>999%"}
        ] do
      changes = %{calls_per_second: nil, error_rate: nil, avg_us: nil, p95_us: change}
      data = %{empty() | operations: [operation("m", "C", %{change: changes})]}

      assert {change, render(data, {80, 24}) =~ " 4.00ms #{String.pad_leading(trend, 6)} 8.00ms"} ==
               {change, true}
    end
  end

  test "what does not fit is counted" do
    operations = for n <- 1..30, do: timed("m#{n}", 100.0 - n)
    lines = lines(%{empty() | operations: operations}, {80, 10})
    assert length(lines) == 10
    assert Enum.at(lines, 2) =~ " m1 (C)"
    assert Enum.at(lines, 5) =~ " m4 (C)"
    assert Enum.at(lines, 6) == " ... and 26 more"

    whole = render(%{empty() | operations: operations}, {80, :infinity})
    assert whole =~ " m30 (C)"
    refute whole =~ "more"
  end

  test "the frequent cause of a spike is told, and the direction of an anomaly as it came" do
    causes = [%{kind: "a", reason: "rare", count: 1}, %{kind: "b", reason: "frequent", count: 2}]

    data = %{
      empty()
      | spikes: [spike("m", "C", causes), spike("n", "C", [])],
        anomalies: [anomaly("m", "C", "below"), anomaly("n", "C", :above)]
    }

    text = render(data, {120, 24})
    assert text =~ "09:00:04  b frequent (2)\n"
    assert text =~ ~r/ n \(C\) +40 errors  09:00:01 to 09:00:04\n/
    assert text =~ "p95 12.0ms, below the median of 3.00ms\n"
    assert text =~ "p95 12.0ms, above the median of 3.00ms\n"
    refute text =~ "rare"
  end

  test "no size and no label breaks the frame" do
    for columns <- [1, 20, 79, 80, 81, 120, 200],
        rows <- [10, 11, 19, 20, 24, 60],
        {methods, spikes, anomalies} <- [{0, 9, 9}, {1, 1, 9}, {9, 1, 0}, {9, 9, 9}, {50, 3, 2}] do
      data = hostile(methods, spikes, anomalies)
      lines = lines(data, {columns, rows})
      assert {columns, rows, length(lines) <= rows} == {columns, rows, true}

      for line <- lines do
        assert {line, TextColumns.width(line) <= columns} == {line, true}
        refute line =~ @unprintable
      end

      # Every row that is not shown is counted.
      if columns >= 20 do
        shown = Enum.count(lines, &String.starts_with?(&1, " ")) - Enum.count(lines, &more/1)

        assert shown + (lines |> Enum.map(&(more(&1) || 0)) |> Enum.sum()) ==
                 methods + spikes + anomalies
      end

      # And there are no rows to spare while something is missing.
      if Enum.any?(lines, &more/1),
        do: assert({columns, rows, length(lines)} == {columns, rows, rows})
    end
  end

  test "huge and missing numbers keep their columns" do
    for number <- [nil, 0.0, 0.001, 9.3e15] do
      keys = [:avg_us, :max_us, :p50_us, :p95_us, :p99_us]
      fields = Map.new(keys, &{&1, number})
      calm = number || 0.0
      fields = Map.merge(fields, %{calls_per_second: calm, total_us: calm, error_rate: 1.0})
      data = %{empty() | operations: [operation("m", "C", fields)]}
      [_header, "", head, row | _] = lines(data, {80, 24})
      assert TextColumns.width(row) == TextColumns.width(head)
    end
  end

  test "colours mark errors and regressions, and change nothing of the text" do
    coloured = IO.iodata_to_binary(Screen.render(example(), {80, 24}, colours: true))
    assert coloured =~ "\e[31m2.00 % errors\e[0m"
    assert coloured =~ "\e[31m  10.00\e[0m"
    assert coloured =~ "\e[33m   ↑50%\e[0m"
    assert coloured =~ "\e[31m  40 errors\e[0m"
    assert coloured =~ "\e[33m  p95 12.0ms, above the median of 3.00ms\e[0m"
    refute coloured =~ ~r/\e\[3.m *↓/
    assert Regex.replace(~r/\e\[\d+m/, coloured, "") == render(example(), {80, 24})

    hostile = hostile(9, 9, 9)

    for columns <- [1, 20, 80, 200] do
      coloured = IO.iodata_to_binary(Screen.render(hostile, {columns, 24}, colours: true))
      assert Regex.replace(~r/\e\[\d+m/, coloured, "") == render(hostile, {columns, 24})
    end

    calm = IO.iodata_to_binary(Screen.render(empty(), {80, 24}, colours: true))
    refute calm =~ "\e"
  end

  defp example do
    %{
      empty()
      | operations: [
          operation("add", "Index", %{
            count: 150,
            errors: 15,
            error_rate: 0.1,
            p50_us: 100.0,
            p95_us: 250.0,
            p99_us: 500.0,
            max_us: 1.0e6,
            calls_per_second: 2.5,
            total_us: 300_000.0,
            change: %{calls_per_second: 0.0, error_rate: 0.0, avg_us: -0.1, p95_us: -0.25}
          }),
          operation("search", "Index", %{
            change: %{calls_per_second: 0.0, error_rate: 0.0, avg_us: 0.2, p95_us: 0.5}
          })
        ],
        spikes: [
          spike("add", "Index", [%{kind: "exception", reason: "TimeoutError", count: 9}])
        ],
        anomalies: [anomaly("search", "Index", :above)],
        pool: %{
          size: 4,
          spawned: 6,
          died: %{"exit" => 2},
          queue_wait_us: %{count: 9, p50: 1.0e3, p95: 2.0e3, p99: 3.0e3, max: 4.0e3}
        }
    }
  end

  defp hostile(methods, spikes, anomalies) do
    label = fn n -> Enum.at(@labels, rem(n, length(@labels))) end
    causes = for text <- @labels, do: %{kind: text, reason: text, count: 1}

    %{
      empty()
      | instance: :"Elixir.日本語\n#{String.duplicate("x", 100)}",
        operations:
          for(n <- 1..methods//1, do: operation(label.(n), label.(n + 1), %{errors: 1})),
        spikes: for(n <- 1..spikes//1, do: spike(label.(n), label.(n + 1), causes)),
        anomalies: for(n <- 1..anomalies//1, do: anomaly(label.(n), label.(n + 1), :above)),
        pool: %{empty().pool | died: Map.new(@labels, &{&1, 1})}
    }
  end

  defp timed(name, us), do: operation("#{name}", "C", %{total_us: us})

  defp more(line) do
    case Regex.run(~r/^ \.\.\. and (\d+) more$/, line) do
      [_line, count] -> String.to_integer(count)
      nil -> nil
    end
  end

  defp lines(data, size), do: data |> render(size) |> String.split("\n")
  defp render(data, size), do: data |> Screen.render(size) |> IO.iodata_to_binary()
end
