defmodule DSPexTelemetry.Export.Delivery.Headers do
  @moduledoc false
  # Headers of a delivery, beside those that it sets itself.

  @own ~w(authorization connection content-encoding content-length content-type expect host te
          trailer transfer-encoding upgrade)

  @doc """
  What is allowed, to follow "must be". `also` are names that it would set itself and that may be given
  all the same.
  """
  @spec allowed([String.t()]) :: String.t()
  def allowed(also \\ []),
    do:
      "a list of {name, value} with names that HTTP allows, values of at most 8192 visible ASCII " <>
        "characters and spaces, and none of #{Enum.join(@own -- also, ", ")}, or a function without arguments " <>
        "that returns one"

  @spec valid?(term(), [String.t()]) :: boolean()
  def valid?(headers, also \\ []),
    do:
      is_list(headers) and not List.improper?(headers) and
        Enum.all?(headers, &header?(&1, @own -- also))

  defp header?({name, value}, own) when is_binary(name) and is_binary(value) do
    name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/ and String.downcase(name) not in own and
      byte_size(value) <= 8_192 and value =~ ~r/\A[\x20-\x7e]*\z/
  end

  defp header?(_other, _own), do: false
end
