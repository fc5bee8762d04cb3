defmodule DSPexTelemetry.OTLP.ServersTest do
  # A real receiver: VictoriaMetrics of Debian 13, which `bin/setup --full` unpacks beside the build. That of Debian
  # 12 does not speak OTLP, and Prometheus' receiver is left out of Debian's builds, those of 2.53 included.
  use ExUnit.Case, async: true

  import DSPexTelemetry.OTLPTesting
  import DSPexTelemetry.TestCalls, only: [call: 1]
  import DSPexTelemetry.TestInstance, only: [await: 2, label: 1]

  alias DSPexTelemetry.{OTLP, PushServer, ServerProgram, StrictJSON}

  @moduletag :servers

  @stop [:dspex, :bridge, :call_method, :stop]
  @class ~S(C "quoted" \ back) <> "\nline é 😀"
  @quantiles [0.5, 0.9, 0.95, 0.99]

  defp record(method) do
    for n <- 1..2_000 do
      metadata = %{method: method, python_class: @class, success: rem(n, 4) > 0}
      :telemetry.execute(@stop, %{duration: n * n * 1_013}, metadata)
    end
  end

  defp export!(name) do
    before = OTLP.counts(name)
    export_now(name)
    await("an export", fn -> OTLP.counts(name) != before end)
    assert OTLP.counts(name) == %{before | success: before.success + 1}
  end

  defp reported(name, method) do
    Enum.find(DSPexTelemetry.report(instance: name).operations, &(&1.method == method))
  end

  # The result of an instant query: labels and value of each series.
  defp query(url, expression) do
    query = URI.encode_query(%{"query" => expression})
    answer = StrictJSON.decode!(ServerProgram.get!("#{url}/api/v1/query?#{query}"))

    for %{"metric" => labels, "value" => [_at, value]} <- answer["data"]["result"],
        do: {labels, value |> Float.parse() |> elem(0)}
  end

  describe "VictoriaMetrics" do
    setup do
      port = PushServer.closed_port()
      url = "http://127.0.0.1:#{port}"

      ServerProgram.start!(
        ServerProgram.unpacked!("victoria-metrics"),
        [
          "-httpListenAddr=127.0.0.1:#{port}",
          "-storageDataPath=#{ServerProgram.temporary_folder()}",
          "-retentionPeriod=100y",
          "-search.latencyOffset=0s",
          "-search.disableCache"
        ],
        "#{url}/health"
      )

      %{url: url}
    end

    test "has counters, and exponential histograms as ranges with counts", %{url: url} do
      name = start!(url <> "/opentelemetry/v1/metrics", resource: %{"service.name" => "bridge"})
      method = label("m")
      record(method)
      export!(name)
      row = reported(name, method)

      await("the calls", fn ->
        ServerProgram.get!(url <> "/internal/force_flush")
        query(url, ~s(dspex_bridge_call_method_total{method="#{method}"})) != []
      end)

      calls = query(url, ~s(dspex_bridge_call_method_total{method="#{method}",cached="false"}))

      assert Map.new(calls, fn {labels, value} -> {labels["success"], value} end) ==
               %{"true" => (row.count - row.errors) / 1, "false" => row.errors / 1}

      assert Enum.all?(calls, fn {labels, _value} ->
               labels["python_class"] == @class and labels["service.name"] == "bridge"
             end)

      duration = ~s({method="#{method}"})
      [{_labels, count}] = query(url, "dspex_bridge_call_method_duration_count#{duration}")
      assert count == row.count
      buckets = "dspex_bridge_call_method_duration_bucket#{duration}"
      # It turns exponential buckets into ranges of its own.
      ranges = for {labels, value} <- query(url, buckets), do: {labels["vmrange"], value}
      assert Enum.sum(for {_range, value} <- ranges, do: value) == row.count

      for quantile <- @quantiles do
        [{_labels, value}] = query(url, "histogram_quantile(#{quantile}, #{buckets})")
        told = Map.fetch!(row, quantile_key(quantile))
        assert value / told > :math.pow(2, -0.26) and value / told < :math.pow(2, 0.26)
      end
    end

    test "gets the later of two exports, after one that failed", %{url: url} do
      name = start!(url <> "/opentelemetry/v1/metrics", gzip: false)
      method = label("m")
      call(method)
      export!(name)
      call(method)
      export!(name)

      await("the later value", fn ->
        ServerProgram.get!(url <> "/internal/force_flush")

        counter =
          ~s(dspex_bridge_call_method_total{method="#{method}",success="true",cached="false"})

        match?([{_labels, 2.0}], query(url, counter))
      end)
    end
  end

  defp quantile_key(quantile), do: :"p#{round(quantile * 100)}_us"
end
