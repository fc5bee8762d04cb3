defmodule Bridge.Servers.HTTP do
  @moduledoc "Requests by OTP's own client, whole and decoded."

  alias Bridge.JSON

  @type response :: %{status: 100..599, headers: %{String.t() => String.t()}, body: binary()}

  # Milliseconds.
  @timeout 10_000

  @spec get(String.t(), %{String.t() => String.t()}) :: {:ok, response()} | {:error, term()}
  def get(url, headers \\ %{}), do: request(:get, {String.to_charlist(url), headers(headers)})

  @doc "The JSON that the address answers with; parameters are posted as a form."
  @spec json!(String.t(), keyword()) :: JSON.value()
  def json!(url, parameters \\ []) do
    url = String.to_charlist(url)
    form = URI.encode_query(parameters)

    {:ok, %{status: 200, body: body}} =
      case parameters do
        [] -> request(:get, {url, headers(%{})})
        _ -> request(:post, {url, headers(%{}), ~c"application/x-www-form-urlencoded", form})
      end

    {:ok, value} = JSON.decode(body)
    value
  end

  defp request(method, request) do
    {:ok, _} = Application.ensure_all_started(:inets)

    with {:ok, {{_, status, _}, headers, body}} <-
           :httpc.request(method, request, [timeout: @timeout], body_format: :binary) do
      headers = Map.new(headers, fn {name, value} -> {"#{name}", "#{value}"} end)
      {:ok, %{status: status, headers: headers, body: body}}
    end
  end

  # Kept connections would queue requests behind each other.
  defp headers(headers) do
    for {name, value} <- Map.put(headers, "connection", "close") do
      {String.to_charlist(name), String.to_charlist(value)}
    end
  end
end
