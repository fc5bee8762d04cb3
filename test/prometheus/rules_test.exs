defmodule DSPexTelemetry.Prometheus.RulesTest do
  # What can be said of the rules for Prometheus without Prometheus; promtool_test.exs runs them.
  # Not async: the runbooks' expressions are about the default instance.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias DSPexTelemetry.{Catalogue, EventSamples, PrometheusRules, PromQL, TestInstance}

  @recording "priv/prometheus/recording_rules.yml"
  @alerting "priv/prometheus/alerting_rules.yml"
  @runbooks "docs/runbooks.md"

  # Labels and metrics that Prometheus adds to what it scrapes.
  @target_labels ~w(job instance)
  @of_prometheus %{"up" => [%{}], "scrape_duration_seconds" => [%{}]}

  defp alerts, do: PrometheusRules.read!(@alerting)
  defp records, do: PrometheusRules.read!(@recording)
  defp name(rule), do: "#{rule.kind} #{rule.name} #{rule.labels["long_window"]}"

  # All samples that an instance exposes which has seen every event, overflow and a rejection, as
  # label sets by the sample's name. A histogram is there under its own name too, as a server that
  # stores native histograms has it.
  defp scraped do
    instance = TestInstance.start!(series_limit: 1)

    for event <- Catalogue.events(), suffix <- ["", " of another"] do
      {measurements, metadata} = EventSamples.good(event)
      metadata = Map.new(metadata, fn {key, value} -> {key, other(value, suffix)} end)
      handle(instance, event.name, measurements, metadata)
    end

    [event | _events] = Catalogue.events()
    handle(instance, event.name, %{}, %{})

    # A spike, of the one method that has a series.
    {:ok, stop} = Catalogue.fetch([:dspex, :bridge, :call_method, :stop])
    {measurements, metadata} = EventSamples.good(stop)

    for _error <- 1..5 do
      handle(instance, stop.name, measurements, %{metadata | success: false})
    end

    text = DSPexTelemetry.scrape(instance: instance, format: :text)

    samples =
      for [_line, name, labels] <- Regex.scan(~r/^([a-z]\w*)((?:\{.*\})?) \S+$/m, text) do
        {name, labels_of(labels)}
      end

    native =
      for [_line, name] <- Regex.scan(~r/^# TYPE (\w+) histogram$/m, text),
          {sample, labels} <- samples,
          sample == name <> "_count",
          do: {name, labels}

    Enum.group_by(samples ++ native, &elem(&1, 0), &elem(&1, 1))
  end

  defp other("some " <> _rest = value, suffix), do: value <> suffix
  defp other(:timeout, " of another"), do: :killed
  defp other(value, _suffix), do: value

  defp handle(instance, event, measurements, metadata) do
    TestInstance.handle(TestInstance.plans(instance), event, measurements, metadata)
  end

  defp labels_of(text) do
    for [_all, label, value] <- Regex.scan(~r/(\w+)="([^"]*)"/, text),
        into: %{},
        do: {label, value}
  end

  # What is wrong with an expression, given label sets by metric.
  defp faults(expr, known) do
    %{selectors: selectors, grouped: grouped} = PromQL.read(expr)

    unknown = for {metric, _matchers} <- selectors, not is_map_key(known, metric), do: metric

    unmatched =
      for {metric, matchers} <- selectors,
          {label, value} <- matchers,
          not matched?(Map.get(known, metric, []), label, value),
          do: "#{metric}{#{label}=\"#{value}\"}"

    groupable =
      for {metric, _matchers} <- selectors,
          labels <- Map.get(known, metric, []),
          label <- Map.keys(labels),
          do: label

    ungroupable = for label <- grouped, label not in (@target_labels ++ groupable), do: label
    unknown ++ unmatched ++ ungroupable
  end

  # Only values that are enumerated are known beforehand.
  defp matched?(label_sets, label, value) when label in ~w(success cached kind found caller),
    do: Enum.any?(label_sets, &(&1[label] == value))

  defp matched?(label_sets, label, _value), do: Enum.any?(label_sets, &is_map_key(&1, label))

  defp recorded(known) do
    for rule <- records(), reduce: known do
      known ->
        %{selectors: selectors} = PromQL.read(rule.expr)
        labels = for {metric, _matchers} <- selectors, set <- known[metric] || [], do: set
        Map.put(known, rule.name, Enum.uniq(labels))
    end
  end

  defp sections do
    [_introduction | sections] = String.split(File.read!(@runbooks), ~r/^## /m)

    for section <- sections do
      [heading, text] = String.split(section, "\n", parts: 2)
      {heading, text}
    end
  end

  # As GitHub and ExDoc make anchors of headings that are one word.
  defp anchor(heading), do: String.downcase(heading)

  defp blocks(text, language) do
    for [_all, block] <- Regex.scan(~r/^```#{language}\n(.*?)^```$/ms, text), do: block
  end

  test "every alert says for how long, how severe, what, where, and what to do" do
    for rule <- alerts() do
      assert rule.kind == :alert, name(rule)
      assert rule.for =~ ~r/^\d+[mh]$/, name(rule)
      assert rule.labels["severity"] in ~w(critical warning info), name(rule)

      assert rule.annotations |> Map.keys() |> Enum.sort() == ~w(description runbook_url summary),
             name(rule)

      assert rule.annotations["runbook_url"] == "docs/runbooks.md##{anchor(rule.name)}"
      refute rule.annotations["summary"] =~ "{{", name(rule)
    end
  end

  test "every alert but the one about no target at all says which target or job it is about" do
    for rule <- alerts(), rule.name != "TelemetryAbsent" do
      assert rule.annotations["description"] =~ ~r/\{\{ \$labels\.(instance|job) \}\}/, name(rule)
    end
  end

  test "an alert about methods or commands has words for those over the series limit" do
    for rule <- alerts(), rule.annotations["description"] =~ ~r/\$labels\.(method|command)/ do
      assert rule.annotations["description"] =~ "{{ if $labels.otel_metric_overflow }}",
             name(rule)
    end
  end

  test "no two rules have the same name and labels" do
    rules = Enum.map(records() ++ alerts(), &{&1.name, &1.labels})
    assert rules == Enum.uniq(rules)
  end

  test "records are named level:metric:operation, after the labels that they keep" do
    for rule <- records() do
      assert rule.kind == :record and rule.for == nil
      assert [level, _metric, _operation] = String.split(rule.name, ":")
      assert level in ~w(instance instance_method instance_command instance_tool
                         job job_method job_command job_tool)
      by_job? = rule.expr =~ "by (job" or rule.expr =~ ~r/\bjob(_\w+)?:/
      assert by_job? == String.starts_with?(level, "job"), name(rule)
    end
  end

  # promtool 2.42 cannot be given native histograms, so their half is held to the other, which it tests.
  test "a quantile of native histograms is that of the classic buckets, without buckets" do
    quantiles = Enum.filter(records(), &(&1.expr =~ "histogram_quantile"))
    assert length(quantiles) == 12

    for rule <- quantiles do
      assert [classic, native] = String.split(rule.expr, "\nor ")
      assert classic =~ "_bucket[", name(rule)
      without_buckets = classic |> String.replace("_bucket[", "[") |> String.replace(", le)", ")")
      assert native == without_buckets, name(rule)
    end
  end

  test "the alerts of the specification are there under their names" do
    names = Enum.map(alerts(), & &1.name)
    assert ~w(HighErrorRate HighLatency WorkerPoolUnhealthy) -- names == []
  end

  test "every metric and label in a rule is one that is exposed or recorded" do
    known = Map.merge(scraped(), @of_prometheus)

    for rule <- records() do
      earlier = records() |> Enum.take_while(&(&1 != rule)) |> Enum.map(& &1.name)
      available = known |> recorded() |> Map.take(Map.keys(known) ++ earlier)
      assert {name(rule), faults(rule.expr, available)} == {name(rule), []}
    end

    for rule <- alerts() do
      assert {name(rule), faults(rule.expr, recorded(known))} == {name(rule), []}
    end
  end

  test "every label in an annotation is one that the alert's metrics have" do
    known = recorded(Map.merge(scraped(), @of_prometheus))

    for rule <- alerts(), text <- Map.values(rule.annotations) do
      %{selectors: selectors} = PromQL.read(rule.expr)
      sets = Enum.flat_map(selectors, fn {metric, _matchers} -> Map.get(known, metric, []) end)
      # Any family may overflow, that of spikes only after having forgotten some.
      labels = ["otel_metric_overflow" | @target_labels ++ Enum.flat_map(sets, &Map.keys/1)]

      unknown =
        for [_all, label] <- Regex.scan(~r/\$labels\.(\w+)/, text),
            label not in labels,
            do: label

      assert {name(rule), unknown} == {name(rule), []}
    end
  end

  test "every alert has a section in the runbooks, and every section an alert" do
    headings = for {heading, _text} <- sections(), do: heading
    assert headings == alerts() |> Enum.map(& &1.name) |> Enum.uniq()
  end

  test "every section says how to tune the alert, and has a query or an expression to look with" do
    for {heading, text} <- sections() do
      assert text =~ "Tune: ", heading
      assert blocks(text, "promql") != [], heading
    end
  end

  test "links within the runbooks lead to a section" do
    anchors = for {heading, _text} <- sections(), do: anchor(heading)

    for [_all, anchor] <- Regex.scan(~r/\]\(#([^)]*)\)/, File.read!(@runbooks)) do
      assert anchor in anchors
    end
  end

  test "thresholds that a runbook names are those of its alert" do
    for {heading, text} <- sections(),
        [_all, tuning] <- Regex.scan(~r/^Tune: (.*?)(?:\n\n|\z)/ms, text),
        [_all, threshold] <- Regex.scan(~r/`((?:>=? |[\d.]+ \*|for: |\[)[^`]*)`/, tuning) do
      rules = Enum.filter(alerts(), &(&1.name == heading))

      assert Enum.all?(rules, &("#{&1.expr}\nfor: #{&1.for}" =~ threshold)),
             "#{heading} #{threshold}"
    end
  end

  test "every query in the runbooks is about metrics and labels that are exposed or recorded" do
    known = recorded(Map.merge(scraped(), @of_prometheus))

    for {heading, text} <- sections(),
        block <- blocks(text, "promql"),
        query <- String.split(block, "\n", trim: true) do
      assert {heading, faults(query, known)} == {heading, []}
    end
  end

  test "every expression in the runbooks can be evaluated" do
    for {heading, text} <- sections(),
        block <- blocks(text, "elixir"),
        [_all, expression] <- Regex.scan(~r/^iex> (.*)$/m, block) do
      capture_io(fn ->
        assert {_value, _binding} = Code.eval_string(expression), "#{heading}: #{expression}"
      end)
    end
  end

  test "every alert is tested" do
    tests = "test/prometheus/*.yml" |> Path.wildcard() |> Enum.map_join("\n", &File.read!/1)

    for rule <- alerts() do
      assert tests =~ ~r/alertname: #{rule.name}\n\s+exp_alerts: ?(&\w+)?\n\s+- /, name(rule)
      assert tests =~ rule.annotations["summary"], name(rule)
    end

    for rule <- records(), do: assert(tests =~ "'#{rule.name}{" or tests =~ "(#{rule.name}")
  end
end
