defmodule DSPexTelemetry.Documented do
  @moduledoc """
  Looks in code of the documentation for what the library does not have: functions, options of functions, and
  options of an instance.
  """

  alias DSPexTelemetry.Options

  @root :DSPexTelemetry

  @doc """
  What a piece of code names and is not there, as sentences. `aliases` are those of code before it, and come back
  with those that it adds.
  """
  @spec faults(Macro.t(), %{atom() => module()}) :: {[String.t()], %{atom() => module()}}
  def faults(code, aliases \\ %{}) do
    aliases = Map.merge(aliases, aliases(code))

    {_code, faults} =
      code
      |> Macro.prewalk(&unpipe/1)
      |> Macro.prewalk([], fn node, faults -> {node, fault(node, aliases) ++ faults} end)

    {Enum.reverse(faults), aliases}
  end

  # `a |> f(b)` calls what `f(a, b)` calls.
  defp unpipe({:|>, _meta, [left, {_call, _more, arguments} = right]}) when is_list(arguments),
    do: Macro.pipe(left, right, 0)

  defp unpipe(node), do: node

  defp aliases(code) do
    {_code, aliases} =
      Macro.prewalk(code, %{}, fn
        {:alias, _meta, [{:__aliases__, _more, parts} | _as]} = node, aliases ->
          {node, Map.put(aliases, List.last(parts), Module.concat(parts))}

        {:alias, _meta, [{{:., _dot, [{:__aliases__, _more, parts}, :{}]}, _call, several}]} =
            node,
        aliases ->
          {node,
           Enum.into(several, aliases, fn {:__aliases__, _meta, [last]} ->
             {last, Module.concat(parts ++ [last])}
           end)}

        node, aliases ->
          {node, aliases}
      end)

    aliases
  end

  defp module([first | rest], aliases) do
    parts = if first == @root, do: [first | rest], else: [Map.get(aliases, first, first) | rest]
    module = Module.concat(parts)
    short = Module.concat([@root | [first | rest]])

    cond do
      first == @root -> module
      is_map_key(aliases, first) -> if own?(module), do: module
      # Prose that has named a module in full goes on with its last name.
      Code.ensure_loaded?(module) -> nil
      Code.ensure_loaded?(short) -> short
      true -> nil
    end
  end

  defp own?(module), do: hd(Module.split(module)) == Atom.to_string(@root)

  # &Module.function/2
  defp fault(
         {:/, _meta, [{{:., _, [{:__aliases__, _, parts}, function]}, _, []}, arity]},
         aliases
       )
       when is_integer(arity),
       do: missing(module(parts, aliases), function, arity)

  defp fault({{:., _dot, [{:__aliases__, _, parts}, function]}, meta, arguments}, aliases)
       when is_atom(function) and function != :{} and is_list(arguments) do
    module = module(parts, aliases)

    # Without parentheses it is the name in a capture, which was looked at above.
    if arguments == [] and meta[:no_parens],
      do: [],
      else: missing(module, function, length(arguments)) ++ unknown(module, function, arguments)
  end

  # {DSPexTelemetry, options}
  defp fault({{:__aliases__, _, [@root]}, options}, _aliases), do: unknown_options(options)

  defp fault({:config, _meta, [:dspex_telemetry, options]}, _aliases),
    do: unknown_options(Keyword.delete(options, :start_default))

  defp fault({:__aliases__, _meta, [@root | _] = parts}, _aliases) do
    module = Module.concat(parts)
    if Code.ensure_loaded?(module), do: [], else: ["there is no module #{inspect(module)}"]
  end

  defp fault(_node, _aliases), do: []

  defp missing(nil, _function, _arity), do: []

  defp missing(module, function, arity) do
    if Code.ensure_loaded?(module) and
         (function_exported?(module, function, arity) or macro_exported?(module, function, arity)),
       do: [],
       else: ["there is no #{inspect(module)}.#{function}/#{arity}"]
  end

  # Options of an instance are in a table, those of functions in their documentation.
  defp unknown(DSPexTelemetry, function, [options]) when function in [:start_link, :child_spec],
    do: unknown_options(options)

  defp unknown(module, function, [_ | _] = arguments) when module != nil do
    options = Enum.find(Enum.reverse(arguments), [], &(Keyword.keyword?(&1) and &1 != []))
    documentation = documentation(module, function)

    for {key, _value} <- options,
        key not in [:instance, :do] and not (documentation =~ ~r/`:?#{key}:?`|`#{key}: /),
        do: "#{inspect(module)}.#{function} does not document option #{inspect(key)}"
  end

  defp unknown(_module, _function, _no_options), do: []

  defp documentation(module, function) do
    with {:docs_v1, _, _, _, moduledoc, _, docs} <- Code.fetch_docs(module) do
      own = for {{:function, ^function, _}, _, _, %{"en" => text}, _} <- docs, do: text
      Enum.join(own, "\n") <> if(is_map(moduledoc), do: moduledoc["en"], else: "")
    else
      _none -> ""
    end
  end

  defp unknown_options(options), do: unknown_options(options, Options.table(), "")

  defp unknown_options(options, table, path) do
    if Keyword.keyword?(options) do
      Enum.flat_map(options, fn {name, value} ->
        case Enum.find(table, &(&1.name == name)) do
          nil -> ["there is no option #{path}#{name}"]
          %{keys: []} -> []
          %{keys: keys} -> unknown_options(value, keys, "#{path}#{name}: ")
        end
      end)
    else
      []
    end
  end
end
