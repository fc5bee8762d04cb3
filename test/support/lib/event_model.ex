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
  def faults(%Event{} = event, measurements, metadata) do
    places = %{measurements: measurements, metadata: metadata}
    value = fn %Field{} = field -> get(Map.fetch!(places, field.in), field.key) end
    needed = reject_unneeded(event, metadata)
    Enum.flat_map(needed, &List.wrap(fault(&1, value.(&1))))
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

  defp get(%{} = map, key), do: Map.get(map, key)
  defp get(_no_map, _key), do: nil

  defp fault(%Field{type: :term}, _any), do: nil

  defp fault(%Field{type: :reason} = field, value),
    do: fault(%{field | type: :text}, class(value))

  defp fault(%Field{type: :flag, default: default}, nil) when is_boolean(default), do: nil
  defp fault(%Field{required: false}, nil), do: nil
  defp fault(%Field{in: :measurements}, nil), do: "missing_measurement"
  defp fault(%Field{in: :metadata}, nil), do: "missing_metadata"

  defp fault(%Field{type: :integer} = field, value) when is_integer(value) do
    cond do
      value < 0 -> "negative_measurement"
      value * factor(field.unit) > @largest -> "oversized_measurement"
      true -> nil
    end
  end

  defp fault(%Field{type: :integer}, _no_integer), do: "invalid_measurement"
  defp fault(%Field{type: :flag}, value) when is_boolean(value), do: nil
  defp fault(%Field{type: :flag}, _no_flag), do: "invalid_metadata"
  defp fault(%Field{}, value) when is_binary(value) or is_atom(value), do: nil

  defp fault(%Field{}, value) when is_integer(value) and value in -@largest..@largest,
    do: nil

  defp fault(%Field{}, value) when value == -@largest - 1, do: nil
  defp fault(%Field{}, _no_text), do: "invalid_metadata"

  defp factor(:microsecond), do: 1_000
  defp factor(_stored_as_it_comes), do: 1

  # The class of a reason is text for everything but the lack of one.
  defp class(nil), do: nil
  defp class({nil, [frame | _]}) when is_tuple(frame), do: nil
  defp class({inner, [frame | _]}) when is_tuple(frame), do: class(inner)
  defp class(_reason), do: "some class"
end
