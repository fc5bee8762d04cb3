defmodule DSPexTelemetry.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :dspex_telemetry,
      version: @version,
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      compilers: Mix.compilers() ++ [:dspex_telemetry_native],
      start_permanent: Mix.env() == :prod,
      deps: deps(),
      description:
        "Telemetry for DSPex/Snakepit bridges: the hot path and the histograms in Rust.",
      package: package(),
      docs: [
        main: "readme",
        extras: [
          "README.md",
          "CHANGELOG.md",
          "docs/architecture.md",
          "docs/caching.md",
          "docs/cluster.md",
          "docs/otlp.md",
          "docs/reference.md",
          "docs/routing.md",
          "docs/dashboard.md",
          "docs/runbooks.md",
          "docs/telemetry_metrics.md"
        ]
      ]
    ]
  end

  def application do
    [
      extra_applications: [:crypto, :inets, :logger, :public_key, :ssl],
      mod: {DSPexTelemetry.Application, []}
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support/lib"]
  defp elixirc_paths(_env), do: ["lib"]

  # Where Hex is not installed, the stand-in behaves like telemetry 1.x; see README.md.
  defp deps do
    if Code.ensure_loaded?(Hex) do
      # Plug is no dependency of its own: where an application has it, DSPexTelemetry.Plug is compiled.
      [{:telemetry, "~> 1.0"}, {:plug, "~> 1.11", optional: true}]
    else
      [{:telemetry, path: "test/support/telemetry"}]
    end
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      files: ~w(lib native/core/src native/core/Cargo.toml native/core/benches
                native/nif/src native/nif/Cargo.toml bench/native Cargo.toml Cargo.lock priv/native/.gitkeep priv/grafana
                priv/page priv/prometheus
                docs/*.md mix.exs README.md CHANGELOG.md LICENSE .formatter.exs)
    ]
  end
end
