defmodule DSPexTelemetry.Instance.Lookup do
  @moduledoc false
  # The running instances by name: a registry maps each name to the instance's handle, which any process reads.

  alias DSPexTelemetry.{Native, Options, OTLP, Reporter}

  @registry DSPexTelemetry.Registry

  @type name :: atom()
  @type handle :: %{
          native: Native.instance(),
          plans: %{[atom()] => Native.plan()},
          reporting: [{event :: [atom()], function(), Native.plan()}],
          metrics_left_out: [Reporter.left_out()],
          options: Options.t(),
          started_at_ms: integer(),
          started_at_unix_ms: integer(),
          summarised_until_ms: :atomics.atomics_ref(),
          push: :atomics.atomics_ref() | nil,
          otlp: OTLP.state() | nil
        }

  @doc "The registry in which instances are found by name."
  @spec registry() :: module()
  def registry, do: @registry

  @doc "Makes the handle of an instance known. Its process calls this, which has registered its name."
  @spec publish(name(), handle()) :: :ok
  def publish(name, handle) do
    {_new, _old} = Registry.update_value(@registry, name, fn _ -> handle end)
    :ok
  end

  @doc "The handle of a running instance. Raises `ArgumentError` if there is none of that name."
  @spec fetch!(name()) :: handle()
  def fetch!(name) do
    case fetch(name) do
      {:ok, handle} -> handle
      :error -> raise ArgumentError, not_running(name)
    end
  end

  @doc "The handle of an instance, if one of that name is running."
  @spec fetch(name()) :: {:ok, handle()} | :error
  def fetch(name) do
    # The registry forgets a process a moment after it has ended.
    with true <- application_running?(),
         [{pid, %{} = handle}] <- Registry.lookup(@registry, name),
         true <- Process.alive?(pid) do
      {:ok, handle}
    else
      _none_or_not_ready -> :error
    end
  end

  @spec running?(name()) :: boolean()
  def running?(name), do: fetch(name) != :error

  @doc "The native instance of a running instance."
  @spec native!(name()) :: Native.instance()
  def native!(name), do: fetch!(name).native

  @doc "The running instances: their pids and handles."
  @spec running() :: [{pid(), handle()}]
  def running do
    for true <- [application_running?()],
        {pid, %{} = handle} <-
          Registry.select(@registry, [{{:_, :"$1", :"$2"}, [], [{{:"$1", :"$2"}}]}]),
        do: {pid, handle}
  end

  @doc "Raises `ArgumentError` if the application is not running, without which there are no instances."
  @spec application_running!() :: :ok
  def application_running! do
    if application_running?(), do: :ok, else: raise(ArgumentError, not_started())
  end

  # The registry raises where it is not itself, and names only itself.
  defp application_running?, do: Process.whereis(@registry) != nil

  defp not_started do
    "the application :dspex_telemetry is not running, so there are no instances: it has not been started, or has " <>
      "been stopped; start it with Application.ensure_all_started(:dspex_telemetry)"
  end

  defp not_running(name),
    do: if(application_running?(), do: none_running(name), else: not_started())

  defp none_running(name) do
    running = for {_pid, handle} <- running(), do: handle.options.name

    "no instance #{inspect(name)} is running, running are: " <>
      Enum.map_join(running, ", ", &inspect/1)
  end
end
