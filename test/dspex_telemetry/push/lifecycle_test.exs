defmodule DSPexTelemetry.Push.LifecycleTest do
  # Not async: counts the processes, ports and atoms of the VM, stops inets, and reads all logs.
  use ExUnit.Case, async: false

  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.TestCalls, only: [call: 1]
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Push, PushServer, PushTesting}
  alias DSPexTelemetry.Export.Delivery

  @long PushTesting.long()

  setup do
    on_exit(fn -> Application.ensure_all_started(:inets) end)
  end

  describe "whatever ends, the instance goes on" do
    test "when the process that pushes is killed over and over, and it starts again each time" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long)
      {instance, supervisor, others} = {pid(name), supervisor_of(name), others(name)}
      method = label("m")

      for _ <- 1..20 do
        before = PushTesting.pusher(name)
        call(method)
        kill(before)
        await("another process", fn -> PushTesting.pusher(name) not in [before, nil] end)
      end

      assert {pid(name), supervisor_of(name), others(name)} == {instance, supervisor, others}
      PushTesting.push_now(name)
      {connection, request} = await_push(server)
      assert PushTesting.method_counts(request.body)[method] == 20
      answer(connection, 200)
      await("success", fn -> Push.counts(name) == %{success: 1, failure: 0} end)
    end

    test "when the process that pushes is killed during a push, which is closed then" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long, timeout: 60_000)
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      before = PushTesting.pusher(name)
      kill(before)
      assert await_closed(connection) == 0
      await("another process", fn -> PushTesting.pusher(name) not in [before, nil] end)
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      answer(connection, 200)
      await("success", fn -> Push.counts(name) == %{success: 1, failure: 0} end)
    end

    test "when the processes of httpc are killed, which fails the push" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long)
      instance = pid(name)
      manager = :"httpc_#{:sys.get_state(PushTesting.pusher(name)).job.profile}"
      PushTesting.push_now(name)

      {connection, _request} = await_push(server)
      [handler] = PushTesting.connections()
      kill(handler)
      assert await_closed(connection) == 0

      {connection, _request} = await_push(server)
      assert Push.counts(name).failure == 1
      kill(Process.whereis(manager))
      answer(connection, 503, [{"retry-after", "50"}])

      {connection, _request} = await_push(server)
      assert Push.counts(name).failure == 2
      kill(Process.whereis(manager))
      answer(connection, 200)
      await("success", fn -> Push.counts(name) == %{success: 1, failure: 2} end)
      assert pid(name) == instance
    end

    @tag :capture_log
    test "when inets is stopped, and pushing goes on when it is back" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url)
      {instance, pusher} = {pid(name), PushTesting.pusher(name)}
      watch_log(inspect(name))
      :ok = Application.stop(:inets)
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "inets, the HTTP client, is not running" or line =~ "the HTTP client"
      :ok = Application.start(:inets)
      serve_until(server, fn -> Push.counts(name).success > 0 end)
      assert {pid(name), PushTesting.pusher(name)} == {instance, pusher}
    end

    test "and when the instance ends, pushing starts again with it, from zero" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long, stop_timeout: 5_000)
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      answer(connection, 200)
      await("success", fn -> Push.counts(name).success == 1 end)
      watch_log(inspect(name))
      {instance, pusher} = {pid(name), PushTesting.pusher(name)}
      kill(instance)

      await("another instance", fn ->
        pid(name) not in [instance, nil] and is_pid(child(name, Push)) and
          PushTesting.pusher(name) not in [pusher, nil]
      end)

      assert Push.counts(name) == %{success: 0, failure: 0}
      # Of the instance that was gone nothing could be pushed, and nobody tried.
      assert opened(server) == 1
      refute_received {:logged, _level, _line}
    end

    test "and a part of the instance that starts again does not interrupt a push" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long)
      pusher = PushTesting.pusher(name)
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      kill_child(name, DSPexTelemetry.Alert.Dispatcher)
      assert PushTesting.pusher(name) == pusher
      answer(connection, 200)
      await("success", fn -> Push.counts(name) == %{success: 1, failure: 0} end)
    end
  end

  describe "when an instance stops" do
    test "its metrics are pushed a last time" do
      server = PushServer.start!()

      name =
        PushTesting.start!(server.url, interval: @long, stop_timeout: 10_000, restart: :temporary)

      method = label("m")
      call(method)
      stopping = stop_async(name)
      {connection, request} = await_push(server)
      assert PushTesting.method_counts(request.body)[method] == 1
      answer(connection, 200)
      assert Task.await(stopping) == :ok
      assert opened(server) == 1
    end

    test "a push that is under way ends first, and the last one has what came meanwhile" do
      server = PushServer.start!()

      name =
        PushTesting.start!(server.url,
          interval: @long,
          stop_timeout: 10_000,
          restart: :temporary
        )

      method = label("m")
      PushTesting.push_now(name)
      {first, request} = await_push(server)
      assert PushTesting.method_counts(request.body)[method] == nil
      pusher = PushTesting.pusher(name)
      stopping = stop_async(name)

      await("the end to begin", fn ->
        {:current_stacktrace, stack} = Process.info(pusher, :current_stacktrace)
        Enum.any?(stack, &match?({Delivery, :terminate, 2, _}, &1))
      end)

      call(method)
      answer(first, 200)
      {last, request} = await_push(server)
      assert PushTesting.method_counts(request.body)[method] == 1
      answer(last, 200)
      assert Task.await(stopping) == :ok
      assert opened(server) == 2
    end

    test "the last push takes as long as it may, and its failure is logged" do
      server = PushServer.start!()

      name =
        PushTesting.start!(server.url, interval: @long, stop_timeout: 300, restart: :temporary)

      watch_log(inspect(name))
      started_at = System.monotonic_time(:millisecond)
      stopping = stop_async(name)
      {connection, _request} = await_push(server)
      assert Task.await(stopping) == :ok
      assert (System.monotonic_time(:millisecond) - started_at) in 300..5_000
      assert await_closed(connection) == 0
      assert_receive {:logged, :warning, line}
      assert line =~ "timeout"
      assert PushTesting.connections() == []
    end

    test "nothing is pushed with a :stop_timeout of 0, and one under way is given up" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long, stop_timeout: 0)
      watch_log(inspect(name))
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      assert stop_supervised({DSPexTelemetry, name}) == :ok
      assert await_closed(connection) == 0
      assert opened(server) == 1
      refute_received {:logged, _level, _line}
    end

    test "its HTTP client is stopped too" do
      profiles = :inets.services()
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long)
      PushTesting.push_now(name)
      {_connection, _request} = await_push(server)
      assert length(:inets.services()) == length(profiles) + 1
      stop_supervised!({DSPexTelemetry, name})
      assert :inets.services() == profiles
    end
  end

  test "1000 failed pushes leave no process, port, atom, table or timer" do
    server = PushServer.start!()
    refused = PushTesting.start!("http://127.0.0.1:#{closed_port()}/", retry_ceiling: 1)
    failing = PushTesting.start!(server.url, retry_ceiling: 1)
    serve_until(server, fn -> failures([refused, failing]) >= 100 end, &answer(&1, 500))
    before = resources()

    serve_until(server, fn -> failures([refused, failing]) >= 1_100 end, &answer(&1, 500))
    assert Push.counts(failing).failure > 100 and Push.counts(refused).failure > 100
    await("no more than before", fn -> resources_within?(before) end)
  end

  defp failures(names), do: names |> Enum.map(&Push.counts(&1).failure) |> Enum.sum()

  defp resources do
    %{
      processes: :erlang.system_info(:process_count),
      ports: :erlang.system_info(:port_count),
      atoms: :erlang.system_info(:atom_count),
      tables: :erlang.system_info(:ets_count)
    }
  end

  # A push may be under way: a few of each, but not one for every failure.
  defp resources_within?(before) do
    Enum.all?(resources(), fn {what, count} -> count <= before[what] + 12 end)
  end

  defp others(name) do
    for {id, pid, _type, _modules} <- Supervisor.which_children(supervisor_of(name)),
        do: {id, pid}
  end

  defp stop_async(name) do
    supervisor = supervisor_of(name)
    Task.async(fn -> Supervisor.stop(supervisor, :shutdown) end)
  end

  # Answers all pushes until something holds.
  defp serve_until(server, condition, answer \\ &answer(&1, 200)) do
    unless condition.() do
      {connection, _request} = await_push(server)
      answer.(connection)
      serve_until(server, condition, answer)
    end
  end
end
