defmodule DSPexTelemetry.Dashboard.Rows.Saturation do
  @moduledoc false
  # Whether there are enough workers.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.Panel

  @wait "snakepit_pool_queue_time"
  @startup "snakepit_worker_startup_time"

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row, do: %{title: "Saturation", collapsed: true, panels: Enum.map(panels(), &graph/1)}

  defp graph(panel),
    do:
      struct!(Panel, [type: :timeseries, size: {8, 8}, min: 0, no_value: "no requests"] ++ panel)

  defp panels do
    [
      [
        title: "Queue wait (p50, p95, p99)",
        description:
          "How long requests waited for a worker. The line is where the library begins to warn by default.",
        unit: "µs",
        thresholds: [{nil, "green"}, {5_000_000, "red"}],
        threshold_lines: true,
        targets: [
          target(quantile(0.5, @wait, [], :instance), "p50"),
          target(quantile(0.95, @wait, [], :instance), "p95"),
          target(quantile(0.99, @wait, [], :instance), "p99")
        ]
      ],
      [
        title: "Queue wait p95 by command",
        description: "Of the ten commands that wait the longest.",
        unit: "µs",
        legend: :table,
        targets: [target(topk(10, quantile(0.95, @wait, [:command], :instance)), "{{command}}")]
      ],
      [
        title: "Requests by command",
        description: "Requests per second that got a worker.",
        unit: "ops",
        style: :stacked,
        targets: [
          target(topk(10, histogram_rate(:count, @wait, [:command], :instance)), "{{command}}")
        ]
      ],
      [
        title: "Waiting and running",
        description:
          "How many requests wait and how many method calls run at once, on average (the seconds they " <>
            "took per second). More calls running than workers, or a line of waiting ones that grows: the pool " <>
            "is too small.",
        unit: "short",
        targets: [
          target([histogram_rate(:sum, @wait, [], :instance), " / 1e6"], "requests waiting"),
          target(
            [histogram_rate(:sum, "dspex_bridge_call_method_duration", [], :instance), " / 1e6"],
            "calls running"
          ),
          target(sum(series("snakepit_worker_pool_size", :instance)), "workers")
        ]
      ],
      [
        title: "Pool size by instance",
        description: "Python workers that are alive.",
        unit: "none",
        no_value: "no workers",
        style: :stacked,
        targets: [
          target(
            sum(series("snakepit_worker_pool_size", :instance), [:job, :instance]),
            "{{instance}}"
          )
        ]
      ],
      [
        title: "Workers started and lost",
        description: "Counted over each step of the graph.",
        unit: "none",
        no_value: "none",
        style: :steps,
        targets: [
          target(
            events(
              "snakepit_worker_spawned_total",
              [:python_version],
              :instance,
              "$__rate_interval"
            ),
            "started (Python {{python_version}})"
          ),
          target(
            events("snakepit_worker_died_total", [:reason], :instance, "$__rate_interval"),
            "died ({{reason}})"
          )
        ]
      ],
      [
        title: "Worker startup time",
        description: "How long workers took to start. Nothing while none starts.",
        size: {12, 8},
        unit: "µs",
        no_value: "none started",
        targets: [
          target(lasting(0.5, @startup), "p50"),
          target(lasting(0.95, @startup), "p95")
        ]
      ],
      [
        title: "Worker lifetime",
        description: "How long workers had lived when they died. Nothing while none dies.",
        size: {12, 8},
        unit: "s",
        no_value: "none died",
        targets: [
          target(lasting(0.5, "snakepit_worker_lifetime_seconds"), "p50"),
          target(lasting(0.95, "snakepit_worker_lifetime_seconds"), "p95")
        ]
      ]
    ]
  end

  defp lasting(q, metric), do: quantile(q, metric, [], :instance)
end
