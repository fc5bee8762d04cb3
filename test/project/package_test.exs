defmodule DSPexTelemetry.Project.PackageTest do
  # What Hex would pack is enough, for Cargo, for Mix and for the reader.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.{Markdown, Package}

  @root Path.expand("../..", __DIR__)

  test "it has every file that a Cargo.toml of it names" do
    files = Package.files()
    manifests = Enum.filter(files, &(Path.basename(&1) == "Cargo.toml"))

    assert Enum.sort(manifests) ==
             Enum.sort(
               ~w(Cargo.toml bench/native/Cargo.toml) ++ Path.wildcard("native/*/Cargo.toml")
             )

    for manifest <- manifests do
      named = Package.named_by(manifest)
      assert named != []
      assert {manifest, named -- files} == {manifest, []}
    end

    assert "native/instance/tests/memory.rs" in Package.named_by("native/instance/Cargo.toml")
    assert "native/nif/Cargo.toml" in Package.named_by("Cargo.toml")
  end

  test "it has every module of its Rust targets" do
    files = Package.files()

    for file <- files, Path.extname(file) == ".rs", named <- modules(file) do
      assert Enum.any?(named, &(&1 in files)),
             "#{file} has a module that is in none of #{inspect(named)}"
    end
  end

  # Where the modules that a file declares may be.
  defp modules(file) do
    folder =
      if Path.basename(file) in ~w(lib.rs mod.rs main.rs) or file =~ ~r"/(tests|benches)/[^/]+$",
        do: Path.dirname(file),
        else: Path.rootname(file)

    for [all, name] <-
          Regex.scan(~r/^(?:#\[path = "[^"]*"\]\n)?(?:pub )?mod (\w+);$/m, File.read!(file)) do
      case Regex.run(~r/path = "([^"]*)"/, all) do
        [_all, path] -> [file |> Path.dirname() |> Path.join(path)]
        nil -> for end_of_path <- [".rs", "/mod.rs"], do: Path.join(folder, name <> end_of_path)
      end
    end
  end

  test "its pages link to what is in it, or absolutely" do
    files = Package.files()
    pages = for file <- files, Path.extname(file) in [".md", ".livemd"], do: file
    links = for page <- pages, link <- links(page), do: {page, link}
    assert length(links) > 20

    for {page, link} <- links do
      path = page |> Path.dirname() |> Path.join(link) |> Path.expand() |> Path.relative_to_cwd()
      assert path in files, "#{page} links to #{link}, which is not in the package"
    end
  end

  # ExDoc finds a page by its name, wherever it is.
  test "its modules' documentation links to pages that are in it, or absolutely" do
    pages = Enum.map(Package.files(), &Path.basename/1)
    links = for "lib/" <> _rest = file <- Package.files(), link <- links(file), do: {file, link}
    assert links != []
    for {file, link} <- links, do: assert(link in pages, "#{file} links to #{link}")
  end

  # Those to files. An address, an anchor of the page and a function of a module are none.
  defp links(file) do
    for link <- file |> File.read!() |> Markdown.links(),
        not (link =~ ~r"^\w+:|^#|^`"),
        do: link |> String.split("#") |> hd()
  end

  test "none of its files is larger than a megabyte" do
    assert [] = for(file <- Package.files(), File.stat!(file).size > 1_000_000, do: file)
  end

  describe "unpacked elsewhere" do
    @describetag :servers
    @describetag :tmp_dir
    # Builds the Rust library.
    @describetag timeout: 900_000

    @mix_exs """
    defmodule Buyer.MixProject do
      use Mix.Project

      def project do
        [
          app: :buyer,
          version: "0.1.0",
          deps: [
            {:dspex_telemetry, path: "../package"},
            # Hex would bring it.
            {:telemetry, path: #{inspect(Path.join(@root, "test/support/telemetry"))}, override: true}
          ]
        ]
      end
    end
    """

    @script """
    DSPexTelemetry.Emit.worker_spawned(%{startup_time: 1_000}, %{worker_id: "w", python_version: "3.11"})
    IO.puts(DSPexTelemetry.report())
    """

    test "it builds, and a project that depends on it records, without a network", %{
      tmp_dir: folder
    } do
      # What Cargo builds is large.
      on_exit(fn -> File.rm_rf!(folder) end)
      package = Path.join(folder, "package")
      Package.unpack!(package)
      project = Path.join(folder, "buyer")

      write!(project, [
        {"mix.exs", @mix_exs},
        {"lib/buyer.ex", "defmodule Buyer, do: nil"},
        {"run.exs", @script}
      ])

      # Quick rather than fast.
      cargo = [
        {"CARGO_NET_OFFLINE", "true"},
        {"CARGO_PROFILE_RELEASE_LTO", "off"},
        {"CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"},
        {"CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"}
      ]

      compiled = mix!(project, ["compile"], cargo)
      assert compiled =~ "Generated buyer app"
      refute compiled =~ "warning"
      assert File.exists?(Path.join(package, "priv/native/telemetry_nif.so"))
      # It is the package that was built: nothing of it is left to do.
      assert mix!(project, ["compile"], cargo) == ""

      assert mix!(project, ["run", "run.exs"], cargo) =~
               ~r/^Worker pool\n  size 1, spawned 1, died 0$/m
    end
  end
end
