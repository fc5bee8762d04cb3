defmodule DSPexTelemetry.Docs.PagesTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.{Documented, Markdown}

  @pages ["README.md", "CONTRIBUTING.md", "CHANGELOG.md" | Path.wildcard("docs/*.{md,livemd}")] ++
           ["examples/bridge/README.md", "test/support/telemetry/README.md"] ++
           ["test/fixtures/recorded_events/README.md"]

  defp modules do
    {:ok, modules} = :application.get_key(:dspex_telemetry, :modules)
    # Those of the tests are compiled into the same application.
    # Implementations of protocols are documented by the protocol.
    Enum.reject(modules, &(test?(&1) or function_exported?(&1, :__impl__, 1)))
  end

  defp test?(module),
    do: List.to_string(module.module_info(:compile)[:source]) =~ ~r"/(test/support|examples)/"

  describe "links" do
    for page <- @pages do
      test "of #{page} lead somewhere" do
        page = unquote(page)

        for link <- page |> File.read!() |> Markdown.links(), not (link =~ ~r"^\w+:") do
          {path, anchor} =
            case String.split(link, "#", parts: 2) do
              ["", anchor] -> {page, anchor}
              [path, anchor] -> {Path.join(Path.dirname(page), path), anchor}
              [path] -> {Path.join(Path.dirname(page), path), nil}
            end

          assert File.exists?(path), "#{page} links to #{link}, where nothing is"

          if anchor do
            anchors = path |> File.read!() |> Markdown.anchors()
            assert anchor in anchors, "#{page} links to #{link}, which has no such heading"
          end
        end
      end
    end
  end

  describe "code" do
    for page <- @pages do
      test "of #{page} is Elixir, and names what there is" do
        blocks = unquote(page) |> File.read!() |> Markdown.blocks()

        Enum.reduce(blocks, %{}, fn
          %{language: "elixir"} = block, aliases ->
            inputs = Markdown.inputs(block.code)
            pieces = if inputs == [], do: [block.code], else: inputs

            Enum.reduce(pieces, aliases, fn piece, aliases ->
              code = Code.string_to_quoted!(piece, file: unquote(page), line: block.line)
              {faults, aliases} = Documented.faults(code, aliases)
              assert faults == [], "#{unquote(page)}:#{block.line}: #{Enum.join(faults, "; ")}"
              aliases
            end)

          _other_language, aliases ->
            aliases
        end)
      end
    end

    test "that names what is not there is found" do
      for {code, fault} <- [
            {"DSPexTelemetry.repot()", "DSPexTelemetry.repot/0"},
            {"name |> DSPexTelemetry.scrape([], 1)", "DSPexTelemetry.scrape/3"},
            {"&DSPexTelemetry.scrape/7", "DSPexTelemetry.scrape/7"},
            {"Emit.call_methods(%{}, fun)", "Emit.call_methods/2"},
            {"alias DSPexTelemetry.{Emit, Push}\nPush.now()", "Push.now/0"},
            {"alias DSPexTelemetry.Emit, as: E\nDSPexTelemetry.Emitter",
             "DSPexTelemetry.Emitter"},
            {"DSPexTelemetry.report(windows: 1)", "option :windows"},
            {"{DSPexTelemetry, serie_limit: 1}", "option serie_limit"},
            {"{DSPexTelemetry, http: [prot: 1]}", "option http: prot"},
            {"DSPexTelemetry.start_link(otlp: [uri: 1])", "option otlp: uri"},
            {"config :dspex_telemetry, serie_limit: 1", "option serie_limit"}
          ] do
        {faults, _aliases} = code |> Code.string_to_quoted!() |> Documented.faults()
        assert [found] = faults
        assert found =~ fault
      end
    end
  end

  describe "modules" do
    test "all have documentation, or say that they have none" do
      assert length(modules()) > 50
      for module <- modules(), do: assert(docs(module) != :none, "#{inspect(module)} has none")
    end

    test "that are public have a @doc for each of their functions, which may be false" do
      for module <- modules(), {:docs_v1, _, _, _, %{}, _, docs} <- [docs(module)] do
        undocumented =
          for {{kind, name, arity}, _, _, :none, _metadata} <- docs,
              kind in [:function, :macro, :callback],
              # A callback of a behaviour is documented there.
              not callback?(module, name, arity),
              do: "#{name}/#{arity}"

        assert {module, undocumented} == {module, []}
      end
    end

    test "that are public have examples where their functions have" do
      tested =
        for path <- Path.wildcard("test/**/*_test.exs"),
            text = File.read!(path),
            [_all, module] <- Regex.scan(~r/^\s*doctest ([\w.]+)/m, text),
            do: module |> String.split(".") |> List.last()

      for module <- modules(), {:docs_v1, _, _, _, %{} = moduledoc, _, docs} <- [docs(module)] do
        texts = [moduledoc["en"] | for({_, _, _, %{"en" => text}, _} <- docs, do: text)]

        if Enum.any?(texts, &(&1 =~ "iex>")) do
          name = module |> Module.split() |> List.last()
          assert name in tested, "the examples of #{inspect(module)} are not run"
        end
      end
    end
  end

  # Without documentation a module has a chunk all the same.
  defp docs(module) do
    case Code.fetch_docs(module) do
      {:docs_v1, _, _, _, :none, _, _} -> :none
      docs -> docs
    end
  end

  defp callback?(module, name, arity) do
    behaviours = for {:behaviour, names} <- module.module_info(:attributes), do: names

    for behaviour <- List.flatten(behaviours), reduce: false do
      found -> found or {name, arity} in behaviour.behaviour_info(:callbacks)
    end
  end

  test "the package has every page that is rendered" do
    config = DSPexTelemetry.MixProject.project()
    files = for pattern <- config[:package][:files], path <- Path.wildcard(pattern), do: path

    extras =
      for extra <- config[:docs][:extras],
          do: if(is_tuple(extra), do: elem(extra, 0), else: extra)

    for extra <- extras do
      path = to_string(extra)
      assert File.exists?(path)
      assert path in files or Enum.any?(files, &String.starts_with?(path, &1 <> "/"))
    end

    pages = Path.wildcard("docs/*.{md,livemd}")
    assert pages != []
    assert Enum.sort(pages) -- Enum.map(extras, &to_string/1) == []
  end
end
