defmodule DSPexTelemetry.InstanceSupervisor do
  @moduledoc false
  # An instance and the processes that live on it. If the instance has to start again, it has new
  # handlers and empty series, and the others start again with it.

  use Supervisor

  alias DSPexTelemetry.{Dispatcher, Instance, Options, PerformanceMonitor, UsageAnalytics}

  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(options) do
    name = {:via, Registry, {Instance.registry(), {:supervisor, options.name}}}
    Supervisor.start_link(__MODULE__, options, name: name)
  end

  @impl true
  def init(options) do
    children = [
      {Instance, options},
      {Dispatcher, options},
      {PerformanceMonitor, options},
      {UsageAnalytics, options}
    ]

    Supervisor.init(children, strategy: :rest_for_one)
  end
end
