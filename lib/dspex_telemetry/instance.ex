defmodule DSPexTelemetry.Instance do
  @moduledoc false
  # The process that owns an instance: it makes the native instance, attaches and detaches the
  # handlers in turn, and lets idle series go. Events never pass through it.

  use GenServer

  require Logger

  alias DSPexTelemetry.{AdaptiveCache, Catalogue, Handler, Native, Options, OTLP, Reporter}
  alias DSPexTelemetry.Export.Delivery
  alias DSPexTelemetry.Instance.{Clock, Definition, HandlerJanitor, Lookup, SnakepitWorkers}

  # Milliseconds that one whose supervisor was killed may take to save its usage and end.
  @patience 5_000

  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(options) do
    # Names of supervisors are unique too, so one that is there has lost its own, and is about to end.
    with {:error, {:already_started, pid}} <- start(options) do
      await_end(pid)
      start(options)
    end
  end

  defp await_end(pid) do
    monitor = Process.monitor(pid)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> :ok
    after
      @patience -> Process.exit(pid, :kill)
    end

    Process.demonitor(monitor, [:flush])
  end

  defp start(options) do
    GenServer.start_link(__MODULE__, options,
      name: {:via, Registry, {Lookup.registry(), options.name, nil}}
    )
  end

  @spec attach(Lookup.name()) :: :ok
  def attach(name), do: call(name, :attach)

  @spec detach(Lookup.name()) :: :ok
  def detach(name), do: call(name, :detach)

  @spec attached?(Lookup.name()) :: boolean()
  def attached?(name), do: attached_handlers(Lookup.fetch!(name)) != []

  @doc "Detaches the handlers of an instance, running or not. Those of other instances stay."
  @spec detach_handlers(Lookup.handle()) :: :ok
  def detach_handlers(handle) do
    for handler <- attached_handlers(handle), do: :telemetry.detach(handler.id)
    :ok
  end

  @doc "Detaches handlers whose instance is not running."
  @spec detach_stale_handlers() :: :ok
  def detach_stale_handlers do
    # In this order: an instance is in the registry before it attaches, so whatever is attached now
    # and not running then is stale.
    handlers = attached_handlers()
    live = for {_pid, handle} <- Lookup.running(), plan <- plans(handle), do: plan
    for handler <- handlers, handler.config not in live, do: :telemetry.detach(handler.id)
    :ok
  end

  @impl true
  def init(options) do
    # `terminate/2` detaches the handlers, also when the supervisor ends us.
    Process.flag(:trap_exit, true)

    HandlerJanitor.await_clean_up(options.name)

    reporter = Reporter.new(options)

    case start_native(options, reporter) do
      {:ok, native, plans} ->
        {plans, reporting} = Enum.split(plans, length(events(options)))
        {started_at_ms, started_at_unix_ms} = Clock.now()
        summarised_until_ms = :atomics.new(1, [])
        :atomics.put(summarised_until_ms, 1, started_at_ms)

        handle = %{
          native: native,
          plans: Map.new(Enum.zip(Enum.map(events(options), &Catalogue.id/1), plans)),
          reporting: Reporter.publish(reporter, reporting),
          metrics_left_out: Reporter.left_out(reporter),
          options: options,
          started_at_ms: started_at_ms,
          started_at_unix_ms: started_at_unix_ms,
          summarised_until_ms: summarised_until_ms,
          push: Delivery.new_status(options.push),
          otlp: OTLP.new_state(options)
        }

        AdaptiveCache.publish(options.name, Native.cache_open(native))
        Native.publish_router(native, options.name)
        log_left_out(reporter)
        :ok = Lookup.publish(options.name, handle)
        HandlerJanitor.watch(self(), handle)
        if options.attach, do: attach_handlers(handle)
        handle = learn_workers(handle)
        schedule_tick(options)
        schedule_retirement(options)
        {:ok, handle}

      {:error, message} ->
        {:stop, message}
    end
  end

  # The handlers are attached before, so a worker that comes in between is heard of. One that goes in between is taken
  # away again at a tick.
  defp learn_workers(handle) do
    seeded = for worker <- snakepit_workers(handle), do: learn_worker(handle, worker)
    Map.put(handle, :seeded, seeded)
  end

  defp snakepit_workers(%{options: options}),
    do: if(:snakepit in options.presets, do: SnakepitWorkers.all(), else: [])

  defp learn_worker(handle, {id, _pool} = worker) do
    {event, measurements, metadata} = SnakepitWorkers.event(worker)
    {:ok, known} = Catalogue.fetch(event)
    plan = Map.fetch!(handle.plans, event)
    apply(Handler, Catalogue.function_name(known), [event, measurements, metadata, plan])
    id
  end

  defp forget_gone_workers(%{seeded: []} = handle), do: handle

  defp forget_gone_workers(handle) do
    alive = for {id, _pool} <- SnakepitWorkers.all(), do: id
    for id <- handle.seeded -- alive, do: Native.forget_worker(handle.native, id)
    %{handle | seeded: []}
  end

  defp log_left_out(reporter) do
    for {metric, owner} <- reporter.left_out do
      Logger.warning(
        "Metric #{metric.name}, a #{metric.kind} of event #{inspect(metric.event)}, is left out: " <>
          owner_of_name(owner)
      )
    end
  end

  defp owner_of_name(:reserved), do: "the name belongs to the library"

  defp owner_of_name(metric),
    do: "the #{metric.kind} #{metric.name} of event #{inspect(metric.event)} has the name"

  defp start_native(options, reporter) do
    with {:ok, native, plans} <- Native.start(Definition.new(options, reporter)),
         :ok <- restore_usage(native, options),
         do: {:ok, native, plans}
  end

  defp restore_usage(_native, %{usage_path: nil}), do: :ok

  defp restore_usage(native, options) do
    case Native.usage_open(native, options.usage_path, inspect(options.name)) do
      {:ok, nil} ->
        :ok

      {:ok, %{path: path, why: why}} ->
        Logger.error("Usage file #{options.usage_path} is #{why} and was moved to #{path}")

      {:error, message} ->
        Native.stop(native)
        {:error, message}
    end
  end

  @impl true
  def handle_call(:attach, _from, handle) do
    :ok = attach_handlers(handle)
    {:reply, :ok, learn_workers(handle)}
  end

  def handle_call(:detach, _from, handle), do: {:reply, detach_handlers(handle), handle}

  @impl true
  def handle_info(:tick, handle) do
    Native.tick(handle.native, Clock.now())
    schedule_tick(handle.options)
    {:noreply, forget_gone_workers(handle)}
  end

  def handle_info(:retire_idle, handle) do
    Native.retire_idle(handle.native, Clock.now(), handle.options.idle_timeout)
    schedule_retirement(handle.options)
    {:noreply, handle}
  end

  # The registry is linked to us: without it nobody can find the instance, so it starts again.
  def handle_info({:EXIT, _pid, reason}, handle), do: {:stop, reason, handle}
  def handle_info(_message, handle), do: {:noreply, handle}

  @impl true
  def terminate(_reason, handle) do
    detach_handlers(handle)
    stop_native(handle)
  end

  @doc "Ends recording and saves what is to be kept. Done once; after that it does nothing."
  @spec stop_native(Lookup.handle()) :: :ok
  def stop_native(handle) do
    Native.stop(handle.native)
    Reporter.withdraw(handle.reporting)

    case Native.usage_close(handle.native, Clock.now()) do
      :ok -> :ok
      {:error, message} -> Logger.error("Usage counts could not be saved: #{message}")
    end
  end

  defp attach_handlers(handle) do
    attached = for handler <- attached_handlers(handle), do: handler.config

    for {event, function, plan} <- handlers(handle), plan not in attached do
      # The plan is the id too: no other instance ever has it, so whoever cleans up after one that was
      # killed does not detach its successor's handlers. And it is a number, which `:telemetry` need
      # not copy out of its table for every event.
      :ok = :telemetry.attach(plan, event, function, plan)
    end

    :ok
  end

  defp events(options), do: Catalogue.events(options.presets)

  defp handlers(handle) do
    catalogue =
      for event <- events(handle.options) do
        function = Function.capture(Handler, Catalogue.function_name(event), 4)
        {event.name, function, Map.fetch!(handle.plans, Catalogue.id(event))}
      end

    catalogue ++ handle.reporting
  end

  defp plans(handle), do: for({_event, _function, plan} <- handlers(handle), do: plan)

  defp attached_handlers(handle) do
    plans = plans(handle)
    for handler <- attached_handlers(), handler.config in plans, do: handler
  end

  defp attached_handlers do
    for %{function: function} = handler <- :telemetry.list_handlers([]),
        Function.info(function, :module) in [module: Handler, module: Reporter.Handler],
        do: handler
  end

  # More often than slices end, so that they end on time.
  defp schedule_tick(%{slice: slice}),
    do: Process.send_after(self(), :tick, min(div(slice, 4) + 1, 1_000))

  defp schedule_retirement(%{idle_timeout: :infinity}), do: :ok

  defp schedule_retirement(%{idle_timeout: timeout}) do
    # A quarter, so that a series goes at most a quarter later than it might.
    Process.send_after(self(), :retire_idle, div(timeout, 4))
    :ok
  end

  defp call(name, request) do
    _ = Lookup.fetch!(name)
    GenServer.call({:via, Registry, {Lookup.registry(), name}}, request)
  end
end
