defmodule DSPexTelemetry.Delivery.Headers do
  @moduledoc false
  # Headers of a push, beside those that it sets itself.

  @own ~w(authorization connection content-encoding content-length content-type expect host te
          trailer transfer-encoding upgrade)

  @doc "What is allowed, to follow \"must be\"."
  @spec allowed() :: String.t()
  def allowed,
    do:
      "a list of {name, value} with names that HTTP allows, values of at most 8192 visible ASCII " <>
        "characters and spaces, and none of #{Enum.join(@own, ", ")}, or a function without arguments " <>
        "that returns one"

  @spec valid?(term()) :: boolean()
  def valid?(headers),
    do: is_list(headers) and not List.improper?(headers) and Enum.all?(headers, &header?/1)

  defp header?({name, value}) when is_binary(name) and is_binary(value) do
    name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/ and String.downcase(name) not in @own and
      byte_size(value) <= 8_192 and value =~ ~r/\A[\x20-\x7e]*\z/
  end

  defp header?(_other), do: false
end
