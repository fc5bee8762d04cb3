defmodule Bridge.Demo do
  @moduledoc """
  A run: starts a pool, lets callers work on it for some seconds, and holds what telemetry
  reports of it against what the demo has counted itself.
  """

  alias Bridge.{Audit, Pool, Progress, Seen, Session, Signals, Tally, Workload}

  @type option ::
          {:seconds, pos_integer()}
          | {:workers, pos_integer()}
          | {:json, Path.t() | nil}
          | {:seed, integer()}

  # So many callers for each worker, so that some wait.
  @callers_per_worker 2

  @refresh_ms 200

  @doc """
  Runs the demo and prints the report.

  `{:error, sentences}` says which events never came and where the report is wrong;
  `{:interrupted, :sigterm}` comes after the report of what was done until then.
  """
  @spec run([option()]) :: :ok | {:interrupted, :sigterm} | {:error, [String.t()]}
  def run(options \\ []) do
    run = %{
      seconds: Keyword.get(options, :seconds, 10),
      workers: Keyword.get(options, :workers, 4),
      seed: Keyword.get(options, :seed, 1),
      json: options[:json],
      before: Audit.facts(DSPexTelemetry.report([])),
      stop: :atomics.new(1, []),
      signal: nil
    }

    Seen.attach(DSPexTelemetry.events())
    Signals.trap(self())
    {:ok, tally} = Tally.start_link()
    {:ok, bridge} = Bridge.start_link(workers: run.workers, answer: &Tally.answer/1)

    result =
      case Pool.await_ready() do
        :ok -> run |> call_for_a_while() |> conclude(bridge)
        {:error, error} -> {:error, [Exception.message(error)]}
      end

    if Process.alive?(bridge), do: Supervisor.stop(bridge)
    GenServer.stop(tally)
    Signals.restore()
    Seen.detach()
    result
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

    # The tour is taken to its end however short the run, or some events would never come.
    continue? = fn stage ->
      :atomics.get(run.stop, 1) == 0 and (stage == :tour or now() < deadline)
    end

    tasks =
      for n <- 1..callers do
        Task.async(Workload, :run, [texts, {run.seed, n, 0}, [tour: n == 1], continue?])
      end

    run = watch(run, MapSet.new(tasks, & &1.ref), deadline)
    Progress.clear()
    run
  end

  # Until all callers have returned: they finish the operation they are in.
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
    :ok = Pool.await_ready()
    Session.close_all(:shutdown)
    :ok = Tally.await_sessions()
    await_answers()

    report = DSPexTelemetry.report([])
    IO.puts(to_string(report))
    unsaved = save_json(run.json)

    status = Pool.status()
    wrong = disagreements(run, report, status)
    Supervisor.stop(bridge)
    wrong_after = disagreements(run, DSPexTelemetry.report([]), all_stopped(status))

    case unsaved ++ Enum.uniq(wrong ++ wrong_after) ++ missed(run) do
      [] -> agreed(run)
      sentences -> {:error, sentences}
    end
  end

  # A worker may have died while a tool ran for it; the tool's event is still to come then.
  defp await_answers do
    for pid <- Task.Supervisor.children(Bridge.UpcallSupervisor) do
      monitor = Process.monitor(pid)

      receive do
        {:DOWN, ^monitor, :process, _, _} -> :ok
      end
    end
  end

  defp save_json(nil), do: []

  defp save_json(path) do
    case File.write(path, [DSPexTelemetry.report(format: :json), ?\n]) do
      :ok -> []
      {:error, reason} -> ["cannot write #{path}: #{:file.format_error(reason)}"]
    end
  end

  defp disagreements(run, report, status) do
    own = Map.merge(Tally.facts(), Audit.pool_facts(status))
    Audit.disagreements(own, report |> Audit.facts() |> Audit.difference(run.before))
  end

  # What the pool would say if it were there to be asked.
  defp all_stopped(%{size: size} = status) do
    %{status | size: 0, died: Map.update(status.died, "shutdown", size, &(&1 + size))}
  end

  # A run that was cut short need not have come to everything.
  defp missed(%{signal: nil}) do
    for event <- Seen.missed(DSPexTelemetry.events()), do: "#{inspect(event)} never came"
  end

  defp missed(_run), do: []

  defp agreed(%{signal: nil}) do
    {calls, errors} = Tally.calls()
    events = length(DSPexTelemetry.events())

    IO.puts(
      "All #{events} events came, and the report agrees with the demo's own counts: " <>
        "#{calls} calls, #{errors} of them failed."
    )
  end

  defp agreed(%{signal: signal}), do: {:interrupted, signal}

  defp now, do: System.monotonic_time(:millisecond)
end
