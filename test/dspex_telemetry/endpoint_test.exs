defmodule DSPexTelemetry.EndpointTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.EndpointTesting
  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.TestCalls
  alias DSPexTelemetry.Endpoint.Rendering

  @page ["/" | ~w(/page/page.css /page/page.js /page/icon.svg)]
  @paths ["/metrics", "/report.json", "/health"] ++ @page
  @methods ["GET", "HEAD"]

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
