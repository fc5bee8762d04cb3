defmodule DSPexTelemetry.Endpoint.ServerTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.EndpointTesting
  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.{Endpoint, TestCalls, TestProject}
  alias DSPexTelemetry.Endpoint.Server
  alias DSPexTelemetry.Instance.Lookup

  @loopback {127, 0, 0, 1}

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
end
