defmodule DSPexTelemetry.Export.DeliveryTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.Export.Delivery.{Address, Backoff, Headers, Outcome, TLS}

  describe "the time before a retry" do
    test "lies between its bounds, for any bounds, jitter and number of failures" do
      # The same numbers in every run.
      :rand.seed(:exsss, {1, 2, 3})

      for _ <- 1..20_000 do
        floor = :rand.uniform(3_600_000)
        ceiling = floor + :rand.uniform(3_600_000) - 1
        failures = Enum.random([1, 2, :rand.uniform(40), :rand.uniform(1_000_000), 1_000_000])
        bounds = %{retry_floor: floor, retry_ceiling: ceiling}
        delay = Backoff.delay_ms(failures, bounds, :rand.uniform_real() |> min(0.9999999))
        assert is_integer(delay) and delay in floor..ceiling
      end
    end

    test "is spread evenly from the floor to the floor doubled with each failure, up to the ceiling" do
      bounds = %{retry_floor: 100, retry_ceiling: 1_000}
      almost_1 = 1.0 - 1.0e-12

      for {failures, highest} <- [{1, 200}, {2, 400}, {3, 800}, {4, 1_000}, {1_000_000, 1_000}] do
        assert Backoff.delay_ms(failures, bounds, 0.0) == 100
        assert Backoff.delay_ms(failures, bounds, almost_1) == highest
        middle = Backoff.delay_ms(failures, bounds, 0.5)
        assert_in_delta middle, (100 + highest) / 2, 1
      end
    end

    test "is the floor where the ceiling is no higher" do
      bounds = %{retry_floor: 7, retry_ceiling: 7}
      for random <- [0.0, 0.5, 0.999], do: assert(Backoff.delay_ms(9, bounds, random) == 7)
    end

    test "has what the server asked for in addition, up to five minutes" do
      bounds = %{retry_floor: 100, retry_ceiling: 1_000}
      assert Backoff.delay_ms(1, bounds, 0.0, 2_000) == 2_100
      assert Backoff.delay_ms(1, bounds, 0.0, 300_000) == 300_100
      assert Backoff.delay_ms(1, bounds, 0.0, 86_400_000) == 300_100
    end
  end

  describe "the outcome" do
    defp outcome(status, headers \\ [], body \\ "", secrets \\ []) do
      Outcome.of({{~c"HTTP/1.1", status, ~c"Phrase"}, headers, body}, secrets, 1_700_000_000)
    end

    test "is a success for 200 to 299" do
      for status <- [200, 202, 204, 299], do: assert(outcome(status) == :ok)
    end

    test "is retried where the server or the moment is at fault, and not where the request is" do
      for status <- [408, 429, 500, 502, 503, 504, 599] do
        assert {:error, %{retry: true}} = outcome(status)
      end

      for status <- [100, 199, 300, 301, 307, 400, 401, 403, 404, 405, 413, 415, 499] do
        assert {:error, %{retry: false}} = outcome(status)
      end
    end

    test "names the status and the first line of the answer, printable and short" do
      assert {:error, %{reason: "the server answers 400"}} = outcome(400)
      assert {:error, %{reason: "the server answers 400"}} = outcome(400, [], "\n \n")
      assert {:error, %{reason: "the server answers 400"}} = outcome(400, [], <<255, 254>>)

      assert {:error, %{reason: "the server answers 400: text format parsing error"}} =
               outcome(400, [], "\r\ntext format parsing error\nin line 1")

      assert {:error, %{reason: "the server answers 400: a [31mred é"}} =
               outcome(400, [], "a\e[31mred é")

      {:error, %{reason: reason}} = outcome(400, [], String.duplicate("é", 10_000))
      assert String.length(reason) == String.length("the server answers 400: ") + 200
    end

    test "does not show secrets that the server sends back" do
      {:error, %{reason: reason}} = outcome(400, [], "no token abc, no def", ["abc", "def"])
      assert reason == "the server answers 400: no token [hidden], no [hidden]"
    end

    test "says how long the server wants to be left alone, in seconds or as a date" do
      for {value, ms} <- [
            {~c"0", 0},
            {~c"7", 7_000},
            # 1_700_000_000 is 22:13:20 of that day.
            {~c"Tue, 14 Nov 2023 22:13:50 GMT", 30_000},
            {~c"Tue, 14 Nov 2023 22:13:00 GMT", 0},
            {~c"Tue, 14 Nov 2023 99:99:99 GMT", 0},
            {~c"-5", 0},
            {~c"soon", 0},
            {~c"Xxx, 14 Nov 2023 22:13:50 GMT", 30_000},
            {~c"Tue, 14 Xxx 2023 22:13:50 GMT", 0},
            {~c"", 0},
            {List.duplicate(?9, 1_000_000), 0}
          ] do
        for status <- [429, 503] do
          assert {:error, %{after_ms: ^ms}} = outcome(status, [{~c"retry-after", value}])
        end
      end

      assert {:error, %{after_ms: 0}} = outcome(429)
      assert {:error, %{after_ms: 0}} = outcome(500, [{~c"retry-after", ~c"7"}])
    end

    test "tells in words why there is no connection, and shows nothing that it does not know" do
      failed = fn reasons ->
        details = for {family, reason} <- reasons, do: {family, [:options, "secret"], reason}
        {:error, {:failed_connect, [{:to_address, {~c"host", 1}} | details]}}
      end

      unknown_ca = {:tls_alert, {:unknown_ca, ~c"TLS client: generated CLIENT ALERT"}}

      for {result, words} <- [
            {failed.(inet: :econnrefused), "no connection: connection refused"},
            {failed.(inet6: :ehostunreach), "no connection: host is unreachable"},
            {failed.(inet: :nxdomain), "no connection: no address of that name"},
            {failed.(inet: unknown_ca), "no connection: TLS unknown ca"},
            {failed.(inet: :timeout), "no connection: timeout"},
            {failed.(inet: {:eoptions, {:options, {:cacertfile, ~c"x", {:error, :enoent}}}}),
             "no connection: the :cacertfile cannot be read"},
            {{:error, :socket_closed_remotely}, "the server closed the connection"},
            {{:error, {:could_not_parse_as_http, "secret"}}, "the answer is no HTTP"},
            {{:error, {:send_failed, "secret"}}, "send failed"},
            {{:error, ["secret"]}, "httpc failed"}
          ] do
        assert Outcome.of(result, [], 0) ==
                 {:error, %{reason: words, retry: true, after_ms: 0}}
      end
    end
  end

  describe "the address" do
    test "is logged without its query" do
      assert Address.show("https://h:1/p?token=abc?") == "https://h:1/p"
      assert Address.show("https://h:1/p") == "https://h:1/p"
    end

    test "says the method: PUT to a Pushgateway's group, POST elsewhere" do
      for {path, method} <- [
            {"/metrics/job/a", :put},
            {"/prefix/metrics/job/a/instance/b", :put},
            {"/metrics/job@base64/YQ", :put},
            {"/api/v1/import/prometheus", :post},
            {"/api/v1/import/prometheus?extra_label=/metrics/job/a", :post},
            {"/metrics/jobs", :post},
            {"", :post}
          ] do
        assert Address.method("http://h" <> path, :auto) == method
        assert Address.method("http://h" <> path, :put) == :put
        assert Address.method("http://h" <> path, :post) == :post
      end
    end

    test "says the address family" do
      assert Address.family("http://127.0.0.1:1/") == :inet
      assert Address.family("http://[::1]:1/") == :inet6
      assert Address.family("http://localhost/") == :inet
    end
  end

  test "headers are what HTTP allows, and not those that a push sets itself" do
    for headers <- [
          [],
          [{"x-scope-orgid", "tenant 1"}],
          [{"X-API-Key", String.duplicate("k", 8_192)}, {"a!#$%&'*+.^_`|~1", ""}]
        ] do
      assert Headers.valid?(headers)
    end

    for headers <- [
          nil,
          %{"a" => "b"},
          [{"a", "b"} | :improper],
          [{:a, "b"}],
          [{"a", ~c"b"}],
          [{"a", "b\r\nhost: evil"}],
          [{"a", "b\n"}],
          [{"a\n", "b"}],
          [{"a", "é"}],
          [{"", "b"}],
          [{"a b", "c"}],
          [{"a:", "c"}],
          [{"a", String.duplicate("k", 8_193)}],
          [{"Authorization", "Bearer t"}],
          [{"content-length", "1"}],
          [{"Host", "h"}],
          [{"transfer-encoding", "chunked"}]
        ] do
      refute Headers.valid?(headers)
    end
  end

  test "a system without CA certificates fails the push and says what to do" do
    assert {:error, %{reason: reason, retry: true}} =
             TLS.options("https://h", nil, fn -> raise "failed to load" end)

    assert reason ==
             "this system has no CA certificates, install them or give some as :cacertfile"

    assert {:ok, []} = TLS.options("http://h", nil, fn -> raise "failed to load" end)
    assert {:ok, options} = TLS.options("https://h", "ca.pem", fn -> raise "failed to load" end)
    assert options[:cacertfile] == "ca.pem"
    assert options[:verify] == :verify_peer
  end
end
