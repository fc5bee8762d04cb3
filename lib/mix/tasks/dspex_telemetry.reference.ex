defmodule Mix.Tasks.DspexTelemetry.Reference do
  @shortdoc "Writes docs/reference.md from the event catalogue"

  @moduledoc """
  Writes `docs/reference.md`, the reference of events, metrics and options, from the tables that
  the library reads.

      mix dspex_telemetry.reference [--check]

    * `--check` - writes nothing, and fails if the file is not current

  For work on the library itself: run it after a change of the catalogue or the options, in the
  library's own folder.
  """

  use Mix.Task

  @requirements ["compile"]
  @path "docs/reference.md"

  @impl true
  def run(arguments) do
    unless Mix.Project.config()[:app] == :dspex_telemetry do
      Mix.raise("run this in the folder of dspex_telemetry; the reference is that library's")
    end

    case OptionParser.parse(arguments, strict: [check: :boolean]) do
      {[check: true], [], []} -> check()
      {[], [], []} -> write()
      _other -> Mix.raise("usage: mix dspex_telemetry.reference [--check]")
    end
  end

  defp write do
    File.mkdir_p!(Path.dirname(@path))
    File.write!(@path, DSPexTelemetry.Reference.render())
    Mix.shell().info("wrote #{@path}")
  end

  defp check do
    if File.read(@path) == {:ok, DSPexTelemetry.Reference.render()} do
      :ok
    else
      Mix.raise("#{@path} is not current; run mix dspex_telemetry.reference and commit the file")
    end
  end
end
