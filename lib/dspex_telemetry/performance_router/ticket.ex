defmodule DSPexTelemetry.PerformanceRouter.Ticket do
  @moduledoc """
  A request on its way to a worker, from `DSPexTelemetry.PerformanceRouter.checkout/3`.

    * `:worker_id` - where it goes

  It counts as in flight until `DSPexTelemetry.PerformanceRouter.complete/3`, until the process that
  checked it out ends, or until nobody refers to it any more, whatever comes first. Any process may
  complete it.
  """

  @enforce_keys [:worker_id, :native]
  @derive {Inspect, only: [:worker_id]}
  defstruct @enforce_keys

  @opaque native :: reference()
  @type t :: %__MODULE__{worker_id: String.t(), native: native()}
end
