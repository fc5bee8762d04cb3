defmodule DSPexTelemetry.Reporter.Metric do
  @moduledoc false
  # A definition of `Telemetry.Metrics`, known by its fields, checked and with what Prometheus makes of it.

  alias DSPexTelemetry.Reporter.{Buckets, Name}

  defstruct [
    :kind,
    :name,
    :event,
    :measurement,
    :tags,
    :labels,
    :tag_values,
    :keep,
    :help,
    :fraction_bits,
    :buckets,
    monotonic: true
  ]

  @type t :: %__MODULE__{
          kind: :counter | :sum | :last_value | :summary | :distribution,
          name: String.t(),
          event: [atom(), ...],
          measurement: term(),
          tags: [term()],
          labels: [String.t()],
          tag_values: nil | (map() -> map()),
          keep: nil | (map() -> as_boolean(term())) | (map(), map() -> as_boolean(term())),
          help: String.t(),
          fraction_bits: non_neg_integer(),
          buckets: [number()] | nil,
          monotonic: boolean()
        }

  @kinds %{
    :"Elixir.Telemetry.Metrics.Counter" => :counter,
    :"Elixir.Telemetry.Metrics.Sum" => :sum,
    :"Elixir.Telemetry.Metrics.LastValue" => :last_value,
    :"Elixir.Telemetry.Metrics.Summary" => :summary,
    :"Elixir.Telemetry.Metrics.Distribution" => :distribution
  }

  @most_tags 16

  # Labels that the exposition itself gives: to some kinds, and to the series over the limit of any.
  @reserved_labels %{distribution: "le", summary: "quantile"}
  @overflow_label "otel_metric_overflow"

  # So many bits of fraction that microseconds, nanoseconds and bytes are told apart.
  @fraction_bits %{
    second: 30,
    millisecond: 20,
    microsecond: 10,
    nanosecond: 0,
    native: 0,
    byte: 0,
    kilobyte: 10,
    megabyte: 20
  }
  @fraction_bits_of_others 16

  @allowed "a list of Telemetry.Metrics definitions"

  @doc "What may be given, in words."
  @spec allowed() :: String.t()
  def allowed, do: @allowed

  @doc "The definitions, or what is allowed and what was given instead."
  @spec cast_all(term()) :: {:ok, [t()]} | {:error, String.t(), term()}
  def cast_all(definitions) do
    if is_list(definitions) and not List.improper?(definitions) do
      Enum.reduce_while(definitions, {:ok, []}, fn definition, {:ok, metrics} ->
        case cast(definition) do
          {:ok, metric} -> {:cont, {:ok, metrics ++ [metric]}}
          error -> {:halt, error}
        end
      end)
    else
      {:error, @allowed, definitions}
    end
  end

  # What was cast before stays as it is: options may be checked twice.
  defp cast(%__MODULE__{} = metric), do: {:ok, metric}

  defp cast(%{__struct__: module} = definition) when is_map_key(@kinds, module) do
    kind = Map.fetch!(@kinds, module)
    definition = Map.merge(%{keep: nil, description: nil, unit: :unit}, definition)
    reporter_options = Map.get(definition, :reporter_options) || []
    tags = Map.get(definition, :tags) || []

    with :ok <- check(names?(definition.name), kind, definition, :name, "a list of atoms"),
         :ok <-
           check(names?(definition.event_name), kind, definition, :event_name, "a list of atoms"),
         {:ok, name} <- name(kind, definition),
         :ok <- check_function(kind, definition, :tag_values, [1]),
         :ok <- check_function(kind, definition, :keep, [1, 2]),
         :ok <- check_measurement(kind, definition),
         :ok <-
           check(
             keywords?(reporter_options),
             kind,
             definition,
             :reporter_options,
             "a keyword list"
           ),
         {:ok, tags, labels} <- labels(kind, definition, tags),
         {:ok, buckets} <- buckets(kind, definition, reporter_options),
         {:ok, monotonic} <- monotonic(kind, definition, reporter_options) do
      {:ok,
       %__MODULE__{
         kind: kind,
         name: name,
         event: definition.event_name,
         measurement: definition.measurement,
         tags: tags,
         labels: labels,
         tag_values: tag_values(definition),
         keep: definition.keep,
         help: help(kind, definition),
         fraction_bits: Map.get(@fraction_bits, definition.unit, @fraction_bits_of_others),
         buckets: buckets,
         monotonic: monotonic
       }}
    end
  end

  defp cast(other), do: {:error, @allowed, other}

  defp name(kind, definition) do
    case Name.metric(definition.name) do
      "" ->
        refuse(kind, definition, :name, "a list of atoms with a letter in it", definition.name)

      name ->
        {:ok, name}
    end
  end

  defp names?(names),
    do:
      is_list(names) and names != [] and not List.improper?(names) and
        Enum.all?(names, &is_atom/1)

  defp keywords?(options), do: Keyword.keyword?(options)

  defp check_function(kind, definition, field, arities) do
    function = Map.get(definition, field)
    valid? = function == nil or Enum.any?(arities, &is_function(function, &1))
    words = Enum.map_join(arities, " or ", &to_string/1)
    check(valid?, kind, definition, field, "nil or a function of #{words}")
  end

  # Any key will do, and a function is none.
  defp check_measurement(kind, %{measurement: measurement} = definition)
       when is_function(measurement) do
    valid? = is_function(measurement, 1) or is_function(measurement, 2)
    check(valid?, kind, definition, :measurement, "a key or a function of 1 or 2")
  end

  defp check_measurement(_kind, _definition), do: :ok

  defp labels(kind, definition, tags) do
    valid? = is_list(tags) and not List.improper?(tags)
    allowed = "a list of at most #{@most_tags} keys"

    with :ok <- check(valid?, kind, definition, :tags, allowed),
         tags = Enum.uniq(tags),
         :ok <- check(length(tags) <= @most_tags, kind, definition, :tags, allowed),
         :ok <- check(Enum.all?(tags, &Name.label/1), kind, definition, :tags, "atoms or strings") do
      labels = Enum.map(tags, &Name.label/1)
      reserved = Enum.find([Map.get(@reserved_labels, kind), @overflow_label], &(&1 in labels))

      cond do
        reserved != nil ->
          refuse(kind, definition, :tags, "other keys than #{reserved}, which is taken", tags)

        Enum.any?(labels, &Name.reserved?/1) ->
          allowed = "keys that do not begin with __, which Prometheus reserves"
          refuse(kind, definition, :tags, allowed, tags)

        labels != Enum.uniq(labels) ->
          allowed = "keys that are still different as labels #{inspect(labels)}"
          refuse(kind, definition, :tags, allowed, tags)

        true ->
          {:ok, tags, labels}
      end
    end
  end

  defp buckets(:distribution, definition, reporter_options) do
    case Buckets.cast(Keyword.get(reporter_options, :buckets), definition.unit) do
      {:ok, buckets} ->
        {:ok, buckets}

      :error ->
        given = reporter_options[:buckets]
        refuse(:distribution, definition, {:reporter_options, :buckets}, Buckets.allowed(), given)
    end
  end

  defp buckets(_kind, _definition, _reporter_options), do: {:ok, nil}

  defp monotonic(:sum, definition, reporter_options) do
    case Keyword.get(reporter_options, :prometheus_type, :counter) do
      type when type in [nil, :counter] ->
        {:ok, true}

      :gauge ->
        {:ok, false}

      other ->
        field = {:reporter_options, :prometheus_type}
        refuse(:sum, definition, field, ":counter or :gauge", other)
    end
  end

  defp monotonic(_kind, _definition, _reporter_options), do: {:ok, true}

  # What returns the metadata as it is need not be called.
  defp tag_values(%{tag_values: function}) do
    if function == (&Function.identity/1), do: nil, else: function
  end

  defp tag_values(_definition), do: nil

  defp help(_kind, %{description: description}) when is_binary(description) and description != "",
    do: description

  defp help(kind, definition) do
    what = kind |> to_string() |> String.replace("_", " ") |> String.capitalize()
    of = if kind == :counter, do: "", else: "a measurement of "

    unit =
      if definition.unit in [nil, :unit],
        do: "",
        else: ", in units of #{inspect(definition.unit)}"

    "#{what} of #{of}event #{Name.event(definition.event_name)}#{unit}."
  end

  defp check(true, _kind, _definition, _field, _allowed), do: :ok

  defp check(false, kind, definition, field, allowed),
    do: refuse(kind, definition, field, allowed, Map.get(definition, field))

  defp refuse(kind, definition, field, allowed, given) do
    {:error,
     "#{@allowed}: of #{kind} #{inspect(definition.name)}, #{words(field)} must be #{allowed}",
     given}
  end

  defp words({field, key}), do: "key #{inspect(key)} of #{inspect(field)}"
  defp words(field), do: inspect(field)
end
