defmodule DSPexTelemetry.Exemplar do
  @moduledoc """
  Exemplars: single samples that a histogram keeps, with the trace, span and session they belong to.
  Grafana shows them as points on a latency panel that lead to the trace.

  Where the metadata of a stop or exception event has `:trace_id`, `:span_id`, `:correlation_id` or `:session_id`, the
  duration may become the exemplar of its bucket. Each bucket keeps its latest one. A sample is taken
  if it is the first in its range of values, an eighth of a power of two, since the slice of time began
  (option `slice`), for each scheduler. So an event that is not taken costs nothing more, and one that is, some
  microseconds; and at most 64 of them per series, slice and scheduler are.

  Names and values of an exemplar's labels have at most 128 characters together, as OpenMetrics
  demands; what does not fit is left out, the session first. A trace id or span id that is an integer is written in
  hexadecimal digits, 32 and 16 of them, as OpenTelemetry does. A session that a Snakepit worker has made for itself is
  not the caller's and is left out. Exemplars are exposed in the formats `:openmetrics` and
  `:protobuf` of `DSPexTelemetry.scrape/1`.
  """

  @labels [:trace_id, :span_id, :correlation_id, :session_id]

  @doc false
  @spec labels() :: [atom()]
  def labels, do: @labels

  @doc false
  # Their values in these metadata, `""` where there is none.
  @spec values(map()) :: [String.t()]
  def values(metadata), do: for(label <- @labels, do: text(label, Map.get(metadata, label)))

  defp text(:session_id, "session_" <> rest = session),
    do: if(rest =~ ~r/\A\d{1,20}_\d{16}\z/, do: "", else: session)

  defp text(_label, value) when is_binary(value), do: value
  defp text(_label, nil), do: ""
  defp text(_label, value) when is_atom(value), do: Atom.to_string(value)
  # An integer is an id only if it fits; and writing a huge one would take seconds.
  defp text(:trace_id, value) when value in 0..0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF,
    do: hexadecimal(value, 32)

  defp text(:span_id, value) when value in 0..0xFFFFFFFFFFFFFFFF, do: hexadecimal(value, 16)

  defp text(:session_id, value) when value in -0x8000000000000000..0x7FFFFFFFFFFFFFFF,
    do: Integer.to_string(value)

  defp text(_label, _value), do: ""

  defp hexadecimal(value, digits),
    do: value |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(digits, "0")
end
