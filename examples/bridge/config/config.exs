import Config

# Workers die on purpose here and say so at :info; the demo's own output tells the story.
config :logger, level: :warning

# What takes minutes elsewhere is to be seen within a run of ten seconds.
config :dspex_telemetry,
  slice: 250,
  history: 600_000,
  anomaly_min_slices: 6,
  anomaly_min_calls: 3,
  error_spike_window: 2_000,
  queue_wait_threshold: 500,
  summary_interval: 2_000
