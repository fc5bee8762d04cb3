defmodule DSPexTelemetry.Endpoint.Negotiation do
  @moduledoc false
  # What a client likes best of what there is (RFC 9110, section 12.5). What is malformed in its
  # headers is skipped; nothing is ever refused.

  alias DSPexTelemetry.Exposition

  @type encoding :: :gzip | :identity

  # In the order in which they are taken when a client likes several equally. The contents of
  # OpenMetrics 0.0.1 and 1.0.0 are the same for us; `asked` must be in the range, for a client that
  # names the type alone may mean another protobuf message.
  @offers [
    {:text, "text", "plain", %{"version" => "0.0.4", "charset" => "utf-8"}, []},
    {:openmetrics, "application", "openmetrics-text",
     %{"version" => "1.0.0", "charset" => "utf-8"}, []},
    {:openmetrics_0_0_1, "application", "openmetrics-text",
     %{"version" => "0.0.1", "charset" => "utf-8"}, []},
    {:protobuf, "application", "vnd.google.protobuf",
     %{"proto" => "io.prometheus.client.metricfamily", "encoding" => "delimited"},
     ["proto", "encoding"]}
  ]

  @doc "The format that `Accept` headers like best, with its content type."
  @spec format([binary()]) :: {Exposition.format(), String.t()}
  def format(accept) do
    ranges = accept |> elements() |> Enum.flat_map(&range/1) |> Enum.with_index()

    @offers
    |> Enum.with_index()
    |> Enum.flat_map(fn {offer, order} ->
      for {quality, specific, position} <- [best(offer, ranges)],
          quality > 0,
          do: {{-quality, -specific, position, order}, elem(offer, 0)}
    end)
    |> Enum.min(fn -> {:nothing_liked, :text} end)
    |> elem(1)
    |> with_content_type()
  end

  defp with_content_type(:openmetrics_0_0_1) do
    content_type = Exposition.content_type(:openmetrics)
    {:openmetrics, String.replace(content_type, "version=1.0.0", "version=0.0.1")}
  end

  defp with_content_type(format), do: {format, Exposition.content_type(format)}

  # The most specific range that an offer is in says how much it is liked.
  defp best(offer, ranges) do
    Enum.max_by(
      for(
        {range, position} <- ranges,
        specific = match(offer, range),
        do: {range, specific, position}
      ),
      fn {_range, specific, position} -> {specific, -position} end,
      fn -> nil end
    )
    |> case do
      nil ->
        {0, 0, 0}

      {{_type, _subtype, _parameters, quality}, specific, position} ->
        {quality, specific, position}
    end
  end

  defp match(_offer, {"*", "*", _parameters, _quality}), do: 1
  defp match({_format, type, _, _, _}, {type, "*", _parameters, _quality}), do: 2

  defp match({_format, type, subtype, offered, asked}, {type, subtype, parameters, _quality}) do
    # Parameters that are none of ours, such as `escaping`, do not matter.
    named = Map.take(parameters, Map.keys(offered))

    if named == Map.take(offered, Map.keys(named)) and Enum.all?(asked, &is_map_key(named, &1)),
      do: 3 + map_size(named)
  end

  defp match(_offer, _range), do: nil

  @doc "Whether `Accept-Encoding` headers like gzip at least as much as no compression."
  @spec encoding([binary()]) :: encoding()
  def encoding(accept_encoding) do
    qualities =
      for element <- elements(accept_encoding),
          {name, parameters} = split(element),
          {:ok, quality} <- [quality(parameters)],
          into: %{},
          do: {name, quality}

    gzip = qualities["gzip"] || qualities["x-gzip"] || qualities["*"] || 0
    if gzip > 0 and gzip >= Map.get(qualities, "identity", 0), do: :gzip, else: :identity
  end

  # No client has so many; it bounds the work for one that has.
  @most_elements 100

  defp elements(headers) do
    headers
    |> Enum.join(",")
    |> String.split(",", parts: @most_elements + 1)
    |> Enum.take(@most_elements)
  end

  defp range(element) do
    {range, parameters} = split(element)

    with [type, subtype] <- String.split(range, "/"),
         true <- type != "" and subtype != "",
         {:ok, quality} <- quality(parameters) do
      [{type, subtype, parameters, quality}]
    else
      _malformed -> []
    end
  end

  defp split(element) do
    [name | parameters] =
      element |> String.downcase(:ascii) |> String.split(";") |> Enum.map(&trim/1)

    parameters =
      for parameter <- parameters,
          [key, value] <- [String.split(parameter, "=", parts: 2)],
          into: %{} do
        {trim(key), value |> trim() |> unquoted()}
      end

    {name, parameters}
  end

  defp quality(%{"q" => quality}) do
    if quality =~ ~r/\A(0(\.[0-9]{0,3})?|1(\.0{0,3})?)\z/,
      do: {:ok, quality |> Float.parse() |> elem(0)},
      else: :error
  end

  defp quality(_parameters), do: {:ok, 1.0}

  defp unquoted(value), do: Regex.replace(~r/\A"(.*)"\z/, value, "\\1")

  # By byte: a header need not be UTF-8.
  defp trim(text), do: Regex.replace(~r/\A[ \t]+|[ \t]+\z/, text, "")
end
