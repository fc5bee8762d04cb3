defmodule Bridge.Caching do
  @moduledoc """
  The same calls of an expensive pure method, which repeat, without and with
  `DSPexTelemetry.AdaptiveCache`.

  The method is as pure as its class is without state, so a result is found by class and arguments,
  whichever worker it came from.
  """

  alias Bridge.Phase
  alias DSPexTelemetry.AdaptiveCache

  @class "Differ"
  @method "similarity"
  # As many pairs of texts are compared over and over.
  @pairs 12

  @type way :: :without | :with
  @type figures :: %{
          calls: non_neg_integer(),
          reached: non_neg_integer(),
          hits: non_neg_integer(),
          joined: non_neg_integer(),
          p99_us: number() | nil,
          decision: String.t(),
          results: %{term() => [term()]},
          wrong: [String.t()]
        }

  @doc """
  Makes the calls in both ways.

  Options: `:workers`, `:callers`, `:calls` of each caller, `:texts`, `:seed`, and `:continue?`, a
  function that returns false when no more calls shall be made.
  """
  @spec run(keyword()) :: {:ok, %{way() => figures()}} | {:error, Exception.t()}
  def run(options) do
    with {:ok, without} <- phase(:without, options), {:ok, with_it} <- phase(:with, options) do
      {:ok, %{without: without, with: with_it}}
    end
  end

  @doc "The section."
  @spec section(%{way() => figures()}, keyword()) :: String.t()
  def section(figures, options) do
    """
    Caching: #{options[:callers] * options[:calls]} calls of #{@class}.#{@method}, of #{@pairs} pairs of texts
                        without cache         with
      reached Python    #{pair(figures, & &1.reached)}
      a kept result     #{pair(figures, & &1.hits)}
      another's run     #{pair(figures, & &1.joined)}
      p99               #{pair(figures, &time(&1.p99_us))}
      decision          #{figures.with.decision}\
    """
  end

  @doc "A sentence for everything in which telemetry was wrong, or the cache of no use."
  @spec disagreements(%{way() => figures()}) :: [String.t()]
  def disagreements(%{without: without, with: with_it}) do
    without.wrong ++ with_it.wrong ++ fewer(without, with_it) ++ same(without, with_it)
  end

  defp fewer(without, with_it) do
    if with_it.reached < without.reached,
      do: [],
      else: [
        "with the cache #{with_it.reached} calls reached Python, and without it #{without.reached}"
      ]
  end

  defp same(without, with_it) do
    for {pair, results} <- with_it.results,
        Enum.sort(Enum.uniq(results ++ without.results[pair])) != Enum.uniq(without.results[pair]) do
      "with the cache #{@method} of #{inspect(pair)} is #{inspect(results)}, and without it " <>
        inspect(without.results[pair])
    end
  end

  # A half

  defp phase(way, options) do
    instance = Module.concat(__MODULE__, way)
    # How often Python was asked, by the function that asks.
    ran = :counters.new(1, [])

    setting = %{
      instance: instance,
      telemetry: telemetry(way),
      bridge: [workers: options[:workers]],
      class: @class,
      requests:
        Phase.requests(pairs(options), options[:callers], options[:calls], options[:seed]),
      seed: options[:seed],
      continue?: options[:continue?]
    }

    Phase.run(setting, &choose(way, &1, &2, instance, ran), fn calls ->
      figures(way, calls, instance, :counters.get(ran, 1))
    end)
  end

  defp telemetry(:without), do: []
  defp telemetry(:with), do: [cache: [cacheable: [{@class, @method}]]]

  defp pairs(options),
    do: options[:texts] |> Enum.chunk_every(2, 1, :discard) |> Enum.take(@pairs)

  defp choose(way, pair, places, instance, ran) do
    {worker, ref} = Enum.random(places)

    ask = fn ->
      :counters.add(ran, 1, 1)
      Bridge.call_method(ref, @method, pair)
    end

    {worker, answer(way, pair, ask, instance)}
  end

  defp answer(:without, _pair, ask, _instance), do: ask.()

  defp answer(:with, pair, ask, instance),
    do: AdaptiveCache.fetch(@method, pair, [python_class: @class, instance: instance], ask)

  # Calls that the cache answers have no event here, so the report has those that reached Python.
  defp figures(way, calls, instance, ran) do
    report = DSPexTelemetry.report(instance: instance)
    reached = report.operations |> Enum.filter(&(&1.method == @method)) |> Enum.map(& &1.count)
    reached = Enum.sum(reached)
    cached = cached(AdaptiveCache.report(instance: instance))

    %{
      calls: length(calls),
      reached: reached,
      hits: cached.hits,
      joined: cached.joined,
      p99_us: if(calls != [], do: Phase.quantile(calls, 0.99)),
      decision: cached.decision,
      results: results(calls),
      wrong: miscounted(way, {length(calls), ran}, reached, cached) ++ failed(way, calls)
    }
  end

  defp cached(%{methods: [row]}), do: row
  defp cached(_no_calls), do: %{hits: 0, joined: 0, misses: 0, calls: 0, decision: "none"}

  defp results(calls) do
    calls
    |> Enum.group_by(& &1.request, & &1.outcome)
    |> Map.new(fn {pair, outcomes} -> {pair, Enum.uniq(outcomes)} end)
  end

  defp miscounted(way, {made, ran}, reached, cached) do
    for {what, own, reported} <-
          [{"calls that reached Python", ran, reached}] ++ of_cache(way, made, ran, cached),
        own != reported do
      "#{way} cache, #{what}: the demo counted #{own}, the report says #{reported}"
    end
  end

  defp failed(way, calls) do
    case Phase.errors(calls) do
      0 -> []
      errors -> ["#{way} cache, #{errors} calls failed"]
    end
  end

  defp of_cache(:without, _made, _ran, _cached), do: []

  defp of_cache(:with, made, ran, cached) do
    [
      {"calls", made, cached.calls},
      {"misses", ran, cached.misses},
      {"hits and joined", made - ran, cached.hits + cached.joined}
    ]
  end

  # Text

  defp pair(figures, text) do
    String.pad_leading("#{text.(figures.without)}", 13) <>
      String.pad_leading("#{text.(figures.with)}", 13)
  end

  defp time(nil), do: "-"
  defp time(us), do: "#{Float.round(us / 1000, 1)} ms"
end
