defmodule DSPexTelemetry.Dashboard.Rows.RoutingAndCaching do
  @moduledoc false
  # Where requests are sent, and which need not be made.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.Panel

  @decisions "dspex_router_decisions_total"
  @by_method [:python_class, :method]
  @method "{{python_class}}.{{method}}"
  @step "$__rate_interval"

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row do
    %{
      title: "Routing and caching",
      collapsed: true,
      panels: Enum.map(routing(), &graph/1) ++ Enum.map(caching(), &graph/1)
    }
  end

  defp graph(panel), do: struct!(Panel, [type: :timeseries, size: {8, 8}, min: 0] ++ panel)

  defp routed(expression, legend),
    do: target(expression, legend, conditional: "the router is used")

  defp cached(expression, legend),
    do: target(expression, legend, conditional: "option cache is set")

  defp routing do
    [
      [
        title: "Routed requests by worker",
        description:
          "Requests per second that `PerformanceRouter` has sent to a worker, of the ten that get the most.",
        unit: "ops",
        no_value: "nothing routed",
        style: :stacked,
        targets: [
          routed(topk(10, rate(@decisions, [:worker_id], :instance)), "{{worker_id}}")
        ]
      ],
      [
        title: "Routed requests by reason",
        description:
          "Requests per second by why their worker was chosen. Reason panic: more workers are ejected than may be, so " <>
            "ejections are not looked at.",
        unit: "ops",
        no_value: "nothing routed",
        style: :stacked,
        targets: [routed(rate(@decisions, [:reason], :instance), "{{reason}}")]
      ],
      [
        title: "In flight by worker",
        description:
          "Requests that workers have not answered yet, of the ten that have the most; those whose end nobody reports " <>
            "are estimated.",
        unit: "short",
        no_value: "nothing routed",
        targets: [
          routed(
            topk(10, sum(series("dspex_router_in_flight", :instance), [:worker_id])),
            "{{worker_id}}"
          )
        ]
      ],
      [
        title: "Workers by state",
        description:
          "Workers that requests may go to: healthy, starting, when they get less, or ejected because their requests " <>
            "failed.",
        size: {12, 8},
        unit: "none",
        no_value: "no workers",
        style: :stacked,
        targets: [
          routed(sum(series("dspex_router_workers", :instance), [:state]), "{{state}}")
        ]
      ],
      [
        title: "Ejections",
        description: "How often workers were ejected, counted over each step of the graph.",
        size: {12, 8},
        unit: "none",
        no_value: "none",
        style: :steps,
        targets: [
          routed(
            events("dspex_router_ejections_total", [:worker_id], :instance, @step),
            "{{worker_id}}"
          )
        ]
      ]
    ]
  end

  defp caching do
    [
      [
        title: "Calls through the cache",
        description:
          "Calls per second of `AdaptiveCache`: answered by a kept result, answered by the run of another caller, or run.",
        unit: "ops",
        no_value: "no calls",
        style: :stacked,
        targets:
          for {metric, legend} <- [
                {"dspex_cache_hits_total", "kept result"},
                {"dspex_cache_joined_total", "another's run"},
                {"dspex_cache_misses_total", "run"}
              ] do
            cached(rate(metric, [], :method), legend)
          end
      ],
      [
        title: "Cache hit rate by method",
        description:
          "The share of recent calls that the cache has answered or, of a method that is not cached, would have. Of the " <>
            "ten methods with the highest.",
        unit: "percentunit",
        max: 1,
        no_value: "no calls",
        legend: :table,
        targets: [cached(topk(10, average("dspex_cache_hit_rate")), @method)]
      ],
      [
        title: "Cached methods",
        description:
          "The share of instances that keep the results of a method: whether that is worth it is decided from its calls.",
        unit: "percentunit",
        max: 1,
        no_value: "no calls",
        style: :steps,
        targets: [cached(average("dspex_cache_cached"), @method)]
      ],
      [
        title: "Run time saved",
        description:
          "Seconds of run time per second that kept results have saved: so many calls more would run at once without " <>
            "them.",
        unit: "short",
        no_value: "no calls",
        style: :stacked,
        targets: [
          cached(
            topk(10, rate("dspex_cache_time_saved_seconds_total", @by_method, :method)),
            @method
          )
        ]
      ],
      [
        title: "Size of the cache",
        description: "Bytes that kept results take, of the ten methods whose take the most.",
        unit: "bytes",
        no_value: "no calls",
        style: :stacked,
        targets: [cached(topk(10, kept("dspex_cache_bytes")), @method)]
      ],
      [
        title: "Kept results",
        description: "How many results are kept, of the ten methods that have the most.",
        unit: "short",
        no_value: "no calls",
        style: :stacked,
        targets: [cached(topk(10, kept("dspex_cache_entries")), @method)]
      ],
      [
        title: "Changed results by method",
        description:
          "The share of recent repetitions whose result had changed: the higher it is, the shorter results live. Of the " <>
            "ten methods with the highest.",
        size: {12, 8},
        unit: "percentunit",
        max: 1,
        no_value: "no calls",
        legend: :table,
        targets: [cached(topk(10, average("dspex_cache_variance")), @method)]
      ],
      [
        title: "Results that were not kept",
        description:
          "Counted over each step of the graph: evicted, as there was no room, or too large to be kept at all.",
        size: {12, 8},
        unit: "none",
        no_value: "none",
        style: :steps,
        targets: [
          cached(events("dspex_cache_evictions_total", [], :method, @step), "evicted"),
          cached(events("dspex_cache_too_large_total", [], :method, @step), "too large")
        ]
      ]
    ]
  end

  defp kept(metric), do: sum(series(metric, :method), @by_method)

  defp average(metric),
    do: ["avg by (python_class, method) (", series(metric, :method), ")"]
end
