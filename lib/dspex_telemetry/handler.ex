defmodule DSPexTelemetry.Handler do
  @moduledoc """
  The functions that `:telemetry` calls: one for each event of the catalogue.

  A handler takes the values that the event's plan needs out of measurements and metadata, and
  passes them to Rust in one call. It never raises, whatever comes in, since `:telemetry` removes a
  handler that does. The config is the number of the plan.

  An event with all the keys that emitters usually give takes a clause where one pattern match fetches
  everything: there is one for each choice of those that are rarely given. Any other takes the last.
  """

  alias DSPexTelemetry.{Catalogue, Exemplar, Native, Reason}

  measurements = Macro.var(:measurements, nil)
  metadata = Macro.var(:metadata, nil)
  variable = fn field -> Macro.var(field.key, nil) end

  pattern = fn fields, place ->
    {:%{}, [], for(field <- fields, field.in == place, do: {field.key, variable.(field)})}
  end

  pass = fn
    %{type: :reason}, value -> quote(do: Reason.class(unquote(value)))
    _field, value -> value
  end

  # A recording, and what follows if the event is exemplary.
  record = fn event, arguments ->
    plan = Macro.var(:plan, nil)
    recorded = quote(do: Native.record(unquote(plan), unquote_splicing(arguments)))

    if event.exemplar do
      quote do
        case unquote(recorded) do
          :exemplary -> Exemplar.keep(unquote(plan), unquote(arguments), unquote(metadata))
          outcome -> outcome
        end
      end
    else
      recorded
    end
  end

  # Which of the rare keys may be absent: none, some, or all.
  subsets = fn keys ->
    Enum.reduce(keys, [[]], fn key, subsets -> subsets ++ Enum.map(subsets, &[key | &1]) end)
  end

  for event <- Catalogue.events() do
    name = Catalogue.function_name(event)
    fields = Catalogue.used_fields(event)
    rare = Enum.reject(fields, & &1.usual)

    for absent <- subsets.(rare) do
      matched = fields -- absent

      arguments =
        for field <- fields, do: if(field in matched, do: pass.(field, variable.(field)))

      guard =
        for field <- absent, reduce: true do
          guard ->
            quote do
              unquote(guard) and not is_map_key(unquote(metadata), unquote(field.key))
            end
        end

      @doc false
      def unquote(name)(
            _event,
            unquote(pattern.(matched, :measurements)),
            unquote(pattern.(matched, :metadata)) = unquote(metadata),
            plan
          )
          when unquote(guard) do
        _ = unquote(metadata)
        unquote(record.(event, arguments))
      end
    end

    arguments =
      for field <- fields do
        place = Macro.var(field.in, nil)
        pass.(field, quote(do: fetch(unquote(place), unquote(field.key))))
      end

    def unquote(name)(_event, unquote(measurements), unquote(metadata), plan) do
      _ = {unquote(measurements), unquote(metadata)}
      unquote(record.(event, arguments))
    end
  end

  defp fetch(map, key) do
    case map do
      %{^key => value} -> value
      _lacks_it_or_is_no_map -> nil
    end
  end
end
