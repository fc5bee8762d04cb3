defmodule DSPexTelemetry.Info do
  @moduledoc """
  The state of an instance.

    * `:instance` - its name
    * `:attached` - whether handlers are attached
    * `:uptime_ms` - since it started
    * `:series` - for each event or span: `:event` (its name, joined by dots), `:series` (how many
      there are, without the overflow series), `:limit`, `:overflow` (events that went to the
      overflow series) and `:memory_bytes`
    * `:rejected` - for each event and reason with rejections: `:event`, `:reason`, `:count`. The
      reasons are explained in `docs/reference.md`.
    * `:metrics_rejected` - for each metric of option `:metrics` and reason why events did not count in it:
      `:metric`, `:reason`, `:count`; see `DSPexTelemetry.Reporter`
    * `:metrics_left_out` - for each definition of option `:metrics` whose name another metric has: `:metric`, `:kind`,
      `:event` and `:taken_by`, the name of the metric that has it, or `:library`
    * `:refs` - references whose class is known
    * `:workers`, `:workers_overflow` - living workers, and those that found no room in the set
    * `:windows` - the slices of time that reports over a window are made of: `:slice_ms`, `:slices`
      (how many), `:covered_ms` (how far they reach back), `:memory_bytes`, `:memory_limit`, and how
      many were `:merged` or `:dropped` because of that limit
    * `:signals_dropped` - alerts for which there was no room; see `DSPexTelemetry.Alert`
    * `:spikes_untracked` - errors of methods for which there was no room when spikes were looked for
    * `:panics` - recordings of the whole VM that ended in a panic in Rust: a bug, so always 0
    * `:http` - with option `:http`: whether it is `:listening`, on which `:ip` and `:port`, and while it is not,
      the `:reason`, such as that the port is taken. `nil` without.
    * `:push` - with option `:push`: how many pushes were a `:success` or a `:failure`, `:last_success_unix_ms`
      and, while they fail, `:outage_since_unix_ms`; see `DSPexTelemetry.Push`. `nil` without.
    * `:otlp` - with option `:otlp`, the same of exports, and how many data points are `:lost`; see
      `DSPexTelemetry.OTLP`
    * `:memory_bytes` - of the instance: what its series and slices have allocated, added up, and what references
      and worker ids take by their number and length. The caches of schedulers are not in it.
  """

  alias DSPexTelemetry.{Endpoint, Native, OTLP, Push, Reporter}
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  defstruct [
    :instance,
    :attached,
    :uptime_ms,
    :series,
    :rejected,
    :metrics_rejected,
    :metrics_left_out,
    :refs,
    :workers,
    :workers_overflow,
    :windows,
    :signals_dropped,
    :spikes_untracked,
    :panics,
    :http,
    :push,
    :otlp,
    :memory_bytes
  ]

  @type t :: %__MODULE__{
          instance: atom(),
          attached: boolean(),
          uptime_ms: non_neg_integer(),
          series: [
            %{
              event: String.t(),
              series: non_neg_integer(),
              limit: pos_integer(),
              overflow: non_neg_integer(),
              memory_bytes: non_neg_integer()
            }
          ],
          rejected: [%{event: String.t(), reason: String.t(), count: pos_integer()}],
          metrics_rejected: [%{metric: String.t(), reason: String.t(), count: pos_integer()}],
          metrics_left_out: [Reporter.left_out()],
          refs: non_neg_integer(),
          workers: non_neg_integer(),
          workers_overflow: non_neg_integer(),
          windows: %{
            slice_ms: pos_integer(),
            slices: non_neg_integer(),
            covered_ms: non_neg_integer(),
            memory_bytes: non_neg_integer(),
            memory_limit: pos_integer(),
            merged: non_neg_integer(),
            dropped: non_neg_integer()
          },
          signals_dropped: non_neg_integer(),
          spikes_untracked: non_neg_integer(),
          panics: non_neg_integer(),
          http: http() | nil,
          push: Push.status() | nil,
          otlp: OTLP.status() | nil,
          memory_bytes: non_neg_integer()
        }

  @typedoc "Where it is served, or is to be. `:port` is 0 for a free one that is not known yet."
  @type http :: %{
          listening: boolean(),
          ip: :inet.ip_address(),
          port: :inet.port_number(),
          reason: String.t() | nil
        }

  @doc false
  @spec new(atom(), Lookup.handle(), boolean()) :: t()
  def new(name, handle, attached?) do
    info = Native.info(handle.native)

    struct!(__MODULE__,
      instance: name,
      attached: attached?,
      uptime_ms: Clock.now_ms() - handle.started_at_ms,
      series: info.series,
      rejected: info.rejected,
      metrics_rejected: info.metrics_rejected,
      metrics_left_out: handle.metrics_left_out,
      refs: info.refs,
      workers: info.workers,
      workers_overflow: info.workers_overflow,
      windows: info.windows,
      signals_dropped: info.signals_dropped,
      spikes_untracked: info.spikes_untracked,
      panics: Native.panics(),
      http: http(name, handle.options.http),
      push: Push.status(handle),
      otlp: OTLP.status(handle),
      memory_bytes: info.memory_bytes
    )
  end

  defp http(_name, nil), do: nil

  defp http(name, %{ip: ip, port: port}) do
    case Endpoint.Server.address(name) do
      {:ok, {ip, port}} -> %{listening: true, ip: ip, port: port, reason: nil}
      {:error, reason} -> %{listening: false, ip: ip, port: port, reason: reason}
    end
  end
end
