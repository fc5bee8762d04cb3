defmodule Mix.Tasks.Bridge.Demo do
  @shortdoc "Runs real Python workers, and shows what telemetry makes of them"

  @moduledoc """
  Runs real Python workers for a while and prints what `DSPexTelemetry` reports of them.

      mix bridge.demo [--seconds N] [--workers N] [--json FILE] [--http PORT [--serve]]
      mix bridge.demo [--route] [--cache] [--workers N]
      mix bridge.demo --replay FILE [--speed N] [--json FILE] [--http PORT [--serve]]

    * `--seconds N` - how long to call, 10 unless told
    * `--workers N` - how many Python processes, 4 unless told
    * `--json FILE` - also writes the report there as JSON
    * `--http PORT` - also serves metrics and report on that port of 127.0.0.1 while it runs; 0 takes a free one
    * `--serve` - goes on serving after the report, with the workers alive if there are any, until SIGTERM
    * `--route` - instead compares `DSPexTelemetry.PerformanceRouter` with random choice, while one worker is
      slow and one fails
    * `--cache` - instead, or after that, compares calls of an expensive pure method without and with
      `DSPexTelemetry.AdaptiveCache`
    * `--replay FILE` - instead emits the events of a recording (see `Bridge.Recording`), without any Python
    * `--speed N` - how many times faster than recorded, from 0.001 to 1000000, or `max` for no waiting; 1 unless given
    * `--help` - prints this

  Paths of files are relative to the folder in the environment variable `DEMO_FOLDER`, or to the current one if it is not set.
  `bin/demo` sets it to the folder that it is started in.

  Exit status: 0, also when SIGTERM has ended `--serve`; 1 when an event or a staged alert never came, a report disagrees with the
  demo's own counts or with what Python was told, or router or cache were of no use; 2 for bad options, and for a recording that
  cannot be read; 143 after SIGTERM, on which it ends early, in order, with its report. For the same on Ctrl-C start it by `bin/demo`; the README says why.
  """

  use Mix.Task

  alias Bridge.{Comparison, Demo, Recording, Replay, Signals}

  @switches [
    seconds: :integer,
    workers: :integer,
    json: :string,
    http: :integer,
    serve: :boolean,
    route: :boolean,
    cache: :boolean,
    replay: :string,
    speed: :string,
    help: :boolean
  ]
  @ranges %{seconds: 1..86_400, workers: 1..64, http: 0..65_535}
  @slowest 0.001
  @fastest 1_000_000

  @impl true
  def run(arguments) do
    folder = System.get_env("DEMO_FOLDER") || File.cwd!()

    case parse(arguments, folder) do
      {:ok, options} ->
        if options[:help], do: Mix.shell().info(usage()), else: options |> load() |> demo()

      {:error, problem} ->
        refuse("#{problem}\n\n#{usage()}")
    end
  end

  # The whole file is read before anything starts, so that an error in it comes at once.
  defp load(options) do
    case options[:replay] && Recording.check(options[:replay]) do
      nil -> options
      {:ok, recording} -> Keyword.replace(options, :replay, recording)
      {:error, problem} -> refuse("--replay: #{problem}")
    end
  end

  @spec refuse(String.t()) :: no_return()
  defp refuse(problem) do
    Mix.shell().error(problem)
    exit({:shutdown, 2})
  end

  @doc """
  The options in the arguments, or a sentence about the first that is wrong. Paths are expanded in the
  folder.

  ## Examples

      iex> Mix.Tasks.Bridge.Demo.parse(["--seconds", "3"])
      {:ok, [seconds: 3]}

      iex> Mix.Tasks.Bridge.Demo.parse(["--workers", "0"])
      {:error, "--workers is 1 to 64, not 0"}

      iex> Mix.Tasks.Bridge.Demo.parse(["--replay", "calls.exs.txt", "--speed", "2.5"], "/srv")
      {:ok, [replay: "/srv/calls.exs.txt", speed: 2.5]}
  """
  @spec parse([String.t()], Path.t()) :: {:ok, keyword()} | {:error, String.t()}
  def parse(arguments, folder \\ File.cwd!()) do
    with {options, [], []} <- OptionParser.parse(arguments, strict: @switches),
         :ok <- check_range(options, :seconds),
         :ok <- check_range(options, :workers),
         :ok <- check_range(options, :http),
         :ok <- check_serve(options),
         :ok <- check_comparison(options),
         :ok <- check_replay(options),
         {:ok, options} <- read_speed(options),
         options = expand(options, folder),
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

  defp check_replay(options) do
    unfit =
      for name <- [:seconds, :workers, :route, :cache],
          Keyword.has_key?(options, name),
          do: "--#{name}"

    cond do
      options[:speed] && !options[:replay] ->
        {:error, "--speed needs --replay"}

      !options[:replay] or unfit == [] ->
        :ok

      true ->
        {:error, "--replay plays a recording, without #{Enum.join(unfit, ", ")}"}
    end
  end

  defp read_speed(options) do
    case speed(options[:speed]) do
      nil -> {:ok, options}
      :error -> {:error, "--speed is #{@slowest} to #{@fastest}, or max, not #{options[:speed]}"}
      speed -> {:ok, Keyword.replace(options, :speed, speed)}
    end
  end

  defp speed(nil), do: nil
  defp speed("max"), do: :max

  defp speed(text) do
    number =
      cond do
        text =~ ~r/\A\d{1,7}\z/ -> String.to_integer(text)
        text =~ ~r/\A\d{1,7}\.\d{1,9}\z/ -> String.to_float(text)
        true -> 0
      end

    if number >= @slowest and number <= @fastest, do: number, else: :error
  end

  defp expand(options, folder) do
    Enum.map(options, fn
      {name, path} when name in [:json, :replay] -> {name, Path.expand(path, folder)}
      option -> option
    end)
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
    if port, do: configure(http: [port: port])
    # Recorded durations are nanoseconds, whatever native time units are here.
    if options[:replay], do: configure(duration_unit: :nanosecond)
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

  defp configure(options),
    do: Application.put_all_env([dspex_telemetry: options], persistent: true)

  defp run(options, serving) do
    hold = if serving[:serve], do: [hold: &serve/0], else: []

    cond do
      comparison?(options) -> Comparison.run(options)
      recording = options[:replay] -> Replay.run(recording, hold ++ options)
      true -> Demo.run(hold ++ options)
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
           mix bridge.demo --replay FILE [--speed N] [--json FILE] [--http PORT [--serve]]

      --seconds N   how long to call (10)
      --workers N   how many Python processes (4)
      --json FILE   also write the report there as JSON
      --http PORT   also serve metrics and report on 127.0.0.1 meanwhile; 0 takes a free port
      --serve       go on serving after the report, until Ctrl-C or SIGTERM
      --route       instead compare PerformanceRouter with random choice, with a slow and a failing worker
      --cache       instead, or after that, compare a pure method without and with AdaptiveCache
      --replay FILE instead emit the events of a recording, and report on them; runs no Python
      --speed N     how many times faster than recorded (1), or max: without waiting\
    """
  end
end
