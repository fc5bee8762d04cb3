defmodule Bridge.Servers.Alertmanager do
  @moduledoc "An Alertmanager that tells a webhook of every alert on its own, and at once."

  alias Bridge.{JSON, Servers}
  alias Bridge.Servers.Program

  @doc "Starts one under the test's supervisor; `webhook` is an address."
  @spec start(String.t()) :: Program.t()
  def start(webhook) do
    folder = Servers.new_folder("alertmanager")
    File.write!(Path.join(folder, "alertmanager.yml"), JSON.encode!(config(webhook)))

    Program.start(
      name: "alertmanager",
      folder: folder,
      command: [
        "prometheus-alertmanager",
        "--config.file=#{folder}/alertmanager.yml",
        "--storage.path=#{folder}/data",
        "--web.listen-address=127.0.0.1:0",
        # No cluster: it would look for other members, and listen on all addresses.
        "--cluster.listen-address="
      ]
    )
  end

  defp config(webhook) do
    %{
      route: %{
        receiver: "webhook",
        group_by: ["..."],
        group_wait: "0s",
        group_interval: "1s",
        repeat_interval: "1h"
      },
      receivers: [%{name: "webhook", webhook_configs: [%{url: webhook, send_resolved: true}]}]
    }
  end
end
