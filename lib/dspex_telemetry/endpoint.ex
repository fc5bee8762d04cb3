defmodule DSPexTelemetry.Endpoint do
  @moduledoc """
  What is answered over HTTP. Option `:http` of an instance serves it (`DSPexTelemetry.Options`), and
  so does `DSPexTelemetry.Plug`.

    * `/` - the live page, which shows the numbers of a window and the last hour, and updates every few
      seconds. All that it needs is below `/page/`, nothing comes from elsewhere, and its
      `Content-Security-Policy` lets nothing else run or load.
    * `/metrics` - `DSPexTelemetry.scrape/1`, in the format that the client's `Accept` likes best: the
      text format of Prometheus (the default), OpenMetrics, or protobuf. A client that likes none
      of them gets the text format, as Prometheus' own libraries do it, not 406. Parameters in the
      URL are ignored.
    * `/report.json` - `DSPexTelemetry.report/1` as JSON, since the start or, with `?window=`, over
      `last_minute`, `last_hour`, `previous_minute`, `previous_hour` or a time such as `30s`, `5m` or
      `1h`. Another parameter or value is answered with 400. Each method has its `reasons` of failures, its
      time inside Python as `python_us`, and `overhead_us`; `slowest` has the slowest calls one by one.
    * `/report.json?view=page`, with or without a window after it as in `?view=page&window=5m`, is what the live
      page reads: the same numbers with their trend over the last hour in at most 60 points each, errors with
      `errors.last_failures`, and usage, router and cache. It is bounded in size. The methods that were called most
      (option `:page_methods`) have a row of their own, with their three most frequent reasons; the others are summed in
      `methods.rest`. `errors.last_failures` and `slowest` have at most 20 calls, other lists at most 50 rows; `total`
      says how many there are. Both reports have the messages of errors, unless option `:failure_messages` is false.
    * `/health` - 200 and `{"status":"ok"}` while the handlers are attached, else 503 and
      `{"status":"detached"}`, or `{"status":"not_running"}` while the instance starts again

  All take `GET` and `HEAD`; other methods get 405, other paths 404. All but health are
  compressed for a client that accepts gzip.

  With an `:auth` that demands something, every path does, `/health` too: a request without the
  right credentials gets 401 whatever it asks for, and learns nothing from it. Browsers ask for a user
  and a password; where the rule is a bearer token, any user with the token as the password is let in.

  Where `:auth` asks for nothing, requests are answered that are for `localhost`, an IP address, or a name
  of `:hosts`; the others get 421. Without that a web site could read everything through a browser on this
  machine, by a name of its own that leads here (DNS rebinding).

  What fails inside is logged and answered with 500, and with 503 what cannot be answered at the moment.
  """

  require Logger

  alias DSPexTelemetry.{Auth, Instance, Window}
  alias DSPexTelemetry.Endpoint.{Host, Negotiation, Page}
  alias DSPexTelemetry.Instance.Lookup

  @typedoc "A request, wherever it comes from. Names of headers are in lower case."
  @type request :: %{
          method: String.t(),
          path: String.t(),
          query: String.t(),
          headers: [{String.t(), binary()}]
        }

  @typedoc "How requests are answered: of which instance, to whom, and who does the work."
  @type config :: %{
          instance: atom(),
          auth: Auth.t(),
          hosts: [String.t()] | :any,
          page_methods: pos_integer(),
          render: (term() -> {:ok, binary()} | {:error, :failed | :busy | :not_running})
        }

  @typedoc """
  An answer, to `HEAD` too with its whole body and to none with a `content-length`: whoever sends it
  sees to both.
  """
  @type response :: {status :: 200..599, headers :: [{String.t(), String.t()}], body :: iodata()}

  @doc """
  The answer to a request.

      iex> request = %{method: "GET", path: "/health", query: "", headers: []}
      iex> config = %{instance: DSPexTelemetry, auth: {:bearer, "s3cret"}, hosts: [], page_methods: 50, render: & &1}
      iex> {401, _headers, _body} = DSPexTelemetry.Endpoint.respond(request, config)
      iex> request = %{request | headers: [{"authorization", "Bearer s3cret"}]}
      iex> {200, _headers, body} = DSPexTelemetry.Endpoint.respond(request, config)
      iex> body |> IO.iodata_to_binary() |> String.trim()
      ~s({"status":"ok"})
  """
  @spec respond(request(), config()) :: response()
  def respond(request, config) do
    case rule(config.auth) do
      {:ok, rule} ->
        cond do
          not Auth.authorised?(rule, values(request, "authorization")) ->
            unauthorised(request, rule)

          Auth.open?(rule) and not Host.answered?(values(request, "host"), config.hosts) ->
            misdirected()

          true ->
            route(request, config)
        end

      :error ->
        text(500, "internal error")
    end
  end

  # It calls a function of the user's, whose exception may tell the secret: only its name is logged.
  defp rule(auth) do
    {:ok, Auth.rule!(auth)}
  rescue
    exception ->
      Logger.error(
        "Option :auth could not be asked for: it raised #{inspect(exception.__struct__)}"
      )

      :error
  catch
    kind, _value ->
      Logger.error("Option :auth could not be asked for: #{kind}")
      :error
  end

  defp unauthorised(request, rule) do
    asker = if Page.path?(request.path), do: :browser, else: :client
    text(401, "unauthorized", [{"www-authenticate", Auth.challenge(rule, asker)}])
  end

  defp misdirected do
    text(
      421,
      "without auth only localhost and IP addresses are answered; allow the name of this server by key :hosts"
    )
  end

  defp route(%{path: path} = request, config) do
    cond do
      path not in ["/metrics", "/health", "/report.json"] and not Page.path?(path) ->
        text(404, "not found")

      request.method in ["GET", "HEAD"] ->
        answer(path, request, config)

      true ->
        text(405, "only GET and HEAD", [{"allow", "GET, HEAD"}])
    end
  end

  defp answer("/health", _request, config) do
    case health(config.instance) do
      :ok -> json(200, ~s({"status":"ok"}\n))
      fault -> json(503, ~s({"status":"#{fault}"}\n))
    end
  end

  defp answer("/metrics", request, config) do
    {format, content_type} = request |> values("accept") |> Negotiation.format()
    rendered({:scrape, format}, content_type, request, config)
  end

  defp answer("/report.json", request, config) do
    case report(request.query, config) do
      {:ok, report} ->
        rendered(report, "application/json", request, config)

      :error ->
        text(
          400,
          "the only parameters are view=page, first, and window: since_start, last_minute, last_hour, " <>
            "previous_minute, previous_hour, or a number of at most nine digits with s, m or h, as in " <>
            "window=5m"
        )
    end
  end

  defp answer(path, request, _config) do
    encoding = request |> values("accept-encoding") |> Negotiation.encoding()
    Page.answer(path, encoding, values(request, "if-none-match"))
  end

  defp rendered(subject, content_type, request, config) do
    encoding = request |> values("accept-encoding") |> Negotiation.encoding()

    case config.render.({subject, encoding}) do
      {:ok, body} ->
        headers = if encoding == :gzip, do: [{"content-encoding", "gzip"}], else: []
        {200, headers([{"vary", "accept, accept-encoding"} | headers], content_type), body}

      {:error, :failed} ->
        text(500, "internal error")

      {:error, unavailable} when unavailable in [:busy, :not_running] ->
        text(503, "unavailable, try again", [{"retry-after", "1"}])
    end
  end

  defp report("view=page", config), do: {:ok, {:page, :since_start, config.page_methods}}

  defp report("view=page&window=" <> text, config) do
    with {:ok, window} <- Window.parse(text), do: {:ok, {:page, window, config.page_methods}}
  end

  defp report(query, _config) do
    with {:ok, window} <- window(query), do: {:ok, {:report, window}}
  end

  defp window(""), do: {:ok, :since_start}
  defp window("window=" <> text), do: Window.parse(text)
  defp window(_other), do: :error

  defp health(instance) do
    cond do
      not Lookup.running?(instance) -> :not_running
      Instance.attached?(instance) -> :ok
      true -> :detached
    end
  rescue
    # It has ended since.
    ArgumentError -> :not_running
  end

  defp values(request, name), do: for({^name, value} <- request.headers, do: value)

  defp text(status, sentence, headers \\ []),
    do: {status, headers(headers, "text/plain; charset=utf-8"), sentence <> "\n"}

  defp json(status, body), do: {status, headers([], "application/json"), body}

  defp headers(headers, content_type) do
    [
      {"content-type", content_type},
      {"cache-control", "no-store"},
      {"x-content-type-options", "nosniff"}
      | headers
    ]
  end
end
