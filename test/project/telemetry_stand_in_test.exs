defmodule DSPexTelemetry.Project.TelemetryStandInTest do
  @moduledoc """
  What this project relies on `:telemetry` to do.

  Each test is named after the claim it checks, and every claim holds for the
  upstream library as well as for the stand-in in `test/support/telemetry`. A
  claim about something that only newer upstream releases have is skipped on
  older ones.

  Most claims are checked twice: with handlers stored the normal way, and after
  `:telemetry.persist/0`. Persisting and stopping the application affect the
  whole node, so nothing here is async, and handlers that were attached before
  are put back afterwards.
  """

  use ExUnit.Case, async: false

  alias DSPexTelemetry.LogWatch

  @moduletag :capture_log

  @failure [:telemetry, :handler, :failure]

  # persist/0 arrived upstream in 1.4.0, together with list_handlers/1 answering
  # while the application is not started.
  @can_persist Code.ensure_loaded?(:telemetry) and function_exported?(:telemetry, :persist, 0)

  # Handlers

  def forward(event, measurements, metadata, %{pid: pid} = config) do
    send(pid, {:handled, config[:tag], event, measurements, metadata})
  end

  def echo(event, measurements, metadata, config) do
    send(config.pid, {:echo, event, measurements, metadata, config, self()})
  end

  def fail(_event, _measurements, _metadata, %{fail: fun}), do: fun.()

  def detach_id(_event, _measurements, _metadata, %{pid: pid, tag: tag, detach: id}) do
    send(pid, {:handled, tag, :telemetry.detach(id)})
  end

  def attach_id(event, _measurements, _metadata, %{pid: pid, attach: id}) do
    :telemetry.attach(id, event, &__MODULE__.forward/4, %{pid: pid, tag: :late})
  end

  def report_failure(_event, _measurements, metadata, %{pid: pid}) do
    send(pid, {:listed_at_failure, :telemetry.list_handlers(metadata.event_name)})
  end

  setup context do
    {:ok, _} = Application.ensure_all_started(:telemetry)
    kept = :telemetry.list_handlers([])

    if context[:restart] || context[:mode] == :persisted do
      on_exit(fn -> restart_with(kept) end)
    else
      kept_ids = ids(kept)

      on_exit(fn ->
        for id <- ids(:telemetry.list_handlers([])), id not in kept_ids, do: :telemetry.detach(id)
      end)
    end

    # Applied, because releases without persist/0 would have this warned about.
    if context[:mode] == :persisted, do: :ok = apply(:telemetry, :persist, [])

    unique = :"stand_in_#{System.unique_integer([:positive])}"
    {:ok, event: [unique, :thing, :done], root: unique, id: {:stand_in, unique}}
  end

  modes = if @can_persist, do: [:normal, :persisted], else: [:normal]

  for mode <- modes do
    describe "attaching and detaching (#{mode})" do
      @describetag mode: mode

      test "a handler is called with event, measurements, metadata and config, in the emitting process",
           %{event: event, id: id} do
        config = %{pid: self(), anything: [1]}
        assert :ok = :telemetry.attach(id, event, &__MODULE__.echo/4, config)
        assert :ok = :telemetry.execute(event, %{count: 3}, %{some: "metadata"})

        emitter = self()
        assert_received {:echo, ^event, %{count: 3}, %{some: "metadata"}, ^config, ^emitter}

        task = Task.async(fn -> :telemetry.execute(event, %{}, %{}) end)
        Task.await(task)
        emitter = task.pid
        assert_received {:echo, ^event, %{}, %{}, ^config, ^emitter}
      end

      test "a handler is called once for each execute, until it is detached", context do
        %{event: event, id: id} = context
        attach(id, event)

        :telemetry.execute(event, %{n: 1})
        :telemetry.execute(event, %{n: 2})
        assert drain() == [{id, event, %{n: 1}, %{}}, {id, event, %{n: 2}, %{}}]

        assert :ok = :telemetry.detach(id)
        :telemetry.execute(event, %{n: 3})
        assert drain() == []
      end

      test "all handlers of an event are called, even if they are the same function", context do
        %{event: event} = context
        for n <- 1..5, do: attach({event, n}, event)

        :telemetry.execute(event, %{})

        assert Enum.sort(tags()) == for(n <- 1..5, do: {event, n})
      end

      test "an id in use is refused and its handler stays as it was", %{event: event, id: id} do
        attach(id, event, :first)

        assert {:error, :already_exists} =
                 :telemetry.attach(id, event, &__MODULE__.forward/4, %{pid: self(), tag: :second})

        assert {:error, :already_exists} =
                 :telemetry.attach_many(
                   id,
                   [event ++ [:more], event],
                   &__MODULE__.forward/4,
                   %{pid: self(), tag: :third}
                 )

        :telemetry.execute(event, %{})
        :telemetry.execute(event ++ [:more], %{})
        assert tags() == [:first]
      end

      test "an id can be used again once it is detached", %{event: event, id: id} do
        attach(id, event, :first)
        assert :ok = :telemetry.detach(id)
        assert :ok = attach(id, event, :second)

        :telemetry.execute(event, %{})
        assert tags() == [:second]
      end

      test "an id is any term", %{event: event} do
        ids = ["id", :id, 1, {1, [:a]}, make_ref(), self(), %{a: 1}, nil, [], ""]
        for id <- ids, do: assert(:ok = attach({event, id}, event))

        assert ids(:telemetry.list_handlers(event)) |> Enum.sort() ==
                 ids |> Enum.map(&{event, &1}) |> Enum.sort()

        for id <- ids, do: assert(:ok = :telemetry.detach({event, id}))
        assert :telemetry.list_handlers(event) == []
      end

      test "a config is any term", %{event: event, id: id} do
        for config <- [nil, [], %{}, "text", 1.5, self(), {:a, %{b: [:c]}}] do
          :ok = :telemetry.attach(id, event, &__MODULE__.echo/4, config)
          assert [%{config: ^config}] = :telemetry.list_handlers(event)
          :ok = :telemetry.detach(id)
        end
      end

      test "an id that is not attached is not found", %{event: event, id: id} do
        assert {:error, :not_found} = :telemetry.detach(id)
        attach(id, event)
        assert {:error, :not_found} = :telemetry.detach({:not, id})
        assert :ok = :telemetry.detach(id)
        assert {:error, :not_found} = :telemetry.detach(id)
      end

      test "attach_many calls the handler for each of the events", %{event: event, id: id} do
        events = for n <- [:a, :b, :c], do: event ++ [n]
        assert :ok = attach_many(id, events)

        for name <- events, do: :telemetry.execute(name, %{})
        :telemetry.execute(event, %{})

        assert Enum.map(drain(), &elem(&1, 1)) == events
      end

      test "detaching an id of many events detaches it from all of them", context do
        %{event: event, id: id} = context
        events = for n <- [:a, :b, :c], do: event ++ [n]
        attach_many(id, events)

        assert :ok = :telemetry.detach(id)

        for name <- events, do: :telemetry.execute(name, %{})
        assert drain() == []
        assert :telemetry.list_handlers(event) == []
      end

      test "attach_many with no events is ok and leaves the id free", %{event: event, id: id} do
        assert :ok = attach_many(id, [])
        assert {:error, :not_found} = :telemetry.detach(id)
        assert :ok = attach(id, event)
      end

      test "an event name has to be a non-empty list of atoms", %{root: root, id: id} do
        for bad <- [[], root, "event", nil, %{}, 1, {root}, ["some", root], [root, 1], [[root]]] do
          assert_raise ArgumentError, fn -> attach(id, bad) end
          assert_raise ArgumentError, fn -> attach_many(id, [[root], bad]) end
        end

        for bad <- [root, "events", %{}, nil, [root]] do
          assert_raise ArgumentError, fn -> attach_many(id, bad) end
        end

        assert :telemetry.list_handlers([root]) == []
        assert {:error, :not_found} = :telemetry.detach(id)
      end

      test "a handler has to be a function of four arguments", %{event: event, id: id} do
        for bad <- [fn -> :ok end, fn _, _, _ -> :ok end, fn _, _, _, _, _ -> :ok end, nil, :fun] do
          assert_raise FunctionClauseError, fn -> :telemetry.attach(id, event, bad, nil) end

          assert_raise FunctionClauseError, fn ->
            :telemetry.attach_many(id, [event], bad, nil)
          end
        end

        assert {:error, :not_found} = :telemetry.detach(id)
      end

      test "an anonymous function is as good a handler as a captured one", context do
        %{event: event, id: id} = context
        pid = self()
        handler = fn _event, measurements, _metadata, _config -> send(pid, measurements) end
        assert :ok = :telemetry.attach(id, event, handler, nil)
        assert [%{function: ^handler}] = :telemetry.list_handlers(event)

        :telemetry.execute(event, %{anonymous: true})
        assert_received %{anonymous: true}
      end
    end

    describe "list_handlers/1 (#{mode})" do
      @describetag mode: mode

      test "a handler is listed with id, event_name, function and config, and no other keys",
           %{event: event, id: id} do
        config = %{pid: self(), tag: id}
        :telemetry.attach(id, event, &__MODULE__.forward/4, config)

        assert :telemetry.list_handlers(event) == [
                 %{id: id, event_name: event, function: &__MODULE__.forward/4, config: config}
               ]
      end

      test "a prefix lists the events that start with its segments", %{root: root} do
        names = [[root], [root, :a], [root, :a, :b], [root, :ab], [root, :b, :a]]
        for name <- names, do: attach(name, name)

        assert listed([root]) == Enum.sort(names)
        assert listed([root, :a]) == [[root, :a], [root, :a, :b]]
        assert listed([root, :a, :b]) == [[root, :a, :b]]
        assert listed([root, :b]) == [[root, :b, :a]]
        assert listed([root, :a, :b, :c]) == []
        assert listed([:a]) == []
      end

      test "the empty prefix lists every handler", %{event: event, root: root} do
        attach({root, 1}, event)
        attach({root, 2}, [:"#{root}_other"])

        all = ids(:telemetry.list_handlers([]))
        assert {root, 1} in all
        assert {root, 2} in all
      end

      test "a handler of many events is listed once for each of them", %{event: event, id: id} do
        events = for n <- [:a, :b, :c], do: event ++ [n]
        attach_many(id, events)

        assert listed(event) == events
        assert Enum.uniq(ids(:telemetry.list_handlers(event))) == [id]
        for name <- events, do: assert([%{event_name: ^name}] = :telemetry.list_handlers(name))
      end

      test "the prefix has to be a list of atoms", %{root: root} do
        for bad <- [root, "prefix", nil, %{}, 1, ["some"], [root, 1], [[root]]] do
          assert_raise ArgumentError, fn -> :telemetry.list_handlers(bad) end
        end
      end
    end

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
        :telemetry.attach(id, event, &__MODULE__.detach_id/4, config)

        assert :ok = :telemetry.execute(event, %{})
        assert :ok = :telemetry.execute(event, %{})
        assert_received {:handled, :self, :ok}
        refute_received {:handled, :self, _}
      end

      test "a handler detached while an event is dispatched still gets that event", context do
        %{event: event, root: root} = context

        for {id, other} <- [{:a, :b}, {:b, :a}] do
          config = %{pid: self(), tag: id, detach: {root, other}}
          :telemetry.attach({root, id}, event, &__MODULE__.detach_id/4, config)
        end

        :telemetry.execute(event, %{})
        assert_received {:handled, :a, :ok}
        assert_received {:handled, :b, :ok}
        assert :telemetry.list_handlers(event) == []
      end

      test "a handler attached while an event is dispatched gets the next one", context do
        %{event: event, id: id} = context
        config = %{pid: self(), attach: {:late, id}}
        :telemetry.attach(id, event, &__MODULE__.attach_id/4, config)

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
        :telemetry.attach_many(id, events, &__MODULE__.fail/4, config)

        :telemetry.execute(hd(events), %{})
        assert :telemetry.list_handlers(event) == []
      end

      test "is detached by the time the failure event is emitted", %{event: event, id: id} do
        :telemetry.attach({id, :listener}, @failure, &__MODULE__.report_failure/4, %{pid: self()})
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

    describe "concurrency (#{mode})" do
      @describetag mode: mode

      test "of many processes attaching the same id one succeeds", %{event: event, id: id} do
        pid = self()

        results =
          concurrently(1..40, fn n ->
            :telemetry.attach(id, event, &__MODULE__.forward/4, %{pid: pid, tag: n})
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
            :telemetry.attach({id, n}, event, &__MODULE__.forward/4, %{pid: pid, tag: n})
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

  describe "handlers that are not persisted" do
    test "an id in use is refused for any other event too", %{event: event, id: id} do
      attach(id, event)
      assert {:error, :already_exists} = attach(id, event ++ [:other])
      assert {:error, :already_exists} = attach_many(id, [event ++ [:other]])
      assert {:error, :already_exists} = attach_many(id, [])
      assert length(:telemetry.list_handlers(event)) == 1
    end

    test "an event named twice in one attach_many is delivered twice", %{event: event, id: id} do
      assert :ok = attach_many(id, [event, event])
      assert length(:telemetry.list_handlers(event)) == 2

      :telemetry.execute(event, %{})
      assert tags() == [id, id]

      assert :ok = :telemetry.detach(id)
      assert :telemetry.list_handlers(event) == []
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

  describe "while the application is not started" do
    @describetag restart: true

    setup %{event: event, id: id} do
      attach(id, event)
      :ok = Application.stop(:telemetry)
    end

    test "execute is ok and calls nothing", %{event: event} do
      assert :ok = :telemetry.execute(event, %{})
      assert :ok = :telemetry.execute(event, %{}, %{})
      assert :ok = :telemetry.execute(event, 1, %{})
      assert drain() == []
    end

    test "a span runs and returns or raises as usual", %{event: event} do
      assert :telemetry.span(event, %{}, fn -> {:fine, %{}} end) == :fine
      assert catch_throw(:telemetry.span(event, %{}, fn -> throw(:boom) end)) == :boom
    end

    test "bad arguments are refused as usual", %{event: event, id: id} do
      assert_raise FunctionClauseError, fn -> :telemetry.execute([], %{}) end
      assert_raise FunctionClauseError, fn -> :telemetry.execute(event, nil) end
      assert_raise ArgumentError, fn -> attach(id, []) end
      assert_raise ArgumentError, fn -> :telemetry.list_handlers(nil) end
    end

    test "attaching and detaching exit", %{event: event, id: id} do
      assert {:noproc, _} = catch_exit(attach(id, event))
      assert {:noproc, _} = catch_exit(attach_many(id, [event]))
      assert {:noproc, _} = catch_exit(:telemetry.detach(id))
      assert {:noproc, _} = catch_exit(:telemetry_test.attach_event_handlers(self(), [event]))
    end

    if @can_persist do
      test "no handlers are listed", %{event: event} do
        assert :telemetry.list_handlers(event) == []
        assert :telemetry.list_handlers([]) == []
      end

      test "persisting raises, and execute is ok after that", %{event: event} do
        assert catch_error(:telemetry.persist())
        assert :ok = :telemetry.execute(event, %{})
      end
    end

    test "handlers are forgotten: a started application begins with none", context do
      %{event: event, id: id} = context
      :ok = Application.start(:telemetry)

      assert :telemetry.list_handlers([]) == []
      :telemetry.execute(event, %{})
      assert drain() == []

      assert :ok = attach(id, event)
      :telemetry.execute(event, %{})
      assert tags() == [id]
    end
  end

  if @can_persist do
    describe "persist/0" do
      @describetag restart: true

      test "ok is returned, also when it was called before" do
        assert :ok = :telemetry.persist()
        assert :ok = :telemetry.persist()
      end

      test "handlers from before are called and listed as before", %{event: event, root: root} do
        for n <- 1..3, do: attach({root, n}, event)
        attach_many({root, :many}, [event, event ++ [:b]])
        listed = Enum.sort(:telemetry.list_handlers([]))

        :ok = :telemetry.persist()

        assert Enum.sort(:telemetry.list_handlers([])) == listed
        :telemetry.execute(event, %{n: 1}, %{m: 2})
        handled = drain()
        assert length(handled) == 4
        assert Enum.all?(handled, &match?({_, ^event, %{n: 1}, %{m: 2}}, &1))
      end

      test "handlers from before keep their ids and can be detached", context do
        %{event: event, root: root} = context
        for n <- 1..3, do: attach({root, n}, event)
        :ok = :telemetry.persist()

        assert {:error, :already_exists} = attach({root, 1}, event)
        assert :ok = :telemetry.detach({root, 1})
        assert {:error, :not_found} = :telemetry.detach({root, 1})

        :telemetry.execute(event, %{})
        assert Enum.sort(tags()) == [{root, 2}, {root, 3}]
      end

      test "handlers from before that fail are detached", %{event: event, id: id} do
        attach_failing(id, event, fn -> raise "boom" end)
        attach({id, :listener}, @failure)
        :ok = :telemetry.persist()

        assert :ok = :telemetry.execute(event, %{})
        assert :ok = :telemetry.execute(event, %{})
        assert [{_, @failure, _, %{handler_id: ^id}}] = drain()
        assert :telemetry.list_handlers(event) == []
      end

      test "handlers can be attached afterwards, and persisting again keeps them", context do
        %{event: event, root: root} = context
        attach({root, :before}, event)
        :ok = :telemetry.persist()
        assert :ok = attach({root, :after}, event)
        :ok = :telemetry.persist()

        :telemetry.execute(event, %{})
        assert Enum.sort(tags()) == [{root, :after}, {root, :before}]
      end

      test "it is undone by stopping the application", %{event: event, root: root} do
        attach({root, 1}, event)
        :ok = :telemetry.persist()
        :ok = Application.stop(:telemetry)
        :ok = Application.start(:telemetry)

        assert :telemetry.list_handlers([]) == []
        # Refusing a used id for another event is how the normal store shows.
        assert :ok = attach({root, 1}, event)
        assert {:error, :already_exists} = attach({root, 1}, event ++ [:other])
      end
    end
  end

  # Helpers

  defp local(_event, _measurements, _metadata, _config), do: :ok

  defp attach(id, event, tag \\ nil) do
    :telemetry.attach(id, event, &__MODULE__.forward/4, %{pid: self(), tag: tag || id})
  end

  defp attach_many(id, events, tag \\ nil) do
    :telemetry.attach_many(id, events, &__MODULE__.forward/4, %{pid: self(), tag: tag || id})
  end

  defp attach_failing(id, event, fun) do
    config = %{fail: fun}
    :ok = :telemetry.attach(id, event, &__MODULE__.fail/4, config)
    config
  end

  defp drain do
    receive do
      {:handled, tag, event, measurements, metadata} ->
        [{tag, event, measurements, metadata} | drain()]
    after
      0 -> []
    end
  end

  defp tags, do: Enum.map(drain(), &elem(&1, 0))

  defp ids(handlers), do: Enum.map(handlers, & &1.id)

  defp listed(prefix) do
    prefix |> :telemetry.list_handlers() |> Enum.map(& &1.event_name) |> Enum.sort()
  end

  defp second, do: System.convert_time_unit(1, :second, :native)

  # Runs the function in a process per element, all let go at the same moment.
  defp concurrently(enumerable, fun) do
    tasks =
      for element <- enumerable do
        Task.async(fn ->
          receive do
            :go -> fun.(element)
          end
        end)
      end

    for task <- tasks, do: send(task.pid, :go)
    Task.await_many(tasks, 30_000)
  end

  defp restart_with(handlers) do
    _ = Application.stop(:telemetry)
    :ok = Application.start(:telemetry)

    handlers
    |> Enum.group_by(&{&1.id, &1.function, &1.config}, & &1.event_name)
    |> Enum.each(fn {{id, function, config}, events} ->
      :ok = :telemetry.attach_many(id, events, function, config)
    end)
  end
end
