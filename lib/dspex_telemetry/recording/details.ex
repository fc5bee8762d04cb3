defmodule DSPexTelemetry.Recording.Details do
  @moduledoc false
  # What an event says beside its labels and numbers. Recording asks for it only where it has noted something of the
  # event: that its sample should be an exemplar, that the call failed, or that it is one of the slowest.

  import Bitwise

  alias DSPexTelemetry.{Exemplar, Native, Reason}

  # The numbers of `native/recording/src/notes.rs`.
  @failed 2
  @completed 8

  @doc "Passes an event to Rust once more. It was recorded by the plan; metadata may be anything."
  @spec keep(pos_integer(), Native.plan(), [term()], term()) :: :ok
  def keep(notes, plan, fields, metadata) when is_map(metadata) do
    {message, callers_fault?} = describe(notes, metadata)
    details = Exemplar.values(metadata) ++ [id(worker(metadata)), message]
    Native.keep(plan, notes, fields, details, callers_fault?)
  end

  def keep(notes, plan, fields, _metadata),
    do: Native.keep(plan, notes, fields, [], false)

  defp describe(notes, metadata) when (notes &&& (@failed ||| @completed)) != 0,
    do: {Reason.message(metadata), Reason.callers_fault?(metadata)}

  defp describe(_notes, _metadata), do: {"", false}

  # Snakepit's errors name the worker where the event does not.
  defp worker(%{worker_id: worker}), do: worker
  defp worker(%{error: %{details: %{worker_id: worker}}}), do: worker
  defp worker(_metadata), do: nil

  defp id(text) when is_binary(text), do: text
  defp id(atom) when is_atom(atom) and atom != nil, do: Atom.to_string(atom)
  defp id(_other), do: ""
end
