defmodule DSPexTelemetry.RecordedEventsTest do
  # Recordings of real systems, which other tests build on; see the README beside them.
  use ExUnit.Case, async: true

  alias Bridge.Recording

  @folder "test/fixtures/recorded_events"

  for {file, system} <- [{"dspex.exs.txt", :snakebridge}, {"snakepit.exs.txt", :snakepit}] do
    test "#{file} is read to its end, and has events of #{system}" do
      path = Path.join(@folder, unquote(file))
      lines = path |> File.stream!() |> Enum.count()
      assert {:ok, %{events: ^lines}} = Recording.check(path)

      names = for {_time, event, _, _} <- Recording.stream!(path), uniq: true, do: event
      assert Enum.any?(names, &match?([unquote(system) | _], &1))
    end
  end

  test "no event tells where it was recorded" do
    for path <- Path.wildcard(Path.join(@folder, "*.exs.txt")) do
      refute File.read!(path) =~ ~r"/(work|home|root|tmp|usr|opt)/"
    end
  end
end
