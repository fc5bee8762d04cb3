defmodule DSPexTelemetry.Options.OTLP do
  @moduledoc false
  # The table of option `otlp`, and what the environment says of it.

  alias DSPexTelemetry.Options.{Delivery, Environment}

  @mebibyte 1_048_576

  @url [
    url: [
      type: :otlp_url,
      doc:
        "Where to: the whole address, such as `http://collector:4318/v1/metrics`. `:env` takes it, and " <>
          "all that is not given here, from OpenTelemetry's environment variables; see " <>
          "`DSPexTelemetry.OTLP`."
    ]
  ]

  @metrics [
    temporality: [
      type: {:in, [:cumulative, :delta, :low_memory]},
      default: :cumulative,
      doc:
        "Since when sums and histograms count: since the start of the instance or its last reset, or " <>
          "since the export before. `:low_memory` exports as deltas what events have fed, and what the " <>
          "instance tells of itself since the start."
    ],
    histogram: [
      type: {:in, [:exponential, :explicit]},
      default: :exponential,
      doc:
        "What histograms are exported as: with exponential buckets, or with the explicit ones of `:buckets`."
    ],
    max_buckets: [
      type: {:integer, 2, 2_048},
      default: 160,
      doc:
        "Most buckets of an exponential histogram. The fewer, and the further its samples lie apart, the " <>
          "wider they are."
    ],
    resource: [
      type: :attributes,
      default: %{},
      doc:
        "What the metrics are of: a map of attributes such as `%{\"service.name\" => \"my_app\"}`, whose " <>
          "values are strings, numbers or booleans. Some are there by default."
    ]
  ]

  # Some services have a scheme of their own, and OpenTelemetry's variables know headers only.
  @headers ["authorization"]

  @limits [
    request_limit: [
      type: {:integer, 1_024, 1_073_741_824},
      default: 64 * @mebibyte,
      doc: "Bytes that a request may have before it is compressed; a larger one is not sent."
    ],
    answer_limit: [
      type: {:integer, 1_024, 64 * @mebibyte},
      default: 4 * @mebibyte,
      doc: "Bytes that an answer may have; a larger one is not read."
    ]
  ]

  @doc "Headers that may be given, though `:auth` would set them."
  @spec headers() :: [String.t()]
  def headers, do: @headers

  @spec table() :: keyword()
  def table do
    {[timeout: timeout], rest} = "export" |> Delivery.table(@headers) |> Keyword.split([:timeout])
    headers = rest[:headers][:doc] <> " An `authorization` takes the place of `:auth`."
    rest = put_in(rest, [:headers, :doc], headers)
    interval = Delivery.interval("export", 60_000)
    @url ++ interval ++ [timeout: timeout] ++ @metrics ++ rest ++ @limits
  end

  @doc """
  Options in which everything that the environment says is filled in, if it is to be asked. What was given
  comes first; resource attributes are taken one by one.
  """
  @spec from_environment(keyword()) :: keyword()
  def from_environment(options) do
    with given when is_list(given) <- options[:otlp],
         true <- Keyword.keyword?(given) and given[:url] == :env do
      given = Keyword.delete(given, :url)
      Keyword.put(options, :otlp, Environment.complete(given, table()))
    else
      _nothing_to_ask_for -> options
    end
  end
end
