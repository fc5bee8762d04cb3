defmodule DSPexTelemetry.Report.OptionsTest do
  @moduledoc """
  What the options of an instance do to its report.
  """
  # Not async: limits count the series of all tests.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance, only: [row: 2, series: 2, start!: 1]

  @overflow "otel_metric_overflow"

  describe "duration_unit" do
    test "says what durations and startup times are in" do
      units = %{
        nanosecond: 1.0e-3,
        microsecond: 1.0,
        millisecond: 1.0e3,
        second: 1.0e6,
        native: 1.0e6 / System.convert_time_unit(1, :second, :native)
      }

      instances = for {unit, _factor} <- units, do: {unit, start!(duration_unit: unit)}
      call("m", %{duration: 7})
      create("C", %{duration: 7})
      tool("t", %{duration: 7})
      spawned(%{startup_time: 7})

      for {unit, instance} <- instances do
        expected = 7 * units[unit]
        report = DSPexTelemetry.report(instance: instance)
        assert [%{min_us: ^expected, mean_us: ^expected}] = report.operations
        assert [%{max_us: ^expected, p50_us: ^expected}] = report.instances
        assert [%{max_us: ^expected}] = report.tools
        assert %{min: ^expected, max: ^expected} = report.pool.startup_us
      end
    end

    test "changes nothing about what has its unit in its name" do
      for unit <- [:nanosecond, :second] do
        instance = start!(duration_unit: unit)
        :telemetry.execute([:snakepit, :pool, :queue_time], %{wait_time_us: 7}, %{command: "c"})
        died(%{lifetime_ms: 7})
        expired(%{lifetime_ms: 7, total_operations: 7})

        report = DSPexTelemetry.report(instance: instance)
        assert report.pool.queue_wait_us.max == 7.0
        assert report.pool.queue_wait_us_by_command["c"].max == 7.0
        assert report.pool.lifetime_ms.max == 7.0
        assert report.sessions.lifetime_ms.max == 7.0
        assert report.sessions.operations.max == 7.0
        stop_supervised!({DSPexTelemetry, instance})
      end
    end

    test "decides from which value on a duration does not fit and is rejected" do
      largest = 2 ** 63 - 1

      for {unit, factor} <- [nanosecond: 1, microsecond: 1_000, millisecond: 1_000_000] do
        instance = start!(duration_unit: unit)
        call("fits", %{duration: div(largest, factor)})
        call("does not", %{duration: div(largest, factor) + 1})

        assert [%{method: "fits"}] = DSPexTelemetry.report(instance: instance).operations

        assert DSPexTelemetry.info(instance: instance).rejected == [
                 %{
                   event: "dspex.bridge.call_method.stop",
                   reason: "oversized_measurement",
                   count: 1
                 }
               ]

        stop_supervised!({DSPexTelemetry, instance})
      end
    end
  end

  describe "series_limit" do
    test "sends what comes later to an overflow row, and nothing of it is lost" do
      instance = start!(series_limit: 2)
      for method <- ~w(a b c d a b c d), do: call(method, %{duration: 1_000})
      for tool <- ~w(a b c), do: tool(tool, %{duration: 2_000})

      report = DSPexTelemetry.report(instance: instance)
      counts = Map.new(report.operations, &{&1.method, &1.count})
      assert counts == %{"a" => 2, "b" => 2, @overflow => 4}

      assert %{python_class: @overflow, mean_us: 1.0, max_us: 1.0} =
               row(report.operations, %{method: @overflow})

      assert %{count: 1, mean_us: 2.0} = row(report.tools, %{tool_name: @overflow})

      assert %{series: 2, limit: 2, overflow: 4} = series(instance, "dspex.bridge.call_method")
      assert %{series: 2, limit: 2, overflow: 1} = series(instance, "dspex.tools.call")
      assert %{series: 0, overflow: 0} = series(instance, "dspex.session.created")
    end

    test "counts errors in the overflow row as in any other" do
      instance = start!(series_limit: 1)

      for method <- ~w(a b), do: call(method, %{duration: 1}, false)
      for class <- ~w(A B), do: create(class, %{duration: 1}, false)
      exception = %{python_class: "C", kind: :error}

      :telemetry.execute(
        [:dspex, :bridge, :create_instance, :exception],
        %{duration: 1},
        exception
      )

      report = DSPexTelemetry.report(instance: instance)
      assert %{count: 1, errors: 1} = row(report.operations, %{method: @overflow})
      assert %{count: 2, errors: 2} = row(report.instances, %{python_class: @overflow})
    end

    test "holds for reasons and types, whose totals stay right" do
      instance = start!(series_limit: 1)
      for reason <- [:timeout, :closed, :gone], do: died(%{lifetime_ms: 1}, reason)

      for type <- ~w(int str int) do
        :telemetry.execute([:dspex, :session, :variable, :set], %{size: 1}, %{var_type: type})
      end

      report = DSPexTelemetry.report(instance: instance)
      assert report.pool.died == %{"timeout" => 1, @overflow => 2}
      assert report.variables.set == %{"int" => 2, @overflow => 1}
      assert report.pool.lifetime_ms.count == 3
      assert report.variables.set_size_bytes.count == 3
    end
  end

  test "ref_limit forgets the oldest reference first" do
    instance = start!(ref_limit: 2)
    for ref <- ~w(a b c), do: create("Index", %{duration: 1}, true, ref)

    for ref <- ~w(a b c) do
      metadata = %{method: ref, success: true, ref: ref}
      :telemetry.execute([:dspex, :bridge, :call_method, :stop], %{duration: 1}, metadata)
    end

    classes =
      Map.new(DSPexTelemetry.report(instance: instance).operations, &{&1.method, &1.python_class})

    assert classes == %{"a" => "unknown", "b" => "Index", "c" => "Index"}
    assert DSPexTelemetry.info(instance: instance).refs == 2
  end

  defp call(method, measurements, success \\ true) do
    metadata = %{method: method, python_class: "C", success: success}
    :telemetry.execute([:dspex, :bridge, :call_method, :stop], measurements, metadata)
  end

  defp create(class, measurements, success \\ true, ref \\ nil) do
    metadata = %{python_class: class, success: success, ref: ref}
    :telemetry.execute([:dspex, :bridge, :create_instance, :stop], measurements, metadata)
  end

  defp tool(name, measurements) do
    metadata = %{tool_name: name, success: true}
    :telemetry.execute([:dspex, :tools, :call, :stop], measurements, metadata)
  end

  defp spawned(measurements) do
    metadata = %{worker_id: "w", python_version: "3.11"}
    :telemetry.execute([:snakepit, :worker, :spawned], measurements, metadata)
  end

  defp died(measurements, reason \\ :closed) do
    metadata = %{worker_id: "w", reason: reason}
    :telemetry.execute([:snakepit, :worker, :died], measurements, metadata)
  end

  defp expired(measurements) do
    :telemetry.execute([:dspex, :session, :expired], measurements, %{reason: :timeout})
  end
end
