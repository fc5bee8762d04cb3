defmodule DSPexTelemetry.Dashboard.QueriesTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.{Catalogue, Dashboard, PerformanceRouter}
  alias DSPexTelemetry.Dashboard.Alerts

  import DSPexTelemetry.DashboardTesting
  import DSPexTelemetry.TestInstance

  @rules "priv/prometheus/alerting_rules.yml"

  # Starts are drawn where they say more than completions; exceptions are within the failures. Failures are drawn by method
  # and reason, which contain those by reason alone.
  @not_drawn ~w(
    dspex_bridge_create_instance_exception_total
    dspex_bridge_create_instance_start_total
    dspex_bridge_call_method_start_total
    dspex_bridge_error_total
    dspex_tools_call_exception_total
    snakepit_grpc_execute_exception_total
    snakepit_grpc_execute_start_total
  )

  @target_labels ~w(job instance)

  defp grouped(expression) do
    for [_all, labels] <- Regex.scan(~r/(?:by|on) \(([^)]*)\)/, expression),
        label <- String.split(labels, ", "),
        do: label
  end

  describe "queries" do
    test "name metrics that there are, with labels that they have" do
      known = known()

      for {title, ref, expression} <- Dashboard.expressions() do
        where = "#{title}, #{ref}"
        selectors = selectors(expression)
        assert selectors != [], where

        for {metric, matched} <- selectors do
          assert Map.has_key?(known, metric), "#{where}: there is no metric #{metric}"
          assert matched -- (known[metric] ++ @target_labels) == [], "#{where}: #{metric}"
        end

        labels = Enum.flat_map(selectors, fn {metric, _matched} -> known[metric] end)
        assert grouped(expression) -- (labels ++ @target_labels) == [], "#{where}: #{expression}"
      end
    end

    test "draw every metric of the catalogue but those that others contain" do
      drawn = Dashboard.expressions() |> Enum.flat_map(&metrics(elem(&1, 2))) |> MapSet.new()

      histograms = for name <- Catalogue.histogram_names(), do: name <> "_bucket"

      counters =
        for family <- Catalogue.families(),
            counter <- family.counters,
            do: to_string(counter.name)

      others = Map.keys(gauges()) ++ Map.keys(levels()) ++ Map.keys(cache_metrics())
      assert Enum.reject(histograms ++ counters ++ others, &(&1 in drawn)) == @not_drawn
    end

    test "draw every metric about the library itself" do
      drawn = Dashboard.expressions() |> Enum.flat_map(&metrics(elem(&1, 2))) |> MapSet.new()
      assert Enum.reject(Map.keys(own()), &(&1 in drawn)) == []
    end

    test "know the metrics about the library itself as a scrape has them" do
      instance = start!()
      handle(plans(instance), [:dspex, :session, :created], %{}, %{})
      handle(plans(instance), [:dspex, :tools, :call, :stop], %{duration: -1}, %{})
      PerformanceRouter.put_workers(["python-1"], instance: instance)
      {:ok, _worker} = PerformanceRouter.route_request("search", nil, instance: instance)

      scraped =
        for line <- String.split(DSPexTelemetry.scrape(instance: instance), "\n"),
            [_all, name, labels] <-
              [Regex.run(~r/^(dspex_(?:telemetry|router)_\w+)\{?(.*?)\}? \S+$/, line)],
            into: %{} do
          {name, Enum.map(Regex.scan(~r/(\w+)="/, labels), &List.last/1)}
        end

      # Without options push, otlp and metrics there are none.
      assert scraped ==
               Map.drop(own(), [
                 "dspex_telemetry_push_total",
                 "dspex_telemetry_otlp_total",
                 "dspex_telemetry_otlp_lost_points_total",
                 "dspex_telemetry_metric_rejected_total",
                 "dspex_telemetry_samples_left_out"
               ])
    end

    test "show quantiles of rates that keep the buckets" do
      for {title, _ref, expression} <- Dashboard.expressions(),
          expression =~ "histogram_quantile" do
        assert expression =~
                 ~r/histogram_quantile\(0\.\d+, sum by \(le[^)]*\) \(rate\(\w+_bucket\{[^}]*\}\[\$__rate_interval\]\)( and on \([^)]+\) rate\([^()]+\) > 0)?\)\)/,
               title
      end
    end

    test "have nothing to show, rather than NaN or infinity, where there were no calls" do
      for options <- [[], [histograms: :native]],
          {title, _ref, expression} <- Dashboard.expressions(options) do
        # What has no samples has the quantile NaN, which is not >= 0.
        assert length(String.split(expression, "histogram_quantile(")) ==
                 length(String.split(expression, ") >= 0")),
               title

        # A limit is at least 1.
        for divisor <- tl(String.split(expression, " / ")) do
          assert divisor =~
                   ~r/^(1e6|dspex_telemetry_series_limit\b|\((?<within>[^()]|\((?&within)*\))* > 0\))/,
                 "#{title}: / #{divisor}"
        end
      end
    end

    test "compare whole calls with Python's time of those methods only that have both" do
      of = fn title, options ->
        for {^title, _ref, expression} <- Dashboard.expressions(options), do: expression
      end

      timed =
        ~r/and on \(job, instance, python_class, method\) rate\(dspex_bridge_call_method_python_total\{[^}]*\}\[\$__rate_interval\]\) > 0/

      for options <- [[], [histograms: :native]] do
        assert [calls50, calls95, python50, python95] =
                 of.("Round trip and time in Python", options)

        for calls <- [calls50, calls95], do: assert(calls =~ timed)
        for python <- [python50, python95], do: assert(hd(metrics(python)) =~ "_python_duration")

        assert [cost] = of.("Cost of the bridge by method", options)
        assert Enum.count(metrics(cost), &(&1 =~ "_python_duration")) == 2
        assert Enum.count(metrics(cost), &(&1 =~ "call_method_duration")) == 2
      end
    end

    test "are confined to the chosen jobs and instances, but for alerts" do
      for {title, _ref, expression} <- Dashboard.expressions(),
          {metric, labels} <- selectors(expression),
          metric != "ALERTS" do
        assert @target_labels -- labels == [], "#{title}: #{metric}"
      end
    end

    test "use the variables that the dashboard has" do
      names = ["job", "instance", "class", "method"]
      assert Enum.map(tl(variables(decoded())), & &1["name"]) == names

      used =
        for {_title, _ref, expression} <- Dashboard.expressions(),
            [_all, name] <- Regex.scan(~r/\$(\w+)/, expression),
            not String.starts_with?(name, "__"),
            uniq: true,
            do: name

      assert Enum.sort(used) == Enum.sort(names)
    end

    test "have legends with labels that are in the result" do
      for panel <- drawn(decoded()),
          %{"expr" => expression, "legendFormat" => legend} <- panel["targets"],
          # Those of Prometheus itself are shown as they are, with all their labels.
          not Enum.any?(metrics(expression), &(&1 in ["up", "scrape_duration_seconds"])),
          [_all, label] <- Regex.scan(~r/\{\{(\w+)\}\}/, legend) do
        assert label in grouped(expression),
               "#{panel["title"]}: #{label} is not in #{expression}"
      end
    end

    test "know which of them have a result only when something has happened" do
      always = Dashboard.expressions(conditional: false)
      only_then = for {title, _ref, _expression} <- Dashboard.expressions() -- always, do: title

      assert Enum.uniq(only_then) == [
               "Round trip and time in Python",
               "Cost of the bridge by method",
               "Sessions released by SnakeBridge",
               "Sessions that Python did not release",
               "Routed requests by worker",
               "Routed requests by reason",
               "In flight by worker",
               "Workers by state",
               "Ejections",
               "Calls through the cache",
               "Cache hit rate by method",
               "Cached methods",
               "Run time saved",
               "Size of the cache",
               "Kept results",
               "Changed results by method",
               "Results that were not kept",
               "Executions by gRPC",
               "Execution p95 by command",
               "Failed executions",
               "Request p95 by command",
               "Requests by outcome",
               "Requests that had to wait",
               "Refused requests",
               "Circuit breakers",
               "Changes of circuit breakers",
               "Retries",
               "Startup of pools and delays of retries (p95)",
               "Sessions in the store",
               "Sessions removed at once (p95)",
               "Heartbeat latency (p95)",
               "Heartbeats",
               "Missed heartbeats",
               "Incidents of workers",
               "Memory of recycled workers (p95)",
               "Errors in Python",
               "Timed in Python",
               "Timed in Python (p95)",
               "Sizes in Python (p95)",
               "Zero copy",
               "Processors of Python",
               "Memory of Python",
               "Memory of GPUs",
               "Use of GPUs",
               "Temperature of GPUs",
               "Power of GPUs",
               "Alerts",
               "Rejected events",
               "Events that metrics have not recorded",
               "Pushes and exports",
               "Annotation: Error spikes",
               "Annotation: Alerts"
             ]

      assert always -- Dashboard.expressions() == []
    end

    test "ask for the alerts of the rules" do
      in_rules = Regex.scan(~r/- alert: (\w+)/, File.read!(@rules), capture: :all_but_first)
      assert in_rules |> List.flatten() |> Enum.uniq() |> Enum.sort() == Alerts.names()
    end
  end
end
