if Code.ensure_loaded?(Plug.Conn) do
  defmodule DSPexTelemetry.Plug do
    @moduledoc """
    What `DSPexTelemetry.Endpoint` answers, as a plug, for applications that have an HTTP server.

    It answers every path below the one to which it is forwarded, with 404 where there is nothing, and
    halts:

        forward "/telemetry", DSPexTelemetry.Plug, instance: MyApp.Telemetry, auth: &MyApp.metrics_auth/0

        # in MyApp
        def metrics_auth, do: {:bearer, System.fetch_env!("METRICS_TOKEN")}

    Options:

      * `:auth` - who may ask: `{:bearer, token}`, `{:basic, user, password}`, or a function without
        arguments that returns one of them and is called for each request, so that the secret is not
        compiled into the application. `:none` lets everybody in, for pipelines that have seen to it
        already. Required.
      * `:instance` - the name of the instance, `DSPexTelemetry` by default
      * `:page_methods` - as in option `:http`: how many methods have a row on the live page

    The live page is the path itself, here `/telemetry/`; without the slash it is redirected there.

    A request is rendered in the process of the request, without the bounds of option `:http` on how
    many are at once.

    The module is there only where Plug is. This repository is tested where it is not, with a stand-in
    for `Plug.Conn` that has the few functions used here: `get_req_header/2`, `merge_resp_headers/2`,
    `send_resp/3` and `halt/1`.
    """

    @behaviour Plug

    alias DSPexTelemetry.{Auth, Endpoint, Options}
    alias DSPexTelemetry.Endpoint.Rendering

    @read ["accept", "accept-encoding", "authorization", "if-none-match"]
    @allowed [:instance, :auth, :page_methods]

    @doc "Checks the options. Raises `ArgumentError` for one that is not allowed."
    @impl true
    def init(options) do
      instance = Keyword.get(options, :instance, DSPexTelemetry)
      auth = options[:auth]

      for {key, _value} <- options, key not in @allowed do
        allowed = Enum.map_join(@allowed, ", ", &inspect/1)
        raise ArgumentError, "unknown option #{inspect(key)}, allowed are #{allowed}"
      end

      unless match?({:ok, _name}, Options.Type.cast(:name, instance)) do
        raise ArgumentError,
              "option :instance must be the name of an instance, got: #{inspect(instance)}"
      end

      # A function is not called here: this may be compile time.
      unless auth != nil and (is_function(auth, 0) or Auth.valid?(auth)) do
        raise ArgumentError, "option :auth must be #{Auth.allowed()}"
      end

      # The range and the default are those of option `:http`.
      %{type: type, default: default} = Options.http_key(:page_methods)
      page_methods = Keyword.get(options, :page_methods, default)

      unless match?({:ok, _number}, Options.Type.cast(type, page_methods)) do
        raise ArgumentError,
              "option :page_methods must be #{Options.Type.allowed(type)}, got: #{inspect(page_methods)}"
      end

      %{instance: instance, auth: auth, page_methods: page_methods}
    end

    @doc "Answers the request, and halts."
    @impl true
    def call(conn, %{instance: instance} = options) do
      request = %{
        method: conn.method,
        path: "/" <> Enum.join(conn.path_info, "/"),
        query: conn.query_string,
        headers:
          for(name <- @read, value <- Plug.Conn.get_req_header(conn, name), do: {name, value})
      }

      config = Map.put(options, :render, &Rendering.render(instance, &1))
      {status, headers, body} = request |> Endpoint.respond(config) |> with_slash(conn)

      # To HEAD too with the body: the server counts its bytes, and leaves it out.
      conn
      |> Plug.Conn.merge_resp_headers(headers)
      |> Plug.Conn.send_resp(status, body)
      |> Plug.Conn.halt()
    end

    # The page's addresses are relative to it. Without a slash at its end they would lead beside the
    # path that is forwarded.
    defp with_slash(
           {200, _headers, _page} = response,
           %{path_info: [], script_name: [_ | _]} = conn
         ) do
      if String.ends_with?(conn.request_path, "/") do
        response
      else
        location = "./#{List.last(conn.script_name)}/"
        {308, [{"location", location}, {"cache-control", "no-store"}], ""}
      end
    end

    defp with_slash(response, _conn), do: response
  end
end
