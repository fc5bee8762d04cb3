defmodule DSPexTelemetry.Push.FailureTest do
  # Not async: looks at all connections of httpc.
  use ExUnit.Case, async: false

  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.PushTesting, only: [await_counts: 2]
  import DSPexTelemetry.TestCalls, only: [call: 1]
  import DSPexTelemetry.TestInstance, except: [start!: 0, start!: 1, start!: 2]

  alias DSPexTelemetry.{Push, PushServer, PushTesting}

  # Intervals and waits that do not end during a test.
  @long PushTesting.long()
  @hour 3_600_000

  describe "a failure" do
    test "of the server is tried again, and what was recorded meanwhile is in it" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long)
      method = label("m")
      PushTesting.push_now(name)

      for {status, failures} <- [{500, 1}, {503, 2}, {408, 3}] do
        {connection, _request} = await_push(server)
        call(method)
        answer(connection, status)
        await_failures(name, failures)
      end

      {connection, request} = await_push(server)
      assert PushTesting.method_counts(request.body)[method] == 3
      answer(connection, 200)
      await_counts(name, %{success: 1, failure: 3})
    end

    test "is tried again later and later" do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long, retry_floor: 100, retry_ceiling: 200)
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      failed_at = System.monotonic_time(:millisecond)
      answer(connection, 500)
      {_connection, _request} = await_push(server)
      assert System.monotonic_time(:millisecond) - failed_at >= 100
    end

    test "with Retry-After is tried again after that time, intervals or not" do
      for status <- [429, 503] do
        server = PushServer.start!()
        name = PushTesting.start!(server.url)
        {connection, _request} = await_push(server)
        failed_at = System.monotonic_time(:millisecond)
        answer(connection, status, [{"Retry-After", "1"}])
        {connection, _request} = await_push(server)
        assert System.monotonic_time(:millisecond) - failed_at >= 1_000
        answer(connection, 200)
        await("success", fn -> Push.counts(name).success == 1 end)
        assert Push.counts(name).failure == 1
        stop_supervised!({DSPexTelemetry, name})
      end
    end

    test "of the request waits for the next interval" do
      for status <- [301, 307, 400, 401, 404, 413], path <- ["/metrics/job/a", "/import"] do
        server = PushServer.start!(path: path)
        name = PushTesting.start!(server.url, interval: @long)
        PushTesting.push_now(name)
        {connection, _request} = await_push(server)
        answer(connection, status, [{"Location", "http://localhost:1/"}])
        await_counts(name, %{success: 0, failure: 1})
        assert :sys.get_state(PushTesting.pusher(name)).phase == :idle
        assert opened(server) == 1

        PushTesting.push_now(name)
        {connection, _request} = await_push(server)
        answer(connection, 200)
        await_counts(name, %{success: 1, failure: 1})
      end
    end

    test "is that there is no server, and one that comes is found" do
      port = closed_port()
      name = PushTesting.start!("http://127.0.0.1:#{port}/metrics/job/a")
      await("failures", fn -> Push.counts(name).failure >= 3 end)
      server = PushServer.start!(port: port)
      {connection, _request} = await_push(server)
      answer(connection, 200)
      await("success", fn -> Push.counts(name).success >= 1 end)
    end

    test "is a server that does not answer, read, or speak HTTP, and leaves no connection" do
      server = PushServer.start!()

      for {answer, reason} <- [
            {fn _connection -> :never end, "timeout"},
            {&close/1, "the server closed the connection"},
            {&send_raw(&1, "\0\1\2 no HTTP\r\n\r\n"), ""},
            {&send_raw(&1, "HTTP/1.1 500 Oh\r\ncontent-length: -7\r\n\r\n"), ""},
            {&send_raw(&1, "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\nshort"), ""},
            {&send_raw(&1, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), ""},
            {&send_raw(&1, "HTTP/9.9 abc\r\n\r\n"), ""}
          ] do
        name =
          PushTesting.start!(server.url,
            interval: @long,
            timeout: 2_000,
            retry_floor: @hour,
            retry_ceiling: @hour
          )

        watch_log(inspect(name))
        connections = PushTesting.connections()
        PushTesting.push_now(name)
        {connection, _request} = await_push(server)
        answer.(connection)
        assert_receive {:logged, :warning, line}, 10_000
        assert line =~ reason
        assert Push.counts(name) == %{success: 0, failure: 1}
        await("no connection", fn -> PushTesting.connections() -- connections == [] end)
        stop_supervised!({DSPexTelemetry, name})
      end
    end

    test "is whatever takes longer than it may, and what takes so long is ended" do
      server = PushServer.start!()
      test = self()
      calls = :counters.new(1, [])

      # The first call, at the start, is to check what it returns.
      auth = fn ->
        :counters.add(calls, 1, 1)

        if :counters.get(calls, 1) == 2 do
          send(test, {:hanging, self()})
          Process.sleep(:infinity)
        end

        :none
      end

      name = PushTesting.start!(server.url, interval: @long, auth: auth, timeout: 100)
      watch_log(inspect(name))
      PushTesting.push_now(name)
      assert_receive {:hanging, hanging}, 10_000
      monitor = Process.monitor(hanging)
      assert_receive {:DOWN, ^monitor, :process, ^hanging, _reason}, 10_000
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "timeout"
      {connection, _request} = await_push(server)
      answer(connection, 200)
      await_counts(name, %{success: 1, failure: 1})
    end

    test "is a server that takes a connection and reads nothing of it" do
      server = PushServer.start!(read: false)

      name =
        PushTesting.start!(server.url,
          interval: @long,
          timeout: 2_000,
          gzip: false,
          retry_floor: @hour,
          retry_ceiling: @hour
        )

      PushTesting.record_much(name)
      watch_log(inspect(name))
      connections = PushTesting.connections()
      PushTesting.push_now(name)
      assert_receive {:held, _server, _connection}, 10_000
      assert is_tuple(:sys.get_state(PushTesting.pusher(name)).phase)
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "timeout"
      await("no connection", fn -> PushTesting.connections() -- connections == [] end)
    end

    for {what, head} <- [
          {"headers", "HTTP/1.1 200 OK\r\n"},
          {"a success", "HTTP/1.1 200 OK\r\n\r\n"},
          {"an error", "HTTP/1.1 500 Oh\r\ncontent-length: 999999999999\r\n\r\n"}
        ] do
      test "is an answer without end, as #{what}, and takes little memory" do
        server = PushServer.start!()

        name =
          PushTesting.start!(server.url,
            interval: @long,
            timeout: 60_000,
            retry_floor: @hour,
            retry_ceiling: @hour
          )

        watch_log(inspect(name))
        PushTesting.push_now(name)
        {connection, _request} = await_push(server)
        flood(connection, unquote(head), String.duplicate("x: y\r\n", 10_000))
        assert_receive {:logged, :warning, line}, 10_000
        # Of headers OTP 26 and later have a limit of their own.
        assert line =~
                 ~r/the answer is longer than 1 MiB|headers of the answer are too long|header too long/

        assert await_closed(connection) < 64 * 1_048_576
      end
    end
  end

  # As many bytes as an answer may have, which are lists of 16 times as many while they are headers.
  for {what, header} <- [
        {"one header", ["x: ", String.duplicate("x", 800_000), "\r\n"]},
        {"many headers", List.duplicate("x: y\r\n", 130_000)},
        {"the phrase of the status", nil}
      ] do
    test "an answer with #{what} of 800 KB is refused before it takes much memory" do
      server = PushServer.start!()

      name =
        PushTesting.start!(server.url, interval: @long, retry_floor: @hour, retry_ceiling: @hour)

      watch_log(inspect(name))
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)

      send_raw(
        connection,
        case unquote(header && IO.iodata_to_binary(header)) do
          nil ->
            ["HTTP/1.1 200 ", String.duplicate("x", 800_000), "\r\ncontent-length: 0\r\n\r\n"]

          header ->
            ["HTTP/1.1 200 OK\r\n", header, "content-length: 0\r\n\r\n"]
        end
      )

      assert_receive {:logged, :warning, line}, 10_000
      # OTP 26 and later have a limit of their own.
      assert line =~ ~r/headers of the answer are too long|header too long/
      assert Push.counts(name).success == 0
    end
  end

  test "neither headers as long as any that are sent on purpose do harm, nor a long body" do
    chunk = ["64\r\n", String.duplicate("x", 100), "\r\n"]

    for answer <- [
          # OTP 26 and later take headers of 10 kB.
          &answer(&1, 200, [{"x", String.duplicate("x", 8_000)}]),
          &answer(&1, 200, [], String.duplicate("x", 1_000_000)),
          &send_raw(&1, [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            List.duplicate(chunk, 9_000),
            "0\r\n\r\n"
          ])
        ] do
      server = PushServer.start!()
      name = PushTesting.start!(server.url, interval: @long)
      PushTesting.push_now(name)
      {connection, _request} = await_push(server)
      answer.(connection)
      await("the push to be counted", fn -> Push.counts(name).success == 1 end)
    end
  end

  defp await_failures(name, failures),
    do: await("#{failures} failures", fn -> Push.counts(name).failure >= failures end)
end
