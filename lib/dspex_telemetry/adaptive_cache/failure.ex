defmodule DSPexTelemetry.AdaptiveCache.Failure do
  @moduledoc """
  Why a caller that waited for another's run got no result.

    * `kind: :error | :exit | :throw` - the function raised, exited or threw `reason`, in the caller
      that ran it, where it went on as if there were no cache
    * `kind: :died` - the caller that ran it was killed
    * `kind: :timeout` - it took longer than `:timeout`

  It comes as `{:error, failure}` and can be raised.
  """

  defexception [:kind, :reason, :method]

  @type t :: %__MODULE__{
          kind: :error | :exit | :throw | :died | :timeout,
          reason: term(),
          method: term()
        }

  @impl true
  def message(%{kind: :died, method: method}),
    do: "the process that ran #{inspect(method)} for all that waited died"

  def message(%{kind: :timeout, method: method}),
    do: "waited too long for another process that runs #{inspect(method)}"

  def message(%{kind: kind, reason: reason, method: method}) do
    "another process ran #{inspect(method)} for all that waited: " <>
      Exception.format_banner(kind, reason)
  end
end
