defmodule DSPexTelemetry.Reporter.TakesOverTest do
  # In a VM of its own, as other tests use the default instance of this one.
  use ExUnit.Case, async: true

  test "one line switches: an instance without a name takes the place of the default one" do
    script = ~S"""
    {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
    Logger.configure(level: :error)
    before = DSPexTelemetry.info().series |> hd()
    metrics = [Telemetry.Metrics.counter("a.b.count", tags: [:t])]
    {:ok, supervisor} = Supervisor.start_link([{DSPexTelemetry, metrics: metrics}], strategy: :one_for_one)
    :telemetry.execute([:a, :b], %{}, %{t: 1})
    after_it = DSPexTelemetry.info().series |> hd()
    IO.inspect({before.limit, after_it.limit, DSPexTelemetry.scrape() =~ ~s(a_b_count{t="1"} 1\n)})
    # And it is the only one from now on.
    {:error, {:already_started, _pid}} = DSPexTelemetry.start_link(name: DSPexTelemetry)
    :ok = Supervisor.stop(supervisor)
    IO.inspect(:telemetry.list_handlers([]))
    """

    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])
    config = ["--erl", "-dspex_telemetry series_limit 77"]

    {output, status} =
      System.cmd("elixir", config ++ paths ++ ["-e", script], stderr_to_stdout: true)

    assert {status, output} == {0, "{77, 77, true}\n[]\n"}
  end
end
