defmodule DSPexTelemetry.Docs.GuidesTest do
  # What the guides and the notebook tell to type, typed into a VM of its own.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.Markdown

  @moduletag timeout: 180_000

  @guides for path <- Path.wildcard("docs/*.md"),
              File.read!(path) =~ ~r/^```elixir\niex>/m,
              do: path
  @start """
  {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
  Logger.configure(level: :none)
  """

  # Fails where a value is another, and goes on in the same scope.
  defp check(what, code, expected) do
    """
    actual__ = (#{code}
    )
    expected__ = (#{expected}
    )
    if actual__ != expected__ do
      IO.puts("#{what}: " <> inspect(actual__) <> " instead of " <> inspect(expected__))
      System.halt(1)
    end
    """
  end

  # Inputs of a session, each with what it returns, if that stands there.
  defp session(code) do
    code
    |> String.split(~r/^iex> /m, trim: true)
    |> Enum.map(fn step ->
      {input, output} =
        step
        |> String.split("\n", trim: true)
        |> Enum.split_while(&(&1 == hd(String.split(step, "\n")) or &1 =~ ~r/^\.\.\.>/))

      {Enum.map_join(input, "\n", &String.replace(&1, ~r/^\.\.\.> ?/, "")),
       Enum.join(output, "\n")}
    end)
  end

  for path <- @guides do
    test "the sessions of #{path} give what they say" do
      blocks =
        for %{language: "elixir", code: code} = block <-
              Markdown.blocks(File.read!(unquote(path))),
            code =~ "iex>",
            do: block

      steps =
        for block <- blocks, {input, output} <- session(block.code) do
          if output == "",
            do: input <> "\n",
            else: check("#{unquote(path)}:#{block.line}", input, output)
        end

      assert steps != []
      evaluate!(@start <> Enum.join(steps))
    end
  end

  test "the notebook's cells give what stands below them" do
    blocks =
      for %{language: "elixir"} = block <- Markdown.blocks(File.read!("docs/tour.livemd")),
          do: block

    [install | cells] = blocks
    assert install.code =~ "Mix.install"

    steps =
      for %{code: code, line: line} <- cells do
        case String.split(code, ~r/^# => /m) do
          [code] -> code
          [code, expected] -> check("cell in line #{line}", code, expected)
        end
      end

    assert Enum.count(steps, &(&1 =~ "actual__")) > 12
    output = evaluate!(@start <> Enum.join(steps))
    # The table, and the address of the page.
    assert output =~ ~r/^  search +Index +500 +10 +2\.00 /m
    assert output =~ ~r"^http://127\.0\.0\.1:\d+/$"m
  end

  test "a session or cell that gives something else is found" do
    assert_raise ExUnit.AssertionError, ~r/here: 2 instead of 3/, fn ->
      evaluate!(check("here", "1 + 1", "3"))
    end
  end
end
