defmodule DSPexTelemetry.Reporter do
  @moduledoc """
  A reporter for the metric definitions of `Telemetry.Metrics`, such as every Phoenix project has them.

      children = [
        {DSPexTelemetry, metrics: MyAppWeb.Telemetry.metrics()}
      ]

  Option `:metrics` of an instance takes any definitions of the five kinds. They are known by their
  fields, so nothing has to be installed for that but what makes them. They appear in
  `DSPexTelemetry.scrape/1` and on the HTTP endpoint beside the library's own metrics, under the names that
  telemetry_metrics_prometheus_core gives them; `docs/telemetry_metrics.md` says what differs.

      iex> import Telemetry.Metrics
      iex> metrics = [counter("shop.order.count", tags: [:country]), summary("shop.order.total")]
      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Shop, metrics: metrics)
      iex> :telemetry.execute([:shop, :order], %{total: 12.5}, %{country: "PT"})
      iex> scrape = DSPexTelemetry.scrape(instance: MyApp.Shop)
      iex> Regex.scan(~r/^shop_order_(?:count|total_sum).*$/m, scrape)
      [[~s(shop_order_count{country="PT"} 1)], ["shop_order_total_sum 12.5"]]

  | definition | in Prometheus | what is kept of each number |
  | --- | --- | --- |
  | `counter` | counter | that it came |
  | `sum` | counter, or gauge with `prometheus_type: :gauge` | the sum, exact for integers |
  | `last_value` | gauge | the latest |
  | `distribution` | histogram | its bucket, exact, bounds included, and the sum |
  | `summary` | summary, quantiles 0.5, 0.9, 0.95, 0.99 and 0.999 | a place in an HdrHistogram, exact minimum, maximum and sum |

  Numbers may be negative and have fractions. OpenMetrics does not allow negative counters, quantiles and sums of
  histograms and summaries, so a scrape in that format lacks them; `dspex_telemetry_samples_left_out{metric}` there says
  how many. Integers have at most 64 bits, and their sums stop at the smallest and largest integer of 64 bits.

  ## What is taken of a definition

    * `name` - the parts joined by underscores
    * `event_name`, `measurement` (a key or a function of measurements or of measurements and metadata; unit
      conversions are such functions), `tags`, `tag_values`
    * `keep` (`drop` comes as one) - a function of metadata, or of metadata and measurements; what is neither
      `false` nor `nil` keeps
    * `description` - the help text
    * `unit` - where no buckets are given, which ones suit; and the unit in which a summary is precise
    * `reporter_options` - `:buckets` of a distribution, strictly increasing; `:prometheus_type` of a sum,
      `:counter` or `:gauge`. Others are for other reporters.

  The first metric of a name has it, and a distribution or summary has the names of its samples too. One that comes
  later is left out. The log says so, and so does `:metrics_left_out` of `DSPexTelemetry.info/1`.
  An instance does not start with a definition that is wrong; the error says which, and what is allowed.

  ## What an event costs

  However many metrics an event feeds, its handler makes one call into Rust, in the process that emits it, and
  metrics with the same tags share one lookup of their series. Rust takes plain keys from the event's maps
  itself. Functions run in Elixir, before that call. A tag that is no string, atom or integer, such as
  a float or a struct, is written by `String.Chars`, for which the event is passed a second time.

  ## What goes wrong with an event

  It counts in the metrics that can take it. For each metric that cannot,
  `dspex_telemetry_metric_rejected_total{metric,reason}` and `:metrics_rejected` of `DSPexTelemetry.info/1` say
  why:

  | reason | |
  | --- | --- |
  | `missing_measurement` | it is not there, or `nil` |
  | `invalid_measurement` | it is no number |
  | `oversized_measurement` | it is an integer of more than 64 bits |
  | `missing_tag` | one of the tags is not there; `nil` is the empty text |
  | `invalid_tag` | a tag has no text |
  | `raised` | a function of the metric raised, threw or exited; the first time it is logged: what, without its message, and where |

  What `keep` refuses is not counted.

  ## Limits

  Option `:series_limit` holds for each metric. What comes later goes to a series that has the label
  `otel_metric_overflow="true"` in the place of its tags. Tags are cut at 256 bytes. A metric has at most 16.

  ## Reports

  `DSPexTelemetry.report/1` has the summaries, since the start or in a window of time, and
  `DSPexTelemetry.Cluster.report/1` those of all nodes. Nodes that define other metrics for an event are left out of the sums
  for that event, and their `:reason` says so.

  ## Memory

  For each series of metrics that share event, tags and `tag_values`: 303 bytes, the tags and 2 bytes for each
  in whole words of 8, 16 for each scheduler of the VM, and for each scheduler that has recorded into it 104 bytes and 128 for
  every 16 cells: 2 and, for a counter 1, a sum 3, a distribution 3 and one for each bound, a summary 7. A last value takes
  8 bytes. A summary takes for each of the first four schedulers as much as two histograms of the
  catalogue, of which the second is for negative numbers. Once a slice of time
  has ended, a series also has 8 bytes for each cell, and the counters of its summaries once more.
  """

  alias DSPexTelemetry.Reporter.{Handler, Metric, Name, Names, Plan}

  @typedoc false
  @type t :: %{
          families: [map()],
          observations: [map()],
          plans: [Plan.t()],
          left_out: [{Metric.t(), Metric.t() | :reserved}],
          metrics: non_neg_integer()
        }

  @typedoc "A definition that is left out because of its name: what it is, and which metric has the name."
  @type left_out :: %{
          metric: String.t(),
          kind: :counter | :sum | :last_value | :summary | :distribution,
          event: String.t(),
          taken_by: String.t() | :library
        }

  @doc false
  # What the metrics of an instance are to Rust, and what has to be done for each event.
  @spec new(map()) :: t()
  def new(%{metrics: metrics} = options) do
    {kept, left_out} = Names.settle(metrics)
    {families, observations, plans} = Plan.compile(kept, options)

    %{
      families: families,
      observations: observations,
      plans: plans,
      left_out: left_out,
      metrics: length(kept)
    }
  end

  @doc false
  @spec left_out(t()) :: [left_out()]
  def left_out(reporter) do
    for {metric, owner} <- reporter.left_out do
      %{
        metric: metric.name,
        kind: metric.kind,
        event: Name.event(metric.event),
        taken_by: if(owner == :reserved, do: :library, else: owner.name)
      }
    end
  end

  @doc false
  # Makes plans known to handlers by the numbers that Rust has given them. Returns what is to be attached.
  @spec publish(t(), [pos_integer()]) :: [{[atom()], function(), pos_integer()}]
  def publish(reporter, numbers) do
    # Of each metric whether it has failed.
    failed = :atomics.new(max(reporter.metrics, 1), [])

    for {plan, number} <- Enum.zip(reporter.plans, numbers) do
      # Not in the handler's config, which `:telemetry` copies for every event, functions included.
      :persistent_term.put({__MODULE__, number}, %{plan: plan, failed: failed})
      {plan.event, if(plan.plain?, do: &Handler.plain/4, else: &Handler.computed/4), number}
    end
  end

  @doc false
  @spec withdraw([{[atom()], function(), pos_integer()}]) :: :ok
  def withdraw(handlers) do
    for {_event, _function, number} <- handlers, do: :persistent_term.erase({__MODULE__, number})
    :ok
  end

  @doc false
  @spec fetch(pos_integer()) :: %{plan: Plan.t(), failed: :atomics.atomics_ref()} | nil
  def fetch(number), do: :persistent_term.get({__MODULE__, number}, nil)
end
