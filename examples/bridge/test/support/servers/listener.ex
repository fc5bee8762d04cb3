defmodule Bridge.Servers.Listener do
  @moduledoc """
  An HTTP server of a few lines on a free port of loopback: one request for each connection, and a
  function that answers it.
  """

  use GenServer

  @type request :: %{
          method: String.t(),
          target: String.t(),
          headers: %{String.t() => String.t()},
          body: binary()
        }
  @type answer :: %{status: 100..599, headers: %{String.t() => String.t()}, body: binary()}

  # Milliseconds.
  @timeout 10_000

  @spec start_link((request() -> answer())) :: GenServer.on_start()
  def start_link(answer), do: GenServer.start_link(__MODULE__, answer)

  @spec url(GenServer.server()) :: String.t()
  def url(listener), do: "http://127.0.0.1:#{GenServer.call(listener, :port)}"

  @impl true
  def init(answer) do
    options = [:binary, active: false, packet: :http_bin, ip: {127, 0, 0, 1}, backlog: 64]
    {:ok, socket} = :gen_tcp.listen(0, options)
    spawn_link(fn -> accept(socket, answer) end)
    {:ok, socket}
  end

  @impl true
  def handle_call(:port, _from, socket) do
    {:ok, port} = :inet.port(socket)
    {:reply, port, socket}
  end

  defp accept(socket, answer) do
    with {:ok, connection} <- :gen_tcp.accept(socket) do
      pid = spawn_link(fn -> receive(do: (:go -> serve(connection, answer))) end)
      :ok = :gen_tcp.controlling_process(connection, pid)
      send(pid, :go)
      accept(socket, answer)
    end
  end

  # A client that goes away is none of our business.
  defp serve(connection, answer) do
    with {:ok, {:http_request, method, target, _version}} <- read(connection),
         {:ok, headers} <- headers(connection, %{}),
         :ok = :inet.setopts(connection, packet: :raw),
         {:ok, body} <- body(connection, headers) do
      request = %{method: "#{method}", target: target(target), headers: headers, body: body}
      :gen_tcp.send(connection, response(answer.(request)))
    end

    :gen_tcp.close(connection)
  end

  defp read(connection), do: :gen_tcp.recv(connection, 0, @timeout)

  defp headers(connection, headers) do
    case read(connection) do
      {:ok, {:http_header, _, name, _, value}} ->
        headers(connection, Map.put(headers, String.downcase("#{name}"), value))

      {:ok, :http_eoh} ->
        {:ok, headers}

      error ->
        error
    end
  end

  defp body(connection, headers) do
    case headers do
      %{"content-length" => length} when length != "0" ->
        :gen_tcp.recv(connection, String.to_integer(length), @timeout)

      _ ->
        {:ok, ""}
    end
  end

  defp target({:abs_path, path}), do: path
  defp target({:absoluteURI, scheme, host, port, path}), do: "#{scheme}://#{host}:#{port}#{path}"

  defp response(%{status: status, headers: headers, body: body}) do
    headers =
      Map.merge(headers, %{"content-length" => "#{byte_size(body)}", "connection" => "close"})

    [
      "HTTP/1.1 #{status} \r\n",
      for({name, value} <- headers, do: [name, ": ", value, "\r\n"]),
      "\r\n",
      body
    ]
  end
end
