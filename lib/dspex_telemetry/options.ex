defmodule DSPexTelemetry.Options do
  alias DSPexTelemetry.Catalogue

  # The table is the documentation, the defaults and the check at once.
  @table [
    name: [
      type: :name,
      default: DSPexTelemetry,
      doc: "Name of the instance, given as `instance:` to every other function."
    ],
    attach: [
      type: :boolean,
      default: true,
      doc: "Whether the handlers are attached at start."
    ],
    duration_unit: [
      type: {:in, [:native, :nanosecond, :microsecond, :millisecond, :second]},
      default: :native,
      doc:
        "Unit of the measurements `duration` and `startup_time`. `:telemetry.span/3` emits " <>
          "native time; give `:microsecond` for emitters that send microseconds."
    ],
    series_limit: [
      type: {:integer, 1, 1_000_000},
      default: 2_000,
      doc:
        "Most series per event or span. What comes later goes to one series labelled " <>
          "`otel_metric_overflow` and is counted."
    ],
    significant_digits: [
      type: {:integer, 1, 3},
      default: 2,
      doc:
        "Significant decimal digits that histograms keep: 2 means that quantiles are within 1 %."
    ],
    buckets: [
      type: :buckets,
      default: %{},
      doc:
        "Explicit bucket bounds by metric name, inclusive and in the metric's unit, such as " <>
          "`%{dspex_bridge_call_method_duration: [1_000, 10_000]}`. The other metrics keep " <>
          "their defaults."
    ],
    ref_limit: [
      type: {:integer, 0, 10_000_000},
      default: 100_000,
      doc: "How many instance references keep their class; the oldest are forgotten first."
    ],
    worker_limit: [
      type: {:integer, 1, 1_000_000},
      default: 10_000,
      doc: "How many living workers are known by id."
    ],
    idle_timeout: [
      type: {:or_infinity, 1_000, 31_536_000_000},
      default: :infinity,
      doc:
        "Milliseconds after which a series without events is removed, counts included, and gives " <>
          "its slot back; `:infinity` keeps all."
    ],
    slice: [
      type: {:integer, 10, 3_600_000},
      default: 10_000,
      doc:
        "Milliseconds of a slice, the unit in which windows of time are kept. Short enough that no " <>
          "histogram bucket of a series gets 2^32 samples in one."
    ],
    history: [
      type: {:integer, 10, 604_800_000},
      default: 3_600_000,
      doc: "Milliseconds for which slices are kept; at least one slice."
    ],
    window_memory_limit: [
      type: {:integer, 65_536, 1_099_511_627_776},
      default: 67_108_864,
      doc:
        "Bytes that slices may take. When they do not suffice, older slices are merged with " <>
          "their neighbours, and when that does not suffice, the oldest go; `info/1` tells."
    ],
    summary_interval: [
      type: {:or_infinity, 100, 86_400_000},
      default: 60_000,
      doc:
        "Milliseconds between two performance summaries: a `[:dspex, :performance, :summary]` event " <>
          "for each method that was called, and a line in the log; at most `:history`. `:infinity` " <>
          "for none."
    ],
    count_unsuccessful: [
      type: :boolean,
      default: true,
      doc:
        "Whether a call that returned with `success: false` counts as an error for spikes and in " <>
          "`DSPexTelemetry.ErrorAnalyzer.report/1`, as exceptions do."
    ],
    error_spike_threshold: [
      type: {:integer, 1, 1_000},
      default: 5,
      doc: "How many errors of one method and class within the window are a spike."
    ],
    error_spike_window: [
      type: {:integer, 10, 3_600_000},
      default: 10_000,
      doc: "Milliseconds of the sliding window in which errors are counted for spikes."
    ],
    anomaly_deviations: [
      type: {:or_infinity, 1, 1_000},
      default: 5,
      doc:
        "How many robust standard deviations the 0.95 quantile of a method may be off its median over " <>
          "the kept slices before that is an anomaly. `:infinity` looks for none."
    ],
    anomaly_min_calls: [
      type: {:integer, 1, 1_000_000},
      default: 20,
      doc: "How many calls a slice must have to be judged, or to be part of the usual range."
    ],
    anomaly_min_slices: [
      type: {:integer, 2, 100_000},
      default: 12,
      doc: "How many slices there must be before one is judged by them."
    ],
    queue_wait_threshold: [
      type: {:or_infinity, 0, 86_400_000},
      default: 5_000,
      doc:
        "Milliseconds that a request may wait for a worker before a warning is logged, at most " <>
          "one per second and command. `:infinity` for none."
    ],
    signal_limit: [
      type: {:integer, 1, 1_000_000},
      default: 1_000,
      doc:
        "How many alerts may wait to be logged and emitted; those beyond are dropped and counted " <>
          "as `:signals_dropped`."
    ],
    usage_capacity: [
      type: {:integer, 1, 1_000_000},
      default: 10_000,
      doc:
        "How many names of classes, methods, tools and variables, each, are counted one by one. " <>
          "Counts are exact up to that many, and estimates with a known error beyond."
    ],
    usage_path: [
      type: :path,
      default: nil,
      doc:
        "File in which usage counts survive restarts; `nil` keeps them in memory only. Its folder " <>
          "must exist. Two instances cannot share one."
    ],
    usage_save_interval: [
      type: {:integer, 10, 86_400_000},
      default: 30_000,
      doc: "Milliseconds after which changed usage counts are written to the file."
    ]
  ]

  @defaults Enum.map(@table, fn {name, option} -> {name, option[:default]} end)

  @moduledoc """
  Options of an instance, for `{DSPexTelemetry, options}` in a supervision tree and, under
  `config :dspex_telemetry`, for the default instance.

  #{Enum.map_join(@table, "\n", fn {name, option} -> "  * `:#{name}` - #{option[:doc]} Default: `#{inspect(option[:default])}`." end)}

  The application's environment takes one key more:

    * `:start_default` - `false` keeps the application from starting the default instance.
  """

  @type t :: %{
          name: atom(),
          attach: boolean(),
          duration_unit: System.time_unit(),
          series_limit: pos_integer(),
          significant_digits: 1..3,
          buckets: %{optional(String.t()) => [number()]},
          ref_limit: non_neg_integer(),
          worker_limit: pos_integer(),
          idle_timeout: pos_integer() | :infinity,
          slice: pos_integer(),
          history: pos_integer(),
          window_memory_limit: pos_integer(),
          summary_interval: pos_integer() | :infinity,
          count_unsuccessful: boolean(),
          error_spike_threshold: pos_integer(),
          error_spike_window: pos_integer(),
          anomaly_deviations: pos_integer() | :infinity,
          anomaly_min_calls: pos_integer(),
          anomaly_min_slices: pos_integer(),
          queue_wait_threshold: non_neg_integer() | :infinity,
          signal_limit: pos_integer(),
          usage_capacity: pos_integer(),
          usage_path: String.t() | nil,
          usage_save_interval: pos_integer()
        }

  @doc """
  Checks options and fills in the defaults.

  Raises `ArgumentError` that names the option, the value and what is allowed.

      iex> DSPexTelemetry.Options.validate!(series_limit: 10).series_limit
      10

      iex> DSPexTelemetry.Options.validate!(series_limit: 0)
      ** (ArgumentError) option :series_limit must be an integer from 1 to 1000000, got: 0
  """
  @spec validate!(keyword()) :: t()
  def validate!(options) do
    unless Keyword.keyword?(options) do
      raise ArgumentError, "options must be a keyword list, got: #{inspect(options)}"
    end

    options
    |> Enum.reduce(Map.new(@defaults), fn {name, value}, valid ->
      Map.put(valid, name, check!(name, value))
    end)
    |> check_together!()
  end

  defp check_together!(%{slice: slice, history: history}) when history < slice,
    do: refuse!(:history, history, "at least option :slice, which is #{slice}")

  defp check_together!(%{summary_interval: interval, history: history})
       when is_integer(interval) and history < interval do
    refuse!(
      :summary_interval,
      interval,
      "at most option :history, which is #{history}, or :infinity"
    )
  end

  defp check_together!(options), do: options

  @doc """
  The options as data, for documentation: `:name`, `:type`, `:default`, what is `:allowed` in
  words, and `:doc`.

      iex> hd(DSPexTelemetry.Options.table()).allowed
      "an atom such as MyApp.Telemetry"
  """
  @spec table() :: [
          %{
            name: atom(),
            type: String.t(),
            default: term(),
            allowed: String.t(),
            doc: String.t()
          }
        ]
  def table do
    for {name, option} <- @table do
      %{
        name: name,
        type: type(option[:type]),
        default: option[:default],
        allowed: allowed(option[:type]),
        doc: option[:doc]
      }
    end
  end

  defp type(:boolean), do: "boolean"
  defp type({:integer, _low, _high}), do: "integer"
  defp type({:or_infinity, _low, _high}), do: "integer or atom"
  defp type(:buckets), do: "map"
  defp type(:name), do: "atom"
  defp type(:path), do: "string"
  defp type({:in, _atoms}), do: "atom"

  defp allowed(:name), do: "an atom such as MyApp.Telemetry"
  defp allowed(:boolean), do: "true or false"
  defp allowed(:path), do: "a path as a string without zero bytes, or nil"
  defp allowed({:in, atoms}), do: "one of #{Enum.map_join(atoms, ", ", &inspect/1)}"
  defp allowed({:integer, low, high}), do: "an integer from #{low} to #{high}"
  defp allowed({:or_infinity, low, high}), do: allowed({:integer, low, high}) <> " or :infinity"

  defp allowed(:buckets),
    do:
      "a map from metric name to strictly increasing numbers from 0 to below 9.0e15, 1 to 200 " <>
        "of them"

  @doc """
  The options of the default instance from the application's environment, or `:none` if it is not
  to be started.
  """
  @spec default_instance() :: {:ok, keyword()} | :none
  def default_instance do
    {start?, options} =
      :dspex_telemetry
      |> Application.get_all_env()
      |> Keyword.drop([:included_applications])
      |> Keyword.pop(:start_default, true)

    if check_type!(:boolean, :start_default, start?), do: {:ok, options}, else: :none
  end

  defp check!(name, value) do
    case Keyword.fetch(@table, name) do
      {:ok, option} -> check_type!(option[:type], name, value)
      :error -> raise ArgumentError, unknown(name)
    end
  end

  defp check_type!(:buckets, name, value) do
    unless is_map(value) do
      refuse!(name, value, "a map from metric name to bucket bounds")
    end

    known = Catalogue.histogram_names()

    Map.new(value, fn {metric, bounds} ->
      unless to_string_if_name(metric) in known do
        refuse!(name, %{metric => bounds}, "a map whose keys are among #{Enum.join(known, ", ")}")
      end

      unless increasing?(bounds) do
        refuse!(name, %{metric => bounds}, allowed(:buckets))
      end

      {to_string(metric), bounds}
    end)
  end

  defp check_type!(type, name, value) do
    if valid?(type, value), do: value, else: refuse!(name, value, allowed(type))
  end

  defp valid?(:name, value), do: is_atom(value) and value not in [nil, true, false]
  defp valid?(:boolean, value), do: is_boolean(value)
  defp valid?(:path, nil), do: true

  defp valid?(:path, value),
    do: is_binary(value) and value != "" and String.valid?(value) and not (value =~ <<0>>)

  defp valid?({:in, atoms}, value), do: value in atoms
  defp valid?({:integer, low, high}, value), do: is_integer(value) and value in low..high
  defp valid?({:or_infinity, _low, _high}, :infinity), do: true
  defp valid?({:or_infinity, low, high}, value), do: valid?({:integer, low, high}, value)

  defp to_string_if_name(metric) when is_atom(metric), do: Atom.to_string(metric)
  defp to_string_if_name(metric), do: metric

  defp increasing?(bounds) do
    is_list(bounds) and List.improper?(bounds) == false and length(bounds) in 1..200 and
      Enum.all?(bounds, &(is_number(&1) and &1 >= 0 and &1 < 9.0e15)) and
      bounds == bounds |> Enum.sort() |> Enum.dedup()
  end

  defp refuse!(name, value, allowed) do
    raise ArgumentError, "option #{inspect(name)} must be #{allowed}, got: #{inspect(value)}"
  end

  defp unknown(name) do
    allowed = @table |> Keyword.keys() |> Enum.map_join(", ", &inspect/1)
    "unknown option #{inspect(name)}, allowed are #{allowed}"
  end
end
