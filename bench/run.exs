# What recording an event costs, beside what else it could cost on the BEAM. See bin/bench --help.

Code.require_file("support.exs", __DIR__)

defmodule Bench.Run do
  alias Bench.{Arguments, Events, Loops, Results, SpecMonitor}
  alias DSPexTelemetry.AdaptiveCache

  @event [:dspex, :bridge, :call_method, :stop]
  @noop_event [:bench, :bridge, :call_method, :stop]
  @spec_event [:bench, :genserver, :call_method, :stop]

  def main(argv) do
    options =
      Arguments.parse!(argv, [quick: :boolean, cache: :boolean, json: :string], "bin/bench")

    # Only the instance that is measured may handle the events.
    DSPexTelemetry.detach()
    hardware()

    events =
      for series <- [1, 100, 10_000], producers <- [1, 2], !options[:cache], reduce: [] do
        rows -> rows ++ measure_case(series, producers, options)
      end

    cached = for producers <- [1, 2], row <- measure_cache(producers, options), do: row

    unless options[:cache], do: ratios(events)
    cache_ratios(cached)
    if options[:json], do: File.write!(options[:json], json(events ++ cached))
  end

  defp measure_case(series, producers, options) do
    # Many short rounds: a slow spell of the machine then hits few of them.
    {count, rounds} = if options[:quick], do: {50_000, 15}, else: {100_000, 51}

    instance = Bench.Instance

    # One event in fifty fails, which at this rate is a spike of every method: told, but not logged.
    Logger.configure(level: :none)
    {:ok, owner} = DSPexTelemetry.start_link(name: instance, series_limit: 20_000)
    plan = DSPexTelemetry.Instance.Lookup.fetch!(instance).plans[@event]

    events = Events.build(series)
    by_ref = Events.without_class(events)
    arguments = Events.arguments(events, plan)

    for {_measurements, metadata} <- Tuple.to_list(events) do
      DSPexTelemetry.Emit.create_instance(%{python_class: metadata.python_class}, fn ->
        {:ok, metadata.ref}
      end)
    end

    :ok = :telemetry.attach(:bench_noop, @noop_event, &Loops.noop/4, 1)
    table = :ets.new(:bench, [:public, write_concurrency: true])
    counters = :counters.new(2, [:write_concurrency])

    candidates = [
      loop: fn -> Loops.loop(count, events) end,
      execute_noop: fn -> Loops.execute(count, events, @noop_event) end,
      execute_handler: fn -> Loops.execute(count, events, @event) end,
      execute_handler_by_ref: fn -> Loops.execute(count, by_ref, @event) end,
      empty_nif: fn -> Loops.empty(count, arguments) end,
      empty_nif_constants: fn -> Loops.empty_constants(count, events) end,
      bare_nif_constants: fn -> Loops.bare_constants(count, events) end,
      record_nif: fn -> Loops.record(count, arguments) end,
      ets_update_counter: fn -> Loops.ets(count, arguments, table) end,
      counters_add: fn -> Loops.counters(count, arguments, counters) end
    ]

    times = interleave(candidates, producers, count, rounds, "#{series} series")
    genserver = genserver_times(events, producers, options)
    progress("")
    :telemetry.detach(:bench_noop)
    # The instance is linked to us.
    Process.unlink(owner)
    GenServer.stop(owner)

    grouped = Enum.group_by(times ++ genserver, &elem(&1, 0), &elem(&1, 1))
    names = Keyword.keys(candidates) ++ [:genserver_caller, :genserver_end_to_end]

    rows = for name <- names, do: row(name, producers, series, grouped[name])
    table(rows, series, producers, grouped[:genserver_backlog])
    rows
  end

  defp interleave(candidates, producers, count, rounds, what) do
    # Once unmeasured, so that series, caches and the code are there.
    for {_name, run} <- candidates, do: time(producers, count, run)

    # Interleaved: what disturbs the machine for a while disturbs all of them.
    for round <- 1..rounds, {name, run} <- candidates do
      progress("#{what}, #{producers} producers, round #{round} of #{rounds}")
      {name, time(producers, count, run)}
    end
  end

  # Hits of results of 1 KB, and lookups of the same in an ETS table by a key of the same parts.
  defp measure_cache(producers, options) do
    {count, rounds} = if options[:quick], do: {20_000, 15}, else: {50_000, 51}
    instance = Bench.CacheInstance

    cache = [
      cacheable: ["embed"],
      min_calls: 0,
      min_hit_rate: 0,
      calls_for_ttl: 1,
      ttl: 86_400_000
    ]

    {:ok, owner} = DSPexTelemetry.start_link(name: instance, attach: false, cache: cache)
    table = :ets.new(:bench_cache, [:public, read_concurrency: true])
    call = [ref: "ref-1", instance: instance]

    candidates =
      for shape <- Results.shapes() do
        keys = Results.keys(shape)

        for key <- Tuple.to_list(keys) do
          result = Results.result(shape)
          true = :ets.insert(table, {{"embed", "ref-1", key}, result})
          metadata = Map.new(call)
          for _ <- 1..2, do: AdaptiveCache.maybe_cache("embed", key, result, metadata)
          {:ok, ^result} = AdaptiveCache.get("embed", key, call)
        end

        [
          {:"loop_#{shape}", fn -> Loops.loop(count, keys) end},
          {:"ets_lookup_#{shape}", fn -> Loops.ets_lookup(count, keys, table) end},
          {:"cache_get_#{shape}", fn -> Loops.cache_get(count, keys, call) end},
          {:"cache_fetch_#{shape}", fn -> Loops.cache_fetch(count, keys, call) end}
        ]
      end

    candidates = List.flatten(candidates)
    times = interleave(candidates, producers, count, rounds, "cache")
    progress("")
    Process.unlink(owner)
    GenServer.stop(owner)

    grouped = Enum.group_by(times, &elem(&1, 0), &elem(&1, 1))
    rows = for {name, _run} <- candidates, do: row(name, producers, 0, grouped[name])
    IO.puts("\nresults of 1 KB, #{producers} producer(s), ns per lookup and producer")
    print(rows)
    rows
  end

  defp cache_ratios(rows) do
    IO.puts("\nRatios of cache hits, the loop subtracted")

    cost = fn name, producers ->
      Enum.find(rows, &(&1.name == name and &1.producers == producers)).ns_per_event
    end

    for shape <- Results.shapes(), producers <- [1, 2] do
      loop = cost.(:"loop_#{shape}", producers)
      fetch = cost.(:"cache_fetch_#{shape}", producers) - loop
      ets = cost.(:"ets_lookup_#{shape}", producers) - loop

      ratio(
        "cache hit / ETS lookup, 1 KB #{shape}, #{producers} producer(s)",
        fetch / ets,
        "<= 3"
      )
    end
  end

  # Fewer events: each stays in the mailbox until it is handled.
  defp genserver_times(events, producers, options) do
    {count, rounds} = if options[:quick], do: {50_000, 3}, else: {200_000, 5}

    Enum.flat_map(1..rounds, fn _round ->
      {:ok, server} = SpecMonitor.start_link([])
      :ok = :telemetry.attach(:bench_spec, @spec_event, &SpecMonitor.handle_event/4, server)
      started = System.monotonic_time()
      run = fn -> Loops.execute_genserver(count, events, @spec_event, server) end
      backlogs = producers |> spawn_producers(run) |> await()
      caller = System.monotonic_time() - started
      :ok = GenServer.call(server, :sync, :infinity)
      all = System.monotonic_time() - started
      :telemetry.detach(:bench_spec)
      GenServer.stop(server)

      [
        genserver_caller: nanoseconds(caller) / count,
        genserver_end_to_end: nanoseconds(all) / count,
        genserver_backlog: Enum.max(backlogs)
      ]
    end)
  end

  # Nanoseconds per event and producer.
  defp time(producers, count, run) do
    started = System.monotonic_time()
    producers |> spawn_producers(run) |> await()
    nanoseconds(System.monotonic_time() - started) / count
  end

  defp spawn_producers(producers, run), do: for(_ <- 1..producers, do: Task.async(run))
  defp await(tasks), do: Task.await_many(tasks, :infinity)
  defp nanoseconds(native), do: System.convert_time_unit(native, :native, :nanosecond)

  defp row(name, producers, series, times) do
    %{
      name: name,
      producers: producers,
      series: series,
      ns_per_event: median(times),
      min: Enum.min(times),
      max: Enum.max(times)
    }
  end

  defp median(times) do
    sorted = Enum.sort(times)
    middle = div(length(sorted), 2)

    if rem(length(sorted), 2) == 1,
      do: Enum.at(sorted, middle),
      else: (Enum.at(sorted, middle - 1) + Enum.at(sorted, middle)) / 2
  end

  defp table(rows, series, producers, backlogs) do
    IO.puts("\n#{series} series, #{producers} producer(s), ns per event and producer")
    print(rows)
    IO.puts("  the GenServer's backlog when the producers were done: #{Enum.max(backlogs)}")
  end

  defp print(rows) do
    IO.puts("  #{String.pad_trailing("", 24)}    median       min       max")

    for row <- rows do
      numbers = Enum.map_join([row.ns_per_event, row.min, row.max], "", &number/1)
      IO.puts("  #{String.pad_trailing(to_string(row.name), 24)}#{numbers}")
    end
  end

  defp number(value),
    do: value |> :erlang.float_to_binary(decimals: 1) |> String.pad_leading(10)

  defp ratios(rows) do
    cost = fn name, producers, series ->
      Enum.find(rows, &(&1.name == name and &1.producers == producers and &1.series == series)).ns_per_event
    end

    handler = fn producers, series ->
      cost.(:execute_handler, producers, series) - cost.(:execute_noop, producers, series)
    end

    empty = cost.(:empty_nif, 1, 100) - cost.(:loop, 1, 100)
    call = cost.(:empty_nif_constants, 1, 100) - cost.(:loop, 1, 100)
    record = cost.(:record_nif, 1, 100) - cost.(:loop, 1, 100)
    scaling = 2 * cost.(:execute_handler, 1, 1) / cost.(:execute_handler, 2, 1)

    IO.puts("\nRatios, at 100 series and 1 producer where nothing else is said")
    ratio("handler / empty NIF given the same values", handler.(1, 100) / empty, "<= 3.5")
    ratio("handler / empty NIF given constants", handler.(1, 100) / call, "")
    ratio("recording NIF / empty NIF given the same values", record / empty, "")
    ratio("events/s of 2 producers / 1, one series", scaling, ">= 1.7")

    ratio(
      "GenServer end to end / execute with handler",
      cost.(:genserver_end_to_end, 1, 100) / cost.(:execute_handler, 1, 100),
      ""
    )

    ratio(
      "GenServer end to end less loop / handler",
      (cost.(:genserver_end_to_end, 1, 100) - cost.(:execute_noop, 1, 100)) / handler.(1, 100),
      ">= 8"
    )
  end

  defp ratio(name, value, bound) do
    text = :erlang.float_to_binary(value, decimals: 2)
    IO.puts("  #{String.pad_trailing(name, 48)}#{String.pad_leading(text, 8)}  #{bound}")
  end

  defp progress(text) do
    if IO.ANSI.enabled?(), do: IO.write(:stderr, "\r\e[K#{text}")
  end

  defp hardware do
    IO.puts(
      "Elixir #{System.version()}, OTP #{System.otp_release()}, " <>
        "#{System.schedulers_online()} schedulers, #{cpu()}"
    )
  end

  defp cpu do
    with {:ok, text} <- File.read("/proc/cpuinfo"),
         [_, name] <- Regex.run(~r/model name\s*: (.*)/, text) do
      name
    else
      _not_linux -> to_string(:erlang.system_info(:system_architecture))
    end
  end

  defp json(rows) do
    lines =
      for row <- rows do
        ~s({"name":"#{row.name}","producers":#{row.producers},"series":#{row.series},) <>
          ~s("ns_per_event":#{row.ns_per_event},"min":#{row.min},"max":#{row.max}})
      end

    "[\n" <> Enum.join(lines, ",\n") <> "\n]\n"
  end
end

Bench.Run.main(System.argv())
