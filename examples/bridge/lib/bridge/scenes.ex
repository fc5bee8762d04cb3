defmodule Bridge.Scenes do
  @moduledoc """
  What telemetry is to notice by itself, brought about one after the other by a single caller.

    * errors: another connection locks the database, so `Ledger.post` fails until it is unlocked
    * latency: `Ledger.scan` reads all lines there are, and they become many, then few again
    * a long wait: a worker compresses a lot of text, and somebody else wants the same worker

  How long a thing takes differs between machines, so nothing is done so many times: each goes on
  until `Bridge.Alerts` was told of it, and texts are doubled until they are enough. It all has an
  end: after half a minute a step gives up.

  No other caller is there meanwhile. In a crowd the wait for a worker is most of what a call
  takes, and nothing could be said of the method.
  """

  alias Bridge.{Alerts, Detected, PoolError, PythonError, Tally, WorkerError}
  alias DSPexTelemetry.Options

  @patience 30_000
  # They call at the same time, so that a slice has as many calls as it takes to be judged, however
  # long each of them is.
  @readers 4
  # Milliseconds between two calls that are there to be measured.
  @pause 10
  @most_texts 1_024
  @most_texts_in_archive 256

  @doc "Plays the scenes over the texts, as long as `continue?.()` is true."
  @spec run([String.t()], (() -> boolean())) :: :ok
  def run(texts, continue?) do
    folder = Path.join(System.tmp_dir!(), "bridge-demo-#{System.pid()}-#{unique()}")
    File.mkdir_p!(folder)

    {:ok, options} = Options.default_instance()

    stage = %{
      texts: texts,
      continue?: continue?,
      path: Path.join(folder, "ledger.db"),
      options: Options.validate!(options)
    }

    with {:ok, ledger} <- create("Ledger", %{path: stage.path}),
         {:ok, other} <- create("Ledger", %{path: stage.path}),
         {:ok, compressor} <- create("Compressor", %{algorithm: "lzma"}),
         {:ok, readers} <- create_readers(stage, @readers) do
      lock(stage, ledger, other)
      slow_down(stage, ledger, readers)
      keep_busy(stage, compressor)
      await_end_of_spike(stage)
    end

    File.rm_rf!(folder)
    Alerts.end_scenes()
  end

  # sqlite3.OperationalError: database is locked
  defp lock(stage, ledger, other) do
    post(ledger, [hd(stage.texts)])
    call(other, "Ledger", "close_books")
    until(stage, &on?(&1, Detected.spiking(), :error_spike), fn -> post(ledger, []) end)
    call(other, "Ledger", "open_books")
    post(ledger, [])
  end

  defp slow_down(stage, ledger, readers) do
    # It takes some slices until there is a usual range; the two more may be the short ones.
    %{slice: slice, anomaly_min_slices: slices} = stage.options
    scan_for(stage, readers, (slices + 3) * slice)

    # What a hiccup of the machine has set off must be over first.
    slow? = &on?(&1, Detected.slow(), :latency_anomaly)
    until(stage, &(not slow?.(&1)), fn -> scan_for(stage, readers, slice) end)
    until(stage, slow?, 1, fn entries -> grow(stage, ledger, readers, entries, slow?) end)

    call(ledger, "Ledger", "strike", [1])
    until(stage, &(not slow?.(&1)), fn -> scan_for(stage, readers, slice) end)
  end

  # As many texts again, and time for a slice to show it.
  defp grow(stage, ledger, readers, entries, slow?) do
    more = min(entries, @most_texts - entries)
    if more > 0, do: post(ledger, stage.texts |> Stream.cycle() |> Enum.take(more))

    over = now() + 2 * stage.options.slice
    within = %{stage | continue?: fn -> stage.continue?.() and now() < over end}
    until(within, slow?, fn -> scan(readers) end)
    entries + more
  end

  # The worker archives more and more text while another caller wants the worker for a small one.
  defp keep_busy(stage, compressor) do
    noticed? = fn told -> Enum.any?(told.staged, &(&1.kind == :queue_wait)) end

    until(stage, noticed?, 16, fn count ->
      texts = stage.texts |> Stream.cycle() |> Enum.take(count)
      archive = Task.async(fn -> call(compressor, "Compressor", "archive", [texts]) end)
      wait_for_turns(stage, compressor, archive)
      min(2 * count, @most_texts_in_archive)
    end)
  end

  # The first turn may come before the archive's; a later one cannot.
  defp wait_for_turns(stage, compressor, archive) do
    call(compressor, "Compressor", "ratio", [hd(stage.texts)])
    unless Task.yield(archive, 0), do: wait_for_turns(stage, compressor, archive)
  end

  defp await_end_of_spike(stage) do
    over? = &(not on?(&1, Detected.spiking(), :error_spike))
    until(stage, over?, fn -> Alerts.await(over?, 100) end)
  end

  defp on?(told, key, begins), do: told.staged |> Alerts.kinds(key) |> List.last() == begins

  # Calls, counted

  defp create(class, args),
    do: Tally.count({:instance, class}, Bridge.create_instance(class, args))

  defp create_readers(_stage, 0), do: {:ok, []}

  defp create_readers(stage, number) do
    with {:ok, reader} <- create("Ledger", %{path: stage.path}),
         {:ok, readers} <- create_readers(stage, number - 1) do
      {:ok, [reader | readers]}
    end
  end

  defp post(ledger, names) do
    outcome =
      try do
        {:ok, Bridge.call_method!(ledger, "post", [names])}
      rescue
        error in [PythonError, WorkerError, PoolError] -> {:error, error}
      end

    Tally.count({:operation, {"post", "Ledger"}}, outcome)
  end

  defp scan_for(stage, readers, milliseconds) do
    over = now() + milliseconds
    within = %{stage | continue?: fn -> stage.continue?.() and now() < over end}
    until(within, fn _told -> false end, fn -> scan(readers) end)
  end

  defp scan(readers) do
    readers
    |> Enum.map(&Task.async(fn -> call(&1, "Ledger", "scan", ["import"]) end))
    |> Task.await_many(:infinity)

    Process.sleep(@pause)
  end

  defp call(ref, class, method, args \\ []) do
    Tally.count({:operation, {method, class}}, Bridge.call_method(ref, method, args))
  end

  # Does the step until the condition holds for what was told, or patience is at its end.

  defp until(stage, condition, step),
    do: until(stage, condition, nil, fn nil -> step.() && nil end)

  defp until(stage, condition, state, step),
    do: until(stage, condition, state, step, now() + @patience)

  defp until(stage, condition, state, step, deadline) do
    if now() < deadline and stage.continue?.() and not condition.(Alerts.told()) do
      until(stage, condition, step.(state), step, deadline)
    else
      :ok
    end
  end

  defp unique, do: System.unique_integer([:positive])
  defp now, do: System.monotonic_time(:millisecond)
end
