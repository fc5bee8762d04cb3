defmodule DSPexTelemetry.Dashboard.Rows.Usage do
  @moduledoc false
  # What is used how often.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.{FieldConfig, Panel}

  @calls "dspex_bridge_call_method_total"
  @by_method [:python_class, :method]
  @rows_of_the_table 50

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row do
    %{
      title: "Usage",
      collapsed: true,
      panels: [methods() | Enum.map(most_used(), &bars/1)] ++ Enum.map(over_time(), &graph/1)
    }
  end

  defp graph(panel), do: struct!(Panel, [type: :timeseries, size: {8, 8}, min: 0] ++ panel)

  defp bars(panel),
    do: struct!(Panel, [type: :bargauge, size: {12, 8}, unit: "short", decimals: 0] ++ panel)

  defp methods do
    calls = events(@calls, @by_method, :method, "$__range")

    # The other columns for the rows of the first only.
    of_the_most_called = fn expression ->
      [expression, " and on (python_class, method) ", topk(@rows_of_the_table, calls)]
    end

    failed = share(@calls, @by_method, :method, ~S(success="false"))

    duration = "dspex_bridge_call_method_duration"

    overflow = FieldConfig.overflow_mappings()

    %Panel{
      type: :table,
      title: "Methods",
      description:
        "The #{@rows_of_the_table} methods that were called the most within the time range. Error rate and latency are of now.",
      size: {24, 10},
      no_value: "",
      targets: [
        target(topk(@rows_of_the_table, calls), "", kind: :table),
        target(of_the_most_called.(failed), "", kind: :table),
        target(of_the_most_called.(quantile(0.5, duration, @by_method, :method)), "", kind: :table),
        target(of_the_most_called.(quantile(0.95, duration, @by_method, :method)), "",
          kind: :table
        )
      ],
      sort_by: "Calls",
      columns: [
        {"python_class", "Class", mappings: overflow},
        {"method", "Method", mappings: overflow},
        {"Value #A", "Calls", unit: "short", decimals: 0},
        {"Value #B", "Error rate",
         unit: "percentunit",
         decimals: 2,
         "custom.cellOptions": %{type: "color-text"},
         thresholds: %{
           mode: "absolute",
           steps: [
             %{color: "text", value: nil},
             %{color: "yellow", value: 0.01},
             %{color: "red", value: 0.05}
           ]
         }},
        {"Value #C", "p50", unit: "µs"},
        {"Value #D", "p95", unit: "µs"}
      ]
    }
  end

  defp most_used do
    [
      [
        title: "Most used classes",
        description:
          "Instances created within the time range, failed attempts included, by class.",
        no_value: "none created",
        targets: [
          target(
            topk(
              10,
              events("dspex_bridge_create_instance_total", [:python_class], :class, "$__range")
            ),
            "{{python_class}}",
            kind: :instant
          )
        ]
      ],
      [
        title: "Most used tools",
        description: "Tool calls that completed within the time range.",
        no_value: "no tool calls",
        targets: [
          target(
            topk(10, events("dspex_tools_call_total", [:tool_name], :instance, "$__range")),
            "{{tool_name}}",
            kind: :instant
          )
        ]
      ]
    ]
  end

  defp over_time do
    [
      [
        title: "Calls by class",
        description: "Method calls that completed, per second.",
        unit: "ops",
        no_value: "no calls",
        style: :stacked,
        targets: [target(topk(10, rate(@calls, [:python_class], :method)), "{{python_class}}")]
      ],
      [
        title: "Calls by method",
        description: "Of the ten methods that are called the most, per second.",
        unit: "ops",
        no_value: "no calls",
        legend: :table,
        targets: [
          target(topk(10, rate(@calls, @by_method, :method)), "{{python_class}}.{{method}}")
        ]
      ],
      [
        title: "Cache hit ratio by method",
        description: "Of the ten methods whose results come from a cache the most often.",
        unit: "percentunit",
        max: 1,
        no_value: "no calls",
        legend: :table,
        targets: [
          target(
            topk(
              10,
              share(@calls, @by_method, :method, ~S(cached="true"))
            ),
            "{{python_class}}.{{method}}"
          )
        ]
      ],
      [
        title: "Instances created",
        description: "Per second, by class and by whether they could be created.",
        unit: "ops",
        no_value: "none created",
        targets: [
          target(
            topk(
              10,
              rate("dspex_bridge_create_instance_total", [:python_class, :success], :class)
            ),
            "{{python_class}} (success: {{success}})"
          )
        ]
      ],
      [
        title: "Tool calls by caller",
        description: "Tool calls that were started, by the side that called.",
        unit: "ops",
        no_value: "no tool calls",
        style: :stacked,
        targets: [
          target(rate("dspex_tools_call_start_total", [:caller], :instance), "{{caller}}")
        ]
      ],
      [
        title: "Size of arguments and results p95",
        description: "Of method calls, where the bridge says it.",
        unit: "bytes",
        no_value: "no sizes",
        targets: [
          target(
            quantile(0.95, "dspex_bridge_call_method_args_size_bytes", [], :method),
            "arguments"
          ),
          target(
            quantile(0.95, "dspex_bridge_call_method_result_size_bytes", [], :method),
            "results"
          )
        ]
      ]
    ]
  end
end
