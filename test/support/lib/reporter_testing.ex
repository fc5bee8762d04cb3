defmodule DSPexTelemetry.ReporterTesting do
  @moduledoc """
  What instances with definitions of metrics have recorded.
  """

  def lines(instance, name, format \\ :text) do
    text = DSPexTelemetry.scrape(instance: instance, format: format)
    for line <- String.split(text, "\n"), line =~ ~r/^(# (TYPE|HELP) )?#{name}/, do: line
  end

  def samples(instance, name, format \\ :text),
    do: Enum.reject(lines(instance, name, format), &String.starts_with?(&1, "#"))

  def rejected(instance) do
    for %{metric: metric, reason: reason, count: count} <-
          DSPexTelemetry.info(instance: instance).metrics_rejected,
        into: %{},
        do: {{metric, reason}, count}
  end
end
