defmodule DSPexTelemetry.EventSamples do
  @moduledoc """
  Events made from the catalogue: good ones, and ones that are broken in every way that a term can
  be wrong in.
  """

  import Bitwise

  alias DSPexTelemetry.Catalogue.{Event, Field}

  @doc "Measurements and metadata of an event with all its fields as they should be."
  def good(%Event{} = event) do
    {of(event, :measurements), of(event, :metadata)}
  end

  @doc """
  Measurements and metadata with one to three fields missing or hostile, now and then with keys
  that belong to nothing. Uses `:rand` of the calling process.
  """
  def broken(%Event{} = event) do
    faults = event |> breakable() |> Enum.take_random(:rand.uniform(3))

    event
    |> good()
    |> then(&Enum.reduce(faults, &1, fn field, sample -> break(sample, field) end))
    |> litter(:rand.uniform(5))
  end

  # What tells whose event it is stays: without it, it would be another emitter's.
  defp breakable(%{only: nil, fields: fields}), do: fields

  defp breakable(%{only: {_with_or_without, keys}, fields: fields}),
    do: Enum.reject(fields, &(&1.key in keys))

  @doc "Terms of every type, and of every kind that code likes to stumble over."
  def hostile_terms do
    numbers() ++ texts() ++ structures() ++ identities() ++ [nil, true, false, :atom, :"", :nan]
  end

  @doc "Hostile terms that are text: binaries, atoms and integers of 64 bits."
  def hostile_texts do
    texts() ++ [true, :atom, :"", 0, -1, (1 <<< 63) - 1, -(1 <<< 63)]
  end

  @doc "Hostile terms that no text can be made of."
  def hostile_objects, do: structures() ++ identities() ++ [0.0, -1.5, 1 <<< 70]

  defp of(event, place) do
    for field <- event.fields, field.in == place, into: %{} do
      {hd(Field.sources(field)), good_value(field)}
    end
  end

  defp good_value(%{type: :integer}), do: 1_000
  defp good_value(%{type: :number}), do: 1_000.5
  defp good_value(%{type: :name, key: key}), do: "some #{key}"
  defp good_value(%{flags: [{term, _flag} | _]}), do: term
  defp good_value(%{type: :text, key: key}), do: "some #{key}"
  defp good_value(%{type: :flag}), do: true
  defp good_value(%{type: {:choice, [word | _]}}), do: word
  defp good_value(%{type: :reason}), do: :timeout
  defp good_value(%{type: type}) when type in [:requester, :why], do: "not looked at"
  defp good_value(%{type: :term}), do: "not used"

  defp break({measurements, metadata}, %{in: :measurements} = field),
    do: {break_key(measurements, field), metadata}

  defp break({measurements, metadata}, field),
    do: {measurements, break_key(metadata, field)}

  defp break_key(map, field) do
    if :rand.uniform(4) == 1,
      do: Map.drop(map, Field.sources(field)),
      else: Map.put(map, Enum.random(Field.sources(field)), hostile_value(field))
  end

  # What a choice makes of something that is no text has a test of its own.
  defp hostile_value(%{type: {:choice, _words}}),
    do: pick(:texts, fn -> [nil | hostile_texts()] end)

  defp hostile_value(_field), do: pick(:terms, &hostile_terms/0)

  defp litter({measurements, metadata}, 1) do
    {Map.put(measurements, pick(:terms, &hostile_terms/0), :junk),
     Map.put(metadata, pick(:terms, &hostile_terms/0), pick(:terms, &hostile_terms/0))}
  end

  defp litter(sample, _usually), do: sample

  # Made once, and a tuple, because this is called very often.
  defp pick(name, list) do
    terms =
      case Process.get({__MODULE__, name}) do
        nil -> list.() |> List.to_tuple() |> tap(&Process.put({__MODULE__, name}, &1))
        terms -> terms
      end

    elem(terms, :rand.uniform(tuple_size(terms)) - 1)
  end

  defp numbers do
    edges = [
      0,
      1,
      1 <<< 31,
      1 <<< 59,
      (1 <<< 63) - 1,
      1 <<< 63,
      (1 <<< 64) - 1,
      1 <<< 64,
      1 <<< 300
    ]

    edges ++ Enum.map(edges, &(-&1)) ++ [0.0, -0.0, 1.0, -1.5, 1.0e308, 9.3e18, 5.0e-324]
  end

  defp texts do
    [
      "",
      "text",
      "100",
      "true",
      <<0>>,
      "a\0b",
      "line\nbreak\e[31m",
      <<0xFF>>,
      <<0xC3>>,
      <<0xED, 0xA0, 0x80>>,
      :binary.copy(<<0xFF>>, 300),
      String.duplicate("a", 256),
      String.duplicate("a", 257),
      String.duplicate("é", 200),
      String.duplicate("🦀", 100),
      # A part of a binary, which is another kind of term than a whole one.
      binary_part(String.duplicate("sub-binary", 20), 10, 100)
    ]
  end

  defp structures do
    [
      [],
      ~c"charlist",
      ["iodata", ?x],
      [1 | 2],
      ["improper" | "list"],
      [{:key, :value}],
      {},
      {:ok, 1},
      {:exit_status, 1},
      {:shutdown, make_ref()},
      {:timeout, [{__MODULE__, :structures, 0, []}]},
      {nil, [:no_frame]},
      {{:nested, {:deep, [[[%{}]]]}}, []},
      %{},
      %{a: %{b: %{c: [%{}]}}},
      %{__struct__: "no atom"},
      %{__struct__: NoSuchModule, __exception__: true},
      %{"string" => 1, 2 => 3, nil => nil},
      ~D[2024-02-29],
      1..10,
      MapSet.new([1]),
      %ArgumentError{message: "no"},
      %RuntimeError{message: self()},
      <<1::3>>,
      <<"bits", 5::7>>,
      List.duplicate(0, 10_000)
    ]
  end

  defp identities do
    port = :erlang.list_to_port(~c"#Port<0.5>")
    [self(), make_ref(), port, fn -> :ok end, &String.length/1, &List.flatten(&1, [])]
  end
end
