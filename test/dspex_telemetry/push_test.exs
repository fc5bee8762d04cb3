defmodule DSPexTelemetry.PushTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.PushTesting, only: [await_counts: 2]
  import DSPexTelemetry.TestCalls, only: [call: 1]
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Push, PushServer, PushTesting}

  doctest DSPexTelemetry.Push

  @long PushTesting.long()
  @hour 3_600_000

  describe "a push" do
    test "is the text of a scrape, at the address, in the format's content type" do
      server = PushServer.start!(path: "/metrics/job/a%20b/instance/c?x=1")
      name = PushTesting.start!(server.url, interval: @long)
      method = label("m")
      for _ <- 1..3, do: call(method)
      PushTesting.push_now(name)
      {connection, request} = await_push(server)

      assert request.method == "PUT"
      assert request.path == "/metrics/job/a%20b/instance/c?x=1"
      assert request.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
      assert request.headers["host"] == "127.0.0.1:#{server.port}"
      assert PushTesting.method_counts(request.body)[method] == 3
      refute Map.has_key?(request.headers, "authorization")

      answer(connection, 200)
      await_counts(name, %{success: 1, failure: 0})
      assert %{outage_since_unix_ms: nil, last_success_unix_ms: at} = info(name)
      assert_in_delta at, System.system_time(:millisecond), 10_000
    end

    test "takes POST where metrics are imported, and what it is told" do
      for {path, method, expected} <- [
            {"/api/v1/import/prometheus", :auto, "POST"},
            {"/api/v1/import/prometheus", :put, "PUT"},
            {"/metrics/job/a", :post, "POST"}
          ] do
        server = PushServer.start!(path: path)
        name = PushTesting.start!(server.url, interval: @long, method: method)
        PushTesting.push_now(name)
        {connection, request} = await_push(server)
        assert request.method == expected
        answer(connection, 204)
        await_counts(name, %{success: 1, failure: 0})
      end
    end

    test "tells of the pushes before it, and without option :push nothing does" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url)

      for status <- [500, 500, 200],
          {connection, _request} = await_push(server),
          do: answer(connection, status)

      {_connection, request} = await_push(server)
      assert request.body =~ ~s(\n# TYPE dspex_telemetry_push_total counter\n)
      assert request.body =~ ~s(\ndspex_telemetry_push_total{result="success"} 1\n)
      assert request.body =~ ~s(\ndspex_telemetry_push_total{result="failure"} 2\n)

      openmetrics = DSPexTelemetry.scrape(instance: name, format: :openmetrics)
      assert openmetrics =~ ~s(\ndspex_telemetry_push_total{result="failure"} 2\n)

      without = start!()
      refute DSPexTelemetry.scrape(instance: without) =~ "push"
      assert Push.counts(without) == nil
      assert info(without) == nil
      assert_raise ArgumentError, fn -> Push.counts(NoSuch.Instance) end
    end

    test "is compressed unless it is told not to be" do
      server = PushServer.start!()

      for {gzip, encoding} <- [{true, "gzip"}, {false, nil}] do
        name = PushTesting.start!(server.url, interval: @long, gzip: gzip)
        PushTesting.push_now(name)
        {connection, request} = await_push(server)
        assert request.headers["content-encoding"] == encoding
        assert request.body == request.sent == not gzip
        assert request.body =~ "dspex_"
        answer(connection, 200)
      end
    end

    test "carries the authorization and the headers that it was given, or that a function returns then" do
      server = PushServer.start!()
      tokens = :counters.new(1, [])

      token = fn ->
        :counters.add(tokens, 1, 1)
        {:bearer, "token-#{:counters.get(tokens, 1)}"}
      end

      for {auth, authorization} <- [
            {{:bearer, "t0ken"}, "Bearer t0ken"},
            {{:basic, "us é", "pass:word"}, "Basic " <> Base.encode64("us é:pass:word")},
            # Once it is called at the start, to be checked.
            {token, "Bearer token-2"},
            {:none, nil}
          ],
          headers <- [[{"X-Tenant", "a b"}], fn -> [{"x-tenant", "a b"}] end] do
        :counters.put(tokens, 1, 0)
        name = PushTesting.start!(server.url, interval: @long, auth: auth, headers: headers)
        PushTesting.push_now(name)
        {connection, request} = await_push(server)
        assert request.headers["authorization"] == authorization
        assert request.headers["x-tenant"] == "a b"
        answer(connection, 200)
      end
    end

    test "fails if a function that returns headers returns what is not allowed" do
      server = PushServer.start!()
      valid = :counters.new(1, [])

      headers = fn ->
        :counters.add(valid, 1, 1)
        [{"x-tenant", if(:counters.get(valid, 1) == 1, do: "a", else: "a\r\nhost: evil")}]
      end

      name = PushTesting.start!(server.url, interval: @long, headers: headers)
      watch_log(inspect(name))
      PushTesting.push_now(name)
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "the function given as :headers returns something else than is allowed"
      assert opened(server) == 0
    end

    test "fails if the function that returns the authorization raises, or returns something else" do
      server = PushServer.start!()
      valid = :counters.new(1, [])

      for {later, reason} <- [
            {fn -> raise ArgumentError, "t0ken" end, "ArgumentError was raised"},
            {fn -> {:bearer, "t0ken\n"} end,
             "the function given as :auth returns something else"},
            {fn -> throw("t0ken") end, "the HTTP client failed"}
          ] do
        :counters.put(valid, 1, 0)

        auth = fn ->
          :counters.add(valid, 1, 1)
          if :counters.get(valid, 1) == 1, do: {:bearer, "t0ken"}, else: later.()
        end

        name =
          PushTesting.start!(server.url,
            interval: @long,
            auth: auth,
            retry_floor: @hour,
            retry_ceiling: @hour
          )

        watch_log(inspect(name))
        PushTesting.push_now(name)
        assert_receive {:logged, :warning, line}, 10_000
        assert line =~ reason
        refute line =~ "t0ken"
      end

      assert opened(server) == 0
    end

    test "closes its connection, also where the server would keep it" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long)
      PushTesting.push_now(name)
      {connection, request} = await_push(server)
      assert request.headers["connection"] == "close"
      answer_and_keep(connection, 200)
      assert await_closed(connection) == 0
      await_counts(name, %{success: 1, failure: 0})
    end

    test "goes over IPv6 as well" do
      {:ok, listener} =
        :gen_tcp.listen(0, [:binary, :inet6, active: false, ip: {0, 0, 0, 0, 0, 0, 0, 1}])

      {:ok, port} = :inet.port(listener)
      name = PushTesting.start!("http://[::1]:#{port}/", interval: @long)
      PushTesting.push_now(name)
      {:ok, socket} = :gen_tcp.accept(listener, 10_000)
      {:ok, "POST / HTTP/1.1\r\n" <> _} = :gen_tcp.recv(socket, 0, 10_000)
      :ok = :gen_tcp.send(socket, "HTTP/1.1 204 No Content\r\n\r\n")
      await_counts(name, %{success: 1, failure: 0})
    end
  end

  describe "the interval" do
    test "begins at a random time, so that nodes do not push in step" do
      before = System.monotonic_time(:millisecond)

      firsts =
        for _ <- 1..20 do
          name = PushTesting.start!("http://localhost:1/", interval: @long)
          :sys.get_state(PushTesting.pusher(name)).tick_at - before
        end

      assert Enum.all?(firsts, &(&1 in 0..(@long + 60_000)))
      assert length(Enum.uniq(firsts)) > 15
      assert Enum.max(firsts) - Enum.min(firsts) > div(@long, 4)
    end

    test "brings one push after the other, each with the latest numbers" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url)
      method = label("m")

      for count <- 1..5 do
        call(method)
        # It may have been rendered before the call.
        {connection, _request} = await_push(server)
        answer(connection, 200)
        {connection, request} = await_push(server)
        assert PushTesting.method_counts(request.body)[method] == count
        answer(connection, 200)
      end

      await("ten successes", fn -> Push.counts(name).success >= 10 end)
      assert Push.counts(name).failure == 0
    end

    test "is missed while a push is under way, and made up for once, with the latest numbers" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long, timeout: 60_000)
      pusher = PushTesting.pusher(name)
      method = label("m")
      PushTesting.push_now(name)
      {first, _request} = await_push(server)

      for _ <- 1..5, do: PushTesting.push_now(name)
      # The process answers while it pushes.
      assert %{phase: {:delivering, _pid, _timer}, again: true} = :sys.get_state(pusher)
      assert opened(server) == 1

      for _ <- 1..7, do: call(method)
      answer(first, 200)
      {second, request} = await_push(server)
      assert PushTesting.method_counts(request.body)[method] == 7

      answer(second, 200)
      await("success", fn -> Push.counts(name) == %{success: 2, failure: 0} end)
      assert %{phase: :idle, again: false} = :sys.get_state(pusher)
      assert opened(server) == 2
    end

    test "makes up for none while a failed push waits to be retried" do
      server = PushServer.start!()

      name =
        PushTesting.start!(server.url, interval: @long, retry_floor: @hour, retry_ceiling: @hour)

      pusher = PushTesting.pusher(name)
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      answer(connection, 500)
      await("failure", fn -> Push.counts(name).failure == 1 end)
      for _ <- 1..5, do: PushTesting.push_now(name)
      assert %{phase: {:backing_off, _timer}} = :sys.get_state(pusher)
      assert opened(server) == 1
      send(pusher, :retry)
      {connection, _request} = await_push(server)
      answer(connection, 200)
      await("success", fn -> Push.counts(name).success == 1 end)
      assert %{phase: :idle} = :sys.get_state(pusher)
      assert opened(server) == 2
    end
  end

  describe "an outage" do
    test "is logged once when it begins and once when it is over, with its length and failures" do
      server = PushServer.start!(path: "/metrics/job/a?token=s3cret")
      name = PushTesting.start!(server.url)
      watch_log(inspect(name))

      for outage <- 1..2 do
        for n <- 1..5 do
          {connection, _request} = await_push(server)
          answer(connection, if(rem(n, 2) == 0, do: 503, else: 400), [], "no room: #{n}")
          await_failures(name, 5 * (outage - 1) + n)
          assert is_integer(info(name).outage_since_unix_ms)
        end

        {connection, _request} = await_push(server)
        answer(connection, 200)

        shown = "http://127.0.0.1:#{server.port}/metrics/job/a"

        assert_receive {:logged, :warning, line}, 10_000

        assert line ==
                 "Metrics of #{inspect(name)} cannot be pushed to #{shown}: the server answers " <>
                   "400: no room: 1. They are pushed as soon as that works again"

        assert_receive {:logged, :info, line}, 10_000

        assert line =~
                 ~r/^Metrics of #{inspect(name)} are pushed to #{shown} again, after \S+ and 5 failed pushes$/

        assert info(name).outage_since_unix_ms == nil
        {connection, _request} = await_push(server)
        answer(connection, 200)
        refute_received {:logged, _level, _line}
      end
    end

    test "goes on, and is not logged again, if the process that pushes is killed meanwhile" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url)
      watch_log(inspect(name))
      {connection, _request} = await_push(server)
      answer(connection, 500)
      assert_receive {:logged, :warning, _line}, 10_000

      kill(PushTesting.pusher(name))
      {connection, _request} = await_push(server)
      answer(connection, 500)
      await("another failure", fn -> Push.counts(name).failure >= 2 end)
      refute_received {:logged, :warning, _line}
    end
  end

  defp await_failures(name, failures),
    do: await("#{failures} failures", fn -> Push.counts(name).failure >= failures end)

  defp info(name), do: DSPexTelemetry.info(instance: name).push
end
