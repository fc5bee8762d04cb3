defmodule DSPexTelemetry.Dashboard.Rows.Sessions do
  @moduledoc false
  # Sessions and their variables.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.Panel

  @lifetime "dspex_session_lifetime_seconds"
  @operations "dspex_session_operations"
  @reads "dspex_session_variable_get_total"
  @released "snakebridge_session_cleanup_total"
  @not_released "snakebridge_session_cleanup_error_total"

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row, do: %{title: "Sessions", collapsed: true, panels: Enum.map(panels(), &graph/1)}

  defp graph(panel),
    do:
      struct!(
        Panel,
        Keyword.merge(
          [type: :timeseries, size: {8, 8}, min: 0, no_value: "no sessions"],
          panel
        )
      )

  # Only SnakeBridge tells of these.
  defp released(metric) do
    target(
      events(metric, [:source, :reason], :instance, "$__rate_interval"),
      "{{source}}: {{reason}}",
      conditional: "SnakeBridge has released a session"
    )
  end

  defp panels do
    [
      [
        title: "Sessions created and expired",
        description: "Counted over each step of the graph; expired ones by reason.",
        unit: "short",
        style: :steps,
        targets: [
          target(
            events("dspex_session_created_total", [], :instance, "$__rate_interval"),
            "created"
          ),
          target(
            events("dspex_session_expired_total", [:reason], :instance, "$__rate_interval"),
            "expired ({{reason}})"
          )
        ]
      ],
      [
        title: "Session lifetime",
        description: "How long sessions had lived when they expired.",
        unit: "s",
        targets: [
          target(quantile(0.5, @lifetime, [], :instance), "p50"),
          target(quantile(0.95, @lifetime, [], :instance), "p95")
        ]
      ],
      [
        title: "Session lifetime p50 by reason",
        description: "A timeout that comes early, or a close that comes late, shows here.",
        unit: "s",
        targets: [target(quantile(0.5, @lifetime, [:reason], :instance), "{{reason}}")]
      ],
      [
        title: "Operations per session",
        description: "How many operations sessions had made when they expired.",
        unit: "short",
        targets: [
          target(quantile(0.5, @operations, [], :instance), "p50"),
          target(quantile(0.95, @operations, [], :instance), "p95")
        ]
      ],
      [
        title: "Variables set and read",
        description: "Per second; set by type of the value, read by whether there was one.",
        unit: "ops",
        no_value: "no variables",
        targets: [
          target(
            rate("dspex_session_variable_set_total", [:var_type], :instance),
            "set ({{var_type}})"
          ),
          target(rate(@reads, [:found], :instance), "read (found: {{found}})")
        ]
      ],
      [
        title: "Variables found",
        description: "Reads that found a value, as a part of all reads.",
        unit: "percentunit",
        max: 1,
        no_value: "none read",
        targets: [
          target(
            share(@reads, [], :instance, ~S(found="true")),
            "found"
          )
        ]
      ],
      [
        title: "Variable size p95",
        description: "Size of the values that were set and read.",
        size: {12, 8},
        unit: "bytes",
        no_value: "no variables",
        targets: [
          target(quantile(0.95, "dspex_session_variable_size_bytes", [:op], :instance), "{{op}}")
        ]
      ],
      [
        type: :bargauge,
        title: "Most used variables",
        description: "Set or read within the time range.",
        size: {12, 8},
        unit: "short",
        decimals: 0,
        no_value: "no variables",
        targets: [
          target(
            topk(
              10,
              events("dspex_session_variable_use_total", [:var_name], :instance, "$__range")
            ),
            "{{var_name}}",
            kind: :instant
          )
        ]
      ],
      [
        title: "Sessions released by SnakeBridge",
        description:
          "Counted over each step of the graph, by what released them and why. `owner_down` is the end of the process " <>
            "that owned the session, with its reason.",
        size: {12, 8},
        unit: "none",
        no_value: "none released",
        style: :steps,
        targets: [released(@released)]
      ],
      [
        title: "Sessions that Python did not release",
        description:
          "SnakeBridge failed to release them, by reason, counted over each step of the graph. Python may keep what they " <>
            "hold.",
        size: {12, 8},
        unit: "none",
        no_value: "none failed",
        style: :steps,
        targets: [released(@not_released)]
      ]
    ]
  end
end
