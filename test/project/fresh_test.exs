defmodule DSPexTelemetry.Project.FreshTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  # The first run builds the Rust library, should it be older than its sources.
  @moduletag timeout: 600_000
  @moduletag :tmp_dir

  @root Path.expand("../..", __DIR__)

  @mix_exs """
  defmodule Fresh.MixProject do
    use Mix.Project

    def project do
      [
        app: :fresh,
        version: "0.1.0",
        deps: [{:dspex_telemetry, path: #{inspect(@root)}}]
      ]
    end

    def application, do: [extra_applications: [:logger], mod: {Fresh.Application, []}]
  end
  """

  @application """
  defmodule Fresh.Application do
    use Application

    def start(_type, _args) do
      children = [{DSPexTelemetry, name: Fresh.Telemetry, series_limit: 10}]
      Supervisor.start_link(children, strategy: :one_for_one)
    end
  end
  """

  @script """
  alias DSPexTelemetry.Emit

  {:ok, ref} = Emit.create_instance(%{python_class: "Index"}, fn -> {:ok, "ref-1"} end)
  for _ <- 1..3, do: Emit.call_method(%{ref: ref, method: "search"}, fn -> {:ok, 42} end)
  {:error, :no} = Emit.call_method(%{ref: ref, method: "search"}, fn -> {:error, :no} end)
  Emit.worker_spawned(%{startup_time: 1_000}, %{worker_id: "w", python_version: "3.11"})

  for instance <- [DSPexTelemetry, Fresh.Telemetry] do
    IO.inspect(instance)
    IO.puts(DSPexTelemetry.report(instance: instance))
    IO.puts(DSPexTelemetry.report(instance: instance, format: :json))
  end
  """

  test "a new project that depends on this one by path compiles, records and reports",
       %{tmp_dir: folder} do
    write!(folder, [
      {"mix.exs", @mix_exs},
      {"lib/fresh.ex", @application},
      {"record.exs", @script}
    ])

    mix!(folder, ["deps.get"])
    compiled = mix!(folder, ["compile"])
    assert compiled =~ "Generated dspex_telemetry app"
    assert compiled =~ "Generated fresh app"
    refute compiled =~ "warning"

    # Nothing is left to do, not for cargo either.
    assert mix!(folder, ["compile"]) == ""

    output = mix!(folder, ["run", "record.exs"])

    assert [_nothing, default, own] =
             String.split(output, ~r/^(?:DSPexTelemetry|Fresh.Telemetry)$/m)

    for text <- [default, own] do
      assert text =~ ~r/^Method calls\n.*\n  search +Index +4 +1 +25\.00 /m
      assert text =~ ~r/^Instances created\n.*\n  Index +1 +0 +0\.00 /m
      assert text =~ ~r/^Worker pool\n  size 1, spawned 1, died 0$/m

      assert text =~
               ~r/^\{"interval":\{[^}]*\},"operations":\[\{"method":"search","python_class":"Index","count":4,/m
    end
  end

  test "where nothing is built yet and cargo is missing, the compiler says that and nothing else",
       %{tmp_dir: folder} do
    for part <- ["mix.exs", "lib", "priv/page", "test/support/telemetry"] do
      copy = Path.join(folder, part)
      File.mkdir_p!(Path.dirname(copy))
      File.cp_r!(Path.join(@root, part), copy)
    end

    File.rm_rf!(Path.join(folder, "test/support/telemetry/_build"))
    {output, status} = mix(folder, ["compile"], [{"DSPEX_TELEMETRY_CARGO", "no-such-cargo"}])
    assert status == 1

    assert [_compiling, "Generated dspex_telemetry app", message] =
             output
             |> String.split("==> dspex_telemetry\n")
             |> List.last()
             |> String.split("\n", trim: true)

    assert message =~ ~r/^dspex_telemetry: no-such-cargo was not found\./
  end
end
