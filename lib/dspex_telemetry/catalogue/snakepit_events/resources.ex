defmodule DSPexTelemetry.Catalogue.SnakepitEvents.Resources do
  @moduledoc false
  # Sessions in the bridge's store, copies of data and GPUs.

  import DSPexTelemetry.Catalogue.SnakepitEvents.Fields

  alias DSPexTelemetry.Catalogue.Field

  table = %Field{name(:table, "Table of the store.") | from: :table_name}

  sessions = [
    event(
      [:bridge, :session, :pruned],
      "Sessions whose time is over were removed from the bridge's store.",
      [
        measurement(:count, :integer, :one, "How many."),
        optional(measurement(:remaining_sessions, :integer, :one, "How many are left.")),
        system_time(),
        reason("Why."),
        table,
        unused(:metadata, :max_sessions, "How many there may be.")
      ],
      [
        {:feed, "snakepit.session.pruned", [:reason], [], [snakepit_session_pruned: :count]},
        {:set, :snakepit_sessions, [:table], :remaining_sessions}
      ]
    ),
    event(
      [:bridge, :session, :accumulation_warning],
      "There are nearly as many sessions as there may be, or as many.",
      [
        optional(measurement(:current_sessions, :integer, :one, "How many there are.")),
        unused(:measurements, :max_sessions, "How many there may be."),
        unused(:measurements, :utilization, "The share of it."),
        system_time(),
        reason("Which of the two."),
        table,
        unused(:metadata, :strict_mode, "Whether it is logged.")
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
      event(
        [:zero_copy, op],
        doc,
        [
          measurement(:duration_ms, :number, :fine_millisecond, "How long it took."),
          optional(measurement(:bytes, :integer, :byte, "Its size.")),
          name(:kind, "What was shared: `:dlpack` or `:arrow`."),
          unused(:metadata, :device, "The device."),
          unused(:metadata, :dtype, "Type of the elements."),
          unused(:metadata, :shape, "The shape.")
        ],
        [
          {:feed, "snakepit.zero_copy", [:kind],
           [snakepit_zero_copy_total: [{:constant, to_string(op)}]],
           [snakepit_zero_copy_duration: :duration_ms, snakepit_zero_copy_bytes: :bytes]}
        ]
      )
    end

  device = name(:device, "The device, such as `{:cuda, 0}`.")

  sampled = fn what, doc, fields, levels ->
    event(
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
        optional(measurement(key, :number, :mebibyte, doc))
      end ++ [unused(:metadata, :utilization, "The share that is used.")],
      snakepit_gpu_memory_used_bytes: :used_mb,
      snakepit_gpu_memory_free_bytes: :free_mb,
      snakepit_gpu_memory_size_bytes: :total_mb
    ),
    sampled.(
      :utilization,
      "Use of a GPU.",
      [
        measurement(:gpu_percent, :number, :percent, "The share of time in which it works."),
        unused(:measurements, :memory_percent, "The share of memory that is used.")
      ],
      snakepit_gpu_utilization_ratio: :gpu_percent
    ),
    sampled.(
      :temperature,
      "Temperature of a GPU.",
      [measurement(:celsius, :number, :celsius, "In degrees.")],
      snakepit_gpu_temperature_celsius: :celsius
    ),
    sampled.(
      :power,
      "Power of a GPU.",
      [
        measurement(:watts, :number, :watt, "What it draws."),
        unused(:measurements, :limit_watts, "Always 0.")
      ],
      snakepit_gpu_power_watts: :watts
    )
  ]

  @events sessions ++ copies ++ gpu

  @spec all() :: [DSPexTelemetry.Catalogue.Event.t()]
  def all, do: @events
end
