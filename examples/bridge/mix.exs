defmodule Bridge.MixProject do
  use Mix.Project

  def project do
    [
      app: :bridge,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      deps: [{:dspex_telemetry, path: "../.."}]
    ]
  end

  # The library's tests know what Snakepit emits, what Grafana asks, and what definitions of Telemetry.Metrics are.
  defp elixirc_paths(:test) do
    of_library = ~w(dashboard_queries snakepit_samples telemetry_metrics)

    ["lib", "test/support"] ++
      for(name <- of_library, do: Path.expand("../../test/support/lib/#{name}.ex", __DIR__))
  end

  defp elixirc_paths(_), do: ["lib"]

  # No `mod:` — the pool starts when somebody asks for it, not because the code is loaded.
  def application, do: [extra_applications: extra_applications(Mix.env())]

  # The tests talk to servers over HTTP.
  defp extra_applications(:test), do: [:logger, :inets]
  defp extra_applications(_), do: [:logger]
end
