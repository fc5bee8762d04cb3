defmodule DSPexTelemetry.Reporter.TakesOverTest do
  # In VMs of their own, as other tests use the default instance of this one.
  use ExUnit.Case, async: true

  test "one line switches: an instance without a name takes the place of the default one" do
    script = ~S"""
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

    assert run("series_limit 77", script) == "{77, 77, true}\n[]\n"
  end

  test "it has the options of the environment when its supervisor starts it again, too" do
    script = ~S"""
    {:ok, supervisor} = Supervisor.start_link([{DSPexTelemetry, slice: 2_000}], strategy: :one_for_one)
    [{id, pid, _type, _modules}] = Supervisor.which_children(supervisor)
    :ok = Supervisor.terminate_child(supervisor, id)
    {:ok, again} = Supervisor.restart_child(supervisor, id)
    IO.inspect({again != pid, hd(DSPexTelemetry.info().series).limit})
    """

    assert run("series_limit 77", script) == "{true, 77}\n"
  end

  test "options that the environment makes wrong raise before the default one is ended" do
    script = ~S"""
    before = DSPexTelemetry.Instance.Lookup.fetch!(DSPexTelemetry)
    try do
      DSPexTelemetry.start_link(slice: 60_000)
    rescue
      error in ArgumentError -> IO.puts(error.message)
    end
    IO.inspect(DSPexTelemetry.Instance.Lookup.fetch!(DSPexTelemetry) == before)
    """

    assert run("history 59999 -dspex_telemetry summary_interval infinity", script) ==
             "option :history must be at least option :slice, which is 60000, got: 59999\ntrue\n"
  end

  test "of several at once one gets the name, and the others are told who" do
    script = ~S"""
    test = self()
    for _ <- 1..6 do
      spawn(fn ->
        Process.flag(:trap_exit, true)
        send(test, {:started, try do DSPexTelemetry.start_link() rescue error -> error end})
        Process.sleep(:infinity)
      end)
    end
    results = for _ <- 1..6, do: (receive do {:started, result} -> result end)
    {[ok: pid], others} = Enum.split_with(results, &match?({:ok, _pid}, &1))
    IO.inspect(Enum.uniq(others) == [error: {:already_started, pid}])
    """

    for _ <- 1..3, do: assert(run("series_limit 77", script) == "true\n")
  end

  test "the application's supervisor finds the name taken as anybody does" do
    script = ~S"""
    {:ok, pid} = DSPexTelemetry.start_link()
    Application.put_env(:dspex_telemetry, :start_default, true)
    {:error, reason} = Supervisor.start_child(DSPexTelemetry.Supervisor, {DSPexTelemetry, []})
    # Some versions of OTP add the child's specification.
    IO.inspect(match?({:already_started, ^pid}, reason) or match?({{:already_started, ^pid}, _child}, reason))
    """

    assert run("start_default false", script) == "true\n"
  end

  # What the script prints in a VM where the application runs with this environment.
  defp run(environment, script) do
    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])
    config = ["--erl", "-dspex_telemetry #{environment}"]

    start =
      "{:ok, _} = Application.ensure_all_started(:dspex_telemetry); Logger.configure(level: :error)\n"

    {output, status} =
      System.cmd("elixir", config ++ paths ++ ["-e", start <> script], stderr_to_stdout: true)

    assert {status, output} == {0, output}
    output
  end
end
