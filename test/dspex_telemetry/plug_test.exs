{plug_installed?, _binding} = Code.eval_file("../support/plug_stand_in.exs", __DIR__)

defmodule DSPexTelemetry.PlugTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Endpoint.Page
  alias DSPexTelemetry.{StrictJSON, TestCalls}

  @plug DSPexTelemetry.Plug
  @plug_installed plug_installed?
  @secret "s3cr3t-t0ken"

  defp call(options, fields) do
    conn() |> struct!([host: "localhost"] ++ fields) |> @plug.call(@plug.init(options))
  end

  if @plug_installed do
    defp conn, do: apply(Plug.Test, :conn, [:get, "/"])
  else
    defp conn, do: struct!(Plug.Conn)
  end

  defp header(conn, name), do: for({^name, value} <- conn.resp_headers, do: value)

  test "answers the paths below the one to which it is forwarded, and halts" do
    name = start!()
    method = label("plug")
    TestCalls.call(method)
    options = [instance: name, auth: :none]

    for path <- ["metrics", "report.json"], verb <- ["GET", "HEAD"] do
      conn = call(options, method: verb, path_info: [path], script_name: ["telemetry"])
      assert {conn.status, conn.state, conn.halted} == {200, :sent, true}

      # The server counts the body for HEAD too, and leaves it out; so does Plug's own test adapter.
      unless @plug_installed and verb == "HEAD", do: assert(conn.resp_body =~ method)
      assert header(conn, "cache-control") == ["no-store"]
      assert [_one] = header(conn, "content-type")
    end

    assert call(options, path_info: ["health"]).resp_body == ~s({"status":"ok"}\n)

    for {path, status} <- [{["metrics", "x"], 404}, {["x"], 404}, {["page", "x"], 404}] do
      conn = call(options, path_info: path)
      assert {conn.status, conn.halted} == {status, true}
    end

    conn = call(options, method: "POST", path_info: ["metrics"])
    assert {conn.status, header(conn, "allow")} == {405, ["GET, HEAD"]}
  end

  test "has the live page at the path to which it is forwarded, whose addresses are relative" do
    fields = [script_name: ["api", "telemetry"], request_path: "/api/telemetry/"]
    conn = call([auth: :none], fields)
    assert conn.status == 200
    assert header(conn, "content-type") == ["text/html; charset=utf-8"]
    assert [tag] = header(conn, "etag")
    assert conn.resp_body =~ ~s(src="page/page.js")

    conn = call([auth: :none], [req_headers: [{"if-none-match", tag}]] ++ fields)
    assert {conn.status, conn.resp_body} == {304, ""}

    conn = call([auth: :none], path_info: ["page", "page.js"], script_name: ["telemetry"])
    assert header(conn, "content-type") == ["text/javascript; charset=utf-8"]

    fields = [script_name: ["api", "telemetry"], request_path: "/api/telemetry"]
    conn = call([auth: :none], fields)
    assert {conn.status, conn.resp_body} == {308, ""}
    assert header(conn, "location") == ["./telemetry/"]

    conn = call([auth: :none], [query_string: "window=5m&x=%2F"] ++ fields)
    assert header(conn, "location") == ["./telemetry/?window=5m&x=%2F"]

    # Who may not see it is not sent anywhere.
    conn = call([auth: {:bearer, @secret}], fields)
    assert {conn.status, header(conn, "location")} == {401, []}
    assert ["Basic " <> _realm] = header(conn, "www-authenticate")
  end

  test "its scripts pass what keeps other sites from including scripts, and nothing else is marked" do
    # As Plug.CSRFProtection looks at what is sent.
    passes? = fn conn ->
      not Enum.any?(header(conn, "content-type"), &(&1 =~ "javascript")) or
        conn.private[:plug_skip_csrf_protection] == true
    end

    scripts = for "/page/" <> name <- Page.paths(), Path.extname(name) == ".js", do: name
    assert scripts != []

    for name <- scripts do
      conn = call([auth: :none], path_info: ["page", name], script_name: ["telemetry"])
      assert conn.status == 200 and passes?.(conn)
    end

    for path <- ["metrics", "report.json", "health", "nothing"] do
      conn = call([auth: :none], path_info: [path])
      refute is_map_key(conn.private, :plug_skip_csrf_protection)
    end
  end

  test "what the page asks for passes a pipeline that accepts only HTML" do
    # Phoenix.Controller.accepts/2 takes `*/*` for HTML.
    assert [_all, accepted] =
             Regex.run(~r/^const ACCEPT = "(.*)";$/m, File.read!("priv/page/poll.js"))

    assert accepted == "application/json, */*;q=0.1"
    assert File.read!("priv/page/poll.js") =~ "headers: { accept: ACCEPT }"
  end

  test "takes as many methods for the page as it is told to" do
    name = start!()
    for method <- 1..3, do: TestCalls.call(label("m#{method}"))

    conn =
      call([instance: name, auth: :none, page_methods: 1],
        path_info: ["report.json"],
        query_string: "view=page"
      )

    page = StrictJSON.decode!(conn.resp_body)
    assert length(page["methods"]["rows"]) == 1
    assert page["methods"]["total"] >= 3
  end

  test "passes on the parameters and the headers that matter" do
    options = [instance: start!(), auth: :none]
    assert call(options, path_info: ["report.json"], query_string: "window=5m").status == 200
    assert call(options, path_info: ["report.json"], query_string: "window=5x").status == 400

    conn =
      call(options,
        path_info: ["metrics"],
        req_headers: [{"accept", "application/openmetrics-text"}, {"accept-encoding", "gzip"}]
      )

    assert header(conn, "content-type") == [
             "application/openmetrics-text; version=1.0.0; charset=utf-8"
           ]

    assert header(conn, "content-encoding") == ["gzip"]
    assert is_binary(:zlib.gunzip(conn.resp_body))
  end

  test "with :none answers localhost, addresses and the names of :hosts" do
    for {options, fields, status} <- [
          {[], [host: "127.0.0.1"], 200},
          {[], [host: "my-app.example.org"], 421},
          {[], [host: "localhost", req_headers: [{"host", "my-app.example.org:4000"}]], 421},
          {[hosts: ["my-app.example.org"]], [host: "my-app.example.org"], 200},
          {[hosts: ["my-app.example.org"]], [host: "evil.example"], 421},
          {[hosts: :any], [host: "my-app.example.org"], 200}
        ] do
      conn = call([auth: :none] ++ options, fields ++ [path_info: ["report.json"]])
      assert {conn.status, conn.halted} == {status, true}
    end

    fields = [path_info: ["metrics"], host: "my-app.example.org"]
    headers = [req_headers: [{"authorization", "Bearer " <> @secret}]]
    assert call([auth: {:bearer, @secret}], fields ++ headers).status == 200
  end

  test "is about the default instance unless told otherwise" do
    assert call([auth: :none], path_info: ["health"]).status == 200
    conn = call([auth: :none, instance: NoSuch.Instance], path_info: ["metrics"])
    assert conn.status == 503
  end

  test "lets in who has the secret, and gives nobody else any data" do
    for {auth, good} <- [
          {{:bearer, @secret}, "Bearer " <> @secret},
          {fn -> {:basic, "user", @secret} end, "Basic " <> Base.encode64("user:" <> @secret)}
        ],
        path <- ["metrics", "report.json", "health", "nothing", "page"],
        headers <- [
          [],
          [{"authorization", "Bearer wrong"}],
          [{"authorization", good}, {"authorization", good}]
        ] do
      conn = call([auth: auth], path_info: [path], req_headers: headers)
      assert {conn.status, conn.resp_body, conn.halted} == {401, "unauthorized\n", true}
      assert [_challenge] = header(conn, "www-authenticate")

      conn = call([auth: auth], path_info: ["metrics"], req_headers: [{"authorization", good}])
      assert conn.status == 200
    end
  end

  test "demands :auth, and refuses options that it does not know, without showing a secret" do
    for {options, message} <- [
          {[], ~r/^option :auth must be \{:bearer, token\}/},
          {[auth: nil], ~r/^option :auth must be/},
          {[auth: @secret], ~r/^option :auth must be/},
          {[auth: {:bearer, @secret <> " "}], ~r/^option :auth must be/},
          {[auth: :none, instance: "name"],
           ~r/^option :instance must be the name of an instance/},
          {[auth: :none, token: @secret],
           ~r/^unknown option :token, allowed are :instance, :auth, :hosts, :page_methods$/},
          {[auth: :none, hosts: "name"],
           ~r/^option :hosts must be a list of host names without port such as/},
          {[auth: :none, page_methods: 501],
           ~r/^option :page_methods must be an integer from 1 to 500, got: 501$/}
        ] do
      error = assert_raise ArgumentError, fn -> @plug.init(options) end
      assert error.message =~ message
      refute error.message =~ @secret
    end
  end

  test "does not call a function when it is initialised, which may be at compile time" do
    assert %{auth: auth} = @plug.init(auth: fn -> flunk("called") end)
    assert is_function(auth, 0)
  end
end
