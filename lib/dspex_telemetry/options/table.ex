defmodule DSPexTelemetry.Options.Table do
  @moduledoc false
  # The options of an instance: type, default and documentation of each, from which they are checked too.

  alias DSPexTelemetry.Options.{Cache, HTTP, OTLP, Push, Router}

  # Keys of an option that is a keyword list have a table of their own, in the same form. A key without default is
  # required. A secret may be given as a function that returns it, and is always kept as one, which shows it to no log;
  # an error does not show it either.
  @table [
    name: [
      type: :name,
      default: DSPexTelemetry,
      doc: "Name of the instance, given as `instance:` to every other function."
    ],
    attach: [
      type: :boolean,
      default: true,
      doc: "Whether the handlers are attached at start."
    ],
    presets: [
      type: {:some_of, [:dspex, :snakebridge, :snakepit]},
      default: [:dspex, :snakebridge, :snakepit],
      doc:
        "Whose events are handled: those of a bridge of your own (`:dspex`), of SnakeBridge, on which DSPex is built, and " <>
          "of Snakepit. A call that several of them report counts once; `docs/snakepit.md` says how. With `[]` an " <>
          "instance has nothing but the definitions of option `metrics`."
    ],
    transport_commands: [
      type: :commands,
      default: [],
      doc:
        "Snakepit commands by which a bridge of your own carries calls that it reports itself, such as `[\"my_bridge.*\"]`; " <>
          "`*` at the end stands for any rest. Needed only where the bridge calls Snakepit from another process than " <>
          "the one that reports the call, or reports only its end."
    ],
    duration_unit: [
      type: {:in, [:native, :nanosecond, :microsecond, :millisecond, :second]},
      default: :native,
      doc:
        "Unit of the measurements `duration` and `startup_time` of preset `:dspex`. `:telemetry.span/3` emits " <>
          "native time; give `:microsecond` for emitters that send microseconds."
    ],
    series_limit: [
      type: {:integer, 1, 1_000_000},
      default: 2_000,
      doc:
        "Most series per event or span. What comes later goes to one series labelled " <>
          "`otel_metric_overflow` and is counted."
    ],
    significant_digits: [
      type: {:integer, 1, 3},
      default: 2,
      doc:
        "Significant decimal digits that histograms keep: 2 means that quantiles are within 1 %."
    ],
    buckets: [
      type: :buckets,
      default: %{},
      doc:
        "Explicit bucket bounds by metric name, inclusive and in the metric's unit, such as " <>
          "`%{dspex_bridge_call_method_duration: [1_000, 10_000]}`. The other metrics keep " <>
          "their defaults."
    ],
    metrics: [
      type: :metrics,
      default: [],
      doc:
        "Definitions of `Telemetry.Metrics` that are reported beside the library's own metrics; see " <>
          "`DSPexTelemetry.Reporter`."
    ],
    ref_limit: [
      type: {:integer, 0, 10_000_000},
      default: 100_000,
      doc: "How many instance references keep their class; the oldest are forgotten first."
    ],
    worker_limit: [
      type: {:integer, 1, 1_000_000},
      default: 10_000,
      doc: "How many living workers are known by id."
    ],
    idle_timeout: [
      type: {:or_infinity, 1_000, 31_536_000_000},
      default: :infinity,
      doc:
        "Milliseconds after which a series without events is removed, counts included, and gives " <>
          "its slot back; `:infinity` keeps all."
    ],
    slice: [
      type: {:integer, 10, 3_600_000},
      default: 10_000,
      doc:
        "Milliseconds of a slice, the unit in which windows of time are kept. Short enough that no " <>
          "histogram bucket of a series gets 2^32 samples in one."
    ],
    history: [
      type: {:integer, 10, 604_800_000},
      default: 3_600_000,
      doc: "Milliseconds for which slices are kept; at least one slice."
    ],
    window_memory_limit: [
      type: {:integer, 65_536, 1_099_511_627_776},
      default: 67_108_864,
      doc:
        "Bytes that slices may take. When they do not suffice, older slices are merged with " <>
          "their neighbours, and when that does not suffice, the oldest go; `info/1` tells."
    ],
    summary_interval: [
      type: {:or_infinity, 100, 86_400_000},
      default: 60_000,
      doc:
        "Milliseconds between two performance summaries: a `[:dspex, :performance, :summary]` event " <>
          "for each method that was called, and a line in the log; at most `:history`. `:infinity` " <>
          "for none."
    ],
    count_unsuccessful: [
      type: :boolean,
      default: true,
      doc:
        "Whether a call that returned with `success: false` counts as an error for spikes and in " <>
          "`DSPexTelemetry.ErrorAnalyzer.report/1`, as exceptions do."
    ],
    error_spike_threshold: [
      type: {:integer, 1, 1_000},
      default: 5,
      doc: "How many errors of one method and class within the window are a spike."
    ],
    error_spike_window: [
      type: {:integer, 10, 3_600_000},
      default: 10_000,
      doc: "Milliseconds of the sliding window in which errors are counted for spikes."
    ],
    error_spike_percent: [
      type: {:integer, 0, 100},
      default: 50,
      doc:
        "Percent of the calls that must fail for a spike: of those that complete from the first of these " <>
          "errors to the last. A busy method of which a few calls fail has no spikes. With 0 the " <>
          "threshold alone decides."
    ],
    error_spike_repeat: [
      type: {:integer, 0, 86_400_000},
      default: 300_000,
      doc:
        "Milliseconds after a spike of a method was signalled in which further spikes of it are only " <>
          "counted. Their number comes with the next signal. 0 signals every spike."
    ],
    anomaly_deviations: [
      type: {:or_infinity, 1, 1_000},
      default: 5,
      doc:
        "How many robust standard deviations the 0.95 quantile of a method may be off its median over " <>
          "the kept slices before that is an anomaly. `:infinity` looks for none."
    ],
    anomaly_min_calls: [
      type: {:integer, 1, 1_000_000},
      default: 20,
      doc: "How many calls a slice must have to be judged, or to be part of the usual range."
    ],
    anomaly_min_slices: [
      type: {:integer, 2, 100_000},
      default: 12,
      doc: "How many slices there must be before one is judged by them."
    ],
    last_failures: [
      type: {:integer, 0, 10_000},
      default: 100,
      doc:
        "How many of the last failed calls are kept one by one, for `DSPexTelemetry.ErrorAnalyzer.report/1`; at most " <>
          "2.4 kB each. 0 keeps none. The live page shows at most 20."
    ],
    slowest_calls: [
      type: {:integer, 0, 1_000},
      default: 20,
      doc:
        "How many of the slowest calls within `:history` are kept one by one, for `DSPexTelemetry.report/1`; at most " <>
          "2.4 kB each. 0 keeps none. The live page shows at most 20."
    ],
    failure_messages: [
      type: :boolean,
      default: true,
      doc:
        "Whether these calls keep the message of their error, cut at 256 bytes. Messages can hold what users wrote; " <>
          "arguments and results are never kept."
    ],
    queue_wait_threshold: [
      type: {:or_infinity, 0, 86_400_000},
      default: 5_000,
      doc:
        "Milliseconds that a request may wait for a worker before a warning is logged, at most " <>
          "one per second and command. `:infinity` for none."
    ],
    signal_limit: [
      type: {:integer, 1, 1_000_000},
      default: 1_000,
      doc:
        "How many alerts may wait to be logged and emitted; those beyond are dropped and counted " <>
          "as `:signals_dropped`."
    ],
    usage_capacity: [
      type: {:integer, 1, 1_000_000},
      default: 10_000,
      doc:
        "How many names of classes, methods, tools and variables, each, are counted one by one. " <>
          "Counts are exact up to that many, and estimates with a known error beyond."
    ],
    usage_path: [
      type: :path,
      default: nil,
      doc:
        "File in which usage counts survive restarts; `nil` keeps them in memory only. Its folder " <>
          "must exist, and only the VM's user and root may write there. Two instances cannot " <>
          "share one."
    ],
    usage_save_interval: [
      type: {:integer, 10, 86_400_000},
      default: 30_000,
      doc: "Milliseconds after which changed usage counts are written to the file."
    ],
    router: [
      type: {:group, Router.table()},
      default: [],
      doc:
        "How `DSPexTelemetry.PerformanceRouter` chooses among workers; `docs/routing.md` explains it. " <>
          "`nil` for no router."
    ],
    http: [
      type: {:group, HTTP.table()},
      default: nil,
      doc:
        "Where the live page, metrics, health and reports are served over HTTP; `nil` serves them " <>
          "nowhere."
    ],
    push: [
      type: {:group, Push.table()},
      default: nil,
      doc:
        "Where metrics are pushed to, if nobody can come and scrape them; `nil` pushes nowhere. See " <>
          "`DSPexTelemetry.Push`."
    ],
    otlp: [
      type: {:group, OTLP.table()},
      default: nil,
      doc:
        "Where metrics are exported to over OTLP/HTTP, as to an OpenTelemetry Collector; `nil` exports " <>
          "nowhere. See `DSPexTelemetry.OTLP`."
    ],
    cache: [
      type: {:group, Cache.table()},
      default: nil,
      doc:
        "How results of methods are cached, see `DSPexTelemetry.AdaptiveCache`; `nil` caches none."
    ]
  ]

  @spec table() :: keyword()
  def table, do: @table
end
