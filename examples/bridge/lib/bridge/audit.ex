defmodule Bridge.Audit do
  @moduledoc """
  Holds a report against the demo's own counts.

  Both become facts: a key, and `{count, errors}`. The demo may run in a BEAM whose telemetry
  has counted other things before, so the report is taken as the difference to one from the
  start.
  """

  alias Bridge.Tally
  alias DSPexTelemetry.Report

  @doc "The counts of a report, under the keys of `Bridge.Tally` and `pool_facts/1`."
  @spec facts(Report.t()) :: Tally.facts()
  def facts(%Report{} = report) do
    [
      for(row <- report.operations, do: row({:operation, {row.method, row.python_class}}, row)),
      for(row <- report.instances, do: row({:instance, row.python_class}, row)),
      for(row <- report.tools, do: row({:tool, row.tool_name}, row)),
      plain({:session, :created}, report.sessions.created),
      named(:session_expired, report.sessions.expired),
      named(:variable_set, report.variables.set),
      plain({:variable_get, :found}, report.variables.get_found),
      plain({:variable_get, :missed}, report.variables.get_missed),
      pool(report.pool)
    ]
    |> List.flatten()
    |> Map.new()
  end

  @doc "The counts that the pool keeps of its workers."
  @spec pool_facts(Bridge.Pool.status()) :: Tally.facts()
  def pool_facts(status), do: status |> pool() |> List.flatten() |> Map.new()

  @doc "What has been added between two reports."
  @spec difference(Tally.facts(), Tally.facts()) :: Tally.facts()
  def difference(now, before) do
    Map.new(now, fn {key, {count, errors}} ->
      {count_before, errors_before} = Map.get(before, key, {0, 0})
      {key, {count - count_before, errors - errors_before}}
    end)
  end

  @doc """
  One sentence for every fact on which the two do not agree.

  ## Examples

      iex> Bridge.Audit.disagreements(%{{:tool, "stem"} => {3, 1}}, %{{:tool, "stem"} => {2, 1}})
      ["tool stem: the demo counted 3 (1 failed), the report says 2 (1 failed)"]

      iex> Bridge.Audit.disagreements(%{}, %{{:session, :created} => {0, 0}})
      []
  """
  @spec disagreements(Tally.facts(), Tally.facts()) :: [String.t()]
  def disagreements(own, reported) do
    for key <- Enum.sort(Enum.uniq(Map.keys(own) ++ Map.keys(reported))),
        counted = Map.get(own, key, {0, 0}),
        says = Map.get(reported, key, {0, 0}),
        counted != says do
      "#{name(key)}: the demo counted #{numbers(counted)}, the report says #{numbers(says)}"
    end
  end

  defp row(key, row), do: {key, {row.count, row.errors}}
  defp plain(key, count), do: [{key, {count, 0}}]
  defp named(kind, counts), do: for({name, count} <- counts, do: {{kind, name}, {count, 0}})

  defp pool(counts) do
    [
      plain({:pool, :size}, counts.size),
      plain({:pool, :spawned}, counts.spawned),
      named(:worker_died, counts.died)
    ]
  end

  defp name({:operation, {method, class}}), do: "method #{class}.#{method}"
  defp name({:instance, class}), do: "instances of #{class}"
  defp name({kind, what}), do: "#{kind |> Atom.to_string() |> String.replace("_", " ")} #{what}"

  defp numbers({count, 0}), do: "#{count}"
  defp numbers({count, errors}), do: "#{count} (#{errors} failed)"
end
