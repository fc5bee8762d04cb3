defmodule DSPexTelemetry.Catalogue.Events do
  @moduledoc false
  # The events, each with its fields and what it feeds.

  alias DSPexTelemetry.Catalogue.{Event, Field, Metrics}

  system_time = %Field{
    key: :system_time,
    in: :measurements,
    type: :term,
    required: false,
    doc: "System time at the start, in native units. Not used."
  }

  duration = %Field{
    key: :duration,
    in: :measurements,
    type: :integer,
    unit: :duration,
    doc: "How long it took."
  }

  unused = fn key, doc ->
    %Field{key: key, in: :metadata, type: :term, required: false, doc: doc <> " Not used."}
  end

  text = fn key, doc -> %Field{key: key, in: :metadata, type: :text, doc: doc} end

  integer = fn key, unit, doc ->
    %Field{key: key, in: :measurements, type: :integer, unit: unit, doc: doc}
  end

  success = %Field{
    key: :success,
    in: :metadata,
    type: :flag,
    doc: "Whether the operation reported success."
  }

  kind = %Field{
    key: :kind,
    in: :metadata,
    type: {:choice, Metrics.kinds()},
    doc: "Kind of the exception."
  }

  stacktrace = unused.(:stacktrace, "Where.")
  exception_details = [unused.(:reason, "What was raised, exited with or thrown."), stacktrace]

  raised = Field.why(:reason, "What was raised, exited with or thrown.")

  failed_because = [
    Field.word(:success),
    Field.why(:reason, "Why it failed."),
    Field.why(:error, "The same, if there is no `reason`."),
    Field.why(:error_type, "The type of a Python exception, if there is neither."),
    Field.why(:error_message, "Its message.")
  ]

  python_class = text.(:python_class, "The Python class.")
  method = %Field{text.(:method, "The method's name.") | formerly: [:method_name]}

  ref = %Field{
    text.(:ref, "Reference of the instance. Tells the class where `python_class` is absent.")
    | required: false,
      formerly: [:instance_id]
  }

  class_of_call = %Field{
    text.(:python_class, "The class, if the emitter knows it; wins over `ref`.")
    | required: false,
      usual: false
  }

  worker_of_call = %Field{
    text.(:worker_id, "The worker that did it, if the emitter knows. Tells router and cache.")
    | required: false,
      usual: false
  }

  session_id = unused.(:session_id, "The session, if the operation belongs to one.")

  # What exemplars are found by.
  found_by =
    for {key, doc} <- [
          session_id: "The session, if the operation belongs to one.",
          trace_id: "The trace, as text or as an integer.",
          span_id: "The span, as text or as an integer.",
          correlation_id: "What joins the events of one call."
        ],
        do: Field.found_by(key, doc)

  worker_id = text.(:worker_id, "The worker.")
  tool_name = text.(:tool_name, "The tool.")

  reason = fn doc -> %Field{key: :reason, in: :metadata, type: :reason, doc: doc} end

  calls = "dspex.bridge.call_method"
  call_labels = [:method, {:class_of, :ref, :python_class}]
  unsuccessful = {:constant, Metrics.unsuccessful()}

  ended = {call_labels, :duration, :cached}

  var_name = %Field{
    key: :var_name,
    in: :metadata,
    type: :text,
    required: false,
    doc: "The variable."
  }

  @events [
    %Event{
      name: [:dspex, :bridge, :create_instance, :start],
      doc: "The creation of an instance of a Python class starts.",
      fields: [
        system_time,
        python_class,
        unused.(:args_size, "Size of the arguments in bytes.")
      ],
      steps: [
        {:feed, "dspex.bridge.create_instance.start", [:python_class],
         [dspex_bridge_create_instance_start_total: []], []},
        {:enter, :create, nil}
      ]
    },
    %Event{
      name: [:dspex, :bridge, :create_instance, :stop],
      doc: "An instance was created, or the bridge answered that it could not be.",
      fields:
        [
          duration,
          python_class,
          success,
          %Field{ref | doc: "Reference of the new instance."},
          worker_of_call
        ] ++ found_by,
      exemplar: :duration,
      steps: [
        {:feed, "dspex.bridge.create_instance", [:python_class, :success],
         [dspex_bridge_create_instance_total: [:success]],
         [dspex_bridge_create_instance_duration: :duration]},
        {:bind, :ref, :python_class},
        {:lives, :ref, :worker_id},
        {:leave, :create}
      ]
    },
    %Event{
      name: [:dspex, :bridge, :create_instance, :exception],
      doc: "The creation of an instance raised.",
      fields: [duration, python_class, kind] ++ exception_details ++ found_by,
      exemplar: :duration,
      steps: [
        {:feed, "dspex.bridge.create_instance", [:python_class, {:constant, "false"}],
         [
           dspex_bridge_create_instance_total: [{:constant, "false"}],
           dspex_bridge_create_instance_exception_total: [:kind]
         ], [dspex_bridge_create_instance_duration: :duration]},
        {:leave, :create}
      ]
    },
    %Event{
      name: [:dspex, :bridge, :call_method, :start],
      doc: "A method call starts.",
      fields: [
        system_time,
        ref,
        method,
        %Field{
          key: :args_size,
          in: :metadata,
          type: :integer,
          unit: :byte,
          required: false,
          doc: "Size of the arguments."
        },
        session_id,
        class_of_call
      ],
      steps: [
        {:feed, calls, call_labels, [dspex_bridge_call_method_start_total: []],
         [dspex_bridge_call_method_args_size_bytes: :args_size]},
        {:enter, :call, nil}
      ]
    },
    %Event{
      name: [:dspex, :bridge, :call_method, :stop],
      doc: "A method call returned.",
      fields:
        [
          duration,
          %Field{integer.(:result_size, :byte, "Size of the result.") | required: false},
          ref,
          method,
          success,
          %Field{
            key: :cached,
            in: :metadata,
            type: :flag,
            required: false,
            default: false,
            doc: "Whether the result came from a cache."
          },
          class_of_call,
          worker_of_call
        ] ++ failed_because ++ found_by,
      exemplar: :duration,
      call: ended,
      steps: [
        {:feed, calls, call_labels, [dspex_bridge_call_method_total: [:success, :cached]],
         [
           dspex_bridge_call_method_duration: :duration,
           dspex_bridge_call_method_result_size_bytes: :result_size
         ]},
        {:unless, :success, {:failure, call_labels, unsuccessful}},
        {:unless, :cached, {:completion, :method, :worker_id, :duration, :success}},
        {:leave, :call}
      ]
    },
    %Event{
      name: [:dspex, :bridge, :call_method, :exception],
      doc: "A method call raised.",
      fields:
        [
          duration,
          ref,
          method,
          kind,
          raised,
          Field.word(),
          stacktrace,
          class_of_call,
          worker_of_call
        ] ++ found_by,
      exemplar: :duration,
      call: {call_labels, :duration, nil},
      steps: [
        {:feed, calls, call_labels,
         [
           dspex_bridge_call_method_total: [{:constant, "false"}, {:constant, "false"}],
           dspex_bridge_call_method_exception_total: [:kind]
         ], [dspex_bridge_call_method_duration: :duration]},
        {:failure, call_labels, :kind},
        {:completion, :method, :worker_id, :duration, nil},
        {:leave, :call}
      ]
    },
    %Event{
      name: [:dspex, :session, :created],
      doc: "A session was created.",
      fields: [
        system_time,
        unused.(:session_id, "The session."),
        unused.(:initial_vars, "Its first variables.")
      ],
      steps: [{:feed, "dspex.session.created", [], [dspex_session_created_total: []], []}]
    },
    %Event{
      name: [:dspex, :session, :variable, :set],
      doc: "A session variable was set.",
      fields: [
        integer.(:size, :byte, "Size of the value."),
        unused.(:session_id, "The session."),
        var_name,
        text.(:var_type, "Type of the value.")
      ],
      steps: [
        {:feed, "dspex.session.variable.set", [:var_type], [dspex_session_variable_set_total: []],
         []},
        {:feed, "dspex.session.variable.size", [{:constant, "set"}], [],
         [dspex_session_variable_size_bytes: :size]},
        {:feed, "dspex.session.variable", [:var_name], [dspex_session_variable_use_total: []], []}
      ]
    },
    %Event{
      name: [:dspex, :session, :variable, :get],
      doc: "A session variable was read.",
      fields: [
        %Field{
          integer.(:size, :byte, "Size of the value, if it was found.")
          | required: false
        },
        unused.(:session_id, "The session."),
        var_name,
        %Field{key: :found, in: :metadata, type: :flag, doc: "Whether there was a value."}
      ],
      steps: [
        {:feed, "dspex.session.variable.get", [:found], [dspex_session_variable_get_total: []],
         []},
        {:feed, "dspex.session.variable.size", [{:constant, "get"}], [],
         [dspex_session_variable_size_bytes: :size]},
        {:feed, "dspex.session.variable", [:var_name], [dspex_session_variable_use_total: []], []}
      ]
    },
    %Event{
      name: [:dspex, :session, :expired],
      doc: "A session ended.",
      fields: [
        integer.(:lifetime_ms, :millisecond, "How long it lived."),
        integer.(:total_operations, :one, "How many operations it made."),
        unused.(:session_id, "The session."),
        reason.("Why it ended.")
      ],
      steps: [
        {:feed, "dspex.session.expired", [:reason], [dspex_session_expired_total: []],
         [
           dspex_session_lifetime_seconds: :lifetime_ms,
           dspex_session_operations: :total_operations
         ]}
      ]
    },
    %Event{
      name: [:dspex, :tools, :call, :start],
      doc: "A tool call starts.",
      fields: [
        system_time,
        tool_name,
        session_id,
        unused.(:args_size, "Size of the arguments in bytes."),
        %Field{
          key: :caller,
          in: :metadata,
          type: {:choice, Metrics.callers()},
          doc: "The side that called."
        }
      ],
      claim: {:tool, :tool_name},
      steps: [
        {:claimed,
         {:feed, "dspex.tools.call", [:tool_name], [dspex_tools_call_start_total: [:caller]], []}},
        {:enter, :tool, {:caller, "elixir"}}
      ]
    },
    %Event{
      name: [:dspex, :tools, :call, :stop],
      doc: "A tool call returned.",
      fields:
        [
          duration,
          tool_name,
          success,
          unused.(:result_size, "Size of the result in bytes.")
        ] ++ found_by,
      exemplar: :duration,
      claim: {:tool, :tool_name},
      steps: [
        {:claimed,
         {:feed, "dspex.tools.call", [:tool_name], [dspex_tools_call_total: [:success]],
          [dspex_tools_call_duration: :duration]}},
        {:leave, :tool}
      ]
    },
    %Event{
      name: [:dspex, :tools, :call, :exception],
      doc: "A tool call raised.",
      fields: [duration, tool_name, kind] ++ exception_details ++ found_by,
      exemplar: :duration,
      claim: {:tool, :tool_name},
      steps: [
        {:claimed,
         {:feed, "dspex.tools.call", [:tool_name],
          [
            dspex_tools_call_total: [{:constant, "false"}],
            dspex_tools_call_exception_total: [:kind]
          ], [dspex_tools_call_duration: :duration]}},
        {:leave, :tool}
      ]
    },
    %Event{
      name: [:snakepit, :worker, :spawned],
      doc: "A Python worker is ready.",
      fields: [
        %Field{duration | key: :startup_time, doc: "How long it took to start."},
        worker_id,
        text.(:python_version, "Its Python version.")
      ],
      claim: {:worker, :worker_id},
      steps: [
        {:claimed,
         {:feed, "snakepit.worker.spawned", [:python_version],
          [snakepit_worker_spawned_total: []], []}},
        {:claimed,
         {:feed, "snakepit.worker", [], [], [snakepit_worker_startup_time: :startup_time]}},
        {:worker_up, :worker_id}
      ]
    },
    %Event{
      name: [:snakepit, :worker, :died],
      doc: "A Python worker is gone.",
      fields: [
        integer.(:lifetime_ms, :millisecond, "How long it lived."),
        %Field{
          key: :operations_handled,
          in: :measurements,
          type: :term,
          required: false,
          doc: "How many operations it made. Not used."
        },
        worker_id,
        reason.("Why it died.")
      ],
      claim: {:worker, :worker_id},
      steps: [
        {:claimed,
         {:feed, "snakepit.worker.died", [:reason], [snakepit_worker_died_total: []], []}},
        {:claimed,
         {:feed, "snakepit.worker", [], [], [snakepit_worker_lifetime_seconds: :lifetime_ms]}},
        {:worker_down, :worker_id}
      ]
    },
    %Event{
      name: [:snakepit, :pool, :queue_time],
      doc: "A request got a worker.",
      fields: [
        integer.(:wait_time_us, :microsecond, "How long it waited."),
        %Field{worker_id | required: false, doc: "The worker that it got."},
        text.(:command, "What the request was for.")
      ],
      steps: [
        {:feed, "snakepit.pool.queue_time", [:command], [],
         [snakepit_pool_queue_time: :wait_time_us]},
        {:wait, :wait_time_us, :worker_id, :command},
        {:queued, :wait_time_us, :worker_id}
      ]
    }
  ]

  def all, do: @events
end
