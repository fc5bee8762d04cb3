defmodule DSPexTelemetry.AlertTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Alert, ErrorAnalyzer, Native}
  alias DSPexTelemetry.Alert.Dispatcher
  alias DSPexTelemetry.Instance.Clock

  doctest Alert
  doctest ErrorAnalyzer

  @stop [:dspex, :bridge, :call_method, :stop]
  @exception [:dspex, :bridge, :call_method, :exception]
  @spike [:dspex, :alerts, :error_spike]
  @spike_over [:dspex, :alerts, :error_spike_over]
  @anomaly [:dspex, :alerts, :latency_anomaly]
  @hour 3_600_000

  # So that nothing ends by itself while a test runs.
  @quiet [
    attach: false,
    slice: @hour,
    history: 604_800_000,
    summary_interval: :infinity,
    error_spike_window: @hour
  ]

  describe "an error spike" do
    test "is told and logged once, and once more when it is over" do
      method = label("parse")
      watch_log(method)
      instance = start_watched!()
      before_unix_ms = System.system_time(:millisecond)

      for _ <- 1..3, do: fail(instance, method, :error, %RuntimeError{message: "no"})
      fail(instance, method, :exit, :timeout)
      refute_alert(instance)
      return(instance, method, false)
      assert_receive {:emitted, @spike, measurements, metadata}, 10_000

      assert measurements == %{error_count: 5}
      {times, metadata} = Map.split(metadata, [:first_unix_ms, :last_unix_ms])

      assert metadata == %{
               instance: instance,
               method: method,
               python_class: "Class",
               causes: [
                 %{kind: "error", reason: "RuntimeError", count: 3},
                 %{kind: "exit", reason: "timeout", count: 1},
                 %{kind: "unsuccessful", reason: "unsuccessful", count: 1}
               ]
             }

      # The calendar's time is made of two clocks, which are not read at the same moment.
      assert_in_delta times.first_unix_ms, before_unix_ms, 1_000
      assert_in_delta times.last_unix_ms, before_unix_ms, 1_000
      assert times.last_unix_ms >= times.first_unix_ms

      # Further errors are part of it.
      for _ <- 1..20, do: fail(instance, method, :throw, :no)
      assert [%{method: ^method, error_count: 5, total: 25}] = spikes(instance)
      refute_alert(instance)

      tick(instance, 3 * @hour)
      assert_receive {:emitted, @spike_over, measurements, metadata}, 10_000
      assert measurements |> Map.keys() |> Enum.sort() == [:duration, :total]
      assert measurements.total == 25
      # From the first error until the third of the last five is older than the window.
      duration_ms = System.convert_time_unit(measurements.duration, :native, :millisecond)
      passed_ms = System.system_time(:millisecond) - before_unix_ms
      assert duration_ms in @hour..(@hour + passed_ms + 1_000)

      assert metadata |> Map.keys() |> Enum.sort() ==
               ~w(causes first_unix_ms instance last_unix_ms method python_class)a

      assert hd(metadata.causes) == %{kind: "throw", reason: "no", count: 20}
      assert_in_delta metadata.first_unix_ms, times.first_unix_ms, 1_000

      assert [] = spikes(instance)
      recent = ErrorAnalyzer.report(instance: instance).recent_spikes
      assert [%{method: ^method, total: 25, duration_ms: ^duration_ms}] = recent

      refute_alert(instance)
      assert_received {:logged, :error, started}
      assert_received {:logged, :info, over}
      refute_received {:logged, _level, _line}

      assert started =~
               ~r/^Error spike: Class\.#{method} failed 5 times within [^:]+: 3 × error RuntimeError, /

      assert over =~
               ~r/^Error spike over: Class\.#{method} failed 25 times in .*: 20 × throw no, /
    end

    test "is as many errors as the threshold says, of one method and class" do
      instance = start_watched!(error_spike_threshold: 3)

      for class <- ~w(A B),
          method <- ~w(a b),
          _ <- 1..2,
          do: fail(instance, method, :error, :no, class)

      refute_alert(instance)
      fail(instance, "b", :error, :no, "A")

      assert_receive {:emitted, @spike, %{error_count: 3}, %{method: "b", python_class: "A"}},
                     10_000
    end

    test "is not what is spread over more than the window" do
      instance = start_watched!(error_spike_threshold: 2, error_spike_window: 10)

      for at <- 1..5 do
        fail(instance, "slow", :error, :no)
        # As if so much time had passed: the times of errors never go back.
        tick(instance, at * @hour)
      end

      refute_alert(instance)
    end

    test "is none of a method of which a few calls fail, and one once all do" do
      instance = start_watched!()

      for number <- 1..3_000 do
        if rem(number, 100) == 0,
          do: fail(instance, "busy", :error, :no),
          else: return(instance, "busy", true)
      end

      assert %{errors: 30, spikes: []} = ErrorAnalyzer.report(instance: instance)
      refute_alert(instance)

      for _ <- 1..5, do: fail(instance, "busy", :error, :no)
      assert_receive {:emitted, @spike, %{error_count: 5}, %{method: "busy"}}, 10_000
    end

    test "is a share of the calls that an option says, or whatever their share is" do
      for {percent, succeed} <- [{50, 5}, {20, 20}, {0, 1_000}] do
        instance = start_watched!(error_spike_percent: percent)

        # One call more than is allowed, but for the last.
        for extra <- if(percent == 0, do: [0], else: [1, 0]), method = "method#{extra}" do
          for _ <- 1..2, do: fail(instance, method, :error, :no)
          for _ <- 1..(succeed + extra)//1, do: return(instance, method, true)
          for _ <- 1..3, do: fail(instance, method, :error, :no)
        end

        assert_receive {:emitted, @spike, _measurements, %{method: "method0"}}, 10_000
        refute_alert(instance)
      end
    end

    test "that comes again and again is one alert with the number of repeats" do
      method = label("flaky")
      watch_log(method)
      instance = start_watched!(error_spike_window: 1_000)
      spike = fn -> for _ <- 1..5, do: fail(instance, method, :error, :no) end

      spike.()
      assert_receive {:emitted, @spike, %{error_count: 5} = measurements, _metadata}, 10_000
      refute is_map_key(measurements, :repeats)
      tick(instance, 1_000_000)
      assert_receive {:emitted, @spike_over, _measurements, _metadata}, 10_000

      # Time has gone on, so that the next one is no repeat. Those after it are.
      spike.()
      assert_receive {:emitted, @spike, measurements, _metadata}, 10_000
      refute is_map_key(measurements, :repeats)
      tick(instance, 1_002_000)
      assert_receive {:emitted, @spike_over, _measurements, _metadata}, 10_000

      for second <- 1..3 do
        spike.()
        assert [%{method: ^method, repeats: repeats}] = spikes(instance)
        assert repeats == second - 1
        tick(instance, 1_002_000 + 2_000 * second)
      end

      refute_alert(instance)
      assert [grouped, single] = ErrorAnalyzer.report(instance: instance).recent_spikes
      assert %{repeats: 3, total: 20, causes: [%{count: 20}]} = grouped
      assert %{repeats: 0, total: 5} = single
      assert spikes_total(instance, method) == 5

      tick(instance, 1_200_000)
      spike.()
      refute_alert(instance)
      tick(instance, 1_298_000)
      refute_alert(instance)
      tick(instance, 1_301_000)
      refute_alert(instance)

      lines = for {:logged, level, line} <- flush(), do: {level, line}
      assert [{:error, _}, {:info, _}, {:error, _}, {:info, _}, {:warning, repeats}] = lines
      assert repeats == "Error spikes: 4 more of Class.#{method} since the last alert"
    end

    test "that is signalled after others were held back says how many" do
      method = label("again")
      watch_log(method)
      watch_events(:any, [@spike])
      times = %{first_unix_ms: 0, last_unix_ms: 4}
      spike = %{method: method, python_class: "C", error_count: 5, total: 5, causes: []}
      :ok = Alert.raise({:error_spike, spike |> Map.merge(times) |> Map.put(:repeats, 7)}, :any)
      assert_received {:emitted, @spike, %{error_count: 5, repeats: 7}, metadata}
      refute is_map_key(metadata, :repeats)
      assert_received {:logged, :error, line}

      assert line ==
               "Error spike: C.#{method} failed 5 times within 4.00ms, and 7 more spikes since the last alert"
    end

    test "does not count what reports no success, if told so" do
      instance = start_watched!(count_unsuccessful: false)
      for _ <- 1..10, do: return(instance, "search", false)
      assert %{errors: 0, spikes: []} = ErrorAnalyzer.report(instance: instance)
      refute_alert(instance)

      for _ <- 1..5, do: fail(instance, "search", :error, :no)
      assert_receive {:emitted, @spike, %{error_count: 5}, %{method: "search"}}, 10_000
      assert %{errors: 5, by_kind: %{"error" => 5}} = ErrorAnalyzer.report(instance: instance)
    end

    test "has the class of the reference where the calls name none" do
      instance = start_watched!(error_spike_threshold: 1)
      created = %{python_class: "Index", ref: "ref-1", success: true}
      event = [:dspex, :bridge, :create_instance, :stop]
      :ok = handle(plans(instance), event, %{duration: 1}, created)

      for {ref, class} <- [{"ref-1", "Index"}, {"ref-2", "unknown"}] do
        metadata = %{ref: ref, method: "search", kind: :error, reason: :no}
        :ok = handle(plans(instance), @exception, %{duration: 1}, metadata)
        assert_receive {:emitted, @spike, _measurements, %{python_class: ^class}}, 10_000
      end
    end

    test "is counted by method and class" do
      instance = start_watched!()
      for method <- ~w(a b), _ <- 1..50, do: fail(instance, method, :error, :no)
      assert %{series: 2} = series(instance, "dspex.alerts.error_spike")
    end

    test "of a name that would disturb a terminal is logged without that" do
      method = label("evil")
      watch_log(method)
      instance = start_watched!(error_spike_threshold: 1)
      fail(instance, "\e[31m\n" <> method, :error, :"\e[2J\n")
      assert_receive {:logged, :error, line}, 10_000
      refute line =~ ~r/[\e\n]/
    end
  end

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
      instance = start!(@quiet ++ [error_spike_threshold: 1, signal_limit: 5])
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
      instance = start!(@quiet ++ [error_spike_threshold: 1])
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
      instance = start!(@quiet ++ [error_spike_threshold: 1])
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

  defp start_watched!(options \\ []) do
    instance = start!(Keyword.merge(@quiet, options))
    watch_events(instance, Alert.events())
    instance
  end

  defp fail(instance, method, kind, reason, class \\ "Class") do
    metadata = %{method: method, python_class: class, kind: kind, reason: reason}
    :ok = handle(plans(instance), @exception, %{duration: 1}, metadata)
  end

  defp return(instance, method, success, duration_us \\ 1) do
    metadata = %{method: method, python_class: "Class", success: success}
    :ok = handle(plans(instance), @stop, %{duration: duration_us * 1_000}, metadata)
  end

  defp wait(instance, command, wait_us) do
    metadata = %{worker_id: "worker-1", command: command}
    event = [:snakepit, :pool, :queue_time]
    :ok = handle(plans(instance), event, %{wait_time_us: wait_us}, metadata)
  end

  defp use_tool(instance, tool) do
    metadata = %{tool_name: tool, success: true}
    :ok = handle(plans(instance), [:dspex, :tools, :call, :stop], %{duration: 1}, metadata)
  end

  # As if so much time had passed.
  defp tick(instance, later_ms) do
    {now_ms, unix_ms} = Clock.now()
    :ok = Native.tick(native(instance), {now_ms + later_ms, unix_ms + later_ms})
  end

  defp spikes(instance), do: ErrorAnalyzer.report(instance: instance).spikes

  defp spikes_total(instance, method) do
    scrape = DSPexTelemetry.scrape(instance: instance)
    pattern = ~r/^dspex_alerts_error_spike_total\{method="#{method}".*\} (\d+)$/m
    [_line, count] = Regex.run(pattern, scrape)
    String.to_integer(count)
  end

  defp flush do
    receive do
      {:logged, _level, _line} = logged -> [logged | flush()]
    after
      0 -> []
    end
  end

  # An instance tells of everything in order: when the last has been told, all has.
  defp refute_alert(instance) do
    command = label("barrier")
    watch_log(command)
    wait(instance, command, @hour * 1_000)
    line = "Long queue wait: #{command} waited 1.00h for worker worker-1"
    assert_receive {:logged, :warning, ^line}, 10_000
    refute_received {:emitted, _event, _measurements, _metadata}
  end
end
