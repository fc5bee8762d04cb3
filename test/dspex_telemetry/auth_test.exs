defmodule DSPexTelemetry.AuthTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.Auth

  @bearer {:bearer, "t0k3n=="}
  @basic {:basic, "üser", "pass:word"}

  defp basic(text), do: "Basic " <> Base.encode64(text)

  test "whoever has the secret is let in, in the forms that clients send it" do
    for header <- ["Bearer t0k3n==", "bearer t0k3n==", "BEARER t0k3n==", "Bearer   t0k3n=="] do
      assert Auth.authorised?(@bearer, [header])
    end

    # As a browser sends it, whatever the user.
    for header <- [
          basic(":t0k3n=="),
          basic("me:t0k3n=="),
          "basic  " <> Base.encode64("ü:t0k3n==")
        ] do
      assert Auth.authorised?(@bearer, [header])
    end

    for header <- [basic("üser:pass:word"), "basic  " <> Base.encode64("üser:pass:word")] do
      assert Auth.authorised?(@basic, [header])
    end
  end

  test "nobody else is let in" do
    for headers <- [
          [],
          [""],
          [" "],
          ["Bearer"],
          ["Bearer "],
          ["Bearer t"],
          ["Bearer t0k3n="],
          ["Bearer t0k3n==="],
          ["Bearer T0K3N=="],
          ["Bearer t0k3n== x"],
          ["Bearer\tt0k3n=="],
          ["Bearert0k3n=="],
          ["t0k3n=="],
          ["Basic t0k3n=="],
          ["Token t0k3n=="],
          [basic("t0k3n==")],
          [basic("t0k3n==:")],
          [basic("t0k3n==:t0k3n=")],
          [basic(":t0k3n==:")],
          ["Basic !!!"],
          [basic(":t0k3n=="), "Bearer t0k3n=="],
          ["Bearer \xff\xfe"],
          ["Bearer t0k3n==\0"],
          ["Bearer " <> String.duplicate("t", 1_000_000)],
          [String.duplicate(" ", 100_000)],
          ["Bearer t0k3n==", "Bearer t0k3n=="],
          ["Bearer wrong", "Bearer t0k3n=="]
        ] do
      refute Auth.authorised?(@bearer, headers),
             "let in: #{inspect(headers, printable_limit: 50)}"
    end

    for headers <- [
          [],
          ["Basic"],
          ["Basic "],
          ["Basic :"],
          ["Basic !!!"],
          ["Basic üser:pass:word"],
          [basic("")],
          [basic(":")],
          [basic("üser")],
          [basic("üser:")],
          [basic("üser:pass")],
          [basic("üser:pass:wor")],
          [basic("üser:pass:words")],
          [basic("user:pass:word")],
          [basic("Üser:pass:word")],
          [basic("üser:pass:word\0")],
          ["Bearer " <> Base.encode64("üser:pass:word")],
          [basic("üser:pass:word"), basic("üser:pass:word")]
        ] do
      refute Auth.authorised?(@basic, headers), "let in: #{inspect(headers)}"
    end
  end

  test "without a rule everybody is let in, whatever the header" do
    for rule <- [nil, :none], headers <- [[], ["Bearer x"], ["\xff"]] do
      assert Auth.authorised?(rule, headers)
    end
  end

  test "a function is called each time, and what it returns must be a rule" do
    Process.put(:rule, {:bearer, "first"})
    auth = fn -> Process.get(:rule) end
    assert Auth.rule!(auth) == {:bearer, "first"}
    Process.put(:rule, {:bearer, "second"})
    assert Auth.rule!(auth) == {:bearer, "second"}

    for wrong <- [nil, {:bearer, "with s3cr3t"}, "s3cr3t", fn -> :none end] do
      Process.put(:rule, wrong)
      error = assert_raise ArgumentError, fn -> Auth.rule!(auth) end
      assert error.message =~ "the function of option :auth must return {:bearer, token}"
      refute error.message =~ "s3cr3t"
    end
  end

  test "the challenge names the scheme" do
    basic = ~s(Basic realm="dspex_telemetry", charset="UTF-8")
    assert Auth.challenge(@bearer, :client) == ~s(Bearer realm="dspex_telemetry")
    assert Auth.challenge(@basic, :client) == basic
    for rule <- [@bearer, @basic], do: assert(Auth.challenge(rule, :browser) == basic)
  end
end
