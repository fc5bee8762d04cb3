defmodule DSPexTelemetry.EventModel do
  @moduledoc """
  What the documentation of `DSPexTelemetry.Catalogue.Field` says becomes of an event, as plain
  code: the oracle for what Rust does.
  """

  import Bitwise

  alias DSPexTelemetry.Catalogue
  alias DSPexTelemetry.Catalogue.{Event, Field}

  @largest (1 <<< 63) - 1

  @doc """
  The faults of an event, as names of reasons: none if it is to be recorded. Durations are in
  nanoseconds. What is not a map has no keys.
  """
  # What is no map is nobody's in particular, so one of those who share a name rejects it.
  def faults(%Event{only: {:with, _keys}}, _measurements, metadata) when not is_map(metadata),
    do: []

  def faults(%Event{} = event, measurements, metadata) do
    places = %{measurements: measurements, metadata: metadata}
    keys = &(Field.sources(&1) ++ &1.formerly)
    value = fn %Field{} = field -> first(Map.fetch!(places, field.in), keys.(field)) end
    needed = reject_unneeded(event, metadata)
    needed |> Enum.flat_map(&List.wrap(fault(&1, value.(&1)))) |> Enum.uniq()
  end

  # Where the class is given nobody asks for the class of the reference.
  defp reject_unneeded(event, metadata) do
    joined? =
      Enum.any?(Catalogue.steps(event), fn
        {:feed, _family, labels, _counts, _observes} ->
          {:class_of, :ref, :python_class} in labels

        _other ->
          false
      end)

    class_given? = get(metadata, :python_class) != nil
    Enum.reject(event.fields, &(joined? and class_given? and &1.key == :ref))
  end

  # The first key that is there.
  defp first(map, keys), do: Enum.find_value(keys, &present(get(map, &1)))

  # So that `false` is found.
  defp present(nil), do: nil
  defp present(value), do: {:found, value}

  defp get(%{} = map, key), do: Map.get(map, key)
  defp get(_no_map, _key), do: nil

  defp fault(%Field{} = field, {:found, value}), do: fault_of(field, value)
  defp fault(%Field{} = field, nil), do: fault_of(field, nil)

  defp fault_of(%Field{type: :term}, _any), do: nil

  # Any name is some text, and a requester comes with no key.
  defp fault_of(%Field{type: type}, _any) when type in [:name, :requester, :why], do: nil

  defp fault_of(%Field{flags: [_ | _] = flags} = field, value),
    do:
      fault_of(%{field | flags: []}, if(List.keymember?(flags, value, 0), do: true, else: value))

  defp fault_of(%Field{type: :reason} = field, value),
    do: fault_of(%{field | type: :text}, class(value))

  defp fault_of(%Field{type: :flag, default: default}, nil) when is_boolean(default), do: nil
  defp fault_of(%Field{required: false}, nil), do: nil
  defp fault_of(%Field{in: :measurements}, nil), do: "missing_measurement"
  defp fault_of(%Field{in: :metadata}, nil), do: "missing_metadata"

  defp fault_of(%Field{type: type} = field, value)
       when type in [:integer, :number] and is_integer(value) do
    {numerator, denominator} = factor(field.unit)

    cond do
      value < 0 -> "negative_measurement"
      value > (1 <<< 64) - 1 -> "oversized_measurement"
      div(value * numerator, denominator) > @largest -> "oversized_measurement"
      true -> nil
    end
  end

  defp fault_of(%Field{type: :number} = field, value) when is_float(value) do
    {numerator, denominator} = factor(field.unit)

    cond do
      value < 0 -> "negative_measurement"
      # What overflows a float here is oversized too.
      value >= 9.3e18 -> "oversized_measurement"
      value * numerator / denominator >= @largest -> "oversized_measurement"
      true -> nil
    end
  end

  defp fault_of(%Field{type: type}, _no_number) when type in [:integer, :number],
    do: "invalid_measurement"

  defp fault_of(%Field{type: :flag}, value) when is_boolean(value), do: nil
  defp fault_of(%Field{type: :flag}, _no_flag), do: "invalid_metadata"
  defp fault_of(%Field{}, value) when is_binary(value) or is_atom(value), do: nil

  defp fault_of(%Field{}, value) when is_integer(value) and value in -@largest..@largest,
    do: nil

  defp fault_of(%Field{}, value) when value == -@largest - 1, do: nil
  defp fault_of(%Field{}, _no_text), do: "invalid_metadata"

  # Native time units are nanoseconds wherever the tests run.
  defp factor(:microsecond), do: {1_000, 1}
  defp factor(:fine_millisecond), do: {1_000_000, 1}
  defp factor(:native_as_milliseconds), do: {1, 1_000_000}
  defp factor(:mebibyte), do: {1_048_576, 1}
  defp factor(:percent), do: {10_000_000, 1}
  defp factor(unit) when unit in [:celsius, :watt], do: {1_000, 1}
  defp factor(_stored_as_it_comes), do: {1, 1}

  # The class of a reason is text for everything but the lack of one.
  defp class(nil), do: nil
  defp class(_reason), do: "some class"
end
