defmodule DSPexTelemetry.Report do
  @moduledoc """
  What an instance has recorded, read while recording goes on.

  Numbers that end in `_us` are microseconds as floats, `nil` where there was no sample. Quantiles
  are the upper end of their HdrHistogram bucket, at most the exact maximum; means, minima, maxima
  and counts are exact. Rows are ordered by the time that they took in total, most first.

    * `:interval` - which time the report covers: `from_unix_ms`, `to_unix_ms` (milliseconds since
      1970, UTC) and `duration_ms`. The pool's `size` is always that of now.
    * `:operations` - a row for each `{method, python_class}`, with three keys more: `reasons`, why calls failed, as a list of
      `%{kind, reason, count}` with the most frequent first; `python_us`, a distribution of the time inside Python, or
      `nil` where Python has not measured it; and `overhead_us`, the mean of the calls less the mean inside Python,
      which is what bridge, queue and serialisation cost
    * `:instances` - a row for each `python_class` of which instances were created
    * `:tools` - a row for each `tool_name`
    * `:sessions` - `created`, `expired` (by reason), `lifetime_ms`, `operations`
    * `:variables` - `set` (by type), `get_found`, `get_missed`, `set_size_bytes`, `get_size_bytes`
    * `:pool` - `size`, `spawned`, `died` (by reason), `startup_us`, `lifetime_ms`,
      `queue_wait_us`, `queue_wait_us_by_command`
    * `:slowest` - the slowest calls (option `slowest_calls`), the slowest first; see `t:call/0`
    * `:summaries` - a row for each series of a summary among option `:metrics`: `name`, `labels` (a map), `count`,
      `sum`, `mean`, `min`, `max`, `p50`, `p90`, `p95`, `p99` and `p999`, in the unit of the metric; see
      `DSPexTelemetry.Reporter`

  Rows have `count` (completed calls), `errors` (exceptions and calls without success),
  `error_rate` (their quotient), `mean_us`, `min_us`, `max_us`, `p50_us`, `p90_us`, `p95_us`,
  `p99_us` and `p999_us`. Distributions have `count`, `mean`, `min`, `max`, `p50`, `p90`, `p95`,
  `p99` and `p999`, in the unit that their name ends in; `operations` of sessions is a plain number.

  Events over the series limit are in a row whose labels are all `otel_metric_overflow`. Of created
  instances in that row the errors are not known and counted as none.
  """

  @enforce_keys [:interval, :operations, :instances, :tools, :sessions, :variables, :pool]
  defstruct @enforce_keys ++ [slowest: [], summaries: []]

  @typedoc "Latency and errors of one label set."
  @type row :: %{
          :count => non_neg_integer(),
          :errors => non_neg_integer(),
          :error_rate => float(),
          :mean_us => float() | nil,
          :min_us => float() | nil,
          :max_us => float() | nil,
          :p50_us => float() | nil,
          :p90_us => float() | nil,
          :p95_us => float() | nil,
          :p99_us => float() | nil,
          :p999_us => float() | nil,
          optional(:method | :python_class | :tool_name) => String.t(),
          optional(:reasons) => [DSPexTelemetry.ErrorAnalyzer.cause()],
          optional(:python_us) => distribution() | nil,
          optional(:overhead_us) => float() | nil
        }

  @typedoc """
  One call: when it ended (milliseconds since 1970), how long it took, and what it can be found by. `kind`, `reason` and
  `message` are those of its error. What is not known is `nil`.
  """
  @type call :: %{
          at_unix_ms: integer(),
          method: String.t(),
          python_class: String.t(),
          duration_us: float() | nil,
          failed: boolean(),
          kind: String.t() | nil,
          reason: String.t() | nil,
          message: String.t() | nil,
          worker_id: String.t() | nil,
          session_id: String.t() | nil,
          trace_id: String.t() | nil,
          correlation_id: String.t() | nil
        }

  @typedoc "Statistics of samples."
  @type distribution :: %{
          count: non_neg_integer(),
          mean: float() | nil,
          min: float() | nil,
          max: float() | nil,
          p50: float() | nil,
          p90: float() | nil,
          p95: float() | nil,
          p99: float() | nil,
          p999: float() | nil
        }

  @type t :: %__MODULE__{
          interval: DSPexTelemetry.Window.interval(),
          operations: [row()],
          instances: [row()],
          tools: [row()],
          sessions: %{
            created: non_neg_integer(),
            expired: %{String.t() => non_neg_integer()},
            lifetime_ms: distribution(),
            operations: distribution()
          },
          variables: %{
            set: %{String.t() => non_neg_integer()},
            get_found: non_neg_integer(),
            get_missed: non_neg_integer(),
            set_size_bytes: distribution(),
            get_size_bytes: distribution()
          },
          pool: %{
            size: non_neg_integer(),
            spawned: non_neg_integer(),
            died: %{String.t() => non_neg_integer()},
            startup_us: distribution(),
            lifetime_ms: distribution(),
            queue_wait_us: distribution(),
            queue_wait_us_by_command: %{String.t() => distribution()}
          },
          slowest: [call()],
          summaries: [
            %{
              name: String.t(),
              labels: %{String.t() => String.t()},
              count: pos_integer(),
              sum: number(),
              mean: float(),
              min: float(),
              max: float(),
              p50: float(),
              p90: float(),
              p95: float(),
              p99: float(),
              p999: float()
            }
          ]
        }

  defimpl String.Chars do
    def to_string(report), do: DSPexTelemetry.Report.Table.render(report)
  end

  defimpl Inspect do
    def inspect(report, _options), do: DSPexTelemetry.Report.Table.render(report)
  end
end
