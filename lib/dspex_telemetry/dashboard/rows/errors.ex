defmodule DSPexTelemetry.Dashboard.Rows.Errors do
  @moduledoc false
  # What fails, and which alerts it set off.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.{Alerts, FieldConfig, Panel}

  @failures "dspex_bridge_call_method_error_total"
  @rows_of_the_table 50

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row do
    %{
      title: "Errors and alerts",
      collapsed: true,
      panels:
        [timeline() | Enum.map(methods(), &graph/1)] ++
          [reasons_of_methods() | Enum.map(others(), &graph/1)]
    }
  end

  defp graph(panel), do: struct!(Panel, [type: :timeseries, size: {12, 8}, min: 0] ++ panel)

  defp timeline do
    %Panel{
      type: :"state-timeline",
      title: "Alerts",
      description:
        "Alerts of the rules in priv/prometheus: pending ones wait for their condition to have held long enough.",
      size: {24, 7},
      no_value: "no alerts",
      mappings: [{1, "pending", "yellow"}, {2, "firing", "red"}],
      targets: [
        target(
          [
            "max by (alertname, severity) (",
            Alerts.series(~S(alertstate="pending")),
            " or 2 * ",
            Alerts.series(~S(alertstate="firing")),
            ")"
          ],
          "{{alertname}} ({{severity}})",
          conditional: "an alert is pending or firing"
        )
      ]
    }
  end

  defp methods do
    [
      [
        title: "Why calls fail",
        description:
          "Failed calls of the chosen methods per second, by the ten most frequent reasons. `unsuccessful` are calls that " <>
            "reported no success and no reason.",
        unit: "ops",
        no_value: "no errors",
        legend: :table,
        targets: [
          target(topk(10, rate(@failures, [:reason], :method)), "{{reason}}")
        ]
      ],
      [
        title: "Error spikes by method",
        description:
          "Spikes of failed calls that began, counted over each step of the graph: enough errors of one " <>
            "method within a few seconds.",
        unit: "none",
        no_value: "no spikes",
        style: :steps,
        targets: [
          target(
            events(
              "dspex_alerts_error_spike_total",
              [:python_class, :method],
              :method,
              "$__rate_interval"
            ),
            "{{python_class}}.{{method}}"
          )
        ]
      ]
    ]
  end

  defp reasons_of_methods do
    failures = events(@failures, [:python_class, :method, :reason, :kind], :method, "$__range")

    # The overflow series has none of these three labels.
    overflow = FieldConfig.overflow_mappings()

    %Panel{
      type: :table,
      title: "Why methods fail",
      description:
        "The #{@rows_of_the_table} most frequent failures within the time range, by method and reason. `docs/runbooks.md` " <>
          "says under HighErrorRate what to do.",
      size: {24, 10},
      no_value: "",
      # A reason has a counter for each kind, most of them 0.
      targets: [
        target([topk(@rows_of_the_table, failures), " > 0"], "", kind: :table)
      ],
      sort_by: "Failures",
      runbook: {"Method", "higherrorrate"},
      columns: [
        {"python_class", "Class", mappings: overflow},
        {"method", "Method", mappings: overflow},
        {"reason", "Reason", mappings: overflow},
        {"kind", "Kind", []},
        {"Value", "Failures", unit: "short", decimals: 0}
      ]
    }
  end

  defp others do
    [
      [
        title: "Exceptions by method",
        description:
          "Method calls that ended in an exception, per second. Those that reported no success are not in here.",
        unit: "ops",
        no_value: "no exceptions",
        targets: [
          target(
            topk(
              10,
              rate(
                "dspex_bridge_call_method_exception_total",
                [:python_class, :method, :kind],
                :method
              )
            ),
            "{{python_class}}.{{method}} ({{kind}})"
          )
        ]
      ],
      [
        title: "Failed creations and tool calls",
        description:
          "Instances that could not be created, and tool calls that failed, per second.",
        unit: "ops",
        no_value: "none failed",
        targets: [
          target(
            topk(
              10,
              rate(
                "dspex_bridge_create_instance_total",
                [:python_class],
                :class,
                ~S(success="false")
              )
            ),
            "new {{python_class}}"
          ),
          target(
            topk(
              10,
              rate("dspex_tools_call_total", [:tool_name], :instance, ~S(success="false"))
            ),
            "tool {{tool_name}}"
          )
        ]
      ]
    ]
  end
end
