defmodule TelemetryStandIn.MixProject do
  use Mix.Project

  # The API level this stand-in answers to, not a release of its own: 1.4 is the one with persist/0.
  @version "1.4.0"

  def project do
    [
      app: :telemetry,
      version: @version,
      description: "In-repository stand-in for the telemetry library",
      language: :erlang,
      deps: []
    ]
  end

  def application do
    [
      mod: {:telemetry_app, []},
      registered: [:telemetry_sup, :telemetry_handler_table]
    ]
  end
end
