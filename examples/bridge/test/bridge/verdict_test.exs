defmodule Bridge.VerdictTest do
  use Bridge.Case

  alias Bridge.{Tally, Verdict}
  alias DSPexTelemetry.PerformanceMonitor

  setup do
    start_bridge(workers: 1)
    {:ok, ref} = Bridge.create_instance("Probe")
    for n <- 1..3, do: Bridge.call_method(ref, "echo", [n])
    %{probe: ref}
  end

  defp ask do
    {:ok, advisor} = Bridge.create_instance("Advisor")
    Bridge.call_method(advisor, "verdict", [0])
  end

  defp rows, do: PerformanceMonitor.report(window: :since_start)

  defp change_probe(rows, fun) do
    Enum.map(
      rows,
      &if(match?(%{method: "echo", python_class: "Probe"}, &1), do: fun.(&1), else: &1)
    )
  end

  test "Python's numbers are those of Elixir, however often it asks", %{probe: probe} do
    {:error, _} = Bridge.call_method(probe, "nan")

    for _ <- 1..2 do
      answer = ask()
      assert Verdict.disagreements(answer, rows()) == []
    end
  end

  test "asking is counted as a creation, a call and a tool" do
    {:ok, _} = Tally.start_link()
    assert {:ok, %{"verdict" => _}} = Verdict.ask()

    assert %{
             {:instance, "Advisor"} => {1, 0},
             {:operation, {"verdict", "Advisor"}} => {1, 0}
           } = Tally.facts()
  end

  test "every number that differs is a sentence" do
    answer = ask()
    row = Enum.find(rows(), &(&1.method == "echo"))

    for number <- [:count, :errors, :p95_us, :max_us, :total_us] do
      changed = change_probe(rows(), &Map.update!(&1, number, fn value -> value + 1 end))
      before = Map.fetch!(row, number)

      assert Verdict.disagreements(answer, changed) == [
               "Python says #{number} of Probe.echo is #{before}, the report says #{before + 1}"
             ]
    end
  end

  test "a method that one of the two does not know is told" do
    answer = ask()
    others = Enum.reject(rows(), &(&1.method == "echo"))
    assert [_ | _] = sentences = Verdict.disagreements(answer, others)
    assert Enum.all?(sentences, &(&1 =~ ~r/of Probe.echo is .*, the report says missing/))
  end

  test "a rate that does not follow from its interval is told" do
    {:ok, answer} = ask()
    answer = put_in(answer["interval"]["duration_ms"], answer["interval"]["duration_ms"] * 2)
    sentences = Verdict.disagreements({:ok, answer}, rows())
    assert Enum.any?(sentences, &(&1 =~ "calls per second of Probe.echo"))
  end

  test "Python may ask for one method, and is told when it asks for nonsense" do
    {:ok, advisor} = Bridge.create_instance("Advisor")

    assert {:ok, %{"methods" => [%{"method" => "echo"}], "verdict" => verdict}} =
             Bridge.call_method(advisor, "verdict", [60, "echo", "Probe"])

    assert verdict =~ ~r/^Probe.echo p95 [\d.]+ ms \(\d+ calls\)$/

    assert {:error, %PythonError{type: "host.ToolError", message: message}} =
             Bridge.call_method(advisor, "verdict", [-1])

    assert message == "window must be an integer from 0 to 604800, got: -1"
  end

  test "an answer that could not be had is a sentence" do
    error = %PoolError{reason: :stopped}
    assert ["Python could not ask: " <> _] = Verdict.disagreements({:error, error}, [])
    assert Verdict.section({:error, error}) =~ "none: "
  end
end
