defmodule DSPexTelemetry.Catalogue.SnakepitMetrics do
  @moduledoc false
  # The metrics of what only Snakepit itself tells.

  alias DSPexTelemetry.Catalogue.Metrics

  @booleans ["true", "false"]
  @kinds Metrics.kinds()
  @errors ["shape_mismatch", "device", "oom"]
  @outcomes ["attempt", "success", "exhausted"]
  @states ["closed", "half_open", "open"]
  @copies ["export", "import", "fallback"]

  @duration_buckets Metrics.duration_buckets()
  @seconds_buckets [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
  @size_buckets [64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 16_777_216]
  @memory_buckets for mebibytes <- [64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384],
                      do: mebibytes * 1_048_576
  @count_buckets [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000]

  counter = fn name, dimensions, doc -> %{name: name, dimensions: dimensions, doc: doc} end

  histogram = fn name, unit, buckets, doc ->
    %{name: name, unit: unit, buckets: buckets, doc: doc}
  end

  family = fn name, labels, counters, histograms ->
    %{name: name, labels: labels, counters: counters, histograms: histograms}
  end

  @families [
    family.(
      "snakepit.grpc.execute",
      [:pool, :command],
      [
        counter.(
          :snakepit_grpc_execute_total,
          [success: @booleans],
          "Completed executions by gRPC. Exceptions count with success=\"false\"."
        ),
        counter.(
          :snakepit_grpc_execute_exception_total,
          [kind: @kinds],
          "Executions by gRPC that ended in an exception."
        ),
        counter.(
          :snakepit_grpc_execute_start_total,
          [],
          "Executions by gRPC that were started."
        )
      ],
      [
        histogram.(
          :snakepit_grpc_execute_duration,
          :microsecond,
          @duration_buckets,
          "Duration of executions by gRPC, exceptions included."
        )
      ]
    ),
    family.(
      "snakepit.request",
      [:pool, :command],
      [
        counter.(
          :snakepit_request_total,
          [success: @booleans, streaming: @booleans],
          "Requests that got a worker at once, and all streams. Snakepit does not tell of those that were queued."
        ),
        counter.(
          :snakepit_request_aborted_total,
          [],
          "Requests that were not executed because their client had gone."
        )
      ],
      [
        histogram.(
          :snakepit_request_duration,
          :microsecond,
          @duration_buckets,
          "Duration of these requests, from the worker that they got to the reply, attempts after a crash included."
        )
      ]
    ),
    family.(
      "snakepit.pool.dispatched",
      [:pool, :command],
      [
        counter.(
          :snakepit_pool_dispatched_total,
          [queued: @booleans],
          "Requests that got a worker, and whether they had to wait for one."
        )
      ],
      []
    ),
    family.(
      "snakepit.pool.saturated",
      [:pool],
      [
        counter.(
          :snakepit_pool_saturated_total,
          [],
          "Requests that were refused because the queue was full."
        )
      ],
      []
    ),
    family.(
      "snakepit.pool.capacity",
      [],
      [
        counter.(
          :snakepit_pool_capacity_reached_total,
          [rejected: @booleans],
          "How often a worker with threads had no thread left, and whether a request was refused because of it."
        )
      ],
      []
    ),
    family.("snakepit.pool.init", [], [], [
      histogram.(
        :snakepit_pool_init_seconds,
        :second,
        @seconds_buckets,
        "How long pools took to start all their workers."
      )
    ]),
    family.(
      "snakepit.heartbeat",
      [],
      [
        counter.(:snakepit_heartbeat_pings_total, [], "Heartbeats that were sent to workers."),
        counter.(:snakepit_heartbeat_pongs_total, [], "Heartbeats that workers answered.")
      ],
      [
        histogram.(
          :snakepit_heartbeat_latency_seconds,
          :second,
          @seconds_buckets,
          "How long workers took to answer a heartbeat."
        )
      ]
    ),
    family.(
      "snakepit.heartbeat.timeout",
      [:worker_id],
      [
        counter.(
          :snakepit_heartbeat_timeouts_total,
          [],
          "Heartbeats that a worker did not answer in time."
        )
      ],
      []
    ),
    family.(
      "snakepit.heartbeat.failure",
      [:worker_id, :reason],
      [
        counter.(
          :snakepit_heartbeat_failures_total,
          [],
          "How often a worker was given up because of its heartbeats."
        )
      ],
      []
    ),
    family.(
      "snakepit.circuit_breaker",
      [:pool],
      [
        counter.(
          :snakepit_circuit_breaker_transitions_total,
          [state: @states],
          "How often a circuit breaker went into a state."
        )
      ],
      []
    ),
    family.(
      "snakepit.worker.incident",
      [:pool, :reason],
      [
        counter.(
          :snakepit_worker_crashed_total,
          [],
          "Workers that crashed, as the crash barrier and the health monitor tell."
        ),
        counter.(
          :snakepit_worker_tainted_total,
          [],
          "Workers that were kept from requests after a crash."
        ),
        counter.(
          :snakepit_worker_restarted_total,
          [],
          "Workers that were ready again after a crash."
        ),
        counter.(
          :snakepit_worker_recycled_total,
          [],
          "Workers that were replaced, or found dead, by the lifecycle manager."
        ),
        counter.(
          :snakepit_worker_health_check_failed_total,
          [],
          "Health checks that a worker failed."
        )
      ],
      [
        histogram.(
          :snakepit_worker_recycled_memory_bytes,
          :byte,
          @memory_buckets,
          "Memory of workers that were replaced because of it."
        )
      ]
    ),
    family.(
      "snakepit.error",
      [:operation],
      [
        counter.(
          :snakepit_error_total,
          [error: @errors],
          "Errors that Snakepit recognised in what Python raised: shapes and devices that do not match, no memory."
        )
      ],
      []
    ),
    family.(
      "snakepit.python.exception",
      [:python_type],
      [
        counter.(
          :snakepit_python_exception_total,
          [mapped: @booleans],
          "Exceptions of Python that became errors of Elixir, and whether there is an exception for the type."
        )
      ],
      []
    ),
    family.(
      "snakepit.retry",
      [],
      [
        counter.(
          :snakepit_retry_total,
          [outcome: @outcomes],
          "Another attempt, a success and the last failure of operations that are retried."
        )
      ],
      [
        histogram.(
          :snakepit_retry_delay_seconds,
          :second,
          @seconds_buckets,
          "How long another attempt waits."
        )
      ]
    ),
    family.("snakepit.session.pruned", [:reason], [], [
      histogram.(
        :snakepit_session_pruned,
        :one,
        @count_buckets,
        "How many sessions were removed at once from the bridge's store; the sum is how many in all."
      )
    ]),
    family.(
      "snakepit.session.accumulation",
      [:reason],
      [
        counter.(
          :snakepit_session_accumulation_total,
          [],
          "Warnings that there are nearly as many sessions as there may be, or as many."
        )
      ],
      []
    ),
    family.(
      "snakepit.zero_copy",
      [:kind],
      [
        counter.(
          :snakepit_zero_copy_total,
          [op: @copies],
          "Handles that were exported and imported, and copies that were made instead."
        )
      ],
      [
        histogram.(
          :snakepit_zero_copy_duration,
          :microsecond,
          @duration_buckets,
          "How long that took."
        ),
        histogram.(
          :snakepit_zero_copy_bytes,
          :byte,
          @size_buckets,
          "Size of what was exported, imported or copied."
        )
      ]
    ),
    family.(
      "snakepit.python.call",
      [:command],
      [
        counter.(
          :snakepit_python_call_total,
          [success: @booleans],
          "Calls that Python code timed itself."
        )
      ],
      [
        histogram.(
          :snakepit_python_call_duration,
          :microsecond,
          @duration_buckets,
          "Duration of these calls, exceptions included."
        )
      ]
    ),
    family.(
      "snakepit.python.tool",
      [:tool],
      [
        counter.(
          :snakepit_python_tool_total,
          [success: @booleans],
          "Executions of tools that Python code timed itself."
        )
      ],
      [
        histogram.(
          :snakepit_python_tool_duration,
          :microsecond,
          @duration_buckets,
          "Duration of these executions, exceptions included."
        ),
        histogram.(
          :snakepit_python_tool_result_size_bytes,
          :byte,
          @size_buckets,
          "Size of the results of tools."
        )
      ]
    ),
    family.(
      "snakepit.python.error",
      [:error_type],
      [
        counter.(:snakepit_python_error_total, [], "Errors that Python code told of.")
      ],
      []
    ),
    family.(
      "snakepit.python.gc",
      [],
      [
        counter.(
          :snakepit_python_gc_total,
          [],
          "Garbage collections that Python code told of."
        )
      ],
      []
    )
  ]

  level = fn name, unit, labels, doc ->
    %{name: name, unit: unit, labels: labels, doc: doc, worker: nil}
  end

  @levels [
    level.(
      :snakepit_circuit_breaker_state,
      :state,
      [:pool],
      "State of a circuit breaker: 0 is closed, 1 half open, 2 open."
    ),
    level.(:snakepit_sessions, :one, [:table], "Sessions in the bridge's store."),
    level.(:snakepit_gpu_memory_used_bytes, :byte, [:device], "Memory of a GPU that is used."),
    level.(:snakepit_gpu_memory_free_bytes, :byte, [:device], "Memory of a GPU that is free."),
    level.(:snakepit_gpu_memory_size_bytes, :byte, [:device], "Memory of a GPU."),
    level.(
      :snakepit_gpu_utilization_ratio,
      :ratio,
      [:device],
      "The share of time in which a GPU works, from 0 to 1."
    ),
    level.(
      :snakepit_gpu_temperature_celsius,
      :celsius,
      [:device],
      "Temperature of a GPU in degrees Celsius."
    ),
    level.(:snakepit_gpu_power_watts, :watt, [:device], "Power that a GPU draws."),
    %{
      level.(
        :snakepit_python_memory_rss_bytes,
        :byte,
        [:worker_id],
        "Resident memory of a worker's Python process."
      )
      | worker: :worker_id
    },
    %{
      level.(
        :snakepit_python_memory_vms_bytes,
        :byte,
        [:worker_id],
        "Virtual memory of a worker's Python process."
      )
      | worker: :worker_id
    },
    %{
      level.(
        :snakepit_python_cpu_ratio,
        :ratio,
        [:worker_id],
        "Processors that a worker's Python process keeps busy: 1 is one of them, all the time."
      )
      | worker: :worker_id
    }
  ]

  def families, do: @families
  def levels, do: @levels
end
