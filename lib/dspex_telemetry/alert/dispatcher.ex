defmodule DSPexTelemetry.Alert.Dispatcher do
  @moduledoc false
  # Takes an instance's signals, logs them and emits them as `:telemetry` events.
  #
  # Handlers of those events run in this process. While one of them takes its time, signals wait in
  # Rust, and when there is no more room they are dropped and counted; nobody else waits.

  use GenServer

  alias DSPexTelemetry.{Alert, Native}
  alias DSPexTelemetry.Instance.Lookup

  def start_link(options), do: GenServer.start_link(__MODULE__, options)

  @impl true
  def init(options) do
    native = Lookup.fetch!(options.name).native
    :ok = Native.demand_signals(native, self())
    {:ok, %{instance: options.name, native: native}}
  end

  @impl true
  def handle_info({:signals, signals}, state) do
    Enum.each(signals, &Alert.raise(&1, state.instance))
    :ok = Native.demand_signals(state.native, self())
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}
end
