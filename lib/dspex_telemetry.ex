defmodule DSPexTelemetry do
  @moduledoc """
  Telemetry for Elixir that calls Python workers: by DSPex, SnakeBridge, Snakepit or a bridge of your own.

  The library attaches to their `:telemetry` events and keeps counts, errors with their reasons, and latency
  distributions. The process that emits an event does the work on it, in Rust. There is no process whose mailbox
  could grow, and no memory grows with the number of events.

  The application starts a default instance, also named `DSPexTelemetry`, whose handlers are attached. Calls of DSPex,
  SnakeBridge and Snakepit are recorded without further code:

      DSPexTelemetry.report()

  A bridge of your own emits the same by `DSPexTelemetry.Emit`:

      DSPexTelemetry.Emit.call_method(%{ref: ref, method: "search", args: args}, fn ->
        MyBridge.call(ref, "search", args)
      end)

  More instances, each with its own options and its own numbers, go into a supervision tree:

      children = [
        {DSPexTelemetry, name: MyApp.Telemetry, series_limit: 500}
      ]

  One without a name takes the place of the default instance. Option `:metrics` takes definitions of
  `Telemetry.Metrics`; see `DSPexTelemetry.Reporter`.

  Every function but `events/1`, `start_link/1` and `child_spec/1` takes `instance:`, the name of an
  instance, and raises `ArgumentError` if none of that name is running, or for an option that it
  does not know. See `DSPexTelemetry.Options` for the options of an instance.
  """

  alias DSPexTelemetry.{
    Catalogue,
    Endpoint,
    Exposition,
    Info,
    Instance,
    Native,
    Options,
    Report,
    Top,
    Window
  }

  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @overflow_label :otel_metric_overflow

  @doc """
  The child specification of an instance, for `{DSPexTelemetry, options}` in a supervision tree.

  Its id contains the name, so several instances fit under one supervisor. Options are checked when
  the instance starts; see `DSPexTelemetry.Options`.

      iex> DSPexTelemetry.child_spec(name: MyApp.Telemetry).id
      {DSPexTelemetry, MyApp.Telemetry}
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: {__MODULE__, Keyword.get(options, :name, __MODULE__)},
      start: {__MODULE__, :start_link, [Options.conceal(options)]},
      type: :supervisor
    }
  end

  @doc """
  Starts an instance linked to the caller, for the options of `DSPexTelemetry.Options`.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Started, series_limit: 500)
      iex> DSPexTelemetry.attached?(instance: MyApp.Started)
      true

      iex> DSPexTelemetry.start_link(series_limit: 0)
      ** (ArgumentError) option :series_limit must be an integer from 1 to 1000000, got: 0

  One with the name of the instance that the application starts by itself takes its place. Whenever it starts, it has
  the options in the application's environment for those that are not given. What was counted until then is
  lost, so start it early: in your application's supervision tree. Options are checked before anything is stopped.

  Returns `{:error, {:already_started, pid}}` if another one of that name is running. Raises `ArgumentError`
  for an option that is not allowed, and while the application `:dspex_telemetry` is not running. As with every supervisor, the caller gets an exit signal too if
  the instance cannot start, say because another one writes to its `:usage_path`.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(options \\ []) do
    Lookup.application_running!()
    options = Instance.Default.complete(options)

    with {:error, {:already_started, pid}} = error <- start(options) do
      # What the application has started by itself makes room for what is asked for.
      case Instance.Default.stop(pid) do
        :ok -> start(options)
        :error -> error
      end
    end
  end

  defp start(options), do: options |> Options.validate!() |> Instance.Supervisor.start_link()

  @doc """
  Attaches the instance's handlers to all events of the catalogue. Attached ones stay as they are.

  An instance does this when it starts, unless its option `:attach` is `false`.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Attached, attach: false)
      iex> DSPexTelemetry.attach(instance: MyApp.Attached)
      :ok
      iex> DSPexTelemetry.attached?(instance: MyApp.Attached)
      true
  """
  @spec attach(keyword()) :: :ok
  def attach(options \\ []), do: options |> instance!() |> Instance.attach()

  @doc """
  Detaches the instance's handlers. What was recorded stays, and `attach/1` goes on from there.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Detached)
      iex> DSPexTelemetry.detach(instance: MyApp.Detached)
      :ok
      iex> DSPexTelemetry.attached?(instance: MyApp.Detached)
      false
  """
  @spec detach(keyword()) :: :ok
  def detach(options \\ []), do: options |> instance!() |> Instance.detach()

  @doc """
  Whether any of the instance's handlers is attached.

      iex> DSPexTelemetry.attached?()
      true
  """
  @spec attached?(keyword()) :: boolean()
  def attached?(options \\ []), do: options |> instance!() |> Instance.attached?()

  @doc """
  Forgets all series and slices of time, the counts of rejected and overflowed events, and spikes and
  unusual latencies, whose end is then not told.

  Which workers are alive, which class a reference has, and what was used how often stays known. An event that comes in meanwhile is counted after the reset or not at all.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Reset)
      iex> DSPexTelemetry.reset(instance: MyApp.Reset)
      :ok
  """
  @spec reset(keyword()) :: :ok
  def reset(options \\ []) do
    options |> native!() |> Native.reset(Clock.now())
  end

  @doc """
  The names of the events that an instance with these `:presets` handles, by default all that the library knows, in
  the order of `docs/reference.md`.

      iex> [:dspex, :bridge, :call_method, :stop] in DSPexTelemetry.events()
      true
      iex> [:dspex, :bridge, :call_method, :stop] in DSPexTelemetry.events([:snakepit])
      false

  Raises `ArgumentError` for a preset that there is not.
  """
  @spec events([:dspex | :snakebridge | :snakepit]) :: [[atom()]]
  def events(presets \\ Catalogue.presets()) do
    %{presets: presets} = Options.validate!(presets: presets)
    presets |> Catalogue.events() |> Enum.map(& &1.name) |> Enum.uniq()
  end

  @doc """
  What was recorded, as a `DSPexTelemetry.Report`.

  Options, beside `:instance`:

    * `:window` - which time it covers, such as `:last_minute` or `{5, :minutes}`; see
      `DSPexTelemetry.Window`. The default is `:since_start`: since the start or the last reset.
    * `:format` - `:struct` (default) for the struct, which prints as a table of at most 120 columns,
      or `:json` for the same numbers as JSON text

  Recording goes on meanwhile; events in flight may be in some numbers and not yet in others. Units
  are in the names: `_us` is microseconds, `_ms` milliseconds, `_bytes` bytes.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Reported)
      iex> DSPexTelemetry.Emit.call_method(%{method: "ask", python_class: "Doc"}, fn -> :error end)
      iex> report = DSPexTelemetry.report(instance: MyApp.Reported)
      iex> row = Enum.find(report.operations, &(&1.method == "ask"))
      iex> {row.python_class, row.count, row.errors, row.error_rate}
      {"Doc", 1, 1, 1.0}
      iex> report = DSPexTelemetry.report(instance: MyApp.Reported, window: :previous_minute)
      iex> {report.operations, report.interval.duration_ms}
      {[], 0}

      iex> DSPexTelemetry.report(format: :xml)
      ** (ArgumentError) option :format must be :struct or :json, got: :xml
  """
  @spec report(keyword()) :: Report.t() | String.t()
  def report(options \\ []) do
    {format, options} = Keyword.pop(options, :format, :struct)
    {window, options} = Keyword.pop(options, :window, :since_start)
    window = Window.native!(window)
    native = native!(options)

    case format do
      :struct ->
        struct!(Report, Native.report(native, window, Clock.now()))

      :json ->
        Native.report_json(native, window, Clock.now())

      other ->
        raise ArgumentError, "option :format must be :struct or :json, got: #{inspect(other)}"
    end
  end

  @doc """
  All metrics in a format of Prometheus, as `/metrics` of the HTTP endpoint serves them.

  Options, beside `:instance`:

    * `:format` - `:text` (default), `:openmetrics` or `:protobuf`; see `DSPexTelemetry.Exposition`
    * `:created` - `true` adds to `:openmetrics` and `:protobuf` since when each counter and histogram
      counts, in OpenMetrics as samples that end in `_created`, which double the number of counter samples; `false` by default

  Runs on a dirty scheduler while recording goes on.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Scraped)
      iex> DSPexTelemetry.Emit.session_created(%{}, %{session_id: "s-1"})
      iex> text = DSPexTelemetry.scrape(instance: MyApp.Scraped)
      iex> text =~ "dspex_session_created_total 1"
      true

      iex> DSPexTelemetry.scrape(format: :json)
      ** (ArgumentError) option :format must be :text, :openmetrics or :protobuf, got: :json
  """
  @spec scrape(keyword()) :: binary()
  def scrape(options \\ []) do
    {format, options} = Keyword.pop(options, :format, :text)
    {created, options} = Keyword.pop(options, :created, false)
    format = Exposition.format!(format)

    unless is_boolean(created) do
      raise ArgumentError, "option :created must be true or false, got: #{inspect(created)}"
    end

    options |> instance!() |> Lookup.fetch!() |> Exposition.render(format, created)
  end

  @doc """
  The instance's own state, as a `DSPexTelemetry.Info`: series and limits, overflow, rejected events,
  memory in bytes, uptime in milliseconds.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Observed, series_limit: 500)
      iex> [family | _] = DSPexTelemetry.info(instance: MyApp.Observed).series
      iex> {family.event, family.limit, family.overflow}
      {"dspex.bridge.create_instance", 500, 0}
  """
  @spec info(keyword()) :: Info.t()
  def info(options \\ []) do
    name = instance!(options)
    Info.new(name, Lookup.fetch!(name), Instance.attached?(name))
  end

  @doc """
  Where the instance is served over HTTP, with option `:http`: the live page is its `/`. See
  `DSPexTelemetry.Endpoint`.

  Returns `{:error, :not_enabled}` without that option, and `{:error, :not_listening}` while it does not
  listen, for which `info/1` has the reason.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Served, http: [port: 0])
      iex> {:ok, address} = DSPexTelemetry.http_address(instance: MyApp.Served)
      iex> {address.ip, address.port > 0}
      {{127, 0, 0, 1}, true}

      iex> DSPexTelemetry.http_address()
      {:error, :not_enabled}
  """
  @spec http_address(keyword()) ::
          {:ok, %{ip: :inet.ip_address(), port: :inet.port_number()}}
          | {:error, :not_enabled | :not_listening}
  def http_address(options \\ []) do
    name = instance!(options)

    with %{options: %{http: %{}}} <- Lookup.fetch!(name),
         {:ok, {ip, port}} <- Endpoint.Server.address(name) do
      {:ok, %{ip: ip, port: port}}
    else
      {:error, _reason} -> {:error, :not_listening}
      _without_http -> {:error, :not_enabled}
    end
  end

  @doc """
  A screen for `iex` that refreshes itself: the methods that took most time in the last slice, spikes
  of errors, unusual latencies, and the worker pool. Any key ends it.

  Without a terminal, as in a script whose output goes to a file, it prints once and returns.

  Options, beside `:instance`:

    * `:interval` - milliseconds between two refreshes, an integer from 100 to 60000; 1000 by default

  Returns `:ok`, which `iex` does not print.
  """
  @spec top(keyword()) :: :ok | atom()
  def top(options \\ []) do
    {interval, options} = Keyword.pop(options, :interval, 1_000)
    name = instance!(options)
    handle = Lookup.fetch!(name)
    Top.run(fn -> top_data(name, handle) end, interval: interval)
  end

  defp top_data(name, %{native: native, options: options}) do
    now = Clock.now()
    window = {:last, options.slice}
    performance = Native.performance(native, window, now)
    errors = Native.errors(native, window, now)

    %{
      instance: name,
      interval: performance.interval,
      operations: performance.rows,
      spikes: errors.spikes,
      anomalies: errors.anomalies,
      pool: Native.report(native, window, now).pool
    }
  end

  @doc """
  One histogram in the encodings of HdrHistogram, which its implementations in other languages read.

  `event` and `labels` name the series. The labels are those of the histogram, all of them, as they
  stand in a report: text, and for a flag `"true"` or `"false"` (atoms and numbers are turned into
  text). `docs/reference.md` lists them.

  Options, beside `:instance`:

    * `:metric` - which one, where the event feeds more than one histogram; the first is the default

  Returns `{:ok, %{metric: name, unit: unit, v2: binary, v2_compressed: binary}}`. Durations are in
  nanoseconds, other values in the unit of their metric; `:unit` says which. The labels
  `%{otel_metric_overflow: "true"}` mean the series of everything over the limit. Returns
  `{:error, :not_found}` if there is no such series. Raises `ArgumentError` if the event is unknown or
  feeds no such histogram, or if other labels are given than those of the series.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Encoded)
      iex> DSPexTelemetry.Emit.call_method(%{method: "ask", python_class: "Code"}, fn -> :ok end)
      iex> labels = %{method: "ask", python_class: "Code"}
      iex> event = [:dspex, :bridge, :call_method, :stop]
      iex> {:ok, encoded} = DSPexTelemetry.histogram(event, labels, instance: MyApp.Encoded)
      iex> {encoded.metric, encoded.unit}
      {:dspex_bridge_call_method_duration, :nanosecond}
      iex> DSPexTelemetry.histogram(event, %{labels | method: "tell"}, instance: MyApp.Encoded)
      {:error, :not_found}
  """
  @spec histogram([atom()], map(), keyword()) ::
          {:ok, %{metric: atom(), unit: atom(), v2: binary(), v2_compressed: binary()}}
          | {:error, :not_found}
  def histogram(event, labels, options \\ []) do
    {metric_name, options} = Keyword.pop(options, :metric)
    {family, metric} = Catalogue.histogram!(event, metric_name)
    native = native!(options)
    values = label_values!(family, labels)

    with {:ok, v2, v2_compressed} <- Native.histogram(native, to_string(metric.name), values) do
      {unit, _factor} = Catalogue.stored_unit(metric.unit)
      {:ok, %{metric: metric.name, unit: unit, v2: v2, v2_compressed: v2_compressed}}
    end
  end

  defp label_values!(family, %{@overflow_label => "true"}),
    do: Enum.map(family.labels, fn _label -> Atom.to_string(@overflow_label) end)

  defp label_values!(family, labels) do
    unless is_map(labels) and Enum.sort(Map.keys(labels)) == Enum.sort(family.labels) do
      raise ArgumentError,
            "labels must be a map with the keys #{inspect(family.labels)}, got: #{inspect(labels)}"
    end

    Enum.map(family.labels, &label_value!(&1, Map.fetch!(labels, &1)))
  end

  defp label_value!(_name, value) when is_binary(value), do: value
  defp label_value!(_name, value) when is_atom(value) or is_integer(value), do: to_string(value)

  defp label_value!(name, value) do
    raise ArgumentError,
          "label #{inspect(name)} must be a string, an atom or an integer, got: #{inspect(value)}"
  end

  defp native!(options), do: options |> instance!() |> Lookup.native!()

  @doc false
  # The name in the options that are left when a function has taken its own.
  @spec instance!(keyword()) :: atom()
  def instance!(options) do
    case Keyword.pop(options, :instance, __MODULE__) do
      {name, []} ->
        name

      {_name, [{key, _value} | _]} ->
        raise ArgumentError, "unknown option #{inspect(key)}, see the function's documentation"
    end
  end
end
