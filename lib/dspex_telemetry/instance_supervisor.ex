defmodule DSPexTelemetry.InstanceSupervisor do
  @moduledoc false
  # An instance and the processes that live on it. If the instance has to start again, it has new
  # handlers and empty series, and the others start again with it.

  use Supervisor

  alias DSPexTelemetry.{
    Dispatcher,
    Endpoint,
    Instance,
    Options,
    PerformanceMonitor,
    Push,
    UsageAnalytics
  }

  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(options) do
    name = {:via, Registry, {Instance.registry(), {:supervisor, options.name}}}
    Supervisor.start_link(__MODULE__, options, name: name)
  end

  @impl true
  def init(options) do
    children =
      [{Instance, options}] ++
        push(options) ++
        [{Dispatcher, options}, {PerformanceMonitor, options}, {UsageAnalytics, options}]

    Supervisor.init(children ++ endpoint(options), strategy: :rest_for_one)
  end

  # Nothing lives on it, so it comes last.
  defp endpoint(%{http: nil}), do: []

  defp endpoint(options) do
    [{Endpoint.Supervisor, %{options: options, started: Endpoint.Server.new_started()}}]
  end

  # Before the others, as its last push may take a while: if one of them starts again, it goes on.
  defp push(%{push: nil}), do: []
  defp push(options), do: [{Push, options}]
end
