# What a scrape costs, beside Peep's export of the same series, and what scraping in a loop costs those who
# record. See bin/bench --help.

Code.require_file("support.exs", __DIR__)

defmodule Bench.Scrape do
  alias Bench.{Arguments, Events}

  @event [:dspex, :bridge, :call_method, :stop]
  @bounds [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000] ++
            [1_000_000, 2_500_000, 10_000_000, 60_000_000]
  @instance Bench.Scraped
  @by_default Bench.ScrapedByDefault
  @formats [:text, :openmetrics, :protobuf]
  @rounds 21
  @samples_per_series 20

  def main(argv) do
    options = Arguments.parse!(argv, [peep: :string], "bin/bench --scrape")
    DSPexTelemetry.detach()
    Logger.configure(level: :none)
    costs(options[:peep])
    producers()
  end

  # One histogram of 14 bounds for each series: sizes are left out. Beside it, the same with the bounds that
  # durations have by default.

  defp costs(peep) do
    peep = if peep, do: start_peep(peep)
    buckets = %{dspex_bridge_call_method_duration: @bounds}

    owners =
      for options <- [[name: @instance, buckets: buckets], [name: @by_default]] do
        {:ok, owner} = DSPexTelemetry.start_link([series_limit: 20_000] ++ options)
        owner
      end

    times =
      for series <- [2_000, 20_000], into: %{} do
        fill(series, peep)
        # What takes long needs fewer rounds.
        rounds = if series > 2_000, do: div(@rounds, 3), else: @rounds
        {series, measure(series, rounds, candidates(peep))}
      end

    for format <- @formats do
      growth = times[20_000][format] / times[2_000][format] / 10
      IO.puts("scrape #{format}, per series of 20,000 / of 2,000: #{ratio(growth)}")
    end

    for {series, times} <- times, format <- @formats do
      IO.puts(
        "default bounds / 14 bounds, scrape #{format}, #{series} series: " <>
          ratio(times[{:default, format}] / times[format])
      )
    end

    if peep do
      for {series, times} <- times,
          baseline <- [:peep, :peep_export],
          format <- @formats do
        IO.puts(
          "#{baseline} / scrape #{format}, #{series} series: #{ratio(times[baseline] / times[format])}"
        )
      end
    end

    Enum.each(owners, &GenServer.stop/1)
  end

  defp fill(series, peep) do
    for number <- 0..(series - 1), sample <- 1..@samples_per_series do
      # Log-uniform over three decades from 1 ms on.
      exponent = :erlang.phash2({number, sample}, 1_000) / 1_000
      duration_us = trunc(:math.pow(1_000, exponent) * 1_000)

      metadata = %{
        method: "method_#{rem(number, 100)}",
        python_class: "Class#{div(number, 100)}",
        success: true,
        cached: false
      }

      :telemetry.execute(
        @event,
        %{duration: System.convert_time_unit(duration_us, :microsecond, :native)},
        metadata
      )

      if peep, do: :telemetry.execute([:bench, :call], %{duration: duration_us}, metadata)
    end
  end

  defp candidates(peep) do
    ours =
      for {instance, by_default?} <- [{@instance, false}, {@by_default, true}],
          format <- @formats do
        name = if by_default?, do: {:default, format}, else: format

        {name, fn -> nil end,
         fn nil -> DSPexTelemetry.scrape(instance: instance, format: format) end}
      end

    if peep, do: ours ++ peep, else: ours
  end

  # Interleaved, each run in a process of its own, whose heap is empty; medians.
  defp measure(series, count, candidates) do
    rounds =
      for _round <- 1..count,
          do: Enum.map(candidates, fn {_name, prepare, run} -> time(prepare, run) end)

    for {{name, _prepare, _run}, times} <- Enum.zip(candidates, Enum.zip_with(rounds, & &1)),
        into: %{} do
      {median, bytes} = times |> Enum.sort() |> Enum.at(div(count, 2))

      IO.puts(
        "#{series} series, #{title(name)}: #{Float.round(median / 1_000, 2)} ms, #{bytes} bytes"
      )

      {name, median}
    end
  end

  defp title({:default, format}), do: "#{format} with default bounds"
  defp title(name), do: name

  defp time(prepare, run) do
    timed = fn ->
      prepared = prepare.()
      {microseconds, output} = :timer.tc(fn -> run.(prepared) end)
      {microseconds, IO.iodata_length(output)}
    end

    timed |> Task.async() |> Task.await(:infinity)
  end

  # Peep 4 and what it needs, compiled into one folder.

  defp start_peep(ebin) do
    true = Code.prepend_path(ebin)

    unless Code.ensure_loaded?(Peep),
      do: Arguments.stop("there is no Elixir.Peep.beam in #{ebin}", "bin/bench --scrape --peep")

    {buckets, _bindings} =
      Code.eval_quoted(
        quote do
          defmodule Bench.Buckets do
            use Peep.Buckets.Custom, buckets: unquote(@bounds)
          end
        end
      )

    {:module, module, _binary, _term} = buckets

    labels = [:method, :python_class]

    metrics = [
      apply(Telemetry.Metrics, :counter, [
        [:bench, :call, :total],
        [tags: labels ++ [:success, :cached]]
      ]),
      apply(Telemetry.Metrics, :distribution, [
        [:bench, :call, :duration],
        [tags: labels, reporter_options: [peep_bucket_calculator: module]]
      ])
    ]

    name = :bench_peep
    {:ok, _pid} = apply(Peep, :start_link, [[name: name, metrics: metrics]])
    all = fn -> apply(Peep, :get_all_metrics, [name]) end
    export = fn metrics -> apply(Peep.Prometheus, :export, [metrics]) end

    [
      {:peep, fn -> nil end, fn nil -> IO.iodata_to_binary(export.(all.())) end},
      # Without collecting them first, and as a list of parts.
      {:peep_export, all, export}
    ]
  end

  # Two producers at full speed beside a scrape in a loop, and beside a process of plain Elixir that
  # is as busy.

  @producing_ms 300
  @series 2_000

  defp producers do
    {:ok, owner} = DSPexTelemetry.start_link(name: @instance, series_limit: @series)
    fill(@series, nil)
    events = Events.build(100)
    scrape = fn -> DSPexTelemetry.scrape(instance: @instance) end
    plain = fn -> Enum.reduce(1..50_000, 0, &rem(&1 * &2 + 1, 65_536)) end
    rounds = for _round <- 1..@rounds, do: [produce(events, plain), produce(events, scrape)]

    [plain, scrape] =
      for rates <- Enum.zip_with(rounds, & &1), do: Enum.at(Enum.sort(rates), div(@rounds, 2))

    IO.puts(
      "events/s of 2 producers beside a busy process: #{round(plain)}, " <>
        "beside a scrape in a loop: #{round(scrape)}"
    )

    IO.puts("beside a scrape in a loop / beside a busy process: #{ratio(scrape / plain)}")
    GenServer.stop(owner)
  end

  # Events per second.
  defp produce(events, busy) do
    produced = :counters.new(1, [:write_concurrency])
    stop = :atomics.new(1, [])
    loop = fn -> until(stop, busy) end
    emit = fn -> until(stop, fn -> emit_all(events, produced) end) end
    tasks = Enum.map([loop, emit, emit], &Task.async/1)
    # Time for all three to get going.
    wait(div(@producing_ms, 3))
    {before, started} = {:counters.get(produced, 1), System.monotonic_time(:microsecond)}
    wait(@producing_ms)
    {later, ended} = {:counters.get(produced, 1), System.monotonic_time(:microsecond)}
    :atomics.put(stop, 1, 1)
    Task.await_many(tasks, :infinity)
    (later - before) / (ended - started) * 1_000_000
  end

  defp until(stop, run) do
    if :atomics.get(stop, 1) == 0 do
      run.()
      until(stop, run)
    end
  end

  defp emit_all(events, produced) do
    for index <- 0..(tuple_size(events) - 1) do
      {measurements, metadata} = elem(events, index)
      :telemetry.execute(@event, measurements, metadata)
    end

    :counters.add(produced, 1, tuple_size(events))
  end

  defp wait(ms) do
    receive do
    after
      ms -> :ok
    end
  end

  defp ratio(number), do: :erlang.float_to_binary(number / 1, decimals: 2)
end

Bench.Scrape.main(System.argv())
