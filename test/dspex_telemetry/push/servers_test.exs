defmodule DSPexTelemetry.Push.ServersTest do
  # The real servers, from Debian's packages prometheus-pushgateway and victoria-metrics.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestCalls, only: [call: 1]
  import DSPexTelemetry.TestInstance, except: [start!: 0, start!: 1]

  alias DSPexTelemetry.{Push, PushServer, PushTesting, ServerProgram, StrictJSON}

  @moduletag :servers
  @patience_ms 60_000

  @export "/api/v1/export?" <> URI.encode_query(%{"match[]" => ~s({__name__!=""})})

  # Values that text formats tend to get wrong.
  @class ~S(C "quoted" \ back) <> "\nline é 😀"

  # An instance that has all kinds of metrics and sees no more events.
  defp start_pushing!(url, options) do
    name = PushTesting.start!(url, [interval: PushTesting.long(), timeout: 30_000] ++ options)

    for duration <- [1, 999, 1_000, 123_456_789], success <- [true, false] do
      :telemetry.execute([:dspex, :bridge, :call_method, :stop], %{duration: duration}, %{
        method: "rank",
        python_class: @class,
        success: success
      })
    end

    for n <- 1..30, do: call("method-#{n}")
    :ok = DSPexTelemetry.detach(instance: name)
    name
  end

  defp push!(name) do
    before = Push.counts(name)
    PushTesting.push_now(name)
    await("a push", fn -> Push.counts(name) != before end)
    assert Push.counts(name) == %{before | success: before.success + 1}
  end

  # `%{{name, labels} => value}`, without what changes from one scrape to the next.
  defp samples(text) do
    for line <- String.split(text, "\n", trim: true),
        not String.starts_with?(line, "#"),
        {name, labels, value} = parse(line),
        name not in ["dspex_telemetry_push_total", "dspex_telemetry_memory_bytes"],
        name not in ["dspex_telemetry_window_memory_bytes"],
        into: %{},
        do: {{name, labels}, value}
  end

  defp assert_same(read, expected) do
    differences =
      for key <- Enum.uniq(Map.keys(read) ++ Map.keys(expected)),
          read[key] != expected[key],
          do: {key, read[key], expected[key]}

    assert differences == []
  end

  defp parse(line) do
    [_all, name, labels, value] = Regex.run(~r/\A([a-z0-9_]+)(?:\{(.*)\})? (\S+)\z/s, line)

    labels =
      for [_all, label, text] <- Regex.scan(~r/([a-z0-9_]+)="((?:[^"\\]|\\.)*)"/s, labels),
          into: %{},
          do: {label, unescape(text)}

    {name, labels, number(value)}
  end

  defp unescape(text) do
    Regex.replace(~r/\\(.)/s, text, fn
      _all, "n" -> "\n"
      _all, char -> char
    end)
  end

  defp number("+Inf"), do: :infinity
  defp number(text), do: text |> Float.parse() |> elem(0)

  describe "Pushgateway" do
    setup do
      port = PushServer.closed_port()
      url = "http://127.0.0.1:#{port}"

      ServerProgram.start!(
        ServerProgram.installed!("prometheus-pushgateway"),
        ["--web.listen-address=127.0.0.1:#{port}"],
        "#{url}/-/ready"
      )

      %{url: url}
    end

    for gzip <- [true, false] do
      test "has every value of a scrape, label by label (gzip: #{gzip})", %{url: url} do
        name = start_pushing!(url <> "/metrics/job/bridge/instance/host-1", gzip: unquote(gzip))
        push!(name)
        expected = samples(DSPexTelemetry.scrape(instance: name))
        assert map_size(expected) > 500

        group = %{"job" => "bridge", "instance" => "host-1"}

        read =
          for {{metric, labels}, value} <- samples(ServerProgram.get!(url <> "/metrics")),
              Map.take(labels, ["job", "instance"]) == group,
              not String.starts_with?(metric, "push_"),
              into: %{},
              do: {{metric, Map.drop(labels, ["job", "instance"])}, value}

        assert_same(read, expected)

        assert Enum.any?(read, fn {{_metric, labels}, _value} ->
                 labels["python_class"] == @class
               end)
      end
    end

    test "no longer has what is gone here, as PUT replaces the group", %{url: url} do
      name = start_pushing!(url <> "/metrics/job/bridge", [])
      push!(name)
      assert ServerProgram.get!(url <> "/metrics") =~ ~s(method="method-1")
      :ok = DSPexTelemetry.reset(instance: name)
      push!(name)
      refute ServerProgram.get!(url <> "/metrics") =~ ~s(method="method-1")
      assert ServerProgram.get!(url <> "/metrics") =~ ~s(dspex_telemetry_build_info{)
    end

    test "that refuses a group says why, in the log", %{url: url} do
      name = start_pushing!(url <> "/metrics/job/bridge/0-is-no-label/x", [])
      watch_log(inspect(name))
      PushTesting.push_now(name)
      assert_receive {:logged, :warning, line}, @patience_ms
      assert line =~ ~r/the server answers 400: .*label/
    end
  end

  describe "VictoriaMetrics" do
    setup do
      port = PushServer.closed_port()
      url = "http://127.0.0.1:#{port}"

      ServerProgram.start!(
        ServerProgram.installed!("victoria-metrics"),
        [
          "-httpListenAddr=127.0.0.1:#{port}",
          "-storageDataPath=#{ServerProgram.temporary_folder()}",
          "-retentionPeriod=100y",
          # What was imported is found at once.
          "-search.latencyOffset=0s",
          "-search.disableCache"
        ],
        "#{url}/health"
      )

      %{url: url}
    end

    for gzip <- [true, false] do
      test "has every value of a scrape, label by label (gzip: #{gzip})", %{url: url} do
        name =
          start_pushing!(url <> "/api/v1/import/prometheus?extra_label=job=bridge",
            gzip: unquote(gzip)
          )

        push!(name)
        expected = samples(DSPexTelemetry.scrape(instance: name))
        assert map_size(expected) > 500
        await("all series", fn -> map_size(exported(url)) >= map_size(expected) end)

        read =
          for {{metric, labels}, value} <- exported(url), into: %{} do
            assert labels["job"] == "bridge"
            {{metric, Map.delete(labels, "job")}, value}
          end

        assert_same(read, expected)

        assert Enum.any?(read, fn {{_metric, labels}, _value} ->
                 labels["python_class"] == @class
               end)
      end
    end

    test "gets the later of two pushes", %{url: url} do
      name = start_pushing!(url <> "/api/v1/import/prometheus", [])
      :ok = DSPexTelemetry.attach(instance: name)
      method = label("late")
      call(method)
      push!(name)
      for _ <- 1..4, do: call(method)
      push!(name)

      await("the later value", fn ->
        Enum.any?(exported(url), fn {{metric, labels}, value} ->
          metric == "dspex_bridge_call_method_total" and labels["method"] == method and
            labels["success"] == "true" and labels["cached"] == "false" and value == 5.0
        end)
      end)
    end
  end

  # The last value of every series.
  defp exported(url) do
    ServerProgram.get!(url <> "/internal/force_flush")

    for line <- String.split(ServerProgram.get!(url <> @export), "\n", trim: true),
        %{"metric" => metric, "values" => values} = StrictJSON.decode!(line),
        {name, labels} = Map.pop!(metric, "__name__"),
        name not in ["dspex_telemetry_push_total", "dspex_telemetry_memory_bytes"],
        name not in ["dspex_telemetry_window_memory_bytes"],
        into: %{},
        do: {{name, labels}, List.last(values) / 1}
  end
end
