defmodule DSPexTelemetry.Endpoint.ServerTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.{Endpoint, LogWatch, TestCalls, TestProject}
  alias DSPexTelemetry.Endpoint.{Limits, Renderer, Rendering, Server}
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @token "s3cr3t-t0ken"
  @loopback {127, 0, 0, 1}

  defp serve!(http \\ []), do: start!(http: Keyword.merge([port: 0], http))

  defp address!(name) do
    {:ok, address} = DSPexTelemetry.http_address(instance: name)
    address
  end

  # An endpoint beside a running instance that has none itself, with parts of its own.
  defp serve_with!(arguments) do
    name = start!()
    http = %{port: 0, ip: @loopback, auth: nil, hosts: [], page_methods: 50, required: false}
    arguments = Map.new(arguments)
    {http, arguments} = Map.pop(arguments, :http, http)

    defaults = %{options: %{name: name, http: http}, started: Server.new_started()}
    supervisor = start_supervised!({Endpoint.Supervisor, Map.merge(defaults, arguments)})
    {name, supervisor}
  end

  defp address_of(name) do
    with {:ok, {ip, port}} <- Server.address(name), do: %{ip: ip, port: port}
  end

  # Renderings tell the test of themselves and end when it says so.
  defp told_and_held do
    test = self()

    fn _what ->
      send(test, {:rendering, self()})

      receive do
        :finish -> {:ok, "rendered"}
      end
    end
  end

  defp process(supervisor, id) do
    Enum.find_value(Supervisor.which_children(supervisor), fn {child, pid, _type, _modules} ->
      if child == id or (is_tuple(child) and elem(child, 0) == id), do: pid
    end)
  end

  defp server(name), do: name |> child(Endpoint.Supervisor) |> process(Server)

  # The processes of httpd, by the server that has started it.
  defp httpd(server) do
    supervisor = :sys.get_state(server).httpd.supervisor
    instance = process(supervisor, :httpd_instance_sup)
    acceptors = process(instance, :httpd_acceptor_sup)

    %{
      supervisor: supervisor,
      instance: instance,
      acceptors: acceptors,
      acceptor: process(acceptors, :httpd_acceptor_sup),
      connections: process(instance, :httpd_connection_sup),
      manager: process(instance, :httpd_manager)
    }
  end

  defp connections(server),
    do: server |> httpd() |> Map.fetch!(:connections) |> Supervisor.which_children()

  defp listens_again(name) do
    await("#{inspect(name)} to listen again", fn ->
      with {:ok, %{ip: ip, port: port}} <- DSPexTelemetry.http_address(instance: name),
           {:ok, socket} <- :gen_tcp.connect(ip, port, [:binary, active: false]),
           :ok <- :gen_tcp.send(socket, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"),
           %{status: 200} <- read(socket) do
        true
      else
        _not_yet -> false
      end
    end)
  end

  describe "an instance with option :http" do
    test "listens on a free port of this machine, and answers" do
      name = serve!()
      assert %{ip: @loopback, port: port} = address = address!(name)
      assert port > 0
      method = label("http")
      TestCalls.call(method)

      for path <- ["/metrics", "/report.json"] do
        response = request(address, "GET", path)
        assert response.status == 200
        assert response.body =~ method
        assert response.headers["content-length"] == to_string(byte_size(response.body))
        assert response.headers["connection"] == "close"
        refute Map.has_key?(response.headers, "server")
      end

      assert request(address, "GET", "/health").body == ~s({"status":"ok"}\n)
      assert request(address, "GET", "/nothing").status == 404
      assert request(address, "GET", "/report.json?window=5m").status == 200
      assert request(address, "GET", "/report.json?window=5x").status == 400
    end

    test "answers HEAD with the headers of GET, and no body" do
      address = address!(serve!())

      for {path, status} <- [
            {"/metrics", 200},
            {"/report.json?window=previous_hour", 200},
            {"/health", 200},
            {"/nothing", 404}
          ],
          encoding <- ["gzip", "identity"] do
        headers = [{"accept-encoding", encoding}]
        get = request(address, "GET", path, headers)
        head = request(address, "HEAD", path, headers)
        assert {get.status, head.status} == {status, status}
        assert head.body == ""

        for response <- [get, head] do
          assert response.headers["content-type"]
          assert String.to_integer(response.headers["content-length"]) > 0
        end

        stable = ["date", "content-length"]
        assert Map.drop(head.headers, stable) == Map.drop(get.headers, stable)
        assert get.headers["content-length"] == to_string(byte_size(get.body))
      end

      head = request(address, "HEAD", "/health")
      assert head.headers["content-length"] == "16"
    end

    test "answers no name that leads to this machine, unless it is allowed" do
      ask = fn address, host ->
        send_raw(address, "GET /report.json HTTP/1.1\r\nhost: #{host}\r\n\r\n")
      end

      address = address!(serve!())
      assert %{status: 421} = response = ask.(address, "evil.example:#{address.port}")
      refute response.body =~ "interval"
      assert ask.(address, "127.0.0.1:#{address.port}").status == 200
      address = address!(serve!(hosts: ["metrics.internal"]))
      assert ask.(address, "metrics.internal:#{address.port}").status == 200
    end

    test "compresses" do
      name = serve!()
      method = label("http")
      TestCalls.call(method)
      response = request(address!(name), "GET", "/metrics", [{"accept-encoding", "gzip"}])
      assert response.headers["content-encoding"] == "gzip"
      assert :zlib.gunzip(response.body) =~ method
    end

    test "listens on IPv6" do
      address = address!(serve!(ip: {0, 0, 0, 0, 0, 0, 0, 1}))
      assert address.ip == {0, 0, 0, 0, 0, 0, 0, 1}
      assert request(address, "GET", "/health").status == 200
    end

    test "listens beside another" do
      [one, other] = for _ <- 1..2, do: serve_beside!()
      assert address!(one) != address!(other)
      DSPexTelemetry.detach(instance: other)
      assert request(address!(one), "GET", "/health").status == 200
      assert request(address!(other), "GET", "/health").status == 503
    end

    test "frees its port when it stops" do
      name = serve!()
      %{port: port} = address = address!(name)
      # One that is idle, and one that has sent half a request.
      idle = connect!(address)
      half = connect!(address)
      :ok = :gen_tcp.send(half, "GET /metrics HTTP/1.1\r\nhost:")
      stop_supervised!({DSPexTelemetry, name})

      # Connections that it has closed may still say good-bye.
      assert {:ok, socket} = :gen_tcp.listen(port, ip: @loopback, reuseaddr: true)
      :gen_tcp.close(socket)
      for client <- [idle, half], do: assert(read(client) == :closed)
    end

    test "records on a port that is taken, logs that once, tells it, and listens when the port is free" do
      {:ok, socket} = :gen_tcp.listen(0, ip: @loopback)
      {:ok, port} = :inet.port(socket)
      name = unique_name()
      watch_log(inspect(name))
      start!(name: name, http: [port: port])

      sentence =
        "The HTTP endpoint of #{inspect(name)} cannot listen on port #{port} of 127.0.0.1: " <>
          "address already in use (eaddrinuse)"

      assert_receive {:logged, :error, line}, 10_000
      assert line =~ sentence <> ". It tries again until it can"
      method = label("http")
      TestCalls.call(method)
      assert TestCalls.counts(name)[method] == 1
      http = %{listening: false, ip: @loopback, port: port, reason: sentence}
      assert DSPexTelemetry.info(instance: name).http == http
      assert DSPexTelemetry.http_address(instance: name) == {:error, :not_listening}

      # It tries again some more times, and says no more.
      await("a third attempt", fn -> :sys.get_state(server(name)).pause_ms >= 800 end)
      instance = pid(name)
      :gen_tcp.close(socket)
      listens_again(name)
      assert_receive {:logged, :info, line}, 10_000
      assert line =~ "listens on port #{port} of 127.0.0.1"
      refute_received {:logged, _level, _line}
      assert pid(name) == instance
      http = %{http | listening: true, reason: nil}
      assert DSPexTelemetry.info(instance: name).http == http
      assert DSPexTelemetry.info(instance: start!()).http == nil
    end

    test "does not keep the application from starting where its port is taken" do
      {:ok, socket} = :gen_tcp.listen(0, ip: @loopback)
      {:ok, port} = :inet.port(socket)

      output =
        TestProject.evaluate!("""
        Logger.configure(level: :none)
        Application.put_env(:dspex_telemetry, :http, port: #{port})
        {:ok, _} = Application.ensure_all_started(:dspex_telemetry)
        DSPexTelemetry.Emit.session_created(%{}, %{session_id: "s-1"})
        IO.inspect({DSPexTelemetry.info().http.listening, DSPexTelemetry.report().sessions.created})
        """)

      assert output == "{false, 1}\n"
      :gen_tcp.close(socket)
    end

    test "that must listen does not start on a port that is taken, and says so" do
      {:ok, socket} = :gen_tcp.listen(0, ip: @loopback)
      {:ok, port} = :inet.port(socket)
      Process.flag(:trap_exit, true)
      name = unique_name()

      {result, log} =
        with_log(fn ->
          DSPexTelemetry.start_link(name: name, http: [port: port, required: true])
        end)

      sentence =
        "The HTTP endpoint of #{inspect(name)} cannot listen on port #{port} of 127.0.0.1: " <>
          "address already in use (eaddrinuse)"

      assert {:error, reason} = result
      assert inspect(reason, limit: :infinity) =~ sentence
      refute log =~ "httpd"
      refute Lookup.running?(name)
    end

    test "tells the address only where there is one" do
      assert DSPexTelemetry.http_address(instance: start!()) == {:error, :not_enabled}

      assert_raise ArgumentError, ~r/no instance NoSuch is running/, fn ->
        DSPexTelemetry.http_address(instance: NoSuch)
      end
    end
  end

  defp serve_beside! do
    name = unique_name()
    start_supervised!({DSPexTelemetry, name: name, http: [port: 0]})
    name
  end

  describe "the server" do
    @describetag :capture_log

    # An acceptor that ends with `:shutdown` is not started again by httpd, nor is one that ends
    # normally, as it does after some errors of its socket.
    for {part, reason} <- [
          acceptor: :shutdown,
          acceptor: :kill,
          acceptors: :kill,
          manager: :kill,
          connections: :kill,
          instance: :kill,
          supervisor: :kill
        ] do
      test "is started again on its port when its #{part} ends by #{reason}, and recording does not notice" do
        name = serve!()
        address = address!(name)
        instance = pid(name)
        method = label("http")
        TestCalls.call(method)

        server = server(name)
        before = httpd(server)
        part = Map.fetch!(before, unquote(part))
        monitor = Process.monitor(part)
        Process.exit(part, unquote(reason))
        assert_receive {:DOWN, ^monitor, :process, _pid, _reason}, 10_000
        TestCalls.call(method)

        # What is left of the old one may answer for a moment.
        await("another httpd", fn ->
          with %{supervisor: now} <- :sys.get_state(server).httpd, do: now != before.supervisor
        end)

        listens_again(name)
        assert address!(name) == address
        assert pid(name) == instance
        assert TestCalls.counts(name)[method] == 2
      end
    end

    test "may be killed again and again, and recording does not notice" do
      name = serve!()
      address = address!(name)
      instance = pid(name)

      for _ <- 1..20, id <- [Server, Endpoint.Renderer] do
        pid = name |> child(Endpoint.Supervisor) |> process(id)
        kill(pid)

        await("another #{inspect(id)}", fn ->
          now = name |> child(Endpoint.Supervisor) |> process(id)
          is_pid(now) and now != pid
        end)
      end

      listens_again(name)
      assert address!(name) == address
      assert pid(name) == instance
    end

    test "may lose its supervisor, and recording does not notice" do
      name = serve!()
      address = address!(name)
      instance = pid(name)
      # It has a connection to end first.
      :ok = :gen_tcp.send(connect!(address), "GET /metrics HTTP/1.1\r\n")

      for _ <- 1..2 do
        kill_child(name, Endpoint.Supervisor)
        listens_again(name)
        assert address!(name) == address
        assert pid(name) == instance
      end
    end

    test "listens again after the instance itself was killed" do
      name = serve!()
      address = address!(name)
      kill(pid(name))
      await("another instance", fn -> Lookup.running?(name) end)
      listens_again(name)
      assert address!(name) == address
    end

    test "that finds its port taken after a restart waits for it, and says so once" do
      {:ok, socket} = :gen_tcp.listen(0, ip: @loopback)
      {:ok, port} = :inet.port(socket)
      watch_log("cannot listen on port #{port} of 127.0.0.1: address already in use")
      watch_log("listens on port #{port}")

      started = Server.new_started()
      :atomics.put(started, 1, 1)
      http = %{port: port, ip: @loopback, auth: nil, hosts: [], page_methods: 50, required: false}
      {name, _supervisor} = serve_with!(http: http, started: started)
      title = inspect(name)

      assert_receive {:logged, :error, "The HTTP endpoint of " <> _}, 10_000
      assert {:error, "The HTTP endpoint of " <> _} = Server.address(name)

      # It tries again some more times.
      server_trying = Registry.whereis_name({Lookup.registry(), {:endpoint, name}})

      await("the third try", fn -> :sys.get_state(server_trying).pause_ms >= 800 end)
      refute_received {:logged, :error, _again}

      :ok = :gen_tcp.close(socket)
      await("the server to listen", fn -> is_map(address_of(name)) end)
      assert_receive {:logged, :info, line}, 10_000
      assert line =~ title
      assert request(address_of(name), "GET", "/health").status == 200
    end
  end

  describe "with auth" do
    test "a request without the right credentials gets 401, and not one byte of data" do
      name = serve!(auth: {:bearer, @token})
      address = address!(name)
      method = label("http")
      TestCalls.call(method)

      credentials = [
        [],
        [{"authorization", ""}],
        [{"authorization", "Bearer"}],
        [{"authorization", "Bearer #{String.slice(@token, 0..-2//1)}"}],
        [{"authorization", "Bearer #{@token}x"}],
        [{"authorization", "Basic #{Base.encode64(@token)}"}],
        [{"authorization", "Bearer \xff\x80"}],
        [{"authorization", "Bearer #{@token}"}, {"authorization", "Bearer #{@token}"}],
        [{"authorization", "Bearer " <> String.duplicate("x", 7_000)}]
      ]

      for path <- ["/metrics", "/report.json", "/health", "/nothing", "/%6detrics"],
          verb <- ["GET", "HEAD", "POST"],
          headers <- credentials do
        response = request(address, verb, path, headers)
        assert response.status == 401
        assert response.headers["www-authenticate"] == ~s(Bearer realm="dspex_telemetry")
        assert response.body == if(verb == "HEAD", do: "", else: "unauthorized\n")
      end

      # Too long to be looked at.
      response =
        request(address, "GET", "/metrics", [
          {"authorization", "Bearer " <> String.duplicate("x", 1_000_000)}
        ])

      assert response == :closed or response.status == 413
      refute response != :closed and response.raw =~ method

      response = request(address, "GET", "/metrics", [{"Authorization", "Bearer #{@token}"}])
      assert response.status == 200
      assert response.body =~ method
    end

    test "user and password are asked for and taken" do
      address = address!(serve!(auth: fn -> {:basic, "user", @token} end))
      response = request(address, "GET", "/metrics")
      assert response.status == 401

      assert response.headers["www-authenticate"] ==
               ~s(Basic realm="dspex_telemetry", charset="UTF-8")

      headers = [{"authorization", "Basic " <> Base.encode64("user:" <> @token)}]
      assert request(address, "GET", "/metrics", headers).status == 200
    end

    test "the secret is in no process, no table and no log" do
      for auth <- [{:bearer, @token}, {:basic, "user", @token}] do
        log =
          capture_log(fn ->
            name = serve!(auth: auth)
            address = address!(name)
            request(address, "GET", "/metrics")
            request(address, "GET", "/metrics", [{"authorization", "Bearer #{@token}"}])

            server = server(name)
            pids = [supervisor_of(name), child(name, Endpoint.Supervisor), server, pid(name)]
            pids = pids ++ Map.values(httpd(server))

            for pid <- pids do
              # Of an acceptor, which knows no system messages, what there is to see from outside.
              refute_secret(Process.info(pid, [:dictionary, :messages]))
              unless pid == httpd(server).acceptor, do: refute_secret(:sys.get_status(pid))
            end

            for pid <- pids,
                pid not in [server, pid(name), httpd(server).manager, httpd(server).acceptor],
                do: refute_secret(Supervisor.which_children(pid))

            for table <- :ets.all(),
                :ets.info(table, :owner) in pids,
                do: refute_secret(readable(table))

            refute_secret(Lookup.fetch!(name))

            # Crashes, which log the state.
            before = server
            :ok = :sys.terminate(server, :crashed_on_purpose)
            await("another server", fn -> server(name) not in [before, nil, :restarting] end)
            :ok = :sys.terminate(pid(name), :crashed_on_purpose)
            await("another instance", fn -> Lookup.running?(name) end)
            listens_or_refuses(name)
            stop_supervised!({DSPexTelemetry, name})
          end)

        assert log =~ "crashed_on_purpose"
        refute log =~ @token
      end
    end
  end

  defp listens_or_refuses(name) do
    await("an address", fn -> is_map(address_of(name)) end)
  end

  defp readable(table) do
    :ets.tab2list(table)
  rescue
    ArgumentError -> []
  end

  defp refute_secret(term) do
    for text <- [
          inspect(term, limit: :infinity, printable_limit: :infinity),
          :io_lib.format("~0p", [term])
        ] do
      refute IO.chardata_to_string(text) =~ @token
    end
  end

  describe "what is no proper request" do
    setup do
      name = serve!()
      %{name: name, address: address!(name)}
    end

    test "is answered by the status that it deserves, or closed", %{address: address} do
      host = "host: localhost\r\n"
      long = String.duplicate("x", 20_000)

      for {bytes, statuses} <- [
            {"GET /health HTTP/1.0\r\n\r\n", [200]},
            {"GET http://x/health HTTP/1.1\r\n#{host}\r\n", [200]},
            {"GET /health HTTP/1.1\nhost: localhost\n\n", [200]},
            {"GET /%68ealth HTTP/1.1\r\n#{host}\r\n", [200]},
            {"GET /x/../health HTTP/1.1\r\n#{host}\r\n", [200]},
            {"GET /health HTTP/1.1\r\n#{host}no colon\r\n\r\n", [200]},
            {"GET /health HTTP/1.1\r\n#{host}: no name\r\n\r\n", [200]},
            {"GET /../../etc/passwd HTTP/1.1\r\n#{host}\r\n", [404]},
            {"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n#{host}\r\n", [404]},
            {"GET /..%2f..%2fetc/passwd HTTP/1.1\r\n#{host}\r\n", [404]},
            {"GET * HTTP/1.1\r\n#{host}\r\n", [404]},
            {"GET metrics HTTP/1.1\r\n#{host}\r\n", [404]},
            {"GET /\xff\xfe HTTP/1.1\r\n#{host}\r\n", [400, 404]},
            {"GET /%ff%00 HTTP/1.1\r\n#{host}\r\n", [400, 404]},
            {"GET /%zz HTTP/1.1\r\n#{host}\r\n", [400, 404]},
            {"GET /health HTTP/1.1\r\n\r\n", [400]},
            {"GET /health HTTP/2.0\r\n#{host}\r\n", [400]},
            {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]},
            {"GET /health\r\n\r\n", [505]},
            {"OPTIONS /health HTTP/1.1\r\n#{host}\r\n", [501]},
            {"BREW /health HTTP/1.1\r\n#{host}\r\n", [501]},
            {"GET /#{long} HTTP/1.1\r\n#{host}\r\n", [414]},
            {"GET /health HTTP/1.1\r\n#{host}x: #{long}\r\n\r\n", [413]},
            {"GET /health HTTP/1.1\r\n#{host}#{String.duplicate("x: y\r\n", 10_000)}\r\n", [413]},
            {"GET /health HTTP/1.1" <> long, [413]},
            {long, [413]},
            {"TRACE /health HTTP/1.1\r\n#{host}\r\n", [405]},
            # With bodies, which are not waited for.
            {"POST /health HTTP/1.1\r\n#{host}content-length: 10\r\n\r\n", [405]},
            {"POST /health HTTP/1.1\r\n#{host}content-length: 5\r\n\r\nhello", [405]},
            {"POST /health HTTP/1.1\r\n#{host}expect: 100-continue\r\ncontent-length: 5\r\n\r\n",
             [405]},
            {"POST /health HTTP/1.1\r\n#{host}transfer-encoding: chunked\r\n\r\nzz\r\n", [405]},
            {"GET /health HTTP/1.1\r\n#{host}expect: x\r\n\r\n", [200]},
            {"GET /health HTTP/1.1\r\n#{host}transfer-encoding: chunked\r\n\r\n-1\r\n", [200]},
            {"GET /health HTTP/1.1\r\n#{host}transfer-encoding: x\r\n\r\n", [200]},
            {"GET /health HTTP/1.1\r\n#{host}content-length: 999999999\r\n\r\n", [200]},
            {"GET /health HTTP/1.1\r\n#{host}content-length: 99999999999999999999\r\n\r\n",
             [413]},
            {"GET /health HTTP/1.1\r\n#{host}content-length: -1\r\n\r\n", [411]},
            {"GET /health HTTP/1.1\r\n#{host}content-length: x\r\n\r\n", [411]},
            {"GET /health HTTP/1.1\r\n#{host}content-length: 1\r\ncontent-length: 2\r\n\r\n",
             [400]},
            # A TLS client, and somebody at a terminal.
            {<<0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3>> <> :binary.copy(<<0xAB>>, 200), [413]},
            {"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", [413]}
          ] do
        response = send_raw(address, bytes)
        title = inspect(bytes, printable_limit: 80)

        # Of an answer to more than it reads, the system may drop what the client has not read yet.
        if response == :closed do
          assert byte_size(bytes) > 8_192, "closed without an answer: #{title}"
        else
          assert response.status in statuses, "#{response.status} to #{title}"
          assert_tells_nothing(response)
        end
      end
    end

    test "that goes on after the first request is not read", %{address: address} do
      request = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
      response = send_raw(address, String.duplicate(request, 10))
      assert response.body == ~s({"status":"ok"}\n)
      assert response.headers["connection"] == "close"
    end

    test "never crashes a process of httpd, which would log what the client has sent", %{
      name: name,
      address: address
    } do
      :rand.seed(:exsss, {1, 2, 3})
      # What the mutations start from has all that httpd looks at.
      sample =
        "POST /metrics?window=5m HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x\r\n" <>
          "content-length: 10\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n" <>
          "connection: keep-alive\r\naccept: text/plain;q=0.5, */*\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

      server = server(name)
      watch_failures(server)

      for _ <- 1..400 do
        socket = connect!(address)
        :gen_tcp.send(socket, mutated(sample))
        :gen_tcp.shutdown(socket, :write)
        read_or_garbage(socket)
        :gen_tcp.close(socket)
      end

      assert request(address, "GET", "/health").status == 200
      # A process logs before it has ended, and its supervisor before it says so.
      await("no connections", fn -> connections(server) == [] end)
      refute_received {:failure_logged, _message}

      # Else none would have been noticed.
      client = connect!(address)
      await("a connection", fn -> connections(server) != [] end)
      [{_id, connection, _type, _modules}] = connections(server)
      Process.exit(connection, :kill)
      assert_receive {:failure_logged, _message}, 10_000
      # Open still if the connection had not taken it over yet.
      :gen_tcp.close(client)
    end
  end

  # Has the test told of what a server and the processes that it has started log at level warning or
  # above, reports of their ends included, as `{:failure_logged, message}`. Nothing that others log counts.
  defp watch_failures(server) do
    LogWatch.watch(fn event ->
      # Called by the process that logs.
      logging = [self() | Process.get(:"$ancestors", [])]
      failure? = Logger.compare_levels(event.level, :warning) != :lt
      if failure? and server in logging, do: {:failure_logged, event.msg}
    end)
  end

  defp assert_tells_nothing(response) do
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    refute response.headers["content-type"] =~ "html"
    refute Map.has_key?(response.headers, "server")
    refute response.raw =~ ~r/inets|erlang|httpd|#PID|root:/i
  end

  defp read_or_garbage(socket) do
    case :gen_tcp.recv(socket, 0, 20_000) do
      {:ok, _data} -> read_or_garbage(socket)
      {:error, reason} when reason != :timeout -> :ok
    end
  end

  # Some bytes changed, doubled or left out, and the rest cut off at times.
  defp mutated(sample) do
    mutated =
      Enum.reduce(1..:rand.uniform(6), sample, fn _, text ->
        position = :rand.uniform(byte_size(text)) - 1
        <<before::binary-size(position), byte, rest::binary>> = text <> " "

        case :rand.uniform(4) do
          1 -> before <> <<:rand.uniform(256) - 1>> <> rest
          2 -> before <> rest
          3 -> before <> <<byte, byte>> <> rest
          4 -> before <> Enum.random(["\r\n", "\n", " ", ":", "\0", "%", "\r\n\r\n"]) <> rest
        end
      end)

    if :rand.uniform(5) == 1,
      do: binary_part(mutated, 0, :rand.uniform(byte_size(mutated))),
      else: mutated
  end

  describe "a slow client" do
    test "that sends a byte at a time is told so in the end, and holds up nobody" do
      {name, _supervisor} = serve_with!(limits: %Limits{headers_s: 1})
      address = address_of(name)
      silent = connect!(address)
      slow = connect!(address)
      bytes = Stream.cycle(~c"GET /metrics HTTP/1.1\r\nx: ")
      began = Clock.now_ms()

      response =
        Enum.find_value(bytes, fn byte ->
          _ = :gen_tcp.send(slow, <<byte>>)

          case :gen_tcp.recv(slow, 0, 20) do
            {:error, :timeout} ->
              assert request(address, "GET", "/health").status == 200
              nil

            {:ok, data} ->
              data

            {:error, :closed} ->
              "closed"
          end
        end)

      assert response =~ "408" or response == "closed"
      # Who has sent nothing is told nothing.
      assert read(silent) == :closed
      # A second, on a machine that has other things to do; not the time of the whole connection.
      assert Clock.now_ms() - began < 20_000
    end

    test "that reads nothing, or a little now and then, is ended, and holds up nobody" do
      big = :binary.copy("x", 50_000_000)

      render = fn
        {{:scrape, _format}, _encoding} -> {:ok, big}
        _report -> {:ok, "{}"}
      end

      {name, supervisor} = serve_with!(render: render, limits: %Limits{sent_ms: 300})
      address = address_of(name)
      server = process(supervisor, Server)

      [trickle | _] =
        clients =
        for _ <- 1..5 do
          socket = connect!(address)
          :ok = :gen_tcp.send(socket, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
          # It is being answered, and 50 MB are more than the system takes for it.
          assert {:ok, "HTTP/1.1 200"} = :gen_tcp.recv(socket, 12, 20_000)
          socket
        end

      sockets =
        for {_id, pid, _type, _modules} <- connections(server),
            {:links, links} = Process.info(pid, :links) || {:links, []},
            port <- links,
            is_port(port),
            do: port

      assert request(address, "GET", "/report.json").body == "{}"

      await("their connections to end", fn ->
        :gen_tcp.recv(trickle, 100_000, 10)
        connections(server) == []
      end)

      # What was left to send to them is not kept.
      for socket <- sockets, do: assert(:erlang.port_info(socket) == :undefined)
      assert request(address, "GET", "/report.json").body == "{}"
      for client <- clients, do: :gen_tcp.close(client)
    end

    test "whose connection takes too long in all is ended, whatever it is at" do
      {name, supervisor} = serve_with!(render: told_and_held(), limits: %Limits{connection_ms: 1})
      address = address_of(name)
      client = connect!(address)
      :ok = :gen_tcp.send(client, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
      assert_receive {:rendering, rendering}, 10_000
      assert read(client) == :closed
      send(rendering, :finish)
      await("no connections", fn -> connections(process(supervisor, Server)) == [] end)
    end

    test "is told to try again when the rendering takes too long" do
      {name, _supervisor} = serve_with!(render: told_and_held(), limits: %Limits{rendered_ms: 50})
      response = request(address_of(name), "GET", "/metrics")
      assert response.status == 503
      assert response.headers["retry-after"] == "1"
      assert_received {:rendering, rendering}
      send(rendering, :finish)
    end
  end

  test "what clients have asked for that have gone is not rendered for them" do
    test = self()

    render = fn {subject, _encoding} ->
      send(test, {:rendering, subject, self()})

      receive do
        :finish -> {:ok, "rendered"}
      end
    end

    {name, supervisor} = serve_with!(render: render)
    address = address_of(name)
    renderer = process(supervisor, Renderer)
    waiting = fn -> length(:sys.get_state(renderer).waiting) end

    ask = fn path ->
      client = connect!(address)
      :ok = :gen_tcp.send(client, "GET #{path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
      client
    end

    held =
      for path <- ["/metrics", "/report.json"] do
        client = ask.(path)
        assert_receive {:rendering, _subject, pid}, 10_000
        {client, pid}
      end

    impatient = for minutes <- 1..20, do: ask.("/report.json?window=#{minutes}m")
    await("all to wait", fn -> waiting.() == 20 end)
    for client <- impatient, do: :gen_tcp.close(client)
    await("all to be gone", fn -> waiting.() == 0 end)

    for {client, pid} <- held do
      send(pid, :finish)
      assert read(client).status == 200
    end

    refute_received {:rendering, _subject, _pid}
  end

  test "a client that has closed its side behind its request gets its answer" do
    client = connect!(address!(serve!()))
    :ok = :gen_tcp.send(client, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
    :ok = :gen_tcp.shutdown(client, :write)
    assert read(client).status == 200
  end

  describe "many clients" do
    test "200 at once are all answered, and leave nothing behind" do
      name = serve!()
      address = address!(name)
      server = server(name)
      method = label("http")
      TestCalls.call(method)

      # All are connected before the first asks.
      clients = for _ <- 1..200, do: connect!(address)

      for {client, n} <- Enum.with_index(clients) do
        path = Enum.at(["/metrics", "/report.json", "/metrics"], rem(n, 3))
        encoding = Enum.at(["gzip", "identity"], rem(n, 2))

        request =
          "GET #{path} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: #{encoding}\r\n\r\n"

        :ok = :gen_tcp.send(client, request)
      end

      for client <- clients do
        response = read(client)
        assert response.status == 200
        assert response.headers["content-length"] == to_string(byte_size(response.body))

        body =
          if response.headers["content-encoding"] == "gzip",
            do: :zlib.gunzip(response.body),
            else: response.body

        assert body =~ method
      end

      await("no connections", fn -> connections(server) == [] end)
      for client <- clients, do: :gen_tcp.close(client)
    end

    test "beyond the limit are told to come back, and are let in when others have gone" do
      {name, supervisor} = serve_with!(limits: %Limits{clients: 3})
      address = address_of(name)
      idle = for _ <- 1..3, do: connect!(address)
      server = process(supervisor, Server)
      await("the idle ones to be accepted", fn -> length(connections(server)) == 3 end)

      response = request(address, "GET", "/metrics")
      assert response.status == 503
      refute response.raw =~ "dspex_telemetry_"

      for client <- idle, do: :gen_tcp.close(client)
      await("the idle ones to be gone", fn -> connections(server) == [] end)
      assert request(address, "GET", "/metrics").status == 200
    end
  end

  test "of many more than are answered, the oldest connections are ended" do
    {name, supervisor} = serve_with!(limits: %Limits{clients: 3})
    address = address_of(name)
    server = process(supervisor, Server)
    old = for _ <- 1..20, do: connect!(address)
    await("the surplus to be ended", fn -> length(connections(server)) <= 6 end)
    for client <- old, do: :gen_tcp.close(client)
    await("all to be gone", fn -> connections(server) == [] end)
    assert request(address, "GET", "/metrics").status == 200
  end

  test "what fails inside gets 500 and no word about it, and the next request works" do
    fails = :atomics.new(1, [])
    :atomics.put(fails, 1, 1)
    test_name = unique_name()

    render = fn {subject, encoding} ->
      case :atomics.exchange(fails, 1, 0) do
        1 -> Rendering.render(DSPexTelemetry, {{:scrape, test_name}, encoding})
        0 -> Rendering.render(DSPexTelemetry, {subject, encoding})
      end
    end

    {name, _supervisor} = serve_with!(render: render)
    address = address_of(name)
    log = capture_log(fn -> send(self(), {:answered, request(address, "GET", "/metrics")}) end)
    assert_received {:answered, %{status: 500, body: "internal error\n"} = response}
    refute response.raw =~ ~r/ArgumentError|Elixir|\.ex\b/

    assert [_before, _after] =
             String.split(log, "{:scrape, #{inspect(test_name)}} of DSPexTelemetry")

    assert request(address, "GET", "/metrics").status == 200
  end

  @tag :capture_log
  test "a rendering that is killed gets 500, and the next request works" do
    {name, _supervisor} = serve_with!(render: told_and_held())
    address = address_of(name)

    for {act, status} <- [{&Process.exit(&1, :kill), 500}, {&send(&1, :finish), 200}] do
      client = connect!(address)
      :ok = :gen_tcp.send(client, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
      assert_receive {:rendering, rendering}, 10_000
      act.(rendering)
      assert read(client).status == status
    end
  end
end

defmodule DSPexTelemetry.Endpoint.ServerLeavesNothingTest do
  # Not async: counts what the whole VM has.
  use ExUnit.Case, async: false

  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance

  test "requests of all kinds leave no atoms, no processes and no ports behind" do
    name = start!(http: [port: 0])
    {:ok, address} = DSPexTelemetry.http_address(instance: name)
    # What the first of each kind loads.
    requests(address, 1..5)
    count = fn -> Enum.map([:atom_count, :process_count, :port_count], &:erlang.system_info/1) end
    [atoms, processes, ports] = count.()

    requests(address, 6..105)

    await("as many processes and ports as before", fn ->
      [_atoms, now_processes, now_ports] = count.()
      now_processes <= processes and now_ports <= ports
    end)

    [now_atoms, _processes, _ports] = count.()
    assert now_atoms - atoms < 10
  end

  test "endpoints on free ports leave no atoms behind, however many there were" do
    name = unique_name()
    %{id: id} = DSPexTelemetry.child_spec(name: name)

    serve = fn ->
      start_supervised!({DSPexTelemetry, name: name, http: [port: 0]})
      {:ok, %{port: port} = address} = DSPexTelemetry.http_address(instance: name)
      assert request(address, "GET", "/health").status == 200
      :ok = stop_supervised(id)
      port
    end

    # As many as are new to httpd, and what the first start loads.
    for _ <- 1..70, do: serve.()
    atoms = :erlang.system_info(:atom_count)
    ports = for _ <- 1..20, do: serve.()
    assert :erlang.system_info(:atom_count) - atoms < 8
    # The one that has rested longest is the next.
    assert Enum.uniq(ports) == ports
  end

  test "two endpoints on free ports have two" do
    ports =
      for _ <- 1..70 do
        {:ok, %{port: port}} = DSPexTelemetry.http_address(instance: start!(http: [port: 0]))
        port
      end

    assert Enum.uniq(ports) == ports
  end

  defp requests(address, numbers) do
    for n <- numbers do
      request(address, "GET", "/metrics?unseen_#{n}=1", [{"unseen-#{n}", "unseen_value_#{n}"}])
      request(address, "GET", "/unseen_#{n}", [{"authorization", "Unseen#{n} x"}])
      request(address, "UNSEEN#{n}", "/metrics")
      request(address, "GET", "/report.json?window=unseen_#{n}")

      request(address, "GET", "/metrics", [
        {"accept", "unseen#{n}/unseen#{n};unseen#{n}=1"},
        {"accept-encoding", "unseen#{n}"}
      ])

      # Gone before it has its answer, and before it has asked.
      impatient = connect!(address)
      :gen_tcp.send(impatient, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
      :gen_tcp.close(impatient)
      address |> connect!() |> :gen_tcp.close()
    end
  end
end
