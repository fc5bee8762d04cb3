defmodule DSPexTelemetry.Endpoint.ClientsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.EndpointTesting
  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.TestCalls
  alias DSPexTelemetry.Endpoint.{Limits, Renderer, Server}
  alias DSPexTelemetry.Instance.Clock

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
end
