defmodule DSPexTelemetry.Catalogue.Metrics do
  @moduledoc false
  # The metrics, in families that share labels.

  @booleans ["true", "false"]
  @kinds ["error", "exit", "throw", "other"]
  @callers ["python", "elixir", "other"]
  # What an error without an exception is counted as.
  @unsuccessful "unsuccessful"

  # From 10 us, what a tool takes, to 10 min, what a language model may take. Prometheus takes samples for evenly spread
  # between two bounds, so a p99 is read too high by what lies between the slowest call and the next bound. The pairs
  # of close bounds (24 and 32 and their powers) stand where latencies lie most often, and keep a p99 there within
  # 25 %, whether calls take the same time or differ by a third. Elsewhere bounds are a factor of 2 to 2.5 apart:
  # each one costs a series memory, and a scrape a line.
  @duration_buckets [
    10,
    24,
    32,
    50,
    100,
    250,
    500,
    1_000,
    2_400,
    3_200,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    240_000,
    320_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    24_000_000,
    32_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    360_000_000,
    420_000_000,
    600_000_000
  ]
  @lifetime_buckets [1, 10, 60, 300, 1_800, 3_600, 21_600, 86_400, 604_800]
  @size_buckets [64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 16_777_216]
  @count_buckets [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000]

  @families [
    %{
      name: "dspex.bridge.create_instance",
      role: :instances,
      labels: [:python_class, :success],
      usage: {:class, :dspex_bridge_create_instance_total, [:python_class]},
      counters: [
        %{
          name: :dspex_bridge_create_instance_total,
          dimensions: [success: @booleans],
          drop_labels: [:success],
          doc: "Completed creations of instances. Exceptions count with success=\"false\"."
        },
        %{
          name: :dspex_bridge_create_instance_exception_total,
          dimensions: [kind: @kinds],
          drop_labels: [:success],
          doc: "Exceptions while instances were created."
        }
      ],
      histograms: [
        %{
          name: :dspex_bridge_create_instance_duration,
          unit: :microsecond,
          buckets: @duration_buckets,
          doc: "Time to create an instance of a Python class, exceptions included."
        }
      ]
    },
    %{
      name: "dspex.bridge.create_instance.start",
      labels: [:python_class],
      counters: [
        %{
          name: :dspex_bridge_create_instance_start_total,
          dimensions: [],
          doc: "Creations of instances that were started."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.bridge.call_method",
      role: :calls,
      labels: [:method, :python_class],
      usage: {:method, :dspex_bridge_call_method_total, [:python_class, :method]},
      counters: [
        %{
          name: :dspex_bridge_call_method_total,
          dimensions: [success: @booleans, cached: @booleans],
          doc: "Completed method calls. Exceptions count with success=\"false\"."
        },
        %{
          name: :dspex_bridge_call_method_exception_total,
          dimensions: [kind: @kinds],
          doc: "Method calls that ended in an exception."
        },
        %{
          name: :dspex_bridge_call_method_start_total,
          dimensions: [],
          doc: "Method calls that were started."
        }
      ],
      histograms: [
        %{
          name: :dspex_bridge_call_method_duration,
          unit: :microsecond,
          buckets: @duration_buckets,
          doc: "Duration of method calls, exceptions included."
        },
        %{
          name: :dspex_bridge_call_method_args_size_bytes,
          unit: :byte,
          buckets: @size_buckets,
          doc: "Size of the arguments of method calls."
        },
        %{
          name: :dspex_bridge_call_method_result_size_bytes,
          unit: :byte,
          buckets: @size_buckets,
          doc: "Size of the results of method calls."
        }
      ]
    },
    %{
      name: "dspex.bridge.error",
      role: :errors,
      labels: [:reason],
      counters: [
        %{
          name: :dspex_bridge_error_total,
          dimensions: [kind: @kinds ++ [@unsuccessful]],
          doc:
            "Failed method calls by kind and reason: exceptions, and as `#{@unsuccessful}` calls that " <>
              "reported no success, if option `:count_unsuccessful` says so."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.bridge.call_method.error",
      role: :call_errors,
      labels: [:method, :python_class, :reason],
      counters: [
        %{
          name: :dspex_bridge_call_method_error_total,
          dimensions: [kind: @kinds ++ [@unsuccessful]],
          doc: "The same failed method calls by method, class and reason: why a method fails."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.bridge.call_method.python",
      role: :python_times,
      labels: [:method, :python_class],
      counters: [
        %{
          name: :dspex_bridge_call_method_python_total,
          dimensions: [success: @booleans],
          doc: "Method calls that Python timed itself."
        }
      ],
      histograms: [
        %{
          name: :dspex_bridge_call_method_python_duration,
          unit: :microsecond,
          buckets: @duration_buckets,
          doc:
            "Time that method calls spent inside Python. What `dspex_bridge_call_method_duration` has beyond that is " <>
              "the cost of the bridge: queue, transport and serialisation."
        }
      ]
    },
    %{
      name: "snakebridge.session.cleanup",
      labels: [:source, :reason],
      counters: [
        %{
          name: :snakebridge_session_cleanup_total,
          dimensions: [],
          doc: "Sessions that SnakeBridge released, by what made it do so and why."
        }
      ],
      histograms: []
    },
    %{
      name: "snakebridge.session.cleanup.error",
      labels: [:source, :reason],
      counters: [
        %{
          name: :snakebridge_session_cleanup_error_total,
          dimensions: [],
          doc: "Sessions that Python could not be told to release."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.alerts.error_spike",
      role: :spikes,
      labels: [:method, :python_class],
      counters: [
        %{
          name: :dspex_alerts_error_spike_total,
          dimensions: [],
          doc: "Spikes of failed method calls."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.session.created",
      role: :created_sessions,
      labels: [],
      counters: [
        %{name: :dspex_session_created_total, dimensions: [], doc: "Sessions that were created."}
      ],
      histograms: []
    },
    %{
      name: "dspex.session.expired",
      role: :expired_sessions,
      labels: [:reason],
      counters: [
        %{name: :dspex_session_expired_total, dimensions: [], doc: "Sessions that expired."}
      ],
      histograms: [
        %{
          name: :dspex_session_lifetime_seconds,
          unit: :second,
          buckets: @lifetime_buckets,
          doc: "How long sessions lived."
        },
        %{
          name: :dspex_session_operations,
          unit: :one,
          buckets: @count_buckets,
          doc: "How many operations sessions made."
        }
      ]
    },
    %{
      name: "dspex.session.variable.set",
      role: :set_variables,
      labels: [:var_type],
      counters: [
        %{
          name: :dspex_session_variable_set_total,
          dimensions: [],
          doc: "Session variables that were set."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.session.variable.get",
      role: :read_variables,
      labels: [:found],
      counters: [
        %{
          name: :dspex_session_variable_get_total,
          dimensions: [],
          doc: "Session variables that were read."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.session.variable",
      labels: [:var_name],
      usage: {:variable, :dspex_session_variable_use_total, [:var_name]},
      counters: [
        %{
          name: :dspex_session_variable_use_total,
          dimensions: [],
          doc: "Session variables that were set or read, by name."
        }
      ],
      histograms: []
    },
    %{
      name: "dspex.session.variable.size",
      role: :variable_sizes,
      labels: [:op],
      counters: [],
      histograms: [
        %{
          name: :dspex_session_variable_size_bytes,
          unit: :byte,
          buckets: @size_buckets,
          doc: "Size of session variables, by operation (set or get)."
        }
      ]
    },
    %{
      name: "dspex.tools.call",
      role: :tools,
      labels: [:tool_name],
      usage: {:tool, :dspex_tools_call_total, [:tool_name]},
      counters: [
        %{
          name: :dspex_tools_call_total,
          dimensions: [success: @booleans],
          doc: "Completed tool calls. Exceptions count with success=\"false\"."
        },
        %{
          name: :dspex_tools_call_start_total,
          dimensions: [caller: @callers],
          doc: "Tool calls that were started, by the side that called."
        },
        %{
          name: :dspex_tools_call_exception_total,
          dimensions: [kind: @kinds],
          doc: "Tool calls that ended in an exception."
        }
      ],
      histograms: [
        %{
          name: :dspex_tools_call_duration,
          unit: :microsecond,
          buckets: @duration_buckets,
          doc: "Duration of tool calls, exceptions included."
        }
      ]
    },
    %{
      name: "snakepit.worker.spawned",
      role: :started_workers,
      labels: [:python_version],
      counters: [
        %{name: :snakepit_worker_spawned_total, dimensions: [], doc: "Workers that were started."}
      ],
      histograms: []
    },
    %{
      name: "snakepit.worker.died",
      role: :dead_workers,
      labels: [:reason],
      counters: [
        %{name: :snakepit_worker_died_total, dimensions: [], doc: "Workers that died."}
      ],
      histograms: []
    },
    %{
      name: "snakepit.worker",
      role: :worker_times,
      labels: [],
      counters: [],
      histograms: [
        %{
          name: :snakepit_worker_startup_time,
          unit: :microsecond,
          buckets: @duration_buckets,
          doc: "How long workers took to start."
        },
        %{
          name: :snakepit_worker_lifetime_seconds,
          unit: :second,
          buckets: @lifetime_buckets,
          doc: "How long dead workers had lived."
        }
      ]
    },
    %{
      name: "snakepit.pool.queue_time",
      role: :queue_waits,
      labels: [:command],
      counters: [],
      histograms: [
        %{
          name: :snakepit_pool_queue_time,
          unit: :microsecond,
          buckets: @duration_buckets,
          doc: "How long requests waited for a worker."
        }
      ]
    }
  ]

  @gauges [
    %{
      name: :snakepit_worker_pool_size,
      doc: "Workers that are alive: a set of ids, so a repeated event changes nothing."
    }
  ]

  def kinds, do: @kinds
  def unsuccessful, do: @unsuccessful
  def callers, do: @callers
  def duration_buckets, do: @duration_buckets
  def families, do: @families
  def gauges, do: @gauges
end
