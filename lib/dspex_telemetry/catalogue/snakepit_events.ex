defmodule DSPexTelemetry.Catalogue.SnakepitEvents do
  @moduledoc false
  # The events that Snakepit 0.13 emits, each with its fields and what it feeds. What it declares and never
  # emits is not here; docs/snakepit.md lists both.

  alias DSPexTelemetry.Catalogue.Event
  alias DSPexTelemetry.Catalogue.SnakepitEvents.{Executions, Failures, Pools, Python, Resources}

  @spec all() :: [Event.t()]
  def all,
    do: Executions.all() ++ Pools.all() ++ Failures.all() ++ Resources.all() ++ Python.all()
end
