defmodule DSPexTelemetry.Window do
  @moduledoc """
  Which time a report is about, for the option `:window` of every report.

    * `:since_start` - all since the instance started or was last reset, but for series that were
      removed because they were idle (option `:idle_timeout`)
    * `:last_minute`, `:last_hour` - up to now
    * `{5, :minutes}`, `{30, :seconds}`, `{1, :hour}` - up to now
    * `:previous_minute`, `:previous_hour` - the minute or hour before the last

  Time is kept in slices of ten seconds for an hour (options `:slice` and `:history` of an instance).
  A window up to now begins where a slice begins, so it covers at least the time that was asked for,
  and less than that slice more; the previous window ends there. Where slices did not fit in option
  `:window_memory_limit`, older ones are merged and so longer, by as many as were merged. Where the
  kept time does not reach back as far, the window is shorter. Every report says in `:interval` which
  time it covers.
  """

  @second 1_000
  @minute 60 * @second
  @hour 60 * @minute
  @units [
    second: @second,
    seconds: @second,
    minute: @minute,
    minutes: @minute,
    hour: @hour,
    hours: @hour
  ]
  @names ~w(since_start last_minute last_hour previous_minute previous_hour)
  # The longest that the core's clock can go back, in any unit: a million years.
  @most 31_557_600_000_000_000

  @type t ::
          :since_start
          | :last_minute
          | :last_hour
          | :previous_minute
          | :previous_hour
          | {pos_integer(), :second | :seconds | :minute | :minutes | :hour | :hours}

  @typedoc "A window as the core takes it, in milliseconds."
  @type native ::
          :since_start
          | {:last | :previous, non_neg_integer()}
          | {:between, from_ms :: non_neg_integer(), to_ms :: non_neg_integer()}

  @typedoc "The time that a report covers: milliseconds since 1970 (UTC), and its length."
  @type interval :: %{
          from_unix_ms: integer(),
          to_unix_ms: integer(),
          duration_ms: non_neg_integer()
        }

  @doc """
  The window as the core takes it. Raises `ArgumentError` for one that does not exist.

      iex> DSPexTelemetry.Window.native!({5, :minutes})
      {:last, 300_000}

      iex> DSPexTelemetry.Window.native!({0, :minutes})
      ** (ArgumentError) option :window must be :since_start, :last_minute, :last_hour, :previous_minute, :previous_hour or a tuple such as {5, :minutes} with a positive number and :seconds, :minutes or :hours, got: {0, :minutes}
  """
  @spec native!(t()) :: native()
  def native!(:since_start), do: :since_start
  def native!(:last_minute), do: {:last, @minute}
  def native!(:last_hour), do: {:last, @hour}
  def native!(:previous_minute), do: {:previous, @minute}
  def native!(:previous_hour), do: {:previous, @hour}

  def native!({number, unit} = window) when is_integer(number) and number > 0 and is_atom(unit) do
    case Keyword.fetch(@units, unit) do
      {:ok, factor} when number * factor <= @most -> {:last, number * factor}
      _unknown_or_too_long -> refuse!(window)
    end
  end

  def native!(other), do: refuse!(other)

  @doc """
  The window that a text stands for, as in a URL: a name such as `last_minute`, or a number with `s`,
  `m` or `h`.

      iex> DSPexTelemetry.Window.parse("5m")
      {:ok, {5, :minutes}}

      iex> DSPexTelemetry.Window.parse("previous_hour")
      {:ok, :previous_hour}

      iex> DSPexTelemetry.Window.parse("0m")
      :error
  """
  @spec parse(String.t()) :: {:ok, t()} | :error
  def parse(text) when text in @names, do: {:ok, String.to_existing_atom(text)}

  def parse(text) do
    # Nine digits of hours are well below the longest.
    with [_all, digits, letter] <- Regex.run(~r/\A([0-9]{1,9})([smh])\z/, text),
         number when number > 0 <- String.to_integer(digits) do
      {:ok, {number, Map.fetch!(%{"s" => :seconds, "m" => :minutes, "h" => :hours}, letter)}}
    else
      _no_number_or_zero -> :error
    end
  end

  defp refuse!(window) do
    raise ArgumentError,
          "option :window must be :since_start, :last_minute, :last_hour, :previous_minute, " <>
            ":previous_hour or a tuple such as {5, :minutes} with a positive number and " <>
            ":seconds, :minutes or :hours, got: #{inspect(window)}"
  end
end
