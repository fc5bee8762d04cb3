defmodule DSPexTelemetry.Project.TelemetryStandIn.AttachingTest do
  # Handlers are attached, listed and detached. See `DSPexTelemetry.TelemetryClaims`.
  # Not async: stops `:telemetry`, and persists its handlers.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TelemetryClaims

  alias DSPexTelemetry.TelemetryClaims

  @moduletag :capture_log

  setup :prepare

  for mode <- modes() do
    describe "attaching and detaching (#{mode})" do
      @describetag mode: mode

      test "a handler is called with event, measurements, metadata and config, in the emitting process",
           %{event: event, id: id} do
        config = %{pid: self(), anything: [1]}
        assert :ok = :telemetry.attach(id, event, &TelemetryClaims.echo/4, config)
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
                 :telemetry.attach(id, event, &TelemetryClaims.forward/4, %{
                   pid: self(),
                   tag: :second
                 })

        assert {:error, :already_exists} =
                 :telemetry.attach_many(
                   id,
                   [event ++ [:more], event],
                   &TelemetryClaims.forward/4,
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
          :ok = :telemetry.attach(id, event, &TelemetryClaims.echo/4, config)
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
        :telemetry.attach(id, event, &TelemetryClaims.forward/4, config)

        assert :telemetry.list_handlers(event) == [
                 %{
                   id: id,
                   event_name: event,
                   function: &TelemetryClaims.forward/4,
                   config: config
                 }
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
end
