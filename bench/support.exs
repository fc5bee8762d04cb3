defmodule Bench.EmptyNif do
  # NIFs that do nothing: `empty` through #[rustler::nif], `bare` without its wrapper.

  @on_load :init
  def init do
    :erlang.load_nif(String.to_charlist(System.fetch_env!("BENCH_NIF")), 0)
  end

  # As many arguments as the one that routes has.
  def empty(_a, _b, _c), do: :erlang.nif_error(:not_loaded)
  def bare(_a, _b, _c), do: :erlang.nif_error(:not_loaded)

  def empty(_a, _b, _c, _d, _e, _f, _g, _h), do: :erlang.nif_error(:not_loaded)
  def bare(_a, _b, _c, _d, _e, _f, _g, _h), do: :erlang.nif_error(:not_loaded)
end

defmodule Bench.Arguments do
  # What was given on the command line; anything else ends the benchmark.

  def parse!(argv, switches, command) do
    case OptionParser.parse(argv, strict: switches) do
      {options, [], []} -> options
      {_, rest, invalid} -> stop("unknown arguments: #{inspect(rest ++ invalid)}", command)
    end
  end

  def stop(message, command) do
    IO.puts(:stderr, "#{command}: #{message}; see bin/bench --help")
    System.halt(2)
  end
end

defmodule Bench.SpecMonitor do
  # The PerformanceMonitor of the specification: one cast for each event.
  use GenServer

  def start_link(_options), do: GenServer.start_link(__MODULE__, [])

  def handle_event(_event, measurements, metadata, server),
    do: GenServer.cast(server, {:operation_completed, measurements, metadata})

  @impl true
  def init([]), do: {:ok, %{operations: %{}}}

  @impl true
  def handle_cast({:operation_completed, measurements, metadata}, state) do
    key = {metadata.method, metadata.python_class}
    none = %{count: 0, total_duration: 0, max_duration: 0, errors: 0}
    stats = Map.get(state.operations, key, none)

    updated = %{
      stats
      | count: stats.count + 1,
        total_duration: stats.total_duration + measurements.duration,
        max_duration: max(stats.max_duration, measurements.duration)
    }

    {:noreply, put_in(state.operations[key], updated)}
  end

  @impl true
  def handle_call(:sync, _from, state), do: {:reply, :ok, state}
end

defmodule Bench.Events do
  # call_method stops: as many as there are series, at least 128, rounded up to a power of two so
  # that a producer picks one by masking a counter. Not more, because terms of real events have just
  # been made and are in the cache.

  def build(series) do
    :rand.seed(:exsss, {1, 2, 3})

    size = Enum.find(Stream.iterate(128, &(&1 * 2)), &(&1 >= series))

    0..(size - 1)
    |> Enum.map(fn index ->
      number = rem(index * 7919, series)

      # Log-uniform over three decades, 1 ms to 1 s, as calls to a pool of workers are spread.
      duration = trunc(:math.exp(:rand.uniform() * :math.log(1_000)) * 1_000_000)

      {%{duration: duration, result_size: 100 + :rand.uniform(2_000)},
       %{
         ref: "ref-#{number}",
         method: "method_#{rem(number, 100)}",
         python_class: "Class#{div(number, 100)}",
         success: rem(index, 50) != 0,
         cached: false
       }}
    end)
    |> List.to_tuple()
  end

  @doc "The same events as argument lists of the NIF."
  def arguments(events, plan) do
    events
    |> Tuple.to_list()
    |> Enum.map(fn {measurements, metadata} ->
      {plan, measurements.duration, measurements.result_size, metadata.ref, metadata.method,
       metadata.success, metadata.cached, metadata.python_class}
    end)
    |> List.to_tuple()
  end

  @doc "The same events without the class, which the library then finds by the reference."
  def without_class(events) do
    events
    |> Tuple.to_list()
    |> Enum.map(fn {measurements, metadata} ->
      {measurements, Map.delete(metadata, :python_class)}
    end)
    |> List.to_tuple()
  end
end

defmodule Bench.Results do
  # Results of 1 KB as Python workers return them, and the arguments that they are found by.

  # Of most shapes there are few results. Those of the last are asked for in turn, and are more than a
  # scheduler remembers.
  def shapes, do: [:binary, :floats, :documents, :many_binaries]

  @doc "Lists of arguments: 128, or 16,384."
  def keys(shape) do
    for number <- 1..if(shape == :many_binaries, do: 16_384, else: 128) do
      ["what is the capital of country #{number} of #{shape}", %{"k" => 10, "lang" => "en"}]
    end
    |> List.to_tuple()
  end

  def result(shape) when shape in [:binary, :many_binaries],
    do: {:ok, :crypto.strong_rand_bytes(1_024)}

  def result(:floats), do: {:ok, for(_ <- 1..113, do: :rand.uniform())}

  def result(:documents) do
    documents =
      for number <- 1..9 do
        %{"id" => number, "score" => :rand.uniform(), "title" => String.duplicate("word ", 10)}
      end

    {:ok, documents}
  end
end

defmodule Bench.Loops do
  # Loops of the same shape, so that what one costs more than another is what it calls.
  import Bitwise

  def noop(_event, _measurements, _metadata, _config), do: :ok

  def loop(0, _events), do: :ok

  def loop(n, events) do
    nothing(elem(events, n &&& tuple_size(events) - 1))
    loop(n - 1, events)
  end

  def execute(0, _events, _name), do: :ok

  def execute(n, events, name) do
    {measurements, metadata} = elem(events, n &&& tuple_size(events) - 1)
    :telemetry.execute(name, measurements, metadata)
    execute(n - 1, events, name)
  end

  # The arguments are constants: only the call itself is measured.
  for {function, nif} <- [empty_constants: :empty, bare_constants: :bare] do
    def unquote(function)(0, _events), do: :ok

    def unquote(function)(n, events) do
      event = nothing(elem(events, n &&& tuple_size(events) - 1))
      Bench.EmptyNif.unquote(nif)(event, :b, :c, :d, :e, :f, :g, :h)
      unquote(function)(n - 1, events)
    end
  end

  # The arguments are the event's eight values, as a handler has to get hold of them.
  for {function, module} <- [empty: Bench.EmptyNif, record: DSPexTelemetry.Native] do
    def unquote(function)(0, _arguments), do: :ok

    def unquote(function)(n, arguments) do
      {a, b, c, d, e, f, g, h} = elem(arguments, n &&& tuple_size(arguments) - 1)
      unquote(module).unquote(function)(a, b, c, d, e, f, g, h)
      unquote(function)(n - 1, arguments)
    end
  end

  def ets(0, _arguments, _table), do: :ok

  def ets(n, arguments, table) do
    {_plan, duration, _size, _ref, method, _success, _cached, class} =
      elem(arguments, n &&& tuple_size(arguments) - 1)

    :ets.update_counter(table, {method, class}, [{2, 1}, {3, duration}], {{method, class}, 0, 0})
    ets(n - 1, arguments, table)
  end

  def ets_lookup(0, _keys, _table), do: :ok

  def ets_lookup(n, keys, table) do
    [{_key, _result}] =
      :ets.lookup(table, {"embed", "ref-1", elem(keys, n &&& tuple_size(keys) - 1)})

    ets_lookup(n - 1, keys, table)
  end

  def cache_get(0, _keys, _call), do: :ok

  def cache_get(n, keys, call) do
    key = elem(keys, n &&& tuple_size(keys) - 1)
    {:ok, _result} = DSPexTelemetry.AdaptiveCache.get("embed", key, call)
    cache_get(n - 1, keys, call)
  end

  def cache_fetch(0, _keys, _call), do: :ok

  def cache_fetch(n, keys, call) do
    key = elem(keys, n &&& tuple_size(keys) - 1)
    {:ok, _result} = DSPexTelemetry.AdaptiveCache.fetch("embed", key, call, fn -> :miss end)
    cache_fetch(n - 1, keys, call)
  end

  def counters(0, _arguments, _counters), do: :ok

  def counters(n, arguments, counters) do
    {_plan, duration, _size, _ref, _method, _success, _cached, _class} =
      elem(arguments, n &&& tuple_size(arguments) - 1)

    :counters.add(counters, 1, 1)
    :counters.add(counters, 2, duration)
    counters(n - 1, arguments, counters)
  end

  def execute_genserver(n, events, name, server) do
    execute(n, events, name)
    {:message_queue_len, backlog} = Process.info(server, :message_queue_len)
    backlog
  end

  defp nothing(event), do: event
end
