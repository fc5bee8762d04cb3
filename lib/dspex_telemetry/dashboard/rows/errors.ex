defmodule DSPexTelemetry.Dashboard.Rows.Errors do
  @moduledoc false
  # What fails, and which alerts it set off.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.{Alerts, Panel}

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row do
    %{
      title: "Errors and alerts",
      collapsed: true,
      panels: [timeline() | Enum.map(panels(), &graph/1)]
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

  defp panels do
    [
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
      ],
      [
        title: "Failed calls by reason",
        description:
          "Failed calls of all methods per second, by kind and reason. `unsuccessful` are calls that returned and " <>
            "reported no success.",
        unit: "ops",
        no_value: "no errors",
        legend: :table,
        targets: [
          target(
            topk(10, rate("dspex_bridge_error_total", [:kind, :reason], :instance)),
            "{{kind}}: {{reason}}"
          )
        ]
      ],
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
