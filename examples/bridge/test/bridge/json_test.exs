defmodule Bridge.JSONTest do
  use ExUnit.Case, async: true

  alias Bridge.JSON

  doctest JSON

  test "what is encoded comes back the same" do
    for value <- [
          nil,
          true,
          0,
          -1,
          123_456_789_012_345_678_901_234_567_890,
          0.1,
          -1.5e-300,
          1.7976931348623157e308,
          "",
          "quotes \" and \\ and / and \u0000\u0001\n\r\t\b\f\u007F",
          "ünï → 🐍",
          [],
          %{},
          [[], [%{"a" => [nil]}]],
          %{"" => %{"\"" => 1}}
        ] do
      assert JSON.decode(JSON.encode!(value)) == {:ok, value}
    end
  end

  test "atoms are encoded as strings, as values and as keys" do
    assert JSON.encode!(%{op: :call}) == ~S({"op":"call"})
  end

  test "values without JSON raise" do
    for value <- [{1, 2}, self(), <<255>>, 1..2, %{1 => 2}, [a: 1]] do
      assert_raise ArgumentError, fn -> JSON.encode!(value) end
    end
  end

  test "space is allowed around everything" do
    assert JSON.decode(" { \"a\" :\t[ 1 ,\r\n2 ] } ") == {:ok, %{"a" => [1, 2]}}
  end

  test "of repeated keys the last one counts" do
    assert JSON.decode(~S({"a":1,"a":2})) == {:ok, %{"a" => 2}}
  end

  test "numbers with a fraction or an exponent are floats" do
    assert JSON.decode("[0, -0, 1.0, 1e2, 1E+2, 12.5e-1]") ==
             {:ok, [0, 0, 1.0, 100.0, 100.0, 1.25]}
  end

  test "escapes stand for their characters, pairs of them for one" do
    assert JSON.decode(~S("\"\\\/\b\f\n\r\t\u0041\u00e9\uD83D\uDC0D")) ==
             {:ok, "\"\\/\b\f\n\r\tAé🐍"}
  end

  test "half a surrogate pair becomes the replacement character" do
    for text <- [~S("\ud83d"), ~S("\udc0d"), ~S("\ud83d\u0041"), ~S("\ud83d\ud83d")] do
      assert {:ok, decoded} = JSON.decode(text)
      assert String.valid?(decoded)
      assert String.starts_with?(decoded, "\uFFFD")
    end
  end

  test "what is not JSON is refused with the place" do
    for {text, expected} <- [
          {"", "a value at byte 0"},
          {"nul", "a value at byte 0"},
          {"01", "the end at byte 1"},
          {"-", "a number at byte 0"},
          {"+1", "a value at byte 0"},
          {".5", "a value at byte 0"},
          {"1.", "the end at byte 1"},
          {"1e999", "a number that fits a float at byte 0"},
          {"[1 2]", ", or ] at byte 3"},
          {"[1", ", or ] at byte 2"},
          {"{1:2}", "a key at byte 1"},
          {~S({"a" 1}), ": at byte 5"},
          {~S({"a":1,}), "a key at byte 7"},
          {~S("a), "the end of a string at byte 2"},
          {"\"a\nb\"", "the end of a string at byte 2"},
          {~S("\x"), "an escape at byte 2"},
          {~S("\u12g4"), "four hexadecimal digits at byte 2"},
          {~S("\u+123"), "four hexadecimal digits at byte 2"},
          {<<?", 255, ?">>, "UTF-8 at byte 3"},
          {"NaN", "a value at byte 0"},
          {"1 1", "the end at byte 2"}
        ] do
      assert JSON.decode(text) == {:error, "expected #{expected}"}
    end
  end
end
