defmodule DSPexTelemetry.Exposition do
  @moduledoc """
  The formats in which `DSPexTelemetry.scrape/1` renders metrics.

    * `:text` - Prometheus' text format 0.0.4
    * `:openmetrics` - OpenMetrics 1.0.0, with exemplars
    * `:protobuf` - Prometheus' protobuf format, with exemplars and with a native histogram beside the
      explicit buckets of each histogram, which are made from the same HDR counts as reports

  Names, units and labels are those of `docs/reference.md`. A counter is there for all values of its
  enumerated labels once there is one event with the others, so that a rate sees the first error; a
  histogram is there once it has a sample. Counters and buckets never go down, except at a restart, a
  reset, or when an idle series is removed. The events over the series limit have the label
  `otel_metric_overflow="true"` in the place of their own. What the instance tells of itself begins with
  `dspex_telemetry_`.
  """

  alias DSPexTelemetry.{Instance, Native, OTLP, Push}
  alias DSPexTelemetry.Catalogue.SelfMetrics
  alias DSPexTelemetry.Instance.{Definition, Lookup}

  @content_types %{
    text: "text/plain; version=0.0.4; charset=utf-8",
    openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
    protobuf:
      "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
  }

  @type format :: :text | :openmetrics | :protobuf

  @version Mix.Project.config()[:version]

  @doc """
  What an HTTP answer says of a format.

      iex> DSPexTelemetry.Exposition.content_type(:text)
      "text/plain; version=0.0.4; charset=utf-8"
  """
  @spec content_type(format()) :: String.t()
  def content_type(format), do: Map.fetch!(@content_types, format)

  @doc false
  @spec format!(term()) :: format()
  def format!(format) when is_map_key(@content_types, format), do: format

  def format!(other) do
    raise ArgumentError,
          "option :format must be :text, :openmetrics or :protobuf, got: #{inspect(other)}"
  end

  @doc false
  @spec render(Lookup.handle(), format(), boolean()) :: binary()
  def render(handle, format, created?) do
    Native.scrape(handle.native, %{
      format: format,
      created: created?,
      scalars: scalars(handle)
    })
  end

  @doc false
  # What Rust does not know.
  @spec scalars(Lookup.handle()) :: [map()]
  def scalars(handle) do
    samples = samples(handle)

    for metric <- SelfMetrics.of_vm(),
        do: metric |> Definition.scalar() |> Map.put(:samples, Map.fetch!(samples, metric.of))
  end

  # Without samples a metric is not exposed.
  defp samples(handle) do
    otlp = OTLP.status(handle)

    %{
      attached: [sample(if(Instance.attached?(handle.options.name), do: 1, else: 0))],
      start_time: [sample(handle.started_at_unix_ms / 1_000)],
      panics: [sample(Native.panics())],
      build: [sample(1, version: @version)],
      pushes: results(Push.status(handle)),
      exports: results(otlp),
      lost_points: if(otlp, do: [sample(otlp.lost)], else: [])
    }
  end

  defp results(nil), do: []

  defp results(status) do
    for result <- [:success, :failure],
        do: sample(Map.fetch!(status, result), result: Atom.to_string(result))
  end

  defp sample(value, labels \\ []),
    do: %{labels: for({name, label} <- labels, do: [name, label]), value: value}
end
