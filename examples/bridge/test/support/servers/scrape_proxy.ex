defmodule Bridge.Servers.ScrapeProxy do
  @moduledoc """
  An HTTP proxy between Prometheus and what it scrapes, which remembers every scrape.

  It passes on what Prometheus accepts, so the format is what the two agreed on by themselves. Told
  so, it passes on another `Accept` in its place: a Prometheus of this age never prefers the text
  format when it can have another.
  """

  use Agent

  import ExUnit.Callbacks, only: [start_supervised!: 2]

  alias Bridge.Servers.{HTTP, Listener}

  @enforce_keys [:url, :scrapes]
  defstruct @enforce_keys

  @type t :: %__MODULE__{url: String.t(), scrapes: pid()}
  @type scrape :: %{
          accept: String.t(),
          status: pos_integer(),
          content_type: String.t(),
          encoding: String.t(),
          body: binary()
        }

  @doc "Starts it under the test's supervisor. Option `:accept` replaces what Prometheus accepts."
  @spec start(keyword()) :: t()
  def start(options \\ []) do
    id = make_ref()
    scrapes = start_supervised!({Agent, fn -> [] end}, id: {Agent, id})
    answer = fn request -> pass_on(request, options[:accept], scrapes) end
    listener = start_supervised!({Listener, answer}, id: {Listener, id})
    %__MODULE__{url: Listener.url(listener), scrapes: scrapes}
  end

  @doc "The scrapes so far, the first one first; bodies are decompressed."
  @spec scrapes(t()) :: [scrape()]
  def scrapes(%__MODULE__{scrapes: scrapes}), do: scrapes |> Agent.get(& &1) |> Enum.reverse()

  defp pass_on(request, accept, scrapes) do
    accept = accept || request.headers["accept"]

    headers =
      request.headers |> Map.take(["accept-encoding", "user-agent"]) |> Map.put("accept", accept)

    case HTTP.get(request.target, headers) do
      {:ok, response} ->
        scrape = %{
          accept: accept,
          status: response.status,
          content_type: response.headers["content-type"],
          encoding: Map.get(response.headers, "content-encoding", "identity"),
          body: plain(response)
        }

        Agent.update(scrapes, &[scrape | &1])
        headers = Map.take(response.headers, ["content-type", "content-encoding"])
        %{response | headers: headers}

      {:error, reason} ->
        %{status: 502, headers: %{}, body: inspect(reason)}
    end
  end

  defp plain(%{headers: %{"content-encoding" => "gzip"}, body: body}), do: :zlib.gunzip(body)
  defp plain(%{body: body}), do: body
end
