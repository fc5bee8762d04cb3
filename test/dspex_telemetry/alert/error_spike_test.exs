defmodule DSPexTelemetry.Alert.ErrorSpikeTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.AlertTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Alert, ErrorAnalyzer}

  @exception [:dspex, :bridge, :call_method, :exception]
  @spike [:dspex, :alerts, :error_spike]
  @spike_over [:dspex, :alerts, :error_spike_over]
  @hour 3_600_000

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
end
