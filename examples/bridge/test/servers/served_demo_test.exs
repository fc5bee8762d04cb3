defmodule Bridge.ServedDemoTest do
  @moduledoc """
  `mix bridge.demo --http 0 --serve` as a person starts it, and whether programs of the Prometheus
  project take what it serves.
  """

  use ExUnit.Case

  alias Bridge.{JSON, Servers}
  alias Bridge.Servers.HTTP

  @moduletag :servers
  @moduletag timeout: 120_000

  # Debian's packages of Python are for Debian's Python.
  @python "/usr/bin/python3"
  @wrapper Path.expand("../support/until_stdin_closes.py", __DIR__)
  @reader Path.expand("../support/read_exposition.py", __DIR__)

  @formats %{
    text: "text/plain;version=0.0.4",
    openmetrics: "application/openmetrics-text;version=1.0.0"
  }

  setup_all do
    folder = Servers.new_folder("served")
    log = Path.join(folder, "log")
    arguments = ~w(bridge.demo --seconds 2 --workers 2 --http 0 --serve)

    # Ended by SIGTERM if the tests end before it does.
    demo =
      Port.open({:spawn_executable, System.find_executable("python3")}, [
        :binary,
        :exit_status,
        line: 100,
        args: [@wrapper, log, "mix" | arguments],
        env: [{~c"MIX_ENV", ~c"test"}]
      ])

    assert_receive {^demo, {:data, {:eol, os_pid}}}
    url = Servers.await!("the demo to serve", fn -> url(demo, log) end)

    scrapes =
      Map.new(@formats, fn {format, accept} ->
        {:ok, %{status: 200, body: body}} = HTTP.get("#{url}/metrics", %{"accept" => accept})
        file = Path.join(folder, "#{format}")
        File.write!(file, body)
        {format, file}
      end)

    report = HTTP.json!("#{url}/report.json")

    # It can be asked until it is told to end, and then ends well.
    System.cmd("kill", ["-TERM", os_pid])
    assert_receive {^demo, {:exit_status, status}}, 30_000

    %{scrapes: scrapes, report: report, output: File.read!(log), status: status}
  end

  defp url(demo, log) do
    refute_received {^demo, {:exit_status, _}}

    with [_, url] <- Regex.run(~r/^Still serving (\S+)\/metrics/m, File.read!(log)), do: url
  end

  test "the demo serves until SIGTERM, and ends then in order, with all counts right", context do
    refute context.output =~ "the demo counted"
    # On a busy machine it notices more than was staged, and says so by 1.
    assert context.status in [0, 1]
  end

  test "promtool has nothing to say about a scrape", %{scrapes: scrapes} do
    assert {"", 0} = sh(~s(promtool check metrics < "$1"), [scrapes.text])
  end

  test "promtool has something to say about a scrape that is not clean", %{scrapes: scrapes} do
    wrong = scrapes.text <> ".wrong"
    text = File.read!(scrapes.text)

    File.write!(
      wrong,
      String.replace(text, "snakepit_worker_lifetime_seconds", "snakepit_worker_lifetime_ms")
    )

    assert {said, 3} = sh(~s(promtool check metrics < "$1"), [wrong])
    assert said =~ "snakepit_worker_lifetime_ms"
  end

  for format <- Map.keys(@formats) do
    @format format

    test "the Python client reads the report's values out of #{format}", context do
      samples = read(@format, context.scrapes[@format])
      report = context.report

      for {metric, rows, labels} <- [
            {"dspex_bridge_call_method", report["operations"], ["method", "python_class"]},
            {"dspex_bridge_create_instance", report["instances"], ["python_class"]},
            {"dspex_tools_call", report["tools"], ["tool_name"]}
          ] do
        assert rows != []

        assert sums(samples, "#{metric}_total", labels) ==
                 Map.new(rows, &{Map.take(&1, labels), &1["count"]})

        assert sums(samples, "#{metric}_total", labels, %{"success" => "false"}) ==
                 Map.new(rows, &{Map.take(&1, labels), &1["errors"]})

        assert sums(samples, "#{metric}_duration_count", labels) ==
                 Map.new(rows, &{Map.take(&1, labels), &1["count"]})

        assert sums(samples, "#{metric}_duration_bucket", labels, %{"le" => "+Inf"}) ==
                 Map.new(rows, &{Map.take(&1, labels), &1["count"]})

        told = sums(samples, "#{metric}_duration_sum", labels)

        for row <- rows do
          assert_in_delta told[Map.take(row, labels)], row["mean_us"] * row["count"], 1.0
        end
      end

      for {metric, label, counts} <- [
            {"dspex_session_expired_total", "reason", report["sessions"]["expired"]},
            {"dspex_session_variable_set_total", "var_type", report["variables"]["set"]},
            {"snakepit_worker_died_total", "reason", report["pool"]["died"]}
          ] do
        assert sums(samples, metric, [label]) ==
                 Map.new(counts, fn {name, count} -> {%{label => name}, count} end)
      end

      for {metric, value} <- [
            {"dspex_session_created_total", report["sessions"]["created"]},
            {"snakepit_worker_spawned_total", report["pool"]["spawned"]},
            {"snakepit_worker_pool_size", report["pool"]["size"]},
            {"snakepit_pool_queue_time_count", report["pool"]["queue_wait_us"]["count"]}
          ] do
        assert {metric, sums(samples, metric, [])} == {metric, %{%{} => value}}
      end

      assert report["pool"]["size"] == 2
    end
  end

  test "the Python client finds exemplars in OpenMetrics, with sessions", %{scrapes: scrapes} do
    exemplars =
      for [name, _, _, [labels, value]] <- read(:openmetrics, scrapes.openmetrics),
          do: {name, labels, value}

    assert length(exemplars) > 10
    assert Enum.any?(exemplars, &match?({"dspex_bridge_call_method_duration_bucket", _, _}, &1))
    for {_name, labels, _value} <- exemplars, do: assert(%{"session_id" => "" <> _} = labels)
  end

  defp sums(samples, metric, by, only \\ %{}) do
    for [^metric, labels, value, _] <- samples, Map.merge(labels, only) == labels, reduce: %{} do
      sums -> Map.update(sums, Map.take(labels, by), value, &(&1 + value))
    end
  end

  defp read(format, file) do
    {output, status} = System.cmd(@python, [@reader, "#{format}", file], stderr_to_stdout: true)
    assert status == 0, output
    {:ok, samples} = JSON.decode(output)
    samples
  end

  defp sh(script, arguments) do
    System.cmd("sh", ["-c", script, "sh" | arguments], stderr_to_stdout: true)
  end
end
