defmodule DSPexTelemetry.Auth do
  @moduledoc false
  # Who may ask over HTTP.

  @typedoc "Who may ask. A secret is in a function, which is called for each request."
  @type t :: rule() | (() -> rule())
  @type rule ::
          {:bearer, token :: String.t()}
          | {:basic, user :: String.t(), password :: String.t()}
          | :none
          | nil

  @doc "What is allowed, to follow \"must be\"."
  @spec allowed() :: String.t()
  def allowed,
    do:
      "{:bearer, token} with a token of 1 to 1024 visible ASCII characters, {:basic, user, password} " <>
        "with non-empty strings of at most 1024 bytes without control characters and a user without " <>
        "colon, :none, or a function without arguments that returns one of them"

  @doc "Whether a value, out of its function, says who may ask."
  @spec valid?(term()) :: boolean()
  def valid?({:bearer, token}), do: text?(token) and token =~ ~r/\A[\x21-\x7e]+\z/

  def valid?({:basic, user, password}),
    do: text?(user) and text?(password) and not (user =~ ":")

  def valid?(rule), do: rule in [:none, nil]

  defp text?(text) do
    is_binary(text) and byte_size(text) in 1..1024 and String.valid?(text) and
      not (text =~ ~r/[\x00-\x1f\x7f]/)
  end

  @doc "Whether only this machine reaches an address."
  @spec loopback?(:inet.ip_address()) :: boolean()
  def loopback?({127, _, _, _}), do: true
  def loopback?({0, 0, 0, 0, 0, 0, 0, 1}), do: true
  # 127.0.0.0/8, mapped into IPv6
  def loopback?({0, 0, 0, 0, 0, 0xFFFF, high, _}), do: div(high, 256) == 127
  def loopback?(_other), do: false
end
