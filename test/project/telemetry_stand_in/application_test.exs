defmodule DSPexTelemetry.Project.TelemetryStandIn.ApplicationTest do
  # `:telemetry` while its application is not started, and handlers that are persisted. See `DSPexTelemetry.TelemetryClaims`.
  # Not async: stops `:telemetry`, and persists its handlers.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TelemetryClaims

  @moduletag :capture_log

  @failure [:telemetry, :handler, :failure]

  setup :prepare

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

    if can_persist?() do
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

  if can_persist?() do
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
end
