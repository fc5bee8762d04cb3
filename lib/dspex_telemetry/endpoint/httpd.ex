defmodule DSPexTelemetry.Endpoint.Httpd do
  @moduledoc false
  # The only module of our `httpd`: none that serves files, lists folders or runs programs is in its
  # configuration. It turns a request of httpd's into one of `DSPexTelemetry.Endpoint` and back.

  @behaviour :httpd_custom_api

  require Record

  alias DSPexTelemetry.Endpoint
  alias DSPexTelemetry.Endpoint.{Limits, Rendering}
  alias DSPexTelemetry.Instance.Clock

  Record.defrecordp(:mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))

  @typedoc "As `DSPexTelemetry.Endpoint` takes it, but what renders is told the connection too."
  @type config :: %{
          instance: atom(),
          auth: DSPexTelemetry.Auth.t(),
          hosts: [String.t()] | :any,
          page_methods: pos_integer(),
          render: (Rendering.what(), pid() | port() -> Rendering.result())
        }

  @doc "The configuration of an `httpd` that listens on an address."
  @spec configuration(:inet.ip_address(), :inet.port_number(), config(), Limits.t()) :: keyword()
  def configuration(ip, port, config, limits) do
    # httpd demands folders, and with these modules looks at none.
    folder = :code.root_dir()

    [
      bind_address: ip,
      port: port,
      ipfamily: family(ip),
      server_name: ~c"dspex_telemetry",
      server_tokens: :none,
      server_root: folder,
      document_root: folder,
      modules: [__MODULE__],
      customize: __MODULE__,
      dspex_telemetry: {config, limits},
      # Every connection serves one request, so its time is bounded, and what httpd makes of the bytes
      # behind a request does not matter. httpd then has no option for how long headers may take.
      keep_alive: false,
      max_clients: limits.clients,
      max_header_size: limits.header_bytes,
      max_uri_size: limits.uri_bytes
    ]
  end

  @doc "The family of an address, as an option of sockets."
  @spec family(:inet.ip_address()) :: :inet | :inet6
  def family(ip) when tuple_size(ip) == 4, do: :inet
  def family(_ip), do: :inet6

  @doc """
  Tells the process of a connection that its request should have arrived by now, as httpd's own timer
  would: it answers 408, or ends if nothing came. One that has its request goes on.
  """
  @spec arrival_is_over(pid()) :: :ok
  def arrival_is_over(connection) do
    send(connection, :timeout)
    :ok
  end

  @doc "Answers a request, for httpd."
  def unquote(:do)(mod(method: method, socket: socket) = mod) do
    {config, limits} = :httpd_util.lookup(mod(mod, :config_db), :dspex_telemetry)
    config = Map.update!(config, :render, fn render -> &render.(&1, connection(socket)) end)
    {status, headers, body} = mod |> request() |> Endpoint.respond(config)

    body = IO.iodata_to_binary(body)
    head = [code: status, content_length: Integer.to_charlist(byte_size(body))]
    headers = for {name, value} <- headers, do: {to_charlist(name), to_charlist(value)}
    body = if method == ~c"HEAD", do: [], else: {&send_body/3, [socket, body, limits.sent_ms]}
    {:break, [response: {:response, head ++ headers, body}]}
  end

  # A node may be set to sockets that are no ports. The process of a connection outlives its socket.
  defp connection(socket) when is_port(socket), do: socket
  defp connection(_socket), do: self()

  # The driver of a socket takes any amount at once, and closing waits for it as long as the client takes
  # a little now and then. So the body goes in pieces, each of which waits until most of those before it
  # are gone.
  @piece 65_536

  defp send_body(socket, body, within_ms) do
    case send_pieces(socket, body, Clock.now_ms() + within_ms) do
      :ok -> :sent
      {:error, _reason} -> :close
    end
  end

  # The last, empty one waits for those before it.
  defp send_pieces(socket, <<>>, end_ms), do: send_piece(socket, <<>>, end_ms)

  defp send_pieces(socket, body, end_ms) do
    size = min(@piece, byte_size(body))
    <<piece::binary-size(size), rest::binary>> = body
    with :ok <- send_piece(socket, piece, end_ms), do: send_pieces(socket, rest, end_ms)
  end

  defp send_piece(socket, piece, end_ms) do
    left_ms = max(end_ms - Clock.now_ms(), 0)

    # Closing at the timeout throws away what is left.
    with :ok <- :inet.setopts(socket, send_timeout: left_ms, send_timeout_close: true),
         do: :gen_tcp.send(socket, piece)
  end

  defp request(mod(method: method, request_uri: uri, parsed_header: headers)) do
    {path, query} = uri |> List.to_string() |> split()

    %{
      method: List.to_string(method),
      path: path,
      query: query,
      headers: Enum.map(headers, &header/1)
    }
  end

  defp split(uri) do
    case String.split(uri, "?", parts: 2) do
      [path, query] -> {path, query}
      [path] -> {path, ""}
    end
  end

  defp header({name, value}) when is_function(value), do: header({name, value.()})

  defp header({name, value}),
    do: {:erlang.list_to_binary(name), :erlang.list_to_binary(value)}

  # A body is not read. httpd would wait for it without limit, and has ways to fail over one that is
  # malformed. It goes with the connection.
  @impl true
  def request_header({name, _value})
      when name in [~c"content-length", ~c"transfer-encoding", ~c"expect"],
      do: false

  # A function shows its credentials to nobody who looks at httpd's processes.
  def request_header({~c"authorization", value}), do: {true, {~c"authorization", fn -> value end}}
  def request_header(header), do: {true, header}

  # httpd's own answers, such as that headers are too long, are HTML that quotes the request.
  @impl true
  def response_header({~c"content-type", ~c"text/html"}),
    do: {true, {~c"content-type", ~c"text/plain; charset=utf-8"}}

  def response_header(header), do: {true, header}

  @impl true
  def response_default_headers,
    do: [{~c"cache-control", ~c"no-store"}, {~c"x-content-type-options", ~c"nosniff"}]
end
