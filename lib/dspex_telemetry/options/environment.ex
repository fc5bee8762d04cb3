defmodule DSPexTelemetry.Options.Environment do
  @moduledoc false
  # OpenTelemetry's environment variables of an OTLP exporter, as its specification has them: what is empty
  # counts as absent, those for metrics come before those for all signals, and a value that is not
  # understood is told in the log and ignored.

  require Logger

  alias DSPexTelemetry.Delivery.Address

  @default_endpoint "http://localhost:4318"

  @doc "Keys of option `otlp` that variables say something of, and always `:url`."
  @spec otlp(%{optional(String.t()) => String.t()}) :: keyword()
  def otlp(variables \\ System.get_env()) do
    variables = Map.reject(variables, fn {_name, value} -> String.trim(value) == "" end)
    protocol!(variables)

    [url: url!(variables), resource: resource(variables)] ++
      read(variables, ["OTEL_METRIC_EXPORT_INTERVAL"], :interval, &milliseconds/1) ++
      read(variables, either("TIMEOUT"), :timeout, &milliseconds/1) ++
      read(variables, either("COMPRESSION"), :gzip, &compression/1) ++
      read(variables, either("CERTIFICATE"), :cacertfile, &{:ok, &1}) ++
      read(variables, either("HEADERS"), :headers, &headers/1) ++
      read(
        variables,
        ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"],
        :temporality,
        &temporality/1
      ) ++
      read(
        variables,
        ["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
        :histogram,
        &histogram/1
      )
  end

  defp either(name), do: ["OTEL_EXPORTER_OTLP_METRICS_#{name}", "OTEL_EXPORTER_OTLP_#{name}"]

  defp find(variables, names) do
    Enum.find_value(names, fn name ->
      case variables do
        %{^name => value} -> {name, value}
        _absent -> nil
      end
    end)
  end

  defp read(variables, names, key, parse) do
    with {name, value} <- find(variables, names) do
      case parse.(String.trim(value)) do
        {:ok, parsed} -> [{key, parsed}]
        :error -> ignored(name)
      end
    else
      nil -> []
    end
  end

  # The value may hold a secret.
  defp ignored(name) do
    Logger.warning("Environment variable #{name} is not understood and ignored")
    []
  end

  defp protocol!(variables) do
    case find(variables, either("PROTOCOL")) do
      {name, protocol} when protocol != "http/protobuf" ->
        raise ArgumentError,
              "environment variable #{name} must be http/protobuf, the only protocol that is spoken, " <>
                "got: #{inspect(protocol)}"

      _http_or_none ->
        :ok
    end
  end

  # The endpoint of metrics is the whole address, that of all signals has the signal's path behind it.
  defp url!(variables) do
    case find(variables, either("ENDPOINT")) do
      {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" = name, url} -> valid!(name, with_path(url))
      {name, url} -> valid!(name, String.trim_trailing(url, "/") <> "/v1/metrics")
      nil -> @default_endpoint <> "/v1/metrics"
    end
  end

  defp with_path(url), do: if(url =~ ~r{\Ahttps?://[^/]*\z}, do: url <> "/", else: url)

  defp valid!(name, url) do
    unless Address.valid?(url) do
      raise ArgumentError,
            "environment variable #{name} must be #{Address.allowed()}, got: " <>
              inspect(Address.redact(url))
    end

    url
  end

  defp resource(variables) do
    release =
      for {name, attribute} <- [
            {"RELEASE_NAME", "service.name"},
            {"RELEASE_VSN", "service.version"}
          ],
          %{^name => value} <- [variables],
          into: %{},
          do: {attribute, value}

    given =
      case read(variables, ["OTEL_RESOURCE_ATTRIBUTES"], :resource, &pairs/1) do
        [resource: pairs] -> Map.new(pairs)
        [] -> %{}
      end

    service =
      for %{"OTEL_SERVICE_NAME" => name} <- [variables], into: %{}, do: {"service.name", name}

    release |> Map.merge(given) |> Map.merge(service)
  end

  defp headers(text) do
    with {:ok, pairs} <- pairs(text),
         do: {:ok, for({name, value} <- pairs, do: {String.downcase(name), value})}
  end

  # As in W3C baggage: `name=value` with commas between, values with percent encoding.
  defp pairs(text) do
    pairs =
      for pair <- String.split(text, ",", trim: true),
          do: pair |> String.split("=", parts: 2) |> Enum.map(&String.trim/1)

    if Enum.all?(pairs, &match?([name, _value] when name != "", &1)),
      do: {:ok, for([name, value] <- pairs, do: {decode(name), decode(value)})},
      else: :error
  end

  defp decode(text) do
    decoded = URI.decode(text)
    if String.valid?(decoded), do: decoded, else: text
  rescue
    ArgumentError -> text
  end

  defp milliseconds(text) do
    case Integer.parse(text) do
      {ms, ""} when ms >= 10 and ms <= 600_000 -> {:ok, ms}
      _no_such_time -> :error
    end
  end

  defp compression("gzip"), do: {:ok, true}
  defp compression("none"), do: {:ok, false}
  defp compression(_other), do: :error

  defp temporality(text) do
    case String.downcase(text) do
      "cumulative" -> {:ok, :cumulative}
      "delta" -> {:ok, :delta}
      "lowmemory" -> {:ok, :low_memory}
      _other -> :error
    end
  end

  defp histogram(text) do
    case String.downcase(text) do
      "explicit_bucket_histogram" -> {:ok, :explicit}
      "base2_exponential_bucket_histogram" -> {:ok, :exponential}
      _other -> :error
    end
  end
end
