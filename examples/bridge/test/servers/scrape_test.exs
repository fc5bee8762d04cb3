defmodule Bridge.ScrapeTest do
  @moduledoc """
  The demo runs once, while three Prometheus servers scrape it in three formats. What they then hold
  is compared with the report, and with every sample that the demo has emitted.
  """

  use ExUnit.Case

  import Bridge.Servers.Prometheus, only: [bound: 1, bounds: 2, values: 2]

  alias Bridge.Servers
  alias Bridge.Servers.{DashboardData, Exposition, Prometheus, Samples, ScrapedDemo, ScrapeProxy}
  alias DSPexTelemetry.{AdaptiveCache, Dashboard, PerformanceRouter}

  @moduletag :servers
  @moduletag timeout: 300_000

  @content_types %{
    text: "text/plain; version=0.0.4; charset=utf-8",
    openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
    protobuf:
      "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
  }

  # The mix of calls has failures, and a slow machine is slow.
  @may_fire ~w(ErrorSpike RejectedEvents HighErrorRate HighLatency QueueSaturation ErrorBudgetBurn TelemetryAbsent
               TelemetryTargetDown)

  # With which an HdrHistogram of two significant digits keeps a value.
  @precision 0.01

  @duration "dspex_bridge_call_method_duration"
  @quantiles [{0.5, :p50_us}, {0.95, :p95_us}, {0.99, :p99_us}]
  # Calls of a method, for a quantile to mean something.
  @enough 20

  setup_all do: ScrapedDemo.start()

  describe "in every format" do
    for format <- [:text, :openmetrics, :protobuf] do
      @format format

      test "#{format} is what Prometheus gets, compressed", context do
        scrapes = ScrapeProxy.scrapes(context.proxies[@format])

        assert scrapes |> Enum.map(&{&1.status, &1.content_type, &1.encoding}) |> Enum.uniq() ==
                 [{200, @content_types[@format], "gzip"}]
      end

      test "Prometheus has nothing to complain about #{format}", context do
        prometheus = context.prometheus[@format]

        Servers.await!("a target that is up", fn ->
          match?(%{"health" => "up", "lastError" => ""}, Prometheus.target(prometheus))
        end)

        assert Prometheus.complaints(prometheus) == []
      end

      test "counts of #{format} are the report's, label by label", context do
        prometheus = context.prometheus[@format]
        report = context.report

        for {metric, rows, labels} <- [
              {"dspex_bridge_call_method_total", report.operations, [:method, :python_class]},
              {"dspex_bridge_create_instance_total", report.instances, [:python_class]},
              {"dspex_tools_call_total", report.tools, [:tool_name]}
            ] do
          by = Enum.join(labels, ", ")
          assert rows != []

          assert values(prometheus, "sum by (#{by}) (#{metric})") ==
                   Map.new(rows, &{row_labels(&1, labels), &1.count})

          assert values(prometheus, ~s|sum by (#{by}) (#{metric}{success="false"})|) ==
                   Map.new(rows, &{row_labels(&1, labels), &1.errors})
        end

        for {metric, label, counts} <- [
              {"dspex_session_expired_total", "reason", report.sessions.expired},
              {"dspex_session_variable_set_total", "var_type", report.variables.set},
              {"snakepit_worker_died_total", "reason", report.pool.died}
            ] do
          assert counts != %{}

          assert values(prometheus, metric) ==
                   Map.new(counts, fn {name, count} -> {%{label => name}, count} end)
        end

        for {expression, count} <- [
              {"dspex_session_created_total", report.sessions.created},
              {~s|dspex_session_variable_get_total{found="true"}|, report.variables.get_found},
              {~s|dspex_session_variable_get_total{found="false"}|, report.variables.get_missed},
              {"sum(snakepit_worker_spawned_total)", report.pool.spawned},
              {"snakepit_worker_pool_size", report.pool.size}
            ] do
          # What never happened has no series.
          assert {expression, Prometheus.value(prometheus, expression) || 0} ==
                   {expression, count}
        end

        assert report.pool.size == ScrapedDemo.workers()
      end

      test "what #{format} says of the library is what the library says of itself", context do
        prometheus = context.prometheus[@format]
        info = DSPexTelemetry.info()

        assert values(prometheus, "dspex_telemetry_series") ==
                 Map.new(info.series, &{%{"event" => &1.event}, &1.series})

        assert values(prometheus, "dspex_telemetry_series_limit") ==
                 Map.new(info.series, &{%{"event" => &1.event}, &1.limit})

        assert info.rejected != []

        assert values(prometheus, "dspex_telemetry_rejected_total") ==
                 Map.new(
                   info.rejected,
                   &{%{"event" => &1.event, "reason" => &1.reason}, &1.count}
                 )

        for {name, value} <- [
              attached: 1,
              refs: info.refs,
              panics_total: 0,
              signals_dropped_total: info.signals_dropped,
              spikes_untracked_total: info.spikes_untracked,
              workers_overflow_total: info.workers_overflow
            ] do
          assert {name, Prometheus.value(prometheus, "dspex_telemetry_#{name}")} == {name, value}
        end

        assert [%{labels: %{"version" => version}, value: 1.0}] =
                 Prometheus.query(prometheus, "dspex_telemetry_build_info")

        assert version == to_string(Application.spec(:dspex_telemetry, :vsn))
      end

      test "what #{format} says of the router and the cache is what these say", context do
        prometheus = context.prometheus[@format]
        router = PerformanceRouter.report()
        assert %{"best" => routed} = router.decisions
        assert routed >= ScrapedDemo.operations()

        assert values(prometheus, "sum by (reason) (dspex_router_decisions_total)") ==
                 Map.new(router.decisions, fn {reason, n} -> {%{"reason" => reason}, n} end)

        for worker <- router.workers do
          of = ~s|{worker_id="#{worker.worker_id}"}|
          total = "sum(dspex_router_decisions_total#{of})"
          assert Prometheus.value(prometheus, total) == worker.decisions
          assert Prometheus.value(prometheus, "dspex_router_ejections_total#{of}") == 0
          # What was presumed has faded by now.
          assert Prometheus.value(prometheus, "dspex_router_in_flight#{of}") < 1
        end

        assert Prometheus.value(prometheus, "sum(dspex_router_workers)") == ScrapedDemo.workers()

        assert [%{hits: hits, misses: misses} = method] = AdaptiveCache.report().methods
        assert hits + misses == ScrapedDemo.operations() and hits > misses

        for {metric, value} <- cache_metrics(method) do
          assert {metric, values(prometheus, metric)} ==
                   {metric, %{row_labels(method, [:method, :python_class]) => value}}
        end
      end

      test "counters of #{format} are the sums of what was emitted, label by label", context do
        for metric <- counters() do
          expected = Map.new(Samples.of(metric), fn {labels, ones} -> {labels, length(ones)} end)
          actual = values(context.prometheus[@format], "#{metric}")

          # Of enumerated labels all combinations are there, most of them with nothing in it.
          assert {metric, Map.reject(actual, fn {_, count} -> count == 0 end)} ==
                   {metric, expected}
        end
      end
    end

    test "every metric of the demo is compared with what was emitted", context do
      for {_format, prometheus} <- context.prometheus do
        names =
          for %{labels: %{"__name__" => name}, value: value} <-
                Prometheus.query(prometheus, ~S[{__name__=~"(dspex|snakepit)_.+"}]),
              not String.starts_with?(name, "dspex_telemetry_"),
              # Counters of Snakepit without labels are there before anything happens.
              not (value == 0 and String.starts_with?(name, "snakepit_")),
              uniq: true,
              do: String.replace(name, ~r/_(bucket|count|sum)$/, "")

        compared = for metric <- Samples.metrics(), do: "#{metric}"
        others = ["snakepit_worker_pool_size" | router_metrics()] ++ cache_metrics()
        assert Enum.sort(Enum.uniq(names)) == Enum.sort(compared ++ others)
      end
    end
  end

  describe "histograms" do
    for format <- [:text, :openmetrics] do
      @format format

      test "of #{format} have the sums and the buckets of what was emitted", context do
        prometheus = context.prometheus[@format]

        for metric <- histograms(), samples = Samples.of(metric) do
          assert values(prometheus, "#{metric}_count") ==
                   Map.new(samples, fn {labels, values} -> {labels, length(values)} end)

          assert_close(values(prometheus, "#{metric}_sum"), samples, metric)
          buckets = values(prometheus, "#{metric}_bucket")
          assert map_size(buckets) > map_size(samples)

          for {labels, count} <- buckets do
            {bound, labels} = Map.pop!(labels, "le")
            values = Map.fetch!(samples, labels)

            assert {metric, labels, bound, count} ==
                     {metric, labels, bound, Enum.count(values, &(&1 <= bound(bound)))}
          end
        end
      end
    end

    test "of protobuf are native, and have the sums and distributions of what was emitted",
         context do
      for metric <- histograms() do
        native = values(context.prometheus.protobuf, "#{metric}")
        samples = Samples.of(metric)

        assert {metric, Map.new(native, fn {labels, native} -> {labels, native.count} end)} ==
                 {metric, Map.new(samples, fn {labels, values} -> {labels, length(values)} end)}

        assert_close(Map.new(native, fn {l, native} -> {l, native.sum} end), samples, metric)

        for {labels, %{buckets: buckets, count: total}} <- native, values = samples[labels] do
          last =
            Enum.reduce(buckets, 0, fn {_lower, upper, count}, below ->
              below = below + count
              # Values are in it after they were rounded.
              assert below >= Enum.count(values, &(&1 <= upper / (1 + @precision)))
              assert below <= Enum.count(values, &(&1 <= upper * (1 + @precision)))
              below
            end)

          assert last == total
        end
      end
    end

    test "have the report's quantiles within 5 % where they are native", context do
      columns = [{0, :min_us}, {1, :max_us} | @quantiles]

      for {what, ours, theirs} <- compared(context, :protobuf, @duration, columns) do
        assert abs(theirs - ours) <= 0.05 * ours, "#{what} is #{ours}, Prometheus says #{theirs}"
      end
    end

    test "have the report's quantiles within a bucket where they are classic", context do
      metric = "#{@duration}_bucket"
      bounds = bounds(context.prometheus.openmetrics, metric)

      for format <- [:text, :openmetrics],
          {what, ours, theirs} <- compared(context, format, metric, @quantiles) do
        # The report's are rounded up, over a bound at most by their precision.
        exact = ours / (1 + @precision)

        assert bucket(theirs, bounds) in bucket(exact, bounds)..bucket(ours, bounds),
               "#{what} is #{ours}, Prometheus says #{theirs}"
      end
    end

    # Of every method with calls enough: what it is, what the report says, what Prometheus says.
    defp compared(context, format, metric, columns) do
      rows = for row <- context.report.operations, row.count >= @enough, do: row
      assert length(rows) > 5

      for {quantile, column} <- columns,
          told = values(context.prometheus[format], "histogram_quantile(#{quantile}, #{metric})"),
          row <- rows do
        labels = row_labels(row, [:method, :python_class])
        {"#{column} of #{row.python_class}.#{row.method}", row[column], Map.fetch!(told, labels)}
      end
    end

    defp bucket(value, bounds), do: Enum.find_index(bounds, &(value <= &1))

    test "of method calls have exemplars: samples that were emitted, with their sessions",
         context do
      exemplars =
        Prometheus.exemplars(
          context.prometheus.openmetrics,
          "#{@duration}_bucket"
        )

      assert length(exemplars) > 10
      samples = Samples.of(:dspex_bridge_call_method_duration)
      sessions = Samples.sessions()

      for %{series: series, labels: labels, value: value} <- exemplars do
        assert labels["session_id"] in sessions
        assert value <= bound(series["le"])
        values = samples[Map.take(series, ["method", "python_class"])]
        assert Enum.any?(values, &close?(&1, value))
      end
    end
  end

  describe "over time" do
    test "nothing that is counted goes down while the demo runs", context do
      assert context.watched.drops == []
      assert context.watched.scrapes > 20
      assert context.watched.grown > 10
    end

    test "Prometheus sees no counter start again in any format", context do
      for {format, prometheus} <- context.prometheus, metric <- counters() do
        assert {format, metric, Prometheus.value(prometheus, "max(resets(#{metric}[10m]))")} ==
                 {format, metric, 0}
      end
    end

    test "nothing that is counted goes down from one scrape of Prometheus to the next", context do
      for format <- [:text, :openmetrics] do
        scrapes =
          for scrape <- ScrapeProxy.scrapes(context.proxies[format]),
              do: Exposition.cumulative(scrape.body)

        assert length(scrapes) > 5
        assert List.last(scrapes) != hd(scrapes)

        for [before, now] <- Enum.chunk_every(scrapes, 2, 1, :discard) do
          assert Exposition.drops(before, now) == []
        end
      end
    end
  end

  describe "the dashboard" do
    test "has data in every query", context do
      assert_data(context.prometheus.openmetrics, Dashboard.expressions())
    end

    test "has data in every query over native histograms", context do
      # This server has no rules, so no alert either.
      expressions = Dashboard.expressions(histograms: :native, conditional: false)
      assert_data(context.prometheus.protobuf, expressions)
    end

    # Those of Snakepit and SnakeBridge have data where recordings are replayed: Bridge.ReplayedTest.
    defp assert_data(prometheus, queries) do
      queries = Enum.reject(queries, &DashboardData.beyond_demo?/1)
      assert length(queries) > 50
      assert DashboardData.without_data(prometheus, queries) == []
    end
  end

  describe "the rules" do
    test "record something, each of them", context do
      prometheus = context.prometheus.openmetrics

      recording =
        for %{"type" => "recording", "name" => name} <- Prometheus.rules(prometheus), do: name

      assert length(recording) > 20
      assert Enum.filter(recording, &(Prometheus.query(prometheus, &1) == [])) == []
    end

    test "alert of what was staged, and of nothing that did not happen", context do
      prometheus = context.prometheus.openmetrics

      fired =
        for %{labels: %{"alertname" => name}} <-
              Prometheus.query(prometheus, ~s|count_over_time(ALERTS{alertstate="firing"}[1h])|),
            uniq: true,
            do: name

      assert "ErrorSpike" in fired
      assert "RejectedEvents" in fired

      for %{"type" => "alerting", "name" => name} <- Prometheus.rules(prometheus),
          name not in @may_fire,
          do: refute({name, name in fired} == {name, true})

      # It may fire until the first scrape.
      absent = ~s|ALERTS{alertname="TelemetryAbsent", alertstate="firing"}|
      assert Prometheus.query(prometheus, absent) == []
    end
  end

  defp router_metrics,
    do:
      for(
        name <- ~w(decisions_total ejections_total in_flight workers),
        do: "dspex_router_#{name}"
      )

  # What the cache tells of a method, by metric.
  defp cache_metrics(method) do
    saved = method.time_saved_us / 1.0e6
    cached = if method.cached, do: 1, else: 0

    for name <- ~w(hits joined misses evictions too_large)a,
        into: %{
          "dspex_cache_time_saved_seconds_total" => saved,
          "dspex_cache_entries" => method.entries,
          "dspex_cache_bytes" => method.bytes,
          "dspex_cache_hit_rate" => method.hit_rate,
          "dspex_cache_variance" => method.variance,
          "dspex_cache_cached" => cached
        },
        do: {"dspex_cache_#{name}_total", Map.fetch!(method, name)}
  end

  defp cache_metrics do
    [method] = AdaptiveCache.report().methods
    Map.keys(cache_metrics(method))
  end

  defp counters, do: for(metric <- Samples.metrics(), "#{metric}" =~ ~r/_total$/, do: metric)
  defp histograms, do: Samples.metrics() -- counters()

  defp row_labels(row, names), do: Map.new(names, &{"#{&1}", Map.fetch!(row, &1)})

  defp assert_close(sums, samples, metric) do
    assert {metric, Enum.sort(Map.keys(sums))} == {metric, Enum.sort(Map.keys(samples))}

    for {labels, sum} <- sums do
      expected = Enum.sum(samples[labels])

      assert close?(sum, expected),
             "the sum of #{metric} #{inspect(labels)} is #{sum}, not #{expected}"
    end
  end

  defp close?(a, b), do: abs(a - b) <= 1.0e-9 * max(abs(a), abs(b))
end
