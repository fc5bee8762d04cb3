defmodule DSPexTelemetry.Endpoint.RequestsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.EndpointTesting
  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.LogWatch
  alias DSPexTelemetry.Endpoint.Rendering

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
