defmodule DSPexTelemetry.Dashboard.Rows.OwnHealth do
  @moduledoc false
  # Whether the numbers above can be trusted.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.Panel

  @step "$__rate_interval"
  @known "dspex_telemetry_build_info"

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row do
    %{title: "The telemetry itself", collapsed: true, panels: Enum.map(panels(), &graph/1)}
  end

  defp graph(panel) do
    struct!(
      Panel,
      Keyword.merge([type: :timeseries, size: {8, 8}, min: 0, no_value: "none"], panel)
    )
  end

  defp counted(metric, by, legend, options \\ []),
    do: target(events(metric, by, :instance, @step), legend, options)

  # Prometheus has these of every target; only those that are ours are wanted.
  defp of_ours(metric, seen),
    do: [foreign(metric, :instance), " and on (job, instance) ", seen]

  defp panels do
    [
      [
        title: "Series used",
        description:
          "Series as a part of their limit (option `series_limit`). At 100 % new label sets go to the overflow series.",
        unit: "percentunit",
        thresholds: [{nil, "green"}, {0.8, "yellow"}, {1, "red"}],
        threshold_lines: true,
        legend: :table,
        targets: [
          target(
            [
              "max by (event) (",
              series("dspex_telemetry_series", :instance),
              " / ",
              series("dspex_telemetry_series_limit", :instance),
              ")"
            ],
            "{{event}}"
          )
        ]
      ],
      [
        title: "Events over the limit",
        description:
          "Events that went to an overflow series, counted over each step of the graph: totals stay right, but what " <>
            "their labels said is lost.",
        style: :steps,
        targets: [counted("dspex_telemetry_overflow_total", [:event], "{{event}}")]
      ],
      [
        title: "Rejected events",
        description:
          "Malformed events, counted over each step of the graph, by event and reason. docs/reference.md has the " <>
            "reasons.",
        style: :steps,
        targets: [
          counted("dspex_telemetry_rejected_total", [:event, :reason], "{{event}}: {{reason}}",
            conditional: "an event was rejected"
          )
        ]
      ],
      [
        title: "Events that metrics have not recorded",
        description:
          "Of the definitions of option `metrics`: events without a measurement or tag that a definition asks for, or " <>
            "for which one of its functions raised, counted over each step of the graph. docs/reference.md has the reasons. " <>
            "And samples that a scrape lacks because OpenMetrics does not allow them: negative counters, sums and quantiles.",
        style: :steps,
        targets: [
          counted(
            "dspex_telemetry_metric_rejected_total",
            [:metric, :reason],
            "{{metric}}: {{reason}}",
            conditional: "an event did not fit a definition"
          ),
          target(
            [
              "max by (metric) (",
              series("dspex_telemetry_samples_left_out", :instance),
              ")"
            ],
            "{{metric}}: samples that OpenMetrics does not allow",
            conditional: "a definition has negative numbers"
          )
        ]
      ],
      [
        title: "Alerts not told",
        description:
          "Signals that found their channel full (option `signal_limit`), and errors of methods beyond those that " <>
            "are watched for spikes, counted over each step of the graph.",
        style: :steps,
        targets: [
          counted("dspex_telemetry_signals_dropped_total", [], "signals dropped"),
          counted("dspex_telemetry_spikes_untracked_total", [], "errors not watched")
        ]
      ],
      [
        title: "History lost, workers not known, panics",
        description:
          "Slices of time that were merged or dropped to stay within `window_memory_limit`, workers beyond " <>
            "`worker_limit`, and panics in Rust, counted over each step of the graph. A panic is a fault of the " <>
            "library: please report it.",
        style: :steps,
        targets: [
          counted("dspex_telemetry_slices_merged_total", [], "slices merged"),
          counted("dspex_telemetry_slices_dropped_total", [], "slices dropped"),
          counted("dspex_telemetry_workers_overflow_total", [], "workers not known"),
          counted("dspex_telemetry_panics_total", [], "panics")
        ]
      ],
      [
        title: "Memory",
        description:
          "Of each instance: all that the library holds, and what the slices of the last hour take.",
        unit: "bytes",
        no_value: "no data",
        targets: [
          target(
            sum(series("dspex_telemetry_memory_bytes", :instance), [:job, :instance]),
            "{{instance}}"
          ),
          target(
            sum(series("dspex_telemetry_window_memory_bytes", :instance), [:job, :instance]),
            "{{instance}} slices"
          )
        ]
      ],
      [
        title: "References known",
        description: "References of instances whose class is known (option `ref_limit`).",
        no_value: "no data",
        targets: [
          target(sum(series("dspex_telemetry_refs", :instance), [:instance]), "{{instance}}")
        ]
      ],
      [
        title: "Scrapes",
        description: "How long Prometheus took to scrape each instance.",
        unit: "s",
        no_value: "no data",
        targets: [
          target(
            of_ours("scrape_duration_seconds", series(@known, :instance)),
            "{{instance}}"
          )
        ]
      ],
      [
        type: :"state-timeline",
        title: "Instances",
        description:
          "Whether Prometheus reaches each instance, and whether its handlers are attached: while they are not, " <>
            "nothing is counted.",
        min: nil,
        no_value: "no data",
        mappings: [{0, "no", "red"}, {1, "yes", "green"}],
        targets: [
          target(
            of_ours("up", ["present_over_time(", series(@known, :instance), "[1h])"]),
            "{{instance}} up"
          ),
          target(
            ["min by (instance) (", series("dspex_telemetry_attached", :instance), ")"],
            "{{instance}} attached"
          )
        ]
      ],
      [
        type: :stat,
        title: "Version",
        description: "Versions of the library that are running, and of how many instances.",
        size: {8, 5},
        unit: "none",
        graph: false,
        no_value: "no data",
        show: :value_and_name,
        targets: [
          target(
            ["count by (version) (", series(@known, :instance), ")"],
            "{{version}}",
            kind: :instant
          )
        ]
      ],
      [
        type: :stat,
        title: "Running since",
        description: "When the instance that was started last was started.",
        size: {8, 5},
        unit: "dateTimeFromNow",
        graph: false,
        no_value: "no data",
        targets: [
          target(
            ["1000 * max(", series("dspex_telemetry_start_time_seconds", :instance), ")"],
            "started",
            kind: :instant
          )
        ]
      ],
      [
        title: "Pushes and exports",
        description:
          "Pushes to a gateway and exports over OTLP, and data points that the receiver has refused for good, counted " <>
            "over each step of the graph. Only where option `push` or `otlp` is set.",
        size: {8, 5},
        no_value: "not used",
        style: :steps,
        targets: [
          counted("dspex_telemetry_push_total", [:result], "push: {{result}}",
            conditional: "option push is set"
          ),
          counted("dspex_telemetry_otlp_total", [:result], "OTLP: {{result}}",
            conditional: "option otlp is set"
          ),
          counted("dspex_telemetry_otlp_lost_points_total", [], "OTLP: data points refused",
            conditional: "option otlp is set"
          )
        ]
      ]
    ]
  end
end
