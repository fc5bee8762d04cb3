defmodule DSPexTelemetry.Package do
  @moduledoc "What `mix hex.build` packs."

  @doc "Its files, as paths below the root of the project. Folders are packed whole, as Hex does it."
  @spec files() :: [Path.t()]
  def files do
    for pattern <- DSPexTelemetry.MixProject.project()[:package][:files],
        path <- Path.wildcard(pattern, match_dot: true),
        file <- below(path),
        uniq: true,
        do: file
  end

  defp below(path) do
    if File.dir?(path),
      do:
        path |> Path.join("**") |> Path.wildcard(match_dot: true) |> Enum.filter(&File.regular?/1),
      else: [path]
  end

  @doc "Copies them into a folder."
  @spec unpack!(Path.t()) :: :ok
  def unpack!(folder) do
    for file <- files() do
      target = Path.join(folder, file)
      File.mkdir_p!(Path.dirname(target))
      File.cp!(file, target)
    end

    :ok
  end

  @doc """
  The files that a `Cargo.toml` names: the roots of its targets and the manifests of its members. Cargo refuses a
  manifest of which one is missing, whatever is built.
  """
  @spec named_by(Path.t()) :: [Path.t()]
  def named_by(manifest) do
    text = File.read!(manifest)

    targets =
      for [_all, kind, body] <- Regex.scan(~r/^\[\[(test|bench|example|bin)\]\]\n([^\[]*)/m, text) do
        case Regex.run(~r/^path = "(.*)"$/m, body) || Regex.run(~r/^name = "(.*)"$/m, body) do
          ["path" <> _rest, path] -> path
          ["name" <> _rest, name] -> "#{folder(kind)}/#{name}.rs"
        end
      end

    library = if text =~ ~r/^\[package\]$/m, do: ["src/lib.rs"], else: []

    members =
      for [_all, members] <- Regex.scan(~r/^members = \[(.*)\]$/m, text),
          [_all, member] <- Regex.scan(~r/"(.*?)"/, members),
          do: member <> "/Cargo.toml"

    for path <- targets ++ library ++ members, do: manifest |> Path.dirname() |> join(path)
  end

  defp folder("bench"), do: "benches"
  defp folder("bin"), do: "src/bin"
  defp folder(kind), do: kind <> "s"

  defp join(".", path), do: path
  defp join(folder, path), do: Path.join(folder, path)
end
