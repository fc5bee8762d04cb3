defmodule DSPexTelemetry.PrometheusRules do
  @moduledoc """
  Reads our rule files without a YAML library: the few forms of lines that they are written in. Any
  other line raises, so that no rule can be overlooked.
  """

  @type rule :: %{
          group: String.t(),
          kind: :alert | :record,
          name: String.t(),
          expr: String.t(),
          for: String.t() | nil,
          labels: %{String.t() => String.t()},
          annotations: %{String.t() => String.t()}
        }

  @doc "The rules of a file, in its order."
  @spec read!(Path.t()) :: [rule()]
  def read!(path) do
    path
    |> File.read!()
    |> String.split("\n")
    |> Enum.with_index(1)
    |> Enum.reject(fn {line, _number} -> line =~ ~r/^\s*(#.*)?$/ end)
    |> Enum.reduce(%{rules: [], group: nil, in: nil}, fn {line, number}, state ->
      read(line, state) || raise "#{path}:#{number} has an unknown form: #{line}"
    end)
    |> then(&Enum.reverse(&1.rules))
  end

  defp read("groups:", state), do: state
  defp read("  - name: " <> group, state), do: %{state | group: group, in: :group}
  defp read("    interval: " <> _duration, %{in: :group} = state), do: state
  defp read("    rules:", %{in: :group} = state), do: %{state | in: :rules}
  defp read("      - alert: " <> name, state), do: start(state, :alert, name)
  defp read("      - record: " <> name, state), do: start(state, :record, name)
  defp read("        expr: |-", state), do: %{state | in: :expr}
  defp read("        for: " <> duration, state), do: update(state, &%{&1 | for: duration})
  defp read("        labels:", state), do: %{state | in: :labels}
  defp read("        annotations:", state), do: %{state | in: :annotations}

  defp read("          " <> line, %{in: :expr} = state),
    do: update(state, &%{&1 | expr: String.trim_leading(&1.expr <> "\n" <> line)})

  defp read("          " <> line, %{in: map} = state) when map in [:labels, :annotations] do
    with [key, value] <- String.split(line, ": ", parts: 2) do
      update(state, &Map.update!(&1, map, fn map -> Map.put(map, key, unquoted(value)) end))
    else
      _no_colon -> nil
    end
  end

  defp read(_line, _state), do: nil

  defp start(state, kind, name) do
    rule = %{
      group: state.group,
      kind: kind,
      name: name,
      expr: "",
      for: nil,
      labels: %{},
      annotations: %{}
    }

    %{state | rules: [rule | state.rules], in: :rule}
  end

  defp update(%{rules: [rule | rules]} = state, fun), do: %{state | rules: [fun.(rule) | rules]}

  defp unquoted(value) do
    case Regex.run(~r/^"(.*)"$/, value) do
      [_all, text] -> String.replace(text, ~S(\"), ~S("))
      nil -> value
    end
  end
end
