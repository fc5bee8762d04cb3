defmodule DSPexTelemetry.Catalogue.CacheMetrics do
  @moduledoc false
  # The metrics of the adaptive cache, each with the number of a method that it tells.

  @metrics [
    %{
      name: :dspex_cache_hits_total,
      kind: :counter,
      unit: :calls,
      of: :hits,
      doc: "Calls that were answered by a cached result."
    },
    %{
      name: :dspex_cache_joined_total,
      kind: :counter,
      unit: :calls,
      of: :joined,
      doc: "Calls that were answered by the run of another caller, for which they waited."
    },
    %{
      name: :dspex_cache_misses_total,
      kind: :counter,
      unit: :calls,
      of: :misses,
      doc: "Calls whose function was run."
    },
    %{
      name: :dspex_cache_evictions_total,
      kind: :counter,
      unit: :results,
      of: :evictions,
      doc: "Results that went because there was no room for them."
    },
    %{
      name: :dspex_cache_too_large_total,
      kind: :counter,
      unit: :results,
      of: :too_large,
      doc: "Results that were not cached because they are larger than `max_result_bytes`."
    },
    %{
      name: :dspex_cache_time_saved_seconds_total,
      kind: :counter,
      unit: :seconds,
      of: :time_saved_seconds,
      doc: "What the hits would have taken, each as long as a run takes on average."
    },
    %{
      name: :dspex_cache_entries,
      kind: :gauge,
      unit: :results,
      of: :entries,
      doc: "Results that are cached."
    },
    %{
      name: :dspex_cache_bytes,
      kind: :gauge,
      unit: :bytes,
      of: :bytes,
      doc: "Bytes that cached results take, with their keys and what it takes to keep them."
    },
    %{
      name: :dspex_cache_hit_rate,
      kind: :gauge,
      unit: :ratio,
      of: :hit_rate,
      doc:
        "The share of recent calls that the cache has answered or, of a method that is not cached, would have."
    },
    %{
      name: :dspex_cache_variance,
      kind: :gauge,
      unit: :ratio,
      of: :variance,
      doc: "The share of recent repetitions of a call whose result had changed."
    },
    %{
      name: :dspex_cache_cached,
      kind: :gauge,
      unit: :boolean,
      of: :cached,
      doc: "1 while the results of the method are cached, 0 while they are not."
    }
  ]

  def all, do: @metrics
end
