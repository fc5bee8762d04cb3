defmodule DSPexTelemetry.Auth do
  @moduledoc """
  Who may ask over HTTP: option `:auth` of `DSPexTelemetry.Plug` and key `:auth` of the options `:http`, `:push` and
  `:otlp`, of which the last two are about what is sent.
  """

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

  @doc """
  Whether a value, out of its function, says who may ask.

      iex> Enum.map([:none, {:bearer, "s3cret"}, {:bearer, "two words"}, "s3cret"], &DSPexTelemetry.Auth.valid?/1)
      [true, true, false, false]
  """
  @spec valid?(term()) :: boolean()
  def valid?({:bearer, token}), do: text?(token) and token =~ ~r/\A[\x21-\x7e]+\z/

  def valid?({:basic, user, password}),
    do: text?(user) and text?(password) and not (user =~ ":")

  def valid?(rule), do: rule in [:none, nil]

  defp text?(text) do
    is_binary(text) and byte_size(text) in 1..1024 and String.valid?(text) and
      not (text =~ ~r/[\x00-\x1f\x7f]/)
  end

  @doc """
  Who may ask, out of its function. Raises `ArgumentError`, which does not show it, if a function has
  returned something else.
  """
  @spec rule!(t()) :: rule()
  def rule!(auth) when is_function(auth, 0) do
    rule = auth.()

    unless rule != nil and valid?(rule) do
      raise ArgumentError, "the function of option :auth must return #{allowed()}"
    end

    rule
  end

  def rule!(rule), do: rule

  @doc """
  Whether a request with these `authorization` headers, which should be one, is let in: the token of a
  `:bearer` also as the password of any user. Takes the same time for all tokens of a length that are
  wrong.

      iex> DSPexTelemetry.Auth.authorised?({:bearer, "s3cret"}, ["Bearer s3cret"])
      true
      iex> DSPexTelemetry.Auth.authorised?({:bearer, "s3cret"}, [])
      false
  """
  @spec authorised?(rule(), [String.t()]) :: boolean()
  def authorised?(rule, _headers) when rule in [:none, nil], do: true

  # A browser has no dialog for tokens, only one for a user and a password.
  def authorised?({:bearer, token}, [header]) do
    with :error <- credentials(header, "bearer"),
         {:ok, encoded} <- credentials(header, "basic"),
         {:ok, given} <- Base.decode64(encoded),
         [_any_user, password] <- String.split(given, ":", parts: 2) do
      same?(password, token)
    else
      {:ok, given} -> same?(given, token)
      _malformed_or_another -> false
    end
  end

  def authorised?({:basic, user, password}, [header]) do
    with {:ok, encoded} <- credentials(header, "basic"),
         {:ok, given} <- Base.decode64(encoded) do
      same?(given, user <> ":" <> password)
    else
      :error -> false
    end
  end

  def authorised?(_rule, _none_or_several), do: false

  @doc """
  Whether everybody is let in.

      iex> Enum.map([:none, nil, {:bearer, "s3cret"}], &DSPexTelemetry.Auth.open?/1)
      [true, true, false]
  """
  @spec open?(rule()) :: boolean()
  def open?(rule), do: rule in [:none, nil]

  @doc """
  What to answer in `www-authenticate` to a `:browser`, which asks its user for `Basic` credentials and
  knows no other, or a `:client` who was not let in.

      iex> DSPexTelemetry.Auth.challenge({:bearer, "s3cret"}, :client)
      ~s(Bearer realm="dspex_telemetry")
  """
  @spec challenge(rule(), :browser | :client) :: String.t()
  def challenge({:bearer, _token}, :client), do: ~s(Bearer realm="dspex_telemetry")

  def challenge(_basic_or_browser, _asker),
    do: ~s(Basic realm="dspex_telemetry", charset="UTF-8")

  defp credentials(header, scheme) do
    with [given_scheme, credentials] <- String.split(header, " ", parts: 2),
         ^scheme <- String.downcase(given_scheme, :ascii) do
      {:ok, String.trim(credentials, " ")}
    else
      _malformed_or_another -> :error
    end
  end

  # Of hashes, which have the same length: how long it takes tells nothing of the secret.
  defp same?(given, secret),
    do: :crypto.hash_equals(:crypto.hash(:sha256, given), :crypto.hash(:sha256, secret))

  @doc """
  Whether only this machine reaches an address.

      iex> Enum.map([{127, 0, 0, 1}, {10, 0, 0, 1}], &DSPexTelemetry.Auth.loopback?/1)
      [true, false]
  """
  @spec loopback?(:inet.ip_address()) :: boolean()
  def loopback?({127, _, _, _}), do: true
  def loopback?({0, 0, 0, 0, 0, 0, 0, 1}), do: true
  # 127.0.0.0/8, mapped into IPv6
  def loopback?({0, 0, 0, 0, 0, 0xFFFF, high, _}), do: div(high, 256) == 127
  def loopback?(_other), do: false
end
