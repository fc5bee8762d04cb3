defmodule DSPexTelemetry.Dashboard.Rows.Calls do
  @moduledoc false
  # Calls by latency, failures, workers and tools, and where time goes.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.Panel

  @calls "dspex_bridge_call_method_total"
  @duration "dspex_bridge_call_method_duration"
  @python_duration "dspex_bridge_call_method_python_duration"
  @python_calls "dspex_bridge_call_method_python_total"
  @by_method [:python_class, :method]

  @spec rows() :: [DSPexTelemetry.Dashboard.Layout.row()]
  def rows do
    [
      %{title: "Bridge", collapsed: false, panels: Enum.map(bridge(), &graph/1)},
      %{
        title: "Latency",
        collapsed: false,
        panels: [heatmap() | Enum.map(latency() ++ python(), &graph/1)]
      }
    ]
  end

  defp graph(panel), do: struct!(Panel, [type: :timeseries, size: {12, 8}] ++ panel)

  defp bridge do
    [
      [
        title: "Operation Latency (p50, p95, p99)",
        description:
          "Quantiles of the durations of method calls. Dots are exemplars: single slow calls.",
        unit: "µs",
        min: 0,
        no_value: "no calls",
        targets: [
          target(quantile(0.5, @duration, [], :method), "p50"),
          target(quantile(0.95, @duration, [], :method), "p95"),
          target(quantile(0.99, @duration, [], :method), "p99", exemplars: true)
        ]
      ],
      [
        title: "Error Rate by Method",
        description:
          "Failed calls as a part of all, of the ten methods that fail the most often.",
        unit: "percentunit",
        min: 0,
        no_value: "no calls",
        thresholds: [{nil, "green"}, {0.05, "red"}],
        threshold_lines: true,
        legend: :table,
        targets: [
          target(
            topk(
              10,
              share(@calls, @by_method, :method, ~S(success="false"))
            ),
            "{{python_class}}.{{method}}"
          )
        ]
      ],
      [
        title: "Python Worker Pool Health",
        description:
          "Workers that are alive, and those that died, counted over each step of the graph (right axis).",
        unit: "short",
        min: 0,
        overrides: [
          {~r/^died/,
           "custom.axisPlacement": "right",
           "custom.axisLabel": "died",
           "custom.drawStyle": "bars",
           "custom.fillOpacity": 60,
           unit: "none"}
        ],
        targets: [
          target(sum(series("snakepit_worker_pool_size", :instance)), "pool size"),
          target(
            events("snakepit_worker_died_total", [:reason], :instance, "$__rate_interval"),
            "died ({{reason}})"
          )
        ]
      ],
      [
        title: "Bidirectional Tool Usage",
        description: "Tool calls that completed, failed ones included.",
        unit: "ops",
        min: 0,
        no_value: "no tool calls",
        legend: :table,
        targets: [
          target(rate("dspex_tools_call_total", [:tool_name], :instance), "{{tool_name}}")
        ]
      ]
    ]
  end

  defp heatmap do
    %Panel{
      type: :heatmap,
      title: "Latency heatmap",
      description:
        "Method calls per second by duration. A second band is a second kind of call, which quantiles hide.",
      size: {12, 9},
      unit: "µs",
      no_value: "no calls",
      targets: [target(buckets(@duration, [], :method), "{{le}}", kind: :heatmap)]
    }
  end

  defp latency do
    [
      [
        title: "Latency p95 by method",
        description: "Of the ten methods whose p95 is the longest.",
        size: {12, 9},
        unit: "µs",
        min: 0,
        no_value: "no calls",
        legend: :table,
        targets: [
          target(
            topk(10, quantile(0.95, @duration, @by_method, :method)),
            "{{python_class}}.{{method}}"
          )
        ]
      ],
      [
        title: "Time spent by method",
        description:
          "Seconds that calls took per second of time, which is how many calls run at once on average. " <>
            "Where to look first when all is slow.",
        size: {8, 8},
        unit: "short",
        min: 0,
        no_value: "no calls",
        style: :stacked,
        targets: [
          target(
            topk(10, [histogram_rate(:sum, @duration, @by_method, :method), " / 1e6"]),
            "{{python_class}}.{{method}}"
          )
        ]
      ],
      [
        title: "Creation of instances p95",
        description: "Time to create an instance of a class, by whether it could be created.",
        size: {8, 8},
        unit: "µs",
        min: 0,
        no_value: "none created",
        targets: [
          target(
            topk(
              10,
              quantile(
                0.95,
                "dspex_bridge_create_instance_duration",
                [:python_class, :success],
                :class
              )
            ),
            "{{python_class}} (success: {{success}})"
          )
        ]
      ],
      [
        title: "Tool calls p95",
        description: "Duration of the ten slowest tools.",
        size: {8, 8},
        unit: "µs",
        min: 0,
        no_value: "no tool calls",
        targets: [
          target(
            topk(10, quantile(0.95, "dspex_tools_call_duration", [:tool_name], :instance)),
            "{{tool_name}}"
          )
        ]
      ]
    ]
  end

  defp python do
    timed = [conditional: "Python has timed a call"]

    [
      [
        title: "Round trip and time in Python",
        description:
          "Quantiles of whole calls and of the time inside Python, of those methods only that Python times. " <>
            "Between the two lies the cost of the bridge: queue, transport and serialisation.",
        unit: "µs",
        min: 0,
        no_value: "no times from Python",
        targets: [
          target(
            quantile_where(0.5, @duration, [], :method, @python_calls),
            "round trip p50",
            timed
          ),
          target(
            quantile_where(0.95, @duration, [], :method, @python_calls),
            "round trip p95",
            timed
          ),
          target(quantile(0.5, @python_duration, [], :method), "Python p50", timed),
          target(quantile(0.95, @python_duration, [], :method), "Python p95", timed)
        ]
      ],
      [
        title: "Cost of the bridge by method",
        description:
          "Mean round trip less mean time in Python, of the ten methods where it is the highest. A method that Python " <>
            "does not time has none. Below 0, Python timed other calls than those that ended in the same time.",
        unit: "µs",
        no_value: "no times from Python",
        legend: :table,
        targets: [
          target(
            topk(10, [
              mean(@duration, @by_method, :method),
              " - ",
              mean(@python_duration, @by_method, :method)
            ]),
            "{{python_class}}.{{method}}",
            timed
          )
        ]
      ]
    ]
  end
end
