defmodule Bridge.Recording do
  @moduledoc """
  Reads a recording of `:telemetry` events: a text file with one Elixir term a line,

      {microseconds, event, measurements, metadata}

  where `microseconds` counts from any moment before the first event. Empty lines and comments are
  skipped. A file is read line by line, so memory does not grow with its length.

  No code of the file runs. Numbers, strings, atoms, names of modules, lists, tuples, maps and
  binaries of bytes are read. Anything else is an error that names the line. A struct is recorded as
  a map with `:__struct__` and stays one, so its module need not exist. The VM never frees an atom, so
  a file may have at most 10,000 that are new to it.

  The tests of the library compile this file too, so it uses nothing else of the demo.
  """

  defmodule Error do
    @moduledoc "A line that is no event of a recording."
    defexception [:message]
  end

  @type event ::
          {microseconds :: non_neg_integer(), event :: [atom(), ...], measurements :: map(),
           metadata :: map()}

  @typedoc "A file all of whose lines were read; `duration_us` is the time from its first event to its last."
  @type t :: %{path: Path.t(), events: pos_integer(), duration_us: non_neg_integer()}

  @new_atoms 10_000
  @shown 60

  @doc """
  Reads a file to its end. `{:error, sentence}` says which line is wrong and how, or why there is nothing to read.
  """
  @spec check(Path.t()) :: {:ok, t()} | {:error, String.t()}
  def check(path) do
    with :ok <- check_file(path), {:ok, events, times} <- check_lines(path) do
      case times do
        {first, last} -> {:ok, %{path: path, events: events, duration_us: last - first}}
        nil -> {:error, "#{path} has no events"}
      end
    end
  end

  @doc """
  The events of a file, in their order and as they are asked for.

  Raises `Bridge.Recording.Error` at a line that is wrong and `File.Error` if there is no such file; `check/1` finds
  both before.
  """
  @spec stream!(Path.t()) :: Enumerable.t()
  def stream!(path) do
    Stream.map(lines(path), fn
      {:ok, event} -> event
      {:error, sentence} -> raise Error, message: sentence
    end)
  end

  @doc """
  The event in a line, `:none` if it has none, or what is wrong with it.

  ## Examples

      iex> Bridge.Recording.parse(~S'{12, [:a, :stop], %{duration: 5}, %{pool: Snakepit.Pool, pid: :"#pid"}}')
      {:ok, {12, [:a, :stop], %{duration: 5}, %{pool: Snakepit.Pool, pid: :"#pid"}}}

      iex> Bridge.Recording.parse("# recorded on OTP 27")
      :none

      iex> Bridge.Recording.parse("{12, [:a, :stop], %{}, %{node: node()}}")
      {:error, "node() is code, and only literals are read"}

      iex> Bridge.Recording.parse("{12, :stop, %{}, %{}}")
      {:error, "the event must be a list of atoms with at least one, not :stop"}
  """
  @spec parse(String.t()) :: {:ok, event()} | :none | {:error, String.t()}
  def parse(line), do: parse(line, 1, atom_limit())

  defp check_file(path) do
    with {:ok, %{type: :regular}} <- File.stat(path),
         {:ok, :ok} <- File.open(path, [:read], fn _device -> :ok end) do
      :ok
    else
      {:ok, %{type: type}} -> {:error, "#{path} must be a regular file, and is a #{type}"}
      {:error, reason} -> {:error, "cannot read #{path}: #{:file.format_error(reason)}"}
    end
  end

  # Several processes emit, so a time may be a little before that of the line above it.
  defp check_lines(path) do
    Enum.reduce_while(lines(path), {:ok, 0, nil}, fn
      {:ok, {time, _, _, _}}, {:ok, 0, nil} ->
        {:cont, {:ok, 1, {time, time}}}

      {:ok, {time, _, _, _}}, {:ok, n, {first, last}} ->
        {:cont, {:ok, n + 1, {first, max(last, time)}}}

      {:error, sentence}, _ ->
        {:halt, {:error, sentence}}
    end)
  end

  defp lines(path) do
    limit = atom_limit()

    path
    |> File.stream!()
    |> Stream.with_index(1)
    |> Stream.flat_map(fn {text, number} ->
      case parse(text, number, limit) do
        {:ok, event} -> [{:ok, event}]
        :none -> []
        {:error, problem} -> [{:error, "#{path}:#{number}: #{problem}"}]
      end
    end)
  end

  defp parse(line, number, atom_limit) do
    with {:ok, quoted} <- quoted(line, number, atom_limit) do
      case quoted do
        {:__block__, _, []} -> :none
        quoted -> event(quoted)
      end
    end
  end

  defp quoted(line, number, atom_limit) do
    if String.valid?(line) do
      # The warnings are about style; what says so has another name since Elixir 1.16.
      options = [
        line: number,
        static_atoms_encoder: &atom(&1, &2, atom_limit),
        warnings: false,
        emit_warnings: false
      ]

      case Code.string_to_quoted(line, options) do
        {:ok, quoted} -> {:ok, quoted}
        {:error, {location, message, token}} -> {:error, no_term(location, message, token)}
      end
    else
      {:error, "is not UTF-8"}
    end
  end

  defp atom(name, _location, limit) do
    if :erlang.system_info(:atom_count) < limit,
      do: {:ok, String.to_atom(name)},
      else: {:error, "a recording may have at most #{@new_atoms} new atoms, and here is one more"}
  end

  defp atom_limit, do: :erlang.system_info(:atom_count) + @new_atoms

  defp no_term(location, {before, rest}, token),
    do: no_term(location, "#{before}#{cut(token)}#{rest}", "")

  defp no_term(location, message, token),
    do: "cannot be read: #{message}#{cut(token)} (column #{location[:column]})"

  defp event(quoted) do
    case literal(quoted) do
      {:ok, {time, event, measurements, metadata}} ->
        check_event({time, event, measurements, metadata})

      {:ok, other} ->
        {:error, "must be {microseconds, event, measurements, metadata}, not #{show(other)}"}

      {:error, code} ->
        {:error, "#{code |> Macro.to_string() |> cut()} is code, and only literals are read"}
    end
  end

  defp check_event({time, event, measurements, metadata} = valid) do
    cond do
      not (is_integer(time) and time >= 0) ->
        {:error, "the time must be a number of microseconds from 0 on, not #{show(time)}"}

      not (is_list(event) and event != [] and Enum.all?(event, &is_atom/1)) ->
        {:error, "the event must be a list of atoms with at least one, not #{show(event)}"}

      not is_map(measurements) ->
        {:error, "the measurements must be a map, not #{show(measurements)}"}

      not is_map(metadata) ->
        {:error, "the metadata must be a map, not #{show(metadata)}"}

      true ->
        {:ok, valid}
    end
  end

  # The value of a literal, or the part that is none.
  defp literal(value) when is_number(value) or is_atom(value) or is_binary(value),
    do: {:ok, value}

  defp literal(list) when is_list(list), do: literals(list)

  defp literal({left, right}) do
    with {:ok, pair} <- literals([left, right]), do: {:ok, List.to_tuple(pair)}
  end

  defp literal({:{}, _, elements}) do
    with {:ok, elements} <- literals(elements), do: {:ok, List.to_tuple(elements)}
  end

  defp literal({:%{}, _, pairs}) do
    with {:ok, pairs} <- literals(pairs), do: {:ok, Map.new(pairs)}
  end

  defp literal({:-, _, [number]}) when is_number(number), do: {:ok, -number}

  defp literal({:<<>>, _, bytes} = quoted) do
    if Enum.all?(bytes, &(&1 in 0..255)),
      do: {:ok, :binary.list_to_bin(bytes)},
      else: {:error, quoted}
  end

  # An atom has at most 255 characters, and this one begins with `Elixir.`.
  defp literal({:__aliases__, _, names} = quoted) do
    if Enum.all?(names, &is_atom/1) and names |> Enum.join(".") |> String.length() < 248,
      do: {:ok, Module.concat(names)},
      else: {:error, quoted}
  end

  defp literal(quoted), do: {:error, quoted}

  defp literals(list) do
    result =
      Enum.reduce_while(list, [], fn quoted, values ->
        case literal(quoted) do
          {:ok, value} -> {:cont, [value | values]}
          {:error, code} -> {:halt, {:error, code}}
        end
      end)

    if is_list(result), do: {:ok, Enum.reverse(result)}, else: result
  end

  defp show(term), do: term |> inspect(limit: 5, printable_limit: @shown) |> cut()

  defp cut(text) do
    text = String.replace(text, "\n", " ")
    if String.length(text) > @shown, do: String.slice(text, 0, @shown) <> "…", else: text
  end
end
