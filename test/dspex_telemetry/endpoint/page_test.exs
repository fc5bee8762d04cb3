defmodule DSPexTelemetry.Endpoint.PageTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.EndpointTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Catalogue, StrictJSON}

  @page ["/" | ~w(/page/page.css /page/page.js /page/icon.svg)]

  describe "the live page" do
    test "is what lies in priv/page, with nothing from elsewhere" do
      config = config(DSPexTelemetry, render: fn _what -> flunk("rendered") end)
      folder = Application.app_dir(:dspex_telemetry, "priv/page")

      for name <- File.ls!(folder) do
        path = if name == "index.html", do: "/", else: "/page/" <> name
        content = File.read!(Path.join(folder, name))
        assert {200, headers, ^content} = respond(config, path)

        assert headers["content-type"] ==
                 %{
                   ".html" => "text/html; charset=utf-8",
                   ".css" => "text/css; charset=utf-8",
                   ".js" => "text/javascript; charset=utf-8",
                   ".svg" => "image/svg+xml"
                 }[Path.extname(name)]

        # The name of SVG's namespace is no address.
        content = String.replace(content, "http://www.w3.org/2000/svg", "")
        refute content =~ ~r{https?://|//[a-z]+\.|@import|url\(}
      end
    end

    test "lets nothing else run or load, and is told apart by its tag" do
      for path <- @page do
        assert {200, headers, body} = respond(config(DSPexTelemetry), path)

        assert headers["content-security-policy"] ==
                 "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " <>
                   "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "private, no-cache"

        for seen <- [headers["etag"], ~s("x", W/) <> headers["etag"], "*"] do
          assert {304, again, ""} =
                   respond(config(DSPexTelemetry), path, headers: [{"if-none-match", seen}])

          assert again["etag"] == headers["etag"]
          assert again["content-security-policy"] == headers["content-security-policy"]
        end

        for unseen <- ["", ~s("x"), "\xff", String.trim(headers["etag"], ~s("))] do
          assert {200, _headers, ^body} =
                   respond(config(DSPexTelemetry), path, headers: [{"if-none-match", unseen}])
        end

        assert {200, compressed, gzip} =
                 respond(config(DSPexTelemetry), path, headers: [{"accept-encoding", "gzip"}])

        assert compressed["content-encoding"] == "gzip"
        assert compressed["etag"] != headers["etag"]
        assert :zlib.gunzip(gzip) == body
      end
    end

    test "makes no markup of anything" do
      folder = Application.app_dir(:dspex_telemetry, "priv/page")

      for name <- File.ls!(folder), Path.extname(name) in [".js", ".html"] do
        text = File.read!(Path.join(folder, name))
        refute text =~ ~r/innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc/
        refute text =~ ~r/\beval\b|new Function|<script>|\son[a-z]+=|\sstyle=|javascript:/
      end
    end

    test "asks for what there is, in a window and with as many methods as the option says" do
      config = config(DSPexTelemetry, render: &echo/1, page_methods: 7)

      for {query, window} <- [
            {"", :since_start},
            {"&window=since_start", :since_start},
            {"&window=last_hour", :last_hour},
            {"&window=15m", {15, :minutes}}
          ] do
        expected = inspect({{:page, window, 7}, :identity})

        assert {200, %{"content-type" => "application/json"}, ^expected} =
                 respond(config, "/report.json?view=page" <> query)
      end
    end

    test "has the numbers of the report, of the methods called most, and the sum of the others" do
      name = start!(slice: 1_000)
      plans = plans(name)
      stop = [:dspex, :bridge, :call_method, :stop]

      for {method, calls} <- [{"a", 5}, {"<script>", 9}, {"\"b\" \\ \n", 7}, {"c", 2}, {"d", 1}],
          call <- 1..calls do
        metadata = %{method: method, python_class: "C", success: call != 1}
        handle(plans, stop, %{duration: call * 1_000_000}, metadata)
      end

      DSPexTelemetry.detach(instance: name)
      {200, headers, plain} = respond(config(name, page_methods: 3), "/report.json?view=page")
      assert headers["content-type"] == "application/json"
      page = StrictJSON.decode!(plain)
      report = StrictJSON.decode!(DSPexTelemetry.report(instance: name, format: :json))
      rows = page["methods"]["rows"]

      # Calls of other tests come as well.
      ours = Enum.filter(rows, &(&1["python_class"] == "C"))
      assert ["<script>", "\"b\" \\ \n", "a"] -- Enum.map(ours, & &1["method"]) == []

      for row <- rows do
        {series, row} = Map.pop(row, "series")
        assert row in report["operations"]
        assert Enum.sum(series["count"]) == row["count"]
        assert Enum.sum(series["errors"]) == row["errors"]
        slots = length(page["history"]["slots"])
        assert Enum.all?(series, fn {_name, values} -> length(values) == slots end)
      end

      shown = Enum.map(rows, &Map.delete(&1, "series"))
      others = report["operations"] -- shown
      rest = page["methods"]["rest"]
      assert rest["methods"] == length(others)
      assert rest["count"] == Enum.sum(Enum.map(others, & &1["count"]))
      assert rest["errors"] == Enum.sum(Enum.map(others, & &1["errors"]))
      all = page["methods"]["all"]
      assert all["count"] == Enum.sum(Enum.map(report["operations"], & &1["count"]))
      assert Enum.sum(List.flatten(page["history"]["heatmap"]["counts"])) == all["count"]
      assert page["pool"]["queue_wait_us"] == report["pool"]["queue_wait_us"]
      assert page["instance"] == inspect(name)
      assert {page["attached"], page["cache"]} == {false, nil}
    end

    test "has why methods fail and single calls as the reports have them, however many are kept" do
      name = start!(attach: false, last_failures: 1_000, slowest_calls: 1_000)
      plans = plans(name)
      exception = [:dspex, :bridge, :call_method, :exception]

      python =
        Enum.find(
          Catalogue.events(),
          &(&1.name == [:snakepit, :python, :call, :stop] and &1.variant == :python)
        )

      for {type, times} <- [{"A", 4}, {"B", 30}, {"C", 3}, {"D", 2}], n <- 1..times do
        error = %{__exception__: true, __struct__: RuntimeError, type: type, message: "<#{n}>"}
        metadata = %{method: "loads", python_class: "json", kind: :error, reason: error}
        metadata = Map.merge(metadata, %{trace_id: "t#{n}", session_id: nil, worker_id: "w"})
        handle(plans, exception, %{duration: n * 1_000_000}, metadata)
      end

      handle(plans, python, %{duration: 250_000}, %{
        "python_module" => "json",
        function: "loads",
        python_pid: 7
      })

      {200, _headers, json} = respond(config(name), "/report.json?view=page")
      page = StrictJSON.decode!(json)
      {200, _headers, json} = respond(config(name), "/report.json")
      report = StrictJSON.decode!(json)
      failures = DSPexTelemetry.ErrorAnalyzer.report(instance: name).last_failures

      failures =
        for failure <- failures, do: Map.new(failure, fn {key, value} -> {"#{key}", value} end)

      assert [row] = page["methods"]["rows"]
      assert [operation] = report["operations"]
      assert Enum.map(operation["reasons"], & &1["reason"]) == ~w(B A C D)
      assert row["reasons"] == Enum.take(operation["reasons"], 3)
      assert hd(row["reasons"]) == %{"kind" => "error", "reason" => "B", "count" => 30}
      for key <- ["python_us", "overhead_us"], do: assert(row[key] == operation[key])
      assert row["python_us"]["mean"] == 250.0
      assert_in_delta row["overhead_us"], row["mean_us"] - 250.0, 1.0e-6

      for {page, all} <- [
            {page["errors"]["last_failures"], failures},
            {page["slowest"], report["slowest"]}
          ] do
        assert page == %{"rows" => Enum.take(all, 20), "total" => 39}
        assert length(all) == 39
      end

      assert %{"message" => "<2>", "reason" => "D", "trace_id" => "t2", "worker_id" => "w"} =
               hd(page["errors"]["last_failures"]["rows"])

      assert %{"message" => "<30>", "reason" => "B"} = hd(page["slowest"]["rows"])
    end
  end
end
