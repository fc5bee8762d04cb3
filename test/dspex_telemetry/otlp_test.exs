defmodule DSPexTelemetry.OTLPTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.OTLPTesting
  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.TestCalls, only: [call: 1]
  import DSPexTelemetry.TestInstance, except: [start!: 0, start!: 1, start!: 2]

  alias DSPexTelemetry.{OTLP, OTLPDecoder}

  doctest DSPexTelemetry.OTLP

  @hour 3_600_000

  describe "a failure" do
    test "is retried for the answers that OTLP/HTTP says, and for no other" do
      server = start_server!()

      for status <- [429, 502, 503, 504] do
        name = start!(server.url)
        export_now(name)
        {connection, _request} = await_push(server)
        answer(connection, status)
        {connection, _request} = await_push(server)
        answer(connection, 200)
        await_counts(name, %{success: 1, failure: 1, lost: 0})
      end

      for status <- [301, 400, 401, 403, 404, 408, 413, 500, 501, 505] do
        name = start!(server.url)
        watch_log(inspect(name))
        export_now(name)
        {connection, request} = await_push(server)
        answer_protobuf(connection, status, OTLPDecoder.status("no such metric"))
        await("a failure", fn -> OTLP.counts(name).failure == 1 end)
        assert_receive {:logged, :warning, line}, 10_000

        assert line =~
                 "cannot be exported to #{server.url}: the server answers #{status}: no such metric"

        metrics = OTLPDecoder.metrics(request.body)
        points = for {_name, metric} <- metrics, _point <- metric.points, do: 1
        assert OTLP.counts(name) == %{success: 0, failure: 1, lost: length(points)}
        assert :sys.get_state(exporter(name)).phase == :idle
        # Until the next interval.
        take_export!(server, name)
        await_counts(name, %{success: 1, failure: 1})
      end
    end

    test "with Retry-After is retried after that time" do
      server = start_server!()

      for status <- [429, 503] do
        name = start!(server.url)
        export_now(name)
        {connection, _request} = await_push(server)
        failed_at = System.monotonic_time(:millisecond)
        answer(connection, status, [{"Retry-After", "1"}])
        {connection, _request} = await_push(server)
        assert System.monotonic_time(:millisecond) - failed_at >= 1_000
        answer(connection, 200)
        await_counts(name, %{success: 1, failure: 1})
      end
    end

    test "is retried if nobody answers, or none that can be understood" do
      server = start_server!()
      name = start!(server.url, timeout: 2_000)
      export_now(name)
      {connection, _request} = await_push(server)
      close(connection)
      {connection, _request} = await_push(server)
      send_raw(connection, "no HTTP\r\n\r\n")
      {_connection, _request} = await_push(server)
      # This one gets no answer at all.
      {connection, _request} = await_push(server)
      answer(connection, 200)
      await_counts(name, %{success: 1, failure: 3, lost: 0})

      name =
        start!("http://127.0.0.1:#{closed_port()}/v1/metrics",
          retry_floor: @hour,
          retry_ceiling: @hour
        )

      watch_log(inspect(name))
      export_now(name)
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "no connection"
      assert %{phase: {:backing_off, _timer}} = :sys.get_state(exporter(name))
    end

    test "of which the answer is longer than the limit is final" do
      server = start_server!()

      for answer <- [
            &flood(&1, "HTTP/1.1 503 Oh\r\n\r\n", String.duplicate("x", 60_000)),
            &answer(&1, 200, [], String.duplicate("x", 20_000))
          ] do
        name = start!(server.url, answer_limit: 16_384)
        watch_log(inspect(name))
        export_now(name)
        {connection, _request} = await_push(server)
        answer.(connection)
        assert_receive {:logged, :warning, line}, 10_000
        assert line =~ "the answer is longer than 16384 bytes"
        assert %{success: 0, failure: 1, lost: lost} = OTLP.counts(name)
        assert lost > 0
        assert :sys.get_state(exporter(name)).phase == :idle
      end
    end

    test "is what a request over the limit is, before it is sent" do
      server = start_server!()
      name = start!(server.url, request_limit: 1_024)
      watch_log(inspect(name))
      export_now(name)
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "the request is longer than 1024 bytes"
      assert %{success: 0, failure: 1, lost: lost} = OTLP.counts(name)
      assert lost > 0
      assert opened(server) == 0
    end
  end

  describe "a partial success" do
    test "is a success that is counted, logged once for as long as the server says the same, and not retried" do
      server = start_server!()
      name = start!(server.url)
      watch_log(inspect(name))

      for {message, rejected, logged} <- [
            {"bad histogram", 2, true},
            {"bad histogram", 2, false},
            {"worse\nand more", 300, true},
            {"", 0, false},
            {"only a warning", 0, true}
          ] do
        lost = OTLP.counts(name).lost
        successes = OTLP.counts(name).success
        export_now(name)
        {connection, _request} = await_push(server)
        answer_protobuf(connection, 200, OTLPDecoder.partial_success(rejected, message))
        await_counts(name, %{success: successes + 1, failure: 0, lost: lost + rejected})
        assert %{phase: :idle} = :sys.get_state(exporter(name))

        if logged do
          assert_receive {:logged, :warning, line}, 10_000
          first = hd(String.split(message, "\n"))
          assert line =~ "#{rejected} data points aside: #{first}"
        end

        refute_received {:logged, :warning, _line}
      end
    end

    test "is none if the body is no protobuf" do
      server = start_server!()
      name = start!(server.url)
      export_now(name)
      {connection, _request} = await_push(server)
      body = OTLPDecoder.partial_success(2, "x")
      answer(connection, 200, [{"content-type", "text/plain"}], body)
      await_counts(name, %{success: 1, failure: 0, lost: 0})
      export_now(name)
      {connection, _request} = await_push(server)
      answer_protobuf(connection, 200, "\xff\xff not protobuf")
      await_counts(name, %{success: 2, failure: 0, lost: 0})
    end
  end

  describe "cumulative numbers" do
    test "of a retry are those of then" do
      server = start_server!()
      name = start!(server.url)
      method = label("m")
      call(method)
      export_now(name)

      for {calls, status} <- [{1, 503}, {2, 429}, {3, 200}] do
        {connection, request} = await_push(server)
        assert calls(request.body, method) == {calls, calls}
        call(method)
        answer(connection, status)
      end

      assert calls(take_export!(server, name).body, method) == {4, 4}
    end
  end

  describe "deltas" do
    test "add up over failures, as each is told once and a retry is the same request" do
      server = start_server!()
      name = start!(server.url, temporality: :delta)
      method = label("m")

      told =
        for round <- 1..6, reduce: {0, 0} do
          {counted, measured} ->
            for _ <- 1..round, do: call(method)
            export_now(name)
            {connection, first} = await_push(server)
            # A call that comes in while the server fails is in the next one.
            call(method)

            {connection, last} =
              for status <- Enum.take([503, 502, 429, 504], round - 1),
                  reduce: {connection, first} do
                {connection, before} ->
                  answer(connection, status)
                  {connection, request} = await_push(server)
                  assert request.body == before.body
                  {connection, request}
              end

            answer(connection, 200)
            await_counts(name, %{success: round})
            {more, more_measured} = calls(last.body, method)
            {counted + more, measured + more_measured}
        end

      assert told == {21 + 5, 21 + 5}
      last = take_export!(server, name)
      assert calls(last.body, method) == {1, 1}
      metric = OTLPDecoder.metrics(last.body)["dspex_bridge_call_method_total"]
      assert %{temporality: :delta, monotonic: true} = metric
      await_counts(name, %{success: 7, lost: 0})
      assert calls(take_export!(server, name).body, method) == {0, 0}
    end

    test "follow on one another without gap and overlap" do
      server = start_server!()
      name = start!(server.url, temporality: :delta)
      method = label("m")

      intervals =
        for round <- 1..4 do
          call(method)
          request = take_export!(server, name)
          await_counts(name, %{success: round})
          [point] = points(request.body, "dspex_bridge_call_method_total", method)
          {point.start_time_unix_nano, point.time_unix_nano}
        end

      for {{_start, time}, {start, _time}} <- Enum.zip(intervals, tl(intervals)),
          do: assert(start == time)
    end

    test "that a server has refused for good are dropped and counted" do
      server = start_server!()
      name = start!(server.url, temporality: :delta)
      method = label("m")
      for _ <- 1..3, do: call(method)
      export_now(name)
      {connection, request} = await_push(server)
      assert calls(request.body, method) == {3, 3}
      answer(connection, 400)
      await("the failure", fn -> OTLP.counts(name).failure == 1 end)

      points =
        for {_name, metric} <- OTLPDecoder.metrics(request.body), _point <- metric.points, do: 1

      assert OTLP.counts(name).lost == length(points)
      call(method)
      assert calls(take_export!(server, name).body, method) == {1, 1}
    end

    test "are not lost with the process that exports" do
      server = start_server!()
      name = start!(server.url, temporality: :delta)
      method = label("m")
      call(method)
      export_now(name)
      {_connection, first} = await_push(server)
      before = exporter(name)
      kill(before)
      await("another process", fn -> exporter(name) not in [before, nil] end)
      call(method)
      assert take_export!(server, name).body == first.body
      await_counts(name, %{success: 1})
      assert calls(take_export!(server, name).body, method) == {1, 1}
    end

    test "of series that were removed are told" do
      server = start_server!()
      name = start!(server.url, temporality: :delta)
      method = label("m")
      call(method)
      native = native(name)
      {now_ms, now_unix_ms} = DSPexTelemetry.Instance.Clock.now()
      # The first call sees when it was used last.
      DSPexTelemetry.Native.retire_idle(native, {now_ms, now_unix_ms}, 1_000)
      assert DSPexTelemetry.Native.retire_idle(native, {now_ms + 2_000, now_unix_ms}, 1_000) > 0
      assert calls(take_export!(server, name).body, method) == {1, 1}
    end

    test "with :low_memory are of what events have fed, and not of the instance itself" do
      server = start_server!()
      name = start!(server.url, temporality: :low_memory)
      call(label("m"))
      metrics = OTLPDecoder.metrics(take_export!(server, name).body)
      assert metrics["dspex_bridge_call_method_duration"].temporality == :delta
      assert metrics["dspex_telemetry_otlp_total"].temporality == :cumulative
    end
  end

  describe "when an instance stops" do
    test "what is left is exported, after an old request that could not be" do
      for temporality <- [:cumulative, :delta] do
        server = start_server!()
        options = [temporality: temporality, stop_timeout: 10_000, restart: :temporary]
        name = start!(server.url, [retry_floor: @hour, retry_ceiling: @hour] ++ options)
        method = label("m")
        call(method)
        export_now(name)
        {connection, _request} = await_push(server)
        answer(connection, 503)
        await_counts(name, %{failure: 1})
        call(method)

        stopping =
          Task.async(fn ->
            DSPexTelemetry.TestInstance.supervisor_of(name) |> Supervisor.stop(:shutdown)
          end)

        told =
          for _ <- 1..%{cumulative: 1, delta: 2}[temporality] do
            {connection, request} = await_push(server)
            answer(connection, 200)
            calls(request.body, method)
          end

        assert told == %{cumulative: [{2, 2}], delta: [{1, 1}, {1, 1}]}[temporality]
        Task.await(stopping)
      end
    end
  end
end
