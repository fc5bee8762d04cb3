defmodule DSPexTelemetry.Instance.EventPlan do
  @moduledoc false
  # What an event's row in the catalogue is to Rust: its fields by position, and the steps that it takes.

  alias DSPexTelemetry.{Catalogue, Exemplar, Options}
  alias DSPexTelemetry.Catalogue.{Event, Field, Metrics}

  @doc "The plan of an event for these options."
  @spec new(Event.t(), Options.t()) :: map()
  def new(%Event{} = event, options) do
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

    {:set, %{gauge: level, labels: Enum.map(labels, &label(&1, index)), value: value}}
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
