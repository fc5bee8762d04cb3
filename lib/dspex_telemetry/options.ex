defmodule DSPexTelemetry.Options do
  alias DSPexTelemetry.{Auth, Options}
  alias DSPexTelemetry.Options.Type

  # The tables are the documentation, the defaults and the check at once. Keys of an option that is a
  # keyword list have a table of their own, in the same form. A key without default is required. A
  # secret may be given as a function that returns it, and is always kept as one, which shows it to
  # no log; an error does not show it either.
  @http [
    port: [
      type: {:integer, 0, 65_535},
      doc: "TCP port; 0 takes a free one."
    ],
    ip: [
      type: :ip,
      default: {127, 0, 0, 1},
      doc:
        "Address to listen on: of this machine alone (`{127, 0, 0, 1}`, `{0, 0, 0, 0, 0, 0, 0, 1}`) " <>
          "or, with `:auth`, any other."
    ],
    auth: [
      type: :auth,
      default: nil,
      secret: true,
      doc:
        "Who may ask: who has the token of `{:bearer, token}`, or user and password of " <>
          "`{:basic, user, password}`. A function without arguments that returns one of them is " <>
          "called for each request. `:none` lets everybody in, and `nil` everybody on this machine. " <>
          "A browser asks for a user and a password: with a bearer token, any user and the token."
    ],
    hosts: [
      type: :hosts,
      default: [],
      doc:
        "Names under which requests are answered where `:auth` asks for nothing, beside `localhost` and IP " <>
          "addresses; `:any` for all. A request for another name gets 421, as a web site could have made it " <>
          "up for a browser on this machine (DNS rebinding)."
    ],
    page_methods: [
      type: {:integer, 1, 500},
      default: 50,
      doc:
        "How many methods have a row of their own on the live page, those that were called most. The " <>
          "others are summed."
    ],
    required: [
      type: :boolean,
      default: false,
      doc:
        "Whether the instance starts only if it can listen. With `false`, an instance whose port is taken records " <>
          "without being served, logs that once, and tries again until it listens; `DSPexTelemetry.info/1` says why " <>
          "it does not."
    ]
  ]

  @cache DSPexTelemetry.Options.Cache.table()

  @otlp DSPexTelemetry.Options.OTLP.table()
  @push DSPexTelemetry.Options.Push.table()

  @router DSPexTelemetry.Options.Router.table()

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
    presets: [
      type: {:some_of, [:dspex, :snakebridge, :snakepit]},
      default: [:dspex, :snakebridge, :snakepit],
      doc:
        "Whose events are handled: those of a bridge of your own (`:dspex`), of SnakeBridge, on which DSPex is built, and " <>
          "of Snakepit. A call that several of them report counts once; `docs/snakepit.md` says how. With `[]` an " <>
          "instance has nothing but the definitions of option `metrics`."
    ],
    transport_commands: [
      type: :commands,
      default: [],
      doc:
        "Snakepit commands by which a bridge of your own carries calls that it reports itself, such as `[\"my_bridge.*\"]`; " <>
          "`*` at the end stands for any rest. Needed only where the bridge calls Snakepit from another process than " <>
          "the one that reports the call, or reports only its end."
    ],
    duration_unit: [
      type: {:in, [:native, :nanosecond, :microsecond, :millisecond, :second]},
      default: :native,
      doc:
        "Unit of the measurements `duration` and `startup_time` of preset `:dspex`. `:telemetry.span/3` emits " <>
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
    metrics: [
      type: :metrics,
      default: [],
      doc:
        "Definitions of `Telemetry.Metrics` that are reported beside the library's own metrics; see " <>
          "`DSPexTelemetry.Reporter`."
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
    error_spike_percent: [
      type: {:integer, 0, 100},
      default: 50,
      doc:
        "Percent of the calls that must fail for a spike: of those that complete from the first of these " <>
          "errors to the last. A busy method of which a few calls fail has no spikes. With 0 the " <>
          "threshold alone decides."
    ],
    error_spike_repeat: [
      type: {:integer, 0, 86_400_000},
      default: 300_000,
      doc:
        "Milliseconds after a spike of a method was signalled in which further spikes of it are only " <>
          "counted. Their number comes with the next signal. 0 signals every spike."
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
    last_failures: [
      type: {:integer, 0, 10_000},
      default: 100,
      doc:
        "How many of the last failed calls are kept one by one, for `DSPexTelemetry.ErrorAnalyzer.report/1`; at most " <>
          "2.4 kB each. 0 keeps none. The live page shows at most 20."
    ],
    slowest_calls: [
      type: {:integer, 0, 1_000},
      default: 20,
      doc:
        "How many of the slowest calls within `:history` are kept one by one, for `DSPexTelemetry.report/1`; at most " <>
          "2.4 kB each. 0 keeps none. The live page shows at most 20."
    ],
    failure_messages: [
      type: :boolean,
      default: true,
      doc:
        "Whether these calls keep the message of their error, cut at 256 bytes. Messages can hold what users wrote; " <>
          "arguments and results are never kept."
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
          "must exist, and only the VM's user and root may write there. Two instances cannot " <>
          "share one."
    ],
    usage_save_interval: [
      type: {:integer, 10, 86_400_000},
      default: 30_000,
      doc: "Milliseconds after which changed usage counts are written to the file."
    ],
    router: [
      type: {:group, @router},
      default: [],
      doc:
        "How `DSPexTelemetry.PerformanceRouter` chooses among workers; `docs/routing.md` explains it. " <>
          "`nil` for no router."
    ],
    http: [
      type: {:group, @http},
      default: nil,
      doc:
        "Where the live page, metrics, health and reports are served over HTTP; `nil` serves them " <>
          "nowhere."
    ],
    push: [
      type: {:group, @push},
      default: nil,
      doc:
        "Where metrics are pushed to, if nobody can come and scrape them; `nil` pushes nowhere. See " <>
          "`DSPexTelemetry.Push`."
    ],
    otlp: [
      type: {:group, @otlp},
      default: nil,
      doc:
        "Where metrics are exported to over OTLP/HTTP, as to an OpenTelemetry Collector; `nil` exports " <>
          "nowhere. See `DSPexTelemetry.OTLP`."
    ],
    cache: [
      type: {:group, @cache},
      default: nil,
      doc:
        "How results of methods are cached, see `DSPexTelemetry.AdaptiveCache`; `nil` caches none."
    ]
  ]

  @secret for {_name, option} <- @table,
              {:group, keys} <- [option[:type]],
              {key, key_option} <- keys,
              key_option[:secret],
              do: key

  documentation = fn documentation, table, indentation ->
    Enum.map_join(table, "\n", fn {name, option} ->
      default =
        if Keyword.has_key?(option, :default),
          do: "Default: `#{inspect(option[:default])}`.",
          else: "Required."

      keys =
        with {:group, keys} <- option[:type],
             do: "\n" <> documentation.(documentation, keys, indentation <> "  "),
             else: (_no_group -> "")

      "#{indentation}* `:#{name}` - #{option[:doc]} #{default}#{keys}"
    end)
  end

  @moduledoc """
  Options of an instance, for `{DSPexTelemetry, options}` in a supervision tree and, under
  `config :dspex_telemetry`, for the default instance.

  #{documentation.(documentation, @table, "  ")}

  The application's environment takes one key more:

    * `:start_default` - `false` keeps the application from starting the default instance.
  """

  @type t :: %{
          name: atom(),
          attach: boolean(),
          presets: [:dspex | :snakebridge | :snakepit],
          transport_commands: [String.t()],
          duration_unit: System.time_unit(),
          series_limit: pos_integer(),
          significant_digits: 1..3,
          buckets: %{optional(String.t()) => [number()]},
          metrics: [struct()],
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
          error_spike_percent: 0..100,
          error_spike_repeat: non_neg_integer(),
          anomaly_deviations: pos_integer() | :infinity,
          anomaly_min_calls: pos_integer(),
          anomaly_min_slices: pos_integer(),
          last_failures: non_neg_integer(),
          slowest_calls: non_neg_integer(),
          failure_messages: boolean(),
          queue_wait_threshold: non_neg_integer() | :infinity,
          signal_limit: pos_integer(),
          usage_capacity: pos_integer(),
          usage_path: String.t() | nil,
          usage_save_interval: pos_integer(),
          router: %{atom() => pos_integer() | :infinity} | nil,
          http:
            %{
              port: :inet.port_number(),
              ip: :inet.ip_address(),
              auth: DSPexTelemetry.Auth.t(),
              hosts: [String.t()] | :any,
              page_methods: pos_integer(),
              required: boolean()
            }
            | nil,
          push: push() | nil,
          otlp: otlp() | nil,
          cache: map() | nil
        }

  @typedoc "What `:push` has."
  @type push :: %{
          url: String.t(),
          interval: pos_integer(),
          timeout: pos_integer(),
          method: :auto | :put | :post,
          auth: DSPexTelemetry.Auth.t(),
          headers: [{String.t(), String.t()}] | (() -> [{String.t(), String.t()}]),
          gzip: boolean(),
          cacertfile: String.t() | nil,
          retry_floor: pos_integer(),
          retry_ceiling: pos_integer(),
          stop_timeout: non_neg_integer()
        }

  @typedoc "What `:otlp` has."
  @type otlp :: %{
          url: String.t(),
          interval: pos_integer(),
          timeout: pos_integer(),
          temporality: :cumulative | :delta | :low_memory,
          histogram: :exponential | :explicit,
          max_buckets: pos_integer(),
          resource: %{optional(String.t()) => String.t() | boolean() | number()},
          auth: DSPexTelemetry.Auth.t(),
          headers: [{String.t(), String.t()}] | (() -> [{String.t(), String.t()}]),
          gzip: boolean(),
          cacertfile: String.t() | nil,
          request_limit: pos_integer(),
          answer_limit: pos_integer(),
          retry_floor: pos_integer(),
          retry_ceiling: pos_integer(),
          stop_timeout: non_neg_integer()
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
      raise ArgumentError, "options must be a keyword list, got: #{inspect(conceal(options))}"
    end

    options |> Options.OTLP.from_environment() |> check_all!(@table, []) |> check_together!()
  end

  # `path` leads to the table: the option that holds it, or nothing for the options themselves.
  defp check_all!(options, table, path) do
    valid = Map.new(options, fn {name, value} -> {name, check!(table, path, name, value)} end)

    Map.new(table, fn {name, option} ->
      case {valid, Keyword.fetch(option, :default)} do
        {%{^name => value}, _default} -> {name, value}
        {_absent, {:ok, default}} -> {name, default(option[:type], path ++ [name], default)}
        {_absent, :error} -> raise ArgumentError, missing(path ++ [name], option[:type])
      end
    end)
  end

  # The keys of a keyword list have their defaults in a table of their own.
  defp default({:group, table}, path, []), do: check_all!([], table, path)
  defp default(_type, _path, default), do: default

  defp check!(table, path, name, value) do
    case Keyword.fetch(table, name) do
      {:ok, option} -> check_option!(option[:type], path ++ [name], value, option[:secret])
      :error -> raise ArgumentError, unknown(path, name, table)
    end
  end

  defp check_option!({:group, _table}, _path, nil, _secret), do: nil

  defp check_option!({:group, table} = type, path, value, _secret) do
    cond do
      Keyword.keyword?(value) -> check_all!(value, table, path)
      Enum.any?(table, &secret?/1) -> refuse_secret!(path, Type.allowed(type))
      true -> refuse!(path, value, Type.allowed(type))
    end
  end

  defp check_option!(type, path, value, true) do
    given = if is_function(value, 0), do: value.(), else: value

    case Type.cast(type, given) do
      {:ok, nil} when value != nil -> refuse_secret!(path, Type.allowed(type))
      {:ok, _given} -> conceal_value(value)
      {:error, allowed} -> refuse_secret!(path, allowed)
    end
  end

  defp check_option!(type, path, value, _secret) do
    case Type.cast(type, value) do
      {:ok, value} -> value
      {:error, allowed} -> refuse!(path, value, allowed)
      {:error, allowed, culprit} -> refuse!(path, culprit, allowed)
    end
  end

  defp secret?({_name, option}), do: option[:secret] == true

  defp check_together!(options) do
    check_history!(options)
    check_summary_interval!(options)
    check_http_auth!(options)
    check_retries!(options)
    options
  end

  defp check_history!(%{slice: slice, history: history}) do
    if history < slice,
      do: refuse!([:history], history, "at least option :slice, which is #{slice}")
  end

  defp check_summary_interval!(%{summary_interval: interval, history: history}) do
    if interval != :infinity and interval > history do
      allowed = "at most option :history, which is #{history}, or :infinity"
      refuse!([:summary_interval], interval, allowed)
    end
  end

  defp check_http_auth!(%{http: %{auth: nil, ip: ip}}) do
    unless Auth.loopback?(ip) do
      raise ArgumentError,
            "option :http, key :auth is missing: whoever reaches #{:inet.ntoa(ip)} could read all " <>
              "metrics; give {:bearer, token} or {:basic, user, password}, or :none to let them"
    end
  end

  defp check_http_auth!(_none_or_with_auth), do: :ok

  defp check_retries!(%{push: push, otlp: otlp}) do
    for {name, %{retry_floor: floor, retry_ceiling: ceiling}} <- [push: push, otlp: otlp],
        ceiling < floor do
      allowed = "at least key :retry_floor, which is #{floor}"
      refuse!([name, :retry_ceiling], ceiling, allowed)
    end
  end

  @typedoc "An option as data."
  @type row :: %{
          :name => atom(),
          :type => String.t(),
          :allowed => String.t(),
          :doc => String.t(),
          :keys => [row()],
          optional(:default) => term()
        }

  @doc """
  The options as data, for documentation: `:name`, `:type`, `:default`, what is `:allowed` in
  words, and `:doc`. A required key has no `:default`. An option that is a keyword list has the same
  for its own keys under `:keys`.

      iex> hd(DSPexTelemetry.Options.table()).allowed
      "an atom such as MyApp.Telemetry"
  """
  @spec table() :: [row()]
  def table, do: rows(@table)

  @doc false
  # A key of option `:http`, for `DSPexTelemetry.Plug`, whose options are its own.
  @spec http_key(atom()) :: %{atom() => term()}
  def http_key(key), do: @http |> Keyword.fetch!(key) |> Map.new()

  defp rows(table) do
    for {name, option} <- table do
      row = %{
        name: name,
        type: Type.name(option[:type]),
        allowed: Type.allowed(option[:type]),
        doc: option[:doc],
        keys: with({:group, keys} <- option[:type], do: rows(keys), else: (_no_group -> []))
      }

      with {:ok, default} <- Keyword.fetch(option, :default),
           do: Map.put(row, :default, default),
           else: (:error -> row)
    end
  end

  @doc """
  Options, valid or not, with every secret in a function that returns it, as `validate!/1` takes them.

  A supervisor keeps and logs how its children are started; a function does not show what it returns.
  """
  @spec conceal(term()) :: term()
  def conceal({key, value}) when key in @secret, do: {key, conceal_value(value)}

  def conceal([head | tail]), do: [conceal(head) | conceal(tail)]
  def conceal(%{} = map), do: map |> Map.to_list() |> conceal() |> Map.new()

  def conceal(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> Enum.map(&conceal/1) |> List.to_tuple()

  def conceal(other), do: other

  defp conceal_value(value) when is_atom(value) or is_function(value), do: value
  defp conceal_value(value), do: fn -> value end

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

    if check_option!(:boolean, [:start_default], start?, false), do: {:ok, options}, else: :none
  end

  defp refuse!(path, value, allowed) do
    raise ArgumentError, "#{words(path)} must be #{allowed}, got: #{inspect(conceal(value))}"
  end

  # Whatever was given instead of a secret may be one.
  defp refuse_secret!(path, allowed) do
    raise ArgumentError,
          "#{words(path)} must be #{allowed}, got something else, not shown as it may be secret"
  end

  defp missing(path, type), do: "#{words(path)} is missing, it must be #{Type.allowed(type)}"

  defp unknown(path, name, table) do
    allowed = table |> Keyword.keys() |> Enum.map_join(", ", &inspect/1)
    "unknown #{words(path ++ [name])}, allowed are #{allowed}"
  end

  defp words([option]), do: "option #{inspect(option)}"
  defp words([option, key]), do: "option #{inspect(option)}, key #{inspect(key)}"
end
