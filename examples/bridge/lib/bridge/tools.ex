defmodule Bridge.Tools do
  @moduledoc """
  Elixir functions that Python methods may call by name, and Elixir too.

  A tool returns `{:ok, value}`, or `{:error, sentence}` when it cannot do what it is asked. It
  may also raise: `call/3` lets that through, and `Bridge.Upcall` turns it into an answer for
  Python.

  The reports of `DSPexTelemetry.Tools` are tools as well: Python may ask how slow its methods
  are. They take one argument, a map.
  """

  alias DSPexTelemetry.Emit

  @modules [Enum, Integer, Kernel, List, Map, Regex, Stream, String, System, URI]
  @suffixes ~w(ations ation ingly ings ing edly ies ed es s)

  @own ~w(lookup stem to_integer)

  @type result :: {:ok, term()} | {:error, String.t()}

  @doc """
  The names of all tools.

  ## Examples

      iex> Bridge.Tools.names()
      ~w(lookup stem to_integer method_performance method_errors usage worker_pool)
  """
  @spec names() :: [String.t()]
  def names, do: @own ++ Enum.map(DSPexTelemetry.Tools.all(), & &1.name)

  @doc """
  Runs a tool. Options: `:session` and `:caller` (`:elixir`, or `:python` for questions from
  there).

  ## Examples

      iex> Bridge.Tools.call("stem", ["tokens"])
      {:ok, "token"}

      iex> Bridge.Tools.call("stem", ["1_000"])
      {:error, "not a word: \\"1_000\\""}

      iex> Bridge.Tools.call("lookup", ["trim_leading"])
      {:ok, ["String"]}
  """
  @spec call(String.t(), list(), keyword()) :: result()
  def call(name, args, options \\ []) do
    metadata = %{
      tool_name: name,
      session_id: options[:session],
      caller: Keyword.get(options, :caller, :elixir),
      args: args
    }

    Emit.tool_call(metadata, fn -> run(name, args) end)
  end

  # The Elixir modules that have a function of this name.
  defp run("lookup", [name]) do
    {:ok, for(module <- @modules, exports?(module, name), do: inspect(module))}
  end

  # English words without their endings, roughly.
  defp run("stem", [word]) do
    if word =~ ~r/^[[:alpha:]]+$/u do
      {:ok, word |> String.downcase() |> strip()}
    else
      {:error, "not a word: #{inspect(word)}"}
    end
  end

  # Raises ArgumentError for what is no integer to Elixir.
  defp run("to_integer", [text]), do: {:ok, String.to_integer(text)}

  defp run(name, args) do
    case {Enum.find(DSPexTelemetry.Tools.all(), &(&1.name == name)), args} do
      {%{function: report}, [arguments]} -> report.(arguments)
      _ -> {:error, "there is no tool #{name}/#{length(args)}"}
    end
  end

  defp exports?(module, name) do
    Enum.any?(module.__info__(:functions), fn {function, _arity} ->
      Atom.to_string(function) == name
    end)
  end

  defp strip(word) do
    suffix =
      Enum.find(@suffixes, "", fn suffix ->
        String.ends_with?(word, suffix) and String.length(word) >= String.length(suffix) + 3
      end)

    String.replace_suffix(word, suffix, "")
  end
end
