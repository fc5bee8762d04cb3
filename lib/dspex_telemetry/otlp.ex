defmodule DSPexTelemetry.OTLP do
  @moduledoc """
  Exports an instance's metrics over OTLP/HTTP, OpenTelemetry's protocol, in protobuf: to its Collector, to
  Prometheus, VictoriaMetrics, or any service that takes it.

      {DSPexTelemetry,
       name: MyApp.Telemetry,
       otlp: [
         url: "http://collector:4318/v1/metrics",
         resource: %{"service.name" => "my_app", "service.version" => "1.4.0"}
       ]}

  The options are those of `:otlp` in `DSPexTelemetry.Options`. What is exported has the names of
  `DSPexTelemetry.scrape/1`: counters as monotonic sums, gauges, and histograms as exponential ones that are
  made from the same counts as reports, with the smallest and largest sample, and with exemplars that have
  trace and span. `docs/otlp.md` says more of them, of receivers, and of what a failure means.

    * **A request that fails** is retried if the server answers 429, 502, 503 or 504, or if none answers, after
      a random time that grows with each failure; a server's `Retry-After` comes on top. Any other answer
      of failure is final: the request is dropped and its data points are counted as lost. So are those that a
      server says it has not taken of a request that it took; that is logged too.
    * **Deltas** are told once: a request that is retried is the same, byte for byte, so that a server
      that had it already can see that. What comes in meanwhile is in the next. Nothing but that one
      request is kept, whatever the length of an outage. Cumulative numbers need no such care, and are
      rendered anew for each try.
    * **Intervals, outages, TLS, secrets and the last export** when the instance stops are as of
      `DSPexTelemetry.Push`; `:stop_timeout` says how long the last one may take.

  With `url: :env`, what is not given comes from OpenTelemetry's environment variables, when the instance
  starts: `OTEL_EXPORTER_OTLP_ENDPOINT` (to which `/v1/metrics` is added; `http://localhost:4318` if there is
  none), `_HEADERS`, `_TIMEOUT`, `_COMPRESSION` and `_CERTIFICATE`, all of which
  also exist as `OTEL_EXPORTER_OTLP_METRICS_…` and come first then;
  `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`,
  `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`, `OTEL_METRIC_EXPORT_INTERVAL`,
  `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`. An endpoint that is no address, or a protocol other than
  `http/protobuf`, raises `ArgumentError`; any other value that is not understood is logged and ignored.
  """

  @behaviour DSPexTelemetry.Export.Delivery

  alias DSPexTelemetry.{Exposition, Native, Options}
  alias DSPexTelemetry.Export.Delivery
  alias DSPexTelemetry.Export.Delivery.Outcome
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @typedoc """
  Times are milliseconds since 1970; `nil` if there was no success, or if there is no outage. `lost` are data
  points that the server has refused for good.
  """
  @type status :: %{
          success: non_neg_integer(),
          failure: non_neg_integer(),
          lost: non_neg_integer(),
          last_success_unix_ms: pos_integer() | nil,
          outage_since_unix_ms: pos_integer() | nil
        }

  @library "dspex_telemetry"
  @version Mix.Project.config()[:version]

  # What OTLP/HTTP calls retryable.
  @retryable [429, 502, 503, 504]
  @longest_retry_after_ms 86_400_000

  @doc """
  How many exports have succeeded and failed since the instance started, retries included, and how many data
  points were lost, as the server has refused them for good; `nil` if it does not export.

      iex> DSPexTelemetry.OTLP.counts(DSPexTelemetry)
      nil

      iex> {:ok, _pid} =
      ...>   DSPexTelemetry.start_link(name: MyApp.Exporting, otlp: [url: "http://localhost:4318/v1/metrics"])
      iex> DSPexTelemetry.OTLP.counts(MyApp.Exporting)
      %{success: 0, failure: 0, lost: 0}

  Raises `ArgumentError` if no instance of that name is running.
  """
  @spec counts(atom()) ::
          %{
            success: non_neg_integer(),
            failure: non_neg_integer(),
            lost: non_neg_integer()
          }
          | nil
  def counts(instance) do
    with %{} = status <- status(Lookup.fetch!(instance)),
         do: Map.take(status, [:success, :failure, :lost])
  end

  @doc false
  @spec status(Lookup.handle()) :: status() | nil
  def status(handle), do: handle |> status_of() |> Delivery.status()

  @typedoc false
  @type state :: %{status: :atomics.atomics_ref(), resource: [[term()]]}

  @doc false
  @spec new_state(Options.t()) :: state() | nil
  def new_state(%{otlp: nil}), do: nil

  def new_state(%{otlp: otlp}),
    do: %{status: Delivery.new_status(otlp), resource: resource(otlp.resource)}

  defp resource(given) do
    defaults = %{
      "service.name" => "unknown_service:beam",
      "service.instance.id" => uuid(),
      "telemetry.sdk.name" => @library,
      "telemetry.sdk.language" => "erlang",
      "telemetry.sdk.version" => @version
    }

    for {name, value} <- Map.merge(defaults, given), do: [name, value]
  end

  # A random one, of version 4.
  defp uuid do
    <<a::32, b::16, _version::4, c::12, _variant::2, d::14, e::48>> =
      :crypto.strong_rand_bytes(16)

    <<a::32, b::16, 4::4, c::12, 2::2, d::14, e::48>>
    |> Base.encode16(case: :lower)
    |> String.replace(~r/\A(.{8})(.{4})(.{4})(.{4})(.{12})\z/, "\\1-\\2-\\3-\\4-\\5")
  end

  @doc false
  @spec child_spec(Options.t()) :: Supervisor.child_spec()
  def child_spec(options), do: Delivery.child_spec({__MODULE__, options})

  @impl Delivery
  def options(options), do: with(%{} = otlp <- options.otlp, do: Map.put(otlp, :method, :post))

  @impl Delivery
  def status_of(handle), do: with(%{status: status} <- handle.otlp, do: status)

  @impl Delivery
  def request(name) do
    handle = Lookup.fetch!(name)
    otlp = handle.options.otlp

    {body, points} =
      Native.otlp_export(
        handle.native,
        %{
          temporality: otlp.temporality,
          histogram: otlp.histogram,
          max_buckets: otlp.max_buckets,
          resource: handle.otlp.resource,
          scope: @library,
          version: @version,
          scalars: Exposition.scalars(handle)
        },
        Clock.now()
      )

    %{body: body, points: points}
  end

  @impl Delivery
  def content_type, do: "application/x-protobuf"

  @impl Delivery
  def headers, do: Options.OTLP.headers()

  @impl Delivery
  def limits(otlp) do
    %{
      request_bytes: otlp.request_limit,
      answer_bytes: otlp.answer_limit,
      retry_after_ms: @longest_retry_after_ms
    }
  end

  @impl Delivery
  def words, do: %{cannot: "cannot be exported to", are: "are exported", noun: "exports"}

  @impl Delivery
  def outcome({{_version, status, _phrase}, headers, body}, _request, secrets, _now)
      when status in 200..299 do
    # A server that says something else than the protocol asks for has taken the request all the same.
    with true <- protobuf?(headers),
         {:ok, {lost, message}} when lost > 0 or message != "" <- Native.otlp_accepted(body) do
      {:ok, %{lost: lost, reason: Outcome.excerpt(message, secrets)}}
    else
      _nothing_to_remark -> :ok
    end
  end

  def outcome({{_version, status, _phrase}, headers, body}, request, secrets, now) do
    retry? = status in @retryable

    {:error,
     %{
       reason: Outcome.refusal(status, message(headers, body), secrets),
       retry: retry?,
       after_ms: if(retry?, do: Outcome.retry_after_ms(headers, now), else: 0),
       lost: if(retry?, do: 0, else: request.points)
     }}
  end

  def outcome({:error, {limit, _bytes}} = result, request, secrets, now)
      when limit in [:request_too_long, :answer_too_long, :headers_too_long] do
    {:error, failure} = Outcome.of(result, secrets, now)
    {:error, Map.merge(failure, %{retry: false, lost: request.points})}
  end

  def outcome(result, _request, secrets, now), do: Outcome.of(result, secrets, now)

  defp message(headers, body) do
    with true <- protobuf?(headers), {:ok, message} <- Native.otlp_refused(body) do
      message
    else
      _other -> body
    end
  end

  defp protobuf?(headers) do
    case List.keyfind(headers, ~c"content-type", 0) do
      {_name, type} -> to_string(type) =~ ~r{\Aapplication/x-protobuf\b}i
      nil -> false
    end
  end

  @impl Delivery
  def resends?(otlp), do: otlp.temporality != :cumulative

  @impl Delivery
  def settle(native), do: Native.otlp_settle(native)
end
