defmodule DSPexTelemetry.EndpointTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.{Catalogue, Endpoint, StrictJSON, TestCalls}
  alias DSPexTelemetry.Endpoint.Rendering

  @page ["/" | ~w(/page/page.css /page/page.js /page/icon.svg)]
  @paths ["/metrics", "/report.json", "/health"] ++ @page
  @methods ["GET", "HEAD"]

  defp config(instance, options \\ []) do
    Map.merge(
      %{
        instance: instance,
        auth: nil,
        hosts: [],
        page_methods: 50,
        render: &Rendering.render(instance, &1)
      },
      Map.new(options)
    )
  end

  defp respond(config, path, options \\ []) do
    {path, query} =
      case String.split(path, "?", parts: 2) do
        [path, query] -> {path, query}
        [path] -> {path, ""}
      end

    request = %{
      method: Keyword.get(options, :method, "GET"),
      path: path,
      query: query,
      headers: Keyword.get(options, :headers, [])
    }

    {status, headers, body} = Endpoint.respond(request, config)
    {status, Map.new(headers), IO.iodata_to_binary(body)}
  end

  # What would be rendered, as text.
  defp echo(what), do: {:ok, inspect(what)}

  test "/metrics is a scrape in the format that is asked for" do
    config = config(:any, render: &echo/1, instance: DSPexTelemetry)

    for {accept, format, content_type} <- [
          {"*/*", :text, "text/plain; version=0.0.4; charset=utf-8"},
          {"application/openmetrics-text", :openmetrics,
           "application/openmetrics-text; version=1.0.0; charset=utf-8"},
          {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
           :protobuf,
           "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"}
        ],
        path <- ["/metrics", "/metrics?format=x&%ff"] do
      expected = inspect({{:scrape, format}, :identity})

      assert {200, %{"content-type" => ^content_type}, ^expected} =
               respond(config, path, headers: [{"accept", accept}])
    end
  end

  test "metrics and reports hold what was recorded, compressed for who accepts it" do
    name = start!()
    method = label("http")
    TestCalls.call(method)

    for path <- ["/metrics", "/report.json"] do
      {200, headers, plain} = respond(config(name), path)
      assert plain =~ method
      refute Map.has_key?(headers, "content-encoding")
      assert headers["vary"] == "accept, accept-encoding"

      {200, headers, compressed} =
        respond(config(name), path, headers: [{"accept-encoding", "gzip"}])

      assert headers["content-encoding"] == "gzip"
      assert headers["vary"] == "accept, accept-encoding"
      assert :zlib.gunzip(compressed) =~ method
    end
  end

  test "/report.json takes a window" do
    config = config(DSPexTelemetry, render: &echo/1)

    for {query, window} <- [
          {"", :since_start},
          {"?", :since_start},
          {"?window=since_start", :since_start},
          {"?window=last_minute", :last_minute},
          {"?window=last_hour", :last_hour},
          {"?window=previous_minute", :previous_minute},
          {"?window=previous_hour", :previous_hour},
          {"?window=30s", {30, :seconds}},
          {"?window=5m", {5, :minutes}},
          {"?window=007m", {7, :minutes}},
          {"?window=1h", {1, :hours}},
          {"?window=999999999h", {999_999_999, :hours}}
        ] do
      expected = inspect({{:report, window}, :identity})

      assert {200, %{"content-type" => "application/json"}, ^expected} =
               respond(config, "/report.json" <> query)
    end
  end

  test "the longest window that can be asked for is one that there is" do
    name = start!()
    assert {200, _headers, "{" <> _} = respond(config(name), "/report.json?window=999999999h")
  end

  test "/report.json refuses what is no window, says what is, and renders nothing" do
    config = config(DSPexTelemetry, render: fn _what -> flunk("rendered") end)

    for query <- [
          "window=",
          "window",
          "window=0s",
          "window=-5m",
          "window=+5m",
          "window=5",
          "window=m",
          "window=5d",
          "window=5M",
          "window= 5m",
          "window=5m ",
          "window=5m%0a",
          "window=5m\n",
          "window=1.5h",
          "window=1e9s",
          "window=9999999999s",
          "window=" <> String.duplicate("9", 100_000) <> "s",
          "window=today",
          "window=Elixir.String",
          "window=%ff",
          "window=\xff",
          "window=5m&window=6m",
          "window=5m&x=1",
          "x=1&window=5m",
          "Window=5m",
          "from=1",
          "&",
          "view=",
          "view=all",
          "view=page&",
          "view=page&window=",
          "view=page&window=5d",
          "view=page&methods=5",
          "view=page&view=page",
          "window=5m&view=page"
        ] do
      assert {400, headers, body} = respond(config, "/report.json?" <> query)
      assert headers["content-type"] == "text/plain; charset=utf-8"

      assert body ==
               "the only parameters are view=page, first, and window: since_start, last_minute, " <>
                 "last_hour, previous_minute, previous_hour, or a number of at most nine digits with " <>
                 "s, m or h, as in window=5m\n"
    end
  end

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

  test "/health follows the handlers and the instance" do
    name = start!()
    assert {200, headers, ~s({"status":"ok"}\n)} = respond(config(name), "/health")
    assert headers["content-type"] == "application/json"

    DSPexTelemetry.detach(instance: name)
    assert {503, _headers, ~s({"status":"detached"}\n)} = respond(config(name), "/health")

    DSPexTelemetry.attach(instance: name)
    assert {200, _headers, _body} = respond(config(name), "/health")

    stop_supervised!({DSPexTelemetry, name})
    assert {503, _headers, ~s({"status":"not_running"}\n)} = respond(config(name), "/health")
  end

  test "without the instance there is nothing to render, and a client may try again" do
    for path <- ["/metrics", "/report.json"] do
      assert {503, headers, "unavailable, try again\n"} = respond(config(NoSuch.Instance), path)
      assert headers["retry-after"] == "1"
    end

    busy = config(DSPexTelemetry, render: fn _what -> {:error, :busy} end)
    assert {503, %{"retry-after" => "1"}, _body} = respond(busy, "/metrics")
  end

  test "other paths are not found, by any method" do
    for path <- [
          "",
          "*",
          "/page",
          "/page/",
          "/page/index.html",
          "/page/../page.css",
          "/page/page.css/",
          "/index.html",
          "/metrics/",
          "//metrics",
          "/Metrics",
          "/metrics.json",
          "/metrics/../health",
          "/report",
          "/etc/passwd",
          "/\xff",
          "/" <> String.duplicate("x", 100_000)
        ],
        method <- ["GET", "HEAD", "POST"] do
      assert {404, _headers, "not found\n"} =
               respond(config(DSPexTelemetry), path, method: method)
    end
  end

  test "other methods are not allowed, and the answer says which are" do
    for path <- @paths, method <- ~w(POST PUT DELETE PATCH TRACE OPTIONS CONNECT get) do
      assert {405, headers, "only GET and HEAD\n"} =
               respond(config(DSPexTelemetry), path, method: method)

      assert headers["allow"] == "GET, HEAD"
    end
  end

  test "every answer tells browsers not to keep it and not to guess its type" do
    failing = config(DSPexTelemetry, render: fn _what -> {:error, :failed} end)
    closed = config(DSPexTelemetry, auth: {:bearer, "t"})

    for {config, path, method, status} <- [
          {config(DSPexTelemetry), "/metrics", "GET", 200},
          {config(DSPexTelemetry), "/health", "GET", 200},
          {config(DSPexTelemetry), "/report.json?x", "GET", 400},
          {closed, "/metrics", "GET", 401},
          {config(DSPexTelemetry), "/x", "GET", 404},
          {config(DSPexTelemetry), "/metrics", "POST", 405},
          {failing, "/metrics", "GET", 500},
          {config(NoSuch.Instance), "/metrics", "GET", 503}
        ] do
      assert {^status, headers, _body} = respond(config, path, method: method)
      assert headers["cache-control"] == "no-store"
      assert headers["x-content-type-options"] == "nosniff"
      refute Map.has_key?(headers, "server")
    end
  end

  describe "with auth" do
    @token "s3cr3t-t0ken"
    @rules [bearer: {:bearer, @token}, basic: {:basic, "user", @token}]

    test "a request without the right credentials gets 401, whatever it asks for, and no data" do
      config = config(DSPexTelemetry, render: fn _what -> flunk("rendered") end)

      for {scheme, rule} <- @rules,
          auth <- [rule, fn -> rule end],
          headers <- [
            [],
            [{"authorization", ""}],
            [{"authorization", "Bearer #{@token}x"}],
            [{"authorization", "Bearer " <> Base.encode64("user:" <> @token)}],
            [{"authorization", "Basic " <> Base.encode64("user:wrong")}],
            [{"authorization", "Basic \xff"}],
            [{"proxy-authorization", "Bearer " <> @token}],
            [{"cookie", @token}]
          ],
          path <- @paths ++ ["/report.json?window=x", "/nothing?token=#{@token}"],
          method <- @methods ++ ["POST"] do
        assert {401, answered, "unauthorized\n"} =
                 respond(%{config | auth: auth}, path, method: method, headers: headers)

        # A browser knows no other.
        scheme = if path in @page, do: :basic, else: scheme
        assert answered["www-authenticate"] =~ ~r/^#{scheme} realm="dspex_telemetry"/i
        assert answered["content-type"] == "text/plain; charset=utf-8"
        refute inspect(answered) =~ @token
      end
    end

    test "a request with the right credentials is answered" do
      for {rule, header} <- [
            {@rules[:bearer], "Bearer " <> @token},
            {@rules[:bearer], "Basic " <> Base.encode64("anybody:" <> @token)},
            {@rules[:basic], "Basic " <> Base.encode64("user:" <> @token)}
          ],
          auth <- [rule, fn -> rule end],
          path <- @paths,
          method <- @methods do
        config = config(DSPexTelemetry, auth: auth)

        assert {200, _headers, body} =
                 respond(config, path, method: method, headers: [{"authorization", header}])

        assert body != ""
      end
    end

    test "a function that fails or returns no rule lets nobody in, and its secret is not logged" do
      failing = [
        fn -> raise "no #{@token}" end,
        fn -> throw(@token) end,
        fn -> exit(@token) end,
        fn -> @token end,
        fn -> nil end,
        fn -> {:bearer, @token, @token} end
      ]

      for auth <- failing, headers <- [[], [{"authorization", "Bearer " <> @token}]] do
        config = config(DSPexTelemetry, auth: auth, render: fn _what -> flunk("rendered") end)

        log =
          capture_log(fn ->
            assert {500, _headers, "internal error\n"} =
                     respond(config, "/metrics", headers: headers)
          end)

        assert log =~ "Option :auth could not be asked for: "
        refute log =~ @token
      end
    end
  end

  describe "without auth" do
    @local ["localhost", "localhost:9568", "LOCALHOST", "localhost.", "app.localhost:1"] ++
             ["127.0.0.1", "127.0.0.1:9568", "10.1.2.3:80", "[::1]", "[::1]:9568", "::1"]
    @foreign [
               "evil.example",
               "evil.example:9568",
               "localhost.evil.example",
               "127.0.0.1.evil.example"
             ] ++
               [
                 "notlocalhost",
                 "evil.example#localhost",
                 "localhost@evil.example",
                 "127.1",
                 "",
                 ":80"
               ] ++
               ["[evil.example]", "[::1].evil.example", "2130706433", "localhost, evil.example"]

    test "localhost and addresses are answered, and no name that a web site could have" do
      for auth <- [nil, :none, fn -> :none end],
          path <- @paths ++ ["/nothing"],
          {hosts, refused?} <- [{@local, false}, {@foreign, true}],
          host <- hosts do
        config = config(DSPexTelemetry, auth: auth, render: &echo/1)
        {status, headers, body} = respond(config, path, headers: [{"host", host}])
        assert {host, status == 421} == {host, refused?}

        if refused? do
          assert body =~ ~r/^without auth only localhost and IP addresses are answered/
          assert headers["cache-control"] == "no-store"
        end
      end
    end

    test "names of :hosts are answered too, or all, and every name must be" do
      config = config(DSPexTelemetry, hosts: ["Metrics.internal"], render: &echo/1)

      for {hosts, status} <- [
            {["metrics.internal:9568"], 200},
            {["METRICS.INTERNAL."], 200},
            {["a.metrics.internal"], 421},
            {["metrics.internal", "evil.example"], 421},
            {[], 200}
          ] do
        headers = for host <- hosts, do: {"host", host}
        assert {^status, _headers, _body} = respond(config, "/metrics", headers: headers)
        any = %{config | hosts: :any}
        assert {200, _headers, _body} = respond(any, "/metrics", headers: headers)
      end
    end

    test "who has the secret is answered by any name, which no other site's scripts have" do
      config = config(DSPexTelemetry, auth: {:bearer, "s3cret"}, render: &echo/1)
      headers = [{"host", "evil.example"}]
      assert {401, _headers, _body} = respond(config, "/metrics", headers: headers)
      headers = [{"authorization", "Bearer s3cret"} | headers]
      assert {200, _headers, _body} = respond(config, "/metrics", headers: headers)
    end
  end

  test "what fails inside is logged once and answered with nothing about it; the next works" do
    name = start!()

    # There is no such format.
    failing = fn {_subject, encoding} -> Rendering.render(name, {{:scrape, name}, encoding}) end

    log =
      capture_log(fn ->
        assert {500, _headers, "internal error\n"} =
                 respond(config(name, render: failing), "/metrics")
      end)

    title = "{:scrape, #{inspect(name)}} of #{inspect(name)} could not be rendered"
    assert [_before, after_title] = String.split(log, title)
    assert after_title =~ "Error"

    assert {200, _headers, _body} = respond(config(name), "/metrics")
  end
end
