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
  @spec render(Instance.handle(), format(), boolean()) :: binary()
  def render(handle, format, created?) do
    Native.scrape(handle.native, %{
      format: format,
      created: created?,
      scalars: scalars(handle)
    })
  end

  @doc false
  # What Rust does not know.
  @spec scalars(Instance.handle()) :: [map()]
  def scalars(handle) do
    otlp = OTLP.status(handle)

    attached? = Instance.attached?(handle.options.name)

    [
      scalar(
        :gauge,
        :dspex_telemetry_attached,
        "1 while the handlers are attached, 0 while they are not.",
        [sample(if(attached?, do: 1, else: 0))]
      ),
      scalar(
        :gauge,
        :dspex_telemetry_start_time_seconds,
        "When the instance started, in seconds since 1970.",
        [sample(handle.started_at_unix_ms / 1_000)]
      ),
      scalar(
        :counter,
        :dspex_telemetry_panics_total,
        "Recordings of the whole VM that ended in a panic: a bug.",
        [sample(Native.panics())]
      ),
      scalar(
        :gauge,
        :dspex_telemetry_build_info,
        "Always 1, with the version.",
        [sample(1, version: @version)]
      ),
      # Without samples it is not exposed.
      scalar(
        :counter,
        :dspex_telemetry_push_total,
        "Pushes by their result, retries included.",
        results(Push.status(handle))
      ),
      scalar(
        :counter,
        :dspex_telemetry_otlp_total,
        "Exports over OTLP by their result, retries included.",
        results(otlp)
      ),
      scalar(
        :counter,
        :dspex_telemetry_otlp_lost_points_total,
        "Data points that the receiver of OTLP has refused for good.",
        if(otlp, do: [sample(otlp.lost)], else: [])
      )
    ]
  end

  defp results(nil), do: []

  defp results(status) do
    for result <- [:success, :failure],
        do: sample(Map.fetch!(status, result), result: Atom.to_string(result))
  end

  defp scalar(kind, name, help, samples),
    do: %{kind: kind, name: name, help: help, samples: samples}

  defp sample(value, labels \\ []),
    do: %{labels: for({name, label} <- labels, do: [name, label]), value: value}
end
