defmodule DSPexTelemetry.Dashboard.Rows.Snakepit do
  @moduledoc false
  # What only Snakepit itself tells: executions by gRPC, the pool, heartbeats, circuit breakers, GPUs.

  import DSPexTelemetry.Dashboard.{Panel, Query}
  alias DSPexTelemetry.Dashboard.Panel

  @step "$__rate_interval"
  @by_command [:pool, :command]
  @command "{{pool}} {{command}}"

  @spec row() :: DSPexTelemetry.Dashboard.Layout.row()
  def row do
    panels = executions() ++ pools() ++ workers() ++ python() ++ gpus()
    %{title: "Snakepit", collapsed: true, panels: Enum.map(panels, &graph/1)}
  end

  defp graph(panel) do
    struct!(Panel, [type: :timeseries, size: {8, 8}, min: 0, no_value: "nothing told"] ++ panel)
  end

  defp told(expression, legend),
    do: target(expression, legend, conditional: "Snakepit has told of it")

  # How often something happened, by labels.
  defp counted(metric, by, legend), do: told(events(metric, by, :instance, @step), legend)

  defp top_rate(metric, by, legend), do: told(topk(10, rate(metric, by, :instance)), legend)

  defp lasting(metric, by, legend),
    do: told(topk(10, quantile(0.95, metric, by, :instance)), legend)

  defp level(metric, by, legend), do: told(sum(series(metric, :instance), by), legend)

  defp executions do
    [
      [
        title: "Executions by gRPC",
        description: "Executions per second of the ten commands that are executed most.",
        unit: "ops",
        style: :stacked,
        targets: [top_rate("snakepit_grpc_execute_total", @by_command, @command)]
      ],
      [
        title: "Execution p95 by command",
        description: "Of the ten commands that take longest, without the wait for a worker.",
        unit: "µs",
        legend: :table,
        targets: [lasting("snakepit_grpc_execute_duration", @by_command, @command)]
      ],
      [
        title: "Failed executions",
        description:
          "The share of executions that ended in an error or an exception, by command.",
        unit: "percentunit",
        max: 1,
        targets: [
          told(
            share(
              "snakepit_grpc_execute_total",
              @by_command,
              :instance,
              ~S(success="false")
            ),
            @command
          )
        ]
      ],
      [
        title: "Request p95 by command",
        description:
          "From the worker that a request got to its reply, with attempts after a crash: of requests that did not " <>
            "have to wait and of streams.",
        unit: "µs",
        legend: :table,
        targets: [lasting("snakepit_request_duration", @by_command, @command)]
      ],
      [
        title: "Requests by outcome",
        description: "Requests per second that did not have to wait, and streams.",
        unit: "ops",
        style: :stacked,
        targets: [
          told(
            rate("snakepit_request_total", [:success, :streaming], :instance),
            "success {{success}}, stream {{streaming}}"
          ),
          told(
            rate("snakepit_request_aborted_total", [], :instance),
            "client gone before it was executed"
          )
        ]
      ]
    ]
  end

  defp pools do
    [
      [
        title: "Requests that had to wait",
        description:
          "The share of requests that found no free worker and were queued, by pool. Snakepit does not tell how long " <>
            "they waited.",
        unit: "percentunit",
        max: 1,
        targets: [
          told(
            share("snakepit_pool_dispatched_total", [:pool], :instance, ~S(queued="true")),
            "{{pool}}"
          )
        ]
      ],
      [
        title: "Refused requests",
        description:
          "Counted over each step of the graph: the queue was full, or a worker had no thread left.",
        unit: "none",
        style: :steps,
        targets: [
          counted("snakepit_pool_saturated_total", [:pool], "queue of {{pool}} full"),
          counted(
            "snakepit_pool_capacity_reached_total",
            [:rejected],
            "no thread left, refused {{rejected}}"
          )
        ]
      ],
      [
        title: "Circuit breakers",
        description: "0 is closed, 1 half open, 2 open: calls are refused.",
        unit: "none",
        max: 2,
        style: :steps,
        targets: [
          told(
            ["max by (pool) (", series("snakepit_circuit_breaker_state", :instance), ")"],
            "{{pool}}"
          )
        ]
      ],
      [
        title: "Changes of circuit breakers",
        description: "How often they went into a state, counted over each step of the graph.",
        unit: "none",
        style: :steps,
        targets: [
          counted(
            "snakepit_circuit_breaker_transitions_total",
            [:pool, :state],
            "{{pool}} {{state}}"
          )
        ]
      ],
      [
        title: "Retries",
        description:
          "Another attempt, a success, or the last failure of operations that are retried.",
        unit: "none",
        style: :steps,
        targets: [counted("snakepit_retry_total", [:outcome], "{{outcome}}")]
      ],
      [
        title: "Startup of pools and delays of retries (p95)",
        description:
          "How long pools took to start all their workers, and how long another attempt waits.",
        unit: "s",
        targets: [
          lasting("snakepit_pool_init_seconds", [], "startup"),
          lasting("snakepit_retry_delay_seconds", [], "delay")
        ]
      ],
      [
        title: "Sessions in the store",
        description:
          "Sessions of the bridge, and warnings that there are nearly as many as there may be.",
        unit: "short",
        targets: [
          level("snakepit_sessions", [:table], "{{table}}"),
          counted("snakepit_session_accumulation_total", [:reason], "warnings: {{reason}}")
        ]
      ],
      [
        title: "Sessions removed at once (p95)",
        description:
          "How many sessions were removed together from the store, because their time was over.",
        unit: "short",
        targets: [lasting("snakepit_session_pruned", [:reason], "{{reason}}")]
      ]
    ]
  end

  defp workers do
    [
      [
        title: "Heartbeat latency (p95)",
        description: "How long workers take to answer a heartbeat.",
        unit: "s",
        targets: [lasting("snakepit_heartbeat_latency_seconds", [], "p95")]
      ],
      [
        title: "Heartbeats",
        description:
          "Heartbeats per second that were sent and answered. The lines should be one.",
        unit: "ops",
        targets: [
          told(rate("snakepit_heartbeat_pings_total", [], :instance), "sent"),
          told(rate("snakepit_heartbeat_pongs_total", [], :instance), "answered")
        ]
      ],
      [
        title: "Missed heartbeats",
        description: "Heartbeats that were not answered in time, and workers that were given up.",
        unit: "none",
        style: :steps,
        targets: [
          counted("snakepit_heartbeat_timeouts_total", [:worker_id], "{{worker_id}}"),
          counted(
            "snakepit_heartbeat_failures_total",
            [:worker_id, :reason],
            "{{worker_id}} given up ({{reason}})"
          )
        ]
      ],
      [
        title: "Incidents of workers",
        description: "Counted over each step of the graph, by pool and reason.",
        size: {16, 8},
        unit: "none",
        style: :steps,
        targets:
          for {metric, what} <- [
                {"snakepit_worker_crashed_total", "crashed"},
                {"snakepit_worker_tainted_total", "tainted"},
                {"snakepit_worker_restarted_total", "restarted"},
                {"snakepit_worker_recycled_total", "recycled"},
                {"snakepit_worker_health_check_failed_total", "unhealthy"}
              ] do
            counted(metric, [:pool, :reason], "#{what}: {{pool}} ({{reason}})")
          end
      ],
      [
        title: "Memory of recycled workers (p95)",
        description: "Memory of workers that were replaced because of it.",
        unit: "bytes",
        targets: [lasting("snakepit_worker_recycled_memory_bytes", [:pool], "{{pool}}")]
      ]
    ]
  end

  defp python do
    [
      [
        title: "Errors in Python",
        description:
          "Exceptions that became errors of Elixir, errors that Snakepit recognised, and errors that Python code told of, " <>
            "counted over each step of the graph.",
        unit: "none",
        style: :steps,
        targets: [
          counted("snakepit_python_exception_total", [:python_type], "raised: {{python_type}}"),
          counted("snakepit_error_total", [:error], "recognised: {{error}}"),
          counted("snakepit_python_error_total", [:error_type], "told: {{error_type}}")
        ]
      ],
      [
        title: "Timed in Python",
        description:
          "Calls and tools per second that Python code times itself, and collections of garbage.",
        unit: "ops",
        targets: [
          top_rate("snakepit_python_call_total", [:command], "call {{command}}"),
          top_rate("snakepit_python_tool_total", [:tool], "tool {{tool}}"),
          told(rate("snakepit_python_gc_total", [], :instance), "collections")
        ]
      ],
      [
        title: "Timed in Python (p95)",
        description:
          "Of calls and tools that Python code times itself, and of copies without copying.",
        unit: "µs",
        legend: :table,
        targets: [
          lasting("snakepit_python_call_duration", [:command], "call {{command}}"),
          lasting("snakepit_python_tool_duration", [:tool], "tool {{tool}}"),
          lasting("snakepit_zero_copy_duration", [:kind], "{{kind}}")
        ]
      ],
      [
        title: "Sizes in Python (p95)",
        description: "Results of tools, and what was exported, imported or copied.",
        unit: "bytes",
        targets: [
          lasting("snakepit_python_tool_result_size_bytes", [:tool], "tool {{tool}}"),
          lasting("snakepit_zero_copy_bytes", [:kind], "{{kind}}")
        ]
      ],
      [
        title: "Zero copy",
        description:
          "Handles per second that were exported and imported, and copies made instead.",
        unit: "ops",
        targets: [top_rate("snakepit_zero_copy_total", [:kind, :op], "{{kind}} {{op}}")]
      ],
      [
        title: "Processors of Python",
        description:
          "Processors that the Python process of a worker keeps busy, of the ten busiest.",
        unit: "short",
        targets: [
          told(
            topk(10, sum(series("snakepit_python_cpu_ratio", :instance), [:worker_id])),
            "{{worker_id}}"
          )
        ]
      ],
      [
        title: "Memory of Python",
        description: "Resident and virtual memory of the Python processes, all workers together.",
        unit: "bytes",
        targets: [
          level("snakepit_python_memory_rss_bytes", [], "resident"),
          level("snakepit_python_memory_vms_bytes", [], "virtual")
        ]
      ]
    ]
  end

  defp gpus do
    device = ["{{instance}} {{device}}"]
    by = [:instance, :device]

    [
      [
        title: "Memory of GPUs",
        description: "Memory of each device: used, free, and all of it.",
        unit: "bytes",
        targets: [
          level("snakepit_gpu_memory_used_bytes", by, "#{device} used"),
          level("snakepit_gpu_memory_free_bytes", by, "#{device} free"),
          level("snakepit_gpu_memory_size_bytes", by, "#{device} all")
        ]
      ],
      [
        title: "Use of GPUs",
        description: "The share of time in which each device works.",
        unit: "percentunit",
        max: 1,
        targets: [level("snakepit_gpu_utilization_ratio", by, "#{device}")]
      ],
      [
        title: "Temperature of GPUs",
        description: "Temperature of each device.",
        unit: "celsius",
        targets: [level("snakepit_gpu_temperature_celsius", by, "#{device}")]
      ],
      [
        title: "Power of GPUs",
        description: "Power that each device draws.",
        unit: "watt",
        targets: [level("snakepit_gpu_power_watts", by, "#{device}")]
      ]
    ]
  end
end
