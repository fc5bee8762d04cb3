defmodule Bridge.Servers.Webhook do
  @moduledoc "Receives what Alertmanager has to say, and remembers it."

  import ExUnit.Callbacks, only: [start_supervised!: 1]

  alias Bridge.JSON
  alias Bridge.Servers.Listener

  @enforce_keys [:url, :alerts]
  defstruct @enforce_keys

  @type t :: %__MODULE__{url: String.t(), alerts: pid()}
  @typedoc "Its status is `firing` or `resolved`."
  @type alert :: %{
          status: String.t(),
          labels: %{String.t() => String.t()},
          annotations: %{String.t() => String.t()}
        }

  @doc "Starts it under the test's supervisor."
  @spec start() :: t()
  def start do
    alerts = start_supervised!({Agent, fn -> [] end})
    listener = start_supervised!({Listener, &receive_alerts(&1, alerts)})
    %__MODULE__{url: Listener.url(listener), alerts: alerts}
  end

  @doc "The alerts so far, the first one first."
  @spec alerts(t()) :: [alert()]
  def alerts(%__MODULE__{alerts: alerts}), do: alerts |> Agent.get(& &1) |> Enum.reverse()

  defp receive_alerts(%{method: "POST", body: body}, alerts) do
    {:ok, %{"alerts" => told}} = JSON.decode(body)

    for %{"status" => status, "labels" => labels, "annotations" => annotations} <- told do
      alert = %{status: status, labels: labels, annotations: annotations}
      Agent.update(alerts, &[alert | &1])
    end

    %{status: 200, headers: %{}, body: ""}
  end
end
