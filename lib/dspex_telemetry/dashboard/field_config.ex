defmodule DSPexTelemetry.Dashboard.FieldConfig do
  @moduledoc false
  # How a panel shows its values: unit, colours, thresholds, and what differs for some series.

  @doc "The `fieldConfig` of a panel, with links to the runbooks if they have an address."
  @spec render(DSPexTelemetry.Dashboard.Panel.t(), String.t() | nil) :: map()
  def render(panel, runbooks) do
    defaults =
      Map.merge(
        %{
          unit: panel.unit,
          noValue: panel.no_value,
          color: %{mode: color_mode(panel)},
          thresholds: %{mode: "absolute", steps: Enum.map(panel.thresholds, &step/1)},
          mappings: mappings(panel.mappings),
          custom: custom(panel)
        },
        for(
          {key, value} <- [decimals: panel.decimals, min: panel.min, max: panel.max],
          value != nil,
          into: %{}
        ) do
          {key, value}
        end
      )

    %{
      defaults: defaults,
      overrides:
        overflow(panel) ++
          Enum.map(panel.overrides, fn {matcher, properties} -> override(matcher, properties) end) ++
          for(
            {_field, heading, [_ | _] = properties} <- panel.columns,
            do: override(heading, properties)
          ) ++ links(panel.runbook, runbooks)
    }
  end

  defp links({heading, section}, runbooks) when is_binary(runbooks) do
    link = %{title: "Runbook", url: "#{runbooks}##{section}", targetBlank: true}
    [override(heading, links: [link])]
  end

  defp links(_runbook, _unknown), do: []

  @doc "The name of the series whose labels are not known, because there were too many label sets."
  @spec overflow_name() :: String.t()
  def overflow_name, do: "(overflow)"

  @doc "The mappings of a table's column of classes or methods, which are empty in the overflow series."
  @spec overflow_mappings() :: [map()]
  def overflow_mappings,
    do: [%{type: "special", options: %{match: "empty", result: %{text: overflow_name()}}}]

  # The overflow series has neither class nor method, which leaves the point between them.
  defp overflow(panel) do
    if Enum.any?(panel.targets, &(&1.legend == "{{python_class}}.{{method}}")),
      do: [override(".", displayName: overflow_name())],
      else: []
  end

  defp color_mode(%{color: nil, type: type}) when type in [:stat, :table, :"state-timeline"],
    do: "thresholds"

  defp color_mode(%{color: nil, type: :bargauge}), do: "continuous-blues"
  defp color_mode(%{color: nil}), do: "palette-classic"
  defp color_mode(%{color: mode}), do: mode

  defp step({value, color}), do: %{value: value, color: color}

  defp mappings([]), do: []

  defp mappings(mappings) do
    options =
      for {{value, text, color}, index} <- Enum.with_index(mappings), into: %{} do
        {to_string(value), %{text: text, color: color, index: index}}
      end

    [%{type: "value", options: options}]
  end

  defp custom(%{type: :timeseries} = panel) do
    Map.merge(
      %{
        drawStyle: "line",
        lineInterpolation: "linear",
        lineWidth: 1,
        fillOpacity: 10,
        gradientMode: "none",
        showPoints: "auto",
        pointSize: 4,
        spanNulls: false,
        axisPlacement: "auto",
        stacking: %{mode: "none", group: "A"},
        thresholdsStyle: %{mode: if(panel.threshold_lines, do: "dashed", else: "off")}
      },
      style(panel.style)
    )
  end

  defp custom(%{type: :"state-timeline"}), do: %{fillOpacity: 80, lineWidth: 0}
  defp custom(%{type: :table}), do: %{align: "auto", inspect: false, filterable: true}
  defp custom(_panel), do: %{}

  defp style(:line), do: %{}
  defp style(:stacked), do: %{fillOpacity: 30, stacking: %{mode: "normal", group: "A"}}
  defp style(:steps), do: %{lineInterpolation: "stepAfter", fillOpacity: 25}

  defp override(%Regex{} = name, properties),
    do: override(%{id: "byRegexp", options: "/#{Regex.source(name)}/"}, properties)

  defp override(name, properties) when is_binary(name),
    do: override(%{id: "byName", options: name}, properties)

  defp override(%{} = matcher, properties) do
    %{
      matcher: matcher,
      properties: for({id, value} <- properties, do: %{id: to_string(id), value: value})
    }
  end
end
