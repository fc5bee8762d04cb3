defmodule DSPexTelemetry.Docs.RenderedTest do
  # What bin/docs makes with ExDoc, link by link and in Chromium.
  use ExUnit.Case, async: true

  alias DSPexTelemetry.Browser

  @moduletag :servers
  @moduletag timeout: 300_000

  setup_all do
    folder =
      Path.join(
        System.tmp_dir!(),
        "rendered-#{System.unique_integer([:positive])}-#{:os.getpid()}"
      )

    on_exit(fn -> File.rm_rf!(folder) end)
    environment = [{"MIX_ENV", nil}, {"MIX_BUILD_PATH", nil}]
    options = [stderr_to_stdout: true, env: environment]
    {output, status} = System.cmd(Path.expand("bin/docs"), ["--output", folder], options)
    assert {status, output} == {0, output}
    %{folder: folder}
  end

  defp pages(folder), do: Path.wildcard(Path.join(folder, "*.html"))

  defp targets(html) do
    for [_all, target] <- Regex.scan(~r/\b(?:href|src)="([^"]*)"/, html),
        not (target =~ ~r/^(\w+:|\/\/)/),
        do: String.replace(target, "&amp;", "&")
  end

  defp ids(html),
    do: for([_all, id] <- Regex.scan(~r/\bid="([^"]*)"/, html), into: MapSet.new(), do: id)

  test "every link within it leads to a page and, with an anchor, to a place on it", %{
    folder: folder
  } do
    html = Map.new(pages(folder), &{Path.basename(&1), File.read!(&1)})
    assert map_size(html) > 50
    ids = Map.new(html, fn {page, text} -> {page, ids(text)} end)

    links = for {page, text} <- html, target <- targets(text), do: {page, target}
    assert length(links) > 1_000

    broken =
      for {page, target} <- links,
          [path | anchor] = String.split(target, "#", parts: 2),
          path = URI.decode(path),
          to = if(path == "", do: page, else: path),
          broken?(folder, ids, to, anchor),
          # Added by ExDoc's scripts.
          target not in ["#main", "#", "search.html", "#content"],
          do: {page, target}

    assert Enum.uniq(broken) == []
  end

  defp broken?(folder, ids, to, anchor) do
    path = to |> String.split("?") |> hd()

    cond do
      not File.exists?(Path.join(folder, path)) ->
        true

      anchor in [[], [""]] ->
        false

      not is_map_key(ids, path) ->
        false

      true ->
        [anchor] = anchor
        URI.decode(anchor) not in ids[path]
    end
  end

  test "every page of docs and every public module is there", %{folder: folder} do
    names = folder |> pages() |> Enum.map(&Path.basename(&1, ".html"))

    for path <- Path.wildcard("docs/*.{md,livemd}"),
        do: assert(path |> Path.basename() |> Path.rootname() |> Kernel.in(names))

    for module <- [DSPexTelemetry, DSPexTelemetry.Emit, DSPexTelemetry.Alert],
        do: assert(inspect(module) in names)
  end

  test "a browser shows it without a complaint", %{folder: folder} do
    browser = Browser.open!()
    Browser.size!(browser, 1_280, 900)

    for page <- ["readme.html", "production.html", "DSPexTelemetry.html"] do
      Browser.go!(browser, "file://#{Path.join(folder, page)}")
      assert Browser.value!(browser, "document.querySelector('h1').innerText.length") > 3
      assert Browser.complaints(browser) == []
      # Images are there.
      assert Browser.value!(
               browser,
               "[...document.images].every((image) => image.naturalWidth > 0)"
             )
    end
  end
end
