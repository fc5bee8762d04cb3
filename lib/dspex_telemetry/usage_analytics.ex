defmodule DSPexTelemetry.UsageAnalytics do
  @moduledoc """
  What is used, and how often: Python classes, methods, tools and session variables.

      DSPexTelemetry.UsageAnalytics.get_usage_report()

  A use is a completed operation: an instance that was created, a call that ended, with or without
  success, a variable that was set or read. Methods are named with their class, `"Index.search"`.

  Names come from outside, so their number is bounded: `:usage_capacity` (10,000) of each kind are
  counted one by one. Up to that many, counts are exact. Beyond, the least used name makes room for a
  new one by Space-Saving (Metwally, Agrawal and El Abbadi 2005): a count may then be too large, by
  at most `error`, and whatever makes up more than `total / capacity` of all uses is certainly
  among the names. Totals are always exact.

  With option `:usage_path` the counts survive restarts. The file is written every 30 seconds (option
  `:usage_save_interval`) if something changed and when the instance stops: to a temporary file that
  replaces the old one once it is on disk. What cannot be read - damaged, cut off, of another program
  or of a newer version - is moved aside, logged, and told by `get_usage_report/1`.

  The file belongs to one instance, and its folder to the user who runs the VM, or to root. An instance
  does not start if others may write to the file or its folder (`chmod go-w`), if anybody may write to a
  folder above without a sticky bit, or if a link leads to a file of another program.
  """

  use GenServer

  require Logger

  alias DSPexTelemetry.{Native, Window}
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @typedoc "How often one name was used. Times are milliseconds since 1970."
  @type used :: %{
          name: String.t(),
          count: non_neg_integer(),
          before: non_neg_integer(),
          since_start: non_neg_integer(),
          error: non_neg_integer(),
          first_unix_ms: integer(),
          last_unix_ms: integer()
        }

  @type kind :: %{
          total: non_neg_integer(),
          before: non_neg_integer(),
          since_start: non_neg_integer(),
          names: non_neg_integer(),
          exact: boolean(),
          error_bound: non_neg_integer(),
          most_used: [used()],
          never_used: [String.t()],
          unsure: [String.t()]
        }

  @type report :: %{
          total: non_neg_integer(),
          before: non_neg_integer(),
          since_start: non_neg_integer(),
          classes: kind(),
          methods: kind(),
          tools: kind(),
          variables: kind(),
          file: file() | nil
        }

  @typedoc "What was used in a window."
  @type window_report :: %{
          interval: Window.interval(),
          total: non_neg_integer(),
          classes: window_kind(),
          methods: window_kind(),
          tools: window_kind(),
          variables: window_kind()
        }

  @type window_kind :: %{
          total: non_neg_integer(),
          names: non_neg_integer(),
          most_used: [%{name: String.t(), count: pos_integer()}]
        }

  @typedoc "The file: where, whether anything was read from it, what was moved aside, the last failure."
  @type file :: %{
          path: String.t(),
          restored: boolean(),
          set_aside: %{path: String.t(), why: String.t()} | nil,
          last_error: String.t() | nil
        }

  @doc """
  What was used how often.

    * `:total` over all kinds; of it `:before` the last start, as restored from the file, and
      `:since_start`
    * `:classes`, `:methods`, `:tools`, `:variables` - each with the same three numbers, `:names`
      (how many are known), `:exact` (whether all counts are), `:error_bound` (no count is further
      off), `:most_used`, `:never_used` (those of `declare_classes/2` and `declare_tools/2` without a
      use) and `:unsure` (those without a use since they were declared, which was when names had made
      room already, perhaps they; empty while `:exact`)
    * `:file` - the state of the file, `nil` without option `:usage_path`

  Times are known to within ten seconds, the length of a slice.

  With option `:window` (see `DSPexTelemetry.Window`) the report is about that time, which
  `:interval` tells, and has of each kind `:total`, `:names` and `:most_used` with `:name` and
  `:count`, exact. Names over the series limit are one there, `otel_metric_overflow`.

  Options:

    * `:window` - all time, restarts included, if absent
    * `:top` - how many of the most used there are of each kind, 10 by default
    * `:instance` - the instance's name

        iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Used)
        iex> DSPexTelemetry.Emit.tool_call(%{tool_name: "clock", caller: :python}, fn -> 7 end)
        iex> DSPexTelemetry.UsageAnalytics.declare_tools(["clock", "calendar"], instance: MyApp.Used)
        :ok
        iex> report = DSPexTelemetry.UsageAnalytics.get_usage_report(instance: MyApp.Used)
        iex> {Enum.map(report.tools.most_used, &{&1.name, &1.count}), report.tools.never_used}
        {[{"clock", 1}], ["calendar"]}
        iex> usage = DSPexTelemetry.UsageAnalytics.get_usage_report(window: :last_minute, instance: MyApp.Used)
        iex> Enum.find(usage.tools.most_used, &(&1.name == "clock"))
        %{name: "clock", count: 1}
  """
  @spec get_usage_report(keyword()) :: report() | window_report()
  def get_usage_report(options \\ []) do
    {top, options} = Keyword.pop(options, :top, 10)
    {window, options} = Keyword.pop(options, :window)

    unless is_integer(top) and top in 0..1_000_000 do
      raise ArgumentError,
            "option :top must be an integer from 0 to 1000000, got: #{inspect(top)}"
    end

    window = if window, do: Window.native!(window)
    native = options |> DSPexTelemetry.instance!() |> Lookup.native!()

    if window,
      do: Native.usage_in_window(native, top, window, Clock.now()),
      else: Native.usage(native, top, Clock.now())
  end

  @doc """
  Says which tools exist, for `:never_used`. Replaces what was said before.

  Raises `ArgumentError` if there are more than option `:usage_capacity`, or one is no string.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Declared)
      iex> DSPexTelemetry.UsageAnalytics.declare_tools(["calendar"], instance: MyApp.Declared)
      :ok
      iex> DSPexTelemetry.UsageAnalytics.get_usage_report(instance: MyApp.Declared).tools.never_used
      ["calendar"]
  """
  @spec declare_tools([String.t()], keyword()) :: :ok
  def declare_tools(names, options \\ []), do: declare(:tool, names, options)

  @doc "Says which classes exist, as `declare_tools/2` does for tools."
  @spec declare_classes([String.t()], keyword()) :: :ok
  def declare_classes(names, options \\ []), do: declare(:class, names, options)

  @doc """
  Writes the counts to the file now, if they have changed.

  Returns `{:error, :no_path}` without option `:usage_path`, and `{:error, sentence}` if it fails; the
  file is then as it was.

      iex> DSPexTelemetry.UsageAnalytics.save()
      {:error, :no_path}
  """
  @spec save(keyword()) :: :ok | {:error, :no_path | String.t()}
  def save(options \\ []) do
    options
    |> DSPexTelemetry.instance!()
    |> Lookup.native!()
    |> Native.usage_save(Clock.now())
  end

  defp declare(kind, names, options) do
    unless is_list(names) and List.improper?(names) == false and Enum.all?(names, &text?/1) do
      raise ArgumentError, "names must be a list of strings, got: #{inspect(names)}"
    end

    native = options |> DSPexTelemetry.instance!() |> Lookup.native!()

    case Native.declare(native, kind, names) do
      :ok -> :ok
      {:error, message} -> raise ArgumentError, message
    end
  end

  defp text?(name), do: is_binary(name) and String.valid?(name)

  @doc false
  def start_link(options), do: GenServer.start_link(__MODULE__, options)

  @impl true
  def init(%{usage_path: nil}), do: :ignore

  def init(options) do
    schedule(options)
    {:ok, %{native: Lookup.native!(options.name), options: options, failing?: false}}
  end

  @impl true
  def handle_info(:save, %{options: options} = state) do
    outcome = Native.usage_save(state.native, Clock.now())
    schedule(options)
    {:noreply, %{state | failing?: log(outcome, state)}}
  end

  def handle_info(_message, state), do: {:noreply, state}

  # The instance has ended, and we are about to.
  defp log({:error, :no_path}, %{failing?: failing?}), do: failing?

  # Once when it begins to fail, and once when it works again.
  defp log({:error, message}, %{failing?: false}) do
    Logger.error("Usage counts cannot be saved: #{message}. They stay in memory")
    true
  end

  defp log(:ok, %{failing?: true, options: options}) do
    Logger.info("Usage counts are saved to #{options.usage_path} again")
    false
  end

  defp log(_outcome, state), do: state.failing?

  defp schedule(options), do: Process.send_after(self(), :save, options.usage_save_interval)
end
