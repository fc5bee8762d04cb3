defmodule DSPexTelemetry.Endpoint.Rendering do
  @moduledoc false
  # Makes what the endpoint answers with.

  require Logger

  alias DSPexTelemetry.{Exposition, Instance, Native, Window}
  alias DSPexTelemetry.Endpoint.Negotiation
  alias DSPexTelemetry.Export.Gzip
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @type what ::
          {{:scrape, Exposition.format()}
           | {:report, Window.t()}
           | {:page, Window.t(), methods :: pos_integer()}, Negotiation.encoding()}
  @type result :: {:ok, binary()} | {:error, :failed | :busy | :not_running}

  @doc "Makes it here and now. Logs what goes wrong, and never raises."
  @spec render(atom(), what()) :: result()
  def render(instance, {subject, encoding}) do
    if Lookup.running?(instance),
      do: {:ok, instance |> content(subject) |> encode(encoding)},
      else: {:error, :not_running}
  rescue
    exception ->
      Logger.error(
        "#{inspect(subject)} of #{inspect(instance)} could not be rendered: " <>
          Exception.format(:error, exception, __STACKTRACE__)
      )

      {:error, :failed}
  end

  defp content(instance, {:scrape, format}),
    do: DSPexTelemetry.scrape(format: format, instance: instance)

  defp content(instance, {:report, window}),
    do: DSPexTelemetry.report(format: :json, window: window, instance: instance)

  defp content(instance, {:page, window, methods}) do
    wanted = %{
      instance: inspect(instance),
      attached: Instance.attached?(instance),
      methods: methods
    }

    instance
    |> Lookup.native!()
    |> Native.page_json(wanted, Window.native!(window), Clock.now())
  end

  defp encode(content, :identity), do: IO.iodata_to_binary(content)
  defp encode(content, :gzip), do: Gzip.compress(content)
end
