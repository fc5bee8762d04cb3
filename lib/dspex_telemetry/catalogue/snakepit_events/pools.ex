defmodule DSPexTelemetry.Catalogue.SnakepitEvents.Pools do
  @moduledoc false
  # Pools, their workers, and the workers' heartbeats.

  import DSPexTelemetry.Catalogue.SnakepitEvents.Fields

  alias DSPexTelemetry.Catalogue.{Event, Field}

  pools = [
    event(
      [:pool, :call, :dispatched],
      "A request got a worker.",
      [
        system_time(),
        pool(),
        command(),
        yes_or_no(:queued, "Whether it had to wait for one."),
        some_worker(),
        %Field{
          key: :requester,
          in: :metadata,
          type: :requester,
          required: false,
          doc: "No key: the process that the dispatching one monitors, which made the request."
        }
      ],
      [
        {:in_pool, :worker_id, :pool, no_pool()},
        {:dispatched, :requester, :worker_id, :command},
        {:feed, "snakepit.pool.dispatched", [in_pool(), :command],
         [snakepit_pool_dispatched_total: [:queued]], []}
      ]
    ),
    event(
      [:pool, :saturated],
      "A request was refused because the queue was full.",
      [
        unused(:measurements, :queue_size, "Requests in the queue."),
        unused(:measurements, :max_queue_size, "How many there may be."),
        pool(),
        unused(:metadata, :available_workers, "Workers without a request."),
        unused(:metadata, :busy_workers, "Workers with one.")
      ],
      [{:feed, "snakepit.pool.saturated", [:pool], [snakepit_pool_saturated_total: []], []}]
    ),
    event(
      [:pool, :capacity_reached],
      "A worker with threads has no thread left.",
      [
        unused(:measurements, :capacity, "How many requests it takes at once."),
        unused(:measurements, :load, "How many it has."),
        yes_or_no(:rejected, "Whether a request was refused because of it."),
        unused(:metadata, :worker_pid, "Process of the worker."),
        unused(:metadata, :profile, "Profile of the worker.")
      ],
      [
        {:feed, "snakepit.pool.capacity", [], [snakepit_pool_capacity_reached_total: [:rejected]],
         []}
      ]
    ),
    event(
      [:pool, :init_complete],
      "All pools have started their workers, which may not be ready yet.",
      [
        measurement(:duration_ms, :integer, :millisecond, "How long it took."),
        unused(:measurements, :total_workers, "How many workers there are."),
        unused(:measurements, :count, "Always 1."),
        unused(:metadata, :pool_workers, "How many each pool has.")
      ],
      [{:feed, "snakepit.pool.init", [], [], [snakepit_pool_init_seconds: :duration_ms]}]
    ),
    event(
      [:pool, :worker_ready],
      "A pool has a worker to which requests can go.",
      [
        unused(:measurements, :worker_count, "How many workers the pool has."),
        unused(:measurements, :count, "Always 1."),
        %Field{pool() | from: :pool_name},
        worker_id()
      ],
      [{:in_pool, :worker_id, :pool, no_pool()}, {:worker_up, :worker_id}]
    ),
    %Event{
      event(
        [:pool, :worker, :spawned],
        "A worker is ready.",
        [
          %Field{duration() | doc: "How long it took to start."},
          system_time(),
          worker_id(),
          %Field{pool() | from: :pool_name, doc: "The pool, or its process."},
          unused(:metadata, :python_pid, "Process id of its Python process."),
          unused(:metadata, :mode, "Always `:process`.")
        ],
        [
          {:in_pool, :worker_id, :pool, no_pool()},
          {:claimed,
           {:feed, "snakepit.worker.spawned", [{:constant, "unknown"}],
            [snakepit_worker_spawned_total: []], []}},
          {:claimed,
           {:feed, "snakepit.worker", [], [], [snakepit_worker_startup_time: :duration]}},
          {:worker_up, :worker_id}
        ]
      )
      | claim: {:worker, :worker_id}
    },
    %Event{
      event(
        [:pool, :worker, :terminated],
        "A worker is gone.",
        [
          measurement(:lifetime, :integer, :native_as_milliseconds, "How long it lived."),
          unused(:measurements, :total_commands, "How many commands it executed."),
          worker_id(),
          %Field{reason("Why it ended.") | required: true},
          unused(:metadata, :planned, "Whether it was meant to end."),
          unused(:metadata, :pool_name, "The pool.")
        ],
        [
          {:claimed,
           {:feed, "snakepit.worker.died", [:reason], [snakepit_worker_died_total: []], []}},
          {:claimed,
           {:feed, "snakepit.worker", [], [], [snakepit_worker_lifetime_seconds: :lifetime]}},
          {:worker_down, :worker_id}
        ]
      )
      | claim: {:worker, :worker_id}
    }
  ]

  incident = fn name, doc, metric, measurements, observes ->
    event(
      name,
      doc,
      measurements ++
        [
          pool(),
          reason("Why."),
          some_worker()
        ],
      [{:feed, "snakepit.worker.incident", [in_pool(), :reason], [{metric, []}], observes}]
    )
  end

  workers = [
    incident.([:worker, :crash], "A worker crashed.", :snakepit_worker_crashed_total, [], []),
    incident.(
      [:worker, :tainted],
      "A worker gets no requests for some time, because it crashed.",
      :snakepit_worker_tainted_total,
      [unused(:measurements, :duration_ms, "For how long.")],
      []
    ),
    incident.(
      [:worker, :restarted],
      "A worker that had crashed is ready again.",
      :snakepit_worker_restarted_total,
      [],
      []
    ),
    incident.(
      [:worker, :recycled],
      "A worker is replaced, or was found dead.",
      :snakepit_worker_recycled_total,
      [
        count(),
        optional(
          measurement(:memory_mb, :number, :mebibyte, "Its memory, if that is the reason.")
        )
      ],
      snakepit_worker_recycled_memory_bytes: :memory_mb
    ),
    incident.(
      [:worker, :health_check_failed],
      "A worker failed its health check.",
      :snakepit_worker_health_check_failed_total,
      [count()],
      []
    )
  ]

  beat = fn name, doc, fields, steps ->
    event(
      [:heartbeat, name],
      doc,
      fields ++
        [
          count(),
          unused(:measurements, :timestamp, "Monotonic time in milliseconds."),
          unused(:metadata, :missed_heartbeats, "How many it has missed in a row."),
          unused(:metadata, :dependent, "Whether the worker ends when it is given up.")
        ],
      steps
    )
  end

  heartbeats = [
    beat.(
      :ping_sent,
      "A heartbeat was sent to a worker.",
      [unused(:metadata, :worker_id, "The worker.")],
      [{:feed, "snakepit.heartbeat", [], [snakepit_heartbeat_pings_total: []], []}]
    ),
    beat.(
      :pong_received,
      "A worker answered a heartbeat.",
      [
        optional(measurement(:latency_ms, :number, :millisecond, "How long the answer took.")),
        some_worker()
      ],
      [
        {:worker_up, :worker_id},
        {:feed, "snakepit.heartbeat", [], [snakepit_heartbeat_pongs_total: []],
         [snakepit_heartbeat_latency_seconds: :latency_ms]}
      ]
    ),
    beat.(
      :heartbeat_timeout,
      "A worker did not answer a heartbeat in time.",
      [worker_id()],
      [
        {:feed, "snakepit.heartbeat.timeout", [:worker_id],
         [snakepit_heartbeat_timeouts_total: []], []}
      ]
    ),
    beat.(
      :monitor_failure,
      "A worker is given up because of its heartbeats.",
      [worker_id(), %Field{reason("Why.") | from: :failure_reason}],
      [
        {:feed, "snakepit.heartbeat.failure", [:worker_id, :reason],
         [snakepit_heartbeat_failures_total: []], []}
      ]
    )
  ]

  @events pools ++ workers ++ heartbeats

  @spec all() :: [DSPexTelemetry.Catalogue.Event.t()]
  def all, do: @events
end
