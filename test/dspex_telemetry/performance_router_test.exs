defmodule DSPexTelemetry.PerformanceRouterTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.PerformanceRouter, as: Router
  alias DSPexTelemetry.PerformanceRouter.Ticket

  doctest DSPexTelemetry.PerformanceRouter

  @stop [:dspex, :bridge, :call_method, :stop]
  @exception [:dspex, :bridge, :call_method, :exception]
  @millisecond 1_000_000

  setup do
    # Nobody else's events.
    instance = start!(attach: false)
    %{instance: instance, on: [instance: instance], plans: plans(instance)}
  end

  defp workers!(on, ids), do: Router.put_workers(ids, on)

  defp in_flight(on), do: Enum.sum(Enum.map(Router.report(on).workers, & &1.tickets))

  defp worker(on, id), do: Enum.find(Router.report(on).workers, &(&1.worker_id == id))

  defp candidate(on, command, id) do
    Enum.find(Router.explain(command, on).candidates, &(&1.worker_id == id))
  end

  describe "workers" do
    test "have ids of any length, and the id is told as it is", %{on: on} do
      letters = Enum.take(Stream.cycle(?a..?z), 256)

      for length <- 1..256 do
        id = letters |> Enum.take(length) |> List.to_string()
        assert %{added: 1} = workers!(on, [id])
        assert Router.route_request("m", %{}, on) == {:ok, id}
      end
    end

    test "come and go with events and with what is declared", %{on: on, plans: plans} do
      assert Router.route_request("m", %{}, on) == {:error, :no_workers}
      assert Router.checkout("m", %{}, on) == {:error, :no_workers}
      assert Router.run("m", %{}, fn _worker -> flunk("ran") end, on) == {:error, :no_workers}

      spawned = %{worker_id: "w1", python_version: "3.12"}
      handle(plans, [:snakepit, :worker, :spawned], %{startup_time: 1}, spawned)
      handle(plans, [:snakepit, :worker, :spawned], %{startup_time: 1}, spawned)
      assert Router.route_request("m", %{}, on) == {:ok, "w1"}

      assert workers!(on, ["w1", :w2, 3]) == %{added: 2, removed: 0, refused: 0}
      assert Enum.map(Router.report(on).workers, & &1.worker_id) == ["3", "w1", "w2"]

      died = %{worker_id: :w2, reason: :killed}
      handle(plans, [:snakepit, :worker, :died], %{lifetime_ms: 1}, died)
      assert workers!(on, ["w1"]) == %{added: 0, removed: 1, refused: 0}
    end

    test "beyond the limit are refused" do
      on = [instance: start!(attach: false, worker_limit: 2)]
      assert workers!(on, ["a", "b", "c"]) == %{added: 2, removed: 0, refused: 1}
    end

    test "there are none where the router is off" do
      on = [instance: start!(attach: false, router: nil)]
      assert workers!(on, ["a"]) == %{added: 0, removed: 0, refused: 1}
      assert Router.route_request("m", %{}, on) == {:error, :no_workers}
    end

    test "have ids that are text", %{on: on} do
      for wrong <- [nil_list: nil, improper: ["a" | "b"], map: [%{}], float: [1.5]] do
        assert_raise ArgumentError, ~r/worker ids must be/, fn ->
          workers!(on, elem(wrong, 1))
        end
      end

      long = String.duplicate("w", 300)
      workers!(on, [long, <<255>>])
      {:ok, id} = Router.route_request("m", %{}, on)
      assert byte_size(id) <= 256 and String.valid?(id)
    end
  end

  describe "a ticket" do
    test "is in flight until it is completed, once", %{on: on} do
      workers!(on, ["w1"])
      {:ok, %Ticket{worker_id: "w1"} = ticket} = Router.checkout(:search, [], on)
      assert in_flight(on) == 1
      assert Router.complete(ticket, :success, duration: 3 * @millisecond) == :ok
      assert in_flight(on) == 0
      assert Router.complete(ticket, :failure) == {:error, :completed}
      assert %{latency_us: 3000.0, successes: 1, failures: 0} = candidate(on, "search", "w1")
    end

    test "may be completed by another process", %{on: on} do
      workers!(on, ["w1"])
      {:ok, ticket} = Router.checkout("m", nil, on)
      assert Task.await(Task.async(fn -> Router.complete(ticket, :unknown) end)) == :ok
      assert in_flight(on) == 0
    end

    test "says when there is nothing left to learn of", %{instance: instance, on: on} do
      workers!(on, ["w1"])
      {:ok, of_gone} = Router.checkout("m", nil, on)
      {:ok, of_replaced} = Router.checkout("m", nil, on)
      workers!(on, [])
      assert Router.complete(of_gone, :success) == {:error, :worker_gone}
      workers!(on, ["w1"])
      assert Router.complete(of_replaced, :success) == {:error, :worker_gone}
      assert in_flight(on) == 0

      {:ok, over_reset} = Router.checkout("m", nil, on)
      :ok = DSPexTelemetry.reset(on)
      assert in_flight(on) == 1
      assert Router.complete(over_reset, :success) == :ok

      {:ok, of_stopped} = Router.checkout("m", nil, on)
      :ok = stop_supervised({DSPexTelemetry, instance})
      assert Router.complete(of_stopped, :success) == {:error, :stopped}
      assert Router.complete(of_stopped, :success) == {:error, :completed}
    end

    test "is released when the process that has it is killed", %{on: on} do
      workers!(on, ["w1"])
      test = self()

      caller =
        spawn(fn ->
          {:ok, ticket} = Router.checkout("m", nil, on)
          send(test, {:checked_out, ticket})
          Process.sleep(:infinity)
        end)

      # The test has the ticket too, so that it is no garbage.
      assert_receive {:checked_out, ticket}
      assert in_flight(on) == 1
      kill(caller)
      await("the release", fn -> in_flight(on) == 0 end)
      assert worker(on, "w1").abandoned == 1
      assert Router.complete(ticket, :success) == {:error, :completed}
    end

    test "is released when nobody refers to it any more", %{on: on} do
      workers!(on, ["w1"])
      checkout_and_forget(on)
      :erlang.garbage_collect()
      await("the release", fn -> in_flight(on) == 0 end)
    end

    test "takes what it can take", %{on: on} do
      workers!(on, ["w1"])
      {:ok, ticket} = Router.checkout("m", nil, on)
      assert_raise ArgumentError, ~r/outcome must be/, fn -> Router.complete(ticket, :ok) end

      for wrong <- [-1, 1.5, "1"] do
        assert_raise ArgumentError, ~r/:duration must be/, fn ->
          Router.complete(ticket, :success, duration: wrong)
        end
      end

      assert_raise ArgumentError, ~r/unknown option :time/, fn ->
        Router.complete(ticket, :success, time: 1)
      end

      assert Router.complete(ticket, :success, duration: Integer.pow(2, 80)) == :ok
    end

    defp checkout_and_forget(on), do: {:ok, _ticket} = Router.checkout("m", nil, on)
  end

  describe "run" do
    test "returns what the function returns and tells success from failure", %{on: on} do
      workers!(on, ["w1"])
      assert Router.run("m", %{}, & &1, on) == "w1"
      assert Router.run("m", %{}, fn _ -> {:error, :no} end, on) == {:error, :no}

      assert Router.run("m", %{}, fn _ -> :odd end, [outcome: fn :odd -> :failure end] ++ on) ==
               :odd

      assert Router.run("m", %{}, fn _ -> :odd end, [outcome: fn _ -> :unknown end] ++ on) == :odd
      assert %{successes: 1, failures: 2} = candidate(on, "m", "w1")
      assert in_flight(on) == 0
    end

    test "passes on what is raised, thrown and exited with, and releases", %{on: on} do
      workers!(on, ["w1"])
      assert_raise RuntimeError, "no", fn -> Router.run("m", %{}, fn _ -> raise "no" end, on) end
      assert catch_throw(Router.run("m", %{}, fn _ -> throw(:no) end, on)) == :no
      assert catch_exit(Router.run("m", %{}, fn _ -> exit(:no) end, on)) == :no

      assert_raise ArgumentError, ~r/outcome must be/, fn ->
        Router.run("m", %{}, & &1, [outcome: fn _ -> :fine end] ++ on)
      end

      assert %{successes: 0, failures: 4} = candidate(on, "m", "w1")
      assert in_flight(on) == 0
    end
  end

  describe "sticky requests" do
    test "stay on their worker, by key or by reference", %{on: on} do
      workers!(on, Enum.map(1..16, &"w#{&1}"))

      for key <- ["text", :atom, 7, {:any, %{term: 1.5}}, %{b: 1, a: 2}] do
        {:ok, worker} = Router.route_request("m", nil, [sticky: key] ++ on)
        again = for _ <- 1..20, do: Router.route_request("other", nil, [sticky: key] ++ on)
        assert Enum.uniq(again) == [{:ok, worker}]
      end

      routed =
        for args <- [%{ref: "r1"}, %{"ref" => "r1"}, %{ref: :r1}],
            _ <- 1..5,
            do: Router.route_request("m", args, on)

      assert [{:ok, worker}] = Enum.uniq(routed)
      assert Router.route_request("m", nil, [sticky: "r1"] ++ on) == {:ok, worker}
      assert worker(on, worker).decisions >= 16
    end

    test "without affinity references are nothing", %{on: on} do
      workers!(on, Enum.map(1..16, &"w#{&1}"))
      options = [affinity: false] ++ on
      routed = for _ <- 1..50, do: Router.route_request("m", %{ref: "r1"}, options)
      assert length(Enum.uniq(routed)) > 1
      # Nor are those that no reference can be.
      for args <- [nil, [], %{}, %{ref: nil}, %{ref: 1.5}, [ref: "r1"], ~D[2026-11-24]] do
        assert {:ok, _worker} = Router.route_request("m", args, on)
      end

      assert Router.report(on).sticky_keys == 0
    end

    test "go where the instance was created", %{on: on, plans: plans} do
      workers!(on, Enum.map(1..16, &"w#{&1}"))
      created = %{python_class: "C", success: true, ref: "ref-1", worker_id: "w13"}
      handle(plans, [:dspex, :bridge, :create_instance, :stop], %{duration: 1}, created)
      assert Router.route_request("m", %{ref: "ref-1"}, on) == {:ok, "w13"}
      assert Router.bind("ref-1", "w5", on) == :ok
      assert Router.route_request("m", %{ref: "ref-1"}, on) == {:ok, "w5"}
      assert Router.bind("ref-1", "nobody", on) == {:error, :unknown_worker}
      workers!(on, ["w1"])
      assert Router.route_request("m", %{ref: "ref-1"}, on) == {:ok, "w1"}
    end
  end

  describe "events" do
    test "of completed calls are learned where they tell the worker", %{on: on, plans: plans} do
      workers!(on, ["w1", "w2"])
      stop = %{method: "m", success: true}
      handle(plans, @stop, %{duration: 5 * @millisecond}, stop)
      assert %{successes: 0} = candidate(on, "m", "w1")
      handle(plans, @stop, %{duration: 5 * @millisecond}, Map.put(stop, :worker_id, "w1"))

      # All combinations of keys that are rarely given.
      more = %{worker_id: "w1", python_class: "C", ref: "r", cached: false}
      handle(plans, @stop, %{duration: 5 * @millisecond, result_size: 1}, Map.merge(stop, more))

      failed = %{stop | success: false} |> Map.merge(more)
      handle(plans, @stop, %{duration: 1}, failed)
      raised = %{method: "m", kind: :error, reason: :no, worker_id: :w1}
      handle(plans, @exception, %{duration: 1}, raised)

      assert %{successes: 2, failures: 2, latency_us: 5000.0, latency_from: "command"} =
               candidate(on, "m", "w1")

      # What came from a cache says nothing of a worker.
      cached = Map.merge(stop, %{worker_id: "w2", cached: true})
      handle(plans, @stop, %{duration: 1}, cached)
      assert %{successes: 0, latency_from: "usual"} = candidate(on, "m", "w2")

      wait = %{worker_id: "w2", command: "m"}
      handle(plans, [:snakepit, :pool, :queue_time], %{wait_time_us: 7_000}, wait)
      assert_in_delta candidate(on, "m", "w2").queue_wait_us, 7_000, 500
    end

    test "end what was presumed in flight", %{on: on, plans: plans} do
      workers!(on, ["w1"])
      stop = %{method: "m", success: true, worker_id: "w1"}
      handle(plans, @stop, %{duration: 3_600_000 * @millisecond}, stop)
      {:ok, "w1"} = Router.route_request("m", nil, on)
      assert_in_delta worker(on, "w1").presumed, 1, 0.1
      handle(plans, @stop, %{duration: 3_600_000 * @millisecond}, stop)
      assert worker(on, "w1").presumed == 0
    end
  end

  test "workers that fail are left out, and back after a while", %{on: on} do
    workers!(on, ["good", "bad"])
    Router.bind("lives there", "bad", on)
    options = [sticky: "lives there"] ++ on
    for _ <- 1..5, do: Router.run("m", nil, fn "bad" -> {:error, :no} end, options)
    assert %{ejections: 1, ejected_for_ms: left, failures: 5} = candidate(on, "m", "bad")
    assert left in 1..10_000
    assert List.last(Router.explain("m", on).candidates).worker_id == "bad"
    assert for(_ <- 1..50, do: Router.route_request("m", nil, on)) |> Enum.uniq() == [ok: "good"]
    :ok = DSPexTelemetry.reset(on)
    assert %{ejections: 0, ejected_for_ms: nil} = candidate(on, "m", "bad")
  end

  test "what is no command is refused in a sentence", %{on: on} do
    workers!(on, ["w1"])

    for wrong <- [%{}, [], {:a}, 1.5, self(), Integer.pow(2, 70), ~c"m"] do
      for call <- [
            &Router.route_request(&1, nil, on),
            &Router.checkout(&1, nil, on),
            &Router.run(&1, nil, fn _ -> flunk("ran") end, on)
          ],
          do: assert_raise(ArgumentError, ~r/a command must be/, fn -> call.(wrong) end)
    end

    for right <- ["", "é", <<255>>, :ünïcode, String.duplicate("m", 1_000), -7] do
      assert Router.route_request(right, nil, on) == {:ok, "w1"}
    end

    assert_raise ArgumentError, ~r/:affinity must be/, fn ->
      Router.route_request("m", nil, [affinity: nil] ++ on)
    end

    assert_raise ArgumentError, ~r/unknown option :stiky/, fn ->
      Router.route_request("m", nil, [stiky: 1] ++ on)
    end
  end

  test "an instance that is not running is named", %{instance: instance, on: on} do
    for call <- [
          &Router.route_request("m", nil, &1),
          &Router.checkout("m", nil, &1),
          &Router.report/1,
          &Router.explain("m", &1),
          &Router.put_workers(["w"], &1)
        ] do
      assert_raise ArgumentError, ~r/no instance :nobody is running/, fn ->
        call.(instance: :nobody)
      end
    end

    workers!(on, ["w1"])
    :ok = stop_supervised({DSPexTelemetry, instance})
    assert_raise ArgumentError, ~r/no instance/, fn -> Router.route_request("m", nil, on) end
  end

  test "an instance that starts again has a router of its own" do
    instance = start!(attach: false)
    on = [instance: instance]
    workers!(on, ["w1"])
    {:ok, ticket} = Router.checkout("m", nil, on)
    kill_child(instance, DSPexTelemetry.Instance)
    await("the next one", fn -> pid(instance) != nil and ready?(instance) end)
    assert Router.route_request("m", nil, on) == {:error, :no_workers}
    workers!(on, ["w2"])
    # The old one's clean-up does not take the new one away.
    await("the clean-up", fn -> Router.complete(ticket, :success) != :ok end)
    assert Router.route_request("m", nil, on) == {:ok, "w2"}
  end

  defp ready?(instance) do
    DSPexTelemetry.Instance.Lookup.fetch!(instance)
    true
  rescue
    ArgumentError -> false
  end

  test "metrics tell decisions by worker and reason", %{on: on} do
    refute DSPexTelemetry.scrape(on) =~ "dspex_router_"
    workers!(on, ["w1"])
    for _ <- 1..3, do: Router.route_request("m", %{ref: "r"}, on)
    {:ok, _ticket} = Router.checkout("m", %{ref: "r"}, on)
    metrics = DSPexTelemetry.scrape(on)
    assert metrics =~ ~s(dspex_router_decisions_total{worker_id="w1",reason="sticky"} 3)
    assert metrics =~ ~s(dspex_router_decisions_total{worker_id="w1",reason="rendezvous"} 1)
    assert metrics =~ ~s(dspex_router_ejections_total{worker_id="w1"} 0)
    assert metrics =~ ~s(dspex_router_workers{state="starting"} 1)
    assert metrics =~ ~r/dspex_router_in_flight{worker_id="w1"} [1-4]/
  end

  test "after 100,000 requests of which a third are killed nothing is in flight", %{on: on} do
    workers!(on, Enum.map(1..16, &"w#{&1}"))

    for _batch <- 1..100 do
      callers =
        for number <- 1..1_000 do
          spawn_monitor(fn ->
            if rem(number, 3) == 0 do
              {:ok, _ticket} = Router.checkout("m", nil, on)
              Process.exit(self(), :kill)
            else
              Router.run(
                "m",
                nil,
                fn _worker -> if rem(number, 5) == 0, do: :error, else: :ok end,
                on
              )
            end
          end)
        end

      for {pid, monitor} <- callers, do: assert_receive({:DOWN, ^monitor, _, ^pid, _}, 30_000)
    end

    await("the releases", fn -> in_flight(on) == 0 end)
    report = Router.report(on)
    assert Enum.sum(Enum.map(report.workers, & &1.decisions)) == 100_000
    assert Enum.sum(Enum.map(report.workers, & &1.abandoned)) == 33_300
  end
end
