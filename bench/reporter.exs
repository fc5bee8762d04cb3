# What metrics of Telemetry.Metrics cost per event, through :telemetry.execute and minus a handler that does
# nothing, beside Peep's for the same metrics. See bin/bench --help.

Code.require_file("support.exs", __DIR__)

defmodule Bench.Definitions do
  # Definitions as Telemetry.Metrics makes them, which need not be installed for this.

  for {name, struct} <- [counter: "Counter", distribution: "Distribution"] do
    def unquote(name)(event, measurement, reporter_options) do
      %{
        __struct__: unquote(:"Elixir.Telemetry.Metrics.#{struct}"),
        name: event ++ [measurement],
        event_name: event,
        measurement: measurement,
        tags: [:method, :python_class],
        tag_values: &Function.identity/1,
        keep: nil,
        description: nil,
        unit: :unit,
        reporter_options: reporter_options
      }
    end
  end

  # The same, as a unit conversion or a function of one's own makes a computed metric of it.
  def computed(definition), do: %{definition | measurement: & &1.duration}
end

defmodule Bench.Reporter do
  alias Bench.{Arguments, Definitions, Events, Loops}

  @bounds [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000] ++
            [1_000_000, 2_500_000, 10_000_000, 60_000_000]
  @series [1, 100, 1_000]
  @rounds 15
  @events 40_000

  def main(argv) do
    options = Arguments.parse!(argv, [peep: :string], "bin/bench --reporter")
    DSPexTelemetry.detach()
    Logger.configure(level: :none)
    attach_nothing()
    ours()
    peep = if ebin = options[:peep], do: start_peep(ebin), else: []
    names = [:noop, :plain, :computed] ++ peep
    IO.puts("ns per event, medians of #{@rounds} rounds, a handler that does nothing subtracted")

    for producers <- [1, 2], series <- @series do
      times = measure(names, producers, series)

      for name <- names -- [:noop] do
        cost = times[name] - times.noop
        baseline = if name in peep, do: "", else: versus(cost, times, peep)
        IO.puts("#{producers} producers, #{series} series, #{name}: #{round(cost)}#{baseline}")
      end
    end
  end

  defp versus(cost, times, peep) do
    Enum.map(peep, fn name ->
      share = (times[name] - times.noop) / cost
      ", #{name} / ours: #{:erlang.float_to_binary(share, decimals: 2)}"
    end)
  end

  defp event(name), do: [:bench, name]

  def nothing(_event, _measurements, _metadata, _config), do: :ok

  defp attach_nothing, do: :telemetry.attach(:nothing, event(:noop), &__MODULE__.nothing/4, nil)

  defp definitions(name, reporter_options) do
    [
      Definitions.counter(event(name), :total, []),
      Definitions.distribution(event(name), :duration, reporter_options)
    ]
  end

  defp ours do
    plain = definitions(:plain, buckets: @bounds)
    [counter, distribution] = definitions(:computed, buckets: @bounds)
    metrics = plain ++ [counter, Definitions.computed(distribution)]
    {:ok, _pid} = DSPexTelemetry.start_link(name: Bench.Reported, metrics: metrics)
  end

  # Peep 4 and what it needs, compiled into one folder: with its own buckets, and with ours.
  defp start_peep(ebin) do
    true = Code.prepend_path(ebin)

    unless Code.ensure_loaded?(Peep),
      do: Arguments.stop("there is no Elixir.Peep.beam in #{ebin}", "bin/bench --reporter --peep")

    {{:module, buckets, _binary, _term}, _bindings} =
      Code.eval_quoted(
        quote do
          defmodule Bench.Buckets do
            use Peep.Buckets.Custom, buckets: unquote(@bounds)
          end
        end
      )

    for {name, options} <- [peep: [], peep_same_buckets: [peep_bucket_calculator: buckets]] do
      metrics = definitions(name, options)
      {:ok, _pid} = apply(Peep, :start_link, [[name: name, metrics: metrics]])
      name
    end
  end

  # Interleaved, each in new processes.
  defp measure(names, producers, series) do
    events = Events.build(series)
    for name <- names, do: run(name, producers, events, 1_000)

    rounds =
      for _round <- 1..@rounds, name <- names, do: {name, run(name, producers, events, @events)}

    for {name, times} <- Enum.group_by(rounds, &elem(&1, 0), &elem(&1, 1)), into: %{} do
      {name, Enum.at(Enum.sort(times), div(@rounds, 2))}
    end
  end

  # Nanoseconds per event of a producer.
  defp run(name, producers, events, count) do
    tasks =
      for _producer <- 1..producers do
        Task.async(fn ->
          receive do
            :go -> :ok
          end

          started = System.monotonic_time(:nanosecond)
          Loops.execute(count, events, event(name))
          (System.monotonic_time(:nanosecond) - started) / count
        end)
      end

    for task <- tasks, do: send(task.pid, :go)
    tasks |> Task.await_many(:infinity) |> Enum.sum() |> Kernel./(producers)
  end
end

Bench.Reporter.main(System.argv())
