defmodule Mix.Tasks.Compile.DspexTelemetryNative do
  @shortdoc "Builds the Rust library of dspex_telemetry"

  @moduledoc """
  Builds the Rust library with `cargo build --release --locked` and copies it to `priv/native`.

  The task is one of the project's compilers, so `mix compile` runs it, also in a project that
  depends on this one. It does nothing when no file of the Rust sources is newer than the built
  library.

  Cargo's output appears when it builds something. `DSPEX_TELEMETRY_CARGO` names another `cargo`.
  """

  use Mix.Task.Compiler

  @sources ["Cargo.{toml,lock}", "native/*/Cargo.toml", "native/*/src/**/*.rs"]
  @library "telemetry_nif"

  @impl true
  def run(_args) do
    # A path dependency is compiled in its own folder; __DIR__ would be frozen at compile time.
    root = File.cwd!()
    target = Path.join(root, "priv/native/#{@library}.so")

    if stale?(root, target) do
      build(root, target)
    else
      {:noop, []}
    end
  end

  @impl true
  def clean do
    File.rm(Path.join(File.cwd!(), "priv/native/#{@library}.so"))
    :ok
  end

  defp stale?(root, target) do
    case File.stat(target, time: :posix) do
      {:ok, %File.Stat{mtime: built}} ->
        @sources
        |> Enum.flat_map(&Path.wildcard(Path.join(root, &1)))
        |> Enum.any?(&(File.stat!(&1, time: :posix).mtime > built))

      {:error, _reason} ->
        true
    end
  end

  defp build(root, target) do
    cargo = System.get_env("DSPEX_TELEMETRY_CARGO", "cargo")

    with {:ok, path} <- find(cargo),
         :ok <- run_cargo(path, root),
         :ok <- install(built_library(root), target) do
      {:ok, []}
    else
      {:error, message} -> failed(message)
    end
  end

  defp find(cargo) do
    case System.find_executable(cargo) do
      nil ->
        {:error,
         "#{cargo} was not found. dspex_telemetry builds a Rust library: install Rust 1.91 or " <>
           "newer (https://rustup.rs) and make sure that cargo is on the PATH"}

      path ->
        {:ok, path}
    end
  end

  defp run_cargo(path, root) do
    arguments = ["build", "--release", "--locked", "--package", @library]
    # The parent's target folder would otherwise leak in and hide where the library is.
    environment = [{"CARGO_TARGET_DIR", target_dir(root)}]

    {_output, status} =
      System.cmd(path, arguments,
        cd: root,
        env: environment,
        into: IO.stream(),
        stderr_to_stdout: true
      )

    if status == 0,
      do: :ok,
      else: {:error, "#{path} build ended with status #{status}, see above"}
  end

  defp target_dir(root), do: Path.join(root, "target")

  defp built_library(root) do
    extension = if match?({:unix, :darwin}, :os.type()), do: "dylib", else: "so"
    Path.join([target_dir(root), "release", "lib#{@library}.#{extension}"])
  end

  # Copied beside and renamed: a running VM keeps the file that it has mapped.
  defp install(built, target) do
    temporary = target <> ".new"

    with :ok <- File.mkdir_p(Path.dirname(target)),
         :ok <- File.cp(built, temporary),
         :ok <- File.rename(temporary, target) do
      :ok
    else
      {:error, reason} ->
        {:error, "cannot install #{built} as #{target}: #{:file.format_error(reason)}"}
    end
  end

  defp failed(message) do
    Mix.shell().error("dspex_telemetry: " <> message)

    {:error,
     [
       %Mix.Task.Compiler.Diagnostic{
         compiler_name: "dspex_telemetry_native",
         file: "Cargo.toml",
         message: message,
         position: nil,
         severity: :error
       }
     ]}
  end
end
