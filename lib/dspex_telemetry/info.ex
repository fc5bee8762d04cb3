defmodule DSPexTelemetry.Info do
  @moduledoc """
  The state of an instance.

    * `:instance` - its name
    * `:attached` - whether handlers are attached
    * `:uptime_ms` - since it started
    * `:series` - for each event or span: `:event`, `:series`, `:limit`, `:overflow` (events that
      went to the overflow series) and `:memory_bytes`
    * `:rejected` - for each event and reason with rejections: `:event`, `:reason`, `:count`
    * `:refs` - references whose class is known
    * `:workers`, `:workers_overflow` - living workers, and those that found no room in the set
    * `:memory_bytes` - allocated by series and maps: the sum over what is allocated, not an estimate
      from the number of series
  """

  alias DSPexTelemetry.{Instance, Native}

  defstruct [
    :instance,
    :attached,
    :uptime_ms,
    :series,
    :rejected,
    :refs,
    :workers,
    :workers_overflow,
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
          refs: non_neg_integer(),
          workers: non_neg_integer(),
          workers_overflow: non_neg_integer(),
          memory_bytes: non_neg_integer()
        }

  @doc false
  @spec new(atom(), Instance.handle(), boolean()) :: t()
  def new(name, handle, attached?) do
    info = Native.info(handle.native)

    struct!(__MODULE__,
      instance: name,
      attached: attached?,
      uptime_ms: Instance.now_ms() - handle.started_at_ms,
      series: info.series,
      rejected: info.rejected,
      refs: info.refs,
      workers: info.workers,
      workers_overflow: info.workers_overflow,
      memory_bytes: info.memory_bytes
    )
  end
end
