defmodule DSPexTelemetry.Dashboard.Layout do
  @moduledoc false
  # Rows and panels on the grid of 24 columns, from left to right and from top to bottom.

  alias DSPexTelemetry.Dashboard.Panel

  @columns 24

  @type row :: %{title: String.t(), collapsed: boolean(), panels: [Panel.t()]}

  @doc "The rows as Grafana reads them, numbered from 1. Those that are collapsed hold their panels."
  @spec render([row()], map()) :: [map()]
  def render(rows, context) do
    {rows, _next} = Enum.map_reduce(rows, {1, 0}, &row(&1, &2, context))
    List.flatten(rows)
  end

  defp row(row, {id, y}, context) do
    {panels, {_x, last_y, height}} = Enum.map_reduce(row.panels, {0, y + 1, 0}, &place/2)

    rendered =
      for {{panel, position}, panel_id} <- Enum.with_index(panels, id + 1) do
        Panel.render(panel, panel_id, position, context)
      end

    next_id = id + 1 + length(panels)
    header = fn inside -> header(row, id, y, inside) end

    # What follows a collapsed row stands right below it.
    if row.collapsed,
      do: {[header.(rendered)], {next_id, y + 1}},
      else: {[header.([]) | rendered], {next_id, last_y + height}}
  end

  defp header(row, id, y, panels) do
    %{
      id: id,
      type: "row",
      title: row.title,
      collapsed: row.collapsed,
      gridPos: %{x: 0, y: y, w: @columns, h: 1},
      panels: panels
    }
  end

  defp place(%Panel{size: {width, height}} = panel, {x, y, line_height}) do
    {x, y, line_height} =
      if x + width > @columns, do: {0, y + line_height, 0}, else: {x, y, line_height}

    {{panel, %{x: x, y: y, w: width, h: height}}, {x + width, y, max(line_height, height)}}
  end
end
