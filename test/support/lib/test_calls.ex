defmodule DSPexTelemetry.TestCalls do
  @moduledoc "Method calls that have ended, and how many of them an instance has counted."

  import DSPexTelemetry.TestInstance, only: [handle: 4]

  @stop [:dspex, :bridge, :call_method, :stop]

  @doc "Emits a call of a method."
  def call(method) do
    metadata = %{method: method, python_class: "C", success: true}
    :telemetry.execute(@stop, %{duration: 1}, metadata)
  end

  @doc "Calls the handler of these plans for one call."
  def record(plans),
    do: handle(plans, @stop, %{duration: 1}, %{method: "m", python_class: "C", success: true})

  @doc "How many calls of each method an instance has counted."
  def counts(name) do
    Map.new(DSPexTelemetry.report(instance: name).operations, &{&1.method, &1.count})
  end
end
