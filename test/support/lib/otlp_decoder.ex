defmodule DSPexTelemetry.OTLPDecoder do
  @moduledoc """
  Reads requests of OTLP's metrics, by the numbers and types of fields in OpenTelemetry's `.proto` files and by
  nothing else: it shares no code with what writes them. Raises at a field that is not in its tables, and at
  one of another wire type.
  """

  import Bitwise

  @messages %{
    request: %{1 => {:resource_metrics, :many, :resource_metrics}},
    response: %{1 => {:partial_success, :one, :partial_success}},
    partial_success: %{
      1 => {:rejected_data_points, :one, :varint},
      2 => {:error_message, :one, :string}
    },
    resource_metrics: %{
      1 => {:resource, :one, :resource},
      2 => {:scope_metrics, :many, :scope_metrics}
    },
    resource: %{1 => {:attributes, :many, :key_value}},
    scope_metrics: %{1 => {:scope, :one, :scope}, 2 => {:metrics, :many, :metric}},
    scope: %{1 => {:name, :one, :string}, 2 => {:version, :one, :string}},
    key_value: %{1 => {:key, :one, :string}, 2 => {:value, :one, :any_value}},
    any_value: %{
      1 => {:string_value, :one, :string},
      2 => {:bool_value, :one, :varint},
      3 => {:int_value, :one, :int64},
      4 => {:double_value, :one, :double}
    },
    metric: %{
      1 => {:name, :one, :string},
      2 => {:description, :one, :string},
      3 => {:unit, :one, :string},
      5 => {:gauge, :one, :numbers},
      7 => {:sum, :one, :sum},
      9 => {:histogram, :one, :histogram},
      10 => {:exponential_histogram, :one, :exponential_histogram},
      11 => {:summary, :one, :summary}
    },
    numbers: %{1 => {:data_points, :many, :number_data_point}},
    sum: %{
      1 => {:data_points, :many, :number_data_point},
      2 => {:aggregation_temporality, :one, :varint},
      3 => {:is_monotonic, :one, :varint}
    },
    histogram: %{
      1 => {:data_points, :many, :histogram_data_point},
      2 => {:aggregation_temporality, :one, :varint}
    },
    summary: %{1 => {:data_points, :many, :summary_data_point}},
    exponential_histogram: %{
      1 => {:data_points, :many, :exponential_histogram_data_point},
      2 => {:aggregation_temporality, :one, :varint}
    },
    number_data_point: %{
      7 => {:attributes, :many, :key_value},
      2 => {:start_time_unix_nano, :one, :fixed64},
      3 => {:time_unix_nano, :one, :fixed64},
      4 => {:as_double, :one, :double},
      6 => {:as_int, :one, :sfixed64},
      5 => {:exemplars, :many, :exemplar},
      8 => {:flags, :one, :varint}
    },
    histogram_data_point: %{
      9 => {:attributes, :many, :key_value},
      2 => {:start_time_unix_nano, :one, :fixed64},
      3 => {:time_unix_nano, :one, :fixed64},
      4 => {:count, :one, :fixed64},
      5 => {:sum, :one, :double},
      6 => {:bucket_counts, :packed, :fixed64},
      7 => {:explicit_bounds, :packed, :double},
      8 => {:exemplars, :many, :exemplar},
      10 => {:flags, :one, :varint},
      11 => {:min, :one, :double},
      12 => {:max, :one, :double}
    },
    summary_data_point: %{
      7 => {:attributes, :many, :key_value},
      2 => {:start_time_unix_nano, :one, :fixed64},
      3 => {:time_unix_nano, :one, :fixed64},
      4 => {:count, :one, :fixed64},
      5 => {:sum, :one, :double},
      6 => {:quantile_values, :many, :value_at_quantile},
      8 => {:flags, :one, :varint}
    },
    value_at_quantile: %{1 => {:quantile, :one, :double}, 2 => {:value, :one, :double}},
    exponential_histogram_data_point: %{
      1 => {:attributes, :many, :key_value},
      2 => {:start_time_unix_nano, :one, :fixed64},
      3 => {:time_unix_nano, :one, :fixed64},
      4 => {:count, :one, :fixed64},
      5 => {:sum, :one, :double},
      6 => {:scale, :one, :sint32},
      7 => {:zero_count, :one, :fixed64},
      8 => {:positive, :one, :buckets},
      9 => {:negative, :one, :buckets},
      10 => {:flags, :one, :varint},
      11 => {:exemplars, :many, :exemplar},
      12 => {:min, :one, :double},
      13 => {:max, :one, :double},
      14 => {:zero_threshold, :one, :double}
    },
    buckets: %{1 => {:offset, :one, :sint32}, 2 => {:bucket_counts, :packed, :varint}},
    exemplar: %{
      7 => {:filtered_attributes, :many, :key_value},
      2 => {:time_unix_nano, :one, :fixed64},
      3 => {:as_double, :one, :double},
      6 => {:as_int, :one, :sfixed64},
      4 => {:span_id, :one, :bytes},
      5 => {:trace_id, :one, :bytes}
    }
  }

  # What proto3 does not send.
  @zeros %{scale: 0, zero_count: 0, offset: 0, start_time_unix_nano: 0}

  @varint [:varint, :int64, :sint32]
  @fixed [:fixed64, :sfixed64, :double]

  @doc "A request as nested maps; repeated fields are lists, absent ones are absent."
  def request(bytes), do: message(bytes, :request)

  @doc """
  The metrics of a request as `%{name => %{type:, unit:, description:, temporality:, points: [...]}}`. The
  attributes of points are maps.
  """
  def metrics(bytes) do
    %{resource_metrics: [%{scope_metrics: [%{metrics: metrics}]}]} = request(bytes)

    for metric <- metrics, into: %{} do
      [{type, data}] =
        Map.to_list(
          Map.take(metric, [:gauge, :sum, :histogram, :exponential_histogram, :summary])
        )

      points =
        for point <- data.data_points,
            do: Map.update!(Map.merge(@zeros, point), :attributes, &attributes/1)

      {metric.name,
       %{
         type: type,
         unit: metric[:unit],
         description: metric[:description],
         temporality:
           %{nil => nil, 1 => :delta, 2 => :cumulative}[data[:aggregation_temporality]],
         monotonic: data[:is_monotonic] == 1,
         points: points
       }}
    end
  end

  @doc "The resource of a request and its scope."
  def resource(bytes) do
    %{resource_metrics: [%{resource: resource, scope_metrics: [%{scope: scope}]}]} =
      request(bytes)

    {attributes(resource.attributes), scope}
  end

  @doc "Attributes as a map, each of which is there once."
  def attributes(attributes) do
    pairs = for %{key: key, value: value} <- attributes, do: {key, any(value)}
    map = Map.new(pairs)
    true = map_size(map) == length(pairs)
    map
  end

  defp any(%{string_value: value}), do: value
  defp any(%{int_value: value}), do: value
  defp any(%{double_value: value}), do: value
  defp any(%{bool_value: value}), do: value == 1

  @doc "The ends of the buckets of an exponential histogram that have samples, with their counts."
  def buckets(%{scale: scale} = point) do
    %{bucket_counts: counts} =
      buckets = Map.merge(@zeros, Map.get(point, :positive, %{bucket_counts: []}))

    base = :math.pow(2, :math.pow(2, -scale))

    for {count, place} <- Enum.with_index(counts), count > 0 do
      index = buckets.offset + place
      {:math.pow(base, index), :math.pow(base, index + 1), count}
    end
  end

  defp message(bytes, name) do
    fields = Map.fetch!(@messages, name)

    empty =
      for {_number, {field, count, _type}} <- fields, count != :one, into: %{}, do: {field, []}

    bytes
    |> read(fields, empty)
    |> Map.new(fn {field, value} ->
      {field, if(is_list(value), do: Enum.reverse(value), else: value)}
    end)
  end

  defp read("", _fields, message), do: message

  defp read(bytes, fields, message) do
    {key, bytes} = varint(bytes)
    {field, count, type} = Map.fetch!(fields, key >>> 3)
    {value, bytes} = value(key &&& 7, count, type, bytes)

    message =
      case count do
        :one -> Map.put(message, field, value)
        :many -> Map.update!(message, field, &[value | &1])
        :packed -> Map.update!(message, field, &(Enum.reverse(value) ++ &1))
      end

    read(bytes, fields, message)
  end

  defp value(0, :one, type, bytes) when type in @varint do
    {value, bytes} = varint(bytes)
    {number(type, value), bytes}
  end

  defp value(1, :one, type, <<value::binary-size(8), bytes::binary>>) when type in @fixed,
    do: {fixed(type, value), bytes}

  defp value(2, count, type, bytes) do
    {length, bytes} = varint(bytes)
    <<content::binary-size(length), bytes::binary>> = bytes
    {content(count, type, content), bytes}
  end

  defp content(:packed, type, content) when type in @fixed,
    do: for(<<value::binary-size(8) <- content>>, do: fixed(type, value))

  defp content(:packed, :varint, content), do: varints(content, [])

  defp content(:one, :string, content) do
    true = String.valid?(content)
    content
  end

  defp content(:one, :bytes, content), do: content
  defp content(_count, name, content), do: message(content, name)

  defp varints("", values), do: Enum.reverse(values)

  defp varints(bytes, values) do
    {value, bytes} = varint(bytes)
    varints(bytes, [value | values])
  end

  defp varint(bytes, shift \\ 0, sum \\ 0)

  defp varint(<<1::1, bits::7, bytes::binary>>, shift, sum),
    do: varint(bytes, shift + 7, sum + (bits <<< shift))

  defp varint(<<0::1, bits::7, bytes::binary>>, shift, sum), do: {sum + (bits <<< shift), bytes}

  defp number(:varint, value), do: value
  defp number(:int64, value) when value >= 1 <<< 63, do: value - (1 <<< 64)
  defp number(:int64, value), do: value
  defp number(:sint32, value), do: bxor(value >>> 1, -(value &&& 1))

  defp fixed(:fixed64, <<value::little-64>>), do: value
  defp fixed(:sfixed64, <<value::little-signed-64>>), do: value
  defp fixed(:double, <<value::little-float-64>>), do: value

  @doc "The body of an answer that has taken a request but for some data points."
  def partial_success(rejected, message) do
    partial = [<<0x08>>, put_varint(rejected), <<0x12, byte_size(message)>>, message]
    IO.iodata_to_binary([<<0x0A>>, put_varint(IO.iodata_length(partial)), partial])
  end

  @doc "The body of an answer that says why a request has failed: `google.rpc.Status`."
  def status(message), do: IO.iodata_to_binary([<<0x08, 3, 0x12, byte_size(message)>>, message])

  defp put_varint(value) when value < 128, do: <<value>>
  defp put_varint(value), do: <<1::1, value::7, put_varint(value >>> 7)::binary>>
end
