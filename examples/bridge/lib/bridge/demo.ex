defmodule Bridge.Demo do
  @moduledoc """
  A run: starts a pool, plays the scenes that telemetry is to notice, lets callers work for the
  rest of some seconds, and holds what telemetry reports of it against what the demo has counted
  itself.
  """

  alias Bridge.{Alerts, Audit, Detected, Pool, Progress, Scenes, Seen, Session, Signals, Tally}
  alias Bridge.{Usage, Verdict, Workload}
  alias DSPexTelemetry.PerformanceMonitor

  @type option ::
          {:seconds, pos_integer()}
          | {:workers, pos_integer()}
          | {:json, Path.t() | nil}
          | {:seed, integer()}
          | {:hold, (() -> term())}

  # So many callers for each worker, so that some wait.
  @callers_per_worker 2

  @refresh_ms 200

  # Milliseconds that the last summary may take to come.
  @summary_ms 15_000

  @doc """
  Runs the demo and prints the report.

  `:hold` is called then, and the workers live until it returns.

  `{:error, sentences}` says which events and alerts never came and where a report is wrong;
  `{:interrupted, :sigterm}` comes after the report of what was done until then.
  """
  @spec run([option()]) :: :ok | {:interrupted, :sigterm} | {:error, [String.t()]}
  def run(options \\ []) do
    run = %{
      seconds: Keyword.get(options, :seconds, 10),
      workers: Keyword.get(options, :workers, 4),
      seed: Keyword.get(options, :seed, 1),
      json: options[:json],
      hold: Keyword.get(options, :hold, fn -> :ok end),
      before: Audit.facts(DSPexTelemetry.report([])),
      used_before: Usage.facts(Usage.report()),
      stop: :atomics.new(1, []),
      signal: nil
    }

    Usage.declare()
    Seen.attach(events())
    Signals.trap(self())
    {:ok, tally} = Tally.start_link()
    {:ok, alerts} = Alerts.start_link()
    {:ok, bridge} = Bridge.start_link(workers: run.workers, answer: &Tally.answer/1)

    result =
      case Pool.await_ready() do
        :ok -> run |> call_for_a_while() |> conclude(bridge)
        {:error, error} -> {:error, [Exception.message(error)]}
      end

    if Process.alive?(bridge), do: Supervisor.stop(bridge)
    GenServer.stop(alerts)
    GenServer.stop(tally)
    Signals.restore()
    Seen.detach()
    result
  end

  @doc "Ends the sessions, and returns when nothing is under way any more and everything is counted."
  @spec settle() :: :ok
  def settle do
    :ok = Pool.await_ready()
    Session.close_all(:shutdown)
    :ok = Tally.await_sessions()
    await_answers()
  end

  @doc "Writes the report as JSON to a file, unless there is none; a sentence if that fails."
  @spec save_json(Path.t() | nil) :: [String.t()]
  def save_json(nil), do: []

  def save_json(path) do
    case File.write(path, [DSPexTelemetry.report(format: :json), ?\n]) do
      :ok -> []
      {:error, reason} -> ["cannot write #{path}: #{:file.format_error(reason)}"]
    end
  end

  # The calls

  defp call_for_a_while(run) do
    texts = Workload.texts()
    callers = run.workers * @callers_per_worker
    deadline = now() + run.seconds * 1000

    IO.puts(
      "#{run.seconds} s of #{callers} callers on #{run.workers} Python workers, " <>
        "over #{length(texts)} source files of Python's library"
    )

    # Scenes and tour are taken to their end however short the run, or some events would never come.
    go_on? = fn -> :atomics.get(run.stop, 1) == 0 end
    continue? = fn stage -> go_on?.() and (stage == :tour or now() < deadline) end

    run = watch(run, [Task.async(Scenes, :run, [texts, go_on?])], deadline)

    tasks =
      for n <- 1..callers do
        Task.async(Workload, :run, [texts, {run.seed, n, 0}, [tour: n == 1], continue?])
      end

    run = watch(run, tasks, deadline)
    Progress.clear()
    run
  end

  # Until all callers have returned: they finish the operation they are in.
  defp watch(run, tasks, deadline) when is_list(tasks),
    do: watch(run, MapSet.new(tasks, & &1.ref), deadline)

  defp watch(run, callers, deadline) do
    if MapSet.size(callers) == 0 do
      run
    else
      receive do
        {caller, :ok} when is_reference(caller) ->
          Process.demonitor(caller, [:flush])
          watch(run, MapSet.delete(callers, caller), deadline)

        {:signal, signal} ->
          :atomics.put(run.stop, 1, 1)
          watch(%{run | signal: signal}, callers, deadline)
      after
        @refresh_ms ->
          draw(deadline)
          watch(run, callers, deadline)
      end
    end
  end

  defp draw(deadline) do
    {calls, errors} = Tally.calls()
    seconds_left = div(max(0, deadline - now()) + 999, 1000)
    workers = Pool.status().size
    Progress.draw(%{calls: calls, errors: errors, workers: workers, seconds_left: seconds_left})
  end

  # The report

  # Taken when nothing is under way any more and the workers still live.
  defp conclude(run, bridge) do
    settle()
    verdict = Verdict.ask()
    performance = PerformanceMonitor.report(window: :since_start)
    report = DSPexTelemetry.report([])
    usage = Usage.report()
    unsaved = save_json(run.json)
    told = await_summary(run)

    [to_string(report), Detected.section(told), Verdict.section(verdict), Usage.section(usage)]
    |> Enum.intersperse("\n\n")
    |> IO.puts()

    wrong =
      unsaved ++
        disagreements(run, report, Pool.status()) ++
        Verdict.disagreements(verdict, performance) ++
        usage_disagreements(run, usage) ++ missed(run, told)

    # Whoever wants it to end does not want it to go on.
    unless run.signal, do: run.hold.()
    status = Pool.status()
    Supervisor.stop(bridge)
    wrong_after = disagreements(run, DSPexTelemetry.report([]), all_stopped(status))

    case Enum.uniq(wrong ++ wrong_after) do
      [] -> agreed(run)
      sentences -> {:error, sentences}
    end
  end

  # A worker may have died while a tool ran for it; the tool's event is still to come then.
  defp await_answers do
    Enum.each(Task.Supervisor.children(Bridge.UpcallSupervisor), fn pid ->
      monitor = Process.monitor(pid)

      receive do
        {:DOWN, ^monitor, :process, _, _} -> :ok
      end
    end)
  end

  defp disagreements(run, report, status) do
    own = Map.merge(Tally.facts(), Audit.pool_facts(status))
    Audit.disagreements(own, report |> Audit.facts() |> Audit.difference(run.before))
  end

  defp usage_disagreements(run, usage) do
    own = Usage.own_facts(Tally.facts())
    reported = usage |> Usage.facts() |> Audit.difference(run.used_before)

    Audit.disagreements(own, reported) ++
      Usage.never_used_disagreements(usage, Map.merge(run.used_before, own))
  end

  # What the pool would say if it were there to be asked.
  defp all_stopped(%{size: size} = status) do
    %{status | size: 0, died: Map.update(status.died, "shutdown", size, &(&1 + size))}
  end

  # The slow method has been called for the last time; a summary of its last call may be still
  # to come when the run is short.
  defp await_summary(%{signal: nil}) do
    calls = staged_calls()
    Alerts.await(&(Map.get(&1.summaries.calls, Detected.slow()) == calls), @summary_ms)
    Alerts.told()
  end

  defp await_summary(_run), do: Alerts.told()

  defp staged_calls do
    {calls, _errors} = Map.get(Tally.facts(), {:operation, Detected.slow()}, {0, 0})
    calls
  end

  # A run that was cut short need not have come to everything.
  defp missed(%{signal: nil}, told) do
    events = for event <- Seen.missed(events()), do: "#{inspect(event)} never came"
    events ++ Detected.disagreements(told, staged_calls())
  end

  defp missed(_run, _told), do: []

  defp agreed(%{signal: nil}) do
    {calls, errors} = Tally.calls()

    IO.puts(
      "\nAll #{length(events())} events and all staged alerts came, and the reports agree with the " <>
        "demo's own counts: #{calls} calls, #{errors} failed."
    )
  end

  defp agreed(%{signal: signal}), do: {:interrupted, signal}

  # What a bridge emits. Snakepit itself does not run here.
  defp events, do: DSPexTelemetry.events([:dspex]) ++ Alerts.events()

  defp now, do: System.monotonic_time(:millisecond)
end
