defmodule DSPexTelemetry.Project.TelemetryStandIn.ExecutingTest do
  # Events are executed: what handlers get, and what a failing one does. See `DSPexTelemetry.TelemetryClaims`.
  # Not async: stops `:telemetry`, and persists its handlers.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TelemetryClaims

  alias DSPexTelemetry.{LogWatch, TelemetryClaims}

  @moduletag :capture_log

  @failure [:telemetry, :handler, :failure]

  setup :prepare

  for mode <- modes() do
    describe "execute/2 and execute/3 (#{mode})" do
      @describetag mode: mode

      test "ok is returned whether or not there are handlers", %{event: event, id: id} do
        assert :ok = :telemetry.execute(event, %{})
        assert :ok = :telemetry.execute(event, %{}, %{})
        attach(id, event)
        assert :ok = :telemetry.execute(event, %{})
        assert :ok = :telemetry.execute(event, %{}, %{})
      end

      test "metadata is an empty map if it is not given", %{event: event, id: id} do
        attach(id, event)
        :telemetry.execute(event, %{n: 1})
        assert drain() == [{id, event, %{n: 1}, %{}}]
      end

      test "only handlers of exactly the event are called", %{event: event, id: id} do
        attach(id, event)

        :telemetry.execute(Enum.drop(event, -1), %{})
        :telemetry.execute(event ++ [:more], %{})
        :telemetry.execute(Enum.reverse(event), %{})
        assert drain() == []
      end

      test "measurements and metadata are handed on as they are", %{event: event, id: id} do
        attach(id, event)
        measurements = %{"string" => 1, :float => 1.5, {1, 2} => nil, nested: %{a: []}}
        metadata = %{pid: self(), ref: make_ref(), struct: %URI{path: "/"}}

        :telemetry.execute(event, measurements, metadata)
        assert drain() == [{id, event, measurements, metadata}]
      end

      test "a number for measurements, which is deprecated, becomes the map of value", context do
        %{event: event, id: id} = context
        attach(id, event)

        assert :ok = :telemetry.execute(event, 17, %{a: 1})
        assert :ok = :telemetry.execute(event, 1.5)
        assert drain() == [{id, event, %{value: 17}, %{a: 1}}, {id, event, %{value: 1.5}, %{}}]
      end

      test "an event that is not a non-empty list matches no function clause", %{root: root} do
        for bad <- [[], root, "event", nil, %{}, {root}], measurements <- [%{}, 1] do
          assert_raise FunctionClauseError, fn -> :telemetry.execute(bad, measurements) end
          assert_raise FunctionClauseError, fn -> :telemetry.execute(bad, measurements, %{}) end
        end
      end

      test "measurements and metadata that are not maps match no function clause", context do
        %{event: event, id: id} = context
        attach(id, event)

        for bad <- [nil, [], [a: 1], "text", :atom, {1}] do
          assert_raise FunctionClauseError, fn -> :telemetry.execute(event, bad) end
          assert_raise FunctionClauseError, fn -> :telemetry.execute(event, bad, %{}) end
          assert_raise FunctionClauseError, fn -> :telemetry.execute(event, %{}, bad) end
          assert_raise FunctionClauseError, fn -> :telemetry.execute(event, 1, bad) end
        end

        assert_raise FunctionClauseError, fn -> :telemetry.execute(event, %{}, 1) end
        assert drain() == []
      end

      test "the segments of an executed event are not checked" do
        assert :ok = :telemetry.execute(["not", 1, nil], %{}, %{})
      end

      test "a handler may detach itself", %{event: event, id: id} do
        config = %{pid: self(), tag: :self, detach: id}
        :telemetry.attach(id, event, &TelemetryClaims.detach_id/4, config)

        assert :ok = :telemetry.execute(event, %{})
        assert :ok = :telemetry.execute(event, %{})
        assert_received {:handled, :self, :ok}
        refute_received {:handled, :self, _}
      end

      test "a handler detached while an event is dispatched still gets that event", context do
        %{event: event, root: root} = context

        for {id, other} <- [{:a, :b}, {:b, :a}] do
          config = %{pid: self(), tag: id, detach: {root, other}}
          :telemetry.attach({root, id}, event, &TelemetryClaims.detach_id/4, config)
        end

        :telemetry.execute(event, %{})
        assert_received {:handled, :a, :ok}
        assert_received {:handled, :b, :ok}
        assert :telemetry.list_handlers(event) == []
      end

      test "a handler attached while an event is dispatched gets the next one", context do
        %{event: event, id: id} = context
        config = %{pid: self(), attach: {:late, id}}
        :telemetry.attach(id, event, &TelemetryClaims.attach_id/4, config)

        :telemetry.execute(event, %{n: 1})
        assert tags() == []
        :telemetry.execute(event, %{n: 2})
        assert tags() == [:late]
      end

      test "a handler may execute other events", %{event: event, id: id} do
        attach({id, :inner}, event ++ [:inner], :inner)

        outer = fn event, measurements, metadata, nil ->
          :telemetry.execute(event ++ [:inner], measurements, metadata)
        end

        :telemetry.attach({id, :outer}, event, outer, nil)
        :telemetry.execute(event, %{n: 1}, %{m: 2})
        assert drain() == [{:inner, event ++ [:inner], %{n: 1}, %{m: 2}}]
      end
    end

    describe "a failing handler (#{mode})" do
      @describetag mode: mode

      for {kind, reason, code} <- [
            {:error, quote(do: %RuntimeError{message: "boom"}), quote(do: raise("boom"))},
            {:error, :badarith, quote(do: :erlang.error(:badarith))},
            {:exit, :boom, quote(do: exit(:boom))},
            {:throw, {:boom, 1}, quote(do: throw({:boom, 1}))}
          ] do
        test "is detached on #{kind} #{Macro.to_string(reason)} and does not disturb the emitter or the others",
             %{event: event, root: root} do
          attach({root, :before}, event)
          attach_failing({root, :failing}, event, fn -> unquote(code) end)
          attach({root, :after}, event)

          assert :ok = :telemetry.execute(event, %{})
          assert Enum.sort(tags()) == [{root, :after}, {root, :before}]

          assert Enum.sort(ids(:telemetry.list_handlers(event))) ==
                   [{root, :after}, {root, :before}]

          assert {:error, :not_found} = :telemetry.detach({root, :failing})

          assert :ok = :telemetry.execute(event, %{})
          assert Enum.sort(tags()) == [{root, :after}, {root, :before}]
        end

        test "emits a failure event on #{kind} #{Macro.to_string(reason)}", context do
          %{event: event, id: id} = context
          attach({id, :listener}, @failure)
          config = attach_failing(id, event, fn -> unquote(code) end)

          before = {System.monotonic_time(), System.system_time()}
          :telemetry.execute(event, %{n: 1}, %{m: 2})
          later = {System.monotonic_time(), System.system_time()}

          assert [{_, @failure, measurements, metadata}] = drain()
          assert Enum.sort(Map.keys(measurements)) == [:monotonic_time, :system_time]
          assert measurements.monotonic_time in elem(before, 0)..elem(later, 0)
          assert_in_delta measurements.system_time, elem(before, 1), second()

          assert {stacktrace, rest} = Map.pop(metadata, :stacktrace)
          assert [{_, _, _, _} | _] = stacktrace
          assert Enum.any?(stacktrace, &match?({__MODULE__, _, _, _}, &1))

          assert rest == %{
                   event_name: event,
                   handler_id: id,
                   handler_config: config,
                   kind: unquote(kind),
                   reason: unquote(reason)
                 }
        end
      end

      test "is detached from all its events", %{event: event, id: id} do
        events = for n <- [:a, :b, :c], do: event ++ [n]
        config = %{fail: fn -> raise "boom" end}
        :telemetry.attach_many(id, events, &TelemetryClaims.fail/4, config)

        :telemetry.execute(hd(events), %{})
        assert :telemetry.list_handlers(event) == []
      end

      test "is detached by the time the failure event is emitted", %{event: event, id: id} do
        :telemetry.attach({id, :listener}, @failure, &TelemetryClaims.report_failure/4, %{
          pid: self()
        })

        attach_failing(id, event, fn -> raise "boom" end)

        :telemetry.execute(event, %{})
        assert_received {:listed_at_failure, []}
      end

      test "may itself listen to failures: the emitter and other listeners go on", context do
        %{event: event, id: id} = context
        attach({id, :listener}, @failure)
        attach_failing({id, :failing_listener}, @failure, fn -> exit(:listener) end)
        attach_failing({id, :failing}, event, fn -> throw(:handler) end)

        assert :ok = :telemetry.execute(event, %{})

        reasons = for {_, @failure, _, metadata} <- drain(), do: metadata.reason
        assert Enum.sort(reasons) == [:handler, :listener]

        ids = ids(:telemetry.list_handlers([]))
        assert {id, :listener} in ids
        refute {id, :failing_listener} in ids
        refute {id, :failing} in ids
      end

      test "can be attached again", %{event: event, id: id} do
        attach_failing(id, event, fn -> raise "boom" end)
        :telemetry.execute(event, %{})
        assert :ok = attach(id, event)
        :telemetry.execute(event, %{})
        assert tags() == [id]
      end

      test "has to raise: whatever it returns is ignored", %{event: event, id: id} do
        for value <- [:error, {:error, :boom}, nil, false, %RuntimeError{}] do
          attach_failing({id, value}, event, fn -> value end)
        end

        assert :ok = :telemetry.execute(event, %{})
        assert length(:telemetry.list_handlers(event)) == 5
      end
    end

    describe "concurrency (#{mode})" do
      @describetag mode: mode

      test "of many processes attaching the same id one succeeds", %{event: event, id: id} do
        pid = self()

        results =
          concurrently(1..40, fn n ->
            :telemetry.attach(id, event, &TelemetryClaims.forward/4, %{pid: pid, tag: n})
          end)

        assert Enum.count(results, &(&1 == :ok)) == 1
        assert Enum.count(results, &(&1 == {:error, :already_exists})) == 39
        assert length(:telemetry.list_handlers(event)) == 1
      end

      test "of many processes detaching the same id one succeeds", %{event: event, id: id} do
        attach(id, event)
        results = concurrently(1..40, fn _ -> :telemetry.detach(id) end)

        assert Enum.count(results, &(&1 == :ok)) == 1
        assert Enum.count(results, &(&1 == {:error, :not_found})) == 39
      end

      test "of many processes attaching different ids all succeed", %{event: event, id: id} do
        pid = self()

        results =
          concurrently(1..40, fn n ->
            :telemetry.attach({id, n}, event, &TelemetryClaims.forward/4, %{pid: pid, tag: n})
          end)

        assert Enum.uniq(results) == [:ok]
        :telemetry.execute(event, %{})
        assert Enum.sort(tags()) == Enum.to_list(1..40)
      end

      test "a failure in many processes at once detaches the handler and disturbs none",
           %{event: event, id: id} do
        attach_failing(id, event, fn ->
          Process.sleep(5)
          raise "boom"
        end)

        results = concurrently(1..20, fn _ -> :telemetry.execute(event, %{}) end)
        assert Enum.uniq(results) == [:ok]
        assert :telemetry.list_handlers(event) == []
      end

      test "no execute is lost to a handler while others come and go", %{event: event, id: id} do
        counter = :counters.new(2, [])
        stays = fn _, _, _, _ -> :counters.add(counter, 1, 1) end
        visits = fn _, _, _, _ -> :counters.add(counter, 2, 1) end
        :ok = :telemetry.attach({id, :stays}, event, stays, nil)

        results =
          concurrently(1..8, fn n ->
            for m <- 1..25 do
              if rem(n, 2) == 0 do
                :ok = :telemetry.attach({id, n, m}, event, visits, nil)
                :ok = :telemetry.detach({id, n, m})
              else
                :telemetry.execute(event, %{})
              end
            end
          end)

        assert results |> List.flatten() |> Enum.uniq() == [:ok]
        assert :counters.get(counter, 1) == 4 * 25
        assert ids(:telemetry.list_handlers(event)) == [{id, :stays}]
      end
    end
  end

  describe "what is logged" do
    setup do
      level = :logger.get_primary_config().level
      :ok = :logger.set_primary_config(:level, :all)
      on_exit(fn -> :logger.set_primary_config(:level, level) end)

      LogWatch.watch(fn
        %{meta: %{mfa: {:telemetry, _, _}}} = event -> {:logged, event.level, text(event)}
        _other -> nil
      end)
    end

    defp text(%{msg: {:report, report}}), do: inspect(report)
    defp text(%{msg: {:string, string}}), do: IO.chardata_to_string(string)
    defp text(%{msg: {format, args}}), do: format |> :io_lib.format(args) |> to_string()

    test "a local function at attach, at level info, with the handler id", context do
      %{event: event, root: root} = context
      :telemetry.attach({root, :anonymous}, event, fn _, _, _, _ -> :ok end, nil)
      assert_received {:logged, :info, text}
      assert text =~ Atom.to_string(root)

      :telemetry.attach_many({root, :local}, [event, event ++ [:b]], &local/4, nil)
      assert_received {:logged, :info, text}
      assert text =~ Atom.to_string(root)
      refute_received {:logged, _, _}
    end

    test "nothing at attach of a function captured with its module", %{event: event, id: id} do
      attach(id, event)
      :telemetry_test.attach_event_handlers(self(), [event])
      :telemetry.detach(id)
      refute_received {:logged, _, _}
    end

    test "a failing handler, once, at level error, with its id and reason", context do
      %{event: event, root: root} = context
      attach_failing({root, :failing}, event, fn -> exit(:some_reason) end)

      :telemetry.execute(event, %{})
      assert_received {:logged, :error, text}
      assert text =~ Atom.to_string(root)
      assert text =~ "some_reason"

      :telemetry.execute(event, %{})
      refute_received {:logged, _, _}
    end

    test "a number for measurements, at level warning, each time", %{event: event} do
      :telemetry.execute(event, 1, %{})
      assert_received {:logged, :warning, _}
      :telemetry.execute(event, 1)
      assert_received {:logged, :warning, _}
    end

    test "nothing for events that go well", %{event: event, id: id} do
      attach(id, event)
      :telemetry.execute(event, %{}, %{})
      :telemetry.span(event, %{}, fn -> {:ok, %{}} end)
      catch_throw(:telemetry.span(event, %{}, fn -> throw(:boom) end))
      refute_received {:logged, _, _}
    end
  end

  defp local(_event, _measurements, _metadata, _config), do: :ok
end
