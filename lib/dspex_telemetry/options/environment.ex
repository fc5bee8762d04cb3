defmodule DSPexTelemetry.Options.Environment do
  @moduledoc false
  # OpenTelemetry's environment variables of an OTLP exporter, as its specification has them: what is empty
  # counts as absent, those for metrics come before those for all signals, and a value that is not
  # understood is told in the log and ignored.

  require Logger

  alias DSPexTelemetry.Export.Delivery.Address
  alias DSPexTelemetry.Options.Type

  @default_endpoint "http://localhost:4318"

  @doc """
  Keys of option `otlp` as they are given, and those of its table that only variables say something of.
  Always has `:url`.
  """
  @spec complete(keyword(), keyword(), %{optional(String.t()) => String.t()}) :: keyword()
  def complete(given, table, variables \\ System.get_env()) do
    variables =
      for {name, text} <- variables, text = String.trim(text), text != "", into: %{} do
        {name, text}
      end

    protocol!(variables)

    read = fn names, key, parse -> read(variables, names, key, parse, table[key][:type]) end

    environment =
      [url: url!(variables), resource: resource(variables, given, table[:resource][:type])] ++
        read.(["OTEL_METRIC_EXPORT_INTERVAL"], :interval, &integer/1) ++
        read.(either("TIMEOUT"), :timeout, &integer/1) ++
        read.(either("COMPRESSION"), :gzip, &compression/1) ++
        read.(either("CERTIFICATE"), :cacertfile, &{:ok, &1}) ++
        read.(either("HEADERS"), :headers, &headers/1) ++
        read.(
          ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"],
          :temporality,
          &temporality/1
        ) ++
        read.(
          ["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
          :histogram,
          &histogram/1
        )

    Keyword.merge(environment, given, fn
      :resource, completed, %{} -> completed
      _key, _environment, given -> given
    end)
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

  # What the option would not take is not understood either.
  defp read(variables, names, key, parse, type) do
    with {name, text} <- find(variables, names) do
      with {:ok, value} <- parse.(text),
           {:ok, value} <- Type.cast(type, value) do
        [{key, value}]
      else
        _not_understood ->
          ignored(name)
          []
      end
    else
      nil -> []
    end
  end

  # The value may hold a secret.
  defp ignored(name) do
    Logger.warning("Environment variable #{name} is not understood and ignored")
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

  # The endpoint of metrics is the whole address, that of all signals has the signal's path behind its own.
  defp url!(variables) do
    case find(variables, either("ENDPOINT")) do
      {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" = name, url} ->
        valid!(name, map_path(url, &with_path/1))

      {name, url} ->
        valid!(name, map_path(url, &(String.trim_trailing(&1, "/") <> "/v1/metrics")))

      nil ->
        @default_endpoint <> "/v1/metrics"
    end
  end

  # A query stays behind the path.
  defp map_path(url, function) do
    [address | query] = String.split(url, "?", parts: 2)
    Enum.join([function.(address) | query], "?")
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

  # From what counts most to what counts least, each if the option still takes it all.
  defp resource(variables, given, type) do
    given = with %{} <- given[:resource], do: given[:resource], else: (_no_map -> %{})

    sources = [
      {"OTEL_SERVICE_NAME", &{:ok, [{"service.name", &1}]}},
      {"OTEL_RESOURCE_ATTRIBUTES", &pairs/1},
      {"RELEASE_NAME", &{:ok, [{"service.name", &1}]}},
      {"RELEASE_VSN", &{:ok, [{"service.version", &1}]}}
    ]

    for {name, parse} <- sources, %{^name => text} <- [variables], reduce: given do
      resource ->
        with {:ok, attributes} <- parse.(text),
             more = attributes |> Map.new() |> Map.drop(names(resource)) |> Map.merge(resource),
             {:ok, _cast} <- Type.cast(type, more) do
          more
        else
          _not_understood ->
            ignored(name)
            resource
        end
    end
  end

  # Atoms name attributes as strings do.
  defp names(resource) do
    for name <- Map.keys(resource), is_atom(name) or is_binary(name), do: to_string(name)
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

  defp integer(text) do
    case Integer.parse(text) do
      {integer, ""} -> {:ok, integer}
      _none -> :error
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
