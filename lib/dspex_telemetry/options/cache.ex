defmodule DSPexTelemetry.Options.Cache do
  @moduledoc false
  # The table of option `cache`.

  @table [
    cacheable: [
      type: :cacheable,
      default: [],
      doc:
        "Methods whose results may be kept: names, `{class, method}` pairs, and functions that get a " <>
          "map of `:method`, `:python_class`, `:ref` and `:args` and return whether the result of that " <>
          "call may be. Declare only what has no side effects and depends on its arguments alone."
    ],
    max_bytes: [
      type: {:integer, 65_536, 1_099_511_627_776},
      default: 67_108_864,
      doc: "Bytes that results may take, with their keys and what it takes to keep them."
    ],
    max_result_bytes: [
      type: {:integer, 1, 1_073_741_824},
      default: 1_048_576,
      doc: "The largest result that is kept, in bytes of the external term format."
    ],
    max_key_bytes: [
      # Keys are written on normal schedulers: 64 KiB of the worst terms, such as empty lists, take half a millisecond.
      type: {:integer, 64, 131_072},
      default: 65_536,
      doc:
        "The largest arguments by which a result is found; calls with larger ones are not cached."
    ],
    min_calls: [
      type: {:integer, 0, 1_000_000_000},
      default: 100,
      doc: "A method is cached once it was called more often than this."
    ],
    min_hit_rate: [
      type: {:number, 0, 1},
      default: 0.3,
      doc: "A method is cached while a cache answers more than this share of its calls, or would."
    ],
    ttl: [
      type: {:integer, 1, 86_400_000},
      default: 60_000,
      doc: "Milliseconds that results live which never change, after `:calls_for_ttl` calls."
    ],
    calls_for_ttl: [
      type: {:integer, 1, 1_000_000_000},
      default: 1_000,
      doc:
        "How many calls give results their whole life; fewer give as much less, more give more."
    ],
    max_ttl_factor: [
      type: {:number, 0, 1_000},
      default: 2,
      doc: "How many times `:ttl` the most frequent methods get."
    ],
    error_ttl: [
      type: {:integer, 0, 86_400_000},
      default: 0,
      doc: "Milliseconds that an error is kept, at most as long as a result; 0 keeps none."
    ],
    ghost_keys: [
      type: {:integer, 1, 1_000_000},
      default: 2_048,
      doc:
        "How many recent keys of each method are remembered, kept or not, to measure how often calls " <>
          "repeat. Each takes up to 100 bytes."
    ],
    method_limit: [
      type: {:integer, 1, 100_000},
      default: 256,
      doc:
        "How many methods are followed, counted by class; those that come later are not cached."
    ],
    waiter_limit: [
      type: {:integer, 0, 10_000_000},
      default: 10_000,
      doc:
        "How many callers may wait for another's run; those beyond run the function themselves."
    ]
  ]

  def table, do: @table
end
