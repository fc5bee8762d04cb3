defmodule Bridge.Routing do
  @moduledoc """
  The same calls of a method to workers chosen at random, and to those that
  `DSPexTelemetry.PerformanceRouter` chooses, while one worker is slow and one fails.

  Every worker has an instance of the class, so each can do each call.
  """

  alias Bridge.Phase
  alias DSPexTelemetry.PerformanceRouter

  @class "Summarizer"
  @method "line_lengths"
  @slow "worker-1"
  @failing "worker-2"

  @type way :: :random | :router
  @type figures :: %{
          count: non_neg_integer(),
          errors: non_neg_integer(),
          error_rate: float(),
          p99_us: float() | nil,
          by_worker: %{String.t() => pos_integer()},
          wrong: [String.t()]
        }

  @doc """
  Makes the calls in both ways.

  Options: `:workers`, `:callers`, `:calls` of each caller, `:slow_ms`, `:texts`, `:seed`, and
  `:continue?`, a function that returns false when no more calls shall be made.
  """
  @spec run(keyword()) :: {:ok, %{way() => figures()}} | {:error, Exception.t()}
  def run(options) do
    with {:ok, random} <- phase(:random, options), {:ok, router} <- phase(:router, options) do
      {:ok, %{random: random, router: router}}
    end
  end

  @doc "The section."
  @spec section(%{way() => figures()}, keyword()) :: String.t()
  def section(figures, options) do
    """
    Routing: #{options[:callers] * options[:calls]} calls of #{@class}.#{@method}; #{@slow} takes #{options[:slow_ms]} ms longer, #{@failing} fails
                        random choice       router
      p99               #{pair(figures, &time(&1.p99_us))}
      failed            #{pair(figures, &"#{&1.errors} (#{percent(&1.error_rate)})")}
      calls of the slow #{pair(figures, &Map.get(&1.by_worker, @slow, 0))}
      of the failing    #{pair(figures, &Map.get(&1.by_worker, @failing, 0))}
      of the others     #{pair(figures, &others/1)}\
    """
  end

  @doc "A sentence for everything in which telemetry was wrong, or the router not better than chance."
  @spec disagreements(%{way() => figures()}) :: [String.t()]
  def disagreements(%{random: random, router: router}) do
    random.wrong ++
      router.wrong ++
      better("share of failed calls", random.error_rate, router.error_rate, &percent/1) ++
      better("p99", random.p99_us, router.p99_us, &time/1)
  end

  defp better(what, random, router, text) do
    if router < random,
      do: [],
      else: [
        "the router's #{what}, #{text.(router)}, must be less than that of random choice, #{text.(random)}"
      ]
  end

  # A half

  defp phase(way, options) do
    instance = Module.concat(__MODULE__, way)

    setting = %{
      instance: instance,
      telemetry: [],
      bridge: [
        workers: options[:workers],
        handicaps: %{
          @slow => ["--slow-ms", "#{options[:slow_ms]}"],
          @failing => ["--failing"]
        }
      ],
      class: @class,
      requests:
        Phase.requests(options[:texts], options[:callers], options[:calls], options[:seed]),
      seed: options[:seed],
      continue?: options[:continue?]
    }

    Phase.run(setting, &choose(way, &1, &2, instance), &figures(way, &1, instance))
  end

  defp choose(:random, text, places, _instance) do
    {worker, ref} = Enum.random(places)
    {worker, call(ref, text)}
  end

  defp choose(:router, text, places, instance) do
    # Which worker it was is of interest to the demo alone, so the router is told what the call returned.
    PerformanceRouter.run(@method, [text], &{&1, call(places[&1], text)},
      outcome: fn {_worker, outcome} ->
        if(match?({:ok, _}, outcome), do: :success, else: :failure)
      end,
      instance: instance
    )
  end

  defp call(ref, text), do: Bridge.call_method(ref, @method, [text])

  defp figures(way, calls, instance) do
    row = row(DSPexTelemetry.report(instance: instance))
    by_worker = Enum.frequencies_by(calls, & &1.worker)

    %{
      count: row.count,
      errors: row.errors,
      error_rate: row.errors / max(row.count, 1),
      p99_us: row.p99_us,
      by_worker: by_worker,
      wrong: miscounted(way, row, calls) ++ decisions(way, by_worker, instance)
    }
  end

  defp row(report) do
    none = %{count: 0, errors: 0, p99_us: nil}
    Enum.find(report.operations, none, &(&1.method == @method))
  end

  defp miscounted(way, row, calls) do
    own = {length(calls), Phase.errors(calls)}

    counts =
      if own == {row.count, row.errors},
        do: [],
        else: [
          "#{name(way)}: the demo counted #{numbers(own)}, the report says #{numbers({row.count, row.errors})}"
        ]

    counts ++
      if(calls == [], do: [], else: too_long(way, row.p99_us, Phase.quantile(calls, 0.99)))
  end

  # What the caller measures includes what the event measures; a quantile is exact to 1 %.
  defp too_long(way, reported, own) do
    if reported <= own * 1.01 + 1,
      do: [],
      else: [
        "#{name(way)}: 99 % of calls took at most #{time(own)}, and the report says #{time(reported)}"
      ]
  end

  defp decisions(:random, _by_worker, _instance), do: []

  defp decisions(:router, by_worker, instance) do
    report = PerformanceRouter.report(instance: instance)

    for %{worker_id: id, decisions: decisions} <- report.workers,
        made = Map.get(by_worker, id, 0),
        decisions != made do
      "router: the demo counted #{made} calls of #{id}, the router says #{decisions}"
    end
  end

  # Text

  defp pair(figures, text) do
    String.pad_leading("#{text.(figures.random)}", 13) <>
      String.pad_leading("#{text.(figures.router)}", 13)
  end

  defp others(figures) do
    figures.by_worker |> Map.drop([@slow, @failing]) |> Map.values() |> Enum.sum()
  end

  defp name(:random), do: "random choice"
  defp name(:router), do: "router"
  defp numbers({count, errors}), do: "#{count} calls (#{errors} failed)"
  defp percent(share), do: "#{Float.round(share * 100, 1)} %"
  defp time(nil), do: "-"
  defp time(us), do: "#{Float.round(us / 1000, 1)} ms"
end
