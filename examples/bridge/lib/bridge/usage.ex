defmodule Bridge.Usage do
  @moduledoc """
  Which classes, methods and tools a run has used, as `DSPexTelemetry.UsageAnalytics` counts
  them, and as facts to be held against the demo's own counts by `Bridge.Audit`.
  """

  alias Bridge.{Tally, Tools}
  alias DSPexTelemetry.UsageAnalytics

  # Those of priv/python/worker.py.
  @classes ~w(Advisor Compressor Corpus Differ Ledger Probe Saboteur SqliteIndex Summarizer Tokenizer)

  # More names than there are: all of them.
  @all 1_000
  @most_shown 4

  @doc "The classes that the Python workers have."
  @spec classes() :: [String.t()]
  def classes, do: @classes

  @doc "Tells telemetry which classes and tools there are."
  @spec declare() :: :ok
  def declare do
    :ok = UsageAnalytics.declare_classes(@classes)
    :ok = UsageAnalytics.declare_tools(Tools.names())
  end

  @spec report() :: UsageAnalytics.report()
  def report, do: UsageAnalytics.get_usage_report(top: @all)

  @doc "The counts of a usage report. A name that was only declared has none."
  @spec facts(UsageAnalytics.report()) :: Tally.facts()
  def facts(report) do
    for {kind, uses} <- [
          used_class: report.classes,
          used_method: report.methods,
          used_tool: report.tools
        ],
        %{name: name, count: count} when count > 0 <- uses.most_used,
        into: %{},
        do: {{kind, name}, {count, 0}}
  end

  @doc "The same of the demo's own counts. A use is one also if it failed."
  @spec own_facts(Tally.facts()) :: Tally.facts()
  def own_facts(facts) do
    for {key, {count, _errors}} <- facts, used = used(key), into: %{}, do: {used, {count, 0}}
  end

  defp used({:instance, class}), do: {:used_class, class}
  defp used({:operation, {method, class}}), do: {:used_method, "#{class}.#{method}"}
  defp used({:tool, name}), do: {:used_tool, name}
  defp used(_other), do: nil

  @doc """
  A sentence if what the report calls never used is not what was declared without a use, by the
  facts of all uses so far.
  """
  @spec never_used_disagreements(UsageAnalytics.report(), Tally.facts()) :: [String.t()]
  def never_used_disagreements(report, used) do
    for {what, kind, declared, uses} <- [
          {"classes", :used_class, @classes, report.classes},
          {"tools", :used_tool, Tools.names(), report.tools}
        ],
        unused = Enum.reject(declared, &is_map_key(used, {kind, &1})),
        Enum.sort(unused) != Enum.sort(uses.never_used) do
      "#{what} never used are #{list(unused)} by the demo's counts, and #{list(uses.never_used)} " <>
        "by the report"
    end
  end

  @doc "The section."
  @spec section(UsageAnalytics.report()) :: String.t()
  def section(report) do
    """
    Most used
      classes  #{uses(report.classes)}
      methods  #{uses(report.methods)}
      tools    #{uses(report.tools)}\
    """
  end

  defp uses(kind) do
    used = for %{count: count} = use when count > 0 <- kind.most_used, do: use
    shown = used |> Enum.take(@most_shown) |> Enum.map_join(", ", &"#{&1.name} #{&1.count}")
    more = length(used) - @most_shown
    more = if more > 0, do: " and #{more} more", else: ""
    never = if kind.never_used == [], do: "", else: "; never #{list(kind.never_used)}"
    if used == [], do: "none#{never}", else: shown <> more <> never
  end

  defp list([]), do: "none"
  defp list(names), do: Enum.join(names, ", ")
end
