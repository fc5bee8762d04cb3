defmodule DSPexTelemetry.ReporterTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.ReporterTesting
  import DSPexTelemetry.TestInstance
  import Telemetry.Metrics

  alias DSPexTelemetry.{Options, Reporter}

  # An event name of the test's own: instances see the events of all tests.
  setup do
    watch_handler_failures()
    number = System.unique_integer([:positive])
    %{event: [:reporter_test, :"event_#{number}"], prefix: "t#{number}"}
  end

  describe "kinds:" do
    test "a counter counts events, whatever they measure", %{event: event} do
      instance =
        start!(metrics: [counter("c.a", event_name: event, description: "All\n\\ of them")])

      :telemetry.execute(event, %{})
      :telemetry.execute(event, %{a: "no number"})

      assert lines(instance, "c_a") == [
               "# HELP c_a All\\n\\\\ of them",
               "# TYPE c_a counter",
               "c_a 2"
             ]
    end

    test "a sum adds integers exactly, and fractions", %{event: event} do
      metrics = [
        sum("s.integers", event_name: event),
        sum("s.floats", event_name: event, reporter_options: [prometheus_type: :gauge])
      ]

      instance = start!(metrics: metrics)

      for value <- [9_007_199_254_740_993, -1, 4],
          do: :telemetry.execute(event, %{integers: value})

      for value <- [0.5, 2, -7.25], do: :telemetry.execute(event, %{floats: value})

      assert lines(instance, "s_integers") |> tl() == [
               "# TYPE s_integers counter",
               "s_integers 9007199254740996"
             ]

      assert lines(instance, "s_floats") |> tl() == ["# TYPE s_floats gauge", "s_floats -4.75"]
    end

    test "a last value is the latest, zero and negative ones too", %{event: event} do
      instance = start!(metrics: [last_value("l.v", event_name: event, tags: [:t])])
      :telemetry.execute(event, %{v: 5}, %{t: 1})
      :telemetry.execute(event, %{v: 0}, %{t: 1})
      :telemetry.execute(event, %{v: -1.5}, %{t: 2})
      assert samples(instance, "l_v") == [~s(l_v{t="1"} 0), ~s(l_v{t="2"} -1.5)]
    end

    test "a distribution has its buckets, bounds as they were given", %{event: event} do
      buckets = [-1, 0.5, 1.0, 1.0e4]
      metrics = [distribution("d.v", event_name: event, reporter_options: [buckets: buckets])]
      instance = start!(metrics: metrics)

      for value <- [-1, -0.5, 0.5, 1, 1.0000001, 10_000, 10_001],
          do: :telemetry.execute(event, %{v: value})

      assert samples(instance, "d_v") == [
               ~s(d_v_bucket{le="-1"} 1),
               ~s(d_v_bucket{le="0.5"} 3),
               ~s(d_v_bucket{le="1.0"} 4),
               ~s(d_v_bucket{le="1.0e4"} 6),
               ~s(d_v_bucket{le="+Inf"} 7),
               "d_v_sum 20002.0000001",
               "d_v_count 7"
             ]

      # OpenMetrics wants them as it writes numbers.
      assert samples(instance, "d_v_bucket", :openmetrics) |> hd() == ~s(d_v_bucket{le="-1.0"} 1)
    end

    test "a summary has quantiles, of negative numbers and fractions too", %{event: event} do
      metrics = [summary("q.v", event_name: event, tags: [:t])]
      instance = start!(metrics: metrics)
      for value <- 1..100, do: :telemetry.execute(event, %{v: value}, %{t: "integers"})

      for value <- 1..1_000,
          do: :telemetry.execute(event, %{v: (value - 500) / 1_000}, %{t: "floats"})

      assert samples(instance, "q_v") |> Enum.filter(&(&1 =~ "integers")) == [
               ~s(q_v{t="integers",quantile="0.5"} 50),
               ~s(q_v{t="integers",quantile="0.9"} 90),
               ~s(q_v{t="integers",quantile="0.95"} 95),
               ~s(q_v{t="integers",quantile="0.99"} 99),
               ~s(q_v{t="integers",quantile="0.999"} 100),
               ~s(q_v_sum{t="integers"} 5050),
               ~s(q_v_count{t="integers"} 100)
             ]

      rows = DSPexTelemetry.report(instance: instance).summaries
      row = Enum.find(rows, &(&1.labels == %{"t" => "floats"}))
      assert {row.count, row.min, row.max} == {1_000, -0.499, 0.5}
      assert_in_delta row.p50, 0, 0.0001
      assert_in_delta row.p90, 0.4, 0.004
      assert_in_delta row.p999, 0.5, 0.005
      assert DSPexTelemetry.report(instance: instance, window: :previous_minute).summaries == []
      json = DSPexTelemetry.report(instance: instance, format: :json, window: :last_minute)
      assert json =~ ~s("summaries":[{"name":"q_v","labels":{"t":"floats"},"count":1000)
    end
  end

  describe "fields:" do
    test "one event feeds all its metrics, by keys, functions and units", %{event: event} do
      metrics = [
        counter("f.count", event_name: event, tags: [:a, :b]),
        sum("f.key", event_name: event, tags: [:a, :b]),
        sum("f.one", event_name: event, measurement: &(&1.key * 2), tags: [:a, :b]),
        sum("f.two", event_name: event, measurement: &(&1.key + &2.b), tags: [:a]),
        last_value("f.unit", event_name: event, measurement: :key, unit: {:byte, :kilobyte}),
        last_value("f.text", event_name: event, measurement: "text key"),
        counter("f.made",
          event_name: event,
          tags: [:c],
          tag_values: &%{c: "#{&1.a}-#{&1.b}", d: 1}
        ),
        counter("f.strings", event_name: event, tags: ["s"]),
        counter("f.kept", event_name: event, keep: &(&1.b == 1)),
        counter("f.kept2",
          event_name: event,
          keep: fn metadata, measurements -> metadata.b == 1 and measurements.key > 0 end
        ),
        counter("f.dropped", event_name: event, drop: &(&1.b == 1)),
        sum("f.kept_key", event_name: event, measurement: :key, keep: &(&1.b == 2))
      ]

      instance = start!(metrics: metrics)

      for b <- 1..2,
          do:
            :telemetry.execute(event, %{:key => 10 * b, "text key" => b}, %{
              :a => :x,
              :b => b,
              "s" => "t"
            })

      assert samples(instance, "f_") |> Enum.sort() == [
               ~s(f_count{a="x",b="1"} 1),
               ~s(f_count{a="x",b="2"} 1),
               "f_dropped 1",
               "f_kept 1",
               "f_kept2 1",
               "f_kept_key 20",
               ~s(f_key{a="x",b="1"} 10),
               ~s(f_key{a="x",b="2"} 20),
               ~s(f_made{c="x-1"} 1),
               ~s(f_made{c="x-2"} 1),
               ~s(f_one{a="x",b="1"} 20),
               ~s(f_one{a="x",b="2"} 40),
               ~s(f_strings{s="t"} 2),
               "f_text 2",
               ~s(f_two{a="x"} 33),
               "f_unit 0.02"
             ]

      assert_no_handler_failed()
    end

    test "tags are text by String.Chars, and nil is none", %{event: event} do
      instance =
        start!(
          metrics: [
            counter("g.tags", event_name: event, tags: [:t], tag_values: &Map.put(&1, :x, 1))
          ]
        )

      tags = [
        "text",
        :atom,
        7,
        -7,
        1_000,
        12_345_678_901_234_567_890,
        1.5,
        'chars',
        nil,
        true,
        MyApp.Module,
        ~D[2024-02-29],
        :ätom,
        "a\"b\\c\nd",
        <<255>>
      ]

      for tag <- tags, do: :telemetry.execute(event, %{}, %{t: tag})
      # None has a text.
      for tag <- [self(), {1, 2}, %{}, [self()], make_ref()],
          do: :telemetry.execute(event, %{}, %{t: tag})

      :telemetry.execute(event, %{}, %{})

      texts =
        ~w(text atom 7 -7 1000 12345678901234567890 1.5 chars) ++
          ["", "true", "Elixir.MyApp.Module", "2024-02-29", "ätom", ~S(a\"b\\c\nd), "\uFFFD"]

      assert samples(instance, "g_tags") |> Enum.sort() ==
               Enum.sort(for text <- texts, do: ~s(g_tags{t="#{text}"} 1))

      assert rejected(instance) == %{
               {"g_tags", "invalid_tag"} => 5,
               {"g_tags", "missing_tag"} => 1
             }

      assert_no_handler_failed()
    end

    test "more than eight measurements, and sixteen tags, are no exception", %{event: event} do
      keys = for number <- 1..40, do: :"m#{number}"
      tags = for number <- 1..16, do: :"t#{number}"
      metrics = for key <- keys, do: sum([:many, key], event_name: event, tags: tags)
      instance = start!(metrics: metrics)
      :telemetry.execute(event, Map.new(keys, &{&1, 3}), Map.new(tags, &{&1, &1}))
      assert length(samples(instance, "many_")) == 40
      assert Enum.all?(samples(instance, "many_"), &(&1 =~ ~r/,t16="t16"} 3$/))

      assert DSPexTelemetry.info(instance: instance).series
             |> Enum.count(&(&1.event =~ to_string(List.last(event)))) == 1
    end

    test "an event may feed the catalogue and metrics", %{} do
      method = label("both")

      instance =
        start!(
          metrics: [
            counter("both.count",
              event_name: [:dspex, :bridge, :call_method, :stop],
              tags: [:method]
            )
          ]
        )

      DSPexTelemetry.Emit.call_method(%{method: method, python_class: "C"}, fn -> :ok end)
      assert ~s(both_count{method="#{method}"} 1) in samples(instance, "both_count")

      assert row(DSPexTelemetry.report(instance: instance).operations, %{method: method}).count ==
               1

      assert_all_attached(plans(instance))
    end

    test "the name is what telemetry_metrics_prometheus_core makes of it", %{event: event} do
      names = [[:a, :b], [:"a.b-c", :d!], [:_9, :_x, :y9], [:http, :ünicode]]
      for name <- names, do: assert(Reporter.Name.metric(name) != "")
      assert Enum.map(names, &Reporter.Name.metric/1) == ["a_b", "abc_d", "x_y9", "http_nicode"]

      for {tag, label} <- [
            {:a, "a"},
            {"b.c", "b_c"},
            {:"9d", "_9d"},
            {nil, "nil"},
            {:_a, "_a"},
            {"ünï", "_n_"},
            {"日本", "_"},
            {"_ü_9", "_9"},
            {<<255, ?a, 254>>, "_a_"},
            {"a\n", "a_"}
          ],
          do: assert({tag, Reporter.Name.label(tag)} == {tag, label})

      assert Reporter.Name.label(7) == nil and event != []
    end
  end

  describe "OpenMetrics" do
    test "keeps the name of a counter that does not end in _total", %{
      event: event,
      prefix: prefix
    } do
      metrics = [
        counter("#{prefix}.count", event_name: event),
        counter("#{prefix}.seen.total", event_name: event),
        counter("#{prefix}.both.total", event_name: event),
        last_value("#{prefix}.both", event_name: event, measurement: :v)
      ]

      instance = start!(metrics: metrics)
      :telemetry.execute(event, %{v: 1})
      lines = lines(instance, prefix, :openmetrics) |> Enum.reject(&(&1 =~ "HELP"))

      assert Enum.sort(lines) ==
               Enum.sort([
                 "# TYPE #{prefix}_count unknown",
                 "#{prefix}_count 1",
                 "# TYPE #{prefix}_seen counter",
                 "#{prefix}_seen_total 1",
                 "# TYPE #{prefix}_both_total unknown",
                 "#{prefix}_both_total 1",
                 "# TYPE #{prefix}_both gauge",
                 "#{prefix}_both 1"
               ])
    end

    test "takes only counters for something else where the name ends in _total", %{
      event: event,
      prefix: prefix
    } do
      gauge = [prometheus_type: :gauge]

      metrics = [
        last_value("#{prefix}.memory.total", event_name: event, measurement: :v),
        sum("#{prefix}.sum.total", event_name: event, measurement: :v, reporter_options: gauge),
        summary("#{prefix}.summary.total", event_name: event, measurement: :v),
        distribution("#{prefix}.buckets.total", event_name: event, measurement: :v)
      ]

      instance = start!(metrics: metrics)
      :telemetry.execute(event, %{v: 1})

      assert for("# TYPE " <> type <- lines(instance, prefix, :openmetrics), do: type) == [
               "#{prefix}_memory_total gauge",
               "#{prefix}_sum_total gauge",
               "#{prefix}_summary_total summary",
               "#{prefix}_buckets_total histogram"
             ]
    end
  end

  describe "negative numbers that OpenMetrics does not allow" do
    test "are left out there and counted, and stay in the text format", %{
      event: event,
      prefix: prefix
    } do
      buckets = &[buckets: &1]

      metrics = [
        sum("#{prefix}.sum.total", event_name: event, measurement: :v),
        # Of unknown type there, which may be negative.
        sum("#{prefix}.bare", event_name: event, measurement: :v),
        last_value("#{prefix}.gauge", event_name: event, measurement: :v),
        distribution("#{prefix}.below",
          event_name: event,
          measurement: &abs(&1.v),
          reporter_options: buckets.([-1, 1])
        ),
        distribution("#{prefix}.above",
          event_name: event,
          measurement: :v,
          reporter_options: buckets.([0, 1])
        ),
        summary("#{prefix}.summary", event_name: event, measurement: :v)
      ]

      instance = start!(metrics: metrics)
      for value <- [-9, -2, 1], do: :telemetry.execute(event, %{v: value})

      text = samples(instance, prefix)

      left_out = [
        "#{prefix}_sum_total -10",
        "#{prefix}_below_sum 12",
        "#{prefix}_below_count 3",
        "#{prefix}_above_sum -10",
        "#{prefix}_above_count 3",
        ~s(#{prefix}_summary{quantile="0.5"} -2),
        "#{prefix}_summary_sum -10"
      ]

      assert left_out -- text == []

      openmetrics =
        for line <- samples(instance, prefix, :openmetrics),
            not (line =~ "_created "),
            do: String.replace(line, ~r/le="(-?\d+)\.0"/, ~S(le="\1"))

      assert Enum.sort(openmetrics) == Enum.sort(text -- left_out)

      assert samples(instance, "dspex_telemetry_samples_left_out", :openmetrics) ==
               for(
                 {metric, count} <- [sum_total: 1, below: 2, above: 2, summary: 2],
                 do: ~s(dspex_telemetry_samples_left_out{metric="#{prefix}_#{metric}"} #{count})
               )

      assert samples(instance, "dspex_telemetry_samples_left_out") == []
    end
  end

  test "an instance without presets has nothing but its definitions", %{event: event} do
    instance = start!(presets: [], metrics: [counter("only.count", event_name: event)])
    assert DSPexTelemetry.attached?(instance: instance)
    :telemetry.execute(event, %{})
    DSPexTelemetry.Emit.tool_call(%{tool_name: "none", caller: :python}, fn -> :ok end)

    assert samples(instance, "") |> Enum.reject(&(&1 =~ ~r/^(dspex_(telemetry|router)_|$)/)) == [
             "only_count 1"
           ]

    # Reports know nothing.
    report = DSPexTelemetry.report(instance: instance)
    assert {report.operations, report.tools, report.pool.size} == {[], [], 0}

    assert for(%{event: event} <- DSPexTelemetry.info(instance: instance).series, do: event) == [
             "metrics of #{Enum.join(event, ".")}"
           ]
  end

  test "buckets that suit the unit are there where none are given" do
    for {unit, first} <- [
          second: 0.005,
          millisecond: 5,
          microsecond: 5_000,
          byte: 256,
          megabyte: 1,
          unit: 1
        ] do
      %{metrics: [metric]} = Options.validate!(metrics: [distribution("a.b", unit: unit)])
      assert hd(metric.buckets) == first
    end

    range = [buckets: {10..50, 20}]

    %{metrics: [metric]} =
      Options.validate!(metrics: [distribution("a.b", reporter_options: range)])

    assert metric.buckets == [10, 30, 50]
  end
end
