defmodule DSPexTelemetry.DashboardTest do
  use ExUnit.Case, async: true

  doctest DSPexTelemetry.Dashboard

  alias DSPexTelemetry.Dashboard

  import DSPexTelemetry.DashboardTesting

  @path "priv/grafana/dspex_telemetry.json"

  @target_labels ~w(job instance)

  defp series_of_variables(options) do
    for %{"type" => "query", "name" => name, "query" => query} <- variables(decoded(options)) do
      [_all, series, label] = Regex.run(~r/^label_values\((.+), (\w+)\)$/, query["query"])
      {name, series, label}
    end
  end

  test "#{@path} is current" do
    assert File.read!(@path) == Dashboard.render(),
           "run mix dspex_telemetry.dashboard --output #{@path} and commit it"
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
              do: if(Map.has_key?(foreign(), metric), do: metric, else: "acme_" <> metric)

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
