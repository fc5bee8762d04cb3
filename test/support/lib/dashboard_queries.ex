defmodule DSPexTelemetry.DashboardQueries do
  @moduledoc """
  The dashboard's queries as Grafana sends them to Prometheus: with its variables replaced.
  """

  alias DSPexTelemetry.Dashboard

  @all ".*"

  @doc """
  A query without variables. `values` are those of the variables by name, which are all by default;
  `"__rate_interval"`, `"__interval"` and `"__range"` are durations, one minute and an hour by default.

  Raises for a variable that it does not know.
  """
  @spec concrete(String.t(), %{String.t() => String.t()}) :: String.t()
  def concrete(expression, values \\ %{}) do
    values = Map.merge(defaults(), values)
    Regex.replace(~r/\$(\w+)/, expression, fn _all, name -> Map.fetch!(values, name) end)
  end

  defp defaults do
    Dashboard.Variables.names()
    |> Map.new(&{&1, @all})
    |> Map.merge(%{"__rate_interval" => "1m", "__interval" => "1m", "__range" => "1h"})
  end
end
