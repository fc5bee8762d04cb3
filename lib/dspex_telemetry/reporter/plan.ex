defmodule DSPexTelemetry.Reporter.Plan do
  @moduledoc false
  # What the handler of an event has to do for its metrics, and what Rust has to know of them.
  #
  # Metrics that share tags and the function that makes them are a group, which is a family in Rust: one
  # set of labels, one lookup. What plain keys name, Rust takes from the event's maps itself. All else
  # is computed here and passed in a tuple: for each group the map of tags, if a function makes it, and the
  # numbers of those metrics that have functions.

  alias DSPexTelemetry.Reporter.{Metric, Name}

  @type tags ::
          nil
          | {:map, (map() -> map()) | nil}
          | {:renamed, (map() -> map()) | nil, [{atom(), term()}]}
  @type value :: {Metric.t(), failure_number :: pos_integer()}
  @type group :: %{
          tags: tags(),
          keys: [term()],
          values: [value()],
          always?: boolean(),
          metrics: [value()]
        }
  @type t :: %{event: [atom()], groups: [group()], plain?: boolean()}

  # Of one family, so that the histograms of a series stay within what a place can name.
  @most_of_a_family 100

  # Keys in the place of those that are no plain atoms.
  @renamed for number <- 0..15, do: :"tag_#{number}"

  @doc """
  Families and observations for Rust, and a plan for each event, in the order of the observations.
  """
  @spec compile([Metric.t()], map()) :: {[map()], [map()], [t()]}
  def compile(metrics, options) do
    numbered = Enum.with_index(metrics, 1)

    compiled =
      for {event, metrics} <- by(numbered, & &1.event) do
        groups =
          metrics
          |> by(&{&1.tags, &1.tag_values})
          |> Enum.flat_map(fn {_key, metrics} -> Enum.chunk_every(metrics, @most_of_a_family) end)
          |> Enum.with_index(1)

        groups =
          for {metrics, number} <- groups, do: {family_name(event, metrics, number), metrics}

        families = for {name, metrics} <- groups, do: family(name, metrics, options)
        {observed, plans} = observation(groups)
        observation = %{event: Name.event(event), groups: observed}
        plain? = Enum.all?(plans, &(&1.tags == nil and &1.values == []))
        {families, observation, %{event: event, groups: plans, plain?: plain?}}
      end

    {Enum.flat_map(compiled, &elem(&1, 0)), Enum.map(compiled, &elem(&1, 1)),
     Enum.map(compiled, &elem(&1, 2))}
  end

  # In groups, in the order in which they come.
  defp by(numbered, key) do
    groups = Enum.group_by(numbered, fn {metric, _number} -> key.(metric) end)
    keys = numbered |> Enum.map(fn {metric, _number} -> key.(metric) end) |> Enum.uniq()
    for key <- keys, do: {key, Map.fetch!(groups, key)}
  end

  # Unlike that of any family of the catalogue, and of any other group.
  defp family_name(event, [{%{labels: labels}, _number} | _metrics], number) do
    by = if labels == [], do: "", else: " by #{Enum.join(labels, ", ")}"
    "metrics of #{Name.event(event)}#{if number > 1, do: " (#{number})"}#{by}"
  end

  defp family(name, [{first, _number} | _metrics] = metrics, options) do
    %{
      name: name,
      labels: first.labels,
      counters: [],
      histograms: [],
      digits: options.significant_digits,
      series_limit: options.series_limit,
      measures:
        for {metric, _number} <- metrics do
          %{name: metric.name, help: metric.help, kind: kind(metric)}
        end
    }
  end

  defp kind(%{kind: :counter}), do: :counter
  defp kind(%{kind: :sum, monotonic: monotonic}), do: {:sum, %{monotonic: monotonic}}
  defp kind(%{kind: :last_value}), do: :last_value

  defp kind(%{kind: :distribution, buckets: buckets}),
    do:
      {:distribution,
       %{bounds: for(bound <- buckets, do: %{value: bound / 1, text: to_string(bound)})}}

  defp kind(%{kind: :summary, fraction_bits: bits}), do: {:summary, %{fraction_bits: bits}}

  # Places in the tuple are counted over all groups.
  defp observation(groups) do
    {compiled, _place} =
      Enum.map_reduce(groups, 0, fn {family, metrics}, place -> group(family, metrics, place) end)

    Enum.unzip(compiled)
  end

  defp group(family, [{first, _number} | _metrics] = metrics, place) do
    tags = tags(first)
    {sources, place} = tag_sources(tags, first, place)
    {computed, plain} = Enum.split_with(metrics, fn {metric, _number} -> computed?(metric) end)
    places = computed |> Enum.with_index(place) |> Map.new()

    measures =
      for numbered <- metrics, do: %{value: value_source(numbered, Map.get(places, numbered))}

    plan = %{
      tags: tags,
      keys: first.tags,
      values: computed,
      always?: plain != [],
      metrics: metrics
    }

    {{%{family: family, tags: sources, measures: measures}, plan}, place + length(computed)}
  end

  defp tags(%{tags: []}), do: nil

  defp tags(%{tags: tags, tag_values: function}) do
    cond do
      not Enum.all?(tags, &plain_key?/1) -> {:renamed, function, Enum.zip(@renamed, tags)}
      function != nil -> {:map, function}
      true -> nil
    end
  end

  defp tag_sources(nil, metric, place),
    do: {for(tag <- metric.tags, do: {:metadata, Atom.to_string(tag)}), place}

  defp tag_sources({:map, _function}, metric, place),
    do: {for(tag <- metric.tags, do: computed_tag(place, tag)), place + 1}

  defp tag_sources({:renamed, _function, renamed}, _metric, place),
    do: {for({key, _tag} <- renamed, do: computed_tag(place, key)), place + 1}

  defp computed_tag(place, key), do: {:computed, %{at: place, key: Atom.to_string(key)}}

  defp computed?(%{keep: keep}) when keep != nil, do: true
  defp computed?(%{kind: :counter}), do: false
  defp computed?(%{measurement: measurement}), do: not plain_key?(measurement)

  defp value_source(_metric, place) when is_integer(place), do: {:computed, place}
  defp value_source({%{kind: :counter}, _number}, nil), do: :one
  defp value_source({%{measurement: key}, _number}, nil), do: {:measurement, Atom.to_string(key)}

  # Rust makes atoms of ASCII only.
  defp plain_key?(key) when is_atom(key),
    do: for(<<byte <- Atom.to_string(key)>>, byte > 127, do: byte) == []

  defp plain_key?(_key), do: false
end
