defmodule DSPexTelemetry.Plug do
  @moduledoc """
  What `DSPexTelemetry.Endpoint` answers, as a plug, for applications that have an HTTP server.

  It answers every path below the one to which it is forwarded, with 404 where there is nothing, and
  halts. In a router of Phoenix:

      forward "/telemetry", DSPexTelemetry.Plug, auth: &MyApp.Secrets.metrics_auth/0

  In a `Plug.Router`:

      forward "/telemetry", to: DSPexTelemetry.Plug, init_opts: [auth: &MyApp.Secrets.metrics_auth/0]

  In both cases the function returns the secret:

      defmodule MyApp.Secrets do
        def metrics_auth, do: {:bearer, System.fetch_env!("METRICS_TOKEN")}
      end

  Options:

    * `:auth` - who may ask: `{:bearer, token}`, `{:basic, user, password}`, or a function without
      arguments that returns one of them. It is called for each request, so no secret is compiled
      into the application. Routers compile their options, which an anonymous function (`fn -> … end`)
      cannot be: write `&Module.function/0`. `:none` lets everybody in, for pipelines that have seen to
      it already. Required.
    * `:hosts` - as in option `:http`: with `auth: :none`, the names under which requests are answered
      beside `localhost` and IP addresses, or `:any` behind a pipeline that demands a login
    * `:instance` - the name of the instance, `DSPexTelemetry` by default
    * `:page_methods` - as in option `:http`: how many methods have a row on the live page

  The live page is the path itself, here `/telemetry/`; without the slash it is redirected there. It
  works behind Phoenix's pipeline `:browser`, and so does the rest.

  A router of Phoenix forwards to a module once. For a second instance it takes a module of your own:

      defmodule MyAppWeb.OtherTelemetry do
        @behaviour Plug

        @impl true
        defdelegate init(options), to: DSPexTelemetry.Plug

        @impl true
        defdelegate call(conn, options), to: DSPexTelemetry.Plug
      end

  A request is rendered in the process of the request, without the bounds of option `:http` on how
  many are at once.

  The module is compiled without Plug, so Plug may come to an application later: nothing has to be
  compiled again for it.

  This repository is tested where Plug is not installed, with a stand-in for `Plug.Conn` that has the few
  functions used here: `get_req_header/2`, `merge_resp_headers/2`, `put_private/3`, `send_resp/3` and
  `halt/1`.
  """

  # No `@behaviour Plug`, which would have to be there when this is compiled: whether it is would depend on
  # what an application has among its dependencies at that time.
  @compile {:no_warn_undefined, Plug.Conn}

  alias DSPexTelemetry.{Auth, Endpoint, Options}
  alias DSPexTelemetry.Endpoint.{Page, Rendering}

  @read ["accept", "accept-encoding", "authorization", "host", "if-none-match"]
  @allowed [:instance, :auth, :hosts, :page_methods]

  @doc "Checks the options. Raises `ArgumentError` for one that is not allowed."
  @spec init(keyword()) :: map()
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

    # What they allow and their defaults are those of option `:http`.
    as_http = for key <- [:hosts, :page_methods], into: %{}, do: {key, as_http!(key, options)}
    Map.merge(as_http, %{instance: instance, auth: auth})
  end

  defp as_http!(key, options) do
    %{type: type, default: default} = Options.http_key(key)
    value = Keyword.get(options, key, default)

    case Options.Type.cast(type, value) do
      {:ok, value} ->
        value

      {:error, allowed} ->
        raise ArgumentError, "option #{inspect(key)} must be #{allowed}, got: #{inspect(value)}"
    end
  end

  @doc "Answers the request, which is a `Plug.Conn`, and halts."
  @spec call(conn, map()) :: conn when conn: map()
  def call(conn, %{instance: instance} = options) do
    request = %{
      method: conn.method,
      path: "/" <> Enum.join(conn.path_info, "/"),
      query: conn.query_string,
      # HTTP/2 has the name beside the headers, and so may a proxy.
      headers: [
        {"host", conn.host}
        | for(name <- @read, value <- Plug.Conn.get_req_header(conn, name), do: {name, value})
      ]
    }

    config = Map.put(options, :render, &Rendering.render(instance, &1))
    {status, headers, body} = request |> Endpoint.respond(config) |> with_slash(conn)

    # To HEAD too with the body: the server counts its bytes, and leaves it out.
    conn
    |> public(request.path)
    |> Plug.Conn.merge_resp_headers(headers)
    |> Plug.Conn.send_resp(status, body)
    |> Plug.Conn.halt()
  end

  # Plug.CSRFProtection, which is in Phoenix's pipeline `:browser`, lets no script out that another site
  # could include. Those of the page hold no data.
  defp public(conn, path) do
    if Page.path?(path),
      do: Plug.Conn.put_private(conn, :plug_skip_csrf_protection, true),
      else: conn
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
      query = if conn.query_string == "", do: "", else: "?" <> conn.query_string
      location = "./#{List.last(conn.script_name)}/" <> query
      {308, [{"location", location}, {"cache-control", "no-store"}], ""}
    end
  end

  defp with_slash(response, _conn), do: response
end
