defmodule DSPexTelemetry.Tools do
  @moduledoc """
  The reports as tools, for the Python side of a bridge: "how slow was this method in the last
  minute?"

  A bridge registers what `all/0` returns with whatever calls tools there. Each has a name, a
  description, a JSON Schema of its arguments, and a function that takes them as a map with string
  keys and returns `{:ok, map}`, ready for JSON, or `{:error, sentence}`; it never raises for what it
  is given.

      for tool <- DSPexTelemetry.Tools.all() do
        MyBridge.register_tool(tool.name, tool.description, tool.parameters, tool.function)
      end

  `window` is a number of seconds up to now. Without it the reports are about the last minute; 0 is
  all since the start.
  """

  alias DSPexTelemetry.{ErrorAnalyzer, PerformanceMonitor, UsageAnalytics}

  @type tool :: %{
          name: String.t(),
          description: String.t(),
          parameters: map(),
          function: (map() -> {:ok, map()} | {:error, String.t()})
        }

  @window %{
    "type" => "integer",
    "minimum" => 0,
    "maximum" => 604_800,
    "description" => "Seconds up to now that the numbers cover; 0 is all since the start.",
    "default" => 60
  }
  @method %{"type" => "string", "description" => "Only methods of this name."}
  @python_class %{"type" => "string", "description" => "Only methods of this class."}
  @limit %{
    "type" => "integer",
    "minimum" => 1,
    "maximum" => 1_000,
    "description" => "Most rows.",
    "default" => 20
  }

  @doc """
  All tools.

  Options: `:instance`, the name of the instance that they report on.

      iex> Enum.map(DSPexTelemetry.Tools.all(), & &1.name)
      ["method_performance", "method_errors", "usage", "worker_pool"]

      iex> [performance | _] = DSPexTelemetry.Tools.all()
      iex> performance.function.(%{"window" => "minute"})
      {:error, "window must be an integer from 0 to 604800, got: \\"minute\\""}
  """
  @spec all(keyword()) :: [tool()]
  def all(options \\ []) do
    instance = DSPexTelemetry.instance!(options)

    for {name, description, properties, report} <- table() do
      %{
        name: name,
        description: description,
        parameters: %{
          "type" => "object",
          "properties" => properties,
          "required" => [],
          "additionalProperties" => false
        },
        function: fn arguments -> call(arguments, properties, report, instance) end
      }
    end
  end

  defp table do
    [
      {"method_performance",
       "Calls, errors and latency (microseconds) of Python methods, those that took most time " <>
         "first, and how they changed against the window before.",
       %{
         "window" => @window,
         "method" => @method,
         "python_class" => @python_class,
         "limit" => @limit
       }, &performance/2},
      {"method_errors",
       "Failed method calls by kind and reason, spikes of errors, and methods whose latency is unusual.",
       %{"window" => @window}, &errors/2},
      {"usage", "Which classes, methods, tools and variables are used most, and how often.",
       %{"limit" => @limit}, &usage/2},
      {"worker_pool",
       "Python workers: how many are alive, started and died, and how long requests waited for one.",
       %{"window" => @window}, &pool/2}
    ]
  end

  defp call(arguments, properties, report, instance) do
    with {:ok, arguments} <- check(arguments, properties) do
      {:ok, arguments |> report.(instance) |> for_json()}
    end
  rescue
    # The instance is not running.
    error in ArgumentError -> {:error, Exception.message(error)}
  end

  # The reports

  defp performance(arguments, instance) do
    performance = PerformanceMonitor.fetch(window(arguments), instance)

    rows =
      for row <- performance.rows,
          Map.get(arguments, "method", row.method) == row.method,
          Map.get(arguments, "python_class", row.python_class) == row.python_class,
          do: row

    {shown, more} = Enum.split(rows, arguments["limit"])
    %{interval: performance.interval, methods: shown, more: length(more)}
  end

  defp errors(arguments, instance),
    do: ErrorAnalyzer.report(window: window(arguments), instance: instance)

  defp usage(arguments, instance),
    do: UsageAnalytics.get_usage_report(top: arguments["limit"], instance: instance)

  defp pool(arguments, instance) do
    report = DSPexTelemetry.report(window: window(arguments), instance: instance)
    Map.put(report.pool, :interval, report.interval)
  end

  defp window(%{"window" => 0}), do: :since_start
  defp window(%{"window" => seconds}), do: {seconds, :seconds}

  # The arguments

  defp check(arguments, properties) when is_map(arguments) and not is_struct(arguments) do
    defaults = for {name, %{"default" => default}} <- properties, into: %{}, do: {name, default}
    # `None` is what Python code passes for what it does not care about.
    given = for {name, value} <- arguments, value != nil, into: %{}, do: {name, value}

    case Enum.find_value(given, &refusal(&1, properties)) do
      nil -> {:ok, Map.merge(defaults, given)}
      sentence -> {:error, sentence}
    end
  end

  defp check(arguments, _properties),
    do: {:error, "arguments must be an object, got: #{inspect(arguments)}"}

  defp refusal({name, value}, properties) do
    case properties do
      %{^name => %{"type" => "integer", "minimum" => low, "maximum" => high}} ->
        unless is_integer(value) and value in low..high,
          do: "#{name} must be an integer from #{low} to #{high}, got: #{inspect(value)}"

      %{^name => %{"type" => "string"}} ->
        unless is_binary(value), do: "#{name} must be a string, got: #{inspect(value)}"

      _unknown ->
        known = properties |> Map.keys() |> Enum.join(", ")
        "unknown argument #{inspect(name)}, allowed are #{known}"
    end
  end

  # Keys and atoms as strings; `nil` and booleans stay.
  defp for_json(map) when is_map(map),
    do: Map.new(map, fn {key, value} -> {to_string(key), for_json(value)} end)

  defp for_json(list) when is_list(list), do: Enum.map(list, &for_json/1)
  defp for_json(value) when is_boolean(value) or is_nil(value), do: value
  defp for_json(value) when is_atom(value), do: Atom.to_string(value)
  defp for_json(value), do: value
end
