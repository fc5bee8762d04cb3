defmodule DSPexTelemetry.Dashboard.Panel do
  @moduledoc false
  # A panel: what the tables in `dashboard/rows` say of it, and what Grafana wants to read.

  alias DSPexTelemetry.Dashboard.{FieldConfig, Query, Visualization}

  @enforce_keys [:type, :title, :description, :size, :targets]
  defstruct @enforce_keys ++
              [
                unit: "short",
                decimals: nil,
                min: nil,
                max: nil,
                no_value: "no data",
                thresholds: [{nil, "green"}],
                threshold_lines: false,
                color: nil,
                legend: :list,
                style: :line,
                graph: true,
                show: :value,
                mappings: [],
                overrides: [],
                columns: [],
                sort_by: nil,
                runbook: nil
              ]

  @typedoc """
  A panel.

    * `:size` - width, of the 24 columns of a dashboard, and height
    * `:unit` - an id of Grafana's units
    * `:no_value` - what stands there while there is no data
    * `:thresholds` - values from which on a colour holds; the first has none
    * `:threshold_lines` - whether they are drawn into a graph
    * `:legend` - `:list`, `:table` with mean and maximum, or `:none`
    * `:style` - `:line`, `:stacked`, or `:steps` for counts
    * `:graph` - whether a stat has a line behind its number
    * `:show` - what a stat shows: `:value`, or `:value_and_name` of each series
    * `:columns` - of a table: field, heading and properties
    * `:runbook` - the heading of a table's column whose cells link to a section of the runbooks, and that section;
      there is no link where the address of the runbooks is not known
  """
  @type t :: %__MODULE__{
          type: :stat | :timeseries | :heatmap | :bargauge | :table | :"state-timeline",
          title: String.t(),
          description: String.t(),
          size: {1..24, pos_integer()},
          targets: [target()],
          unit: String.t(),
          decimals: non_neg_integer() | nil,
          min: number() | nil,
          max: number() | nil,
          no_value: String.t(),
          thresholds: [{number() | nil, String.t()}],
          threshold_lines: boolean(),
          color: String.t() | nil,
          legend: :list | :table | :none,
          style: :line | :stacked | :steps,
          graph: boolean(),
          show: :value | :value_and_name,
          mappings: [{integer(), String.t(), String.t()}],
          overrides: [{String.t() | Regex.t(), keyword()}],
          columns: [{String.t(), String.t(), keyword()}],
          sort_by: String.t() | nil,
          runbook: {String.t(), String.t()} | nil
        }

  @typedoc """
  A query and the legend of its series.

    * `:kind` - `:range`, `:instant`, `:heatmap` (buckets over time), or `:table` (instant)
    * `:exemplars` - whether exemplars are drawn
    * `:conditional` - what has to have happened before there is data, or `nil` if a bridge in use
      has it
  """
  @type target :: %{
          expr: Query.t(),
          legend: String.t(),
          kind: :range | :instant | :heatmap | :table,
          exemplars: boolean(),
          conditional: String.t() | nil
        }

  @doc "A query; options are those of `t:target/0`."
  @spec target(Query.t(), String.t(), keyword()) :: target()
  def target(expr, legend, options \\ []) do
    Map.merge(
      %{expr: expr, legend: legend, kind: :range, exemplars: false, conditional: nil},
      Map.new(options)
    )
  end

  @doc "The panel's targets with their references, from A on."
  @spec referenced(t()) :: [{String.t(), target()}]
  def referenced(%__MODULE__{targets: targets}),
    do: Enum.zip(Enum.map(?A..?Z, &<<&1>>), targets)

  @doc "The panel as Grafana reads it."
  @spec render(t(), pos_integer(), map(), map()) :: map()
  def render(panel, id, grid_position, context) do
    Map.merge(
      %{
        id: id,
        type: panel.type,
        title: panel.title,
        description: panel.description,
        datasource: context.datasource,
        gridPos: grid_position,
        targets: for({ref, target} <- referenced(panel), do: query(ref, target, context)),
        fieldConfig: FieldConfig.render(panel, context.runbooks),
        options: Visualization.options(panel)
      },
      transformations(panel)
    )
  end

  defp query(ref, target, context) do
    %{
      refId: ref,
      datasource: context.datasource,
      editorMode: "code",
      expr: Query.to_text(target.expr, context),
      legendFormat: target.legend,
      format: format(target.kind),
      range: target.kind in [:range, :heatmap],
      instant: target.kind in [:instant, :table],
      exemplar: target.exemplars
    }
  end

  defp format(:table), do: "table"
  defp format(:heatmap), do: "heatmap"
  defp format(_series), do: "time_series"

  # The results of a table's queries become one row for each set of labels.
  defp transformations(%{columns: []}), do: %{}

  defp transformations(%{columns: columns}) do
    names = Enum.map(columns, fn {field, _heading, _properties} -> field end)

    %{
      transformations: [
        %{id: "merge", options: %{}},
        %{
          id: "organize",
          options: %{
            excludeByName: %{"Time" => true},
            indexByName: names |> Enum.with_index() |> Map.new(),
            renameByName: Map.new(columns, fn {field, heading, _} -> {field, heading} end)
          }
        }
      ]
    }
  end
end
