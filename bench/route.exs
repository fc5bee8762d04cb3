# What choosing a worker costs, beside an empty NIF given the same arguments. See bin/bench --help.

Code.require_file("support.exs", __DIR__)

defmodule Bench.RouteLoop do
  # A loop over requests around a call.

  defmacro loop_that(name, body) do
    quote do
      def unquote(name)(0, _requests, _name), do: :ok

      def unquote(name)(n, requests, var!(name)) do
        {var!(command), var!(args)} = elem(requests, n &&& tuple_size(requests) - 1)
        _ = {var!(name), var!(args)}
        unquote(body)
        unquote(name)(n - 1, requests, var!(name))
      end
    end
  end
end

defmodule Bench.RouteLoops do
  # Loops of the same shape, so that what one costs more than another is what it calls.
  import Bench.RouteLoop
  import Bitwise

  alias DSPexTelemetry.{Native, PerformanceRouter}

  loop_that(:loop, nothing(command))
  loop_that(:empty_nif, Bench.EmptyNif.empty(name, command, nil))
  loop_that(:bare_nif, Bench.EmptyNif.bare(name, command, nil))
  loop_that(:route_nif, Native.route(name, command, nil))
  loop_that(:route_request, PerformanceRouter.route_request(command, args))
  loop_that(:route_sticky, PerformanceRouter.route_request(command, args, sticky: command))

  loop_that(
    :checkout_complete,
    (
      {:ok, ticket} = PerformanceRouter.checkout(command, args)
      PerformanceRouter.complete(ticket, :success, duration: 10_000_000)
    )
  )

  def names do
    [:loop, :empty_nif, :bare_nif, :route_nif, :route_request, :route_sticky, :checkout_complete]
  end

  defp nothing(command), do: command
end

defmodule Bench.Route do
  alias Bench.RouteLoops
  alias DSPexTelemetry.PerformanceRouter

  def main(argv) do
    {options, [], []} = OptionParser.parse(argv, strict: [quick: :boolean])
    {count, rounds} = if options[:quick], do: {2_000, 201}, else: {2_000, 1_001}
    requests = List.to_tuple(for n <- 0..127, do: {"method_#{rem(n, 20)}", %{query: "q#{n}"}})

    for workers <- [16, 1_000], producers <- [1, 2] do
      prepare(workers, requests)

      run = fn name -> time(producers, count, name, requests) end
      Enum.each(RouteLoops.names(), run)

      times =
        for _round <- 1..rounds, name <- RouteLoops.names(), reduce: %{} do
          times -> Map.update(times, name, [run.(name)], &[run.(name) | &1])
        end

      medians = Map.new(times, fn {name, all} -> {name, median(all)} end)
      print(workers, producers, medians, times |> ratios() |> median())
    end
  end

  # Every worker has done some of everything.
  defp prepare(workers, requests) do
    PerformanceRouter.put_workers([])
    PerformanceRouter.put_workers(for n <- 1..workers, do: "python-worker-#{n}")

    for _round <- 1..(2 * workers), {command, args} <- Enum.take(Tuple.to_list(requests), 20) do
      {:ok, ticket} = PerformanceRouter.checkout(command, args)
      duration = System.convert_time_unit(:rand.uniform(20), :millisecond, :native)
      PerformanceRouter.complete(ticket, :success, duration: duration)
    end

    # Until they have come up, option slow_start.
    Process.sleep(2_100)
  end

  # Nanoseconds per request and producer.
  defp time(producers, count, name, requests) do
    started = System.monotonic_time()
    run = fn -> apply(RouteLoops, name, [count, requests, DSPexTelemetry]) end
    Task.await_many(for(_ <- 1..producers, do: Task.async(run)), :infinity)
    System.convert_time_unit(System.monotonic_time() - started, :native, :nanosecond) / count
  end

  # Of each round, whose loops ran at the same speed of the processor, which changes between rounds.
  defp ratios(%{loop: loops, empty_nif: empty, route_request: routed}) do
    for {loop, empty, routed} <- Enum.zip([loops, empty, routed]),
        empty > loop,
        do: (routed - loop) / (empty - loop)
  end

  defp median(times), do: times |> Enum.sort() |> Enum.at(div(length(times), 2))

  defp print(workers, producers, times, ratio) do
    IO.puts("\n#{workers} workers, #{producers} producer(s), ns per request and producer")

    for name <- RouteLoops.names() do
      text = times |> Map.fetch!(name) |> :erlang.float_to_binary(decimals: 1)
      IO.puts("  #{String.pad_trailing(to_string(name), 24)}#{String.pad_leading(text, 10)}")
    end

    text = :erlang.float_to_binary(ratio, decimals: 2)
    IO.puts("  route_request / empty NIF given the same arguments  #{text}  <= 4")
  end
end

Bench.Route.main(System.argv())
