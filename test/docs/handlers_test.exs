defmodule DSPexTelemetry.Docs.HandlersTest do
  # The handlers of docs/handlers.md, compiled from its text and fed with events.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.Markdown

  @guide File.read!("docs/handlers.md")

  defp blocks(heading) do
    for %{language: "elixir", heading: ^heading, code: code} <- Markdown.blocks(@guide), do: code
  end

  # In a VM of its own: the handlers of the guide hear every event. Its log goes to the output.
  defp run(code) do
    evaluate!("""
    for device <- [:user, :standard_io], do: :ok = :io.setopts(device, encoding: :unicode)
    {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
    #{code}
    Logger.flush()
    """)
  end

  describe "the specification's example" do
    setup do
      assert [needed, example] = blocks("An example")
      %{needed: needed, example: example}
    end

    test "works as it is written", %{needed: needed, example: example} do
      output =
        run("""
        #{needed}
        MyApp.Metrics.start()
        #{example}
        MyApp.BridgeMonitor.attach()
        alias DSPexTelemetry.Emit

        {:ok, 1} = Emit.call_method(%{ref: "r", method: "search"}, fn -> {:ok, 1} end)
        :telemetry.execute([:dspex, :bridge, :call_method, :stop], %{duration: 123}, %{method: "count", success: true})

        try do
          Emit.call_method(%{ref: "r", method: "parse"}, fn -> raise ArgumentError, "no such page" end)
        rescue
          ArgumentError -> :raised
        end

        [{"count", 1, 123}, {"search", 1, duration}] = Enum.sort(:ets.tab2list(MyApp.Metrics))
        true = duration > 0
        for id <- ["my-app-monitor", "my-app"],
            do: true = Enum.any?(:telemetry.list_handlers([:dspex, :bridge]), &(&1.id == id))
        # The library has counted them too.
        [1, 1, 1] = for row <- DSPexTelemetry.report().operations, do: row.count
        """)

      assert output =~ "[debug] Starting search"
      assert output =~ ~r/\[debug\] Completed search in \d+μs/
      assert output =~ "[debug] Completed count in 123μs"
      assert output =~ "[error] Failed parse: %ArgumentError{message: \"no such page\"}"
      refute output =~ "has failed and has been detached"
    end

    test "has the names that the specification has", %{example: example} do
      assert example =~
               ~s(:telemetry.attach(\n  "my-app-monitor",\n  [:dspex, :bridge, :call_method, :stop],)

      assert example =~ ~s(:telemetry.attach_many("my-app", events, &handle_event/4, %{}\))
      refute example =~ "require"
    end
  end

  test "the handler that lasts keeps the slowest calls, and stays after odd events" do
    assert [handler, odd] = blocks("A handler that lasts")

    run("""
    #{handler}
    {:ok, pid} = MyApp.SlowCalls.start_link(over_ms: 5)
    stop = [:dspex, :bridge, :call_method, :stop]
    ms = System.convert_time_unit(1, :millisecond, :native)

    for n <- 1..30,
        do: :telemetry.execute(stop, %{duration: n * ms}, %{method: "m\#{n}", success: true})

    ["m30", "m29" | _] = names = for {_duration, method} <- MyApp.SlowCalls.list(), do: method
    10 = length(names)
    #{odd}
    # One that was killed leaves its handler, which its successor replaces.
    Process.unlink(pid)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
    {:ok, pid} = MyApp.SlowCalls.start_link(over_ms: 5)
    [] = MyApp.SlowCalls.list()
    GenServer.stop(pid)
    [] = Enum.filter(:telemetry.list_handlers([]), &(&1.id == MyApp.SlowCalls))
    """)
  end

  test "the handler of DSPex's calls hears of each failure once, whoever emits it" do
    assert [handler] = blocks("Calls of DSPex")

    run("""
    defmodule MyApp.Chat do
      def post(text), do: send(:test, {:posted, text})
    end

    Process.register(self(), :test)
    #{handler}
    :ok = MyApp.FailedCalls.attach()
    exception = [:snakepit, :python, :call, :exception]
    call = %{function: "loads", python_module: "json"}
    returned = {:error, %{__struct__: Snakepit.Error.PythonException, python_type: "JSONDecodeError"}}
    inside = Map.merge(call, %{python_pid: 1, worker_id: "w", timestamp_ns: 1})

    for metadata <- [Map.put(call, :error, returned), inside, Map.put(call, :reason, %ArgumentError{}), %{}],
        do: :telemetry.execute(exception, %{duration: 1}, metadata)

    posted = fn -> receive do: ({:posted, text} -> text), after: (0 -> nil) end
    "json.loads failed: JSONDecodeError" = posted.()
    "json.loads failed: ArgumentError" = posted.()
    nil = posted.()
    true = Enum.any?(:telemetry.list_handlers([]), &(&1.id == MyApp.FailedCalls))
    """)
  end

  test "the pager is told of spikes and of unusual latencies" do
    assert [pager] = blocks("Alerts")

    run("""
    Logger.configure(level: :none)
    defmodule MyApp.Chat do
      def post(text), do: send(:test, {:posted, text})
    end

    Process.register(self(), :test)
    #{pager}
    :ok = MyApp.Pager.attach()
    {:ok, _pid} = DSPexTelemetry.start_link(name: Own, error_spike_window: 200)
    stop = [:dspex, :bridge, :call_method, :stop]
    for _ <- 1..5,
        do: :telemetry.execute(stop, %{duration: 1}, %{method: "m", python_class: "C", success: false})

    receive do: ({:posted, "C.m failed 5 times"} -> :ok), after: (5_000 -> exit(:no_spike))
    receive do: ({:posted, "C.m is over it, after 5 errors"} -> :ok), after: (5_000 -> exit(:no_end))
    anomaly = %{p95_us: 1_234.5}
    metadata = %{method: "m", python_class: "C", state: :started}
    :telemetry.execute([:dspex, :alerts, :latency_anomaly], anomaly, metadata)
    receive do: ({:posted, "m started: p95 1235 us"} -> :ok), after: (0 -> exit(:no_anomaly))
    """)
  end
end
