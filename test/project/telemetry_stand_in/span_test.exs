defmodule DSPexTelemetry.Project.TelemetryStandIn.SpanTest do
  # Spans, and the helper for tests. See `DSPexTelemetry.TelemetryClaims`.
  # Not async: stops `:telemetry`, and persists its handlers.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TelemetryClaims

  @moduletag :capture_log

  setup :prepare

  for mode <- modes() do
    describe "span/3 (#{mode})" do
      @describetag mode: mode

      setup %{id: id, event: event} do
        attach_many(id, for(last <- [:start, :stop, :exception], do: event ++ [last]), :span)
        :ok
      end

      test "the result of the function is returned", %{event: event} do
        for result <- [:ok, nil, {:error, :boom}, [1, 2]] do
          assert :telemetry.span(event, %{}, fn -> {result, %{}} end) == result
          assert :telemetry.span(event, %{}, fn -> {result, %{n: 1}, %{}} end) == result
        end
      end

      test "the function runs in the calling process, between start and stop", context do
        event = context.event
        pid = self()

        :telemetry.span(event, %{}, fn ->
          send(pid, {:handled, :function, self(), nil, nil})
          {:ok, %{}}
        end)

        start = event ++ [:start]
        stop = event ++ [:stop]
        assert [{_, ^start, _, _}, {:function, ^pid, _, _}, {_, ^stop, _, _}] = drain()
      end

      test "start has monotonic_time, system_time and the start metadata", %{event: event} do
        before = {System.monotonic_time(), System.system_time()}
        :telemetry.span(event, %{some: :metadata}, fn -> {:ok, %{}} end)

        assert [{_, _, measurements, metadata}, _stop] = drain()
        assert Enum.sort(Map.keys(measurements)) == [:monotonic_time, :system_time]
        assert measurements.monotonic_time in elem(before, 0)..System.monotonic_time()
        assert_in_delta measurements.system_time, elem(before, 1), second()

        assert %{some: :metadata, telemetry_span_context: context} = metadata
        assert is_reference(context)
        assert map_size(metadata) == 2
      end

      test "stop has duration, monotonic_time and the stop metadata alone", %{event: event} do
        :telemetry.span(event, %{start: 1}, fn -> {:ok, %{stop: 2}} end)

        assert [{_, _, start, _}, {_, name, measurements, metadata}] = drain()
        assert name == event ++ [:stop]
        assert Enum.sort(Map.keys(measurements)) == [:duration, :monotonic_time]
        assert measurements.duration >= 0
        assert measurements.duration == measurements.monotonic_time - start.monotonic_time
        assert %{stop: 2, telemetry_span_context: _} = metadata
        assert map_size(metadata) == 2
      end

      test "duration covers the function, in native units", %{event: event} do
        :telemetry.span(event, %{}, fn -> {Process.sleep(20), %{}} end)
        assert [_start, {_, _, %{duration: duration}, _}] = drain()
        assert System.convert_time_unit(duration, :native, :millisecond) in 19..5_000
      end

      test "extra measurements are added to stop", %{event: event} do
        :telemetry.span(event, %{}, fn -> {:ok, %{bytes: 7, other: 1.5}, %{stop: 2}} end)

        assert [_start, {_, _, measurements, %{stop: 2}}] = drain()
        assert %{bytes: 7, other: 1.5, duration: _, monotonic_time: _} = measurements
        assert map_size(measurements) == 4
      end

      test "extra measurements do not replace duration and monotonic_time", %{event: event} do
        extra = %{duration: :mine, monotonic_time: :mine, system_time: :mine}
        :telemetry.span(event, %{}, fn -> {:ok, extra, %{}} end)

        assert [{_, _, start, _}, {_, _, measurements, _}] = drain()
        assert measurements.duration == measurements.monotonic_time - start.monotonic_time
        assert measurements.system_time == :mine
      end

      test "the events of a span share a context that no other span has", %{event: event} do
        :telemetry.span(event, %{}, fn -> {:ok, %{}} end)
        :telemetry.span(event, %{}, fn -> {:ok, %{n: 1}, %{}} end)
        catch_throw(:telemetry.span(event, %{}, fn -> throw(:boom) end))

        contexts = for {_, _, _, metadata} <- drain(), do: metadata.telemetry_span_context
        assert [a, a, b, b, c, c] = contexts
        assert Enum.all?([a, b, c], &is_reference/1)
        assert length(Enum.uniq([a, b, c])) == 3
      end

      test "a context that is given is kept, for the events it is given to", %{event: event} do
        :telemetry.span(event, %{telemetry_span_context: :mine}, fn -> {:ok, %{}} end)
        assert [{_, _, _, start}, {_, _, _, stop}] = drain()
        assert start.telemetry_span_context == :mine
        assert is_reference(stop.telemetry_span_context)

        :telemetry.span(event, %{}, fn -> {:ok, %{telemetry_span_context: nil}} end)
        assert [{_, _, _, start}, {_, _, _, stop}] = drain()
        assert is_reference(start.telemetry_span_context)
        assert stop.telemetry_span_context == nil

        catch_exit(:telemetry.span(event, %{telemetry_span_context: 1}, fn -> exit(:boom) end))
        assert [{_, _, _, start}, {_, _, _, exception}] = drain()
        assert start.telemetry_span_context == 1
        assert exception.telemetry_span_context == 1
      end

      for {kind, reason, code} <- [
            {:error, quote(do: %RuntimeError{message: "boom"}), quote(do: raise("boom"))},
            {:error, :badarith, quote(do: :erlang.error(:badarith))},
            {:exit, :boom, quote(do: exit(:boom))},
            {:throw, {:boom, 1}, quote(do: throw({:boom, 1}))}
          ] do
        test "#{kind} #{Macro.to_string(reason)} is emitted as exception and raised again with its stacktrace",
             %{event: event} do
          {kind, reason, stacktrace} =
            try do
              :telemetry.span(event, %{start: 1}, fn -> unquote(code) end)
            catch
              kind, reason -> {kind, reason, __STACKTRACE__}
            end

          assert kind == unquote(kind)
          assert reason == unquote(reason)

          assert [{_, _, start, _}, {_, name, measurements, metadata}] = drain()
          assert name == event ++ [:exception]
          assert Enum.sort(Map.keys(measurements)) == [:duration, :monotonic_time]
          assert measurements.duration == measurements.monotonic_time - start.monotonic_time

          assert {context, rest} = Map.pop(metadata, :telemetry_span_context)
          assert is_reference(context)
          assert rest == %{start: 1, kind: kind, reason: reason, stacktrace: stacktrace}
          assert Enum.any?(stacktrace, &match?({__MODULE__, _, _, _}, &1))
        end
      end

      test "exception metadata replaces start metadata of the same name", %{event: event} do
        metadata = %{kind: :mine, reason: :mine, stacktrace: :mine}
        catch_throw(:telemetry.span(event, metadata, fn -> throw(:boom) end))

        assert [{_, _, _, start}, {_, _, _, exception}] = drain()
        assert %{kind: :mine, reason: :mine, stacktrace: :mine} = start
        assert %{kind: :throw, reason: :boom, stacktrace: [_ | _]} = exception
      end

      test "a function that returns something else raises, with only start emitted", context do
        event = context.event

        for bad <- [:ok, nil, {:ok}, {:ok, %{}, %{}, %{}}, []] do
          error =
            assert_raise TryClauseError, fn -> :telemetry.span(event, %{}, fn -> bad end) end

          assert error.term == bad
          start = event ++ [:start]
          assert [{_, ^start, _, _}] = drain()
        end
      end

      test "metadata or extra measurements that are not maps raise", %{event: event} do
        assert_raise BadMapError, fn -> :telemetry.span(event, nil, fn -> {:ok, %{}} end) end
        assert drain() == []

        assert_raise BadMapError, fn -> :telemetry.span(event, %{}, fn -> {:ok, nil} end) end
        assert_raise BadMapError, fn -> :telemetry.span(event, %{}, fn -> {:ok, [], %{}} end) end
        start = event ++ [:start]
        assert [{_, ^start, _, _}, {_, ^start, _, _}] = drain()
      end

      test "a failing handler changes neither the result nor what is raised", context do
        %{event: event, root: root} = context

        for last <- [:start, :stop, :exception] do
          attach_failing({root, last}, event ++ [last], fn -> raise "handler" end)
        end

        assert :telemetry.span(event, %{}, fn -> {:fine, %{}} end) == :fine
        assert catch_throw(:telemetry.span(event, %{}, fn -> throw(:boom) end)) == :boom
        assert length(drain()) == 4
      end

      test "spans nest", %{event: event} do
        assert :telemetry.span(event, %{depth: 1}, fn ->
                 {:telemetry.span(event, %{depth: 2}, fn -> {:inner, %{depth: 2}} end),
                  %{depth: 1}}
               end) == :inner

        assert for({_, name, _, metadata} <- drain(), do: {List.last(name), metadata.depth}) ==
                 [start: 1, start: 2, stop: 2, stop: 1]
      end

      test "the prefix may be empty", %{root: root} do
        attach_many({root, :bare}, [[:start], [:stop]], :bare)
        :telemetry.span([], %{}, fn -> {:ok, %{}} end)
        assert [{:bare, [:start], _, _}, {:bare, [:stop], _, _}] = drain()
      end
    end

    describe "telemetry_test (#{mode})" do
      @describetag mode: mode

      test "events arrive as {event, ref, measurements, metadata}", %{event: event} do
        other = event ++ [:other]
        ref = :telemetry_test.attach_event_handlers(self(), [event, other])
        assert is_reference(ref)

        :telemetry.execute(event, %{n: 1}, %{m: 2})
        :telemetry.execute(other, %{n: 3})

        assert {:messages, [{^event, ^ref, %{n: 1}, %{m: 2}}, {^other, ^ref, %{n: 3}, metadata}]} =
                 Process.info(self(), :messages)

        assert metadata == %{}
      end

      test "events are sent to the given process, wherever they are emitted", %{event: event} do
        :telemetry_test.attach_event_handlers(self(), [event])
        Task.await(Task.async(fn -> :telemetry.execute(event, %{n: 1}) end))
        assert_received {^event, _, %{n: 1}, %{}}
      end

      test "the reference is the handler id", %{event: event} do
        ref = :telemetry_test.attach_event_handlers(self(), [event])
        assert [%{id: ^ref}] = :telemetry.list_handlers(event)

        assert :ok = :telemetry.detach(ref)
        :telemetry.execute(event, %{})
        refute_received {^event, ^ref, _, _}
      end

      test "each call attaches handlers of its own", %{event: event} do
        first = :telemetry_test.attach_event_handlers(self(), [event])
        second = :telemetry_test.attach_event_handlers(self(), [event])
        assert first != second

        :telemetry.execute(event, %{})
        assert_received {^event, ^first, _, _}
        assert_received {^event, ^second, _, _}
      end

      test "the arguments have to be a pid and a list of event names", %{event: event} do
        attach = &:telemetry_test.attach_event_handlers/2
        assert_raise FunctionClauseError, fn -> attach.(:name, [event]) end
        assert_raise FunctionClauseError, fn -> attach.(self(), :event) end
        assert_raise ArgumentError, fn -> attach.(self(), event) end
        assert_raise ArgumentError, fn -> attach.(self(), [["event"]]) end
      end
    end
  end
end
