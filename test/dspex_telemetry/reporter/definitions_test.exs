defmodule DSPexTelemetry.Reporter.DefinitionsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.ReporterTesting
  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog
  import Telemetry.Metrics

  alias DSPexTelemetry.Options

  # An event name of the test's own: instances see the events of all tests.
  setup do
    watch_handler_failures()
    number = System.unique_integer([:positive])
    %{event: [:reporter_test, :"event_#{number}"], prefix: "t#{number}"}
  end

  describe "names:" do
    test "the first metric of a name has it, and the log names the others", %{
      event: event,
      prefix: prefix
    } do
      metrics = [
        distribution("#{prefix}.v", event_name: event, reporter_options: [buckets: [1]]),
        summary("#{prefix}.v", event_name: event),
        counter([:"#{prefix}_v"], event_name: event),
        counter("#{prefix}.v.count", event_name: event),
        last_value("#{prefix}.v.created", event_name: event, measurement: :v),
        counter("dspex.bridge.call_method.total", event_name: event)
      ]

      log =
        capture_log(fn ->
          instance = start!(metrics: metrics)
          :telemetry.execute(event, %{v: 1})
          assert length(samples(instance, prefix)) == 4

          event = Enum.join(event, ".")

          assert DSPexTelemetry.info(instance: instance).metrics_left_out ==
                   for(
                     {metric, kind, owner} <- [
                       {"#{prefix}_v", :summary, "#{prefix}_v"},
                       {"#{prefix}_v", :counter, "#{prefix}_v"},
                       {"#{prefix}_v_count", :counter, "#{prefix}_v"},
                       {"#{prefix}_v_created", :last_value, "#{prefix}_v"},
                       {"dspex_bridge_call_method_total", :counter, :library}
                     ],
                     do: %{metric: metric, kind: kind, event: event, taken_by: owner}
                   )
        end)

      assert log =~
               "Metric #{prefix}_v, a summary of event #{inspect(event)}, is left out: the distribution #{prefix}_v of event #{inspect(event)} has the name"

      assert log =~ "Metric #{prefix}_v, a counter"
      assert log =~ "Metric #{prefix}_v_count, a counter"
      # OpenMetrics gives histograms a time of creation.
      assert log =~ "Metric #{prefix}_v_created, a last_value"

      assert log =~
               "Metric dspex_bridge_call_method_total, a counter of event #{inspect(event)}, is left out: the name belongs to the library"
    end
  end

  describe "a definition that is wrong is refused:" do
    @many for number <- 1..17, do: :"t#{number}"

    for {what, change, message} <- [
          {"name", %{name: "a.b"},
           ~s(of distribution "a.b", :name must be a list of atoms, got: "a.b")},
          {"a name without letters", %{name: [:"9"]},
           ":name must be a list of atoms with a letter in it, got: [:\"9\"]"},
          {"event_name", %{event_name: []}, ":event_name must be a list of atoms, got: []"},
          {"measurement", %{measurement: &Map.put/3},
           ":measurement must be a key or a function of 1 or 2, got: &Map.put/3"},
          {"tag_values", %{tag_values: 7}, ":tag_values must be nil or a function of 1, got: 7"},
          {"keep", %{keep: true}, ":keep must be nil or a function of 1 or 2, got: true"},
          {"tags", %{tags: :t}, ":tags must be a list of at most 16 keys, got: :t"},
          {"too many tags", %{tags: @many}, ":tags must be a list of at most 16 keys, got: [:t1"},
          {"tags that are no names", %{tags: [1]}, ":tags must be atoms or strings, got: [1]"},
          {"tags that are one label", %{tags: [:a, "a"]},
           ~s(:tags must be keys that are still different as labels ["a", "a"], got: [:a, "a"])},
          {"le", %{tags: [:le]}, ":tags must be other keys than le, which is taken, got: [:le]"},
          {"the label of the series over the limit", %{tags: [:otel_metric_overflow]},
           ":tags must be other keys than otel_metric_overflow, which is taken, got: [:otel_metric_overflow]"},
          {"a tag that Prometheus reserves", %{tags: [:__name__]},
           ":tags must be keys that do not begin with __, which Prometheus reserves, got: [:__name__]"},
          {"reserved, and no label as it is", %{tags: ["__ä"]},
           ~s(:tags must be keys that do not begin with __, which Prometheus reserves, got: ["__ä"])},
          {"reporter_options", %{reporter_options: 1},
           ":reporter_options must be a keyword list, got: 1"},
          {"buckets", %{reporter_options: [buckets: [1, 1]]},
           "key :buckets of :reporter_options must be strictly increasing numbers, 1 to 200 of them, or {first..last, step}, got: [1, 1]"},
          {"no buckets", %{reporter_options: [buckets: []]}, "got: []"},
          {"huge buckets", %{reporter_options: [buckets: [1.0e301]]}, "got: [1.0e301]"}
        ] do
      test what do
        definition = Map.merge(distribution("a.b"), unquote(Macro.escape(change)))
        error = assert_raise ArgumentError, fn -> Options.validate!(metrics: [definition]) end

        assert error.message =~
                 "option :metrics must be a list of Telemetry.Metrics definitions: of distribution "

        assert error.message =~ unquote(message)
      end
    end

    test "prometheus_type" do
      definition = sum("a.b", reporter_options: [prometheus_type: :histogram])
      error = assert_raise ArgumentError, fn -> Options.validate!(metrics: [definition]) end

      assert error.message =~
               "of sum [:a, :b], key :prometheus_type of :reporter_options must be :counter or :gauge, got: :histogram"
    end

    test "quantile, as the tag of a summary" do
      error =
        assert_raise ArgumentError, fn ->
          Options.validate!(metrics: [summary("a.b", tags: [:quantile])])
        end

      assert error.message =~ "other keys than quantile"
    end

    test "what is no definition" do
      for wrong <- [
            %{},
            :metrics,
            [1],
            [%{__struct__: Telemetry.Metrics.Unknown}],
            [counter("a.b") | :improper]
          ] do
        error = assert_raise ArgumentError, fn -> Options.validate!(metrics: wrong) end

        assert error.message =~
                 "option :metrics must be a list of Telemetry.Metrics definitions, got: "
      end
    end
  end
end
