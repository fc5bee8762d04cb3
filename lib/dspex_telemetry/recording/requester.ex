defmodule DSPexTelemetry.Recording.Requester do
  @moduledoc false
  # The process that made a request which a pool dispatches in a process of its own.

  @doc """
  The process that the current one monitors: Snakepit's dispatching process monitors its caller before it emits
  `[:snakepit, :pool, :call, :dispatched]`. Of several rather one that has not started it, which a task may monitor too.
  `nil` if there is none.
  """
  @spec current() :: pid() | nil
  def current do
    {:monitors, monitors} = Process.info(self(), :monitors)

    case for({:process, pid} when is_pid(pid) and node(pid) == node() <- monitors, do: pid) do
      [] -> nil
      [pid] -> pid
      pids -> Enum.find(pids, hd(pids), &(&1 not in starters()))
    end
  end

  defp starters, do: List.wrap(Process.get(:"$callers")) ++ List.wrap(Process.get(:"$ancestors"))
end
