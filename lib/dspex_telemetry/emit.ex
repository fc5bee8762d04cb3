defmodule DSPexTelemetry.Emit do
  alias DSPexTelemetry.{AdaptiveCache, Catalogue}

  defmodule Result do
    @moduledoc false
    defstruct [:value, :metadata]
  end

  @moduledoc """
  Emits the events of the catalogue, for authors of a bridge.

  Three functions run a function as a span: they emit `:start`, run it, and emit `:stop` or, if it
  raises, exits or throws, `:exception`, and pass on what it did.

      DSPexTelemetry.Emit.call_method(%{ref: ref, method: "search", args: args}, fn ->
        Bridge.call(ref, "search", args)
      end)

  What the function returns decides `success`: `:error` and `{:error, _}` are failures, everything else is a success. A failure's
  reason is that of `{:error, reason}` (see `DSPexTelemetry.Reason`), or `unsuccessful` for `:error`. `result/2` says success and
  reason explicitly (`success: false, error: :timeout`) and adds metadata to the stop event. A key `:args` in the metadata is
  measured (`args_size`, in the external term format) and left out.

  `:start` and `:stop` or `:exception` come from the calling process. So an execution of Snakepit in between is known to carry
  this call, and [is not counted again](snakepit.md#how-each-call-is-counted-once).

  The other functions emit one event each from measurements and metadata. `system_time` is filled
  in where an event has it.
  """

  @typedoc "Metadata of the start event; part of it is carried over to stop and exception."
  @type metadata :: map()

  @doc """
  Creates an instance of a Python class.

  Metadata: `:python_class` and `:args` or `:args_size`. Where `fun` returns `{:ok, ref}` with a
  binary, the stop event carries it as `:ref`.

      iex> DSPexTelemetry.Emit.create_instance(%{python_class: "Index", args: []}, fn ->
      ...>   {:ok, "ref-1"}
      ...> end)
      {:ok, "ref-1"}
  """
  @spec create_instance(metadata(), (() -> result)) :: result when result: term()
  def create_instance(metadata, fun) do
    span([:dspex, :bridge, :create_instance], metadata, fun, fn value ->
      {%{}, %{ref: reference(value)}}
    end)
  end

  @doc """
  Calls a method of an instance.

  Metadata: `:ref`, `:method`, `:args` or `:args_size`, `:session_id`, and `:python_class` if it is
  known. The stop event carries `result_size`, and `cached: false` unless `result/2` says otherwise.

      iex> DSPexTelemetry.Emit.call_method(%{ref: "ref-1", method: "search"}, fn ->
      ...>   DSPexTelemetry.Emit.result({:ok, 42}, %{cached: true})
      ...> end)
      {:ok, 42}
  """
  @spec call_method(metadata(), (() -> result)) :: result when result: term()
  def call_method(metadata, fun) do
    span([:dspex, :bridge, :call_method], metadata, fun, fn value ->
      {%{result_size: size(value)}, %{cached: false}}
    end)
  end

  @doc """
  Calls a method of an instance through the cache: with `cache: true`, or with `cache: options` for
  options of `DSPexTelemetry.AdaptiveCache.fetch/4`.

  What is found by is in the metadata: `:method`, `:ref`, `:python_class` and `:args`, which must be there
  then. The stop event carries `cached: true` where the function was not run, because a result was kept or
  another process has run it meanwhile and returned one.

      iex> DSPexTelemetry.Emit.call_method(%{ref: "ref-1", method: "search", args: [1]}, [cache: true], fn ->
      ...>   {:ok, 42}
      ...> end)
      {:ok, 42}
  """
  @spec call_method(metadata(), keyword(), (() -> result)) ::
          result | {:error, AdaptiveCache.Failure.t()}
        when result: term()
  def call_method(%{method: method} = metadata, [cache: options], fun)
      when options == true or is_list(options) do
    options =
      metadata
      |> Map.take([:ref, :python_class])
      |> Keyword.new()
      |> Keyword.merge(if(options == true, do: [], else: options))

    args = Map.fetch!(metadata, :args)

    call_method(metadata, fn ->
      case AdaptiveCache.fetch_from(method, args, options, fun) do
        {source, value} when source in [:hit, :joined] -> result(value, %{cached: true})
        {_run_or_unanswered, value} -> value
      end
    end)
  end

  @doc """
  Calls a tool.

  Metadata: `:tool_name`, `:session_id`, `:caller` (`:python` or `:elixir`) and `:args` or
  `:args_size`. The stop event carries `result_size`.

      iex> DSPexTelemetry.Emit.tool_call(%{tool_name: "clock", caller: :python}, fn -> {:ok, 7} end)
      {:ok, 7}
  """
  @spec tool_call(metadata(), (() -> result)) :: result when result: term()
  def tool_call(metadata, fun) do
    span([:dspex, :tools, :call], metadata, fun, fn value ->
      {%{}, %{result_size: size(value)}}
    end)
  end

  @doc """
  What a span's function may return instead of a plain value: the value, and metadata for the stop
  event. `:success` in it overrides what the value says.

      iex> DSPexTelemetry.Emit.tool_call(%{tool_name: "lookup"}, fn ->
      ...>   DSPexTelemetry.Emit.result(nil, %{success: false})
      ...> end)
      nil
  """
  @spec result(value, map()) :: value when value: term()
  def result(value, metadata) when is_map(metadata),
    do: %Result{value: value, metadata: metadata}

  @doc false
  # What a span's function has returned, without what was added to it.
  def value(%Result{value: value}), do: value
  def value(value), do: value

  spans = [
    [:dspex, :bridge, :create_instance],
    [:dspex, :bridge, :call_method],
    [:dspex, :tools, :call]
  ]

  for %{name: name} = event <- Catalogue.events([:dspex]), Enum.drop(name, -1) not in spans do
    function =
      case Enum.take(name, -2) do
        [:pool, :queue_time] -> :queue_time
        [group, what] -> :"#{group}_#{what}"
      end

    measurements = for field <- event.fields, field.in == :measurements, do: field
    metadata = for field <- event.fields, field.in == :metadata, do: field
    has_system_time? = Enum.any?(measurements, &(&1.key == :system_time))

    unit = fn
      %{unit: nil} -> ""
      %{unit: :one} -> ""
      %{unit: :duration} -> " In native time units, or what option `:duration_unit` says."
      %{unit: unit} -> " In #{unit}s."
    end

    rows = fn fields ->
      Enum.map_join(fields, "\n", &"    * `:#{&1.key}` - #{&1.doc}#{unit.(&1)}")
    end

    @doc """
    Emits `#{inspect(name)}`: #{String.downcase(String.first(event.doc))}#{String.slice(event.doc, 1..-1//1)}

      * Measurements
    #{rows.(measurements)}
      * Metadata
    #{rows.(metadata)}
    """
    @spec unquote(function)(map(), map()) :: :ok
    if has_system_time? do
      def unquote(function)(measurements, metadata) when is_map(measurements) do
        measurements = Map.put_new_lazy(measurements, :system_time, &System.system_time/0)
        :telemetry.execute(unquote(name), measurements, metadata)
      end
    else
      def unquote(function)(measurements, metadata),
        do: :telemetry.execute(unquote(name), measurements, metadata)
    end
  end

  defp span(event, metadata, fun, describe) do
    metadata = measure_args(metadata)

    :telemetry.span(event, metadata, fn ->
      {value, added} = unwrap(fun.())
      {measurements, described} = describe.(value)

      stop_metadata =
        metadata
        |> Map.merge(described)
        |> Map.put(:success, success?(value))
        |> put_error(value)
        |> Map.merge(added)

      {value, measurements, stop_metadata}
    end)
  end

  # Why a call failed that did not raise.
  defp put_error(metadata, {:error, reason}), do: Map.put(metadata, :error, reason)
  defp put_error(metadata, _value), do: metadata

  defp measure_args(metadata) do
    case Map.pop(metadata, :args) do
      {nil, metadata} -> metadata
      {args, metadata} -> Map.put_new(metadata, :args_size, size(args))
    end
  end

  defp unwrap(%Result{value: value, metadata: metadata}), do: {value, metadata}
  defp unwrap(value), do: {value, %{}}

  @doc false
  # What a result says of itself.
  @spec success?(term()) :: boolean()
  def success?(:error), do: false
  def success?({:error, _reason}), do: false
  def success?(_value), do: true

  defp reference({:ok, ref}) when is_binary(ref), do: ref
  defp reference(_value), do: nil

  defp size(binary) when is_binary(binary), do: byte_size(binary)
  defp size(term), do: :erlang.external_size(term)
end
