defmodule DSPexTelemetry.AlertTesting do
  @moduledoc """
  Instances whose alerts a test receives, and events that give rise to alerts.
  """

  import DSPexTelemetry.TestInstance
  import ExUnit.Assertions

  alias DSPexTelemetry.{Alert, Native}
  alias DSPexTelemetry.Instance.Clock

  @stop [:dspex, :bridge, :call_method, :stop]
  @exception [:dspex, :bridge, :call_method, :exception]
  @hour 3_600_000

  # So that nothing ends by itself while a test runs.
  @quiet [
    attach: false,
    slice: @hour,
    history: 604_800_000,
    summary_interval: :infinity,
    error_spike_window: @hour
  ]

  def quiet, do: @quiet

  def start_watched!(options \\ []) do
    instance = start!(Keyword.merge(@quiet, options))
    watch_events(instance, Alert.events())
    instance
  end

  def fail(instance, method, kind, reason, class \\ "Class") do
    metadata = %{method: method, python_class: class, kind: kind, reason: reason}
    :ok = handle(plans(instance), @exception, %{duration: 1}, metadata)
  end

  def return(instance, method, success, duration_us \\ 1) do
    metadata = %{method: method, python_class: "Class", success: success}
    :ok = handle(plans(instance), @stop, %{duration: duration_us * 1_000}, metadata)
  end

  def wait(instance, command, wait_us) do
    metadata = %{worker_id: "worker-1", command: command}
    event = [:snakepit, :pool, :queue_time]
    :ok = handle(plans(instance), event, %{wait_time_us: wait_us}, metadata)
  end

  @doc "As if so much time had passed."
  def tick(instance, later_ms) do
    {now_ms, unix_ms} = Clock.now()
    :ok = Native.tick(native(instance), {now_ms + later_ms, unix_ms + later_ms})
  end

  @doc "An instance tells of everything in order: when the last has been told, all has."
  def refute_alert(instance) do
    command = label("barrier")
    watch_log(command)
    wait(instance, command, @hour * 1_000)
    line = "Long queue wait: #{command} waited 1.00h for worker worker-1"
    assert_receive {:logged, :warning, ^line}, 10_000
    refute_received {:emitted, _event, _measurements, _metadata}
  end
end
