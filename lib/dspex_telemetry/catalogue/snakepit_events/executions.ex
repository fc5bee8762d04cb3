defmodule DSPexTelemetry.Catalogue.SnakepitEvents.Executions do
  @moduledoc false
  # Commands and streams that workers execute.

  import DSPexTelemetry.Catalogue.SnakepitEvents.Fields

  alias DSPexTelemetry.Catalogue.{Event, Field, Metrics}

  found_by =
    for {key, doc} <- [
          session_id: "The session, unless the worker has made it for itself.",
          correlation_id: "What joins the events of one execution."
        ],
        do: Field.found_by(key, doc)

  # Executions as the calls that they are where no bridge tells of its own.
  call = [:command, {:constant, "snakepit"}]
  calls = "dspex.bridge.call_method"

  unsuccessful = {:constant, Metrics.unsuccessful()}
  grpc = "snakepit.grpc.execute"
  grpc_labels = [in_pool(), :command]

  executions =
    for operation <- [:execute, :execute_session] do
      session = if operation == :execute_session, do: " of a session", else: ""

      [
        %Event{
          event(
            [:grpc_worker, operation, :start],
            "The execution of a command#{session} by gRPC starts.",
            [system_time(), command(), pool(), some_worker() | found_by],
            [
              {:worker_up, :worker_id},
              {:feed, grpc, grpc_labels, [snakepit_grpc_execute_start_total: []], []},
              {:claimed, {:feed, calls, call, [dspex_bridge_call_method_start_total: []], []}}
            ]
          )
          | claim: {:execution, :command, :worker_id, :begin}
        },
        %Event{
          event(
            [:grpc_worker, operation, :stop],
            "The execution of a command#{session} by gRPC ended.",
            [
              duration(),
              command(),
              pool(),
              some_worker(),
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
              unused(:measurements, :duration_ms, "The duration once more, in milliseconds."),
              unused(:measurements, :executions, "Always 1."),
              unused(:measurements, :errors, "How many errors: 1 or none.")
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
          event(
            [:grpc_worker, operation, :exception],
            "The execution of a command#{session} by gRPC raised.",
            [
              duration(),
              command(),
              pool(),
              some_worker(),
              kind(),
              Field.why(:reason, "What was raised, exited with or thrown."),
              Field.word(),
              unused(:metadata, :stacktrace, "Where.")
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
      event(
        [:request, :executed],
        "A request that got a worker at once, or a stream, ended.",
        [
          measurement(:duration_us, :integer, :microsecond, "How long it took."),
          command(),
          pool(),
          some_worker(),
          %Field{
            key: :success,
            in: :metadata,
            type: :flag,
            doc: "Whether there was a result."
          },
          Field.word(:success),
          %Field{yes_or_no(:streaming, "Whether it was a stream.") | usual: false},
          %Field{
            yes_or_no(:unary, "Whether it was no stream.")
            | from: :streaming,
              flags: [true: false, false: true],
              default: true
          },
          %Field{
            yes_or_no(:served, "Set where its client had gone before it was executed.")
            | from: :aborted,
              flags: [true: false, false: true],
              default: true
          }
        ],
        [
          {:in_pool, :worker_id, :pool, no_pool()},
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

  @events Enum.concat(executions) ++ requests

  @spec all() :: [DSPexTelemetry.Catalogue.Event.t()]
  def all, do: @events
end
