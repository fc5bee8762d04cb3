defmodule DSPexTelemetry.Name do
  @moduledoc """
  Names as label values: any term reduced to text.
  """

  @doc """
  Atoms, binaries and integers as they are, a pair of them joined by a colon, as devices are named, else
  `:other`.

      iex> DSPexTelemetry.Name.of(:default)
      :default

      iex> DSPexTelemetry.Name.of({:cuda, 0})
      "cuda:0"

      iex> DSPexTelemetry.Name.of(self())
      :other
  """
  @spec of(term()) :: atom() | String.t() | integer()
  def of({kind, index}) do
    if plain?(kind) and plain?(index) and kind != nil and index != nil,
      do: "#{kind}:#{index}",
      else: :other
  end

  def of(name), do: if(plain?(name), do: name, else: :other)

  # A binary of any length is cut later, where it is copied.
  defp plain?(name) when is_integer(name),
    do: name in -0x8000_0000_0000_0000..0x7FFF_FFFF_FFFF_FFFF

  defp plain?(name), do: is_atom(name) or is_binary(name)
end
