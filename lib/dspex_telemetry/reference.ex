defmodule DSPexTelemetry.Reference do
  @moduledoc """
  The reference of events, metrics and options as Markdown: `docs/reference.md`.

  `mix dspex_telemetry.reference` writes the file; a test holds it to what `render/0` says.
  """

  alias DSPexTelemetry.Catalogue
  alias DSPexTelemetry.Catalogue.{Event, Field}
  alias DSPexTelemetry.Options
  alias DSPexTelemetry.Reference.Text

  @typedoc "What the reference is made from."
  @type tables :: %{
          events: [Event.t()],
          families: [map()],
          gauges: [map()],
          levels: [map()],
          cache_metrics: [map()],
          self_metrics: [map()],
          options: [map()]
        }

  @doc "The reference as it should stand in `docs/reference.md`."
  @spec render() :: String.t()
  def render do
    render(%{
      events: Catalogue.events(),
      families: Catalogue.families(),
      gauges: Catalogue.gauges(),
      levels: Catalogue.levels(),
      cache_metrics: Catalogue.cache_metrics(),
      self_metrics: Catalogue.self_metrics(),
      options: Options.table()
    })
  end

  @doc "The table in `docs/snakepit.md`: what each event of Snakepit feeds."
  @spec snakepit() :: String.t()
  def snakepit do
    rows =
      for event <- Catalogue.events([:snakepit]) do
        {claimed, own} = Enum.split_with(event.steps, &claimed?/1)
        name = event.name |> tl() |> Enum.join(".")
        [code(name), metrics_of(own), metrics_of(claimed)]
      end

    heads = ["event `[:snakepit, …]`", "feeds", "and, unless another emitter counts it"]
    [heads, Enum.map(heads, fn _head -> "---" end) | rows] |> Enum.map_join(&line/1)
  end

  defp line(cells), do: "| #{Enum.join(cells, " | ")} |\n"

  defp claimed?({:claimed, _step}), do: true
  defp claimed?({:unless, _flag, step}), do: claimed?(step)
  defp claimed?(_step), do: false

  defp metrics_of(steps) do
    steps
    |> Enum.flat_map(&metrics_of_step/1)
    |> Enum.uniq()
    |> Enum.map_join(", ", &code/1)
  end

  defp metrics_of_step({:feed, _family, _labels, counts, observes}),
    do: Keyword.keys(counts ++ observes)

  defp metrics_of_step({:failure, _labels, _kind}),
    do: for(family <- failure_families(), counter <- family.counters, do: counter.name)

  defp metrics_of_step({:unless, _flag, step}), do: metrics_of_step(step)
  defp metrics_of_step({:claimed, step}), do: metrics_of_step(step)

  defp metrics_of_step({:set, level, _labels, _value}), do: [level]

  defp metrics_of_step({worker_step, _id}) when worker_step in [:worker_up, :worker_down],
    do: [:snakepit_worker_pool_size]

  defp metrics_of_step(_feeds_no_metric), do: []

  # Where errors are counted, and where their spikes.
  defp failure_families,
    do: Enum.map(Catalogue.error_families() ++ [Catalogue.spikes_family()], &Catalogue.family!/1)

  @doc "The reference of any tables."
  @spec render(tables()) :: String.t()
  def render(tables) do
    IO.iodata_to_binary([
      Text.introduction(),
      "## Events\n\n",
      Enum.map(tables.events, &event(&1, tables)),
      "## Metrics\n\n",
      for(family <- tables.families, do: family(family, tables)),
      Enum.map(tables.gauges, &gauge(&1, tables)),
      Enum.map(tables.levels, &level(&1, tables)),
      Enum.map(tables.cache_metrics, &cache_metric/1),
      Text.self_metrics(),
      table(
        ["metric", "type", "labels", "unit", "after `reset/1`", "meaning"],
        Enum.map(tables.self_metrics, &self_metric/1)
      ),
      Text.emitted(),
      Text.label_values(),
      Text.rejected_events(),
      Text.overflow(),
      Text.options(),
      table(
        ["option", "type", "default", "allowed", "meaning"],
        Enum.flat_map(tables.options, &option(&1, ""))
      )
    ])
    |> String.trim_trailing()
    |> Kernel.<>("\n")
  end

  # Events

  defp event(event, tables) do
    {measurements, metadata} = Enum.split_with(event.fields, &(&1.in == :measurements))

    [
      "### #{heading(event)}\n\n#{event.doc}#{only(event.only)}\n\n",
      table(
        ["measurement", "unit", "required", "meaning"],
        Enum.map(measurements, &field(&1, unit(&1)))
      ),
      table(
        ["metadata", "type", "required", "meaning"],
        Enum.map(metadata, &field(&1, type(&1)))
      ),
      table(["metric", "takes", "labels"], Enum.flat_map(event.steps, &fed(&1, tables))),
      Enum.map(event.steps, &also/1)
    ]
  end

  defp heading(%Event{variant: nil} = event), do: code(inspect(event.name))
  defp heading(event), do: "#{code(inspect(event.name))} from #{variant(event.variant)}"

  defp variant(variant), do: variant |> to_string() |> String.capitalize()

  defp only(nil), do: ""
  defp only({:with, keys}), do: " Metadata with #{keys(keys, "or")} are such an event."

  defp only({:without, keys}),
    do: " Only metadata without #{keys(keys, "and")} are such an event."

  defp keys(keys, word) do
    {last, others} = List.pop_at(keys, -1)
    "#{Enum.map_join(others, ", ", &code/1)} #{word} #{code(last)}"
  end

  defp field(%Field{type: :requester} = field, _column),
    do: ["none", "process", required(field), field.doc]

  defp field(%Field{type: :why} = field, _column),
    do: ["none", "text", required(field), field.doc]

  defp field(field, column) do
    sources = Enum.map_join(Field.sources(field) ++ field.formerly, ", else ", &key/1)
    [sources, column, required(field), field.doc]
  end

  defp key(key) when is_binary(key), do: code(inspect(key))
  defp key(key), do: code(key)

  defp unit(%Field{type: :term}), do: "any"
  defp unit(%Field{type: :number, unit: unit}), do: "#{unit_name(unit)} (number)"
  defp unit(%Field{unit: unit}), do: unit_name(unit)

  defp unit_name(:one), do: "a plain number"
  defp unit_name(:native), do: "native time"
  defp unit_name(:native_as_milliseconds), do: "native time"
  defp unit_name(:fine_millisecond), do: "millisecond"
  defp unit_name(unit), do: to_string(unit)

  defp type(%Field{type: :term}), do: "any"
  defp type(%Field{type: :integer, unit: unit}), do: "integer, #{unit_name(unit)}"

  defp type(%Field{flags: [true: false, false: true]}), do: "flag, negated"

  defp type(%Field{flags: [_ | _] = flags}) do
    "one of #{Enum.map_join(flags, ", ", fn {term, flag} -> "`#{inspect(term)}` (`#{flag}`)" end)}"
  end

  defp type(%Field{type: {:choice, words}}), do: "one of #{words(words)}"
  defp type(%Field{type: type}), do: to_string(type)

  defp required(%Field{required: true}), do: "yes"
  defp required(%Field{default: nil}), do: "no"
  defp required(%Field{type: :name, default: default}), do: "no, `#{default}` if absent"
  defp required(%Field{default: default}), do: "no, `#{default}` if absent"

  defp fed({:feed, family, sources, counts, observes}, tables) do
    family = Enum.find(tables.families, &(&1.name == family))
    labels = Enum.zip(family.labels, sources)

    counted =
      for {name, dimensions} <- counts do
        counter = Enum.find(family.counters, &(&1.name == name))
        kept = Enum.reject(labels, fn {label, _source} -> label in dropped(counter) end)
        [link(name), "1", sources(kept ++ Enum.zip(Keyword.keys(counter.dimensions), dimensions))]
      end

    counted ++ for {name, key} <- observes, do: [link(name), code(key), sources(labels)]
  end

  defp fed({:failure, sources, kind}, _tables) do
    [by_reason, by_method, spikes] = failure_families()
    labels = Enum.zip(spikes.labels, sources)
    why = "`reason`: why it failed"
    kind = sources(kind: kind)

    [
      [link(hd(by_reason.counters).name), "1", "#{why}; #{kind}"],
      [link(hd(by_method.counters).name), "1", "#{sources(labels)}; #{why}; #{kind}"],
      [link(hd(spikes.counters).name), "1, for a spike", sources(labels)]
    ]
  end

  defp fed({:unless, flag, step}, tables) do
    for [metric, taken, labels] <- fed(step, tables),
        do: [metric, taken <> ", unless `#{flag}`", labels]
  end

  defp fed({:claimed, step}, tables) do
    for [metric, taken, labels] <- fed(step, tables),
        do: [metric, taken <> ", if the event counts", labels]
  end

  defp fed({:set, level, sources, value}, tables) do
    level = Enum.find(tables.levels, &(&1.name == level))
    taken = with {:constant, value} <- value, do: value
    [[link(level.name), code(taken), level.labels |> Enum.zip(sources) |> sources()]]
  end

  defp fed(_feeds_no_metric, _tables), do: []

  defp also({:feed, _family, _labels, _counts, _observes}), do: []
  defp also({:unless, _flag, step}), do: also(step)
  defp also({:claimed, step}), do: also(step)

  defp also({:failure, _labels, _kind}),
    do: "A failure is kept among the last ones, and looked at for a spike.\n\n"

  defp also({:enter, _operation, _condition}), do: []
  defp also({:leave, _operation}), do: []
  defp also({:dispatched, _requester, _worker, _command}), do: []

  defp also({:in_pool, worker, pool, _except}),
    do: "Remembers that `#{worker}` belongs to `#{pool}`, for events that do not say so.\n\n"

  defp also({:set, _level, _labels, _value}), do: []

  defp also({:wait, wait, worker, command}) do
    "A `#{wait}` above option `queue_wait_threshold` is logged as a warning with `#{worker}` and " <>
      "`#{command}`.\n\n"
  end

  defp also({:bind, reference, class}) do
    "Remembers that `#{reference}` belongs to `#{class}`, for events that carry the reference " <>
      "alone.\n\n"
  end

  defp also({:completion, _command, worker, _duration, _success}),
    do: "Where `#{worker}` is given, the router learns from it how the worker does.\n\n"

  defp also({:queued, wait, worker}),
    do: "Where `#{worker}` is given, the router learns `#{wait}` of it.\n\n"

  defp also({:lives, reference, worker}) do
    "Where `#{worker}` is given, requests with the `#{reference}` are routed to it, and cached results of the " <>
      "instance go when it dies.\n\n"
  end

  defp also({:worker_up, id}),
    do: "Adds `#{id}` to the workers that are alive, and that requests are routed to.\n\n"

  defp also({:worker_down, id}),
    do: "Takes `#{id}` from the workers that are alive, and that requests are routed to.\n\n"

  defp sources([]), do: "none"
  defp sources(labels), do: Enum.map_join(labels, "; ", &source/1)

  defp source({key, key}), do: code(key)
  defp source({label, {:constant, value}}), do: "`#{label}`: always `#{value}`"

  defp source({label, {:class_of, reference, label}}),
    do: "`#{label}`, else the class of `#{reference}`, else `unknown`"

  defp source({label, {:pool_of, worker, pool}}),
    do: "`#{label}`: the pool of `#{worker}` if it is known, else `#{pool}`"

  defp source({label, source}), do: "`#{label}`: `#{source}`"

  # Metrics

  defp family(family, tables) do
    [
      Enum.map(family.counters, &counter(&1, family, tables)),
      Enum.map(family.histograms, &histogram(&1, family, tables))
    ]
  end

  defp counter(counter, family, tables) do
    dimensions = for {name, values} <- counter.dimensions, do: "`#{name}` (#{words(values)})"
    labels = Enum.map(family.labels -- dropped(counter), &code/1)

    metric(counter, [
      "Type: counter",
      "Unit: events",
      labels(labels ++ dimensions),
      fed_by(counter.name, tables)
    ])
  end

  defp histogram(histogram, family, tables) do
    metric(histogram, [
      "Type: histogram",
      "Unit: #{unit_name(histogram.unit)}#{stored(histogram.unit)}",
      labels(Enum.map(family.labels, &code/1)),
      "Buckets: #{Enum.map_join(histogram.buckets, ", ", &number/1)}",
      fed_by(histogram.name, tables)
    ])
  end

  defp gauge(gauge, tables) do
    events =
      for event <- tables.events,
          Enum.any?(event.steps, &(elem(&1, 0) in [:worker_up, :worker_down])),
          do: event

    metric(gauge, ["Type: gauge", "Unit: workers", labels([]), events("Changed by", events)])
  end

  defp level(level, tables) do
    events =
      for event <- tables.events,
          Enum.any?(event.steps, &match?({:set, name, _, _} when name == level.name, &1)),
          do: event

    metric(level, [
      "Type: gauge",
      "Unit: #{unit_name(level.unit)}",
      labels(Enum.map(level.labels, &code/1)),
      events("Set by", events)
    ])
  end

  defp cache_metric(metric) do
    metric(metric, [
      "Type: #{metric.kind}",
      "Unit: #{metric.unit}",
      labels(Enum.map(Catalogue.cache_labels(), &code/1)),
      "Of: calls through `DSPexTelemetry.AdaptiveCache`, with option `cache`"
    ])
  end

  defp self_metric(metric) do
    meaning = Enum.join([metric.doc | List.wrap(metric.note)], " ")

    [
      code(metric.name),
      to_string(metric.kind),
      words(metric.labels),
      to_string(metric.unit),
      reset(metric.reset),
      meaning
    ]
  end

  defp reset(:keeps), do: "goes on"
  defp reset(:clears), do: "begins anew"
  defp reset(:shows_now), do: ""

  defp metric(metric, facts) do
    ["### #{metric.name}\n\n#{metric.doc}\n\n", Enum.map(facts, &"- #{&1}\n"), "\n"]
  end

  defp stored(:microsecond), do: ", stored in nanoseconds"
  defp stored(_unit), do: ""

  defp labels([]), do: "Labels: none"
  defp labels(labels), do: "Labels: #{Enum.join(labels, ", ")}"

  defp fed_by(metric, tables) do
    events = for event <- tables.events, Enum.any?(event.steps, &feeds?(&1, metric)), do: event
    events("Fed by", events)
  end

  defp feeds?({:feed, _family, _labels, counts, observes}, metric),
    do: List.keymember?(counts ++ observes, metric, 0)

  defp feeds?({:failure, _labels, _kind} = step, metric), do: metric in metrics_of_step(step)
  defp feeds?({:unless, _flag, step}, metric), do: feeds?(step, metric)
  defp feeds?({:claimed, step}, metric), do: feeds?(step, metric)

  defp feeds?(_step, _metric), do: false

  defp events(verb, events),
    do: "#{verb}: #{Enum.map_join(events, ", ", &event_link/1)}"

  defp event_link(%Event{name: name, variant: nil}), do: link(inspect(name), Enum.join(name, "-"))

  defp event_link(%Event{name: name, variant: variant}),
    do: link(inspect(name), Enum.join(name, "-") <> "-from-#{variant}")

  defp dropped(counter), do: Map.get(counter, :drop_labels, [])

  # Options

  # The keys of an option that is a keyword list stand below it, as `option: key`.
  defp option(option, prefix) do
    row = [
      code(prefix <> to_string(option.name)),
      option.type,
      default(option),
      braces(option.allowed),
      option.doc
    ]

    [row | Enum.flat_map(option.keys, &option(&1, "#{option.name}: "))]
  end

  # Some Markdown takes what is in braces as attributes of the text before it.
  defp braces(text), do: String.replace(text, "{", "\\{")

  defp default(%{default: default}), do: code(inspect(default))
  defp default(_required), do: "required"

  # Text

  defp table(_heads, []), do: []

  defp table(heads, rows) do
    rule = Enum.map(heads, fn _head -> "---" end)
    [Enum.map([heads, rule | rows], &["| ", Enum.intersperse(&1, " | "), " |\n"]), "\n"]
  end

  defp link(name), do: link(name, name)
  defp link(text, heading), do: "[#{code(text)}](##{heading})"

  defp words(words), do: Enum.map_join(words, ", ", &code/1)
  defp code(text), do: "`#{text}`"

  # Digits in groups of three.
  defp number(number) when number < 1_000, do: to_string(number)

  defp number(number) do
    rest = number |> rem(1_000) |> to_string() |> String.pad_leading(3, "0")
    number(div(number, 1_000)) <> "_" <> rest
  end
end
