defmodule Mix.Tasks.Bridge.Demo do
  @shortdoc "Runs real Python workers, and shows what telemetry makes of them"

  @moduledoc """
  Runs real Python workers for a while and prints what `DSPexTelemetry` reports of them.

      mix bridge.demo [--seconds N] [--workers N] [--json FILE] [--http PORT [--serve]]
      mix bridge.demo [--route] [--cache] [--workers N]

    * `--seconds N` - how long to call, 10 unless told
    * `--workers N` - how many Python processes, 4 unless told
    * `--json FILE` - also writes the report there as JSON
    * `--http PORT` - also serves metrics and report on that port of 127.0.0.1 while it runs; 0 takes a free one
    * `--serve` - goes on serving after the report, with the workers alive, until SIGTERM
    * `--route` - instead compares `DSPexTelemetry.PerformanceRouter` with random choice, while one worker is
      slow and one fails
    * `--cache` - instead, or after that, compares calls of an expensive pure method without and with
      `DSPexTelemetry.AdaptiveCache`
    * `--help` - prints this

  Exit status: 0, also when SIGTERM has ended `--serve`; 1 when an event or a staged alert never came, a report disagrees with the
  demo's own counts or with what Python was told, or router or cache were of no use; 2 for bad options; 143 after SIGTERM, on which it ends early, in order,
  with its report. For the same on Ctrl-C start it by `bin/demo`; the README says why.
  """

  use Mix.Task

  alias Bridge.{Comparison, Demo, Signals}

  @switches [
    seconds: :integer,
    workers: :integer,
    json: :string,
    http: :integer,
    serve: :boolean,
    route: :boolean,
    cache: :boolean,
    help: :boolean
  ]
  @ranges %{seconds: 1..86_400, workers: 1..64, http: 0..65_535}

  @impl true
  def run(arguments) do
    case parse(arguments) do
      {:ok, options} ->
        if options[:help], do: Mix.shell().info(usage()), else: demo(options)

      {:error, problem} ->
        Mix.shell().error("#{problem}\n\n#{usage()}")
        exit({:shutdown, 2})
    end
  end

  @doc """
  The options in the arguments, or a sentence about the first that is wrong.

  ## Examples

      iex> Mix.Tasks.Bridge.Demo.parse(["--seconds", "3"])
      {:ok, [seconds: 3]}

      iex> Mix.Tasks.Bridge.Demo.parse(["--workers", "0"])
      {:error, "--workers is 1 to 64, not 0"}
  """
  @spec parse([String.t()]) :: {:ok, keyword()} | {:error, String.t()}
  def parse(arguments) do
    with {options, [], []} <- OptionParser.parse(arguments, strict: @switches),
         :ok <- check_range(options, :seconds),
         :ok <- check_range(options, :workers),
         :ok <- check_range(options, :http),
         :ok <- check_serve(options),
         :ok <- check_comparison(options),
         :ok <- check_folder(options[:json]) do
      {:ok, options}
    else
      {_, _, [{switch, nil} | _]} -> {:error, "#{switch} is not an option, or lacks its value"}
      {_, _, [{switch, value} | _]} -> {:error, "#{switch} cannot be #{inspect(value)}"}
      {_, [extra | _], _} -> {:error, "there is nothing to do with #{inspect(extra)}"}
      {:error, problem} -> {:error, problem}
    end
  end

  defp check_range(options, name) do
    range = @ranges[name]
    value = Keyword.get(options, name, range.first)
    if value in range, do: :ok, else: {:error, out_of_range(name, range, value)}
  end

  defp out_of_range(name, first..last, value),
    do: "--#{name} is #{first} to #{last}, not #{value}"

  defp check_serve(options) do
    if options[:serve] && !options[:http],
      do: {:error, "--serve needs --http, or there is nothing to serve"},
      else: :ok
  end

  # A comparison makes so many calls, however long they take, on pools that come and go.
  defp check_comparison(options) do
    unfit = for name <- [:seconds, :json, :http], Keyword.has_key?(options, name), do: "--#{name}"

    cond do
      not comparison?(options) ->
        :ok

      unfit != [] ->
        {:error, "--route and --cache make a run of their own, without #{Enum.join(unfit, ", ")}"}

      options[:route] && Keyword.get(options, :workers, 4) < 3 ->
        {:error, "--route needs 3 --workers: one is slow, one fails, and one is well"}

      true ->
        :ok
    end
  end

  defp comparison?(options), do: options[:route] || options[:cache] || false

  # Known before the run rather than after it.
  defp check_folder(nil), do: :ok

  defp check_folder(path) do
    cond do
      File.dir?(path) -> {:error, "--json is a file, and #{path} is a folder"}
      File.dir?(Path.dirname(path)) -> :ok
      true -> {:error, "--json: there is no folder #{Path.dirname(path)}"}
    end
  end

  defp demo(options) do
    {serving, options} = Keyword.split(options, [:http, :serve])
    port = serving[:http]
    if port, do: Application.put_env(:dspex_telemetry, :http, [port: port], persistent: true)
    Mix.Task.run("app.start")

    if port,
      do:
        Mix.shell().info(
          "The live page is at #{url()}/, metrics at #{url()}/metrics, the report at #{url()}/report.json"
        )

    case run(options, serving) do
      :ok ->
        :ok

      {:interrupted, :sigterm} ->
        Mix.shell().error("interrupted")
        exit({:shutdown, Signals.exit_status()})

      {:error, sentences} ->
        Enum.each(sentences, &Mix.shell().error/1)
        exit({:shutdown, 1})
    end
  end

  defp run(options, serving) do
    cond do
      comparison?(options) -> Comparison.run(options)
      serving[:serve] -> Demo.run([hold: &serve/0] ++ options)
      true -> Demo.run(options)
    end
  end

  defp serve do
    Mix.shell().info("\nStill serving #{url()}/metrics, until Ctrl-C or SIGTERM")
    Signals.await()
  end

  defp url do
    {:ok, %{ip: ip, port: port}} = DSPexTelemetry.http_address()
    "http://#{:inet.ntoa(ip)}:#{port}"
  end

  defp usage do
    """
    usage: mix bridge.demo [--seconds N] [--workers N] [--json FILE] [--http PORT [--serve]] [--help]
           mix bridge.demo [--route] [--cache] [--workers N]

      --seconds N   how long to call (10)
      --workers N   how many Python processes (4)
      --json FILE   also write the report there as JSON
      --http PORT   also serve metrics and report on 127.0.0.1 meanwhile; 0 takes a free port
      --serve       go on serving after the report, until Ctrl-C or SIGTERM
      --route       instead compare PerformanceRouter with random choice, with a slow and a failing worker
      --cache       instead, or after that, compare a pure method without and with AdaptiveCache\
    """
  end
end
