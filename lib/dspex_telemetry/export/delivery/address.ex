defmodule DSPexTelemetry.Export.Delivery.Address do
  @moduledoc false
  # The address that is pushed to.

  @doc "What is allowed, to follow \"must be\"."
  @spec allowed() :: String.t()
  def allowed,
    do:
      ~s(an http or https address such as "http://localhost:9091/metrics/job/my_app", in ASCII, ) <>
        "without user, password and fragment"

  @spec valid?(term()) :: boolean()
  def valid?(url) do
    with true <- is_binary(url) and url =~ ~r{\Ahttps?://[\x21-\x7e]+\z},
         {:ok, uri} <- URI.new(url) do
      uri.host not in [nil, ""] and uri.userinfo == nil and
        uri.fragment == nil and uri.port in 1..65_535
    else
      _invalid -> false
    end
  end

  @doc "What may be shown of an address that was refused: user and password may not."
  @spec redact(term()) :: term()
  def redact(url) when is_binary(url), do: String.replace(url, ~r{//.*@}s, "//[hidden]@")
  def redact(no_url), do: no_url

  @doc "What may be logged of an address: the query may hold a token."
  @spec show(String.t()) :: String.t()
  def show(url), do: url |> String.split("?", parts: 2) |> hd()

  @doc """
  The method that fits an address. A Pushgateway's, which names a job, takes `PUT`: it replaces all of
  the group, so series that are gone here are gone there. Addresses to import at take `POST`.
  """
  @spec method(String.t(), :auto | :put | :post) :: :put | :post
  def method(url, :auto), do: if(show(url) =~ ~r{/metrics/job(@base64)?/}, do: :put, else: :post)
  def method(_url, method), do: method

  @doc "The socket's address family: IPv6 if the host has no other address. Looks the name up."
  @spec family(String.t()) :: :inet | :inet6
  def family(url) do
    host = url |> URI.parse() |> Map.fetch!(:host) |> to_charlist()

    with {:error, _reason} <- :inet.getaddr(host, :inet),
         {:ok, _address} <- :inet.getaddr(host, :inet6) do
      :inet6
    else
      _address_or_no_host -> :inet
    end
  end
end
