defmodule DSPexTelemetry.Reason do
  @moduledoc """
  Reasons as label values: any term reduced to a bounded set of words.
  """

  @doc """
  The class of a reason: an atom as it is, an exception's module, the tag of `{:exit_status, _}` and
  `{:shutdown, _}`, the class of the reason in a pair of reason and stacktrace, the category of a struct that has one, as
  Snakepit's errors do, else `:other`.

      iex> DSPexTelemetry.Reason.class(:timeout)
      :timeout

      iex> DSPexTelemetry.Reason.class({:exit_status, 137})
      :exit_status

      iex> DSPexTelemetry.Reason.class(%ArgumentError{message: "no"})
      "ArgumentError"

      iex> DSPexTelemetry.Reason.class("text of any kind")
      :other
  """
  @spec class(term()) :: atom() | String.t()
  def class(nil), do: nil
  def class(reason) when is_atom(reason), do: reason

  def class(%module{__exception__: true}) when is_atom(module),
    do: module |> Atom.to_string() |> String.replace_prefix("Elixir.", "")

  def class({tag, _detail}) when tag in [:exit_status, :shutdown], do: tag
  def class({reason, [frame | _]}) when is_tuple(frame), do: class(reason)

  def class(%{__struct__: _module, category: category})
      when is_atom(category) and category != nil,
      do: category

  def class(_reason), do: :other
end
