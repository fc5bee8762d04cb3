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
      docs: docs()
    ]
  end

  def application do
    [
      extra_applications: [:crypto, :inets, :logger, :public_key, :ssl],
      mod: {DSPexTelemetry.Application, []}
    ]
  end

  # The bridge demo replays recordings of events, and the tests read them with the same module.
  defp elixirc_paths(:test),
    do: ["lib", "test/support/lib", "examples/bridge/lib/bridge/recording.ex"]

  defp elixirc_paths(_env), do: ["lib"]

  # Where Hex is not installed, the stand-in behaves like telemetry 1.4; see README.md.
  defp deps do
    if Code.ensure_loaded?(Hex) do
      # DSPexTelemetry.Plug calls it where an application has it, and is compiled without.
      # Spans with measurements of their own, which DSPexTelemetry.Emit has, came in 1.3.
      [{:telemetry, "~> 1.3"}, {:plug, "~> 1.11", optional: true}]
    else
      [{:telemetry, path: "test/support/telemetry"}]
    end
  end

  # Read by `mix docs` where ExDoc is a dependency, and by bin/docs.
  defp docs do
    [
      main: "readme",
      assets: %{
        "docs/images" => "docs/images",
        "priv/grafana" => "priv/grafana",
        "priv/prometheus" => "priv/prometheus"
      },
      extras: [
        "README.md",
        "docs/getting_started.md",
        "docs/tour.livemd",
        "docs/handlers.md",
        "docs/phoenix.md",
        "docs/dspex.md",
        "docs/snakepit.md",
        "docs/telemetry_metrics.md",
        "docs/production.md",
        "docs/dashboard.md",
        "docs/runbooks.md",
        "docs/otlp.md",
        "docs/cluster.md",
        "docs/routing.md",
        "docs/caching.md",
        "docs/reference.md",
        "docs/architecture.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE"
      ],
      groups_for_extras: [
        Guides:
          ~r{docs/(getting_started|tour|handlers|phoenix|dspex|snakepit|telemetry_metrics|production)},
        Operating: ~r{docs/(dashboard|runbooks|otlp|cluster)},
        "How it works": ~r{docs/(routing|caching|reference|architecture)}
      ],
      groups_for_modules: [
        "What is told": [
          DSPexTelemetry.AdaptiveCache,
          DSPexTelemetry.AdaptiveCache.Failure,
          DSPexTelemetry.Alert,
          DSPexTelemetry.Cluster,
          DSPexTelemetry.Cluster.Report,
          DSPexTelemetry.ErrorAnalyzer,
          DSPexTelemetry.Info,
          DSPexTelemetry.PerformanceMonitor,
          DSPexTelemetry.PerformanceRouter,
          DSPexTelemetry.PerformanceRouter.Ticket,
          DSPexTelemetry.Report,
          DSPexTelemetry.Tools,
          DSPexTelemetry.Top,
          DSPexTelemetry.UsageAnalytics,
          DSPexTelemetry.Window
        ],
        "How it gets out": [
          DSPexTelemetry.Auth,
          DSPexTelemetry.Dashboard,
          DSPexTelemetry.Endpoint,
          DSPexTelemetry.Exemplar,
          DSPexTelemetry.Exposition,
          DSPexTelemetry.OTLP,
          DSPexTelemetry.Plug,
          DSPexTelemetry.Push
        ],
        Inside: [
          DSPexTelemetry.Catalogue,
          DSPexTelemetry.Catalogue.Event,
          DSPexTelemetry.Catalogue.Field,
          DSPexTelemetry.Handler,
          DSPexTelemetry.Name,
          DSPexTelemetry.Reason,
          DSPexTelemetry.Reference,
          DSPexTelemetry.Top.Screen
        ]
      ]
    ]
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      # There is no address of this repository to link to yet.
      links: %{},
      files: ~w(lib native/*/src native/*/Cargo.toml native/reports/benches
                native/instance/tests/memory.rs bench/native Cargo.toml Cargo.lock priv/native/.gitkeep priv/grafana
                priv/page priv/prometheus
                docs mix.exs README.md CONTRIBUTING.md CHANGELOG.md LICENSE .formatter.exs)
    ]
  end
end
