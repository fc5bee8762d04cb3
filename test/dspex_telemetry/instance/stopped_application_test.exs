defmodule DSPexTelemetry.Instance.StoppedApplicationTest do
  # Each in a VM of its own, in which the application can be stopped.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  @calls [
    "DSPexTelemetry.report()",
    "DSPexTelemetry.report(format: :json)",
    "DSPexTelemetry.scrape()",
    "DSPexTelemetry.info()",
    "DSPexTelemetry.reset()",
    "DSPexTelemetry.attach()",
    "DSPexTelemetry.detach()",
    "DSPexTelemetry.attached?()",
    "DSPexTelemetry.http_address()",
    "DSPexTelemetry.top()",
    "DSPexTelemetry.histogram([:dspex, :bridge, :call_method, :stop], %{method: \"m\", python_class: \"C\"})",
    "DSPexTelemetry.report(instance: MyApp.Own)",
    "DSPexTelemetry.start_link(name: MyApp.Own)",
    "DSPexTelemetry.PerformanceMonitor.report()",
    "DSPexTelemetry.ErrorAnalyzer.report()",
    "DSPexTelemetry.UsageAnalytics.get_usage_report()",
    "DSPexTelemetry.UsageAnalytics.save()",
    "DSPexTelemetry.UsageAnalytics.declare_tools([\"t\"])",
    "DSPexTelemetry.PerformanceRouter.route_request(\"c\", [])",
    "DSPexTelemetry.PerformanceRouter.put_workers([\"w\"])",
    "DSPexTelemetry.PerformanceRouter.report()",
    "DSPexTelemetry.Push.counts(DSPexTelemetry)",
    "DSPexTelemetry.OTLP.counts(DSPexTelemetry)"
  ]

  for {state, prepare} <- [
        {"stopped", "{:ok, _} = Application.ensure_all_started(:dspex_telemetry)
                     :ok = Application.stop(:dspex_telemetry)"},
        {"not been started", ""}
      ] do
    test "an application that has #{state} is what every function says is wrong" do
      output =
        evaluate!("""
        Logger.configure(level: :error)
        #{unquote(prepare)}
        for code <- #{inspect(@calls, limit: :infinity, printable_limit: :infinity)} do
          try do
            Code.eval_string(code)
          rescue
            exception -> IO.puts("\#{code} -> \#{inspect(exception.__struct__)} \#{Exception.message(exception)}")
          end
        end
        """)

      lines = String.split(output, "\n", trim: true)
      assert length(lines) == length(@calls)

      for line <- lines do
        assert line =~
                 ~r/ -> ArgumentError the application :dspex_telemetry is not running, .*ensure_all_started\(:dspex_telemetry\)$/
      end
    end
  end

  test "handlers and Emit do nothing without the application, and fail nobody" do
    output =
      evaluate!("""
      Logger.configure(level: :error)
      {:ok, _} = Application.ensure_all_started(:dspex_telemetry)
      :ok = Application.stop(:dspex_telemetry)
      IO.inspect(DSPexTelemetry.Emit.call_method(%{method: "m", python_class: "C"}, fn -> {:ok, 42} end))
      IO.inspect(:telemetry.list_handlers([]))
      """)

    assert output == "{:ok, 42}\n[]\n"
  end
end
