defmodule DSPexTelemetry.AlertTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.AlertTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Alert, ErrorAnalyzer, Native}
  alias DSPexTelemetry.Alert.Dispatcher
  alias DSPexTelemetry.Instance.Clock

  doctest Alert
  doctest ErrorAnalyzer

  @exception [:dspex, :bridge, :call_method, :exception]
  @spike [:dspex, :alerts, :error_spike]
  @anomaly [:dspex, :alerts, :latency_anomaly]
  @hour 3_600_000

  describe "an unusual latency" do
    setup do
      method = label("rank")
      watch_log(method)
      instance = start_watched!(anomaly_min_calls: 5, anomaly_min_slices: 3)
      %{method: method, instance: instance, now_ms: Clock.now_ms()}
    end

    test "is told when it begins and when it is over", %{method: method} = context do
      usual(context)
      refute_alert(context.instance)
      slice(context, 4, 5, 10_000)
      assert_receive {:emitted, @anomaly, measurements, metadata}, 10_000

      assert measurements |> Map.keys() |> Enum.sort() ==
               ~w(count lower_us mad_us median_us p95_us upper_us)a

      assert measurements.count == 5
      assert_in_delta measurements.p95_us, 10_000, 100
      assert_in_delta measurements.median_us, 1_000, 10
      assert measurements.mad_us == 0.0
      # Five times a tenth of the median.
      assert_in_delta measurements.lower_us, 500, 5
      assert_in_delta measurements.upper_us, 1_500, 15
      {started_unix_ms, metadata} = Map.pop!(metadata, :started_unix_ms)

      assert metadata == %{
               instance: context.instance,
               method: method,
               python_class: "Class",
               state: :started,
               direction: :above
             }

      assert [%{method: ^method, direction: :above, state: :started}] =
               ErrorAnalyzer.report(instance: context.instance).anomalies

      # It goes on for one slice more.
      slice(context, 5, 5, 12_000)
      slice(context, 6, 5, 1_000)
      assert_receive {:emitted, @anomaly, measurements, metadata}, 10_000
      assert measurements.duration == System.convert_time_unit(2, :second, :native)
      assert_in_delta measurements.p95_us, 1_000, 10
      assert %{state: :over, direction: :above, reason: :back_in_range} = metadata
      assert metadata.started_unix_ms == started_unix_ms
      assert ErrorAnalyzer.report(instance: context.instance).anomalies == []

      assert_receive {:logged, :warning, started}, 10_000
      assert_receive {:logged, :info, over}, 10_000
      assert started =~ ~r/^Unusual latency: p95 of Class\.#{method} is 10\.0ms, usually /
      assert over =~ ~r/^Unusual latency of Class\.#{method} is over after 2\.00s: p95 is 1\.00ms/
      refute_alert(context.instance)
      refute_received {:logged, _level, _line}
    end

    test "is over when there are no more calls", %{method: method} = context do
      usual(context)
      slice(context, 4, 5, 10)
      assert_receive {:emitted, @anomaly, _measurements, %{direction: :below}}, 10_000
      end_slice(context, 4 + 7 * 3_600)
      assert_receive {:emitted, @anomaly, %{duration: duration}, metadata}, 10_000
      assert %{state: :over, direction: :below, reason: :no_calls} = metadata
      # Six slices without calls.
      assert duration == System.convert_time_unit(6 * 3_600, :second, :native)
      assert_receive {:logged, :info, line}, 10_000
      assert line =~ "Class.#{method} is over after 6.00h: there were no more calls"
    end

    test "is none where there are too few calls to tell", context do
      usual(context)
      slice(context, 4, 4, 10_000)
      refute_alert(context.instance)
    end

    test "is not looked for with deviations of infinity" do
      instance = start_watched!(anomaly_deviations: :infinity, anomaly_min_slices: 2)
      context = %{instance: instance, now_ms: Clock.now_ms(), method: "rank"}
      usual(context)
      slice(context, 4, 50, 10_000)
      refute_alert(instance)
    end

    defp usual(context), do: for(number <- 1..3, do: slice(context, number, 5, 1_000))

    # Slices of a second that end by hand.
    defp slice(%{instance: instance, method: method} = context, number, calls, duration_us) do
      for _ <- 1..calls, do: return(instance, method, true, duration_us)
      end_slice(context, number)
    end

    defp end_slice(%{instance: instance, now_ms: now_ms}, seconds) do
      now_ms = now_ms + 1_000 * seconds
      :ok = Native.end_slice(native(instance), {now_ms, now_ms})
    end
  end

  describe "a long wait for a worker" do
    test "is logged with worker and command, and those that follow at once in one number" do
      command = label("predict")
      watch_log(command)
      instance = start_watched!()
      wait(instance, command, 5_000_000)
      for _ <- 1..10, do: wait(instance, command, 6_500_000)
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "Long queue wait: #{command} waited 6.50s for worker worker-1"

      tick(instance, 2_000)
      # More than one line if this took more than a second.
      assert_told(command, 9)
      refute_alert(instance)
      refute_received {:logged, _level, _line}
    end

    test "is one that is longer than the threshold says" do
      command = label("predict")
      watch_log(command)
      instance = start_watched!(queue_wait_threshold: 10)
      wait(instance, command, 10_000)
      refute_alert(instance)
      refute_received {:logged, _level, _line}
      wait(instance, command, 10_001)
      assert_receive {:logged, :warning, _line}, 10_000
    end

    test "is not looked for with a threshold of infinity" do
      command = label("predict")
      watch_log(command)
      instance = start_watched!(queue_wait_threshold: :infinity)
      wait(instance, command, @hour * 1_000)
      for _ <- 1..5, do: fail(instance, "barrier", :error, :no)
      assert_receive {:emitted, @spike, _measurements, _metadata}, 10_000
      refute_received {:logged, _level, _line}
    end

    test "is logged of an unknown worker if the event names none" do
      command = label("predict")
      watch_log(command)
      instance = start_watched!()
      event = [:snakepit, :pool, :queue_time]
      :ok = handle(plans(instance), event, %{wait_time_us: 6_500_000}, %{command: command})
      assert_receive {:logged, :warning, line}, 10_000
      assert line == "Long queue wait: #{command} waited 6.50s for worker unknown"
    end

    test "says how many there were since the last that was logged" do
      watch_log("predict-suppressed")
      wait = %{command: "predict-suppressed", worker_id: "w", wait_us: 1.0e6, suppressed: 3}
      :ok = Alert.raise({:queue_wait, wait}, :any)
      assert_received {:logged, :warning, line}
      assert line =~ ~r/ for worker w, and 3 more since the last warning$/
    end

    defp assert_told(_command, 0), do: :ok

    defp assert_told(command, expected) do
      assert_receive {:logged, :warning, line}, 10_000

      told =
        case Regex.run(~r/^Long queue waits: (\d+) more of #{command}$/, line) do
          [_line, more] -> String.to_integer(more)
          nil -> 1 + suppressed(line)
        end

      assert told <= expected
      assert_told(command, expected - told)
    end

    defp suppressed(line) do
      case Regex.run(~r/, and (\d+) more since the last warning$/, line) do
        [_match, more] -> String.to_integer(more)
        nil -> 0
      end
    end
  end

  test "a series limit that is reached is logged once, and again after a reset" do
    instance = start_watched!(series_limit: 1)
    watch_log(inspect(instance))

    for _ <- 1..2 do
      for tool <- ~w(a b c d b), do: use_tool(instance, tool)
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "Series limit of 1 reached for dspex.tools.call of #{inspect(instance)}: "
      refute_alert(instance)
      refute_received {:logged, _level, _line}
      :ok = DSPexTelemetry.reset(instance: instance)
    end
  end

  describe "a handler of alerts" do
    test "that blocks holds up nobody: alerts that find no room are dropped and counted" do
      instance = start!(quiet() ++ [error_spike_threshold: 1, signal_limit: 5])
      block_on(instance)
      fail(instance, "blocking", :error, :no)
      assert_receive {:blocked, dispatcher, "blocking"}, 10_000
      assert dispatcher == child(instance, Dispatcher)

      methods = for number <- 1..20, do: "method#{number}"
      for method <- methods, do: fail(instance, method, :error, :no)
      assert DSPexTelemetry.info(instance: instance).signals_dropped == 15
      for _ <- 1..1_000, do: fail(instance, hd(methods), :error, :no)
      assert Process.info(dispatcher, :message_queue_len) == {:message_queue_len, 0}

      operations = DSPexTelemetry.report(instance: instance).operations
      assert row(operations, %{method: hd(methods)}).count == 1_001
      assert length(operations) == 21
      assert DSPexTelemetry.report(instance: instance, window: :last_minute).operations != []

      # In the order in which they came.
      send(dispatcher, :go_on)

      for method <- Enum.take(methods, 5) do
        assert_receive {:blocked, ^dispatcher, ^method}, 10_000
        assert Process.info(dispatcher, :message_queue_len) == {:message_queue_len, 0}
        send(dispatcher, :go_on)
      end

      refute_alert(instance)
      refute_received {:blocked, _dispatcher, _method}
      fail(instance, "after", :error, :no)
      assert_receive {:blocked, ^dispatcher, "after"}, 10_000
      assert DSPexTelemetry.info(instance: instance).signals_dropped == 15
      send(dispatcher, :go_on)
    end

    test "that blocks does not keep an instance from stopping" do
      instance = start!(quiet() ++ [error_spike_threshold: 1])
      plans = plans(instance)
      block_on(instance)
      for method <- ~w(a b c), do: fail(instance, method, :error, :no)
      assert_receive {:blocked, dispatcher, "a"}, 10_000
      monitor = Process.monitor(dispatcher)
      :ok = stop_supervised!({DSPexTelemetry, instance})
      assert_receive {:DOWN, ^monitor, :process, ^dispatcher, :shutdown}
      metadata = %{method: "a", python_class: "Class", kind: :error, reason: :no}
      assert handle(plans, @exception, %{duration: 1}, metadata) == :stopped
    end

    test "that raises is removed, and the next alerts come" do
      instance = start_watched!(error_spike_threshold: 1)
      dispatcher = child(instance, Dispatcher)
      id = {__MODULE__, make_ref()}
      :ok = :telemetry.attach(id, @spike, &__MODULE__.raise_for/4, instance)
      on_exit(fn -> :telemetry.detach(id) end)

      for method <- ~w(a b) do
        fail(instance, method, :error, :no)
        assert_receive {:emitted, @spike, _measurements, %{method: ^method}}, 10_000
      end

      assert :sys.get_state(dispatcher).instance == instance
      assert child(instance, Dispatcher) == dispatcher
      refute id in Enum.map(:telemetry.list_handlers(@spike), & &1.id)
    end

    @doc false
    def raise_for(_event, _measurements, %{instance: instance}, instance), do: raise("no")
    def raise_for(_event, _measurements, _metadata, _instance), do: :ok

    # Blocks until the test sends `:go_on` to it, for every alert.
    defp block_on(instance) do
      id = {__MODULE__, make_ref()}
      :ok = :telemetry.attach(id, @spike, &__MODULE__.block/4, {instance, self()})
      on_exit(fn -> :telemetry.detach(id) end)
    end

    @doc false
    def block(_event, _measurements, %{instance: instance, method: method}, {instance, test}) do
      send(test, {:blocked, self(), method})

      receive do
        :go_on -> :ok
      end
    end

    def block(_event, _measurements, _metadata, _config), do: :ok
  end

  describe "a dispatcher that is killed" do
    test "comes back, and alerts that came meanwhile and later arrive" do
      instance = start_watched!(error_spike_threshold: 1)

      for number <- 1..3 do
        before = child(instance, Dispatcher)
        kill(before)
        for when_ <- ~w(meanwhile later), do: fail(instance, "#{when_}#{number}", :error, :no)

        for when_ <- ~w(meanwhile later), method = "#{when_}#{number}" do
          assert_receive {:emitted, @spike, _measurements, %{method: ^method}}, 10_000
        end

        assert child(instance, Dispatcher) != before
      end

      assert DSPexTelemetry.info(instance: instance).signals_dropped == 0
    end

    test "while a handler blocks it leaves the rest to its successor" do
      instance = start!(quiet() ++ [error_spike_threshold: 1])
      block_on(instance)
      fail(instance, "first", :error, :no)
      assert_receive {:blocked, dispatcher, "first"}, 10_000
      for method <- ~w(second third), do: fail(instance, method, :error, :no)
      kill(dispatcher)

      for method <- ~w(second third) do
        assert_receive {:blocked, successor, ^method}, 10_000
        assert successor != dispatcher
        send(successor, :go_on)
      end
    end
  end

  test "an instance that has stopped alerts nobody" do
    instance = start_watched!(error_spike_threshold: 1)
    native = native(instance)
    fail(instance, "search", :error, :no)
    assert_receive {:emitted, @spike, _measurements, _metadata}, 10_000
    :ok = stop_supervised!({DSPexTelemetry, instance})

    assert Native.demand_signals(native, self()) == :ok
    assert Native.tick(native, {Clock.now_ms() + 10 * @hour, 0}) == :ok
    assert Native.end_slice(native, {Clock.now_ms() + 10 * @hour, 0}) == :ok
    assert Native.errors(native, :since_start, {0, 0}).errors == 0
    refute_received _anything
  end

  defp use_tool(instance, tool) do
    metadata = %{tool_name: tool, success: true}
    :ok = handle(plans(instance), [:dspex, :tools, :call, :stop], %{duration: 1}, metadata)
  end
end
