defmodule DSPexTelemetry.Catalogue.SnakepitEventsTest do
  # Not async: emits events that other tests' instances see.
  use ExUnit.Case, async: false

  import DSPexTelemetry.SnakepitTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{
    Catalogue,
    ErrorAnalyzer,
    PerformanceMonitor,
    SnakepitSamples,
    UsageAnalytics
  }

  alias DSPexTelemetry.Catalogue.Field

  doctest DSPexTelemetry.Name

  @moduletag :capture_log

  @stop [:snakepit, :grpc_worker, :execute, :stop]
  @bridge_call [:dspex, :bridge, :call_method]

  setup do
    watch_handler_failures()
    on_exit(fn -> assert_no_handler_failed() end)
  end

  defp total(rows), do: rows |> Enum.map(& &1.count) |> Enum.sum()

  describe "every event" do
    test "that is mapped has a sample, and every sample is of one that is" do
      mapped = for event <- Catalogue.events([:snakepit]), uniq: true, do: event.name
      sampled = for {name, _, _} <- SnakepitSamples.all(), do: name
      assert Enum.sort(Enum.uniq(sampled)) == Enum.sort(mapped)
      assert mapped -- DSPexTelemetry.events() == []
    end

    test "is accepted as Snakepit emits it" do
      instance = start!()
      plans = plans(instance)

      for event <- Catalogue.events([:snakepit]),
          {name, measurements, metadata} <- SnakepitSamples.of(event.name) do
        assert {name, handle(plans, event, measurements, metadata)} == {name, :ok}
      end

      assert DSPexTelemetry.info(instance: instance).rejected == []
    end

    test "gives what its fields take" do
      for event <- Catalogue.events([:snakepit]),
          field <- event.fields,
          field.type not in [:term, :requester, :why] do
        given? =
          Enum.any?(SnakepitSamples.of(event.name), fn {_name, measurements, metadata} ->
            place = if field.in == :measurements, do: measurements, else: metadata
            Enum.any?(Field.sources(field), &Map.has_key?(place, &1))
          end)

        assert {event.name, field.key, given?} == {event.name, field.key, true}
      end
    end

    test "counts where it should" do
      instance = start!(presets: [:snakepit])
      emit(SnakepitSamples.all())

      levels = for level <- Catalogue.levels(), do: to_string(level.name)

      metrics =
        for {:feed, _family, _labels, counts, observes} <-
              Enum.flat_map(Catalogue.events([:snakepit]), &Catalogue.steps/1),
            {metric, _source} <- counts ++ observes,
            uniq: true,
            do: to_string(metric)

      errors =
        for family <- [Catalogue.spikes_family() | Catalogue.error_families()],
            counter <- Catalogue.family!(family).counters,
            do: to_string(counter.name)

      metrics = metrics ++ errors

      assert scraped(instance, metrics) |> Enum.sort() ==
               File.read!("test/snakepit/scrape.txt") |> String.split("\n", trim: true)

      # The circuit breaker is closed in the end, which is 0, and Python was idle when it was looked at.
      assert scraped(instance, levels) == [
               ~S(snakepit_sessions{table="snakepit_sessions"} 9000),
               ~S(snakepit_gpu_memory_used_bytes{device="cuda:0"} 1.073741824e+09),
               ~S(snakepit_gpu_memory_free_bytes{device="cuda:0"} 3.221225472e+09),
               ~S(snakepit_gpu_memory_size_bytes{device="cuda:0"} 4.294967296e+09),
               ~S(snakepit_gpu_utilization_ratio{device="cuda:0"} 0.455),
               ~S(snakepit_gpu_temperature_celsius{device="cuda:0"} 61.5),
               ~S(snakepit_gpu_power_watts{device="cuda:0"} 120.25),
               ~S(snakepit_python_memory_rss_bytes{worker_id="default_worker_1_2050"} 6.8747264e+07),
               ~S(snakepit_python_memory_vms_bytes{worker_id="default_worker_1_2050"} 9.7017856e+08)
             ]
    end
  end

  describe "executions without a bridge" do
    test "are calls of methods, whichever presets there are" do
      for presets <- [[:snakepit], [:dspex, :snakepit], [:dspex, :snakebridge, :snakepit]] do
        instance = start!(presets: presets)
        command = label("predict")
        for _call <- 1..3, do: execute(command)
        execute(command, :error, %{error: :timeout})

        assert %{count: 4, errors: 1, python_class: "snakepit"} =
                 row(DSPexTelemetry.report(instance: instance).operations, %{method: command})
      end
    end

    test "are in the reports of monitor, errors and usage, and spikes of their errors are told" do
      instance = start!()
      command = label("predict")
      watch_events(instance, [[:dspex, :alerts, :error_spike]])
      for _call <- 1..5, do: execute(command, :error, %{error_kind: :grpc_error, error: %{}})

      assert_receive {:emitted, _event, %{error_count: 5},
                      %{method: ^command, python_class: "snakepit", causes: causes}},
                     10_000

      assert [%{kind: "unsuccessful", reason: "grpc_error", count: 5}] = causes

      report = PerformanceMonitor.report(instance: instance)
      assert inspect(report, limit: :infinity) =~ command
      assert inspect(ErrorAnalyzer.report(instance: instance), limit: :infinity) =~ command

      usage = UsageAnalytics.get_usage_report(instance: instance)
      assert inspect(usage, limit: :infinity) =~ "snakepit.#{command}"
    end

    test "that are streams are calls too, and no other request is" do
      instance = start!()
      emit(SnakepitSamples.of([:snakepit, :request, :executed]))
      operations = DSPexTelemetry.report(instance: instance).operations

      assert [%{method: "numbers", count: 3, errors: 1}] = operations
    end

    test "take native time units, whatever duration_unit says of the bridge's events" do
      for duration_unit <- [:native, :microsecond, :second] do
        instance = start!(duration_unit: duration_unit)
        command = label("predict")
        duration = System.convert_time_unit(2, :millisecond, :native)
        emit(@stop, %{duration: duration}, %{command: command, status: :ok})

        assert %{max_us: 2_000.0} =
                 row(DSPexTelemetry.report(instance: instance).operations, %{method: command})
      end
    end

    test "keep the correlation id as an exemplar, and the session only if it is the caller's" do
      instance = start!()
      exemplars = fn -> DSPexTelemetry.scrape(instance: instance, format: :openmetrics) end
      correlation = SnakepitSamples.execution().correlation_id
      assert SnakepitSamples.execution().session_id =~ ~r/^session_2_\d+$/
      execute(label("predict"))
      assert exemplars.() =~ ~s(# {correlation_id="#{correlation}"} )
      DSPexTelemetry.reset(instance: instance)
      execute(label("predict"), :ok, %{session_id: "session_7"})
      assert exemplars.() =~ ~s(# {correlation_id="#{correlation}",session_id="session_7"} )
    end
  end

  describe "a call of a bridge that becomes an execution" do
    test "counts once, under the bridge's labels" do
      instance = start!()
      method = label("search")
      metadata = %{ref: "r", method: method, python_class: "Index"}

      for _call <- 1..3 do
        :telemetry.span(@bridge_call, metadata, fn ->
          execute("call_method", :error, %{error: :timeout})
          {:error, Map.put(metadata, :success, false)}
        end)
      end

      report = DSPexTelemetry.report(instance: instance)
      assert [%{method: ^method, python_class: "Index", count: 3, errors: 3}] = report.operations
      assert %{errors: 3} = ErrorAnalyzer.report(instance: instance)

      assert scraped(instance, ["snakepit_grpc_execute_total", "dspex_bridge_error_total"]) == [
               ~S(dspex_bridge_error_total{reason="unsuccessful",kind="unsuccessful"} 3),
               ~S(snakepit_grpc_execute_total{pool="Snakepit.Pool",command="call_method",success="false"} 3)
             ]
    end

    test "counts once beside executions that carry no call" do
      instance = start!()
      metadata = %{ref: "r", method: "search", python_class: "Index", success: true}
      execute("direct")
      :telemetry.span(@bridge_call, metadata, fn -> {execute("call_method"), metadata} end)
      execute("direct")

      assert [%{method: "direct", count: 2}] =
               DSPexTelemetry.report(instance: instance).operations
               |> Enum.filter(&(&1.python_class == "snakepit"))
    end

    test "counts for each preset that is alone" do
      # What the tests above rest on.
      for presets <- [[:dspex], [:snakepit]] do
        instance = start!(presets: presets)
        metadata = %{ref: "r", method: "search", python_class: "Index", success: true}
        :telemetry.span(@bridge_call, metadata, fn -> {execute("call_method"), metadata} end)
        assert total(DSPexTelemetry.report(instance: instance).operations) == 1
      end
    end
  end

  test "tools that Python times count once beside the bridge's tool calls" do
    instance = start!()

    [{event, measurements, sent} | _] =
      SnakepitSamples.of([:snakepit, :python, :tool, :execution, :stop])

    tool = &emit(event, measurements, %{sent | tool: &1})
    total = fn -> total(DSPexTelemetry.report(instance: instance).tools) end
    tool.("search")
    tool.("embed")
    assert total.() == 2
    emit([:dspex, :tools, :call, :stop], %{duration: 1}, %{tool_name: "search", success: true})
    # The bridge tells of this tool, and of the other it does not.
    tool.("search")
    tool.("embed")
    assert total.() == 4

    assert scraped(instance, ["snakepit_python_tool_total"]) == [
             ~S(snakepit_python_tool_total{tool="embed",success="true"} 2),
             ~S(snakepit_python_tool_total{tool="search",success="true"} 2)
           ]
  end

  describe "option presets" do
    test "attaches the events of these emitters, and of no others" do
      for presets <- [[:dspex], [:snakepit], [:snakebridge]] do
        instance = start!(presets: presets)
        events = for event <- Catalogue.events(presets), do: event.name
        assert Enum.sort(attached_events(plans(instance))) == Enum.sort(events)
        other = if presets == [:dspex], do: @stop, else: @bridge_call ++ [:stop]
        refute Map.has_key?(plans(instance), other)
        # Nor has a scrape what they would feed.
        families =
          for %{event: event} <- DSPexTelemetry.info(instance: instance).series, do: event

        assert families == for(family <- Catalogue.families(presets), do: family.name)
      end
    end

    test "has all by default" do
      instance = start!()
      assert_all_attached(plans(instance))
      assert Catalogue.families(Catalogue.presets()) == Catalogue.families()
    end
  end

  test "levels keep the last value, and no more label sets than series_limit" do
    instance = start!(series_limit: 2)

    for {device, celsius} <- [{{:cuda, 0}, 50}, {{:cuda, 0}, 61.25}, {:mps, 40}, {:rocm, 1}] do
      emit([:snakepit, :gpu, :temperature, :sampled], %{celsius: celsius}, %{device: device})
    end

    assert Enum.sort(scraped(instance, ["snakepit_gpu_temperature_celsius"])) == [
             ~S(snakepit_gpu_temperature_celsius{device="cuda:0"} 61.25),
             ~S(snakepit_gpu_temperature_celsius{device="mps"} 40)
           ]
  end

  test "a circuit breaker has the state that it went into last" do
    instance = start!()

    for {event, state} <- [opened: 2, half_open: 1, closed: 0, opened: 2] do
      emit([:snakepit, :circuit_breaker, event], %{}, %{pool: :breaker})
      line = ~s(snakepit_circuit_breaker_state{pool="breaker"} #{state}\n)
      assert DSPexTelemetry.scrape(instance: instance) =~ line
    end
  end

  test "an execution with an unknown status is rejected" do
    instance = start!()
    emit(@stop, %{duration: 1}, %{command: "predict", status: :unknown})
    emit(@stop, %{duration: 1}, %{command: "predict"})
    emit(@stop, %{duration: -1}, %{command: "predict", status: :ok})

    assert for(rejected <- DSPexTelemetry.info(instance: instance).rejected, do: rejected.reason)
           |> Enum.sort() == ["invalid_metadata", "missing_metadata", "negative_measurement"]
  end

  describe "docs/snakepit.md" do
    test "has the table of what events feed" do
      document = File.read!("docs/snakepit.md")
      [_before, rest] = String.split(document, ~r/<!-- mapping: .*-->\n/)
      [table, _after] = String.split(rest, "<!-- end of mapping -->")
      assert String.trim(table) == String.trim(DSPexTelemetry.Reference.snakepit())
    end

    test "names no event as not mapped that is" do
      [_before, rest] = String.split(File.read!("docs/snakepit.md"), "## Not mapped")
      [not_mapped | _sections] = String.split(rest, "\n## ")

      names = for [_all, name] <- Regex.scan(~r/`([a-z_]+(?:\.[a-z_]+)+)`/, not_mapped), do: name

      mapped =
        for event <- Catalogue.events([:snakepit]), do: event.name |> tl() |> Enum.join(".")

      assert length(names) > 15
      assert Enum.filter(names, &(&1 in mapped)) == ["python.gc.completed"]
    end
  end

  @tag :servers
  test "promtool finds nothing to say of a scrape" do
    instance = start!()
    emit(SnakepitSamples.all())
    path = Path.join(System.tmp_dir!(), "snakepit-#{System.unique_integer([:positive])}.txt")
    File.write!(path, DSPexTelemetry.scrape(instance: instance))
    on_exit(fn -> File.rm!(path) end)
    command = "promtool check metrics < #{path}"
    assert {"", 0} = System.cmd("sh", ["-c", command], stderr_to_stdout: true)
  end
end
