defmodule Bridge.Progress do
  @moduledoc """
  One line on the terminal that is drawn over and over; nothing at all where there is no
  terminal.
  """

  @doc """
  Draws the line.

  ## Examples

      iex> Bridge.Progress.line(%{calls: 1234, errors: 7, workers: 4, seconds_left: 6})
      "1234 calls, 7 errors · 4 workers · 6 s left"

      iex> Bridge.Progress.line(%{events: 120, of: 449, seconds_left: 12})
      "120 of 449 events · 12 s left"
  """
  @spec draw(map()) :: :ok
  def draw(numbers) do
    # The cursor goes back to the start, so that a log message does not hang on to the line's end.
    if terminal?(), do: IO.write([IO.ANSI.clear_line(), line(numbers), "\r"])
    :ok
  end

  @doc "Takes the line away, so that whatever comes next starts on a clean one."
  @spec clear() :: :ok
  def clear do
    if terminal?(), do: IO.write([IO.ANSI.clear_line(), "\r"])
    :ok
  end

  @doc false
  def line(%{events: events, of: all, seconds_left: seconds_left}),
    do: "#{events} of #{all} events · #{seconds_left} s left"

  def line(numbers) do
    "#{numbers.calls} calls, #{numbers.errors} errors · #{numbers.workers} workers · " <>
      "#{numbers.seconds_left} s left"
  end

  # Elixir's launcher looks whether stdout is a terminal, and enables ANSI if it is.
  defp terminal?, do: IO.ANSI.enabled?()
end
