defmodule Mix.Tasks.DspexTelemetry.Dashboard do
  @shortdoc "Writes the Grafana dashboard"

  @usage """
  Usage: mix dspex_telemetry.dashboard [options]

    --output FILE        where to write it, dspex_telemetry.json by default; - for standard output
    --prefix PREFIX      put before the name of every metric, for metrics that are renamed when they are scraped
    --datasource UID     uid or name of the data source, instead of a variable that chooses one
    --title TITLE        title of the dashboard
    --uid UID            uid of the dashboard
    --runbooks URL       address of docs/runbooks.md or of its page, to which failing methods link
    --native-histograms  for a Prometheus that keeps native histograms and no series such as …_bucket
    --help               this text
  """

  @moduledoc """
  Writes the Grafana dashboard as JSON, which Grafana's import and its provisioning read.

  ```text
  #{@usage}```

  For work on the library itself: after a change of the dashboard's tables run

      mix dspex_telemetry.dashboard --output priv/grafana/dspex_telemetry.json
  """

  use Mix.Task

  alias DSPexTelemetry.Dashboard

  @file_name "dspex_telemetry.json"
  @requirements ["compile"]
  @switches [
    output: :string,
    prefix: :string,
    datasource: :string,
    title: :string,
    uid: :string,
    runbooks: :string,
    native_histograms: :boolean,
    help: :boolean
  ]

  @impl true
  def run(arguments) do
    with {:ok, switches} <- parse(arguments),
         {output, options} = Keyword.pop(switches, :output, @file_name),
         {:ok, _valid} <- Dashboard.validate(Keyword.delete(options, :help)) do
      if options[:help],
        do: Mix.shell().info(@usage),
        else: write(Dashboard.render(options), output)
    else
      {:error, problem} ->
        Mix.shell().error("#{problem}\n\n#{@usage}")
        exit({:shutdown, 2})
    end
  end

  defp parse(arguments) do
    case OptionParser.parse(arguments, strict: @switches) do
      {switches, [], []} -> {:ok, Enum.map(switches, &option/1)}
      {_, _, [{switch, nil} | _]} -> {:error, "#{switch} is not an option, or lacks its value"}
      {_, _, [{switch, value} | _]} -> {:error, "#{switch} cannot be #{inspect(value)}"}
      {_, [extra | _], _} -> {:error, "there is nothing to do with #{inspect(extra)}"}
    end
  end

  defp option({:native_histograms, true}), do: {:histograms, :native}
  defp option({:native_histograms, false}), do: {:histograms, :classic}
  defp option(switch), do: switch

  # Written as it is, without what a shell of Mix might add.
  defp write(json, "-"), do: IO.write(json)

  defp write(json, file) do
    case File.write(file, json) do
      :ok ->
        Mix.shell().info("wrote #{file}")

      {:error, reason} ->
        Mix.shell().error("cannot write #{file}: #{:file.format_error(reason)}")
        exit({:shutdown, 1})
    end
  end
end
