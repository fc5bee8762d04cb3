defmodule DSPexTelemetry.Options.DeliveryTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.Options

  describe "the option :otlp" do
    @endpoint "http://localhost:4318/v1/metrics"

    test "needs an address, and has defaults for all else" do
      assert Options.validate!(otlp: [url: @endpoint]).otlp == %{
               url: @endpoint,
               interval: 60_000,
               timeout: 10_000,
               temporality: :cumulative,
               histogram: :exponential,
               max_buckets: 160,
               resource: %{},
               auth: nil,
               headers: [],
               gzip: true,
               cacertfile: nil,
               retry_floor: 500,
               retry_ceiling: 30_000,
               stop_timeout: 5_000,
               request_limit: 67_108_864,
               answer_limit: 4_194_304
             }

      message = ~r/^option :otlp, key :url is missing, it must be an http.*, or :env/
      assert_raise ArgumentError, message, fn -> Options.validate!(otlp: [interval: 1_000]) end
    end

    for {key, taken, refused, allowed} <- [
          {:temporality, [:cumulative, :delta, :low_memory], [nil, "delta"],
           "one of :cumulative, :delta, :low_memory"},
          {:histogram, [:exponential, :explicit], [nil], "one of :exponential, :explicit"},
          {:max_buckets, [2, 2_048], [nil, 1, 2_049], "an integer from 2 to 2048"},
          {:resource, [%{}, %{"a" => "b", "c" => 1, "d" => 0.5, "e" => false, "f" => -(2 ** 63)}],
           [
             nil,
             [],
             %{"" => "a"},
             %{1 => "a"},
             %{"a" => :b},
             %{"a" => 2 ** 63},
             %{"a" => <<255>>}
           ],
           "a map of at most 128 attributes from non-empty strings or atoms to strings, booleans, " <>
             "floats, and integers of 64 bits"},
          {:request_limit, [1_024, 1_073_741_824], [nil, 1_023],
           "an integer from 1024 to 1073741824"},
          {:answer_limit, [1_024, 67_108_864], [nil, 1_023, 67_108_865],
           "an integer from 1024 to 67108864"}
        ] do
      test "takes and refuses as #{inspect(key)} what it says" do
        for value <- unquote(Macro.escape(taken)) do
          options = [{:url, @endpoint}, {unquote(key), value}]
          assert Map.fetch!(Options.validate!(otlp: options).otlp, unquote(key)) == value
        end

        for value <- unquote(Macro.escape(refused)) do
          message =
            "option :otlp, key #{inspect(unquote(key))} must be #{unquote(allowed)}, got: #{inspect(value)}"

          assert_raise ArgumentError, message, fn ->
            Options.validate!(otlp: [{:url, @endpoint}, {unquote(key), value}])
          end
        end
      end
    end

    test "refuses a ceiling that is below the floor" do
      message =
        "option :otlp, key :retry_ceiling must be at least key :retry_floor, which is 100, got: 99"

      assert_raise ArgumentError, message, fn ->
        Options.validate!(otlp: [url: @endpoint, retry_floor: 100, retry_ceiling: 99])
      end
    end
  end

  describe "the option :push" do
    @url "http://localhost:9091/metrics/job/my_app"

    test "needs an address, and has defaults for all else" do
      assert Options.validate!(push: [url: @url]).push == %{
               url: @url,
               interval: 15_000,
               timeout: 10_000,
               method: :auto,
               auth: nil,
               headers: [],
               gzip: true,
               cacertfile: nil,
               retry_floor: 500,
               retry_ceiling: 30_000,
               stop_timeout: 5_000
             }

      assert_raise ArgumentError,
                   ~r/^option :push, key :url is missing, it must be an http/,
                   fn ->
                     Options.validate!(push: [interval: 1_000])
                   end
    end

    for {key, values} <- [
          url: [
            "https://gateway/metrics/job/a",
            "http://10.0.0.1:8428/api/v1/import/prometheus?extra_label=job=a",
            "http://[::1]:9091/",
            "https://h"
          ],
          interval: [10, 86_400_000],
          timeout: [10, 600_000],
          method: [:auto, :put, :post],
          gzip: [true, false],
          cacertfile: [nil, "/etc/ca.pem"],
          retry_floor: [1, 30_000],
          retry_ceiling: [500, 3_600_000],
          stop_timeout: [0, 60_000]
        ] do
      test "takes as #{inspect(key)} #{Enum.map_join(values, ", ", &inspect/1)}" do
        for value <- unquote(values) do
          options = Keyword.put([url: @url], unquote(key), value)
          assert Map.fetch!(Options.validate!(push: options).push, unquote(key)) == value
        end
      end
    end

    for {key, {values, allowed}} <- [
          interval: {[nil, 9, 86_400_001, :infinity], "an integer from 10 to 86400000"},
          timeout: {[nil, 9, 600_001], "an integer from 10 to 600000"},
          method: {[nil, "PUT", :get], "one of :auto, :put, :post"},
          gzip: {[nil, 1], "true or false"},
          cacertfile: {["", ~c"ca.pem", "a\0"], "a path as a string without zero bytes, or nil"},
          retry_floor: {[nil, 0, 3_600_001], "an integer from 1 to 3600000"},
          retry_ceiling: {[nil, 0, 3_600_001], "an integer from 1 to 3600000"},
          stop_timeout: {[nil, -1, 60_001, :infinity], "an integer from 0 to 60000"}
        ] do
      test "names what it refuses as #{inspect(key)}, and what is allowed" do
        for value <- unquote(values) do
          message =
            "option :push, key #{inspect(unquote(key))} must be #{unquote(allowed)}, got: #{inspect(value)}"

          assert_raise ArgumentError, message, fn ->
            Options.validate!(push: Keyword.put([url: @url], unquote(key), value))
          end
        end
      end
    end

    test "refuses an address that is none, or has user, password or fragment, which it does not show" do
      for url <- [
            nil,
            :url,
            ~c"http://h",
            "",
            "h:9091",
            "//h",
            "ftp://h",
            "HTTPS://h",
            "http://",
            "http:///metrics",
            "http://h:0/",
            "http://h:65536/",
            "http://h:x/",
            "http://h/a b",
            "http://h/ä",
            "http://h/\r\nhost: evil",
            "http://h/#fragment",
            "http://user@h/",
            "http://user:s3cret@h/",
            "ftp://user:s3c@ret@h/",
            "http://user:s3cret@h:x/"
          ] do
        error = assert_raise ArgumentError, fn -> Options.validate!(push: [url: url]) end

        assert error.message =~
                 "option :push, key :url must be an http or https address such as " <>
                   ~s("http://localhost:9091/metrics/job/my_app", in ASCII, without user, password ) <>
                   "and fragment, got: "

        refute error.message =~ "s3c"
      end
    end

    test "refuses a ceiling that is below the floor" do
      message =
        "option :push, key :retry_ceiling must be at least key :retry_floor, which is 100, got: 99"

      assert_raise ArgumentError, message, fn ->
        Options.validate!(push: [url: @url, retry_floor: 100, retry_ceiling: 99])
      end

      assert Options.validate!(push: [url: @url, retry_floor: 99, retry_ceiling: 99]).push
    end

    test "keeps headers and authorization as functions, and checks what they return" do
      for headers <- [[{"x-api-key", "s3cret"}], fn -> [{"x-api-key", "s3cret"}] end] do
        %{push: push} = Options.validate!(push: [url: @url, headers: headers])
        assert push.headers.() == [{"x-api-key", "s3cret"}]
      end

      for headers <- [nil, [{"host", "s3cret"}], fn -> [{"x", "s3cret\n"}] end] do
        error =
          assert_raise ArgumentError, fn ->
            Options.validate!(push: [url: @url, headers: headers])
          end

        assert error.message =~ "option :push, key :headers must be a list of {name, value}"
        refute error.message =~ "s3cret"
      end

      assert_raise ArgumentError, ~r/^option :push, key :auth must be/, fn ->
        Options.validate!(push: [url: @url, auth: {:bearer, ""}])
      end
    end
  end
end
