defmodule DSPexTelemetry.DashboardTest do
  use ExUnit.Case, async: true

  doctest DSPexTelemetry.Dashboard

  alias DSPexTelemetry.{Catalogue, Dashboard, PerformanceRouter, StrictJSON}
  alias DSPexTelemetry.Dashboard.Alerts

  import DSPexTelemetry.TestInstance

  @path "priv/grafana/dspex_telemetry.json"
  @rules "priv/prometheus/alerting_rules.yml"

  # What a scrape says of the library itself, and the labels of each. A test holds it to one.
  @own Map.new(
         Catalogue.own_metrics(),
         &{to_string(&1.name), Enum.map(&1.labels, fn label -> to_string(label) end)}
       )

  # What Prometheus itself has.
  @foreign %{
    "up" => [],
    "scrape_duration_seconds" => [],
    "ALERTS" => ~w(alertname alertstate severity)
  }

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

  defp decoded(options \\ []), do: options |> Dashboard.render() |> StrictJSON.decode!()

  defp panels(dashboard) do
    for %{"panels" => inside} = row <- dashboard["panels"], panel <- inside ++ [row] do
      panel
    end ++ Enum.reject(dashboard["panels"], &Map.has_key?(&1, "panels"))
  end

  defp drawn(dashboard), do: Enum.reject(panels(dashboard), &(&1["type"] == "row"))

  defp variables(dashboard), do: dashboard["templating"]["list"]

  defp series_of_variables(options) do
    for %{"type" => "query", "name" => name, "query" => query} <- variables(decoded(options)) do
      [_all, series, label] = Regex.run(~r/^label_values\((.+), (\w+)\)$/, query["query"])
      {name, series, label}
    end
  end

  # Every metric with its labels; those of a histogram as in the text formats.
  defp catalogued do
    for family <- Catalogue.families(),
        labels = Enum.map(family.labels, &to_string/1),
        {name, labels} <-
          Enum.map(family.counters, &{to_string(&1.name), counter_labels(&1, labels)}) ++
            Enum.flat_map(family.histograms, &histogram_series(&1, labels)),
        into: gauges() |> Map.merge(levels()) |> Map.merge(cache_metrics()) do
      {name, labels}
    end
  end

  defp gauges, do: Map.new(Catalogue.gauges(), &{to_string(&1.name), []})

  defp levels,
    do:
      Map.new(
        Catalogue.levels(),
        &{to_string(&1.name), Enum.map(&1.labels, fn l -> to_string(l) end)}
      )

  defp cache_metrics,
    do: Map.new(Catalogue.cache_metrics(), &{to_string(&1.name), ~w(method python_class)})

  defp counter_labels(counter, labels) do
    dropped = counter |> Map.get(:drop_labels, []) |> Enum.map(&to_string/1)
    (labels -- dropped) ++ for {name, _values} <- counter.dimensions, do: to_string(name)
  end

  defp histogram_series(histogram, labels) do
    [
      {"#{histogram.name}_bucket", ["le" | labels]},
      {"#{histogram.name}_sum", labels},
      {"#{histogram.name}_count", labels}
    ]
  end

  defp known, do: catalogued() |> Map.merge(@own) |> Map.merge(@foreign)

  # The metrics that a query names, each with the labels that its matchers name.
  defp selectors(expression) do
    for [_all, metric, matchers] <- Regex.scan(~r/([a-zA-Z_:][\w:]*)\{([^}]*)\}/, expression) do
      {metric, Enum.map(Regex.scan(~r/(\w+)=/, matchers), &List.last/1)}
    end
  end

  defp grouped(expression) do
    for [_all, labels] <- Regex.scan(~r/(?:by|on) \(([^)]*)\)/, expression),
        label <- String.split(labels, ", "),
        do: label
  end

  defp metrics(expression), do: Enum.map(selectors(expression), &elem(&1, 0))

  test "#{@path} is current" do
    assert File.read!(@path) == Dashboard.render(),
           "run mix dspex_telemetry.dashboard --output #{@path} and commit it"
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
      assert Enum.reject(Map.keys(@own), &(&1 in drawn)) == []
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
               Map.drop(@own, [
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

  describe "variables" do
    test "are chosen from labels that their metrics have, each among those before it" do
      known = known()

      for {name, series, label} <- series_of_variables([]) do
        [{metric, matched}] = selectors(series <> if(series =~ "{", do: "", else: "{}"))
        assert label in (known[metric] ++ @target_labels), name
        assert matched -- (known[metric] ++ @target_labels) == [], name
      end

      assert for({_name, series, _label} <- series_of_variables([]), do: matchers(series)) ==
               [[], ~w(job), ~w(job instance), ~w(job instance class)]
    end

    test "may be several or all, all being also the series that lack the label" do
      for %{"type" => "query"} = variable <- variables(decoded()) do
        assert %{"multi" => true, "includeAll" => true, "allValue" => ".*"} = variable
      end
    end

    defp matchers(series), do: ~r/\$(\w+)/ |> Regex.scan(series) |> Enum.map(&List.last/1)
  end

  describe "panels" do
    test "have ids and titles of their own" do
      panels = panels(decoded())

      for key <- ["id", "title"] do
        values = Enum.map(panels, & &1[key])
        assert values -- Enum.uniq(values) == []
      end
    end

    test "say what they show, in which unit, and what stands there while there is nothing" do
      for panel <- drawn(decoded()) do
        assert String.length(panel["description"]) > 15, panel["title"]
        assert String.ends_with?(panel["description"], "."), panel["title"]
        assert %{"unit" => _unit, "noValue" => _text} = panel["fieldConfig"]["defaults"]
      end
    end

    test "are in the unit of what they show" do
      for panel <- drawn(decoded()),
          panel["type"] != "table",
          %{"expr" => expression} <- panel["targets"] do
        unit = panel["fieldConfig"]["defaults"]["unit"]

        expected =
          case Regex.run(~r/histogram_quantile\([^(]+\([^(]+\) \(rate\((\w+)_bucket/, expression) do
            [_all, histogram] -> unit_of(histogram)
            nil -> unit
          end

        assert unit == expected, "#{panel["title"]} is in #{unit}"
      end
    end

    test "stand within the grid, below their row, and none over another" do
      for row <- rows(decoded()) do
        for {panel, index} <- Enum.with_index(row),
            %{"x" => x, "w" => width} = panel["gridPos"] do
          assert x >= 0 and x + width <= 24

          for other <- Enum.drop(row, index + 1) do
            refute overlap?(panel["gridPos"], other["gridPos"]),
                   "#{panel["title"]} and #{other["title"]}"
          end
        end
      end
    end

    test "ask the data source that was chosen" do
      for panel <- drawn(decoded()), place <- [panel | panel["targets"]] do
        assert place["datasource"] == %{"type" => "prometheus", "uid" => "${datasource}"}
      end
    end

    defp unit_of(histogram) do
      cond do
        histogram =~ ~r/_(duration|time)$/ -> "µs"
        histogram =~ ~r/_seconds$/ -> "s"
        histogram =~ ~r/_bytes$/ -> "bytes"
        histogram in ["dspex_session_operations", "snakepit_session_pruned"] -> "short"
      end
    end

    # The panels of each row, which is the first of them.
    defp rows(dashboard) do
      dashboard["panels"]
      |> Enum.chunk_while(
        [],
        fn
          %{"type" => "row"} = row, [] -> {:cont, [row]}
          %{"type" => "row"} = row, done -> {:cont, done, [row]}
          panel, done -> {:cont, done ++ [panel]}
        end,
        &{:cont, &1, []}
      )
      |> Enum.map(fn [row | panels] -> [row | row["panels"] ++ panels] end)
    end

    defp overlap?(one, other) do
      one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"] and
        one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    end
  end

  describe "options" do
    test "a prefix is before every metric of ours, and before no other" do
      plain = Dashboard.expressions()
      prefixed = Dashboard.expressions(prefix: "acme_")

      for {{title, ref, before}, {title, ref, now}} <- Enum.zip(plain, prefixed) do
        expected =
          for metric <- metrics(before),
              do: if(Map.has_key?(@foreign, metric), do: metric, else: "acme_" <> metric)

        assert metrics(now) == expected, title
        refute now =~ ~r/(?<!acme_)\b(dspex|snakepit|snakebridge)_/, title
      end

      assert [_ | _] = variables = series_of_variables(prefix: "acme_")
      for {name, series, _label} <- variables, do: assert(series =~ ~r/^acme_dspex_/, name)
    end

    test "a data source is in the place of the variable that chooses one" do
      dashboard = decoded(datasource: "Main Prometheus")
      assert Enum.map(variables(dashboard), & &1["type"]) == ["query", "query", "query", "query"]
      refute Dashboard.render(datasource: "Main Prometheus") =~ "${datasource}"

      for %{"datasource" => source} <-
            drawn(dashboard) ++ variables(dashboard) ++ tl(dashboard["annotations"]["list"]) do
        assert source == %{"type" => "prometheus", "uid" => "Main Prometheus"}
      end
    end

    test "a title and a uid are the dashboard's" do
      title = ~S(Bridge "A" \ µ)
      assert %{"title" => ^title, "uid" => "bridge-a"} = decoded(title: title, uid: "bridge-a")
    end

    test "an address of the runbooks is where failing methods link to" do
      url = "https://example.org/docs/runbooks.html"

      links = fn options ->
        for panel <- drawn(decoded(options)),
            override <- panel["fieldConfig"]["overrides"],
            %{"id" => "links", "value" => links} <- override["properties"],
            do: {panel["title"], override["matcher"]["options"], links}
      end

      assert [{"Why methods fail", "Method", [link]}] = links.(runbooks: url)
      assert link["url"] == url <> "#higherrorrate"
      assert File.read!("docs/runbooks.md") =~ "\n## HighErrorRate\n"

      # It would lead into Grafana.
      assert links.([]) == []
    end

    test "native histograms are asked without the series that classic ones have" do
      for {title, _ref, expression} <- Dashboard.expressions(histograms: :native) do
        assert Enum.filter(metrics(expression), &(&1 =~ ~r/_(bucket|sum|count)$/)) == [], title
        refute expression =~ ~r/\ble\b/, title
      end

      [expression] =
        for {"Latency p95", _ref, expression} <- Dashboard.expressions(histograms: :native),
            do: expression

      assert expression =~
               ~r/^histogram_quantile\(0.95, sum\(rate\(dspex_bridge_call_method_duration\{/
    end

    test "that are not allowed are refused with a sentence" do
      for {options, sentence} <- [
            {[prefix: "1a"], ~r/^prefix must be the beginning of a metric's name.*, not "1a"$/},
            {[prefix: "a b"], ~r/^prefix must be/},
            {[prefix: "a\n"], ~r/^prefix must be/},
            {[uid: "a b"], ~r/^uid must be 1 to 40 letters/},
            {[uid: String.duplicate("a", 41)], ~r/^uid must be/},
            {[title: " "], ~r/^title must be some text/},
            {[runbooks: "docs/runbooks.md"],
             ~r/^runbooks must be an address that begins with http/},
            {[runbooks: "https://example.org/#a"], ~r/^runbooks must be/},
            {[runbooks: "javascript:alert(1)"], ~r/^runbooks must be/},
            {[datasource: ""], ~r/^datasource must be a uid or a name/},
            {[datasource: <<255>>], ~r/^datasource must be/},
            {[histograms: :both], ~r/^histograms must be :classic or :native, not :both$/},
            {[colour: "red"], ~r/^:colour is not an option/}
          ] do
        assert_raise ArgumentError, sentence, fn -> Dashboard.render(options) end
        assert_raise ArgumentError, sentence, fn -> Dashboard.expressions(options) end
      end
    end
  end
end
