defmodule DSPexTelemetry.Catalogue do
  @moduledoc """
  The event catalogue: every event that the library handles, what it measures, and which metrics
  it feeds under which labels.

  Handlers (`DSPexTelemetry.Handler`), emit helpers (`DSPexTelemetry.Emit`), the definition that
  Rust compiles into plans, the reference in `docs/reference.md` and test data are derived from
  this table. Adding an event is adding a row.
  """

  alias DSPexTelemetry.Catalogue.{CacheMetrics, Event, Events, Field, Metrics, SelfMetrics}
  alias DSPexTelemetry.Catalogue.{SnakeBridgeEvents, SnakepitEvents, SnakepitMetrics}

  @presets [:dspex, :snakebridge, :snakepit]
  @events Events.all() ++ SnakeBridgeEvents.all() ++ SnakepitEvents.all()
  @families Metrics.families() ++ SnakepitMetrics.families()

  # Commands of Snakepit by which a bridge carries the calls that it tells of itself.
  @transports [snakebridge: ["snakebridge.*"]]

  @doc "All events, in the order of the reference."
  @spec events() :: [Event.t()]
  def events, do: @events

  @doc """
  The emitters that the catalogue knows the events of.

      iex> DSPexTelemetry.Catalogue.presets()
      [:dspex, :snakebridge, :snakepit]
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
  The event with this name, or `:error`; the first, if two emitters use the name.

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
  What tells an event from all others: its name, or with a variant both.

      iex> {:ok, event} = DSPexTelemetry.Catalogue.fetch([:snakepit, :python, :call, :start])
      iex> DSPexTelemetry.Catalogue.id(event)
      {[:snakepit, :python, :call, :start], :elixir}
  """
  @spec id(Event.t()) :: [atom()] | {[atom()], atom()}
  def id(%Event{name: name, variant: nil}), do: name
  def id(%Event{name: name, variant: variant}), do: {name, variant}

  @doc """
  The families: metrics that share labels, and the events that feed them.

  A counter's `:dimensions` are labels that it has beside the family's; `:drop_labels` are labels
  of the family that it has not. A family's `:role` is what reports and other metrics ask it for.
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
    fed = for event <- events(presets), step <- steps(event), name <- fed(step), do: name
    Enum.filter(@families, &(&1.name in fed))
  end

  defp fed({:feed, family, _labels, _counts, _observes}), do: [family]
  defp fed({:failure, _labels, _kind}), do: error_families() ++ [spikes_family()]
  defp fed(_feeds_no_family), do: []

  @doc "Gauges that belong to no family."
  @spec gauges() :: [map()]
  def gauges, do: Metrics.gauges()

  @doc "Gauges that events set, with the label that is the worker they go with, if there is one."
  @spec levels() :: [map()]
  def levels, do: SnakepitMetrics.levels()

  @doc """
  Whether an event of a preset has to look at its claim, among these presets.

  Only where an emitter above it may tell of the same. With presets of which none does, everything counts.
  """
  @spec claims?(Event.t(), [atom()]) :: boolean()
  def claims?(%Event{claim: nil}, _presets), do: false
  def claims?(%Event{claim: :call}, presets), do: :dspex in presets

  def claims?(%Event{claim: {:execution, _command, _worker, _phase}}, presets),
    do: :dspex in presets or :snakebridge in presets

  def claims?(%Event{claim: {_owned, _name}}, presets),
    do: :dspex in presets and :snakepit in presets

  @doc """
  Who claims names, as Rust numbers it: the preset's number, and whether it takes names that another has.

  A bridge knows more of tools than the pool below it, so it takes them. Of workers both know the same, so the first to
  tell of one keeps it.
  """
  @spec emitter(Event.t()) :: %{number: pos_integer(), takes: boolean()}
  def emitter(%Event{preset: preset, claim: {owned, _name}}) do
    number = Enum.find_index(@presets, &(&1 == preset)) + 1
    %{number: number, takes: preset == :dspex and owned == :tool}
  end

  @doc """
  Commands that carry calls which these presets tell of. One that ends in `*` stands for all that begin so.

      iex> DSPexTelemetry.Catalogue.transports([:snakebridge, :snakepit])
      ["snakebridge.*"]
  """
  @spec transports([atom()]) :: [String.t()]
  def transports(presets),
    do:
      for({preset, commands} <- @transports, preset in presets, command <- commands, do: command)

  @doc "Whether something may be noted of an event, so that it has to be given to Rust once more."
  @spec may_be_noted?(Event.t()) :: boolean()
  def may_be_noted?(%Event{} = event) do
    event.exemplar != nil or event.call != nil or
      Enum.any?(steps(event), &(elem(&1, 0) in [:failure, :completion]))
  end

  @doc "The families whose first counter counts errors: by reason, and by method, class and reason."
  @spec error_families() :: [String.t()]
  def error_families, do: Enum.map([:errors, :call_errors], &with_role!/1)

  @doc "The family that counts spikes of errors."
  @spec spikes_family() :: String.t()
  def spikes_family, do: with_role!(:spikes)

  @doc "Metrics of the adaptive cache, with a sample for each method whose calls go through it."
  @spec cache_metrics() :: [map()]
  def cache_metrics, do: CacheMetrics.all()

  @doc "The labels of those metrics."
  @spec cache_labels() :: [atom()]
  def cache_labels, do: [:method, :python_class]

  @doc """
  Metrics about the library itself, in the order of a scrape.

      iex> hd(DSPexTelemetry.Catalogue.self_metrics()).name
      :dspex_router_decisions_total
  """
  @spec self_metrics() :: [map()]
  def self_metrics, do: SelfMetrics.of_instance() ++ SelfMetrics.of_vm()

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

  defp bare({:unless, _flag, step}), do: bare(step)
  defp bare({:claimed, step}), do: bare(step)
  defp bare(step), do: step

  @doc "The family of completed method calls."
  @spec calls_family() :: String.t()
  def calls_family, do: with_role!(:calls)

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
  def function_name(%Event{name: name, variant: nil}), do: :"#{Enum.join(name, "_")}"

  def function_name(%Event{name: name, variant: variant}),
    do: :"#{Enum.join(name, "_")}_from_#{variant}"

  defp with_role!(role), do: Enum.find(@families, &(&1[:role] == role)).name

  @doc "The family with this name."
  @spec family!(String.t()) :: map()
  def family!(name),
    do: Enum.find(@families, &(&1.name == name)) || raise(KeyError, key: name)
end
