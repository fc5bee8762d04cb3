defmodule DSPexTelemetry.Instance.Definition do
  @moduledoc false
  # The catalogue and an instance's options as the definition that Rust compiles.

  alias DSPexTelemetry.{Catalogue, Options, Reporter}
  alias DSPexTelemetry.Catalogue.SelfMetrics
  alias DSPexTelemetry.Instance.EventPlan

  @doc "The definition for these options and what they say of metrics."
  @spec new(Options.t(), Reporter.t()) :: map()
  def new(options, reporter) do
    %{
      families: families(options) ++ reporter.families,
      observations: reporter.observations,
      plans: Enum.map(Catalogue.events(options.presets), &EventPlan.new(&1, options)),
      gauges: gauges(options),
      self_metrics: Enum.map(SelfMetrics.of_instance(), &scalar/1),
      event_gauges: Enum.map(Catalogue.levels(), &event_gauge/1),
      event_gauge_limit: options.series_limit,
      ref_limit: options.ref_limit,
      worker_limit: options.worker_limit,
      router: router(options),
      windows: %{
        slice_ms: options.slice,
        history_ms: options.history,
        memory_limit: options.window_memory_limit
      },
      alerts: alerts(options),
      exports_deltas: exports_deltas?(options),
      usage_capacity: options.usage_capacity,
      cache: cache(options),
      call_paths: %{
        transports: Catalogue.transports(options.presets) ++ options.transport_commands,
        worker_limit: options.worker_limit
      },
      call_log: %{
        failures: options.last_failures,
        slowest: options.slowest_calls,
        slowest_for_ms: options.history,
        messages: options.failure_messages
      }
    }
  end

  # What nothing feeds would be exposed as zero.
  defp families(options),
    do: options.presets |> Catalogue.families() |> Enum.map(&family(&1, options))

  defp gauges(%{presets: []}), do: []

  defp gauges(_options),
    do: Enum.map(Catalogue.gauges(), &%{name: &1.name, help: &1.doc})

  defp exports_deltas?(%{otlp: %{temporality: temporality}}), do: temporality != :cumulative
  defp exports_deltas?(_without), do: false

  defp cache(%{cache: nil}), do: nil

  defp cache(%{cache: cache} = options) do
    %{
      cacheable: Enum.flat_map(cache.cacheable, &cacheable/1),
      rule: %{
        min_calls: cache.min_calls,
        min_hit_rate: cache.min_hit_rate / 1,
        ttl_ms: cache.ttl,
        calls_for_ttl: cache.calls_for_ttl,
        max_ttl_factor: cache.max_ttl_factor / 1
      },
      max_bytes: cache.max_bytes,
      max_result_bytes: cache.max_result_bytes,
      max_key_bytes: cache.max_key_bytes,
      ghost_keys: cache.ghost_keys,
      method_limit: cache.method_limit,
      waiter_limit: cache.waiter_limit,
      error_ttl_ms: cache.error_ttl,
      ref_limit: options.ref_limit,
      metrics: Enum.map(Catalogue.cache_metrics(), &scalar/1)
    }
  end

  @doc "A metric about the library itself, or about its cache, for Rust."
  @spec scalar(map()) :: map()
  def scalar(%{name: name, kind: kind, doc: doc, of: of} = metric),
    do: %{name: name, kind: kind, help: doc, survives_reset: metric[:reset] == :keeps, of: of}

  # Functions are asked by `DSPexTelemetry.AdaptiveCache`.
  defp cacheable(function) when is_function(function), do: []

  defp cacheable({class, method}),
    do: [%{method: to_string(method), class: to_string(class)}]

  defp cacheable(method), do: [%{method: to_string(method), class: nil}]

  defp router(%{router: nil}), do: nil

  defp router(%{router: router} = options) do
    %{
      choices: router.choices,
      half_life_ms: router.half_life,
      error_penalty: router.error_penalty / 1,
      exploration: router.exploration,
      slow_start_ms: router.slow_start,
      ejection: %{
        failures: if(router.ejection_failures != :infinity, do: router.ejection_failures),
        error_rate: router.ejection_error_percent / 100,
        base_ms: router.ejection_time,
        longest_ms: router.ejection_time_limit,
        share: router.ejected_percent_limit / 100
      },
      command_limit: router.command_limit,
      sticky_limit: router.sticky_limit,
      worker_limit: options.worker_limit,
      metrics_limit: options.series_limit
    }
  end

  # Waits for the same command are told at most once a second, of so many commands.
  @queue_wait_interval 1_000
  @queue_wait_commands 1_000
  # Slices without calls after which an unusual latency is over.
  @silent_slices 6

  defp alerts(options) do
    %{
      signal_limit: options.signal_limit,
      spikes: %{
        threshold: options.error_spike_threshold,
        window_ms: options.error_spike_window,
        percent: options.error_spike_percent,
        repeat_ms: options.error_spike_repeat,
        key_limit: options.series_limit
      },
      anomalies: anomalies(options),
      anomaly_silence_ms: @silent_slices * options.slice,
      anomaly_forget_ms: options.history,
      queue_wait_interval_ms: @queue_wait_interval,
      queue_wait_commands: @queue_wait_commands
    }
  end

  defp anomalies(%{anomaly_deviations: :infinity}), do: nil

  defp anomalies(options) do
    [
      Catalogue.calls_family(),
      %{
        deviations: options.anomaly_deviations / 1,
        min_samples: options.anomaly_min_calls,
        min_history: options.anomaly_min_slices,
        history: max(div(options.history, options.slice), options.anomaly_min_slices),
        # And the overflow series.
        key_limit: options.series_limit + 1
      }
    ]
  end

  defp family(family, options) do
    %{
      name: family.name,
      role: family[:role],
      labels: family.labels,
      digits: options.significant_digits,
      series_limit: options.series_limit,
      usage: usage(family),
      counters: Enum.map(family.counters, &counter(&1, family)),
      histograms: Enum.map(family.histograms, &histogram(&1, options))
    }
  end

  defp event_gauge(level) do
    {_unit, divisor} = Catalogue.stored_unit(level.unit)

    %{
      name: level.name,
      help: Catalogue.help(level),
      labels: level.labels,
      divisor: divisor / 1,
      worker: Enum.find_index(level.labels, &(&1 == level.worker))
    }
  end

  defp usage(%{usage: {kind, counter, labels}} = family),
    do: %{kind: kind, counter: counter, labels: places(labels, family)}

  defp usage(_family_of_which_no_uses_are_counted), do: nil

  defp counter(counter, family) do
    dimensions = for {name, values} <- counter.dimensions, do: %{name: name, values: values}
    dropped = Map.get(counter, :drop_labels, [])

    %{
      name: counter.name,
      help: Catalogue.help(counter),
      dimensions: dimensions,
      dropped_labels: places(dropped, family)
    }
  end

  defp places(labels, family) do
    index = family.labels |> Enum.with_index() |> Map.new()
    Enum.map(labels, &Map.fetch!(index, &1))
  end

  defp histogram(histogram, options) do
    {unit, factor} = Catalogue.stored_unit(histogram.unit)
    bounds = Map.get(options.buckets, to_string(histogram.name), histogram.buckets)

    %{
      name: histogram.name,
      help: Catalogue.help(histogram),
      unit: unit,
      bounds: bounds |> Enum.map(&stored_bound(&1, factor)) |> Enum.dedup()
    }
  end

  # A decimal such as 1.001 is a float that may be a little less, and so may its product. What is read back as
  # the same float is the bound that was written. Samples are integers, so rounding any other one down
  # changes no bucket.
  defp stored_bound(bound, factor) do
    nearest = round(bound * factor)
    if nearest / factor == bound, do: nearest, else: floor(bound * factor)
  end
end
