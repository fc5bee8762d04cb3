defmodule DSPexTelemetry.Handler do
  @moduledoc """
  The functions that `:telemetry` calls: one for each event of the catalogue.

  A handler takes the values that the event's plan needs out of measurements and metadata, and
  passes them to Rust in one call. It never raises, whatever comes in, since `:telemetry` removes a
  handler that does. The config is the number of the plan.

  An event with all the keys that emitters usually give takes a clause where one pattern match fetches them; keys that are
  rarely given are looked up one by one. Any other event takes the last clause. One that says that a call succeeded has a
  clause of its own, where nothing is called before Rust is: values that have to outlive a call cost as much as the rest.

  Where two emitters use the same name for different things, each has a function of its own, which ignores the events of
  the other.
  """

  alias DSPexTelemetry.{Catalogue, Name, Native, Reason}
  alias DSPexTelemetry.Catalogue.Field
  alias DSPexTelemetry.Recording.{Details, Requester}

  measurements = Macro.var(:measurements, nil)
  metadata = Macro.var(:metadata, nil)
  variable = fn field -> Macro.var(field.key, nil) end

  pattern = fn fields, place ->
    {:%{}, [],
     for(field <- fields, field.in == place, do: {hd(Field.sources(field)), variable.(field)})}
  end

  pass = fn
    %{type: :requester}, _value -> quote(do: Requester.current())
    %{type: :reason}, value -> quote(do: Reason.class(unquote(value)))
    %{type: :name, default: nil}, value -> quote(do: Name.of(unquote(value)))
    %{type: :name, default: name}, value -> quote(do: Name.of(unquote(value)) || unquote(name))
    %{flags: [_ | _] = flags}, value -> quote(do: flag(unquote(value), unquote(flags)))
    _field, value -> value
  end

  # Whether one pattern can fetch it: it has one key, which no other field before it has.
  fetched_by_pattern? = fn field, fields ->
    sources = Field.sources(field)

    field.type not in [:requester, :why] and match?([_key], sources) and
      Enum.find(fields, &(&1.in == field.in and Field.sources(&1) == sources)) == field
  end

  # A recording, and what follows if something is noted of the event. Its fields are fetched again then, so that nobody
  # has to keep them.
  record = fn event, arguments, fields ->
    plan = Macro.var(:plan, nil)
    recorded = quote(do: Native.record(unquote(plan), unquote_splicing(arguments)))

    if Catalogue.may_be_noted?(event) do
      quote do
        case unquote(recorded) do
          notes when is_integer(notes) ->
            Details.keep(notes, unquote(plan), unquote(fields), unquote(metadata))

          outcome ->
            outcome
        end
      end
    else
      recorded
    end
  end

  defmacrop lookup(map, key) do
    quote do
      case unquote(map) do
        %{unquote(key) => value} -> value
        _lacks_it -> nil
      end
    end
  end

  for event <- Catalogue.events() do
    name = Catalogue.function_name(event)
    fields = Catalogue.used_fields(event)
    in_pattern = Enum.filter(fields, &fetched_by_pattern?.(&1, fields))
    usual = Enum.filter(in_pattern, & &1.usual)
    all = [measurements, metadata]

    fetched = fn field, keys ->
      place = Macro.var(field.in, nil)
      pass.(field, quote(do: fetch(unquote(place), unquote(keys))))
    end

    matched = fn field ->
      [key | _] = keys = Field.sources(field)

      cond do
        field in usual -> pass.(field, variable.(field))
        field not in in_pattern -> fetched.(field, keys)
        true -> pass.(field, quote(do: lookup(unquote(Macro.var(field.in, nil)), unquote(key))))
      end
    end

    word = quote(do: Reason.word(unquote(metadata)))

    # The arguments by how each field is got. Why a call failed is asked only if it did.
    arguments = fn value ->
      Enum.map(fields, fn
        %{type: :why, unless: nil} ->
          word

        %{type: :why, unless: flag} ->
          case fields |> Enum.find(&(&1.key == flag)) |> value.() do
            true -> nil
            succeeded -> quote(do: if(unquote(succeeded) == true, do: nil, else: unquote(word)))
          end

        field ->
          value.(field)
      end)
    end

    # What belongs to another emitter. A term that is no map is nobody's, and is rejected once.
    has_key = fn keys ->
      keys
      |> Enum.map(&quote(do: is_map_key(unquote(metadata), unquote(&1))))
      |> Enum.reduce(&quote(do: unquote(&2) or unquote(&1)))
    end

    case event.only do
      nil ->
        :ok

      {:without, keys} ->
        @doc false
        def unquote(name)(_event, _measurements, unquote(metadata), _plan)
            when unquote(has_key.(keys)),
            do: :ok

      {:with, keys} ->
        @doc false
        def unquote(name)(_event, _measurements, unquote(metadata), _plan)
            when not (is_map(unquote(metadata)) and unquote(has_key.(keys))),
            do: :ok
    end

    again = :"#{name}_fields"
    fields_again = quote(do: unquote(again)(unquote_splicing(all)))

    succeeded =
      with %Field{unless: key} <- Enum.find(fields, &(&1.type == :why)),
           %Field{flags: []} = flag <- Enum.find(usual, &(&1.key == key)) do
        known = fn field -> if field == flag, do: true, else: matched.(field) end
        [{quote(do: unquote(variable.(flag)) == true), arguments.(known)}]
      else
        _cannot_be_matched -> []
      end

    for {guard, passed} <- succeeded ++ [{true, arguments.(matched)}] do
      @doc false
      def unquote(name)(
            _event,
            unquote(pattern.(usual, :measurements)) = unquote(measurements),
            unquote(pattern.(usual, :metadata)) = unquote(metadata),
            plan
          )
          when unquote(guard) do
        _ = unquote(all)
        unquote(record.(event, passed, fields_again))
      end
    end

    if Catalogue.may_be_noted?(event) do
      defp unquote(again)(unquote_splicing(all)) do
        _ = unquote(all)
        unquote(arguments.(&fetched.(&1, Field.sources(&1))))
      end
    end

    fetched_arguments = arguments.(&fetched.(&1, Field.sources(&1) ++ &1.formerly))

    def unquote(name)(_event, unquote(measurements), unquote(metadata), plan) do
      _ = unquote(all)
      unquote(record.(event, fetched_arguments, fetched_arguments))
    end
  end

  defp fetch(map, [key | keys]) do
    case map do
      %{^key => value} when value != nil or keys == [] -> value
      _lacks_it_or_is_no_map when keys == [] -> nil
      _lacks_it_or_is_no_map -> fetch(map, keys)
    end
  end

  # What a flag says: what is none of the terms stays what it is.
  defp flag(term, flags) do
    case List.keyfind(flags, term, 0) do
      {_term, flag} -> flag
      nil -> term
    end
  end
end
