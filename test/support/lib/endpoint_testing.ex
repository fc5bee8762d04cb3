defmodule DSPexTelemetry.EndpointTesting do
  @moduledoc """
  Endpoints of one test: served, with ways to look at their processes, and as functions without a server.
  """

  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance
  import ExUnit.Callbacks, only: [start_supervised!: 1]

  alias DSPexTelemetry.Endpoint
  alias DSPexTelemetry.Endpoint.{Rendering, Server}

  @loopback {127, 0, 0, 1}

  def serve!(http \\ []), do: start!(http: Keyword.merge([port: 0], http))

  def address!(name) do
    {:ok, address} = DSPexTelemetry.http_address(instance: name)
    address
  end

  @doc "An endpoint beside a running instance that has none itself, with parts of its own."
  def serve_with!(arguments) do
    name = start!()
    http = %{port: 0, ip: @loopback, auth: nil, hosts: [], page_methods: 50, required: false}
    arguments = Map.new(arguments)
    {http, arguments} = Map.pop(arguments, :http, http)

    defaults = %{options: %{name: name, http: http}, started: Server.new_started()}
    supervisor = start_supervised!({Endpoint.Supervisor, Map.merge(defaults, arguments)})
    {name, supervisor}
  end

  def address_of(name) do
    with {:ok, {ip, port}} <- Server.address(name), do: %{ip: ip, port: port}
  end

  @doc "Renderings tell the test of themselves and end when it says so."
  def told_and_held do
    test = self()

    fn _what ->
      send(test, {:rendering, self()})

      receive do
        :finish -> {:ok, "rendered"}
      end
    end
  end

  def process(supervisor, id) do
    Enum.find_value(Supervisor.which_children(supervisor), fn {child, pid, _type, _modules} ->
      if child == id or (is_tuple(child) and elem(child, 0) == id), do: pid
    end)
  end

  def server(name), do: name |> child(Endpoint.Supervisor) |> process(Server)

  @doc "The processes of httpd, by the server that has started it."
  def httpd(server) do
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

  def connections(server),
    do: server |> httpd() |> Map.fetch!(:connections) |> Supervisor.which_children()

  def listens_again(name) do
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

  @doc "What `DSPexTelemetry.Endpoint.respond/2` knows of an instance."
  def config(instance, options \\ []) do
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

  @doc "The answer to a request for a path, as status, headers and body."
  def respond(config, path, options \\ []) do
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

  @doc "What would be rendered, as text."
  def echo(what), do: {:ok, inspect(what)}
end
