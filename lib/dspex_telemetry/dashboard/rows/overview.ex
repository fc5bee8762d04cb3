defmodule DSPexTelemetry.Dashboard.Rows.Overview do
  @moduledoc false
  # Whether all is well, in a dozen numbers.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.{Alerts, Panel}

  @calls "dspex_bridge_call_method_total"
  @duration "dspex_bridge_call_method_duration"

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row, do: %{title: "Overview", collapsed: false, panels: Enum.map(panels(), &stat/1)}

  defp stat(panel), do: struct!(Panel, [type: :stat, size: {4, 4}] ++ panel)

  # How often something happened within the time range, which may be never.
  defp happened(metric, scope, legend) do
    target([events(metric, [], scope, "$__range"), " or vector(0)"], legend, kind: :instant)
  end

  defp panels do
    [
      [
        title: "Calls per second",
        description: "Method calls that completed, failed ones included.",
        unit: "ops",
        no_value: "no calls",
        targets: [target(rate(@calls, [], :method), "calls")]
      ],
      [
        title: "Error rate",
        description:
          "Failed method calls (exceptions, and calls that reported no success) as a part of all.",
        unit: "percentunit",
        decimals: 2,
        no_value: "no calls",
        thresholds: [{nil, "green"}, {0.01, "yellow"}, {0.05, "red"}],
        targets: [
          target(
            share(@calls, [], :method, ~S(success="false")),
            "errors"
          )
        ]
      ],
      [
        title: "Latency p95",
        description: "95 of 100 method calls took at most so long.",
        unit: "µs",
        no_value: "no calls",
        targets: [target(quantile(0.95, @duration, [], :method), "p95")]
      ],
      [
        title: "Workers",
        description: "Python workers that are alive.",
        unit: "none",
        thresholds: [{nil, "red"}, {1, "green"}],
        targets: [target(sum(series("snakepit_worker_pool_size", :instance)), "workers")]
      ],
      [
        title: "Queue wait p95",
        description: "95 of 100 requests waited at most so long for a worker.",
        unit: "µs",
        no_value: "no requests",
        thresholds: [{nil, "green"}, {1_000_000, "yellow"}, {5_000_000, "red"}],
        targets: [target(quantile(0.95, "snakepit_pool_queue_time", [], :instance), "p95")]
      ],
      [
        title: "Alerts firing",
        description:
          "Alerts of the rules in priv/prometheus that are firing now. 0 also where Prometheus has not " <>
            "loaded the rules.",
        unit: "none",
        graph: false,
        thresholds: [{nil, "green"}, {1, "red"}],
        targets: [
          target(
            ["count(", Alerts.series(~S(alertstate="firing")), ") or vector(0)"],
            "alerts",
            kind: :instant
          )
        ]
      ],
      [
        title: "Open sessions",
        description:
          "Sessions created less sessions expired, since each instance was started or reset.",
        unit: "none",
        targets: [
          target(
            [
              "clamp_min(",
              sum(series("dspex_session_created_total", :instance)),
              " - (",
              sum(series("dspex_session_expired_total", :instance)),
              " or vector(0)), 0)"
            ],
            "open"
          )
        ]
      ],
      [
        title: "Cache hit ratio",
        description: "Method calls whose result came from a cache, as a part of all.",
        unit: "percentunit",
        decimals: 1,
        no_value: "no calls",
        color: "palette-classic",
        targets: [
          target(
            share(@calls, [], :method, ~S(cached="true")),
            "cached"
          )
        ]
      ],
      [
        title: "Error spikes",
        description: "Spikes of failed calls that began within the time range.",
        unit: "none",
        decimals: 0,
        graph: false,
        thresholds: [{nil, "green"}, {1, "orange"}],
        targets: [happened("dspex_alerts_error_spike_total", :method, "spikes")]
      ],
      [
        title: "Workers lost",
        description: "Python workers that died within the time range, for whatever reason.",
        unit: "none",
        decimals: 0,
        graph: false,
        thresholds: [{nil, "green"}, {1, "yellow"}],
        targets: [happened("snakepit_worker_died_total", :instance, "died")]
      ],
      [
        title: "Handlers",
        description: "Whether the handlers of every instance are attached.",
        unit: "none",
        graph: false,
        thresholds: [{nil, "red"}, {1, "green"}],
        mappings: [{0, "detached", "red"}, {1, "attached", "green"}],
        targets: [
          target(["min(", series("dspex_telemetry_attached", :instance), ")"], "attached",
            kind: :instant
          )
        ]
      ],
      [
        title: "Events rejected",
        description: "Malformed events within the time range. They count nowhere else.",
        unit: "none",
        decimals: 0,
        graph: false,
        thresholds: [{nil, "green"}, {1, "yellow"}],
        targets: [happened("dspex_telemetry_rejected_total", :instance, "rejected")]
      ]
    ]
  end
end
