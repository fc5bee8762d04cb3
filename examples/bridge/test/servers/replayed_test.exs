defmodule Bridge.ReplayedTest do
  @moduledoc """
  The recordings of DSPex and Snakepit are replayed at full speed, while two Prometheus servers scrape the library: one
  that keeps classic histograms and has the shipped rules, and one that keeps native histograms.
  """

  use ExUnit.Case

  import Bridge.Servers.Prometheus, only: [values: 2]

  alias Bridge.{Recording, Replay, Servers}
  alias Bridge.Servers.{DashboardData, FastRules, HTTP, Prometheus}
  alias DSPexTelemetry.{Dashboard, SnakepitSamples}

  @moduletag :servers
  @moduletag timeout: 300_000

  @folder Path.expand("../../../../test/fixtures/recorded_events", __DIR__)
  @recordings for file <- ["dspex.exs.txt", "snakepit.exs.txt"], do: Path.join(@folder, file)
  # Debian's packages of Python are for Debian's Python.
  @python "/usr/bin/python3"
  @reader Path.expand("../support/read_exposition.py", __DIR__)

  # So often that HighErrorRate has calls enough: more than 30 of a method within its five minutes.
  @again 6

  setup_all do
    # The recordings are in nanoseconds, whatever the unit of this machine.
    target = Servers.restart_telemetry(duration_unit: :nanosecond)

    # The first scrape has one replay, and the last one all of them. So each rate is of whole replays.
    quietly(fn -> replay() end)

    prometheus = %{
      classic: Prometheus.start(name: "replayed", target: target, rules: FastRules.write()),
      native: Prometheus.start(name: "native", target: target, features: ["native-histograms"])
    }

    await_scrapes(prometheus)
    quietly(fn -> for _again <- 1..@again, do: replay() end)
    await_scrapes(prometheus)
    Prometheus.await_evaluation(prometheus.classic)

    %{prometheus: prometheus, target: target, report: DSPexTelemetry.report()}
  end

  defp await_scrapes(prometheus),
    do: for({_histograms, server} <- prometheus, do: Prometheus.await_scrape(server))

  # The library warns of spikes.
  defp quietly(function), do: ExUnit.CaptureLog.capture_log(function)

  defp replay do
    clock = %{now: fn -> 0 end, wait: fn _us -> :ok end}
    for path <- @recordings, do: Replay.play(Recording.stream!(path), :max, clock)
    for {name, measurements, metadata} <- not_recorded(), do: emit(name, measurements, metadata)
  end

  # What did not happen while the recordings were made.
  defp not_recorded do
    recorded =
      for path <- @recordings,
          {_time, name, measurements, metadata} <- Recording.stream!(path),
          into: MapSet.new(),
          do: {name, measurements, metadata}

    released =
      for event <- [[:cleanup], [:cleanup, :error]] do
        metadata = %{session_id: "s-1", source: :manual, reason: :timeout}
        {[:snakebridge, :session | event], %{system_time: 1}, metadata}
      end

    # The recorded workers have ended, and with them the series of what they used. What they send later is ignored.
    used =
      for what <- [:cpu, :memory],
          {name, measurements, metadata} <-
            SnakepitSamples.of([:snakepit, :python, what, :sampled]),
          do: {name, measurements, %{metadata | worker_id: "a worker that is there"}}

    released ++ Enum.reject(SnakepitSamples.all(), &(&1 in recorded)) ++ used
  end

  defp emit(name, measurements, metadata), do: :telemetry.execute(name, measurements, metadata)

  describe "a scrape" do
    setup %{target: target} do
      folder = Servers.new_folder("replayed-scrapes")

      files =
        for {format, accept} <- [
              text: "text/plain; version=0.0.4",
              openmetrics: "application/openmetrics-text; version=1.0.0"
            ],
            into: %{} do
          {:ok, %{status: 200, body: body}} =
            HTTP.get("http://#{target}/metrics", %{"accept" => accept})

          file = Path.join(folder, "#{format}")
          File.write!(file, body)
          {format, file}
        end

      %{files: files}
    end

    test "is nothing that promtool has to say of", %{files: files} do
      assert {"", 0} = run(~s(promtool check metrics < "$1"), [files.text])
    end

    for format <- [:text, :openmetrics] do
      test "as #{format} has the reported calls for the Python client", context do
        {json, 0} =
          run(~s("$@"), [@python, @reader, unquote(format), context.files[unquote(format)]])

        {:ok, samples} = Bridge.JSON.decode(json)

        sums = fn metric, labels ->
          for [^metric, all, value, _exemplar] <- samples, reduce: %{} do
            sums -> Map.update(sums, Map.take(all, labels), value, &(&1 + value))
          end
        end

        by_method = ["method", "python_class"]
        assert sums.("dspex_bridge_call_method_total", by_method) == calls(context.report)

        assert "dspex_bridge_call_method_python_duration_count"
               |> sums.(by_method)
               |> Map.take(Map.keys(calls(context.report))) == timed(context.report)

        assert "dspex_bridge_call_method_error_total"
               |> sums.(["reason", "kind" | by_method])
               |> Map.reject(fn {_labels, count} -> count == 0 end) == reasons(context.report)
      end
    end

    defp run(script, arguments) do
      System.cmd("sh", ["-c", script, "sh" | Enum.map(arguments, &to_string/1)],
        stderr_to_stdout: true
      )
    end
  end

  describe "Prometheus" do
    test "has nothing to complain about", %{prometheus: prometheus} do
      for {_histograms, server} <- prometheus, do: assert(Prometheus.complaints(server) == [])
    end

    test "has the calls, the reasons and the times in Python of the report", context do
      prometheus = context.prometheus.classic
      by_method = "sum by (python_class, method) "

      assert values(prometheus, by_method <> "(dspex_bridge_call_method_total)") ==
               calls(context.report)

      assert values(prometheus, "dspex_bridge_call_method_error_total > 0") ==
               reasons(context.report)

      # Python also timed what no process called, because a test adapter said so.
      assert prometheus
             |> values("dspex_bridge_call_method_python_duration_count")
             |> Map.take(Map.keys(calls(context.report))) == timed(context.report)

      # Commands that carry calls are no methods.
      assert values(prometheus, ~s|dspex_bridge_call_method_total{method=~"snakebridge.*"}|) ==
               %{}

      # A test adapter reported durations and samples that are none; of calls nothing is rejected.
      rejected =
        for {labels, _n} <- values(prometheus, "dspex_telemetry_rejected_total"),
            do: labels["event"]

      assert Enum.uniq(rejected) --
               ["snakepit.python.cpu.sampled", "snakepit.python.tool.execution.stop"] == []
    end
  end

  describe "the dashboard" do
    for histograms <- [:classic, :native] do
      test "has data in each of its queries of Snakepit and SnakeBridge, of #{histograms} histograms",
           context do
        {recorded, others} =
          [histograms: unquote(histograms)]
          |> Dashboard.expressions()
          |> Enum.split_with(&DashboardData.recorded?/1)

        # What the scraped demo leaves to this test.
        assert Enum.filter(others, &DashboardData.beyond_demo?/1) == []

        # No event of theirs has these sizes.
        sizes = "Size of arguments and results p95"
        queries = Enum.reject(recorded, fn {title, _, _} -> title == sizes end)

        titles = for {title, _ref, _expression} <- queries, uniq: true, do: title
        assert length(titles) > 60
        assert DashboardData.without_data(context.prometheus[unquote(histograms)], queries) == []
      end
    end
  end

  describe "the rules" do
    test "load, and record calls and workers", %{prometheus: %{classic: prometheus}} do
      rules = Prometheus.rules(prometheus)
      for rule <- rules, do: assert({rule["name"], rule["health"]} == {rule["name"], "ok"})
      recording = for %{"type" => "recording", "name" => name} <- rules, do: name

      of_calls =
        for name <- recording, name =~ ~r/:(dspex_bridge_call_method|snakepit_worker)/, do: name

      assert length(of_calls) > 20
      assert Enum.filter(of_calls, &(Prometheus.query(prometheus, &1) == [])) == []
    end

    test "record of each method the share of its calls that failed", context do
      recorded =
        values(
          context.prometheus.classic,
          "instance_method:dspex_bridge_call_method:error_ratio5m"
        )

      for row <- context.report.operations, row.errors > 0 do
        labels = %{"method" => row.method, "python_class" => row.python_class}
        assert_in_delta recorded[labels], row.errors / row.count, 1.0e-9, inspect(labels)
      end
    end

    test "alert of methods of DSPex and Snakepit that fail, and not of one that seldom does",
         context do
      firing = ~s|ALERTS{alertname="HighErrorRate", alertstate="firing"}|

      fired = fn ->
        for {%{"method" => method, "python_class" => class}, _one} <-
              values(context.prometheus.classic, firing),
            do: {class, method}
      end

      # Of loads and boom all calls fail, of sqrt 1 of 12.
      expected = [{"json", "loads"}, {"math", "sqrt"}, {"snakepit", "boom"}]
      Servers.await!("HighErrorRate", fn -> expected -- fired.() == [] end)

      # Of which 3 % fail.
      refute {"snakepit", "nap"} in fired.()
    end
  end

  defp calls(report), do: Map.new(report.operations, &{labels(&1), &1.count})

  defp timed(report) do
    for %{python_us: %{count: count}} = row <- report.operations,
        into: %{},
        do: {labels(row), count}
  end

  defp reasons(report) do
    for row <- report.operations, reason <- row.reasons, into: %{} do
      labels = Map.merge(labels(row), %{"reason" => reason.reason, "kind" => "#{reason.kind}"})
      {labels, reason.count}
    end
  end

  defp labels(row), do: %{"method" => row.method, "python_class" => row.python_class}
end
