defmodule DSPexTelemetry.Cluster.Report do
  @moduledoc """
  What the instances of several nodes have recorded: the fields of `DSPexTelemetry.Report`, over all nodes,
  and `:nodes`, which `DSPexTelemetry.Cluster` describes.

  It prints as a table, the nodes last.
  """

  import DSPexTelemetry.Report.Columns

  alias DSPexTelemetry.{Cluster, Report}

  @fields Report.__struct__() |> Map.from_struct() |> Map.keys()
  @enforce_keys [:nodes | @fields]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          interval: DSPexTelemetry.Window.interval(),
          operations: [Report.row()],
          instances: [Report.row()],
          tools: [Report.row()],
          sessions: map(),
          variables: map(),
          pool: map(),
          nodes: [Cluster.member()]
        }

  @width 120
  @name_width 50
  @state_width 20
  @number_width 9

  @doc false
  @spec render(t()) :: String.t()
  def render(%__MODULE__{} = report) do
    table = struct!(Report, Map.take(Map.from_struct(report), @fields))
    head = line("node", "state", ["calls", "errors", "series"])
    names = distinct(for(%{node: node} <- report.nodes, do: {node, name(node)}), @name_width)
    nodes = Enum.flat_map(report.nodes, &node_lines(&1, names[&1.node]))
    Enum.join([to_string(table), "", "Nodes", head | nodes], "\n")
  end

  defp name(node), do: node |> Atom.to_string() |> printable()

  defp node_lines(member, name) do
    numbers = Enum.map([member.calls, member.errors, member.series], &Integer.to_string/1)
    line = line(name, Atom.to_string(member.state), numbers)
    reason = if member.reason, do: [fit("    " <> printable(member.reason), @width)], else: []
    [line | reason]
  end

  defp line(name, state, numbers) do
    cells = [left(name, @name_width), left(state, @state_width)]
    "  " <> Enum.join(cells ++ Enum.map(numbers, &right(&1, @number_width)), " ")
  end

  defimpl String.Chars do
    def to_string(report), do: DSPexTelemetry.Cluster.Report.render(report)
  end

  defimpl Inspect do
    def inspect(report, _options), do: DSPexTelemetry.Cluster.Report.render(report)
  end
end
