defmodule DSPexTelemetry.Options.Router do
  @moduledoc false
  # The table of option `router`.

  @table [
    choices: [
      type: {:integer, 2, 1_000},
      default: 16,
      doc:
        "How many workers are compared for a request: all, if there are no more, else so many at " <>
          "random. Two are not enough where few requests wait; see `docs/routing.md`."
    ],
    half_life: [
      type: {:integer, 10, 86_400_000},
      default: 5_000,
      doc:
        "Milliseconds without a word of a worker after which half of what was measured is forgotten, so " <>
          "that a worker that has recovered is asked again. Longer where calls take seconds."
    ],
    error_penalty: [
      type: {:integer, 0, 1_000},
      default: 10,
      doc:
        "How many times its latency is added to that of a worker whose every request fails, and of " <>
          "others by their share of failures: what fails fast is not fast."
    ],
    exploration: [
      type: {:integer, 0, 1_000},
      default: 10,
      doc:
        "How many of 1,000 requests go to a worker at random, if that is idle, to see how it does."
    ],
    slow_start: [
      type: {:integer, 0, 3_600_000},
      default: 2_000,
      doc:
        "Milliseconds in which a worker that is new, or was ejected, comes up from half of its share."
    ],
    ejection_failures: [
      type: {:or_infinity, 1, 100_000},
      default: 5,
      doc:
        "Failures in a row after which a worker is ejected: gets no requests for a while. Only if it fails " <>
          "much more often than all workers together. `:infinity` ejects none."
    ],
    ejection_error_percent: [
      type: {:integer, 1, 100},
      default: 50,
      doc: "Percent of failures, lately, at which it is ejected even if none are in a row."
    ],
    ejection_time: [
      type: {:integer, 1, 86_400_000},
      default: 10_000,
      doc:
        "Milliseconds of an ejection; twice as many as the time before if it has not been well for " <>
          "as long since."
    ],
    ejection_time_limit: [
      type: {:integer, 1, 86_400_000},
      default: 300_000,
      doc: "Milliseconds that an ejection takes at most."
    ],
    ejected_percent_limit: [
      type: {:integer, 0, 50},
      default: 50,
      doc: "Percent of workers that may be ejected at once. The others could not carry more."
    ],
    command_limit: [
      type: {:integer, 0, 10_000},
      default: 128,
      doc:
        "How many commands are told apart. Those that come later are judged by how slow a worker is " <>
          "in general."
    ],
    sticky_limit: [
      type: {:integer, 0, 10_000_000},
      default: 100_000,
      doc:
        "How many keys and references keep their worker; the oldest unused ones are forgotten first."
    ]
  ]

  def table, do: @table
end
