defmodule DSPexTelemetry.Catalogue.SnakepitEvents do
  @moduledoc false
  # The events that Snakepit 0.13 emits, each with its fields and what it feeds. What it declares and never
  # emits is not here; docs/snakepit.md lists both.

  alias DSPexTelemetry.Catalogue.{Event, Field, Metrics}

  measurement = fn key, type, unit, doc ->
    %Field{key: key, in: :measurements, type: type, unit: unit, doc: doc}
  end

  optional = fn field -> %Field{field | required: false} end
  text = fn key, doc -> %Field{key: key, in: :metadata, type: :text, doc: doc} end

  name = fn key, doc ->
    %Field{key: key, in: :metadata, type: :name, required: false, doc: doc}
  end

  reason = fn doc ->
    %Field{key: :reason, in: :metadata, type: :reason, required: false, doc: doc}
  end

  unused = fn place, key, doc ->
    %Field{key: key, in: place, type: :term, required: false, doc: doc <> " Not used."}
  end

  yes_or_no = fn key, doc ->
    %Field{key: key, in: :metadata, type: :flag, default: false, required: false, doc: doc}
  end

  duration = measurement.(:duration, :integer, :native, "How long it took.")

  system_time = unused.(:measurements, :system_time, "System time at the start, in native units.")

  kind = %Field{
    key: :kind,
    in: :metadata,
    type: {:choice, Metrics.kinds()},
    doc: "Kind of the exception."
  }

  pool = name.(:pool, "The pool.")
  command = text.(:command, "What was executed.")
  worker_id = text.(:worker_id, "The worker.")
  some_worker = optional.(worker_id)
  device = name.(:device, "The device, such as `{:cuda, 0}`.")

  found_by =
    for {key, doc} <- [
          session_id: "The session, unless the worker has made it for itself.",
          correlation_id: "What joins the events of one execution."
        ],
        do: Field.found_by(key, doc)

  # The name of the pool's process, whichever pool it is, and what a process without a name becomes.
  no_pool = ["Snakepit.Pool", "other"]

  event = fn name, doc, fields, steps ->
    %Event{name: [:snakepit | name], doc: doc, fields: fields, steps: steps, preset: :snakepit}
  end

  # Executions as the calls that they are where no bridge tells of its own.
  call = [:command, {:constant, "snakepit"}]
  calls = "dspex.bridge.call_method"

  unsuccessful = {:constant, Metrics.unsuccessful()}
  grpc = "snakepit.grpc.execute"
  in_pool = {:pool_of, :worker_id, :pool}
  grpc_labels = [in_pool, :command]

  executions =
    for operation <- [:execute, :execute_session] do
      session = if operation == :execute_session, do: " of a session", else: ""

      [
        %Event{
          event.(
            [:grpc_worker, operation, :start],
            "The execution of a command#{session} by gRPC starts.",
            [system_time, command, pool, some_worker | found_by],
            [
              {:worker_up, :worker_id},
              {:feed, grpc, grpc_labels, [snakepit_grpc_execute_start_total: []], []},
              {:claimed, {:feed, calls, call, [dspex_bridge_call_method_start_total: []], []}}
            ]
          )
          | claim: {:execution, :command, :worker_id, :begin}
        },
        %Event{
          event.(
            [:grpc_worker, operation, :stop],
            "The execution of a command#{session} by gRPC ended.",
            [
              duration,
              command,
              pool,
              some_worker,
              %Field{
                key: :success,
                from: :status,
                in: :metadata,
                type: :flag,
                flags: [ok: true, error: false],
                doc: "How it ended."
              },
              Field.why(:error_kind, "What went wrong, if something did."),
              Field.why(:error, "The same in detail, or alone."),
              Field.word(:success),
              unused.(:measurements, :duration_ms, "The duration once more, in milliseconds."),
              unused.(:measurements, :executions, "Always 1."),
              unused.(:measurements, :errors, "How many errors: 1 or none.")
              | found_by
            ],
            [
              {:feed, grpc, grpc_labels, [snakepit_grpc_execute_total: [:success]],
               [snakepit_grpc_execute_duration: :duration]},
              {:claimed,
               {:feed, calls, call,
                [dspex_bridge_call_method_total: [:success, {:constant, "false"}]],
                [dspex_bridge_call_method_duration: :duration]}},
              {:unless, :success, {:claimed, {:failure, call, unsuccessful}}},
              {:completion, :command, :worker_id, :duration, :success}
            ]
          )
          | exemplar: :duration,
            claim: {:execution, :command, :worker_id, :end},
            call: {call, :duration, nil}
        },
        %Event{
          event.(
            [:grpc_worker, operation, :exception],
            "The execution of a command#{session} by gRPC raised.",
            [
              duration,
              command,
              pool,
              some_worker,
              kind,
              Field.why(:reason, "What was raised, exited with or thrown."),
              Field.word(),
              unused.(:metadata, :stacktrace, "Where.")
              | found_by
            ],
            [
              {:feed, grpc, grpc_labels,
               [
                 snakepit_grpc_execute_total: [{:constant, "false"}],
                 snakepit_grpc_execute_exception_total: [:kind]
               ], [snakepit_grpc_execute_duration: :duration]},
              {:claimed,
               {:feed, calls, call,
                [
                  dspex_bridge_call_method_total: [{:constant, "false"}, {:constant, "false"}],
                  dspex_bridge_call_method_exception_total: [:kind]
                ], [dspex_bridge_call_method_duration: :duration]}},
              {:claimed, {:failure, call, :kind}},
              {:completion, :command, :worker_id, :duration, nil}
            ]
          )
          | exemplar: :duration,
            claim: {:execution, :command, :worker_id, :end},
            call: {call, :duration, nil}
        }
      ]
    end

  requests = [
    %Event{
      event.(
        [:request, :executed],
        "A request that got a worker at once, or a stream, ended.",
        [
          measurement.(:duration_us, :integer, :microsecond, "How long it took."),
          command,
          pool,
          some_worker,
          %Field{
            key: :success,
            in: :metadata,
            type: :flag,
            doc: "Whether there was a result."
          },
          Field.word(:success),
          %Field{yes_or_no.(:streaming, "Whether it was a stream.") | usual: false},
          %Field{
            yes_or_no.(:unary, "Whether it was no stream.")
            | from: :streaming,
              flags: [true: false, false: true],
              default: true
          },
          %Field{
            yes_or_no.(:served, "Set where its client had gone before it was executed.")
            | from: :aborted,
              flags: [true: false, false: true],
              default: true
          }
        ],
        [
          {:in_pool, :worker_id, :pool, no_pool},
          {:feed, "snakepit.request", grpc_labels,
           [snakepit_request_total: [:success, :streaming]],
           [snakepit_request_duration: :duration_us]},
          {:unless, :served,
           {:feed, "snakepit.request", grpc_labels, [snakepit_request_aborted_total: []], []}},
          # Streams have no other event.
          {:unless, :unary,
           {:claimed,
            {:feed, calls, call,
             [dspex_bridge_call_method_total: [:success, {:constant, "false"}]],
             [dspex_bridge_call_method_duration: :duration_us]}}},
          {:unless, :unary, {:unless, :success, {:claimed, {:failure, call, unsuccessful}}}},
          {:unless, :unary, {:completion, :command, :worker_id, :duration_us, :success}}
        ]
      )
      | claim: {:execution, :command, :worker_id, nil},
        call: {call, :duration_us, :unary}
    }
  ]

  pools = [
    event.(
      [:pool, :call, :dispatched],
      "A request got a worker.",
      [
        system_time,
        pool,
        command,
        yes_or_no.(:queued, "Whether it had to wait for one."),
        some_worker,
        %Field{
          key: :requester,
          in: :metadata,
          type: :requester,
          required: false,
          doc: "No key: the process that the dispatching one monitors, which made the request."
        }
      ],
      [
        {:in_pool, :worker_id, :pool, no_pool},
        {:dispatched, :requester, :worker_id, :command},
        {:feed, "snakepit.pool.dispatched", grpc_labels,
         [snakepit_pool_dispatched_total: [:queued]], []}
      ]
    ),
    event.(
      [:pool, :saturated],
      "A request was refused because the queue was full.",
      [
        unused.(:measurements, :queue_size, "Requests in the queue."),
        unused.(:measurements, :max_queue_size, "How many there may be."),
        pool,
        unused.(:metadata, :available_workers, "Workers without a request."),
        unused.(:metadata, :busy_workers, "Workers with one.")
      ],
      [{:feed, "snakepit.pool.saturated", [:pool], [snakepit_pool_saturated_total: []], []}]
    ),
    event.(
      [:pool, :capacity_reached],
      "A worker with threads has no thread left.",
      [
        unused.(:measurements, :capacity, "How many requests it takes at once."),
        unused.(:measurements, :load, "How many it has."),
        yes_or_no.(:rejected, "Whether a request was refused because of it."),
        unused.(:metadata, :worker_pid, "Process of the worker."),
        unused.(:metadata, :profile, "Profile of the worker.")
      ],
      [
        {:feed, "snakepit.pool.capacity", [], [snakepit_pool_capacity_reached_total: [:rejected]],
         []}
      ]
    ),
    event.(
      [:pool, :init_complete],
      "All pools have started their workers, which may not be ready yet.",
      [
        measurement.(:duration_ms, :integer, :millisecond, "How long it took."),
        unused.(:measurements, :total_workers, "How many workers there are."),
        unused.(:measurements, :count, "Always 1."),
        unused.(:metadata, :pool_workers, "How many each pool has.")
      ],
      [{:feed, "snakepit.pool.init", [], [], [snakepit_pool_init_seconds: :duration_ms]}]
    ),
    event.(
      [:pool, :worker_ready],
      "A pool has a worker to which requests can go.",
      [
        unused.(:measurements, :worker_count, "How many workers the pool has."),
        unused.(:measurements, :count, "Always 1."),
        %Field{pool | from: :pool_name},
        worker_id
      ],
      [{:in_pool, :worker_id, :pool, no_pool}, {:worker_up, :worker_id}]
    ),
    %Event{
      event.(
        [:pool, :worker, :spawned],
        "A worker is ready.",
        [
          %Field{duration | doc: "How long it took to start."},
          system_time,
          worker_id,
          %Field{pool | from: :pool_name, doc: "The pool, or its process."},
          unused.(:metadata, :python_pid, "Process id of its Python process."),
          unused.(:metadata, :mode, "Always `:process`.")
        ],
        [
          {:in_pool, :worker_id, :pool, no_pool},
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
      event.(
        [:pool, :worker, :terminated],
        "A worker is gone.",
        [
          measurement.(:lifetime, :integer, :native_as_milliseconds, "How long it lived."),
          unused.(:measurements, :total_commands, "How many commands it executed."),
          worker_id,
          %Field{reason.("Why it ended.") | required: true},
          unused.(:metadata, :planned, "Whether it was meant to end."),
          unused.(:metadata, :pool_name, "The pool.")
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
    event.(
      name,
      doc,
      measurements ++
        [
          pool,
          reason.("Why."),
          some_worker
        ],
      [{:feed, "snakepit.worker.incident", [in_pool, :reason], [{metric, []}], observes}]
    )
  end

  count = unused.(:measurements, :count, "Always 1.")

  workers = [
    incident.([:worker, :crash], "A worker crashed.", :snakepit_worker_crashed_total, [], []),
    incident.(
      [:worker, :tainted],
      "A worker gets no requests for some time, because it crashed.",
      :snakepit_worker_tainted_total,
      [unused.(:measurements, :duration_ms, "For how long.")],
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
        count,
        optional.(
          measurement.(:memory_mb, :number, :mebibyte, "Its memory, if that is the reason.")
        )
      ],
      snakepit_worker_recycled_memory_bytes: :memory_mb
    ),
    incident.(
      [:worker, :health_check_failed],
      "A worker failed its health check.",
      :snakepit_worker_health_check_failed_total,
      [count],
      []
    )
  ]

  beat = fn name, doc, fields, steps ->
    event.(
      [:heartbeat, name],
      doc,
      fields ++
        [
          count,
          unused.(:measurements, :timestamp, "Monotonic time in milliseconds."),
          unused.(:metadata, :missed_heartbeats, "How many it has missed in a row."),
          unused.(:metadata, :dependent, "Whether the worker ends when it is given up.")
        ],
      steps
    )
  end

  heartbeats = [
    beat.(
      :ping_sent,
      "A heartbeat was sent to a worker.",
      [unused.(:metadata, :worker_id, "The worker.")],
      [{:feed, "snakepit.heartbeat", [], [snakepit_heartbeat_pings_total: []], []}]
    ),
    beat.(
      :pong_received,
      "A worker answered a heartbeat.",
      [
        optional.(measurement.(:latency_ms, :number, :millisecond, "How long the answer took.")),
        some_worker
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
      [worker_id],
      [
        {:feed, "snakepit.heartbeat.timeout", [:worker_id],
         [snakepit_heartbeat_timeouts_total: []], []}
      ]
    ),
    beat.(
      :monitor_failure,
      "A worker is given up because of its heartbeats.",
      [worker_id, %Field{reason.("Why.") | from: :failure_reason}],
      [
        {:feed, "snakepit.heartbeat.failure", [:worker_id, :reason],
         [snakepit_heartbeat_failures_total: []], []}
      ]
    )
  ]

  breakers =
    for {name, state, value, doc, fields} <- [
          {:opened, "open", 2, "A circuit breaker opened: calls are refused.",
           [unused.(:measurements, :failure_count, "After how many failures.")]},
          {:half_open, "half_open", 1, "A circuit breaker lets some calls through.", []},
          {:closed, "closed", 0, "A circuit breaker closed: all calls are let through.", []}
        ] do
      event.([:circuit_breaker, name], doc, fields ++ [%Field{pool | doc: "Its name."}], [
        {:feed, "snakepit.circuit_breaker", [:pool],
         [snakepit_circuit_breaker_transitions_total: [{:constant, state}]], []},
        {:set, :snakepit_circuit_breaker_state, [:pool], {:constant, value}}
      ])
    end

  operation = name.(:operation, "What was done.")

  errors =
    for {error, doc} <- [
          shape_mismatch: "Shapes of tensors do not match.",
          device: "Tensors are on different devices.",
          oom: "A device has no memory left."
        ] do
      event.([:error, error], doc, [operation], [
        {:feed, "snakepit.error", [:operation],
         [snakepit_error_total: [{:constant, to_string(error)}]], []}
      ])
    end

  exceptions =
    for {word, mapped} <- [mapped: "true", unmapped: "false"] do
      event.(
        [:python, :exception, word],
        "An exception of Python became an error; it is #{word} to one of Elixir's.",
        [
          name.(:python_type, "Its type."),
          unused.(:metadata, :library, "The library that raised it."),
          unused.(:metadata, :function, "The function that raised it.")
        ],
        [
          {:feed, "snakepit.python.exception", [:python_type],
           [snakepit_python_exception_total: [{:constant, mapped}]], []}
        ]
      )
    end

  retry = fn outcome, doc, fields, observes ->
    event.([:retry, outcome], doc, fields, [
      {:feed, "snakepit.retry", [], [snakepit_retry_total: [{:constant, to_string(outcome)}]],
       observes}
    ])
  end

  attempts = unused.(:measurements, :attempts, "How many attempts there were.")

  retries = [
    retry.(
      :attempt,
      "An operation failed and is tried again.",
      [
        optional.(measurement.(:delay_ms, :number, :millisecond, "How long it waits before.")),
        unused.(:measurements, :attempt, "Which attempt failed.")
      ],
      snakepit_retry_delay_seconds: :delay_ms
    ),
    retry.(:success, "An operation succeeded, at the first attempt or later.", [attempts], []),
    retry.(:exhausted, "An operation failed for the last time.", [attempts], [])
  ]

  table = %Field{name.(:table, "Table of the store.") | from: :table_name}

  sessions = [
    event.(
      [:bridge, :session, :pruned],
      "Sessions whose time is over were removed from the bridge's store.",
      [
        measurement.(:count, :integer, :one, "How many."),
        optional.(measurement.(:remaining_sessions, :integer, :one, "How many are left.")),
        system_time,
        reason.("Why."),
        table,
        unused.(:metadata, :max_sessions, "How many there may be.")
      ],
      [
        {:feed, "snakepit.session.pruned", [:reason], [], [snakepit_session_pruned: :count]},
        {:set, :snakepit_sessions, [:table], :remaining_sessions}
      ]
    ),
    event.(
      [:bridge, :session, :accumulation_warning],
      "There are nearly as many sessions as there may be, or as many.",
      [
        optional.(measurement.(:current_sessions, :integer, :one, "How many there are.")),
        unused.(:measurements, :max_sessions, "How many there may be."),
        unused.(:measurements, :utilization, "The share of it."),
        system_time,
        reason.("Which of the two."),
        table,
        unused.(:metadata, :strict_mode, "Whether it is logged.")
      ],
      [
        {:feed, "snakepit.session.accumulation", [:reason],
         [snakepit_session_accumulation_total: []], []},
        {:set, :snakepit_sessions, [:table], :current_sessions}
      ]
    )
  ]

  copies =
    for {op, doc} <- [
          export: "A handle was exported.",
          import: "A handle was imported.",
          fallback: "A copy was made, because handles cannot be exported."
        ] do
      event.(
        [:zero_copy, op],
        doc,
        [
          measurement.(:duration_ms, :number, :fine_millisecond, "How long it took."),
          optional.(measurement.(:bytes, :integer, :byte, "Its size.")),
          name.(:kind, "What was shared: `:dlpack` or `:arrow`."),
          unused.(:metadata, :device, "The device."),
          unused.(:metadata, :dtype, "Type of the elements."),
          unused.(:metadata, :shape, "The shape.")
        ],
        [
          {:feed, "snakepit.zero_copy", [:kind],
           [snakepit_zero_copy_total: [{:constant, to_string(op)}]],
           [snakepit_zero_copy_duration: :duration_ms, snakepit_zero_copy_bytes: :bytes]}
        ]
      )
    end

  sampled = fn what, doc, fields, levels ->
    event.(
      [:gpu, what, :sampled],
      doc,
      fields ++ [device],
      for({level, key} <- levels, do: {:set, level, [:device], key})
    )
  end

  gpu = [
    sampled.(
      :memory,
      "Memory of a GPU.",
      for {key, doc} <- [used_mb: "Used.", free_mb: "Free.", total_mb: "All of it."] do
        optional.(measurement.(key, :number, :mebibyte, doc))
      end ++ [unused.(:metadata, :utilization, "The share that is used.")],
      snakepit_gpu_memory_used_bytes: :used_mb,
      snakepit_gpu_memory_free_bytes: :free_mb,
      snakepit_gpu_memory_size_bytes: :total_mb
    ),
    sampled.(
      :utilization,
      "Use of a GPU.",
      [
        measurement.(:gpu_percent, :number, :percent, "The share of time in which it works."),
        unused.(:measurements, :memory_percent, "The share of memory that is used.")
      ],
      snakepit_gpu_utilization_ratio: :gpu_percent
    ),
    sampled.(
      :temperature,
      "Temperature of a GPU.",
      [measurement.(:celsius, :number, :celsius, "In degrees.")],
      snakepit_gpu_temperature_celsius: :celsius
    ),
    sampled.(
      :power,
      "Power of a GPU.",
      [
        measurement.(:watts, :number, :watt, "What it draws."),
        unused.(:measurements, :limit_watts, "Always 0.")
      ],
      snakepit_gpu_power_watts: :watts
    )
  ]

  # Sent by Python through `snakepit_bridge.telemetry`: what is metadata there is text here, and durations are
  # nanoseconds if the helper `span` measured them.
  python_duration = measurement.(:duration, :number, :nanosecond, "How long it took.")
  tool = name.(:tool, "The tool.")
  python_command = %Field{name.(:command, "What was called.") | from: [:command, :function]}

  python_module = %Field{
    name.(:python_module, "The Python module.")
    | from: ["python_module", :python_module, :library, :module],
      default: "snakepit"
  }

  sent = [
    unused.(:metadata, :python_pid, "Process id of the Python process."),
    unused.(:metadata, :timestamp_ns, "When, as Python's clock says.")
  ]

  calls_of_tools = "dspex.tools.call"

  # What Python timed itself. Whose call it is inside of has an event of its own.
  python_call = fn outcome, success, doc, needed ->
    %Event{
      event.(
        [:python, :call, outcome],
        doc,
        [needed.(python_duration), python_command, python_module | sent],
        [
          {:feed, "snakepit.python.call", [:command],
           [snakepit_python_call_total: [{:constant, success}]],
           [snakepit_python_call_duration: :duration]},
          {:feed, "dspex.bridge.call_method.python", [:command, :python_module],
           [dspex_bridge_call_method_python_total: [{:constant, success}]],
           [dspex_bridge_call_method_python_duration: :duration]}
        ]
      )
      | variant: :python,
        only: {:with, [:worker_id, :python_pid, :timestamp_ns]}
    }
  end

  python_tool = fn outcome, success, doc, needed ->
    %Event{
      event.(
        [:python, :tool, :execution, outcome],
        doc,
        [needed.(python_duration), tool | sent],
        [
          {:feed, "snakepit.python.tool", [:tool],
           [snakepit_python_tool_total: [{:constant, success}]],
           [snakepit_python_tool_duration: :duration]},
          {:claimed,
           {:feed, calls_of_tools, [:tool], [dspex_tools_call_total: [{:constant, success}]],
            [dspex_tools_call_duration: :duration]}}
        ]
      )
      | claim: {:tool, :tool}
    }
  end

  required = fn field -> field end

  python = [
    python_call.(:stop, "true", "A call that Python code timed itself returned.", required),
    python_call.(:exception, "false", "A call that Python code timed itself raised.", optional),
    %Event{
      event.(
        [:python, :tool, :execution, :start],
        "Python code starts to execute a tool.",
        [system_time, tool | sent],
        [
          {:claimed,
           {:feed, calls_of_tools, [:tool],
            [dspex_tools_call_start_total: [{:constant, "elixir"}]], []}}
        ]
      )
      | claim: {:tool, :tool}
    },
    python_tool.(:stop, "true", "Python code has executed a tool.", required),
    python_tool.(:exception, "false", "A tool raised in Python.", optional),
    event.(
      [:python, :tool, :result_size],
      "Size of the result of a tool.",
      [
        %Field{
          measurement.(:size, :integer, :byte, "The size.")
          | from: [:bytes, :message_size]
        },
        tool | sent
      ],
      [
        {:feed, "snakepit.python.tool", [:tool], [],
         [snakepit_python_tool_result_size_bytes: :size]}
      ]
    ),
    event.(
      [:python, :memory, :sampled],
      "Memory of a Python process.",
      [
        optional.(measurement.(:rss_bytes, :integer, :byte, "Resident.")),
        optional.(measurement.(:vms_bytes, :integer, :byte, "Virtual.")),
        worker_id | sent
      ],
      [
        {:set, :snakepit_python_memory_rss_bytes, [:worker_id], :rss_bytes},
        {:set, :snakepit_python_memory_vms_bytes, [:worker_id], :vms_bytes}
      ]
    ),
    event.(
      [:python, :cpu, :sampled],
      "Use of processors by a Python process.",
      [
        measurement.(:cpu_percent, :number, :percent, "Share of one processor's time."),
        worker_id | sent
      ],
      [{:set, :snakepit_python_cpu_ratio, [:worker_id], :cpu_percent}]
    ),
    event.(
      [:python, :gc, :completed],
      "Python has collected garbage.",
      [count, unused.(:measurements, :generation, "Which generation.") | sent],
      [{:feed, "snakepit.python.gc", [], [snakepit_python_gc_total: []], []}]
    ),
    event.(
      [:python, :error, :occurred],
      "Python code tells of an error.",
      [count, name.(:error_type, "Its type.") | sent],
      [
        {:feed, "snakepit.python.error", [:error_type], [snakepit_python_error_total: []], []}
      ]
    )
  ]

  @events List.flatten([
            executions,
            requests,
            pools,
            workers,
            heartbeats,
            breakers,
            errors,
            exceptions,
            retries,
            sessions,
            copies,
            gpu,
            python
          ])

  def all, do: @events
end
