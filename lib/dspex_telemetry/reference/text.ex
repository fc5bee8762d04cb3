defmodule DSPexTelemetry.Reference.Text do
  @moduledoc false
  # The sections of the reference that are written by hand.

  @spec introduction() :: String.t()
  def introduction do
    """
    # Reference

    <!-- Written by `mix dspex_telemetry.reference` from the event catalogue; changes made here are lost. -->

    The events that `dspex_telemetry` handles, the metrics that they feed, and the options of an
    instance. Generated from the tables that the library itself reads.

    ## How to read it

    An event is what an emitter passes to `:telemetry.execute/3`: a name, a map of measurements and a
    map of metadata. Keys that are not listed are ignored. An event counts wholly or not at all: one
    that lacks a required key (`nil` is the same as absent), or has a value of the wrong type, is
    [rejected](#rejected-events) and feeds nothing. An optional measurement that is absent adds no
    sample.

    | type | what it takes |
    | --- | --- |
    | integer (all measurements but those of type number) | 0 to 2^63 - 1; a duration once it is in nanoseconds |
    | number | the same, or a float that is not below zero; fractions count as far as the metric's unit keeps them |
    | text | a binary, an atom or an integer of 64 bits; see [label values](#label-values) |
    | flag | `true` or `false` |
    | one of | one of the words, as a binary or atom; any other binary, atom or integer is the last word |
    | name | any term, reduced to text; see [label values](#label-values) |
    | reason | any term but `nil`, reduced to a word; see [label values](#label-values) |
    | any | any term; nothing is made of it, it is listed because emitters send it |

    Option `presets` chooses the emitters: `:snakepit`, `:snakebridge` for DSPex and SnakeBridge, and `:dspex` for a bridge of your
    own. If several of them report the same call, [it is counted once](snakepit.md#how-each-call-is-counted-once).

    The unit `duration` is that of the instance's option `duration_unit`, native time units by
    default. The other units are fixed. Under an event stand the metrics that it feeds, each with what
    goes in and its labels. A label takes the value of the key of the same name where nothing else is
    said.

    The metrics of one series are written together. A histogram keeps the sum, the minimum and the
    maximum of its samples exactly, the samples themselves in an HdrHistogram of `significant_digits`,
    and an exact count for each of its buckets. Bounds of buckets are inclusive and in the metric's
    unit; a last bucket takes what is above all of them. Option `buckets` replaces them.

    What can be read, over any [window](#windows): `DSPexTelemetry.report/1` has the statistics of method calls, instances, tools,
    sessions, variables and the pool; `DSPexTelemetry.histogram/3` has the HdrHistogram of a series;
    `DSPexTelemetry.PerformanceMonitor.report/1` has method calls and their trend,
    `DSPexTelemetry.ErrorAnalyzer.report/1` errors and spikes, and
    `DSPexTelemetry.UsageAnalytics.get_usage_report/1` what is used how often;
    `DSPexTelemetry.info/1` has series, overflow and rejections. `DSPexTelemetry.scrape/1` has all metrics
    under the names below, buckets included, and [those of the library itself](#metrics-of-the-library-itself).

    """
  end

  @spec self_metrics() :: String.t()
  def self_metrics do
    """
    ## Metrics of the library itself

    What `DSPexTelemetry.scrape/1` tells of the instance. Where `event` is a label, it is the event or span whose
    metrics form a family, as in `DSPexTelemetry.info/1`; of rejections it is the event.

    """
  end

  @spec emitted() :: String.t()
  def emitted do
    """
    ## Events that the library emits

    Attach to them as to any other event. They come from processes of the instance whose name is in
    the metadata as `instance`.

    | event | measurements | metadata | when |
    | --- | --- | --- | --- |
    | `[:dspex, :performance, :summary]` | `avg_duration_us`, `max_duration_us`, `error_rate`, `count`, `p50_us`, `p95_us`, `p99_us` | `method`, `python_class`, `interval` | every `summary_interval`, for each method that completed a call in it |
    | `[:dspex, :alerts, :error_spike]` | `error_count`, and `repeats` if spikes were held back | `method`, `python_class`, `causes`, `first_unix_ms`, `last_unix_ms` | `error_spike_threshold` errors within `error_spike_window` that are at least `error_spike_percent` of the calls, unless another spike of the method was signalled within `error_spike_repeat` |
    | `[:dspex, :alerts, :error_spike_over]` | `duration`, `total` | as above | fewer than half as many errors are within the window, or less than half the percentage of the calls failed throughout the window |
    | `[:dspex, :alerts, :latency_anomaly]` | `p95_us`, `median_us`, `mad_us`, `lower_us`, `upper_us`, `count`, and `duration` when it is over | `method`, `python_class`, `state`, `direction`, `started_unix_ms`, and `reason` when it is over | the 0.95 quantile of a slice leaves its usual range, and when it is back |

    `DSPexTelemetry.Alert` and `DSPexTelemetry.PerformanceMonitor` say more. `duration` is in native time
    units, `causes` is a list of `%{kind, reason, count}`, the most frequent first.

    ## Windows

    Every report takes `window:`, such as `:last_minute` or `{5, :minutes}`; see
    `DSPexTelemetry.Window`. Time is kept in slices (option `slice`) for an hour (option `history`), in
    at most `window_memory_limit` bytes. Counts, sums, minima and maxima of a window are exact; its
    quantiles are those of a histogram as everywhere else.

    """
  end

  @spec label_values() :: String.t()
  def label_values do
    """
    ## Label values

    - A binary is taken as it is. An atom or an integer becomes its text: `:search` is `search`, `7` is
      `7`, and a module is `Elixir.MyApp.Index`. Any other term, an integer beyond 64 bits included,
      rejects the event.
    - Text is cut at 256 bytes, before a character that would not fit. Invalid UTF-8 is replaced by
      U+FFFD, within the 256 bytes. The same holds for references and worker ids.
    - An optional text that is absent is `unknown`.
    - Text is copied: no atom is made from it, and no reference to a large binary is kept.
    - Names go through `DSPexTelemetry.Name.of/1`: text is as above, `{:cuda, 0}` becomes `cuda:0`, and everything else
      is `other`.
    - Reasons go through `DSPexTelemetry.Reason.class/1` first: an atom stays as it is, an exception
      becomes its module's name, `{:exit_status, _}` and `{:shutdown, _}` become their tag, a pair of
      reason and stacktrace becomes the class of the reason, a struct with a `category` becomes that, and everything else is
      `other`.

    """
  end

  @rejections [
    {"missing_measurement", "a required measurement is absent or `nil`"},
    {"invalid_measurement", "an integer is wanted and something else is there"},
    {"negative_measurement", "an integer is below zero"},
    {"oversized_measurement",
     "an integer is above 2^63 - 1, for durations after conversion to nanoseconds"},
    {"missing_metadata", "a required metadata key is absent or `nil`"},
    {"invalid_metadata", "a metadata value has a type that the key does not take"}
  ]

  @spec rejected_events() :: String.t()
  def rejected_events do
    """
    ## Rejected events

    The handler neither raises nor logs; the event is counted by its name and the first reason that was
    found, which `DSPexTelemetry.info/1` lists under `:rejected`. Integers are looked at first, then
    texts, flags and choices. An integer of the metadata is rejected for the reasons of measurements.

    | reason | what was wrong |
    | --- | --- |
    #{Enum.map_join(@rejections, "\n", fn {reason, meaning} -> "| `#{reason}` | #{meaning} |" end)}

    """
  end

  @spec overflow() :: String.t()
  def overflow do
    """
    ## The overflow series

    Metrics that share their labels form a family, named after the event or span; the limit
    `series_limit` is per family. A label set that comes when the limit is reached gets no series: its
    events go to the family's one overflow series, whose labels are all `otel_metric_overflow`, so
    that totals stay exact. What their labels said is lost: a report cannot tell which of the created
    instances in it failed, and counts none. `DSPexTelemetry.info/1` counts these events under
    `:overflow`; `DSPexTelemetry.histogram/3` does not find the series. Label sets that have a series
    keep it. A slot becomes free when an idle series is removed (option `idle_timeout`) or the instance
    is reset.

    Two more tables are bounded: `ref_limit` references keep their class, the oldest forgotten first;
    and `worker_limit` living workers are known, those beyond counted as `:workers_overflow`.

    """
  end

  @spec options() :: String.t()
  def options do
    """
    ## Options

    For `{DSPexTelemetry, options}` in a supervision tree and, under `config :dspex_telemetry`, for the
    default instance. One that is not allowed fails the start with an `ArgumentError` that names the
    option, the value and what is allowed. The application's environment takes one key more:
    `start_default: false` keeps the default instance from being started.

    """
  end
end
