defmodule DSPexTelemetry.Reason do
  @moduledoc """
  Reasons of failures as label values: any term reduced to a bounded set of words.

  Python's exceptions are named by their Python type, whatever struct carries them. The other words are atoms and names
  of modules, of which a VM has a bounded number.
  """

  # How deep a reason may be wrapped in others.
  @depth 8
  # The keys of metadata that say why, in the order in which they are asked.
  @said_in [:error_kind, :reason, :error]
  @most_type_bytes 128
  @most_message_bytes 256

  @typedoc "A word: an atom, or a name of an exception."
  @type class :: atom() | String.t()

  @doc """
  The word for a reason.

    * an atom is its own word
    * an exception of Python is its type: the `:python_type`, or the `:type` of an exception that has one
    * any other exception is the name of its module
    * a struct with `:details` of which one is the `:reason`, as Snakepit's errors have, is the word of that; else, or
      without details, its `:category`
    * `{:error, reason}`, `{:shutdown, reason}` and a reason with a stacktrace are the word of the reason
    * any other tuple is its first element, if that is an atom
    * everything else is `:other`

        iex> DSPexTelemetry.Reason.class(:timeout)
        :timeout

        iex> DSPexTelemetry.Reason.class({:grpc_server_exited, 137})
        :grpc_server_exited

        iex> DSPexTelemetry.Reason.class({:shutdown, {:shutdown, :ping_failed}})
        :ping_failed

        iex> DSPexTelemetry.Reason.class(%ArgumentError{message: "no"})
        "ArgumentError"

        iex> DSPexTelemetry.Reason.class("text of any kind")
        :other
  """
  @spec class(term()) :: class()
  def class(nil), do: nil
  def class(reason), do: class(reason, @depth)

  defp class(_reason, 0), do: :other
  defp class(reason, _depth) when reason in [nil, true, false], do: :other
  defp class(reason, _depth) when is_atom(reason), do: reason

  defp class(%{__struct__: module} = struct, depth) when is_atom(module) do
    python_type(struct) || class_of_struct(struct, module, depth)
  end

  defp class({:error, reason}, depth), do: inner(reason, :error, depth)
  defp class({:shutdown, reason}, depth), do: inner(reason, :shutdown, depth)

  defp class(tuple, depth) when is_tuple(tuple) and tuple_size(tuple) > 0 do
    case elem(tuple, 0) do
      head when is_tuple(head) or is_map(head) -> class(head, depth - 1)
      head when is_atom(head) -> class(head, depth)
      _text_or_number -> :other
    end
  end

  defp class(_reason, _depth), do: :other

  # What is wrapped, unless it says nothing.
  defp inner(reason, otherwise, depth) do
    case class(reason, depth - 1) do
      :other -> otherwise
      class -> class
    end
  end

  defp class_of_struct(%{details: %{reason: reason}} = struct, module, depth) do
    case class(reason, depth - 1) do
      :other -> struct |> Map.delete(:details) |> class_of_struct(module, depth)
      class -> class
    end
  end

  defp class_of_struct(%{category: category}, _module, _depth)
       when is_atom(category) and category != nil,
       do: category

  defp class_of_struct(%{__exception__: true}, module, _depth), do: name(module)
  defp class_of_struct(_struct, _module, _depth), do: :other

  defp name(module), do: module |> Atom.to_string() |> String.replace_prefix("Elixir.", "")

  @doc """
  The word for why the call of an event failed, from all that its metadata say: `:error_kind`, `:reason`, `:error` and
  `:error_type`, in this order; `nil` if they say nothing.

      iex> DSPexTelemetry.Reason.word(%{error_type: "ValueError", error_message: "math domain error"})
      "ValueError"

      iex> DSPexTelemetry.Reason.word(%{error: {:grpc_server_exited, 137}})
      :grpc_server_exited

      iex> DSPexTelemetry.Reason.word(%{success: false})
      nil
  """
  @spec word(term()) :: class() | nil
  def word(metadata) when is_map(metadata) do
    case first_word(metadata, @said_in, nil) do
      word when word in [nil, :other] -> type(Map.get(metadata, :error_type)) || word
      word -> word
    end
  end

  def word(_no_metadata), do: nil

  defp first_word(_metadata, [], found), do: found

  defp first_word(metadata, [key | keys], found) do
    case metadata do
      %{^key => reason} when reason not in [nil, false] ->
        case class(reason, @depth) do
          :other -> first_word(metadata, keys, :other)
          word -> word
        end

      _says_nothing ->
        first_word(metadata, keys, found)
    end
  end

  @doc """
  The message of a failure, from the same metadata and `:error_message`: at most 256 bytes, `""` if there is none.

      iex> DSPexTelemetry.Reason.message(%{error_type: "ValueError", error_message: "math domain error"})
      "math domain error"

      iex> DSPexTelemetry.Reason.message(%{error: {:grpc_server_exited, 137}})
      "grpc_server_exited 137"
  """
  @spec message(map()) :: String.t()
  def message(metadata) do
    metadata
    |> said()
    |> Enum.find_value("", &message(&1, @depth))
    |> or_text(Map.get(metadata, :error_message))
    |> cut()
  end

  @doc """
  Whether the caller's code is to blame: where Python raised an exception, or where the arguments could not be sent. Then
  the failure says nothing of the worker's health.

      iex> DSPexTelemetry.Reason.callers_fault?(%{error_type: "ValueError"})
      true

      iex> DSPexTelemetry.Reason.callers_fault?(%{error: :timeout})
      false
  """
  @spec callers_fault?(map()) :: boolean()
  def callers_fault?(metadata) do
    type(Map.get(metadata, :error_type)) != nil or
      Enum.any?(said(metadata), &callers?(&1, @depth))
  end

  defp said(metadata),
    do: for(key <- @said_in, reason = Map.get(metadata, key), do: reason)

  defp or_text("", text) when is_binary(text), do: text
  defp or_text(message, _text), do: message

  # A type that Python gives to an exception; other texts are not bounded.
  defp python_type(%{python_type: type}), do: type(type)
  defp python_type(%{__exception__: true, type: type}), do: type(type)
  defp python_type(_struct), do: nil

  defp type(type) when is_binary(type) and byte_size(type) in 1..@most_type_bytes do
    if type =~ ~r/\A[A-Za-z_][A-Za-z0-9_.]*\z/, do: type
  end

  defp type(_no_type), do: nil

  # What a person wrote, or the tags and numbers of a tuple. Never what else a term holds, which may be arguments.
  defp message(_reason, 0), do: nil

  defp message(%{details: %{reason: reason}} = error, depth),
    do: message(reason, depth - 1) || message(Map.delete(error, :details), depth)

  defp message(%{message: message}, _depth) when is_binary(message) and message != "", do: message
  defp message({:error, reason}, depth), do: message(reason, depth - 1)
  defp message({:shutdown, reason}, depth), do: message(reason, depth - 1)
  defp message({reason, [frame | _]}, depth) when is_tuple(frame), do: message(reason, depth - 1)

  defp message(tuple, _depth) when is_tuple(tuple) and tuple_size(tuple) in 2..4 do
    words =
      for word <- Tuple.to_list(tuple),
          (is_atom(word) and word != nil) or is_integer(word),
          do: word

    if match?([_, _ | _], words), do: Enum.map_join(words, " ", &in_message/1)
  end

  defp message(text, _depth) when is_binary(text) and text != "", do: text
  defp message(_reason, _depth), do: nil

  defp in_message(integer) when is_integer(integer) and abs(integer) > 0xFFFF_FFFF_FFFF_FFFF,
    do: "…"

  defp in_message(integer) when is_integer(integer), do: Integer.to_string(integer)
  defp in_message(atom), do: name(atom)

  defp callers?(_reason, 0), do: false

  defp callers?(%{__struct__: _module} = struct, depth),
    do: python_type(struct) != nil or callers_in?(struct, depth)

  defp callers?({:invalid_parameter, _what}, _depth), do: true
  defp callers?({:invalid_parameter, _what, _why}, _depth), do: true
  defp callers?({:error, reason}, depth), do: callers?(reason, depth - 1)

  defp callers?({reason, [frame | _]}, depth) when is_tuple(frame),
    do: callers?(reason, depth - 1)

  defp callers?(_reason, _depth), do: false

  defp callers_in?(%{category: category}, _depth) when category in [:validation, :python_error],
    do: true

  defp callers_in?(%{details: %{reason: reason}}, depth), do: callers?(reason, depth - 1)
  defp callers_in?(_struct, _depth), do: false

  # On a character boundary, and of a binary that may be large and invalid.
  defp cut(message) when byte_size(message) <= @most_message_bytes, do: message

  defp cut(message) do
    start = message |> binary_part(0, @most_message_bytes) |> :binary.copy()
    if String.valid?(start), do: start, else: drop_last_character(start, 3)
  end

  defp drop_last_character(text, 0), do: text

  defp drop_last_character(text, tries) do
    shorter = binary_part(text, 0, byte_size(text) - 1)
    if String.valid?(shorter), do: shorter, else: drop_last_character(shorter, tries - 1)
  end
end
