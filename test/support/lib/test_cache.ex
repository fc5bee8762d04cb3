defmodule DSPexTelemetry.TestCache do
  @moduledoc "Caches of one test, and callers that wait."

  import DSPexTelemetry.TestInstance, only: [await: 2]

  alias DSPexTelemetry.{AdaptiveCache, TestInstance}

  # Results live for days, so that no test depends on how fast it runs.
  @eager [min_calls: 0, min_hit_rate: 0, calls_for_ttl: 1, ttl: 86_400_000]

  @doc """
  Starts an instance that may cache `embed`, and keeps results from the second call of a key on.
  Options are those of the cache.
  """
  def start!(options \\ []) do
    options = Keyword.merge([cacheable: ["embed"]] ++ @eager, options)
    TestInstance.start!(cache: options)
  end

  @doc "The same, where a result is kept at once: some repeated call has shown that it is worth it."
  def start_warm!(options \\ []) do
    instance = start!(options)
    for _ <- 1..10, do: put(instance, :warm, :warm)
    instance
  end

  @doc "Has a result kept, or says why it is not."
  def put(instance, args, result, metadata \\ %{}) do
    metadata = Map.put(metadata, :instance, instance)
    AdaptiveCache.maybe_cache("embed", args, result, metadata)
  end

  def get(instance, args, options \\ []),
    do: AdaptiveCache.get("embed", args, [instance: instance] ++ options)

  def fetch(instance, args, options \\ [], fun),
    do: AdaptiveCache.fetch("embed", args, [instance: instance] ++ options, fun)

  @doc "A function that tells the test that it runs, and returns what it is told to."
  def held do
    test = self()

    fn ->
      send(test, {:running, self()})

      receive do
        {:return, value} -> value
        {:do, fun} -> fun.()
      end
    end
  end

  @doc "Starts a process that fetches and sends `{:fetched, pid, result}`, also if that raises."
  def spawn_fetch(instance, args, options \\ [], fun) do
    test = self()

    spawn(fn ->
      result =
        try do
          fetch(instance, args, options, fun)
        catch
          kind, reason -> {:caught, kind, reason}
        end

      send(test, {:fetched, self(), result})
    end)
  end

  @doc "Waits until so many callers wait for another's run."
  def await_waiting(instance, count) do
    await("#{count} waiting callers", fn ->
      AdaptiveCache.report(instance: instance).waiting == count
    end)
  end

  @doc "The report of the method of the tests."
  def row(instance) do
    report = AdaptiveCache.report(instance: instance)
    Enum.find(report.methods, &(&1.method == "embed"))
  end
end
