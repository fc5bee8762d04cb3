defmodule DSPexTelemetry.Dashboard.Alerts do
  @moduledoc false
  # The alerts of the rules in priv/prometheus.

  @names ~w(CircuitBreakerOpen ErrorBudgetBurn ErrorSpike HandlersDetached HighErrorRate HighLatency PoolSaturated
            QueueSaturation RejectedEvents SeriesNearLimit SeriesOverflow SignalLoss TelemetryAbsent TelemetryPanic
            TelemetryTargetDown WorkerPoolEmpty WorkerPoolUnhealthy)

  @doc "The names of the alerts."
  @spec names() :: [String.t()]
  def names, do: @names

  @doc "The series that Prometheus has of them while they are pending or firing."
  @spec series(String.t()) :: String.t()
  def series(matchers),
    do: ~s(ALERTS{alertname=~"#{Enum.join(@names, "|")}", #{matchers}})
end
