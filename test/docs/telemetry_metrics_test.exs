defmodule DSPexTelemetry.Docs.TelemetryMetricsTest do
  # Takes the steps of docs/telemetry_metrics.md in projects like those that mix phx.new generates.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.{Markdown, RecordedScrape}

  @moduletag timeout: 600_000
  @moduletag :tmp_dir

  @root Path.expand("../..", __DIR__)
  @guide File.read!("docs/telemetry_metrics.md")

  # The definitions are those that mix phx.new generates and some 50 more.
  @summaries "phoenix_endpoint_stop_duration"

  # What a project has before: its dependency, its reporter, and how it answers a scrape.
  @projects %{
    "From telemetry_metrics_prometheus_core" =>
      {"{:telemetry_metrics_prometheus_core, \"~> 1.2\"}",
       "{TelemetryMetricsPrometheus.Core, metrics: metrics()}",
       "TelemetryMetricsPrometheus.Core.scrape()"},
    "From Peep" =>
      {"{:peep, \"~> 4.0\"}", "{Peep, name: :my_peep, metrics: metrics(), storage: :striped}",
       "Peep.get_all_metrics(:my_peep) |> Peep.Prometheus.export()"}
  }

  defp files({dependency, reporter, scrape}) do
    [
      {"mix.exs",
       """
       defmodule MyApp.MixProject do
         use Mix.Project

         def project, do: [app: :my_app, version: "0.1.0", deps: deps()]
         def application, do: [extra_applications: [:logger], mod: {MyApp.Application, []}]

         defp deps do
           [
             #{dependency}
           ]
         end
       end
       """},
      {"lib/my_app/application.ex",
       """
       defmodule MyApp.Application do
         use Application

         @impl true
         def start(_type, _args) do
           children = [
             MyAppWeb.Telemetry
           ]

           opts = [strategy: :one_for_one, name: MyApp.Supervisor]
           Supervisor.start_link(children, opts)
         end
       end
       """},
      {"lib/my_app_web/telemetry.ex",
       """
       defmodule MyAppWeb.Telemetry do
         use Supervisor
         import Telemetry.Metrics

         def start_link(arg) do
           Supervisor.start_link(__MODULE__, arg, name: __MODULE__)
         end

         @impl true
         def init(_arg) do
           children = [
             #{reporter}
           ]

           Supervisor.init(children, strategy: :one_for_one)
         end

         def metrics do
           [
             summary("phoenix.endpoint.stop.duration",
               unit: {:native, :millisecond}
             )
             | DSPexTelemetry.RecordedMetrics.definitions()
           ]
         end
       end
       """},
      {"lib/my_app_web/scrape.ex",
       """
       defmodule MyAppWeb.Scrape do
         def text do
           #{scrape}
         end
       end
       """},
      # In the place of telemetry_metrics.
      {"lib/telemetry_metrics.ex", File.read!("test/support/lib/telemetry_metrics.ex")},
      {"lib/recorded_metrics.ex", File.read!("test/support/lib/recorded_metrics.ex")}
    ]
  end

  defp section(heading) do
    [_before, section] = String.split(@guide, "\n## #{heading}\n", parts: 2)
    section |> String.split("\n## ", parts: 2) |> hd()
  end

  # Lines that a step of the guide takes out and puts in.
  defp steps(heading) do
    for %{language: "diff", code: code} <- heading |> section() |> Markdown.blocks() do
      ["-" <> old, "+" <> new] = String.split(code, "\n", trim: true)
      {String.trim(old), String.trim(new)}
    end
  end

  defp take!(folder, {old, new}) do
    paths = [Path.join(folder, "mix.exs") | Path.wildcard(Path.join(folder, "lib/**/*.ex"))]
    # Where the library is, the test knows better than the guide.
    new = String.replace(new, ~s("../dspex_telemetry"), inspect(@root))

    assert [path] = Enum.filter(paths, &(File.read!(&1) =~ old)),
           "no one file has the line #{old}"

    File.write!(path, path |> File.read!() |> String.replace(old, new))
  end

  defp migrate(folder, heading) do
    steps = steps(heading)
    assert length(steps) == 3
    write!(folder, @projects |> Map.fetch!(heading) |> files())
    before = File.read!(Path.join(folder, "lib/my_app_web/telemetry.ex"))
    Enum.each(steps, &take!(folder, &1))
    assert_one_line_differs(before, File.read!(Path.join(folder, "lib/my_app_web/telemetry.ex")))

    mix!(folder, ["deps.get"])
    refute mix!(folder, ["compile"]) =~ "warning"

    [%{code: looks}] =
      heading |> section() |> Markdown.blocks() |> Enum.filter(&(&1.language == "elixir"))

    File.write!(Path.join(folder, "run.exs"), """
    Logger.configure(level: :error)
    for {event, measurements, metadata} <- DSPexTelemetry.RecordedMetrics.events(),
        do: :telemetry.execute(event, measurements, metadata)

    looks = [#{looks |> String.split("\n", trim: true) |> Enum.join(", ")}]
    File.write!("looks", :erlang.term_to_binary(looks))
    File.write!("scrape", MyAppWeb.Scrape.text())
    """)

    mix!(folder, ["run", "run.exs"])

    [rejected, left_out] =
      folder |> Path.join("looks") |> File.read!() |> :erlang.binary_to_term()

    {File.read!(Path.join(folder, "scrape")), rejected, left_out}
  end

  defp assert_one_line_differs(before, later) do
    pairs = Enum.zip(String.split(before, "\n"), String.split(later, "\n"))
    assert length(String.split(before, "\n")) == length(String.split(later, "\n"))
    assert Enum.count(pairs, fn {old, new} -> old != new end) == 1
  end

  for {heading, _before} <- @projects do
    test "#{heading}: the steps lead to the same series", %{tmp_dir: folder} do
      {scrape, rejected, left_out} = migrate(folder, unquote(heading))
      RecordedScrape.assert_recorded(scrape, [@summaries])
      assert scrape =~ ~r/^#{@summaries}\{quantile="0.5"\} /m
      assert scrape =~ ~r/^#{@summaries}_count 6$/m
      # The library's own metrics are beside them: one instance has both.
      assert scrape =~ ~r/^dspex_telemetry_build_info/m
      assert %{metric: "my_app_ratio", reason: "invalid_measurement", count: 1} in rejected
      # As the guide says of Ecto.
      assert {"my_app_repo_query_queue_time", "missing_measurement"} in Enum.map(
               rejected,
               &{&1.metric, &1.reason}
             )

      assert left_out == []
    end
  end
end
