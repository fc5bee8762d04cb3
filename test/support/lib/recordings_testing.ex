defmodule DSPexTelemetry.RecordingsTesting do
  @moduledoc """
  Recorded events of real systems, to be emitted again.
  """

  alias Bridge.Recording

  @folder "test/fixtures/recorded_events"

  def recording(file), do: @folder |> Path.join(file) |> Recording.stream!() |> Enum.to_list()

  def emit({_time, event, measurements, metadata}), do: emit(event, measurements, metadata)

  def emit(event, measurements, metadata), do: :telemetry.execute(event, measurements, metadata)
end
