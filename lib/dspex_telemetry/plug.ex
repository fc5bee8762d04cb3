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

    A request is rendered in the process of the request, without the bounds of option `:http` on how
    many are at once.

    The module is there only where Plug is. This repository is tested where it is not, with a stand-in
    for `Plug.Conn` that has the few functions used here: `get_req_header/2`, `merge_resp_headers/2`,
    `send_resp/3` and `halt/1`.
    """

    @behaviour Plug

    alias DSPexTelemetry.{Auth, Endpoint, Options}
    alias DSPexTelemetry.Endpoint.Rendering

    @read ["accept", "accept-encoding", "authorization"]

    @doc "Checks the options. Raises `ArgumentError` for one that is not allowed."
    @impl true
    def init(options) do
      instance = Keyword.get(options, :instance, DSPexTelemetry)
      auth = options[:auth]

      for {key, _value} <- options, key not in [:instance, :auth] do
        raise ArgumentError, "unknown option #{inspect(key)}, allowed are :instance, :auth"
      end

      unless match?({:ok, _name}, Options.Type.cast(:name, instance)) do
        raise ArgumentError,
              "option :instance must be the name of an instance, got: #{inspect(instance)}"
      end

      # A function is not called here: this may be compile time.
      unless auth != nil and (is_function(auth, 0) or Auth.valid?(auth)) do
        raise ArgumentError, "option :auth must be #{Auth.allowed()}"
      end

      %{instance: instance, auth: auth}
    end

    @doc "Answers the request, and halts."
    @impl true
    def call(conn, %{instance: instance, auth: auth}) do
      request = %{
        method: conn.method,
        path: "/" <> Enum.join(conn.path_info, "/"),
        query: conn.query_string,
        headers:
          for(name <- @read, value <- Plug.Conn.get_req_header(conn, name), do: {name, value})
      }

      {status, headers, body} =
        Endpoint.respond(request, %{
          instance: instance,
          auth: auth,
          render: &Rendering.render(instance, &1)
        })

      # To HEAD too with the body: the server counts its bytes, and leaves it out.
      conn
      |> Plug.Conn.merge_resp_headers(headers)
      |> Plug.Conn.send_resp(status, body)
      |> Plug.Conn.halt()
    end
  end
end
