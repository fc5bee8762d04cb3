defmodule DSPexTelemetry.Dashboard.JSONTest do
  use ExUnit.Case, async: true

  doctest DSPexTelemetry.Dashboard.JSON

  alias DSPexTelemetry.Dashboard.JSON
  alias DSPexTelemetry.StrictJSON

  test "writes what a strict reader reads back" do
    value = %{
      "text" => "\" \\ / \n \t \u0001 µ 😀 </script>",
      "numbers" => [0, -1, 1.5, 1.0e-9, 1.0e30],
      "empty" => [[], %{}],
      "words" => [true, false, nil],
      "nested" => %{"b" => [%{"a" => [1, [2]]}]}
    }

    assert StrictJSON.decode!(JSON.encode(value)) == value
  end

  test "has no text for what is not UTF-8" do
    assert_raise ArgumentError, fn -> JSON.encode(<<255>>) end
  end
end
