defmodule DSPexTelemetry.OTLP.RequestTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.OTLPTesting
  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.TestInstance, except: [start!: 0, start!: 1, start!: 2]
  import Telemetry.Metrics

  alias DSPexTelemetry.{OTLP, OTLPDecoder, Report}

  @stop [:dspex, :bridge, :call_method, :stop]

  # Durations over five decades, in nanoseconds.
  defp record(method, count, class \\ "C") do
    for n <- 1..count do
      metadata = %{method: method, python_class: class, success: rem(n, 4) > 0}
      :telemetry.execute(@stop, %{duration: n * n * 1_013}, metadata)
    end
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
end
