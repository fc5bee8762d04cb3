defmodule DSPexTelemetry.SnakepitTesting do
  @moduledoc """
  Events as Snakepit emits them, and what a scrape says of them.
  """

  alias DSPexTelemetry.SnakepitSamples

  @stop [:snakepit, :grpc_worker, :execute, :stop]

  def emit(events),
    do: for({name, measurements, metadata} <- events, do: emit(name, measurements, metadata))

  def emit(name, measurements, metadata), do: :telemetry.execute(name, measurements, metadata)

  @doc "Emits that Snakepit has executed a command."
  def execute(command, status \\ :ok, more \\ %{}) do
    metadata = Map.merge(SnakepitSamples.execution(:execute, command), %{status: status})
    emit(@stop, %{duration: 2_000_000, duration_ms: 2, executions: 1}, Map.merge(metadata, more))
  end

  @doc "Samples of a scrape that are not zero, as lines without buckets, of these metrics."
  def scraped(instance, metrics) do
    for line <- String.split(DSPexTelemetry.scrape(instance: instance), "\n"),
        [_all, name] <- [Regex.run(~r/^(\w+?)(?:_sum|_count)?(?:\{.*\})? \S+$/, line)],
        name in metrics,
        not String.ends_with?(line, " 0"),
        do: line
  end
end
