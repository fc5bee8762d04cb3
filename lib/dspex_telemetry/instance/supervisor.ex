defmodule DSPexTelemetry.Instance.Supervisor do
  @moduledoc false
  # An instance and the processes that live on it. If the instance has to start again, it has new
  # handlers and empty series, and the others start again with it.

  use Supervisor

  alias DSPexTelemetry.{
    Endpoint,
    Instance,
    Options,
    OTLP,
    PerformanceMonitor,
    Push,
    UsageAnalytics
  }

  alias DSPexTelemetry.Alert.Dispatcher
  alias DSPexTelemetry.Instance.Lookup

  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(options) do
    name = {:via, Registry, {Lookup.registry(), {:supervisor, options.name}}}
    Supervisor.start_link(__MODULE__, options, name: name)
  end

  @impl true
  def init(options) do
    children =
      [{Instance, options}] ++
        push(options) ++
        otlp(options) ++
        [{Dispatcher, options}, {PerformanceMonitor, options}, {UsageAnalytics, options}]

    Supervisor.init(children ++ endpoint(options), strategy: :rest_for_one)
  end

  # Nothing lives on it, so it comes last.
  defp endpoint(%{http: nil}), do: []

  defp endpoint(options) do
    [{Endpoint.Supervisor, %{options: options, started: Endpoint.Server.new_started()}}]
  end

  # Both before the others, as their last push or export may take a while: if one of those starts again, they
  # go on.
  defp push(%{push: nil}), do: []
  defp push(options), do: [{Push, options}]

  defp otlp(%{otlp: nil}), do: []
  defp otlp(options), do: [{OTLP, options}]
end
