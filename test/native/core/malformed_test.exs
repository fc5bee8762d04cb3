defmodule DSPexTelemetry.Native.Core.MalformedTest do
  # Not async: counts the events of all tests, and the atoms and binaries of the VM.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Catalogue, EventModel, EventSamples}
  alias DSPexTelemetry.Catalogue.Field

  @events 100_000
  @stop [:dspex, :bridge, :call_method, :stop]

  setup do
    watch_handler_failures()
    instance = start!()
    %{instance: instance, plans: plans(instance)}
  end

  test "#{@events} events broken in every way are recorded or rejected as documented, " <>
         "and every handler stays attached",
       %{instance: instance, plans: plans} do
    :rand.seed(:exsss, {2, 7, 1})

    # Where nobody else tells of the same, every event of the bridge counts.
    bridge = start!(presets: [:dspex])

    expected =
      for _round <- 1..div(@events, length(DSPexTelemetry.events())),
          event <- Catalogue.events(),
          reduce: %{} do
        counts ->
          {measurements, metadata} = EventSamples.broken(event)
          :ok = :telemetry.execute(event.name, measurements, metadata)
          outcome = outcome(event, measurements, metadata)
          Map.update(counts, {Catalogue.id(event), outcome}, 1, &(&1 + 1))
      end

    recorded = &Map.get(expected, {&1, :ok}, 0)

    rejected =
      for {{id, :rejected}, count} <- expected, reduce: %{} do
        rejected -> Map.update(rejected, dotted(id), count, &(&1 + count))
      end

    # Neither outcome is rare, so that both are tested.
    fair_share = @events / length(Catalogue.events())
    for event <- Catalogue.events(), do: assert(recorded.(Catalogue.id(event)) > fair_share / 20)

    assert Enum.sort(Map.keys(rejected)) ==
             for(
               event <- Catalogue.events(),
               can_be_rejected?(event),
               uniq: true,
               do: dotted(event.name)
             )
             |> Enum.sort()

    counted = rejected_by_event(instance)

    assert for(
             {name, count} <- rejected,
             counted[name] != count,
             do: {name, count, counted[name]}
           ) == []

    assert map_size(counted) == map_size(rejected)
    assert_recorded(DSPexTelemetry.report(instance: bridge), recorded)
    assert_no_handler_failed()
    assert_all_attached(plans)
    assert DSPexTelemetry.info(instance: instance).panics == 0
  end

  test "every event says what became of it, also if measurements or metadata are no map",
       %{instance: instance, plans: plans} do
    :rand.seed(:exsss, {2, 7, 2})
    no_maps = Enum.reject(EventSamples.hostile_terms(), &is_map/1)

    for event <- Catalogue.events(), {good, other} = EventSamples.good(event), term <- no_maps do
      for {measurements, metadata} <- [{term, other}, {good, term}, {term, term}] do
        assert_outcome(event, plans, measurements, metadata)
      end
    end

    for _round <- 1..2_000, event <- Catalogue.events() do
      {measurements, metadata} = EventSamples.broken(event)
      assert_outcome(event, plans, measurements, metadata)
    end

    assert_no_handler_failed()
    assert_all_attached(plans)
    assert DSPexTelemetry.info(instance: instance).panics == 0
  end

  test "every single fault of a field is rejected for its reason", context do
    for event <- Catalogue.events(),
        field <- Catalogue.used_fields(event),
        not match?({:choice, _words}, field.type),
        value <- EventSamples.hostile_terms() do
      {measurements, metadata} = EventSamples.good(event)

      {measurements, metadata} =
        case field.in do
          :measurements -> {Map.put(measurements, hd(Field.sources(field)), value), metadata}
          :metadata -> {measurements, Map.put(metadata, hd(Field.sources(field)), value)}
        end

      expected =
        case EventModel.faults(event, measurements, metadata) do
          [] -> %{}
          [reason] -> %{{dotted(event.name), reason} => 1}
        end

      :ok = :telemetry.execute(event.name, measurements, metadata)
      assert {field.key, value, rejected(context.instance)} == {field.key, value, expected}
      if expected != %{}, do: DSPexTelemetry.reset(instance: context.instance)
    end
  end

  test "an event without a required field is rejected, without an optional one it is not",
       %{plans: plans} do
    for event <- Catalogue.events(), field <- event.fields do
      {measurements, metadata} = EventSamples.good(event)
      optional? = field.type == :term or not field.required or field.default != nil
      expected = if optional?, do: :ok, else: :rejected
      measurements = Map.drop(measurements, Field.sources(field))
      metadata = Map.drop(metadata, Field.sources(field))
      outcome = handle(plans, event, measurements, metadata)
      assert {event.name, field.key, outcome} == {event.name, field.key, expected}
    end
  end

  test "a choice counts whatever it is, but has to be there", %{plans: plans} do
    for event <- Catalogue.events(), %{type: {:choice, _}} = field <- event.fields do
      {measurements, metadata} = EventSamples.good(event)
      handle = &handle(plans, event, measurements, Map.put(metadata, field.key, &1))
      assert handle.(nil) == :rejected

      for term <- EventSamples.hostile_texts() ++ EventSamples.hostile_objects() do
        assert {field.key, term, handle.(term)} == {field.key, term, :ok}
      end
    end
  end

  test "an event that is rejected leaves no trace but the count", context do
    %{instance: instance, plans: plans} = context
    no_text = %{method: "m", success: true, python_class: {}}
    assert handle(plans, @stop, %{duration: 1}, no_text) == :rejected

    spawned = [:snakepit, :worker, :spawned]
    unversioned = %{worker_id: "w", python_version: nil}
    assert handle(plans, spawned, %{startup_time: 1}, unversioned) == :rejected

    created = [:dspex, :bridge, :create_instance, :stop]
    unsuccessful = %{python_class: "C", ref: "r", success: nil}
    assert handle(plans, created, %{duration: 1}, unsuccessful) == :rejected

    report = DSPexTelemetry.report(instance: instance)
    assert %{operations: [], instances: [], pool: %{size: 0, spawned: 0}} = report
    assert %{refs: 0, workers: 0, series: series} = DSPexTelemetry.info(instance: instance)
    assert Enum.all?(series, &(&1.series == 0))
  end

  describe "labels" do
    test "are text of binaries, atoms and integers", %{instance: instance} do
      for {method, label} <- [
            {"text", "text"},
            {:atom, "atom"},
            {:"", ""},
            {"", ""},
            {DSPexTelemetry, "DSPexTelemetry"},
            {true, "true"},
            {0, "0"},
            {-5, "-5"},
            {2 ** 63 - 1, "9223372036854775807"},
            {-(2 ** 63), "-9223372036854775808"},
            {:é, "é"}
          ] do
        assert {method, label_of(instance, method)} == {method, label}
      end
    end

    test "are text of atoms in all scripts", %{instance: instance} do
      for method <- [:日本, :"🦀", :Ω] do
        assert {method, label_of(instance, method)} == {method, Atom.to_string(method)}
      end
    end

    test "have U+FFFD in place of what is not UTF-8", %{instance: instance} do
      for {method, label} <- [
            {<<0xFF>>, "\uFFFD"},
            {"a" <> <<0xFF>> <> "b", "a\uFFFDb"},
            {"cut " <> <<0xE2, 0x82>>, "cut \uFFFD"},
            {"Latin-1 " <> <<0xE9>> <> "!", "Latin-1 \uFFFD!"},
            {<<0xC0, 0x80>>, "\uFFFD\uFFFD"},
            {:binary.copy(<<0xFF>>, 300), String.duplicate("\uFFFD", 85)}
          ] do
        assert {method, label_of(instance, method)} == {method, label}
      end
    end

    test "are cut at 256 bytes on a character boundary", %{instance: instance} do
      for {method, label} <- [
            {String.duplicate("a", 256), String.duplicate("a", 256)},
            {String.duplicate("a", 257), String.duplicate("a", 256)},
            {String.duplicate("é", 128), String.duplicate("é", 128)},
            {String.duplicate("a", 255) <> "é", String.duplicate("a", 255)},
            {String.duplicate("a", 254) <> "日", String.duplicate("a", 254)},
            {"a" <> String.duplicate("🦀", 64), "a" <> String.duplicate("🦀", 63)},
            {String.to_atom(String.duplicate("ÿ", 200)), String.duplicate("ÿ", 128)}
          ] do
        assert {method, label_of(instance, method)} == {method, label}
      end
    end

    test "that differ only behind the cut or in what is invalid share a series",
         %{instance: instance} do
      call(String.duplicate("a", 256) <> "1")
      call(String.duplicate("a", 300) <> "2")
      call("x" <> <<0xFE>>)
      call("x" <> <<0xFF>>)
      call("x\uFFFD")

      assert for(row <- DSPexTelemetry.report(instance: instance).operations, do: row.count)
             |> Enum.sort() == [2, 3]
    end
  end

  test "strings of 10 MB are cut, and none of them is kept", %{instance: instance, plans: plans} do
    record_huge = fn ->
      huge = :binary.copy("huge", 2_500_000)
      invalid = :binary.copy(<<0xFF>>, 10_000_000)

      for event <- Catalogue.events(), text <- [huge, invalid] do
        {measurements, metadata} = EventSamples.good(event)

        fields =
          for %{type: type} = field <- event.fields,
              type in [:text, :name, :term],
              do: hd(Field.sources(field))

        metadata = Map.merge(metadata, Map.new(fields, &{&1, text}))
        assert handle(plans, event, measurements, metadata) == :ok
      end

      :ok
    end

    :ok = in_process(record_huge)
    before = binary_memory()
    :ok = in_process(record_huge)
    assert binary_memory() - before < 1_000_000

    info = DSPexTelemetry.info(instance: instance)
    assert info.memory_bytes < 1_000_000
    assert %{refs: 2, workers: 2} = info
    methods = for row <- DSPexTelemetry.report(instance: instance).operations, do: row.method
    assert methods |> Enum.map(&byte_size/1) |> Enum.uniq() |> Enum.sort() == [255, 256]
  end

  test "no atom is made from data", %{instance: instance, plans: plans} do
    round = fn round ->
      for number <- 1..1_000, event <- Catalogue.events() do
        {measurements, metadata} = EventSamples.good(event)
        text = "never seen #{round} #{number}"

        metadata =
          Map.new(metadata, fn {key, value} ->
            {key, if(is_binary(value), do: text, else: value)}
          end)

        choices = for %{type: {:choice, _}, key: key} <- event.fields, into: %{}, do: {key, text}
        :ok = handle(plans, event, measurements, Map.merge(metadata, choices))
      end

      _ = DSPexTelemetry.report(instance: instance)
      _ = DSPexTelemetry.report(instance: instance, format: :json)
      _ = to_string(DSPexTelemetry.report(instance: instance))
      _ = DSPexTelemetry.info(instance: instance)
      labels = %{method: "never seen #{round}", python_class: "never seen #{round}"}
      _ = DSPexTelemetry.histogram(@stop, labels, instance: instance)
      :erlang.system_info(:atom_count)
    end

    # The first round loads code.
    atoms = round.(1)
    assert round.(2) == atoms
  end

  defp assert_outcome(event, plans, measurements, metadata) do
    expected = outcome(event, measurements, metadata)

    case handle(plans, event, measurements, metadata) do
      ^expected ->
        :ok

      other ->
        flunk("#{inspect({event.name, measurements, metadata})}: #{other}, not #{expected}")
    end
  end

  # An optional name or reason, and what is not used, may be anything.
  defp can_be_rejected?(event) do
    Enum.any?(Catalogue.used_fields(event), fn field ->
      field.type not in [:name, :requester, :why] and (field.type != :reason or field.required)
    end)
  end

  defp outcome(event, measurements, metadata) do
    if EventModel.faults(event, measurements, metadata) == [], do: :ok, else: :rejected
  end

  defp assert_recorded(report, recorded) do
    total = fn rows -> rows |> Enum.map(& &1.count) |> Enum.sum() end
    sum = fn counts -> counts |> Map.values() |> Enum.sum() end
    span = fn name -> recorded.(name ++ [:stop]) + recorded.(name ++ [:exception]) end

    assert total.(report.operations) == span.([:dspex, :bridge, :call_method])
    assert total.(report.instances) == span.([:dspex, :bridge, :create_instance])
    assert total.(report.tools) == span.([:dspex, :tools, :call])
    assert report.sessions.created == recorded.([:dspex, :session, :created])
    assert sum.(report.sessions.expired) == recorded.([:dspex, :session, :expired])
    assert sum.(report.variables.set) == recorded.([:dspex, :session, :variable, :set])

    assert report.variables.get_found + report.variables.get_missed ==
             recorded.([:dspex, :session, :variable, :get])

    assert report.pool.spawned == recorded.([:snakepit, :worker, :spawned])
    assert sum.(report.pool.died) == recorded.([:snakepit, :worker, :died])
    assert report.pool.queue_wait_us.count == recorded.([:snakepit, :pool, :queue_time])
  end

  defp rejected(instance) do
    for %{event: event, reason: reason, count: count} <-
          DSPexTelemetry.info(instance: instance).rejected,
        into: %{},
        do: {{event, reason}, count}
  end

  defp rejected_by_event(instance) do
    for {{event, _reason}, count} <- rejected(instance), reduce: %{} do
      counts -> Map.update(counts, event, count, &(&1 + count))
    end
  end

  defp label_of(instance, method) do
    :ok = DSPexTelemetry.reset(instance: instance)
    call(method)

    for(row <- DSPexTelemetry.report(instance: instance).operations, do: row.method)
    |> List.first()
  end

  defp call(method) do
    metadata = %{method: method, python_class: "C", success: true}
    :telemetry.execute(@stop, %{duration: 1}, metadata)
  end

  # Binaries that a process has made live until it is collected or ends.
  defp in_process(fun), do: Task.await(Task.async(fun), :infinity)

  defp binary_memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :erlang.memory(:binary)
  end

  defp dotted({name, _variant}), do: dotted(name)
  defp dotted(name), do: Enum.map_join(name, ".", &to_string/1)
end
