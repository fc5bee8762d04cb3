defmodule DSPexTelemetry.PushServer do
  @moduledoc """
  A server on loopback that pushes go to. The test gets every request, and says what becomes of it.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [on_exit: 1]

  @patience_ms 10_000

  defstruct [:id, :port, :url, :listener, :opened]

  @doc """
  Starts a server for the test.

    * `:port` - a port, where one is to be reached again; a free one by default
    * `:tls` - options of `:ssl`, for https
    * `:read` - `false` reads nothing from a connection
    * `:path`, `:host` - of its address
  """
  def start!(options \\ []) do
    {transport, tls} =
      case options[:tls] do
        nil -> {:gen_tcp, []}
        tls -> {:ssl, tls}
      end

    recbuf = if options[:read] == false, do: [recbuf: 4_096], else: []
    listen = [:binary, active: false, reuseaddr: true, ip: {127, 0, 0, 1}] ++ recbuf ++ tls
    {:ok, listener} = transport.listen(options[:port] || 0, listen)
    {:ok, {_ip, port}} = if tls == [], do: :inet.sockname(listener), else: :ssl.sockname(listener)
    opened = :counters.new(1, [])
    scheme = if tls == [], do: "http", else: "https"
    path = options[:path] || "/metrics/job/test"
    id = make_ref()

    server = %{
      id: id,
      transport: transport,
      test: self(),
      read: options[:read] != false,
      opened: opened
    }

    # Not linked to the test, as a connection may end in any way.
    acceptor =
      spawn(fn ->
        receive do
          :owned -> accept(listener, server)
        end
      end)

    :ok = transport.controlling_process(listener, acceptor)
    send(acceptor, :owned)
    on_exit(fn -> Process.exit(acceptor, :kill) end)

    %__MODULE__{
      id: id,
      port: port,
      url: "#{scheme}://#{options[:host] || "127.0.0.1"}:#{port}#{path}",
      listener: acceptor,
      opened: opened
    }
  end

  @doc "Ends the server; its port refuses connections then. Connections that stand stay."
  def stop(%{listener: listener}) do
    monitor = Process.monitor(listener)
    Process.exit(listener, :kill)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    end
  end

  @doc "A port that refuses connections."
  def closed_port do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)
    :ok = :gen_tcp.close(listener)
    port
  end

  @doc "How many connections were opened."
  def opened(%{opened: opened}), do: :counters.get(opened, 1)

  @doc "The next request: `{connection, %{method, path, headers, body, sent}}`, `sent` being the body as it came."
  def await_push(%{id: id}) do
    receive do
      {:pushed, ^id, connection, request} -> {connection, request}
    after
      @patience_ms -> flunk("in vain waited for a push")
    end
  end

  @doc "Answers a request."
  def answer(connection, status, headers \\ [], body \\ "") do
    headers = for {name, value} <- headers, do: [name, ": ", value, "\r\n"]

    send_raw(connection, [
      "HTTP/1.1 #{status} Whatever\r\ncontent-length: #{byte_size(body)}\r\n",
      [headers, "\r\n", body]
    ])
  end

  @doc "Answers a request and keeps the connection open."
  def answer_and_keep(connection, status),
    do: send(connection, {:keep, "HTTP/1.1 #{status} Whatever\r\ncontent-length: 0\r\n\r\n"})

  @doc "Sends anything as the answer, or as a part of it, and closes the connection."
  def send_raw(connection, data), do: send(connection, {:answer, data})

  @doc "Sends data, and then other data over and over until the connection is closed."
  def flood(connection, data, endless), do: send(connection, {:flood, data, endless})

  @doc "Closes a connection without an answer."
  def close(connection), do: send(connection, {:answer, ""})

  @doc "Waits until the other side has closed a connection, and returns how many bytes went there."
  def await_closed(connection) do
    receive do
      {:closed, ^connection, bytes} -> bytes
    after
      @patience_ms -> flunk("in vain waited for a connection to be closed")
    end
  end

  defp accept(listener, server) do
    with {:ok, socket} <- accept_one(server.transport, listener) do
      :counters.add(server.opened, 1, 1)
      connection = spawn(fn -> handshake(socket, server) end)
      _ = server.transport.controlling_process(socket, connection)
      send(connection, :owned)
    end

    accept(listener, server)
  end

  defp accept_one(:gen_tcp, listener), do: :gen_tcp.accept(listener)
  defp accept_one(:ssl, listener), do: :ssl.transport_accept(listener)

  defp handshake(socket, server) do
    receive do
      :owned -> :ok
    end

    result = if server.transport == :ssl, do: :ssl.handshake(socket, 5_000), else: {:ok, socket}

    case result do
      {:ok, socket} when server.read -> serve(socket, server)
      {:ok, socket} -> hold(socket, server)
      {:error, _refused} -> send(server.test, {:closed, self(), 0})
    end
  end

  defp hold(socket, server) do
    send(server.test, {:held, server.id, self()})

    receive do
      {:answer, _any} -> server.transport.close(socket)
    end
  end

  defp serve(socket, %{transport: transport} = server) do
    case read(socket, transport, "") do
      {:ok, request} ->
        send(server.test, {:pushed, server.id, self(), request})
        # The other side may close while the test makes up its mind.
        setopts(transport, socket, active: true)
        reply(socket, server)

      :closed ->
        send(server.test, {:closed, self(), 0})
    end
  end

  defp reply(socket, %{transport: transport} = server) do
    receive do
      {:answer, data} ->
        transport.send(socket, data)
        transport.close(socket)

      {:keep, data} ->
        transport.send(socket, data)
        reply(socket, server)

      {:flood, data, endless} ->
        :ok = transport.send(socket, data)
        send(server.test, {:closed, self(), flood(socket, transport, endless, 0)})

      {closed, _socket} when closed in [:tcp_closed, :ssl_closed] ->
        send(server.test, {:closed, self(), 0})
    end
  end

  defp flood(socket, transport, data, bytes) do
    case transport.send(socket, data) do
      :ok -> flood(socket, transport, data, bytes + byte_size(data))
      {:error, _closed} -> bytes
    end
  end

  defp read(socket, transport, read) do
    with [head, body] <- String.split(read, "\r\n\r\n", parts: 2),
         request = parse(head),
         true <- byte_size(body) == String.to_integer(request.headers["content-length"]) do
      {:ok, Map.merge(request, %{sent: body, body: decode(request.headers, body)})}
    else
      _incomplete ->
        case transport.recv(socket, 0) do
          {:ok, data} -> read(socket, transport, read <> data)
          {:error, _closed} -> :closed
        end
    end
  end

  defp parse(head) do
    [line | lines] = String.split(head, "\r\n")
    [method, path, "HTTP/1.1"] = String.split(line, " ")

    headers =
      Map.new(lines, fn line ->
        [name, value] = String.split(line, ":", parts: 2)
        {String.downcase(name), String.trim(value)}
      end)

    %{method: method, path: path, headers: headers}
  end

  defp decode(%{"content-encoding" => "gzip"}, body), do: :zlib.gunzip(body)
  defp decode(_headers, body), do: body

  defp setopts(:gen_tcp, socket, options), do: :inet.setopts(socket, options)
  defp setopts(:ssl, socket, options), do: :ssl.setopts(socket, options)
end
