defmodule DSPexTelemetry.Options.Type do
  @moduledoc false
  # The types in the tables of options: their names and what they allow, in words, and the check.

  alias DSPexTelemetry.{Auth, Catalogue}
  alias DSPexTelemetry.Export.Delivery.{Address, Headers}
  alias DSPexTelemetry.Endpoint.Host
  alias DSPexTelemetry.Reporter.Metric

  @type t ::
          :attributes
          | :auth
          | :boolean
          | :buckets
          | :cacheable
          | :commands
          | {:headers, also :: [String.t()]}
          | :hosts
          | :ip
          | :metrics
          | :name
          | :otlp_url
          | :path
          | :url
          | {:group, keyword()}
          | {:in, [atom()]}
          | {:some_of, [atom()]}
          | {:integer, integer(), integer()}
          | {:number, number(), number()}
          | {:or_infinity, integer(), integer()}

  @doc "The kind of term."
  @spec name(t()) :: String.t()
  def name(:attributes), do: "map"
  def name(:auth), do: "tuple, atom or function"
  def name(:boolean), do: "boolean"
  def name(:buckets), do: "map"
  def name(:cacheable), do: "list"
  def name(:commands), do: "list"
  def name({:headers, _also}), do: "list or function"
  def name(:hosts), do: "list or atom"
  def name(:ip), do: "tuple"
  def name(:metrics), do: "list"
  def name(:name), do: "atom"
  def name(:otlp_url), do: "string or atom"
  def name(:path), do: "string"
  def name(:url), do: "string"
  def name({:group, _table}), do: "keyword list"
  def name({:in, _atoms}), do: "atom"
  def name({:some_of, _atoms}), do: "list"
  def name({:integer, _low, _high}), do: "integer"
  def name({:number, _low, _high}), do: "number"
  def name({:or_infinity, _low, _high}), do: "integer or atom"

  @doc "What is allowed, to follow \"must be\"."
  @spec allowed(t()) :: String.t()
  def allowed(:auth), do: Auth.allowed()
  def allowed(:url), do: Address.allowed()
  def allowed(:otlp_url), do: Address.allowed() <> ", or :env"
  def allowed({:headers, also}), do: Headers.allowed(also)

  def allowed(:attributes),
    do:
      "a map of at most 128 attributes from non-empty strings or atoms to strings, booleans, floats, " <>
        "and integers of 64 bits"

  def allowed(:metrics), do: Metric.allowed()
  def allowed(:name), do: "an atom such as MyApp.Telemetry"
  def allowed(:boolean), do: "true or false"
  def allowed(:path), do: "a path as a string without zero bytes, or nil"
  def allowed(:hosts), do: Host.allowed()
  def allowed(:ip), do: "an IPv4 or IPv6 address as a tuple such as {127, 0, 0, 1}"

  def allowed({:group, table}),
    do: "nil or a keyword list of #{Enum.map_join(Keyword.keys(table), ", ", &inspect/1)}"

  def allowed({:in, atoms}), do: "one of #{Enum.map_join(atoms, ", ", &inspect/1)}"

  def allowed({:some_of, atoms}),
    do: "a list of any of #{Enum.map_join(atoms, ", ", &inspect/1)}, each once"

  def allowed({:integer, low, high}), do: "an integer from #{low} to #{high}"
  def allowed({:number, low, high}), do: "a number from #{low} to #{high}"

  def allowed(:cacheable),
    do: "a list of method names, {class, method} pairs and functions of one argument"

  def allowed(:commands),
    do: "a list of commands as strings, of which one that ends in * stands for all that begin so"

  def allowed({:or_infinity, low, high}), do: allowed({:integer, low, high}) <> " or :infinity"

  def allowed(:buckets),
    do:
      "a map from metric name to strictly increasing numbers from 0 to below 9.0e15, 1 to 200 " <>
        "of them"

  @doc "The value as the library takes it, or what is allowed and, of a large value, what is wrong."
  @spec cast(t(), term()) :: {:ok, term()} | {:error, String.t()} | {:error, String.t(), term()}
  def cast(:buckets, value) when not is_map(value),
    do: {:error, "a map from metric name to bucket bounds"}

  def cast(:buckets, buckets) do
    known = Catalogue.histogram_names()

    Enum.find_value(buckets, {:ok, Map.new(buckets, &with_text/1)}, fn {metric, bounds} ->
      cond do
        to_string_if_name(metric) not in known ->
          {:error, "a map whose keys are among #{Enum.join(known, ", ")}", %{metric => bounds}}

        not increasing?(bounds) ->
          {:error, allowed(:buckets), %{metric => bounds}}

        true ->
          nil
      end
    end)
  end

  def cast(type, value) when type in [:url, :otlp_url] do
    if Address.valid?(value),
      do: {:ok, value},
      else: {:error, allowed(type), Address.redact(value)}
  end

  def cast(:attributes, value) do
    if attributes?(value),
      do: {:ok, Map.new(value, fn {name, value} -> {to_string(name), value} end)},
      else: {:error, allowed(:attributes)}
  end

  def cast(:metrics, value), do: Metric.cast_all(value)

  def cast(type, value) do
    if valid?(type, value), do: {:ok, value}, else: {:error, allowed(type)}
  end

  defp valid?(:auth, value), do: Auth.valid?(value)
  defp valid?({:headers, also}, value), do: Headers.valid?(value, also)
  defp valid?(:name, value), do: is_atom(value) and value not in [nil, true, false]
  defp valid?(:boolean, value), do: is_boolean(value)
  defp valid?(:path, nil), do: true

  defp valid?(:path, value),
    do: is_binary(value) and value != "" and String.valid?(value) and not (value =~ <<0>>)

  defp valid?(:hosts, value), do: Host.valid?(value)
  defp valid?(:ip, value), do: is_tuple(value) and :inet.ntoa(value) != {:error, :einval}

  defp valid?(:cacheable, value),
    do: is_list(value) and not List.improper?(value) and Enum.all?(value, &cacheable?/1)

  defp valid?(:commands, value),
    do: is_list(value) and not List.improper?(value) and Enum.all?(value, &command?/1)

  defp valid?({:number, low, high}, value),
    do: is_number(value) and value >= low and value <= high

  defp valid?({:in, atoms}, value), do: value in atoms

  defp valid?({:some_of, atoms}, value) do
    is_list(value) and not List.improper?(value) and Enum.all?(value, &(&1 in atoms)) and
      Enum.uniq(value) == value
  end

  defp valid?({:integer, low, high}, value), do: is_integer(value) and value in low..high
  defp valid?({:or_infinity, _low, _high}, :infinity), do: true
  defp valid?({:or_infinity, low, high}, value), do: valid?({:integer, low, high}, value)

  # An asterisk alone would stand for all.
  defp command?(value),
    do: is_binary(value) and String.valid?(value) and value not in ["", "*"]

  defp attributes?(value),
    do: is_map(value) and map_size(value) <= 128 and Enum.all?(value, &attribute?/1)

  defp attribute?({name, value}), do: name?(name) and attribute_value?(value)

  defp attribute_value?(value) when is_binary(value), do: String.valid?(value)
  defp attribute_value?(value) when is_integer(value), do: value in -(2 ** 63)..(2 ** 63 - 1)
  defp attribute_value?(value), do: is_boolean(value) or is_float(value)

  defp cacheable?({class, method}), do: name?(class) and name?(method)
  defp cacheable?(function) when is_function(function), do: is_function(function, 1)
  defp cacheable?(method), do: name?(method)

  defp name?(name) when is_atom(name), do: name not in [nil, true, false]
  defp name?(name), do: is_binary(name) and name != "" and String.valid?(name)

  defp with_text({metric, bounds}), do: {to_string_if_name(metric), bounds}

  defp to_string_if_name(metric) when is_atom(metric), do: Atom.to_string(metric)
  defp to_string_if_name(metric), do: metric

  defp increasing?(bounds) do
    is_list(bounds) and List.improper?(bounds) == false and length(bounds) in 1..200 and
      Enum.all?(bounds, &(is_number(&1) and &1 >= 0 and &1 < 9.0e15)) and
      bounds == bounds |> Enum.sort() |> Enum.dedup()
  end
end
