defmodule DSPexTelemetry.OTLPTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.OTLPTesting
  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.TestCalls, only: [call: 1]
  import DSPexTelemetry.TestInstance, except: [start!: 0, start!: 1, start!: 2]
  import Telemetry.Metrics

  alias DSPexTelemetry.{OTLP, OTLPDecoder, Report}

  doctest DSPexTelemetry.OTLP

  @hour 3_600_000
  @stop [:dspex, :bridge, :call_method, :stop]

  # Durations over five decades, in nanoseconds.
  defp record(method, count, class \\ "C") do
    for n <- 1..count do
      metadata = %{method: method, python_class: class, success: rem(n, 4) > 0}
      :telemetry.execute(@stop, %{duration: n * n * 1_013}, metadata)
    end
  end

  defp points(body, metric, method) do
    for point <- OTLPDecoder.metrics(body)[metric].points,
        point.attributes["method"] == method,
        do: point
  end

  defp reported(name, method) do
    %Report{operations: rows} = DSPexTelemetry.report(instance: name)
    Enum.find(rows, &(&1.method == method))
  end

  describe "a request" do
    test "is posted as protobuf to the address, compressed unless it is told not to be" do
      server = start_server!()

      for {gzip, encoding} <- [{true, "gzip"}, {false, nil}] do
        name =
          start!(server.url, gzip: gzip, headers: [{"x-tenant", "a"}], auth: {:bearer, "t0ken"})

        request = take_export!(server, name)
        assert {request.method, request.path} == {"POST", "/v1/metrics"}
        assert request.headers["content-type"] == "application/x-protobuf"
        assert request.headers["content-encoding"] == encoding
        assert request.headers["x-tenant"] == "a"
        assert request.headers["authorization"] == "Bearer t0ken"
        assert request.body == request.sent == not gzip
        assert map_size(OTLPDecoder.metrics(request.body)) > 10
        await_counts(name, %{success: 1, failure: 0, lost: 0})
      end
    end

    test "has an authorization of any scheme from its headers, which no log shows" do
      server = start_server!()
      headers = [{"Authorization", "Api-Token s3cret-t0ken"}]
      name = start!(server.url, auth: {:bearer, "another"}, headers: headers)
      watch_log(inspect(name))
      export_now(name)
      {connection, request} = await_push(server)
      assert request.headers["authorization"] == "Api-Token s3cret-t0ken"
      answer_protobuf(connection, 401, OTLPDecoder.status("s3cret-t0ken is no token"))
      assert_receive {:logged, :warning, line}, 10_000
      assert line =~ "[hidden] is no token"
      states = for pid <- [exporter(name), pid(name)], do: :sys.get_state(pid)
      shown = inspect({states, DSPexTelemetry.info(instance: name)}, limit: :infinity)
      refute shown =~ "s3cret"
    end

    test "says what the report says" do
      server = start_server!()
      name = start!(server.url)
      {method, class} = {label("m"), "C \"quoted\" \n é 😀"}
      record(method, 2_000, class)
      body = take_export!(server, name).body
      metrics = OTLPDecoder.metrics(body)
      row = reported(name, method)

      calls = metrics["dspex_bridge_call_method_total"]
      assert %{type: :sum, monotonic: true, temporality: :cumulative} = calls
      assert calls.description =~ "Completed method calls"
      points = points(body, "dspex_bridge_call_method_total", method)

      assert Map.new(points, &{{&1.attributes["success"], &1.attributes["cached"]}, &1.as_int}) ==
               %{
                 {"true", "true"} => 0,
                 {"true", "false"} => row.count - row.errors,
                 {"false", "true"} => 0,
                 {"false", "false"} => row.errors
               }

      assert Enum.all?(points, &(&1.attributes["python_class"] == class))

      duration = metrics["dspex_bridge_call_method_duration"]
      assert %{type: :exponential_histogram, unit: "us", temporality: :cumulative} = duration
      [point] = points(body, "dspex_bridge_call_method_duration", method)
      assert Map.keys(point.attributes) == ["method", "python_class"]
      assert {point.count, point.min, point.max} == {row.count, row.min_us, row.max_us}
      assert_in_delta point.sum, row.mean_us * row.count, 1.0e-6 * point.sum

      buckets = OTLPDecoder.buckets(point)

      assert Enum.sum(for {_low, _high, count} <- buckets, do: count) + point.zero_count ==
               row.count

      assert length(point.positive.bucket_counts) <= 160
      # 22 octaves in 160 buckets.
      assert point.scale == 2

      for {quantile, told} <- [
            {0.5, row.p50_us},
            {0.9, row.p90_us},
            {0.95, row.p95_us},
            {0.99, row.p99_us}
          ] do
        {low, high} = bucket_of(buckets, ceil(quantile * row.count))
        assert told > low * (1 - 1.0e-9) and told <= high * (1 + 1.0e-9)
      end

      assert %{type: :gauge, points: [%{as_double: 1.0}]} = metrics["dspex_telemetry_attached"]
      info = metrics["dspex_telemetry_build_info"]
      assert [%{attributes: %{"version" => "0.1.0"}}] = info.points
    end

    test "has metrics of definitions, gauges and summaries as they stand also where others are deltas" do
      server = start_server!()
      event = [:otlp_test, :"#{label("e")}"]
      options = [event_name: event, tags: [:t]]

      metrics = [
        counter("od.c", options),
        sum("od.s", options),
        last_value("od.l", options),
        distribution("od.d", [reporter_options: [buckets: [1, 2.5]]] ++ options),
        summary("od.q", options),
        sum("od.g", [reporter_options: [prometheus_type: :gauge]] ++ options)
      ]

      name = start!(server.url, instance: [metrics: metrics], temporality: :delta)

      send_one =
        &:telemetry.execute(event, Map.new([:s, :l, :d, :q, :g], fn k -> {k, &1} end), %{t: "x"})

      for value <- [1, 2.5, 4], do: send_one.(value)
      told = OTLPDecoder.metrics(take_export!(server, name).body)
      point = fn told, name -> hd(told[name].points) end

      for name <- ~w(od_c od_s), metric = told[name] do
        assert %{type: :sum, monotonic: true, temporality: :delta} = metric
      end

      assert point.(told, "od_c").as_int == 3
      assert point.(told, "od_s").as_double == 7.5
      assert %{type: :gauge, points: [%{as_int: 4}]} = told["od_l"]
      assert %{type: :gauge, points: [%{as_double: 7.5}]} = told["od_g"]
      assert %{type: :histogram, temporality: :delta} = told["od_d"]

      assert %{count: 3, sum: 7.5, bucket_counts: [1, 1, 1], explicit_bounds: [1.0, 2.5]} =
               point.(told, "od_d")

      assert %{type: :summary, temporality: nil} = told["od_q"]
      assert %{count: 3, sum: 7.5, quantile_values: quantiles} = point.(told, "od_q")
      assert Enum.map(quantiles, & &1.quantile) == [0.5, 0.9, 0.95, 0.99, 0.999]
      assert_in_delta hd(quantiles).value, 2.5, 0.025
      assert_in_delta List.last(quantiles).value, 4.0, 0.04

      for {"od_" <> _, %{points: points}} <- told do
        assert [%{attributes: %{"t" => "x"}} = point] = points
        assert point.start_time_unix_nano <= point.time_unix_nano
      end

      send_one.(2)
      again = OTLPDecoder.metrics(take_export!(server, name).body)
      assert {point.(again, "od_c").as_int, point.(again, "od_s").as_int} == {1, 2}
      assert {point.(again, "od_l").as_int, point.(again, "od_g").as_double} == {2, 9.5}

      assert point.(again, "od_c").start_time_unix_nano ==
               point.(told, "od_c").time_unix_nano

      assert point.(again, "od_q").start_time_unix_nano ==
               point.(told, "od_q").start_time_unix_nano

      assert point.(again, "od_d").bucket_counts == [0, 1, 0]
      assert point.(again, "od_q").count == 4
    end

    test "has the buckets that it is told to have" do
      server = start_server!()
      method = label("m")

      scales =
        for max_buckets <- [2_048, 320, 160, 20] do
          name = start!(server.url, max_buckets: max_buckets)
          record(method, 500)
          body = take_export!(server, name).body
          [point] = points(body, "dspex_bridge_call_method_duration", method)
          assert length(point.positive.bucket_counts) <= max_buckets
          point.scale
        end

      assert scales == [5, 4, 3, 0]

      name = start!(server.url, histogram: :explicit)
      record(method, 500)
      body = take_export!(server, name).body
      assert %{type: :histogram} = OTLPDecoder.metrics(body)["dspex_bridge_call_method_duration"]
      [point] = points(body, "dspex_bridge_call_method_duration", method)
      scrape = DSPexTelemetry.scrape(instance: name)

      cumulated =
        for [_all, count] <-
              Regex.scan(
                ~r/^dspex_bridge_call_method_duration_bucket\{method="#{method}",.*\} (\d+)$/m,
                scrape
              ),
            do: String.to_integer(count)

      assert Enum.scan(point.bucket_counts, &+/2) == cumulated
      assert length(point.explicit_bounds) == length(cumulated) - 1
      assert {point.count, point.min > 0} == {500, true}
    end

    test "says what it is of, by default and as it is told" do
      server = start_server!()
      name = start!(server.url)
      {resource, scope} = OTLPDecoder.resource(take_export!(server, name).body)

      assert %{
               "service.name" => "unknown_service:beam",
               "service.instance.id" => id,
               "telemetry.sdk.name" => "dspex_telemetry",
               "telemetry.sdk.language" => "erlang",
               "telemetry.sdk.version" => "0.1.0"
             } = resource

      assert id =~ ~r/\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\z/
      assert scope == %{name: "dspex_telemetry", version: "0.1.0"}

      assert {%{"service.instance.id" => ^id}, _} =
               OTLPDecoder.resource(take_export!(server, name).body)

      given = %{
        "service.name" => "my_app",
        "service.version" => "1.4.0",
        "service.instance.id" => "host-1",
        :shard => -7,
        "ratio" => 0.5,
        "canary" => true
      }

      name = start!(server.url, resource: given)
      {resource, _scope} = OTLPDecoder.resource(take_export!(server, name).body)
      given = Map.new(given, fn {name, value} -> {to_string(name), value} end)
      assert Map.take(resource, Map.keys(given)) == given
    end

    test "has exemplars with trace and span" do
      server = start_server!()
      name = start!(server.url)
      method = label("m")
      trace = "0af7651916cd43dd8448eb211c80319c"

      :telemetry.execute(@stop, %{duration: 1_500_000}, %{
        method: method,
        python_class: "C",
        success: true,
        trace_id: trace,
        span_id: "b7ad6b7169203331",
        session_id: "s-1"
      })

      [point] =
        points(take_export!(server, name).body, "dspex_bridge_call_method_duration", method)

      [exemplar] = point.exemplars
      assert Base.encode16(exemplar.trace_id, case: :lower) == trace
      assert Base.encode16(exemplar.span_id, case: :lower) == "b7ad6b7169203331"
      assert exemplar.as_double == 1_500.0
      assert OTLPDecoder.attributes(exemplar.filtered_attributes) == %{"session_id" => "s-1"}
      assert exemplar.time_unix_nano <= point.time_unix_nano
    end

    test "counts since the start, and after a reset since then" do
      server = start_server!()
      before_start = System.system_time(:millisecond) * 1_000_000
      name = start!(server.url)
      method = label("m")
      record(method, 3)

      [before] =
        points(take_export!(server, name).body, "dspex_bridge_call_method_duration", method)

      assert before.start_time_unix_nano >= before_start
      assert before.start_time_unix_nano <= before.time_unix_nano

      reset_after = System.system_time(:nanosecond)
      :ok = DSPexTelemetry.reset(instance: name)
      record(method, 2)
      body = take_export!(server, name).body
      [point] = points(body, "dspex_bridge_call_method_duration", method)
      assert point.count == 2
      assert_in_delta point.start_time_unix_nano, reset_after, 5_000_000_000
      assert point.start_time_unix_nano >= reset_after - 1_000_000
      [created] = OTLPDecoder.metrics(body)["dspex_session_created_total"].points
      assert created.start_time_unix_nano >= reset_after - 1_000_000
    end

    test "tells of the exports before it, and without option :otlp nothing does" do
      server = start_server!()
      name = start!(server.url)
      export_now(name)
      {connection, _request} = await_push(server)
      answer(connection, 503)
      {connection, _request} = await_push(server)
      answer_protobuf(connection, 200, OTLPDecoder.partial_success(3, "no room"))
      await_counts(name, %{success: 1, failure: 1, lost: 3})
      metrics = OTLPDecoder.metrics(take_export!(server, name).body)

      by_result =
        Map.new(metrics["dspex_telemetry_otlp_total"].points, &{&1.attributes, &1.as_double})

      assert by_result == %{%{"result" => "success"} => 1.0, %{"result" => "failure"} => 1.0}
      assert [%{as_double: 3.0}] = metrics["dspex_telemetry_otlp_lost_points_total"].points
      await_counts(name, %{success: 2, failure: 1, lost: 3})

      assert %{success: 2, lost: 3, outage_since_unix_ms: nil} =
               DSPexTelemetry.info(instance: name).otlp

      without = DSPexTelemetry.TestInstance.start!()
      refute DSPexTelemetry.scrape(instance: without) =~ "otlp"
      assert OTLP.counts(without) == nil
    end
  end

  defp bucket_of(buckets, rank) do
    Enum.reduce_while(buckets, 0, fn {low, high, count}, below ->
      if below + count >= rank, do: {:halt, {low, high}}, else: {:cont, below + count}
    end)
  end

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
