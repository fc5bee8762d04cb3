defmodule DSPexTelemetry.Endpoint.Supervisor do
  @moduledoc false
  # The processes of the endpoint. They have a supervisor of their own that all but never gives up, for
  # if it did the instance would start again and lose what it has recorded.

  use Supervisor

  alias DSPexTelemetry.Endpoint.{Limits, Renderer, Rendering, Server}
  alias DSPexTelemetry.Instance.Lookup

  # Whoever kills a process a thousand times a second means it. The processes do not fail that often by
  # themselves: their starts cannot fail, and the server waits before it tries again to listen.
  @max_restarts 1_000

  @doc """
  Starts the endpoint of an instance, for its options.

  `started` is of `DSPexTelemetry.Endpoint.Server.new_started/0`. Tests may have another `render`, which
  makes what is answered with, and other `limits`.
  """
  def start_link(%{options: _, started: _} = arguments),
    do: Supervisor.start_link(__MODULE__, arguments)

  @impl true
  def init(%{options: %{name: name, http: http}, started: started} = arguments) do
    render = Map.get(arguments, :render, &Rendering.render(name, &1))
    limits = Map.get(arguments, :limits, %Limits{})

    config = %{
      instance: name,
      auth: http.auth,
      hosts: http.hosts,
      page_methods: http.page_methods,
      render: &Renderer.render(name, &1, limits.rendered_ms, &2)
    }

    children = [
      {Renderer, {name, render}},
      {Server, %{http: http, config: config, limits: limits, started: started}}
    ]

    Supervisor.init(children, strategy: :one_for_one, max_restarts: @max_restarts, max_seconds: 1)
  end

  @doc """
  Makes the calling process known under a key of the registry.

  If its supervisor was killed, the process before may not have ended yet, but it will, having lost its
  supervisor too: it is waited for, since a start that fails would in the end be the instance's.
  """
  @spec register(term()) :: :ok
  def register(key) do
    case Registry.register(Lookup.registry(), key, nil) do
      {:ok, _partition} ->
        :ok

      {:error, {:already_registered, pid}} ->
        monitor = Process.monitor(pid)

        receive do
          {:DOWN, ^monitor, :process, ^pid, _reason} -> register(key)
        end
    end
  end
end
