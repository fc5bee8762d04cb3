defmodule DSPexTelemetry.Options do
  alias DSPexTelemetry.{Auth, Options}
  alias DSPexTelemetry.Options.Type

  # The table is the documentation, the defaults and the check at once.
  @table DSPexTelemetry.Options.Table.table()

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
  def http_key(key), do: Options.HTTP.table() |> Keyword.fetch!(key) |> Map.new()

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
