defmodule DSPexTelemetry.Options.KeywordListsTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.Options

  describe "an option that is a keyword list" do
    test "is checked against a table of its own, and its defaults are filled in" do
      assert Options.validate!(http: [port: 9568]).http ==
               %{
                 port: 9568,
                 ip: {127, 0, 0, 1},
                 auth: nil,
                 hosts: [],
                 page_methods: 50,
                 required: false
               }

      assert Options.validate!(http: nil).http == nil
    end

    test "names the whole way to a value that is refused" do
      for {options, message} <- [
            {[port: "x"],
             ~s(option :http, key :port must be an integer from 0 to 65535, got: "x")},
            {[port: 65_536],
             "option :http, key :port must be an integer from 0 to 65535, got: 65536"},
            {[port: 1, ip: "127.0.0.1"],
             "option :http, key :ip must be an IPv4 or IPv6 address as a tuple such as " <>
               ~s({127, 0, 0, 1}, got: "127.0.0.1")},
            {[port: 1, ip: {127, 0, 0}],
             "option :http, key :ip must be an IPv4 or IPv6 address as a tuple such as " <>
               "{127, 0, 0, 1}, got: {127, 0, 0}"},
            {[prot: 1],
             "unknown option :http, key :prot, allowed are :port, :ip, :auth, :hosts, :page_methods, :required"},
            {[port: 1, page_methods: 0],
             "option :http, key :page_methods must be an integer from 1 to 500, got: 0"},
            {[port: 1, hosts: ["name:80"]],
             "option :http, key :hosts must be a list of host names without port such as " <>
               ~s("metrics.example.org", or :any, got: ["name:80"])},
            {[port: 1, hosts: ["a" | "b"]],
             "option :http, key :hosts must be a list of host names without port such as " <>
               ~s("metrics.example.org", or :any, got: ["a" | "b"])},
            {[], "option :http, key :port is missing, it must be an integer from 0 to 65535"},
            {[ip: {127, 0, 0, 1}],
             "option :http, key :port is missing, it must be an integer from 0 to 65535"}
          ] do
        assert_raise ArgumentError, message, fn -> Options.validate!(http: options) end
      end
    end

    test "is nil or a keyword list" do
      for value <- [true, 9568, %{port: 9568}, [9568], {:port, 9568}, "9568", [{"port", 1}]] do
        message =
          "option :http must be nil or a keyword list of :port, :ip, :auth, :hosts, :page_methods, :required, got " <>
            "something else, not shown as it may be secret"

        assert_raise ArgumentError, message, fn -> Options.validate!(http: value) end
      end
    end

    test "may be left out where all keys have defaults" do
      router = Options.validate!([]).router
      assert Options.validate!(router: []).router == router
      assert Options.validate!(router: [choices: 2]).router == %{router | choices: 2}
      assert Options.validate!(router: nil).router == nil

      for {options, message} <- [
            {[choices: 1],
             "option :router, key :choices must be an integer from 2 to 1000, got: 1"},
            {[ejected_percent_limit: 51],
             "option :router, key :ejected_percent_limit must be an integer from 0 to 50, got: 51"},
            {[ejection_failures: nil],
             "option :router, key :ejection_failures must be an integer from 1 to 100000 or " <>
               ":infinity, got: nil"}
          ] do
        assert_raise ArgumentError, message, fn -> Options.validate!(router: options) end
      end
    end

    test "is documented with its keys" do
      %{keys: keys, type: "keyword list", default: nil} =
        Enum.find(Options.table(), &(&1.name == :http))

      assert Enum.map(keys, & &1.name) == [:port, :ip, :auth, :hosts, :page_methods, :required]
      refute Map.has_key?(hd(keys), :default)

      assert [
               %{default: {127, 0, 0, 1}},
               %{default: nil},
               %{default: []},
               %{default: 50},
               %{default: false}
             ] = tl(keys)

      {:docs_v1, _, _, _, %{"en" => documentation}, _, _} = Code.fetch_docs(Options)
      assert documentation =~ ~r/^    \* `:port` - .* Required\.$/m
      assert documentation =~ ~r/^    \* `:ip` - .* Default: `{127, 0, 0, 1}`\.$/m
    end
  end

  describe "a secret" do
    @secret "s3cr3t-t0ken"

    test "is kept as a function that returns it, and may be given as one" do
      for auth <- [{:bearer, @secret}, {:basic, "user", @secret}] do
        for given <- [auth, fn -> auth end] do
          %{http: http} = options = Options.validate!(http: [port: 0, auth: given])
          assert http.auth.() == auth
          refute inspect(options, limit: :infinity) =~ @secret
        end
      end
    end

    test "is not in the error that refuses it, wherever it was put" do
      for options <- [
            [http: [port: 0, auth: @secret]],
            [http: [port: 0, auth: {:baerer, @secret}]],
            [http: [port: 0, auth: {:bearer, @secret <> " "}]],
            [http: [port: 0, auth: {:bearer, String.to_charlist(@secret)}]],
            [http: [port: 0, auth: {:basic, "us:er", @secret}]],
            [http: [port: 0, auth: [bearer: @secret]]],
            [http: [port: 0, auth: fn -> @secret end]],
            [http: [port: 0, bearer: @secret]],
            [http: [port: "x", auth: {:bearer, @secret}]],
            [http: %{port: 0, auth: {:bearer, @secret}}],
            [http: {:bearer, @secret}],
            %{http: [port: 0, auth: {:bearer, @secret}]},
            [{"http", auth: {:bearer, @secret}} | :improper]
          ] do
        error = assert_raise ArgumentError, fn -> Options.validate!(options) end
        assert error.message =~ ~r/must be|unknown option :http, key :bearer/
        refute error.message =~ @secret
        refute error.message =~ inspect(String.to_charlist(@secret))
      end
    end

    test "is not in the child specification, whatever else is wrong with the options" do
      for http <- [
            [port: 0, auth: {:bearer, @secret}],
            [port: 0, auth: @secret],
            %{port: 0, auth: {:basic, "user", @secret}}
          ] do
        specification = DSPexTelemetry.child_spec(name: MyApp.Concealed, http: http)
        refute inspect(specification, limit: :infinity) =~ @secret
      end
    end

    test "is valid only if it can be sent" do
      for auth <- [
            {:bearer, ""},
            {:bearer, "with space"},
            {:bearer, "naïve"},
            {:bearer, "line\n"},
            {:bearer, String.duplicate("t", 1025)},
            {:bearer, nil},
            {:basic, "", "password"},
            {:basic, "user", ""},
            {:basic, "us:er", "password"},
            {:basic, "user", "pass\nword"},
            {:basic, "user", <<255>>},
            :nobody,
            fn -> nil end,
            fn _ -> :none end
          ] do
        assert_raise ArgumentError, ~r/^option :http, key :auth must be \{:bearer, token\}/, fn ->
          Options.validate!(http: [port: 0, auth: auth])
        end
      end

      for auth <- [
            {:bearer, "!~-._+/="},
            {:bearer, String.duplicate("t", 1024)},
            {:basic, "ü", "pass:word ü"}
          ] do
        assert Options.validate!(http: [port: 0, auth: auth]).http.auth.() == auth
      end
    end
  end

  test "an address that others reach demands :auth, or :none on purpose" do
    reached = [
      {0, 0, 0, 0},
      {192, 168, 1, 5},
      {126, 255, 255, 255},
      {128, 0, 0, 1},
      {0, 0, 0, 0, 0, 0, 0, 0},
      {0, 0, 0, 0, 0, 0, 0, 2},
      {0xFE80, 0, 0, 0, 0, 0, 0, 1},
      {0, 0, 0, 0, 0, 0xFFFF, 0xC0A8, 0x0105}
    ]

    for ip <- reached do
      message =
        "option :http, key :auth is missing: whoever reaches #{:inet.ntoa(ip)} could read all " <>
          "metrics; give {:bearer, token} or {:basic, user, password}, or :none to let them"

      for options <- [[port: 0, ip: ip], [port: 0, ip: ip, auth: nil]] do
        assert_raise ArgumentError, message, fn -> Options.validate!(http: options) end

        # As a supervisor does it, with the secret, here none, in a function.
        {_module, _function, [concealed]} = DSPexTelemetry.child_spec(http: options).start
        assert_raise ArgumentError, message, fn -> Options.validate!(concealed) end
      end

      for auth <- [:none, {:bearer, "token"}, {:basic, "user", "password"}, fn -> :none end] do
        assert %{ip: ^ip} = Options.validate!(http: [port: 0, ip: ip, auth: auth]).http
      end
    end

    for ip <- [
          {127, 0, 0, 1},
          {127, 1, 2, 3},
          {0, 0, 0, 0, 0, 0, 0, 1},
          {0, 0, 0, 0, 0, 0xFFFF, 0x7F00, 1}
        ] do
      assert %{ip: ^ip, auth: nil} = Options.validate!(http: [port: 0, ip: ip]).http
    end
  end
end
