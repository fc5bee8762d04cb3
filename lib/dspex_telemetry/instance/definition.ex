defmodule DSPexTelemetry.Instance.Definition do
  @moduledoc false
  # The catalogue and an instance's options as the definition that Rust compiles.

  alias DSPexTelemetry.{Catalogue, Exemplar, Options, Reporter}
  alias DSPexTelemetry.Catalogue.{Event, Field, Metrics, OwnMetrics}

  @doc "The definition for these options and what they say of metrics."
  @spec new(Options.t(), Reporter.t()) :: map()
  def new(options, reporter) do
    %{
      families: families(options) ++ reporter.families,
      observations: reporter.observations,
      plans: Enum.map(Catalogue.events(options.presets), &plan(&1, options)),
      gauges: gauges(options),
      own_metrics: Enum.map(OwnMetrics.of_instance(), &scalar/1),
      levels: Enum.map(Catalogue.levels(), &level/1),
      level_limit: options.series_limit,
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

  defp level(level) do
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

  defp plan(%Event{} = event, options) do
    fields = Catalogue.used_fields(event)
    index = fields |> Enum.map(& &1.key) |> Enum.with_index() |> Map.new()

    %{
      event: Enum.map_join(event.name, ".", &to_string/1),
      fields: Enum.map(fields, &field(&1, options)),
      steps:
        for(
          step <- event.steps,
          applies?(step, options),
          do: step(step, index, options)
        ),
      exemplar: exemplar(event, index),
      claim: if(Catalogue.claims?(event, options.presets), do: claim(event, index)),
      call: call(event, index)
    }
  end

  defp claim(%Event{claim: :call}, _index), do: :call

  defp claim(%Event{claim: {:execution, command, worker, phase}}, index) do
    {:execution,
     %{command: Map.fetch!(index, command), worker: Map.fetch!(index, worker), phase: phase}}
  end

  defp claim(%Event{claim: {:tool, name}} = event, index),
    do: {:tool, %{name: Map.fetch!(index, name), emitter: Catalogue.emitter(event)}}

  defp claim(%Event{claim: {:worker, id}} = event, index),
    do: {:worker, %{id: Map.fetch!(index, id), emitter: Catalogue.emitter(event)}}

  defp call(%Event{call: nil}, _index), do: nil

  defp call(%Event{call: {labels, duration, unless}}, index) do
    %{
      labels: Enum.map(labels, &label(&1, index)),
      duration: Map.fetch!(index, duration),
      unless: if(unless, do: Map.fetch!(index, unless))
    }
  end

  defp exemplar(%Event{exemplar: nil}, _index), do: nil

  defp exemplar(%Event{exemplar: key}, index),
    do: %{field: Map.fetch!(index, key), labels: Exemplar.labels()}

  defp applies?({:unless, :success, _step}, options), do: options.count_unsuccessful

  # Only a pool below the bridge executes something for it.
  defp applies?({:enter, _operation, _condition}, options), do: other_emitters?(options)
  defp applies?({:leave, _operation}, options), do: other_emitters?(options)

  defp applies?({:wait, _wait, _worker, _command}, options),
    do: options.queue_wait_threshold != :infinity

  defp applies?({:unless, _flag, step}, options), do: applies?(step, options)
  defp applies?({:claimed, step}, options), do: applies?(step, options)
  defp applies?(_step, _options), do: true

  defp other_emitters?(options), do: options.presets != [:dspex]

  defp field(%Field{type: type} = field, options) when type in [:integer, :number] do
    {numerator, denominator} = scale(field.unit, options.duration_unit)

    {:measurement,
     %{
       scale: %{numerator: numerator, denominator: denominator},
       required: field.required,
       metadata: field.in == :metadata,
       float: type == :number
     }}
  end

  defp field(%Field{type: :requester}, _options), do: :process
  defp field(%Field{type: :flag} = field, _options), do: {:flag, %{default: field.default}}
  defp field(%Field{type: {:choice, words}}, _options), do: {:choice, %{values: words}}

  defp field(%Field{type: type} = field, _options) when type in [:text, :name, :reason, :why],
    do: {:text, %{required: field.required}}

  defp scale(:duration, unit) do
    per_second = System.convert_time_unit(1, :second, unit)
    divisor = Integer.gcd(1_000_000_000, per_second)
    {div(1_000_000_000, divisor), div(per_second, divisor)}
  end

  defp scale(:native, _unit), do: scale(:duration, :native)
  # Lifetimes are stored in milliseconds.
  defp scale(:native_as_milliseconds, _unit) do
    {numerator, denominator} = scale(:duration, :native)
    divisor = Integer.gcd(numerator, denominator * 1_000_000)
    {div(numerator, divisor), div(denominator * 1_000_000, divisor)}
  end

  defp scale(:microsecond, _unit), do: {1_000, 1}
  defp scale(:fine_millisecond, _unit), do: {1_000_000, 1}
  defp scale(:mebibyte, _unit), do: {1_048_576, 1}
  defp scale(:percent, _unit), do: {10_000_000, 1}
  defp scale(unit, _unit) when unit in [:celsius, :watt], do: {1_000, 1}
  defp scale(_stored_as_it_comes, _unit), do: {1, 1}

  defp step({:unless, flag, step}, index, options) do
    {kind, step} = step(step, index, options)
    # The second of two.
    key = if is_map_key(step, :unless), do: :or_unless, else: :unless
    {kind, Map.put(step, key, Map.fetch!(index, flag))}
  end

  defp step({:claimed, step}, index, options) do
    {kind, step} = step(step, index, options)
    {kind, Map.put(step, :claimed, true)}
  end

  defp step({:enter, operation, condition}, _index, _options) when condition == nil,
    do: {:enter, %{operation: operation}}

  # Choices whose words conditions name are those of callers.
  defp step({:enter, operation, {key, word}}, index, _options) do
    words = Metrics.callers()
    {:enter, %{operation: operation, when: [Map.fetch!(index, key), place(words, word)]}}
  end

  defp step({:leave, operation}, _index, _options), do: {:leave, %{operation: operation}}

  defp step({:dispatched, requester, worker, command}, index, _options) do
    {:dispatched,
     %{
       process: Map.fetch!(index, requester),
       worker: Map.fetch!(index, worker),
       command: Map.fetch!(index, command)
     }}
  end

  defp step({:in_pool, worker, pool, except}, index, _options) do
    {:in_pool,
     %{worker: Map.fetch!(index, worker), pool: Map.fetch!(index, pool), except: except}}
  end

  defp step({:set, level, labels, value}, index, _options) do
    value =
      case value do
        {:constant, value} -> {:constant, value}
        key -> {:field, Map.fetch!(index, key)}
      end

    {:set, %{level: level, labels: Enum.map(labels, &label(&1, index)), value: value}}
  end

  defp step({:failure, labels, kind}, index, _options) do
    {:failure,
     %{
       spikes: Catalogue.spikes_family(),
       errors: Catalogue.error_families(),
       calls: Catalogue.calls_family(),
       labels: Enum.map(labels, &label(&1, index)),
       kind: label(kind, index),
       reason: Map.fetch!(index, :why),
       otherwise: no_reason(kind)
     }}
  end

  defp step({:wait, wait, worker, command}, index, options) do
    {:wait,
     %{
       field: Map.fetch!(index, wait),
       above: options.queue_wait_threshold * 1_000_000,
       worker: Map.fetch!(index, worker),
       command: Map.fetch!(index, command)
     }}
  end

  defp step({:feed, family_name, labels, counts, observes}, index, _options) do
    family = Catalogue.family!(family_name)

    {:feed,
     %{
       family: family_name,
       labels: Enum.map(labels, &label(&1, index)),
       counts: Enum.map(counts, &count(&1, family, index)),
       observes:
         Enum.map(observes, fn {histogram, key} ->
           %{histogram: histogram, field: Map.fetch!(index, key)}
         end)
     }}
  end

  defp step({:completion, command, worker, duration, success}, index, _options) do
    {:completion,
     %{
       command: Map.fetch!(index, command),
       worker: Map.fetch!(index, worker),
       duration: Map.fetch!(index, duration),
       success: if(success, do: Map.fetch!(index, success))
     }}
  end

  defp step({:queued, wait, worker}, index, _options),
    do: {:queued, %{field: Map.fetch!(index, wait), worker: Map.fetch!(index, worker)}}

  defp step({:lives, reference, worker}, index, _options),
    do: {:lives, %{reference: Map.fetch!(index, reference), worker: Map.fetch!(index, worker)}}

  defp step({:bind, reference, class}, index, _options),
    do: {:bind, %{reference: Map.fetch!(index, reference), class: Map.fetch!(index, class)}}

  defp step({worker_step, id}, index, _options), do: {worker_step, %{id: Map.fetch!(index, id)}}

  # The word for the reason of a failure that gives none.
  defp no_reason({:constant, kind}),
    do: if(kind == Metrics.unsuccessful(), do: kind, else: "unknown")

  defp no_reason(_field), do: "unknown"

  defp label({:constant, value}, _index), do: {:constant, value}

  defp label({:class_of, reference, class}, index) do
    {:class_of, %{reference: Map.fetch!(index, reference), class: Map.fetch!(index, class)}}
  end

  defp label({:pool_of, worker, pool}, index),
    do: {:pool_of, %{worker: Map.fetch!(index, worker), pool: Map.fetch!(index, pool)}}

  defp label(key, index), do: {:field, Map.fetch!(index, key)}

  defp count({name, sources}, family, index) do
    counter = Enum.find(family.counters, &(&1.name == name))

    dimensions =
      Enum.zip_with(counter.dimensions, sources, fn
        {_name, values}, {:constant, value} ->
          {:constant, place(values, value)}

        _dimension, key ->
          {:field, Map.fetch!(index, key)}
      end)

    %{counter: name, dimensions: dimensions}
  end

  defp place(words, word), do: Enum.find_index(words, &(&1 == word))
end
