defmodule DSPexTelemetry.Dashboard.Visualization do
  @moduledoc false
  # The `options` of a panel, which are those of its type.

  alias DSPexTelemetry.Dashboard.Panel

  # One number of a series: the last one that there is.
  @last %{calcs: ["lastNotNull"], fields: "", values: false}

  @doc "The `options` of a panel."
  @spec options(Panel.t()) :: map()
  def options(%Panel{type: :stat} = panel) do
    %{
      colorMode: "value",
      graphMode: if(panel.graph, do: "area", else: "none"),
      justifyMode: "auto",
      orientation: "auto",
      percentChangeColorMode: "standard",
      reduceOptions: @last,
      showPercentChange: false,
      textMode: panel.show,
      wideLayout: true
    }
  end

  def options(%Panel{type: :timeseries} = panel),
    do: %{legend: legend(panel.legend), tooltip: %{mode: "multi", sort: "desc"}}

  def options(%Panel{type: :bargauge}) do
    %{
      displayMode: "basic",
      legend: legend(:none),
      maxVizHeight: 300,
      minVizHeight: 16,
      minVizWidth: 8,
      namePlacement: "left",
      orientation: "horizontal",
      reduceOptions: @last,
      showUnfilled: true,
      sizing: "auto",
      valueMode: "color"
    }
  end

  def options(%Panel{type: :table} = panel) do
    %{
      cellHeight: "sm",
      showHeader: true,
      sortBy: [%{displayName: panel.sort_by, desc: true}]
    }
  end

  def options(%Panel{type: :"state-timeline"}) do
    %{
      alignValue: "left",
      legend: legend(:list),
      mergeValues: true,
      rowHeight: 0.8,
      showValue: "never",
      tooltip: %{mode: "single", sort: "none"}
    }
  end

  # Buckets come from Prometheus, so nothing is calculated; empty cells stay blank.
  def options(%Panel{type: :heatmap} = panel) do
    %{
      calculate: false,
      cellGap: 1,
      cellValues: %{unit: "ops"},
      color: %{
        exponent: 0.5,
        fill: "dark-orange",
        mode: "scheme",
        reverse: false,
        scale: "exponential",
        scheme: "Oranges",
        steps: 64
      },
      exemplars: %{color: "rgba(255,0,255,0.7)"},
      filterValues: %{le: 1.0e-9},
      legend: %{show: true},
      rowsFrame: %{layout: "auto"},
      showValue: "never",
      tooltip: %{mode: "single", showColorScale: true, yHistogram: true},
      yAxis: %{axisPlacement: "left", reverse: false, unit: panel.unit}
    }
  end

  defp legend(:none), do: %{legend(:list) | showLegend: false}
  defp legend(:list), do: %{displayMode: "list", placement: "bottom", showLegend: true, calcs: []}

  defp legend(:table) do
    Map.merge(legend(:list), %{
      displayMode: "table",
      calcs: ["mean", "max", "lastNotNull"],
      sortBy: "Max",
      sortDesc: true
    })
  end
end
