defmodule DSPexTelemetry.Top do
  @moduledoc """
  A screen that shows what happens now and refreshes itself, for a person at a terminal.

  What it shows is fetched by a function; `DSPexTelemetry.Top.Screen` makes the text.
  """

  alias DSPexTelemetry.Top.{Screen, Terminal}

  @default_interval 1_000
  @intervals 100..60_000
  @printed_columns 120

  @doc """
  Shows what `fetch` returns, a `t:DSPexTelemetry.Top.Screen.data/0`, until a key is pressed.

  On a terminal, as in `iex`, it takes the alternate screen, fetches and draws again after every
  interval, and puts the screen back when it ends: at a key, when `fetch` raises (which is raised on),
  or when the calling process is killed. The key is read and gone. The last line says which key ends
  it: any key, or Enter where keys cannot be seen one by one, as in a shell on a remote node.

  Anywhere else (output into a file or a pipe, no ANSI, `mix run`) it prints the screen once,
  #{@printed_columns} columns wide and without control sequences, and returns.

  Options:

    * `:interval` - milliseconds from one refresh to the next, an integer from
      #{@intervals.first} to #{@intervals.last}, #{@default_interval} by default

  Returns `:ok`, and in `iex` the value that it does not print. Raises `ArgumentError` for an option
  that is not allowed.

      iex> DSPexTelemetry.Top.run(fn -> :never_called end, interval: 0)
      ** (ArgumentError) option :interval must be an integer from 100 to 60000, got: 0
  """
  @spec run((() -> Screen.data()), keyword()) :: :ok | atom()
  def run(fetch, options \\ []) when is_function(fetch, 0) do
    interval = interval!(options)

    case Terminal.open() do
      {:ok, terminal} -> on_terminal(terminal, fetch, interval)
      :none -> IO.puts(Screen.render(fetch.(), {@printed_columns, :infinity}))
    end

    shown()
  end

  defp on_terminal(terminal, fetch, interval) do
    refresh(terminal, fetch, interval)
  after
    Terminal.close(terminal)
  end

  defp refresh(terminal, fetch, interval) do
    started = System.monotonic_time(:millisecond)
    Terminal.draw(lines(fetch.(), Terminal.size(), terminal.ended_by))
    took = System.monotonic_time(:millisecond) - started

    case Terminal.await_key(terminal, max(interval - took, 0)) do
      :timeout -> refresh(terminal, fetch, interval)
      :ended -> :ok
    end
  end

  # One column stays empty: a character in the last one leaves terminals and the shell of different
  # opinions about where the cursor is. The last row belongs to the footer.
  defp lines(data, {columns, rows}, ended_by) do
    lines =
      data
      |> Screen.render({columns - 1, rows - 1}, colours: true)
      |> IO.iodata_to_binary()
      |> String.split("\n")

    lines ++ List.duplicate("", max(rows - 1 - length(lines), 0)) ++ [footer(ended_by)]
  end

  defp footer(:any_key), do: "any key ends"
  defp footer(:enter), do: "Enter ends"

  defp interval!(options) do
    unless Keyword.keyword?(options) do
      raise ArgumentError, "options must be a keyword list, got: #{inspect(options)}"
    end

    case Keyword.pop(options, :interval, @default_interval) do
      {interval, []} when is_integer(interval) and interval in @intervals ->
        interval

      {interval, []} ->
        raise ArgumentError,
              "option :interval must be an integer from #{@intervals.first} to " <>
                "#{@intervals.last}, got: #{inspect(interval)}"

      {_interval, [{name, _value} | _]} ->
        raise ArgumentError, "unknown option #{inspect(name)}, allowed is :interval"
    end
  end

  # Applied, since `iex` is no dependency of this library.
  defp shown do
    if function_exported?(IEx, :dont_display_result, 0),
      do: apply(IEx, :dont_display_result, []),
      else: :ok
  end
end
