defmodule DSPexTelemetry.CatalogueTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.{Catalogue, Handler}

  # The specification's events with their measurements and metadata, written out.
  @events %{
    [:dspex, :bridge, :create_instance, :start] => {[:system_time], [:python_class, :args_size]},
    [:dspex, :bridge, :create_instance, :stop] => {[:duration], [:python_class, :success, :ref]},
    [:dspex, :bridge, :create_instance, :exception] =>
      {[:duration], [:python_class, :kind, :reason, :stacktrace]},
    [:dspex, :bridge, :call_method, :start] =>
      {[:system_time], [:ref, :method, :args_size, :session_id]},
    [:dspex, :bridge, :call_method, :stop] =>
      {[:duration, :result_size], [:ref, :method, :success, :cached]},
    [:dspex, :bridge, :call_method, :exception] =>
      {[:duration], [:ref, :method, :kind, :reason, :stacktrace]},
    [:dspex, :session, :created] => {[:system_time], [:session_id, :initial_vars]},
    [:dspex, :session, :variable, :set] => {[:size], [:session_id, :var_name, :var_type]},
    [:dspex, :session, :variable, :get] => {[:size], [:session_id, :var_name, :found]},
    [:dspex, :session, :expired] => {[:lifetime_ms, :total_operations], [:session_id, :reason]},
    [:dspex, :tools, :call, :start] =>
      {[:system_time], [:tool_name, :session_id, :args_size, :caller]},
    [:dspex, :tools, :call, :stop] => {[:duration], [:tool_name, :success, :result_size]},
    [:snakepit, :worker, :spawned] => {[:startup_time], [:worker_id, :python_version]},
    [:snakepit, :worker, :died] => {[:lifetime_ms, :operations_handled], [:worker_id, :reason]},
    [:snakepit, :pool, :queue_time] => {[:wait_time_us], [:worker_id, :command]}
  }

  # The contract of metric names: type, unit and labels, written out. Metrics of alerts and of the
  # library itself are no part of the catalogue.
  @metrics %{
    dspex_bridge_create_instance_duration: {:histogram, :microsecond, [:python_class, :success]},
    dspex_bridge_create_instance_exception_total: {:counter, [:python_class, :kind]},
    dspex_bridge_call_method_duration: {:histogram, :microsecond, [:method, :python_class]},
    dspex_bridge_call_method_total: {:counter, [:method, :python_class, :success, :cached]},
    dspex_bridge_call_method_exception_total: {:counter, [:method, :python_class, :kind]},
    dspex_bridge_call_method_start_total: {:counter, [:method, :python_class]},
    dspex_bridge_call_method_args_size_bytes: {:histogram, :byte, [:method, :python_class]},
    dspex_bridge_call_method_result_size_bytes: {:histogram, :byte, [:method, :python_class]},
    dspex_session_created_total: {:counter, []},
    dspex_session_expired_total: {:counter, [:reason]},
    dspex_session_lifetime_seconds: {:histogram, :second, [:reason]},
    dspex_session_operations: {:histogram, :one, [:reason]},
    dspex_session_variable_set_total: {:counter, [:var_type]},
    dspex_session_variable_get_total: {:counter, [:found]},
    dspex_session_variable_size_bytes: {:histogram, :byte, [:op]},
    dspex_tools_call_total: {:counter, [:tool_name, :success]},
    dspex_tools_call_start_total: {:counter, [:tool_name, :caller]},
    dspex_tools_call_duration: {:histogram, :microsecond, [:tool_name]},
    snakepit_worker_spawned_total: {:counter, [:python_version]},
    snakepit_worker_died_total: {:counter, [:reason]},
    snakepit_worker_startup_time: {:histogram, :microsecond, []},
    snakepit_worker_lifetime_seconds: {:histogram, :second, []},
    snakepit_worker_pool_size: {:gauge, []},
    snakepit_pool_queue_time: {:histogram, :microsecond, [:command]}
  }

  test "every event of the specification is handled" do
    assert Map.keys(@events) -- DSPexTelemetry.events() == []
  end

  test "every measurement and metadata key of the specification is a field of its event" do
    for {name, {measurements, metadata}} <- @events do
      {:ok, event} = Catalogue.fetch(name)
      given = fn place -> for field <- event.fields, field.in == place, do: field.key end
      assert {name, measurements -- given.(:measurements)} == {name, []}
      assert {name, metadata -- given.(:metadata)} == {name, []}
    end
  end

  test "every metric of the contract is there with its type, unit and labels" do
    declared = declared_metrics()
    assert Map.take(declared, Map.keys(@metrics)) == @metrics
  end

  test "event names and metric names are unique" do
    for name <- [&Catalogue.id/1, &Catalogue.function_name/1] do
      events = Enum.map(Catalogue.events(), name)
      assert events == Enum.uniq(events)
    end

    metrics = Enum.map(all_metrics(), &elem(&1, 0))
    assert metrics == Enum.uniq(metrics)
    families = Enum.map(Catalogue.families(), & &1.name)
    assert families == Enum.uniq(families)
  end

  test "every metric is fed by an event, with a value for each of its labels" do
    fed =
      for event <- Catalogue.events(),
          {family, labels, counts, observes} <- fed(event),
          family = Catalogue.family!(family),
          {metric, dimensions} <- counts ++ Enum.map(observes, fn {name, _key} -> {name, []} end) do
        assert length(labels) == length(family.labels)
        counter = Enum.find(family.counters, &(&1.name == metric))
        assert length(dimensions) == length((counter || %{dimensions: []}).dimensions)
        metric
      end

    set =
      for event <- Catalogue.events(), {:set, level, _, _} <- Catalogue.steps(event), do: level

    gauges = Enum.map(Catalogue.gauges(), & &1.name)
    assert Enum.sort(Enum.uniq(set)) == Enum.sort(Enum.map(Catalogue.levels(), & &1.name))
    assert Enum.sort(Enum.uniq(fed)) == Enum.sort(Map.keys(declared_metrics()) -- gauges)
  end

  test "every event has a handler function, which needs no more arguments than Rust takes" do
    Code.ensure_loaded!(Handler)

    for event <- Catalogue.events() do
      assert function_exported?(Handler, Catalogue.function_name(event), 4)
      assert length(Catalogue.used_fields(event)) <= 10
    end
  end

  test "steps use only fields of their event" do
    for event <- Catalogue.events(), step <- Catalogue.steps(event), key <- keys(step) do
      assert key in Enum.map(Catalogue.used_fields(event), & &1.key)
    end
  end

  test "every field and metric is documented in a sentence" do
    fields = for event <- Catalogue.events(), field <- [event | event.fields], do: field.doc
    metrics = for {_name, _shape, doc} <- all_metrics(), do: doc
    for doc <- fields ++ metrics, do: assert(doc =~ ~r/^[A-Z].*\.$/)
  end

  test "default buckets increase" do
    for family <- Catalogue.families(), histogram <- family.histograms do
      assert histogram.buckets == histogram.buckets |> Enum.sort() |> Enum.dedup()
    end
  end

  defp declared_metrics, do: Map.new(all_metrics(), fn {name, shape, _doc} -> {name, shape} end)

  defp all_metrics do
    families =
      for family <- Catalogue.families(), metric <- family.counters ++ family.histograms do
        {metric.name, shape(family, metric), metric.doc}
      end

    families ++ for gauge <- Catalogue.gauges(), do: {gauge.name, {:gauge, []}, gauge.doc}
  end

  defp shape(family, %{unit: unit}), do: {:histogram, unit, family.labels}

  defp shape(family, counter) do
    dropped = Map.get(counter, :drop_labels, [])
    {:counter, (family.labels -- dropped) ++ Keyword.keys(counter.dimensions)}
  end

  # What an event feeds; a failure feeds the counters of errors, and that of spikes.
  defp fed(event) do
    Enum.flat_map(Catalogue.steps(event), fn
      {:feed, family, labels, counts, observes} ->
        [{family, labels, counts, observes}]

      {:failure, labels, kind} ->
        [by_reason, by_method] = Catalogue.error_families()
        count = &{hd(Catalogue.family!(&1).counters).name, &2}

        [
          {by_reason, [:reason], [count.(by_reason, [kind])], []},
          {by_method, labels ++ [:reason], [count.(by_method, [kind])], []},
          {Catalogue.spikes_family(), labels, [count.(Catalogue.spikes_family(), [])], []}
        ]

      _other ->
        []
    end)
  end

  defp keys({:feed, _family, labels, counts, observes}) do
    keys_of(labels ++ Enum.flat_map(counts, &elem(&1, 1)) ++ Enum.map(observes, &elem(&1, 1)))
  end

  defp keys({:failure, labels, kind}), do: keys_of(labels ++ [kind])
  defp keys({:enter, _operation, nil}), do: []
  defp keys({:enter, _operation, {key, _word}}), do: [key]
  defp keys({:leave, _operation}), do: []
  defp keys({:dispatched, requester, worker, command}), do: [requester, worker, command]
  defp keys({:in_pool, worker, pool, _except}), do: [worker, pool]
  defp keys({:set, _level, labels, value}), do: keys_of(labels ++ [value])
  defp keys({:wait, wait, worker, command}), do: [wait, worker, command]

  defp keys({:completion, command, worker, duration, success}),
    do: [command, worker, duration] ++ List.wrap(success)

  defp keys({two_keys, one, other}) when two_keys in [:bind, :queued, :lives], do: [one, other]
  defp keys({_worker_step, id}), do: [id]

  defp keys_of(sources) do
    Enum.flat_map(sources, fn
      {:constant, _value} -> []
      {join, reference, given} when join in [:class_of, :pool_of] -> [reference, given]
      key -> [key]
    end)
  end
end
