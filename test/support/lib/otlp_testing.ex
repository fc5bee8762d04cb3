defmodule DSPexTelemetry.OTLPTesting do
  @moduledoc "Instances that export over OTLP, and looks into what they do."

  alias DSPexTelemetry.{OTLP, OTLPDecoder, PushServer, TestInstance}

  @doc """
  Starts an instance that exports when `export_now/1` says so and at no other time, retries after 1 ms, and exports
  nothing when it stops, unless `options` of `:otlp` say otherwise. `:instance` has options of the instance.
  """
  def start!(url, options \\ []) do
    {restart, options} = Keyword.pop(options, :restart, :permanent)
    {of_instance, options} = Keyword.pop(options, :instance, [])

    defaults = [url: url, interval: 86_400_000, retry_floor: 1, retry_ceiling: 1, stop_timeout: 0]
    TestInstance.start!([otlp: Keyword.merge(defaults, options)] ++ of_instance, restart)
  end

  @doc "A server that exports go to."
  def start_server!(options \\ []), do: PushServer.start!([path: "/v1/metrics"] ++ options)

  @doc "The process that exports for a running instance."
  def exporter(name) do
    [{_id, pid, _type, _modules}] =
      name |> TestInstance.child(OTLP) |> Supervisor.which_children()

    if is_pid(pid), do: pid
  end

  @doc "Begins an interval."
  def export_now(name), do: send(exporter(name), :tick)

  @doc "Waits until so many exports have succeeded and failed, and so many points were lost."
  def await_counts(name, expected) do
    TestInstance.await("counts #{inspect(expected)}", fn ->
      Map.take(OTLP.counts(name), Map.keys(expected)) == expected
    end)
  end

  @doc "The next request, answered with 200."
  def take_export!(server, name) do
    export_now(name)
    {connection, request} = PushServer.await_push(server)
    PushServer.answer(connection, 200)
    request
  end

  @doc "Answers with a message in protobuf."
  def answer_protobuf(connection, status, body, headers \\ []) do
    headers = [{"content-type", "application/x-protobuf"} | headers]
    PushServer.answer(connection, status, headers, body)
  end

  @doc "The calls of a method that a request tells of, by the counter and by the histogram."
  def calls(body, method) do
    metrics = OTLPDecoder.metrics(body)

    points = fn name ->
      for point <- get_in(metrics, [name, :points]) || [],
          point.attributes["method"] == method,
          do: point
    end

    counted = for point <- points.("dspex_bridge_call_method_total"), do: point.as_int
    measured = for point <- points.("dspex_bridge_call_method_duration"), do: point.count
    {Enum.sum(counted), Enum.sum(measured)}
  end

  @doc "The data points of a metric that a request has of a method."
  def points(body, metric, method) do
    for point <- OTLPDecoder.metrics(body)[metric].points,
        point.attributes["method"] == method,
        do: point
  end
end
