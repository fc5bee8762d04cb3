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

  # The library's tests know what Snakepit emits.
  defp elixirc_paths(:test),
    do: [
      "lib",
      "test/support",
      Path.expand("../../test/support/lib/snakepit_samples.ex", __DIR__)
    ]

  defp elixirc_paths(_), do: ["lib"]

  # No `mod:` — the pool starts when somebody asks for it, not because the code is loaded.
  def application, do: [extra_applications: extra_applications(Mix.env())]

  # The tests talk to servers over HTTP.
  defp extra_applications(:test), do: [:logger, :inets]
  defp extra_applications(_), do: [:logger]
end
