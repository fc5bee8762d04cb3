defmodule DSPexTelemetry.Catalogue.DurationBoundsTest do
  # What Prometheus makes of the classic buckets of durations, which it knows nothing else of.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance, only: [handle: 4, plans: 1, start!: 1]

  alias DSPexTelemetry.Catalogue

  @stop [:dspex, :bridge, :call_method, :stop]
  @duration "dspex_bridge_call_method_duration"

  # In nanoseconds: a tool in the same VM, a small call, a model on a GPU, a language model, a batch.
  @latencies [20_000, 2_000_000, 200_000_000, 20_000_000_000, 300_000_000_000]
  @spreads [constant: 0, uniform: 0.1, uniform: 0.2, uniform: 0.3] ++
             [normal: 0.1, normal: 0.2, lognormal: 0.1, lognormal: 0.2]
  @samples 2_000
  @error 0.25

  setup_all do
    :rand.seed(:exsss, {15, 7, 1})
    instance = start!(attach: false)
    plans = plans(instance)

    truths =
      for latency <- @latencies, spread <- @spreads, into: %{} do
        durations = for _sample <- 1..@samples, do: round(latency * factor(spread))
        method = method(latency, spread)

        for duration <- durations do
          labels = %{method: method, python_class: "C", success: true}
          handle(plans, @stop, %{duration: duration}, labels)
        end

        {method, durations |> Enum.sort() |> Enum.at(ceil(0.99 * @samples) - 1)}
      end

    %{scrape: DSPexTelemetry.scrape(instance: instance, format: :text), truths: truths}
  end

  for latency <- @latencies, {shape, width} = spread <- @spreads do
    test "a p99 of #{latency} ns, #{shape} #{width}, is within 25 %", context do
      method = method(unquote(latency), unquote(spread))
      truth = Map.fetch!(context.truths, method) / 1_000
      told = histogram_quantile(0.99, buckets(context.scrape, method))
      assert_in_delta told, truth, @error * truth
    end
  end

  test "every duration in microseconds has these bounds, from 10 us to 10 min" do
    durations =
      for family <- Catalogue.families(),
          %{unit: :microsecond} = histogram <- family.histograms,
          do: histogram.buckets

    assert [bounds] = Enum.uniq(durations)
    assert length(durations) > 5
    assert hd(bounds) == 10
    assert List.last(bounds) == 10 * 60 * 1_000_000
    assert length(bounds) <= 30
  end

  # HighLatency takes a p99 three times as high as usual for news, and must not be moved by the distance of two bounds.
  test "no two bounds are a factor of more than 2.5 apart" do
    bounds = Catalogue.Metrics.duration_buckets()

    for {lower, upper} <- Enum.zip(bounds, tl(bounds)) do
      assert upper / lower <= 2.5, "#{lower} and #{upper}"
    end
  end

  defp method(latency, {shape, width}), do: "#{latency}-#{shape}-#{width}"

  defp factor({:constant, _width}), do: 1.0
  defp factor({:uniform, width}), do: 1 + width * (2 * :rand.uniform() - 1)
  defp factor({:normal, sigma}), do: max(1 + sigma * :rand.normal(), 0.0)
  defp factor({:lognormal, sigma}), do: :math.exp(sigma * :rand.normal())

  # Cumulated counts by bound, as they are exposed.
  defp buckets(scrape, method) do
    for [_line, labels, count] <- Regex.scan(~r/^#{@duration}_bucket\{(.*)\} (\d+)$/m, scrape),
        labels =~ ~s(method="#{method}"),
        [_all, bound] = Regex.run(~r/le="([^"]+)"/, labels),
        do: {bound(bound), String.to_integer(count)}
  end

  defp bound("+Inf"), do: :infinity
  defp bound(text), do: text |> Float.parse() |> elem(0)

  # As Prometheus' histogram_quantile: samples are taken to lie evenly between two bounds, those above all
  # bounds at the highest.
  defp histogram_quantile(share, buckets) do
    {:infinity, total} = List.last(buckets)
    assert total == @samples
    rank = share * total
    {below, [{upper, count} | _above]} = Enum.split_while(buckets, &(elem(&1, 1) < rank))
    {lower, before} = List.last(below, {0.0, 0})

    if upper == :infinity,
      do: lower,
      else: lower + (upper - lower) * (rank - before) / (count - before)
  end
end
