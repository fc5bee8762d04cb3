defmodule DSPexTelemetry.Catalogue do
  @moduledoc """
  The event catalogue: every event that the library handles, what it measures, and which metrics
  it feeds under which labels.

  Handlers (`DSPexTelemetry.Handler`), emit helpers (`DSPexTelemetry.Emit`), the definition that
  Rust compiles into plans, the reference in `docs/reference.md` and test data are derived from
  this table. Adding an event is adding a row.
  """

  alias DSPexTelemetry.Catalogue.{CacheMetrics, Event, Events, Field, Metrics}
  alias DSPexTelemetry.Catalogue.{SnakepitEvents, SnakepitMetrics}

  @presets [:dspex, :snakepit]
  @events Events.all() ++ SnakepitEvents.all()
  @families Metrics.families() ++ SnakepitMetrics.families()

  @doc "All events, in the order of the reference."
  @spec events() :: [Event.t()]
  def events, do: @events

  @doc """
  The emitters that the catalogue knows the events of.

      iex> DSPexTelemetry.Catalogue.presets()
      [:dspex, :snakepit]
  """
  @spec presets() :: [atom()]
  def presets, do: @presets

  @doc """
  The events of these emitters, in the order of the reference.

      iex> hd(DSPexTelemetry.Catalogue.events([:dspex])).name
      [:dspex, :bridge, :create_instance, :start]
  """
  @spec events([atom()]) :: [Event.t()]
  def events(presets), do: Enum.filter(@events, &(&1.preset in presets))

  @doc """
  The event with this name, or `:error`.

      iex> {:ok, event} = DSPexTelemetry.Catalogue.fetch([:snakepit, :worker, :spawned])
      iex> Enum.map(event.fields, & &1.key)
      [:startup_time, :worker_id, :python_version]
      iex> DSPexTelemetry.Catalogue.fetch([:no, :such, :event])
      :error
  """
  @spec fetch([atom()]) :: {:ok, Event.t()} | :error
  def fetch(name) do
    case Enum.find(@events, &(&1.name == name)) do
      nil -> :error
      event -> {:ok, event}
    end
  end

  @doc """
  The families: metrics that share labels, and the events that feed them.

  A counter's `:dimensions` are labels that it has beside the family's; `:drop_labels` are labels
  of the family that it has not.
  """
  @spec families() :: [map()]
  def families, do: @families

  @doc """
  The families that events of these emitters feed.

      iex> DSPexTelemetry.Catalogue.families([])
      []
  """
  @spec families([atom()]) :: [map()]
  def families(presets) do
    fed =
      for event <- events(presets),
          step <- steps(event),
          kind when kind in [:feed, :failure] <- [elem(step, 0)],
          into: MapSet.new(),
          do: elem(step, 1)

    Enum.filter(@families, &(&1.name in fed))
  end

  @doc "Gauges that belong to no family."
  @spec gauges() :: [map()]
  def gauges, do: Metrics.gauges()

  @doc "Gauges that events set, with the label that is the worker they go with, if there is one."
  @spec levels() :: [map()]
  def levels, do: SnakepitMetrics.levels()

  @doc """
  The claim of a preset on a group, among these presets: its number and whether it takes the group from the other. `nil`
  if there is no other.

  The bridge knows more of calls and tools than the pool below it, and so does what it tells of workers' requests:
  once it has told of one, it counts them. Of workers both know the same, so who came first does.
  """
  @spec claim(atom(), atom(), [atom()]) :: {pos_integer(), boolean()} | nil
  def claim(_group, _preset, [_only]), do: nil

  def claim(group, preset, _presets) do
    number = Enum.find_index(@presets, &(&1 == preset)) + 1
    {number, preset == :dspex and group != :workers}
  end

  @doc "Metrics of the adaptive cache, with a sample for each method whose calls go through it."
  @spec cache_metrics() :: [map()]
  def cache_metrics, do: CacheMetrics.all()

  @doc "The labels of those metrics."
  @spec cache_labels() :: [atom()]
  def cache_labels, do: [:method, :python_class]

  @doc "The fields of an event that its steps use, in the order in which handlers pass them."
  @spec used_fields(Event.t()) :: [Field.t()]
  def used_fields(%Event{fields: fields}), do: Enum.reject(fields, &(&1.type == :term))

  @doc """
  The family and histogram that an event feeds: the one named, or the first.

  Raises `ArgumentError` for an unknown event, or one that does not feed such a histogram.

      iex> {family, metric} = DSPexTelemetry.Catalogue.histogram!([:dspex, :tools, :call, :stop], nil)
      iex> {family.labels, metric.name}
      {[:tool_name], :dspex_tools_call_duration}
  """
  @spec histogram!([atom()], atom() | nil) :: {map(), map()}
  def histogram!(event_name, metric_name) do
    event =
      case fetch(event_name) do
        {:ok, event} -> event
        :error -> raise ArgumentError, "no event #{inspect(event_name)}, see events/1"
      end

    fed =
      for {:feed, family, _labels, _counts, observes} <- steps(event), {name, _key} <- observes do
        family = family!(family)
        {family, Enum.find(family.histograms, &(&1.name == name))}
      end

    names = Enum.map(fed, fn {_family, metric} -> metric.name end)

    case {metric_name, fed} do
      {_any, []} ->
        raise ArgumentError, "#{inspect(event_name)} feeds no histogram"

      {nil, [first | _]} ->
        first

      {name, fed} ->
        Enum.find(fed, fn {_family, metric} -> metric.name == name end) ||
          raise ArgumentError,
                "option :metric must be one of #{inspect(names)}, got: #{inspect(name)}"
    end
  end

  @doc "The steps of an event, without the conditions under which they are taken."
  @spec steps(Event.t()) :: [Event.step()]
  def steps(%Event{steps: steps}) do
    Enum.map(steps, &bare/1)
  end

  defp bare({condition, _of, step}) when condition in [:unless, :claimed], do: bare(step)
  defp bare(step), do: step

  @doc "The family of completed method calls."
  @spec calls_family() :: String.t()
  def calls_family, do: "dspex.bridge.call_method"

  @doc """
  The unit in which samples are stored, and how many of it make one of a metric's unit.

      iex> DSPexTelemetry.Catalogue.stored_unit(:microsecond)
      {:nanosecond, 1_000}
  """
  @spec stored_unit(atom()) :: {atom(), pos_integer()}
  def stored_unit(:microsecond), do: {:nanosecond, 1_000}
  def stored_unit(:second), do: {:millisecond, 1_000}
  def stored_unit(:ratio), do: {:one, 1_000_000_000}
  def stored_unit(unit) when unit in [:celsius, :watt], do: {:one, 1_000}
  def stored_unit(unit), do: {unit, 1}

  @doc """
  What a metric is, as one line for people: its documentation and its unit.

      iex> [family | _] = DSPexTelemetry.Catalogue.families()
      iex> DSPexTelemetry.Catalogue.help(hd(family.histograms))
      "Time to create an instance of a Python class, exceptions included, in microseconds."
  """
  @spec help(map()) :: String.t()
  def help(%{unit: :one, doc: doc}), do: doc
  def help(%{unit: unit, doc: doc}) when unit in [:celsius, :ratio, :state], do: doc
  def help(%{unit: unit, doc: doc}), do: String.trim_trailing(doc, ".") <> ", in #{unit}s."
  def help(%{doc: doc}), do: doc

  @doc "The names of all histograms."
  @spec histogram_names() :: [String.t()]
  def histogram_names do
    for family <- families(), metric <- family.histograms, do: to_string(metric.name)
  end

  @doc "The name of an event's handler function."
  @spec function_name(Event.t()) :: atom()
  def function_name(%Event{name: name}), do: :"#{Enum.join(name, "_")}"

  @doc "The family with this name."
  @spec family!(String.t()) :: map()
  def family!(name),
    do: Enum.find(@families, &(&1.name == name)) || raise(KeyError, key: name)
end
