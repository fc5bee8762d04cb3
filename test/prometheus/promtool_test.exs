defmodule DSPexTelemetry.Prometheus.PromtoolTest do
  # The rules as Prometheus itself understands them: `promtool`, of Debian's package `prometheus`.
  use ExUnit.Case, async: true

  alias DSPexTelemetry.PrometheusRules

  @moduletag :servers
  @moduletag :tmp_dir
  # Three days of evaluations every two minutes take their time.
  @moduletag timeout: 600_000

  @rules Path.wildcard("priv/prometheus/*.yml")
  @tests Path.wildcard("test/prometheus/*.yml")

  defp promtool(arguments), do: System.cmd("promtool", arguments, stderr_to_stdout: true)

  for path <- @rules do
    test "#{path} is valid, and our reading of it misses no rule" do
      {output, status} = promtool(["check", "rules", unquote(path)])
      assert status == 0, output
      rules = length(PrometheusRules.read!(unquote(path)))
      assert rules > 0
      assert output =~ "SUCCESS: #{rules} rules found"
    end
  end

  for path <- @tests do
    test "#{path} holds" do
      {output, status} = promtool(["test", "rules", unquote(path)])
      assert status == 0, output
      assert output =~ "SUCCESS"
    end
  end

  test "the queries in docs/runbooks.md are valid", %{tmp_dir: folder} do
    queries =
      for [_all, block] <-
            Regex.scan(~r/^```promql\n(.*?)^```$/ms, File.read!("docs/runbooks.md")),
          query <- String.split(block, "\n", trim: true),
          do: query

    rules = for {query, n} <- Enum.with_index(queries), do: rule("query:runbook:#{n}", query)
    path = Path.join(folder, "queries.yml")
    File.write!(path, ["groups:\n  - name: queries\n    rules:\n" | rules])

    {output, status} = promtool(["check", "rules", path])
    assert status == 0, output
    assert output =~ "SUCCESS: #{length(queries)} rules found"
  end

  test "a broken rule is found", %{tmp_dir: folder} do
    path = Path.join(folder, "broken.yml")
    File.write!(path, ["groups:\n  - name: queries\n    rules:\n", rule("a:b:c", "rate(up[5m]")])
    {output, status} = promtool(["check", "rules", path])
    assert status != 0
    assert output =~ "could not parse expression"
  end

  defp rule(name, expr), do: "      - record: #{name}\n        expr: |-\n          #{expr}\n"
end
