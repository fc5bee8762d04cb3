defmodule DSPexTelemetry.Reporter.LifeTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.ReporterTesting
  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog
  import Telemetry.Metrics

  alias DSPexTelemetry.Reporter
  alias DSPexTelemetry.Instance.Lookup

  # An event name of the test's own: instances see the events of all tests.
  setup do
    watch_handler_failures()
    number = System.unique_integer([:positive])
    %{event: [:reporter_test, :"event_#{number}"], prefix: "t#{number}"}
  end

  describe "a function that fails" do
    test "is counted against its metric, logged once, and costs nobody else anything", %{
      event: event,
      prefix: prefix
    } do
      failures = [
        fn -> raise "no" end,
        fn -> throw(:no) end,
        fn -> exit(:no) end,
        fn -> :erlang.error(:no) end
      ]

      for {fail, number} <- Enum.with_index(failures) do
        event = event ++ [:"n#{number}"]
        name = &"#{prefix}.n#{number}.#{&1}"

        metrics = [
          counter(name.("count"), event_name: event),
          sum(name.("measurement"), event_name: event, measurement: fn _ -> fail.() end),
          counter(name.("keep"), event_name: event, keep: fn _ -> fail.() end),
          counter(name.("tags"), event_name: event, tags: [:t], tag_values: fn _ -> fail.() end),
          sum(name.("tags2"),
            event_name: event,
            measurement: :v,
            tags: [:t],
            keep: fn _ -> false end,
            tag_values: fn _ -> fail.() end
          ),
          last_value(name.("last"), event_name: event, measurement: & &1.v)
        ]

        instance = start!(metrics: metrics)

        log =
          capture_log(fn ->
            for _time <- 1..3, do: :telemetry.execute(event, %{v: 1}, %{t: 1})
          end)

        exposed = &String.replace(name.(&1), ".", "_")

        assert samples(instance, exposed.("")) == [
                 "#{exposed.("count")} 3",
                 "#{exposed.("last")} 1"
               ]

        assert rejected(instance) ==
                 for(
                   what <- ~w(measurement keep tags),
                   into: %{},
                   do: {{exposed.(what), "raised"}, 3}
                 )

        for what <- ~w(measurement keep tags) do
          assert length(String.split(log, "of metric #{exposed.(what)} of event")) == 2, log
        end

        refute log =~ exposed.("tags2")
      end

      assert_no_handler_failed()
    end

    test "is logged without what the event holds", %{event: event} do
      metadata = %{t: 1, password: "s3cret"}

      for {fail, class} <- [
            {fn %{t: 2} -> 1 end, "(error) FunctionClauseError"},
            {&Map.fetch!(&1, :absent), "(error) KeyError"},
            {fn metadata -> Atom.to_string(metadata) end, "(error) ArgumentError"},
            {fn metadata -> case(metadata, do: (%{t: 2} -> 1)) end, "(error) CaseClauseError"},
            {fn metadata -> metadata.password.(metadata) end, "(error) BadFunctionError"},
            {fn metadata -> (fn -> 1 end).(metadata) end, "(error) BadArityError"},
            {fn metadata -> :erlang.error({:odd, metadata}) end, "(error) ErlangError"},
            {fn metadata -> :erlang.error(:undef, [metadata]) end,
             "(error) UndefinedFunctionError"},
            {fn metadata -> raise inspect(metadata) end, "(error) RuntimeError"},
            {fn metadata -> throw(metadata) end, "(throw) other"},
            {fn metadata -> exit({:shutdown, metadata}) end, "(exit) shutdown"}
          ] do
        metrics = [counter("s3.#{label("m")}", event_name: event, tags: [:t], tag_values: fail)]
        name = start!(metrics: metrics)
        log = capture_log(fn -> :telemetry.execute(event, %{}, metadata) end)
        assert log =~ "** #{class}\n"
        assert log =~ "reporter/handler.ex:"
        refute log =~ "s3cret"
        :ok = stop_supervised!({DSPexTelemetry, name})
      end

      assert_no_handler_failed()
    end

    test "that returns what it should not is counted", %{event: event} do
      metrics = [
        sum("r.text", event_name: event, measurement: fn _ -> "1" end),
        sum("r.large", event_name: event, measurement: fn _ -> 12_345_678_901_234_567_890 end),
        sum("r.nil", event_name: event, measurement: fn _ -> nil end),
        counter("r.tags", event_name: event, tags: [:t], tag_values: fn _ -> :no_map end)
      ]

      instance = start!(metrics: metrics)
      :telemetry.execute(event, %{})

      assert rejected(instance) == %{
               {"r_text", "invalid_measurement"} => 1,
               {"r_large", "oversized_measurement"} => 1,
               {"r_nil", "missing_measurement"} => 1,
               {"r_tags", "missing_tag"} => 1
             }

      assert samples(instance, "r_") == []

      assert ~s(dspex_telemetry_metric_rejected_total{metric="r_text",reason="invalid_measurement"} 1) in samples(
               instance,
               "dspex_telemetry_metric_rejected_total"
             )

      DSPexTelemetry.reset(instance: instance)
      assert rejected(instance) == %{}
    end
  end

  describe "life:" do
    test "reset forgets, detach and attach keep, stop withdraws", %{event: event, prefix: prefix} do
      metrics = [
        counter("#{prefix}.count", event_name: event),
        last_value("#{prefix}.v", event_name: event, measurement: & &1.v)
      ]

      instance = start!(metrics: metrics)
      send = fn -> :telemetry.execute(event, %{v: 1}) end
      send.()
      DSPexTelemetry.detach(instance: instance)
      refute DSPexTelemetry.attached?(instance: instance)
      send.()
      DSPexTelemetry.attach(instance: instance)
      DSPexTelemetry.attach(instance: instance)
      send.()
      assert samples(instance, prefix) == ["#{prefix}_count 2", "#{prefix}_v 1"]
      DSPexTelemetry.reset(instance: instance)
      assert samples(instance, prefix) == []

      [{_event, function, plan}] = Lookup.fetch!(instance).reporting
      assert Reporter.fetch(plan)
      stop_supervised!({DSPexTelemetry, instance})
      assert Reporter.fetch(plan) == nil
      assert :telemetry.list_handlers(event) == []
      # An event whose handler was already called.
      assert function.(event, %{v: 1}, %{}, plan) in [nil, :stopped]
    end

    test "an instance that is killed leaves no handler and no plan behind", %{event: event} do
      instance =
        start!([metrics: [sum("k.v", event_name: event, measurement: & &1.v)]], :temporary)

      [{_event, _function, plan}] = Lookup.fetch!(instance).reporting
      kill(supervisor_of(instance))
      await("its handlers to go", fn -> :telemetry.list_handlers(event) == [] end)
      await("its plan to go", fn -> Reporter.fetch(plan) == nil end)
    end

    test "what is over the limit goes to one series", %{event: event, prefix: prefix} do
      metrics = [
        counter("#{prefix}.c", event_name: event, tags: [:t]),
        summary("#{prefix}.q", event_name: event, measurement: :v, tags: [:t])
      ]

      instance = start!(metrics: metrics, series_limit: 2)
      for t <- 1..5, do: :telemetry.execute(event, %{v: t}, %{t: t})

      assert samples(instance, "#{prefix}_c") == [
               ~s(#{prefix}_c{t="1"} 1),
               ~s(#{prefix}_c{t="2"} 1),
               ~s(#{prefix}_c{otel_metric_overflow="true"} 3)
             ]

      assert ~s(#{prefix}_q{otel_metric_overflow="true",quantile="0.5"} 4) in samples(
               instance,
               "#{prefix}_q"
             )
    end

    test "idle series go, and those that come back start anew", %{event: event, prefix: prefix} do
      metrics = [counter("#{prefix}.c", event_name: event, tags: [:t])]
      instance = start!(metrics: metrics, idle_timeout: 1_000)
      :telemetry.execute(event, %{}, %{t: 1})
      await("the series to go", fn -> samples(instance, prefix) == [] end)
      :telemetry.execute(event, %{}, %{t: 1})
      assert samples(instance, prefix) == [~s(#{prefix}_c{t="1"} 1)]
    end

    test "many processes at once lose no count", %{event: event, prefix: prefix} do
      metrics = [
        counter("#{prefix}.c", event_name: event, tags: [:t]),
        sum("#{prefix}.s", event_name: event, measurement: :v, tags: [:t]),
        sum("#{prefix}.f", event_name: event, measurement: fn %{v: v} -> v / 2 end, tags: [:t]),
        distribution("#{prefix}.d",
          event_name: event,
          measurement: :v,
          tags: [:t],
          reporter_options: [buckets: [2]]
        ),
        summary("#{prefix}.q", event_name: event, measurement: :v, tags: [:t])
      ]

      instance = start!(metrics: metrics)

      work = fn ->
        for number <- 1..2_000,
            do: :telemetry.execute(event, %{v: rem(number, 4) - 1}, %{t: rem(number, 3)})
      end

      1..8 |> Enum.map(fn _ -> Task.async(work) end) |> Task.await_many(60_000)

      count = fn name ->
        for line <- samples(instance, name),
            reduce: 0.0,
            do:
              (sum ->
                 sum + (line |> String.split(" ") |> List.last() |> Float.parse() |> elem(0)))
      end

      assert count.("#{prefix}_c{") == 16_000
      assert count.("#{prefix}_s{") == 8_000
      assert count.("#{prefix}_f{") == 4_000
      assert count.("#{prefix}_d_count") == 16_000
      assert count.("#{prefix}_q_count") == 16_000
    end
  end
end
