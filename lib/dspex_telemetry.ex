defmodule DSPexTelemetry do
  @moduledoc """
  Telemetry for DSPex/Snakepit bridges: Elixir calling Python workers.

  The library attaches to the `:telemetry` events of the bridge and turns them into answers. The
  work on every event happens in Rust, in the process that emitted the event; no process mailbox
  stands on the path, and no memory grows with the number of events.

      iex> DSPexTelemetry.attached?()
      true

  The application starts a default instance, also named `DSPexTelemetry`, whose handlers are
  attached. More instances, each with its own options and its own numbers, go into a supervision
  tree:

      children = [
        {DSPexTelemetry, name: MyApp.Telemetry, series_limit: 500}
      ]

  Every function takes `instance:`, the name of an instance, and raises `ArgumentError` if none of
  that name is running. See `DSPexTelemetry.Options` for the options of an instance.
  """

  alias DSPexTelemetry.{Catalogue, Info, Instance, Native, Options, Report}

  @doc """
  Starts an instance under a supervisor. See `DSPexTelemetry.Options`.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: {__MODULE__, Keyword.get(options, :name, __MODULE__)},
      start: {__MODULE__, :start_link, [options]},
      type: :worker
    }
  end

  @doc """
  Starts an instance linked to the caller.

  Returns `{:error, {:already_started, pid}}` if one of that name is running. Raises `ArgumentError`
  for an option that is not allowed.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(options \\ []) do
    options |> Options.validate!() |> Instance.start_link()
  end

  @doc """
  Attaches the instance's handlers to all events of the catalogue. Attached ones stay as they are.
  """
  @spec attach(keyword()) :: :ok
  def attach(options \\ []), do: options |> instance!() |> Instance.attach()

  @doc """
  Detaches the instance's handlers. What was recorded stays.
  """
  @spec detach(keyword()) :: :ok
  def detach(options \\ []), do: options |> instance!() |> Instance.detach()

  @doc """
  Whether any of the instance's handlers is attached.
  """
  @spec attached?(keyword()) :: boolean()
  def attached?(options \\ []), do: options |> instance!() |> Instance.attached?()

  @doc """
  Forgets all series, and the counts of rejected and overflowed events.

  Which workers are alive, and which class a reference has, stays known: those are not counts of
  events. An event that comes in meanwhile is counted after the reset or not at all.
  """
  @spec reset(keyword()) :: :ok
  def reset(options \\ []) do
    options |> instance!() |> Instance.fetch!() |> Map.fetch!(:native) |> Native.reset()
  end

  @doc """
  The names of all events that the library handles.

      iex> [:dspex, :bridge, :call_method, :stop] in DSPexTelemetry.events()
      true
  """
  @spec events() :: [[atom()]]
  def events, do: Enum.map(Catalogue.events(), & &1.name)

  @doc """
  What was recorded since the start or the last reset.

    * `:format` - `:struct` (default) for a `DSPexTelemetry.Report`, which prints as a table, or
      `:json` for the same numbers as JSON text
  """
  @spec report(keyword()) :: Report.t() | String.t()
  def report(options \\ []) do
    {format, options} = Keyword.pop(options, :format, :struct)
    native = options |> instance!() |> Instance.fetch!() |> Map.fetch!(:native)

    case format do
      :struct ->
        struct!(Report, Native.report(native))

      :json ->
        Native.report_json(native)

      other ->
        raise ArgumentError, "option :format must be :struct or :json, got: #{inspect(other)}"
    end
  end

  @doc """
  The instance's own state: series and limits, overflow, rejected events, memory, uptime.
  """
  @spec info(keyword()) :: Info.t()
  def info(options \\ []) do
    name = instance!(options)
    Info.new(name, Instance.fetch!(name), Instance.attached?(name))
  end

  @doc """
  One histogram in the encodings of HdrHistogram, which its implementations in other languages read.

  `event` and `labels` name the series. Where an event feeds more than one histogram, `:metric`
  says which one; the first is the default. Values are in nanoseconds for durations, in the unit of
  the measurement for the others.

      DSPexTelemetry.histogram([:dspex, :bridge, :call_method, :stop],
        %{method: "search", python_class: "Index"})

  Returns `{:ok, %{metric: name, unit: unit, v2: binary, v2_compressed: binary}}`, or
  `{:error, :not_found}` if there is no such series. Raises `ArgumentError` if the event feeds no
  histogram, or the labels are not those of the series.
  """
  @spec histogram([atom()], map(), keyword()) ::
          {:ok, %{metric: atom(), unit: atom(), v2: binary(), v2_compressed: binary()}}
          | {:error, :not_found}
  def histogram(event, labels, options \\ []) do
    {metric_name, options} = Keyword.pop(options, :metric)
    {family, metric} = Catalogue.histogram!(event, metric_name)
    native = options |> instance!() |> Instance.fetch!() |> Map.fetch!(:native)
    values = label_values!(family, labels)

    with {:ok, v2, v2_compressed} <- Native.histogram(native, to_string(metric.name), values) do
      unit = if metric.unit == :microsecond, do: :nanosecond, else: metric.unit
      {:ok, %{metric: metric.name, unit: unit, v2: v2, v2_compressed: v2_compressed}}
    end
  end

  defp label_values!(family, labels) do
    unless is_map(labels) and Enum.sort(Map.keys(labels)) == Enum.sort(family.labels) do
      raise ArgumentError,
            "labels must be a map with the keys #{inspect(family.labels)}, got: #{inspect(labels)}"
    end

    Enum.map(family.labels, &to_string(Map.fetch!(labels, &1)))
  end

  defp instance!(options) do
    case Keyword.pop(options, :instance, __MODULE__) do
      {name, []} ->
        name

      {_name, [{key, _value} | _]} ->
        raise ArgumentError, "unknown option #{inspect(key)}, see the function's documentation"
    end
  end
end
