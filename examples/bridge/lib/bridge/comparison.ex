defmodule Bridge.Comparison do
  @moduledoc """
  A run that shows what `DSPexTelemetry.PerformanceRouter` and `DSPexTelemetry.AdaptiveCache` are good
  for: the same calls before and after, and the figures of telemetry held against the demo's own.
  """

  alias Bridge.{Alerts, Caching, Pool, Routing, Signals}

  @type option ::
          {:route, boolean()}
          | {:cache, boolean()}
          | {:workers, pos_integer()}
          | {:calls, pos_integer()}
          | {:slow_ms, pos_integer()}
          | {:seed, integer()}

  @callers 6

  @doc """
  Makes the comparisons that are asked for by `:route` and `:cache`, and prints a table of each.

  `{:error, sentences}` says where a report disagrees with the demo's own counts, or that router or cache
  were of no use; `{:interrupted, :sigterm}` comes instead when the run was cut short.
  """
  @spec run([option()]) :: :ok | {:interrupted, :sigterm} | {:error, [String.t()]}
  def run(options) do
    stop = :atomics.new(1, [])
    Signals.trap(self())
    # The spikes of the failing worker belong to the run, and not to the log.
    {:ok, alerts} = Alerts.start_link()
    task = Task.async(fn -> compare(options, fn -> :atomics.get(stop, 1) == 0 end) end)
    result = await(task, stop)
    GenServer.stop(alerts)
    Signals.restore()
    result
  end

  defp await(%{ref: ref} = task, stop) do
    receive do
      {^ref, result} ->
        Process.demonitor(ref, [:flush])
        conclude(result)

      {:DOWN, ^ref, :process, _pid, reason} ->
        exit(reason)

      {:signal, signal} ->
        :atomics.put(stop, 1, 1)
        Task.await(task, :infinity)
        {:interrupted, signal}
    end
  end

  defp conclude({:error, error}), do: {:error, [Exception.message(error)]}

  defp conclude({:ok, []}) do
    IO.puts(
      "\nEach is better than what it replaces, and the reports agree with the demo's own counts."
    )
  end

  defp conclude({:ok, sentences}), do: {:error, sentences}

  defp compare(options, continue?) do
    with {:ok, texts} <- texts() do
      options =
        [
          workers: options[:workers] || 4,
          callers: @callers,
          calls: options[:calls] || 80,
          slow_ms: options[:slow_ms] || 50,
          seed: options[:seed] || 1,
          texts: texts,
          continue?: continue?
        ] ++ Keyword.take(options, [:route, :cache])

      IO.puts("#{@callers} callers on #{options[:workers]} Python workers")

      comparisons =
        for {name, module} <- [route: Routing, cache: Caching], options[name], do: module

      Enum.reduce_while(comparisons, {:ok, []}, &compare(&1, &2, options))
    end
  end

  defp compare(module, {:ok, wrong}, options) do
    case module.run(options) do
      {:ok, figures} ->
        # Of what was cut short nothing can be told.
        if options[:continue?].() do
          IO.puts(["\n", module.section(figures, options)])
          {:cont, {:ok, wrong ++ module.disagreements(figures)}}
        else
          {:halt, {:ok, wrong}}
        end

      {:error, _} = error ->
        {:halt, error}
    end
  end

  # What Python calls its texts.
  defp texts do
    {:ok, bridge} = Bridge.start_link(workers: 1)

    try do
      with :ok <- Pool.await_ready(), {:ok, ref} <- Bridge.create_instance("Corpus") do
        Bridge.call_method(ref, "names")
      end
    after
      if Process.alive?(bridge), do: Supervisor.stop(bridge)
    end
  end
end
