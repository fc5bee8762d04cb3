defmodule DSPexTelemetry.UsageTesting do
  @moduledoc """
  What instances have counted of uses, and tools that are used.
  """

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.UsageAnalytics

  @tool [:dspex, :tools, :call]

  def start(options \\ []) do
    defaults = [attach: false, summary_interval: :infinity, usage_save_interval: 86_400_000]
    start!(Keyword.merge(defaults, options))
  end

  def usage(instance, options \\ []),
    do: UsageAnalytics.get_usage_report([instance: instance] ++ options)

  def file(instance), do: usage(instance).file
  def names(kind), do: Enum.map(kind.most_used, & &1.name)
  def counts(kind), do: Map.new(kind.most_used, &{&1.name, &1.count})

  def use_tool(instance, tool, count) do
    plans = plans(instance)
    for _ <- 1..count, do: :ok = use_tool_of(plans, tool)
  end

  def use_tool_of(plans, tool) do
    metadata = %{tool_name: tool, success: true}
    handle(plans, @tool ++ [:stop], %{duration: 1}, metadata)
  end
end
