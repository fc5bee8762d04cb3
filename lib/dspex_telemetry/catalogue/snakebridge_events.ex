defmodule DSPexTelemetry.Catalogue.SnakeBridgeEvents do
  @moduledoc false
  # The events that SnakeBridge 0.16 emits, each with its fields and what it feeds. Its calls have names of Snakepit's, which
  # Python uses too for what happens inside it.

  alias DSPexTelemetry.Catalogue.{Event, Field}

  unused = fn place, key, doc ->
    %Field{key: key, in: place, type: :term, required: false, doc: doc <> " Not used."}
  end

  system_time = unused.(:measurements, :system_time, "System time at the start, in native units.")

  duration = %Field{
    key: :duration,
    in: :measurements,
    type: :integer,
    unit: :native,
    doc: "How long the call took, from the caller's side."
  }

  function = %Field{key: :function, in: :metadata, type: :text, doc: "The function or method."}

  python_module = %Field{
    key: :python_module,
    from: [:python_module, :library, :module],
    in: :metadata,
    type: :text,
    required: false,
    doc: "The Python module."
  }

  called = [
    function,
    python_module,
    unused.(:metadata, :call_type, "Such as `dynamic`, `method` or `get_attr`.")
  ]

  found_by =
    for {key, doc} <- [
          session_id: "The session.",
          trace_id: "The trace.",
          span_id: "The span.",
          correlation_id: "What joins the events of one call."
        ],
        do: Field.found_by(key, doc)

  calls = "dspex.bridge.call_method"
  labels = [:function, :python_module]

  call = fn outcome, doc, fields, steps ->
    %Event{
      name: [:snakepit, :python, :call, outcome],
      doc: doc,
      fields: fields,
      steps: steps,
      preset: :snakebridge,
      variant: :elixir,
      only: {:without, [:worker_id, :python_pid, :timestamp_ns]},
      claim: :call
    }
  end

  session = fn name, doc, family, metric ->
    %Event{
      name: [:snakebridge, :session | name],
      doc: doc,
      fields: [
        system_time,
        unused.(:metadata, :session_id, "The session."),
        %Field{
          key: :source,
          in: :metadata,
          type: :name,
          required: false,
          doc: "What made it do so: `:manual` or `:owner_down`."
        },
        %Field{
          key: :reason,
          in: :metadata,
          type: :reason,
          required: false,
          doc: "Why."
        }
      ],
      steps: [{:feed, family, [:source, :reason], [{metric, []}], []}],
      preset: :snakebridge
    }
  end

  @events [
    call.(:start, "A call of a Python function starts.", [system_time | called], [
      {:claimed, {:feed, calls, labels, [dspex_bridge_call_method_start_total: []], []}}
    ]),
    %Event{
      call.(:stop, "A call of a Python function returned.", [duration | called] ++ found_by, [
        {:claimed,
         {:feed, calls, labels,
          [dspex_bridge_call_method_total: [{:constant, "true"}, {:constant, "false"}]],
          [dspex_bridge_call_method_duration: :duration]}}
      ])
      | exemplar: :duration,
        call: {labels, :duration, nil}
    },
    %Event{
      call.(
        :exception,
        "A call of a Python function failed: the error was returned, or raised.",
        [
          duration,
          Field.why(:error, "The error that was returned."),
          Field.why(:reason, "The exception that was raised."),
          Field.word() | called
        ] ++ found_by,
        [
          {:claimed,
           {:feed, calls, labels,
            [
              dspex_bridge_call_method_total: [{:constant, "false"}, {:constant, "false"}],
              dspex_bridge_call_method_exception_total: [{:constant, "error"}]
            ], [dspex_bridge_call_method_duration: :duration]}},
          {:claimed, {:failure, labels, {:constant, "error"}}}
        ]
      )
      | exemplar: :duration,
        call: {labels, :duration, nil}
    },
    session.(
      [:cleanup],
      "SnakeBridge releases a session.",
      "snakebridge.session.cleanup",
      :snakebridge_session_cleanup_total
    ),
    session.(
      [:cleanup, :error],
      "Python could not be told to release a session.",
      "snakebridge.session.cleanup.error",
      :snakebridge_session_cleanup_error_total
    )
  ]

  def all, do: @events
end
