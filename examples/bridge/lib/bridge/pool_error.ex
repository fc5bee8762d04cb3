defmodule Bridge.PoolError do
  @moduledoc "The pool had no worker to give."

  @type reason ::
          {:unknown_ref, Bridge.ref()}
          | {:unknown_worker, String.t()}
          | :queue_timeout
          | :stopped
          | {:python, String.t()}

  @type t :: %__MODULE__{reason: reason()}

  defexception [:reason]

  @impl true
  def message(%{reason: {:unknown_ref, ref}}) do
    "no worker holds #{inspect(ref)}: it was released, or its worker has died; create it again"
  end

  def message(%{reason: {:unknown_worker, id}}), do: "there is no worker #{inspect(id)}"
  def message(%{reason: :queue_timeout}), do: "no worker became free in time"
  def message(%{reason: :stopped}), do: "the pool is not running; see Bridge.start_link/1"
  def message(%{reason: {:python, what}}), do: "Python workers do not start: #{what}"
end
