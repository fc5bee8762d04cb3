defmodule DSPexTelemetry.Catalogue.SnakepitEvents.Failures do
  @moduledoc false
  # Circuit breakers, errors, exceptions of Python and retries.

  import DSPexTelemetry.Catalogue.SnakepitEvents.Fields

  alias DSPexTelemetry.Catalogue.Field

  breakers =
    for {name, state, value, doc, fields} <- [
          {:opened, "open", 2, "A circuit breaker opened: calls are refused.",
           [unused(:measurements, :failure_count, "After how many failures.")]},
          {:half_open, "half_open", 1, "A circuit breaker lets some calls through.", []},
          {:closed, "closed", 0, "A circuit breaker closed: all calls are let through.", []}
        ] do
      event([:circuit_breaker, name], doc, fields ++ [%Field{pool() | doc: "Its name."}], [
        {:feed, "snakepit.circuit_breaker", [:pool],
         [snakepit_circuit_breaker_transitions_total: [{:constant, state}]], []},
        {:set, :snakepit_circuit_breaker_state, [:pool], {:constant, value}}
      ])
    end

  operation = name(:operation, "What was done.")

  errors =
    for {error, doc} <- [
          shape_mismatch: "Shapes of tensors do not match.",
          device: "Tensors are on different devices.",
          oom: "A device has no memory left."
        ] do
      event([:error, error], doc, [operation], [
        {:feed, "snakepit.error", [:operation],
         [snakepit_error_total: [{:constant, to_string(error)}]], []}
      ])
    end

  exceptions =
    for {word, mapped} <- [mapped: "true", unmapped: "false"] do
      event(
        [:python, :exception, word],
        "An exception of Python became an error; it is #{word} to one of Elixir's.",
        [
          name(:python_type, "Its type."),
          unused(:metadata, :library, "The library that raised it."),
          unused(:metadata, :function, "The function that raised it.")
        ],
        [
          {:feed, "snakepit.python.exception", [:python_type],
           [snakepit_python_exception_total: [{:constant, mapped}]], []}
        ]
      )
    end

  retry = fn outcome, doc, fields, observes ->
    event([:retry, outcome], doc, fields, [
      {:feed, "snakepit.retry", [], [snakepit_retry_total: [{:constant, to_string(outcome)}]],
       observes}
    ])
  end

  attempts = unused(:measurements, :attempts, "How many attempts there were.")

  retries = [
    retry.(
      :attempt,
      "An operation failed and is tried again.",
      [
        optional(measurement(:delay_ms, :number, :millisecond, "How long it waits before.")),
        unused(:measurements, :attempt, "Which attempt failed.")
      ],
      snakepit_retry_delay_seconds: :delay_ms
    ),
    retry.(:success, "An operation succeeded, at the first attempt or later.", [attempts], []),
    retry.(:exhausted, "An operation failed for the last time.", [attempts], [])
  ]

  @events breakers ++ errors ++ exceptions ++ retries

  @spec all() :: [DSPexTelemetry.Catalogue.Event.t()]
  def all, do: @events
end
