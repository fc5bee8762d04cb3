defmodule DSPexTelemetry.Endpoint.Page do
  @moduledoc false
  # The live page: the files of priv/page, which are part of the compiled module. `index.html` is at
  # `/`, the others are below `/page/`. They hold no data; the page reads `/report.json?view=page`.

  alias DSPexTelemetry.Endpoint
  alias DSPexTelemetry.Endpoint.Negotiation
  alias DSPexTelemetry.Export.Gzip

  @folder Path.expand("../../../priv/page", __DIR__)
  @types %{
    ".css" => "text/css; charset=utf-8",
    ".html" => "text/html; charset=utf-8",
    ".js" => "text/javascript; charset=utf-8",
    ".svg" => "image/svg+xml"
  }

  # A file that is added or removed compiles the module again.
  @external_resource @folder
  @names @folder |> File.ls!() |> Enum.sort()
  def __mix_recompile__?, do: @folder |> File.ls!() |> Enum.sort() != @names

  # Nothing runs or loads but these files and the report, nowhere else.
  @policy Enum.join(
            [
              "default-src 'none'",
              "script-src 'self'",
              "style-src 'self'",
              "img-src 'self'",
              "connect-src 'self'",
              "base-uri 'none'",
              "form-action 'none'",
              "frame-ancestors 'none'"
            ],
            "; "
          )

  @files Map.new(@names, fn name ->
           path = Path.join(@folder, name)
           @external_resource path
           content = File.read!(path)
           tag = :sha256 |> :crypto.hash(content) |> binary_part(0, 12) |> Base.url_encode64()

           file = %{
             type: Map.fetch!(@types, Path.extname(name)),
             bodies: %{identity: content, gzip: Gzip.compress(content)},
             # What is compressed has a tag of its own (RFC 9110, section 8.8.3.3).
             tags: %{identity: ~s("#{tag}"), gzip: ~s("#{tag}-gzip")}
           }

           {if(name == "index.html", do: "/", else: "/page/" <> name), file}
         end)

  @doc "Whether a path is the page or one of its files."
  @spec path?(String.t()) :: boolean()
  def path?(path), do: is_map_key(@files, path)

  @doc "The paths of the page and its files."
  @spec paths() :: [String.t()]
  def paths, do: Map.keys(@files)

  @doc "The answer to a request for one of the paths, with its `if-none-match` headers."
  @spec answer(String.t(), Negotiation.encoding(), [binary()]) :: Endpoint.response()
  def answer(path, encoding, if_none_match) do
    %{type: type, bodies: bodies, tags: tags} = Map.fetch!(@files, path)
    tag = Map.fetch!(tags, encoding)

    headers = [
      {"etag", tag},
      # To be kept, but never used without asking: an update of the library changes it.
      {"cache-control", "private, no-cache"},
      {"vary", "accept-encoding"},
      {"content-security-policy", @policy},
      {"referrer-policy", "no-referrer"},
      {"x-content-type-options", "nosniff"}
    ]

    if known?(if_none_match, tag) do
      {304, headers, ""}
    else
      encoded = if encoding == :gzip, do: [{"content-encoding", "gzip"}], else: []
      {200, [{"content-type", type} | headers] ++ encoded, Map.fetch!(bodies, encoding)}
    end
  end

  # Tags of several, perhaps marked as weak by a proxy.
  defp known?(if_none_match, tag) do
    Enum.any?(if_none_match, fn header ->
      header
      |> String.split(",")
      |> Enum.any?(&(String.trim_leading(String.trim(&1), "W/") in [tag, "*"]))
    end)
  end
end
