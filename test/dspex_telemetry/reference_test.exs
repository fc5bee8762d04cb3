defmodule DSPexTelemetry.ReferenceTest do
  # Not async: the task works in the current folder, of which there is one.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureIO

  alias DSPexTelemetry.{Catalogue, Options, Reference}
  alias Mix.Tasks.DspexTelemetry.Reference, as: Task

  @path "docs/reference.md"

  defp tables do
    %{
      events: Catalogue.events(),
      families: Catalogue.families(),
      gauges: Catalogue.gauges(),
      levels: Catalogue.levels(),
      cache_metrics: Catalogue.cache_metrics(),
      self_metrics: Catalogue.self_metrics(),
      options: Options.table()
    }
  end

  defp metrics do
    Enum.flat_map(Catalogue.families(), &(&1.counters ++ &1.histograms)) ++
      Catalogue.gauges() ++ Catalogue.levels()
  end

  # The part of the reference under a heading.
  defp section(heading) do
    [_before, section] = String.split(Reference.render(), "\n### #{heading}\n", parts: 2)
    section |> String.split(~r/^##/m, parts: 2) |> hd()
  end

  defp heading(%{variant: nil, name: name}), do: "`#{inspect(name)}`"
  defp heading(%{variant: :elixir, name: name}), do: "`#{inspect(name)}` from Elixir"
  defp heading(%{variant: :python, name: name}), do: "`#{inspect(name)}` from Python"

  defp key(key) when is_binary(key), do: inspect(key)
  defp key(key), do: to_string(key)

  defp in_temporary_folder(fun) do
    folder = Path.join(System.tmp_dir!(), "reference-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)

    try do
      File.cd!(folder, fun)
    after
      File.rm_rf!(folder)
    end
  end

  # What a scrape tells of the library itself: each metric with its type and labels.
  defp self_metrics(scrape) do
    for [_line, name, type] <-
          Regex.scan(~r/^# TYPE (dspex_(?:telemetry|router)_\w+) (\w+)$/m, scrape) do
      [_line, labels] =
        Regex.run(~r/^#{name}(\{.*\})? /m, scrape) |> Enum.concat([""]) |> Enum.take(2)

      labels = for [_pair, label] <- Regex.scan(~r/(\w+)="/, labels), do: "`#{label}`"
      "| `#{name}` | #{type} | #{Enum.join(labels, ", ")} |"
    end
  end

  test "the metrics of the library itself are those of a scrape" do
    # Nobody listens there.
    delivery = [url: "http://127.0.0.1:1/metrics", stop_timeout: 0]
    event = [:reference, :test]

    metrics = [
      Telemetry.Metrics.sum("reference.rejects", event_name: event),
      Telemetry.Metrics.sum("reference.negative.total", event_name: event, measurement: :negative)
    ]

    instance = start!(push: delivery, otlp: delivery, metrics: metrics)
    :telemetry.execute(event, %{negative: -1})
    :telemetry.execute([:dspex, :bridge, :call_method, :stop], %{}, %{})
    DSPexTelemetry.PerformanceRouter.put_workers(["w"], instance: instance)

    [_before, section] =
      String.split(Reference.render(), "\n## Metrics of the library itself\n", parts: 2)

    [section, _after] = String.split(section, "\n## ", parts: 2)

    # Other formats leave nothing out.
    left_out =
      Regex.scan(
        ~r/^.*dspex_telemetry_samples_left_out.*$/m,
        DSPexTelemetry.scrape(instance: instance, format: :openmetrics)
      )

    scrape = Enum.join([DSPexTelemetry.scrape(instance: instance) | left_out], "\n")
    rows = self_metrics(scrape)
    assert length(rows) == length(Regex.scan(~r/^\| `/m, section))
    for row <- rows, do: assert(section =~ row)
  end

  test "docs/reference.md is current" do
    assert File.read!(@path) == Reference.render(),
           "run mix dspex_telemetry.reference and commit #{@path}"
  end

  test "every event has a section with all its keys and the metrics that it feeds" do
    for event <- Catalogue.events() do
      section = section(heading(event))

      for field <- event.fields, field.type not in [:requester, :why] do
        assert section =~ "| `#{key(hd(Catalogue.Field.sources(field)))}`",
               "#{inspect(event.name)} lacks #{field.key}"
      end

      for {:feed, _family, _labels, counts, observes} <- Catalogue.steps(event),
          {metric, _source} <- counts ++ observes do
        assert section =~ "[`#{metric}`]", "#{inspect(event.name)} lacks #{metric}"
      end
    end
  end

  test "every metric has a section that says which events feed it" do
    for %{name: name} <- metrics() do
      assert section(name) =~ ~r/^- (Fed|Changed|Set) by: \[`\[:/m, "#{name} is fed by nothing"
    end
  end

  test "every metric of the cache has a section with its labels" do
    for %{name: name, kind: kind} <- Catalogue.cache_metrics() do
      assert section(name) =~ "- Type: #{kind}\n"
      assert section(name) =~ "- Labels: `method`, `python_class`\n"
    end
  end

  test "a counter has its family's labels but those it drops, and its dimensions" do
    assert section("dspex_bridge_create_instance_exception_total") =~
             "- Labels: `python_class`, `kind` (`error`, `exit`, `throw`, `other`)\n"
  end

  test "every option has a row" do
    for %{name: name, keys: keys} <- Options.table() do
      assert Reference.render() =~ "| `#{name}` |"
      for key <- keys, do: assert(Reference.render() =~ "| `#{name}: #{key.name}` |")
    end

    assert Reference.render() =~ "| `http: port` | integer | required |"
  end

  test "every reason for a rejection that the core knows has a row" do
    reasons = Regex.scan(~r/=> "(\w+)",/, File.read!("native/recording/src/field.rs"))
    assert length(reasons) == 6

    for [_line, reason] <- reasons do
      assert Reference.render() =~ "| `#{reason}` |"
    end
  end

  test "every link leads to a heading" do
    reference = Reference.render()

    headings =
      for [_line, heading] <- Regex.scan(~r/^##+ (.*)$/m, reference) do
        heading
        |> String.downcase()
        |> String.replace(~r/[^\w\s-]/, "")
        |> String.replace(" ", "-")
      end

    for [_link, target] <- Regex.scan(~r/\]\(#([^)]*)\)/, reference) do
      assert target in headings
    end
  end

  test "another text in the catalogue or in an option makes the file stale" do
    tables = tables()

    texts =
      for(event <- tables.events, place <- [event | event.fields], do: place.doc) ++
        for(metric <- metrics() ++ Catalogue.cache_metrics(), do: metric.doc) ++
        for option <- tables.options, row <- [option | option.keys], do: row.doc

    for text <- Enum.uniq(texts) do
      assert Reference.render(replace(tables, text, "Something else.")) != Reference.render()
    end
  end

  test "another type, unit, label, default or bucket makes the file stale" do
    tables = tables()

    for {old, new} <- [
          {:flag, :text},
          {:millisecond, :byte},
          {:method, :function},
          {2_000, 3_000},
          {600_000_000, 700_000_000}
        ] do
      assert Reference.render(replace(tables, old, new)) != Reference.render()
    end
  end

  describe "mix dspex_telemetry.reference" do
    test "--check accepts the file as it is" do
      assert Task.run(["--check"]) == :ok
    end

    test "--check refuses a file that is missing or not current, and says what to run" do
      in_temporary_folder(fn ->
        File.mkdir!("docs")

        for prepare <- [fn -> :ok end, fn -> File.write!(@path, "old\n") end] do
          prepare.()
          error = assert_raise Mix.Error, fn -> Task.run(["--check"]) end
          assert error.message =~ "run mix dspex_telemetry.reference"
        end
      end)
    end

    test "writes the file" do
      in_temporary_folder(fn ->
        assert capture_io(fn -> Task.run([]) end) =~ "wrote #{@path}"
        assert File.read!(@path) == Reference.render()
      end)
    end

    test "refuses other arguments" do
      assert_raise Mix.Error, ~r/usage: /, fn -> Task.run(["--chekc"]) end
    end
  end

  # The tables with one value for another, wherever it stands.
  defp replace(old, old, new), do: new

  defp replace(%struct{} = map, old, new),
    do: struct!(struct, replace(Map.from_struct(map), old, new))

  defp replace(%{} = map, old, new),
    do: Map.new(map, fn {key, value} -> {key, replace(value, old, new)} end)

  defp replace(list, old, new) when is_list(list), do: Enum.map(list, &replace(&1, old, new))

  defp replace(tuple, old, new) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> replace(old, new) |> List.to_tuple()

  defp replace(other, _old, _new), do: other
end
