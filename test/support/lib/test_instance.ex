defmodule DSPexTelemetry.TestInstance do
  @moduledoc """
  Instances that belong to one test, and ways to look at them.

  Every instance sees every event of the VM. A test that runs beside others gives its events labels
  that `label/1` makes, and looks only at rows that have them.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [on_exit: 1, start_supervised!: 1]

  alias DSPexTelemetry.{Catalogue, Handler, LogWatch}
  alias DSPexTelemetry.Catalogue.Event
  alias DSPexTelemetry.Instance.{HandlerJanitor, Lookup}

  @patience_ms 10_000

  @doc "Starts an instance for the test and returns its name. Durations are in nanoseconds."
  def start!(options \\ [], restart \\ :permanent) do
    options = Keyword.merge([name: unique_name(), duration_unit: :nanosecond], options)
    start_supervised!(Supervisor.child_spec({DSPexTelemetry, options}, restart: restart))
    options[:name]
  end

  def unique_name, do: :"test_instance_#{System.unique_integer([:positive])}"

  @doc "A label value that no other test uses."
  def label(prefix), do: "#{prefix}-#{System.unique_integer([:positive])}"

  @doc "The process of a running instance."
  def pid(name), do: Registry.whereis_name({Lookup.registry(), name})

  @doc "The supervisor of a running instance."
  def supervisor_of(name),
    do: Registry.whereis_name({Lookup.registry(), {:supervisor, name}})

  @doc "The process of a running instance that runs a module, such as `DSPexTelemetry.Alert.Dispatcher`."
  def child(name, module) do
    children = name |> supervisor_of() |> Supervisor.which_children()
    {_id, pid, _type, _modules} = List.keyfind(children, module, 0)
    pid
  end

  def native(name), do: Lookup.fetch!(name).native

  @doc "The plans of a running instance by what `DSPexTelemetry.Catalogue.id/1` says of their events."
  def plans(name), do: Lookup.fetch!(name).plans

  @doc """
  Calls the handler of an event as `:telemetry` does, and returns what it returns. The event is a name, or a row of the
  catalogue where two have the name.
  """
  def handle(plans, %Event{} = event, measurements, metadata) do
    plan = Map.fetch!(plans, Catalogue.id(event))
    arguments = [event.name, measurements, metadata, plan]
    apply(Handler, Catalogue.function_name(event), arguments)
  end

  def handle(plans, event_name, measurements, metadata) do
    {:ok, event} = Catalogue.fetch(event_name)
    handle(plans, event, measurements, metadata)
  end

  @doc "The events that have a handler of these plans, each as often as it has one."
  def attached_events(plans) do
    plans = Map.values(plans)

    for handler <- :telemetry.list_handlers([]), handler.config in plans do
      handler.event_name
    end
  end

  @doc "Asserts that every event of the catalogue has exactly one handler of these plans."
  def assert_all_attached(plans) do
    events = for event <- Catalogue.events(), do: event.name
    assert Enum.sort(attached_events(plans)) == Enum.sort(events)
  end

  @doc "Has the test told of every handler that `:telemetry` removes because it raised."
  def watch_handler_failures do
    id = {__MODULE__, make_ref()}
    event = [:telemetry, :handler, :failure]
    :ok = :telemetry.attach(id, event, &__MODULE__.forward_failure/4, self())
    on_exit(fn -> :telemetry.detach(id) end)
  end

  @doc false
  def forward_failure(_event, _measurements, metadata, test),
    do: send(test, {:handler_failed, metadata})

  @doc "Asserts that no handler has raised since `watch_handler_failures/0`."
  def assert_no_handler_failed, do: refute_received({:handler_failed, _metadata})

  @doc """
  Has the test told of the events that an instance emits, as `{:emitted, event, measurements,
  metadata}`.
  """
  def watch_events(instance, events) do
    id = {__MODULE__, make_ref()}
    :ok = :telemetry.attach_many(id, events, &__MODULE__.forward_event/4, {instance, self()})
    on_exit(fn -> :telemetry.detach(id) end)
  end

  @doc false
  def forward_event(event, measurements, %{instance: instance} = metadata, {instance, test}),
    do: send(test, {:emitted, event, measurements, metadata})

  def forward_event(_event, _measurements, _metadata_of_another, _config), do: :ok

  @doc """
  Has the test told of every line that is logged in the VM and has a text in it, as `{:logged, level,
  line}`.
  """
  def watch_log(text) do
    LogWatch.watch(fn
      %{level: level, msg: {:string, chardata}} ->
        line = IO.chardata_to_string(chardata)
        if line =~ text, do: {:logged, level, line}

      _report ->
        nil
    end)
  end

  @doc "The row with these labels, or `nil`."
  def row(rows, labels), do: Enum.find(rows, &(Map.take(&1, Map.keys(labels)) == labels))

  @doc "The series that an instance has for an event or span."
  def series(name, event) do
    Enum.find(DSPexTelemetry.info(instance: name).series, &(&1.event == event))
  end

  @doc "Kills a process and waits until it is dead."
  def kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)

    receive do
      {:DOWN, ^monitor, :process, ^pid, _reason} -> :ok
    end
  end

  @doc "Kills the process that runs a module for a running instance, and waits for the next."
  def kill_child(name, module) do
    before = child(name, module)
    kill(before)

    await("another #{inspect(module)}", fn ->
      now = child(name, module)
      is_pid(now) and now != before
    end)
  end

  @doc """
  Waits until something becomes true that another process does at its own pace. `what` says it.

  Asks again as soon as the janitor, which does most of it, has worked off its messages.
  """
  def await(what, condition) do
    await(what, condition, System.monotonic_time(:millisecond) + @patience_ms)
  end

  defp await(what, condition, deadline) do
    unless condition.() do
      if System.monotonic_time(:millisecond) > deadline, do: flunk("in vain waited for: #{what}")
      janitor = Process.whereis(HandlerJanitor)
      if janitor, do: barrier(janitor), else: :erlang.yield()
      await(what, condition, deadline)
    end
  end

  defp barrier(pid) do
    :sys.get_state(pid)
  catch
    :exit, _it_is_being_restarted -> :ok
  end
end
