defmodule DSPexTelemetry.Catalogue.SelfMetrics do
  @moduledoc false
  # The metrics about the library itself.

  # `:of` is the number that the metric shows, `:reset` what `DSPexTelemetry.reset/1` does to it, where a gauge shows
  # what is now, and `:note` what only the reference says.
  @columns [:name, :kind, :unit, :labels, :of, :reset, :doc, :note]

  # The numbers that Rust knows, by `SelfQuantity` in `native/instance/src/info.rs`, in the order of a scrape.
  @of_instance [
    {:dspex_router_decisions_total, :counter, :requests, [:worker_id, :reason], :router_decisions,
     :clears, "Requests that were routed, by worker and by why it was chosen.",
     "See `DSPexTelemetry.PerformanceRouter`."},
    {:dspex_router_in_flight, :gauge, :requests, [:worker_id], :router_in_flight, :shows_now,
     "Requests in flight; those whose end is not reported are estimated.", nil},
    {:dspex_router_ejections_total, :counter, :ejections, [:worker_id], :router_ejections,
     :clears, "How often workers were ejected because their requests failed.", nil},
    {:dspex_router_workers, :gauge, :workers, [:state], :router_workers, :shows_now,
     "Workers that requests may go to, by how they fare.", "`healthy`, `starting` or `ejected`."},
    {:dspex_telemetry_series, :gauge, :series, [:event], :series, :shows_now,
     "Series by event or span, the overflow series not counted.", nil},
    {:dspex_telemetry_series_limit, :gauge, :series, [:event], :series_limit, :shows_now,
     "Most series that an event or span may have.", "Option `series_limit`."},
    {:dspex_telemetry_overflow_total, :counter, :events, [:event], :overflow, :clears,
     "Events whose labels found no room for a series and went to the overflow series.", nil},
    {:dspex_telemetry_rejected_total, :counter, :events, [:event, :reason], :rejected, :clears,
     "Events that were dropped because something in them was missing or wrong.",
     "Has the reasons that there were."},
    {:dspex_telemetry_metric_rejected_total, :counter, :events, [:metric, :reason],
     :metrics_rejected, :clears,
     "Events that a metric of option :metrics got nothing of, by metric and reason.",
     "Has the reasons that there were."},
    {:dspex_telemetry_signals_dropped_total, :counter, :alerts, [], :signals_dropped, :keeps,
     "Alerts for which there was no room in the channel.", "Option `signal_limit`."},
    {:dspex_telemetry_spikes_untracked_total, :counter, :errors, [], :spikes_untracked, :keeps,
     "Errors of methods for which there was no room when spikes were looked for.", nil},
    {:dspex_telemetry_workers_overflow_total, :counter, :workers, [], :workers_overflow, :keeps,
     "Workers that found no room in the set of living ones.", "Option `worker_limit`."},
    {:dspex_telemetry_slices_merged_total, :counter, :slices, [], :slices_merged, :clears,
     "Slices of time that were merged because of the memory limit.",
     "Option `window_memory_limit`."},
    {:dspex_telemetry_slices_dropped_total, :counter, :slices, [], :slices_dropped, :clears,
     "Slices of time that were dropped because of the memory limit.",
     "Option `window_memory_limit`."},
    {:dspex_telemetry_refs, :gauge, :references, [], :refs, :shows_now,
     "References whose class is known.", nil},
    {:dspex_telemetry_memory_bytes, :gauge, :bytes, [], :memory_bytes, :shows_now,
     "Bytes that series, slices and maps of the instance take.", "As in `info/1`."},
    {:dspex_telemetry_window_memory_bytes, :gauge, :bytes, [], :window_memory_bytes, :shows_now,
     "Bytes that slices of time take.", "They are part of `dspex_telemetry_memory_bytes`."},
    {:dspex_telemetry_samples_left_out, :gauge, :samples, [:metric], :samples_left_out,
     :shows_now,
     "Samples that this scrape lacks because OpenMetrics does not allow them, by metric.",
     "Has the metrics with such samples."}
  ]

  # The numbers that `DSPexTelemetry.Exposition` knows, which come after those.
  @of_vm [
    {:dspex_telemetry_attached, :gauge, :boolean, [], :attached, :shows_now,
     "1 while the handlers are attached, 0 while they are not.", nil},
    {:dspex_telemetry_start_time_seconds, :gauge, :seconds, [], :start_time, :shows_now,
     "When the instance started, in seconds since 1970.", nil},
    {:dspex_telemetry_panics_total, :counter, :panics, [], :panics, :keeps,
     "Recordings of the whole VM that ended in a panic: a bug.", nil},
    {:dspex_telemetry_build_info, :gauge, :boolean, [:version], :build, :shows_now,
     "Always 1, with the version.", nil},
    {:dspex_telemetry_push_total, :counter, :pushes, [:result], :pushes, :keeps,
     "Pushes by their result, retries included.", "`success` or `failure`, with option `push`."},
    {:dspex_telemetry_otlp_total, :counter, :exports, [:result], :exports, :keeps,
     "Exports over OTLP by their result, retries included.",
     "`success` or `failure`, with option `otlp`."},
    {:dspex_telemetry_otlp_lost_points_total, :counter, :points, [], :lost_points, :keeps,
     "Data points that the receiver of OTLP has refused for good.", "With option `otlp`."}
  ]

  row = &Map.new(Enum.zip(@columns, Tuple.to_list(&1)))
  @of_instance Enum.map(@of_instance, row)
  @of_vm Enum.map(@of_vm, row)

  @doc "Those that an instance knows the values of."
  def of_instance, do: @of_instance

  @doc "Those that only Elixir knows the values of."
  def of_vm, do: @of_vm
end
