defmodule Bridge.WorkerError do
  @moduledoc """
  The worker ended while it had the request.

  `reason` is `{:exit_status, status}` (128 + the signal's number when a signal killed it),
  `:timeout` when the request took too long, or why the worker's process stopped.
  """

  @type t :: %__MODULE__{worker_id: String.t(), reason: term()}

  defexception [:worker_id, :reason]

  @impl true
  def message(error), do: "#{error.worker_id} ended during the request: #{inspect(error.reason)}"
end
