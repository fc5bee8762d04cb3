defmodule Bridge.Seen do
  @moduledoc "A `:telemetry` handler that remembers which events came, and nothing else of them."

  @handler "bridge-demo-seen"

  @type event :: [atom()]

  @doc "Attaches to the events; the memory is the calling process's and ends with it."
  @spec attach([event()]) :: :ok
  def attach(events) do
    :ets.new(__MODULE__, [:named_table, :public, write_concurrency: true])
    :ok = :telemetry.attach_many(@handler, events, &__MODULE__.handle/4, nil)
  end

  @doc "Those of `events` that have not come."
  @spec missed([event()]) :: [event()]
  def missed(events), do: Enum.reject(events, &:ets.member(__MODULE__, &1))

  @doc "Detaches and forgets."
  @spec detach() :: :ok
  def detach do
    :ok = :telemetry.detach(@handler)
    :ets.delete(__MODULE__)
    :ok
  end

  @doc false
  def handle(event, _measurements, _metadata, _config), do: :ets.insert(__MODULE__, {event})
end
