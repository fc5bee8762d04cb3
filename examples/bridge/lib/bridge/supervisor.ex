defmodule Bridge.Supervisor do
  @moduledoc """
  The supervision tree of a bridge.

      Bridge.Supervisor (one_for_all)
      ├── Bridge.SessionRegistry    session id → process
      ├── Bridge.SessionSupervisor  one Bridge.Session for each session
      ├── Bridge.UpcallSupervisor   one task for each question Python asks
      ├── Bridge.Cache              results of pure methods
      ├── Bridge.WorkerSupervisor   one Bridge.Worker for each Python process
      └── Bridge.Pool               who may use which worker

  One for all, because refs, checkouts and workers only mean something together. Workers are
  temporary: the pool replaces them, since it must first answer those who wait for the dead one.
  """

  use Supervisor

  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(options), do: Supervisor.start_link(__MODULE__, options, name: __MODULE__)

  @impl true
  def init(options) do
    children = [
      {Registry, keys: :unique, name: Bridge.SessionRegistry},
      {DynamicSupervisor, name: Bridge.SessionSupervisor},
      {Task.Supervisor, name: Bridge.UpcallSupervisor},
      Bridge.Cache,
      {DynamicSupervisor, name: Bridge.WorkerSupervisor},
      {Bridge.Pool, options}
    ]

    Supervisor.init(children, strategy: :one_for_all)
  end
end
