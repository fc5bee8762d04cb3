defmodule DSPexTelemetry.Endpoint.SecretsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.EndpointTesting
  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance
  import ExUnit.CaptureLog

  alias DSPexTelemetry.{Endpoint, TestCalls}
  alias DSPexTelemetry.Instance.Lookup

  @token "s3cr3t-t0ken"

  describe "with auth" do
    test "a request without the right credentials gets 401, and not one byte of data" do
      name = serve!(auth: {:bearer, @token})
      address = address!(name)
      method = label("http")
      TestCalls.call(method)

      credentials = [
        [],
        [{"authorization", ""}],
        [{"authorization", "Bearer"}],
        [{"authorization", "Bearer #{String.slice(@token, 0..-2//1)}"}],
        [{"authorization", "Bearer #{@token}x"}],
        [{"authorization", "Basic #{Base.encode64(@token)}"}],
        [{"authorization", "Bearer \xff\x80"}],
        [{"authorization", "Bearer #{@token}"}, {"authorization", "Bearer #{@token}"}],
        [{"authorization", "Bearer " <> String.duplicate("x", 7_000)}]
      ]

      for path <- ["/metrics", "/report.json", "/health", "/nothing", "/%6detrics"],
          verb <- ["GET", "HEAD", "POST"],
          headers <- credentials do
        response = request(address, verb, path, headers)
        assert response.status == 401
        assert response.headers["www-authenticate"] == ~s(Bearer realm="dspex_telemetry")
        assert response.body == if(verb == "HEAD", do: "", else: "unauthorized\n")
      end

      # Too long to be looked at.
      response =
        request(address, "GET", "/metrics", [
          {"authorization", "Bearer " <> String.duplicate("x", 1_000_000)}
        ])

      assert response == :closed or response.status == 413
      refute response != :closed and response.raw =~ method

      response = request(address, "GET", "/metrics", [{"Authorization", "Bearer #{@token}"}])
      assert response.status == 200
      assert response.body =~ method
    end

    test "user and password are asked for and taken" do
      address = address!(serve!(auth: fn -> {:basic, "user", @token} end))
      response = request(address, "GET", "/metrics")
      assert response.status == 401

      assert response.headers["www-authenticate"] ==
               ~s(Basic realm="dspex_telemetry", charset="UTF-8")

      headers = [{"authorization", "Basic " <> Base.encode64("user:" <> @token)}]
      assert request(address, "GET", "/metrics", headers).status == 200
    end

    test "the secret is in no process, no table and no log" do
      for auth <- [{:bearer, @token}, {:basic, "user", @token}] do
        log =
          capture_log(fn ->
            name = serve!(auth: auth)
            address = address!(name)
            request(address, "GET", "/metrics")
            request(address, "GET", "/metrics", [{"authorization", "Bearer #{@token}"}])

            server = server(name)
            pids = [supervisor_of(name), child(name, Endpoint.Supervisor), server, pid(name)]
            pids = pids ++ Map.values(httpd(server))

            for pid <- pids do
              # Of an acceptor, which knows no system messages, what there is to see from outside.
              refute_secret(Process.info(pid, [:dictionary, :messages]))
              unless pid == httpd(server).acceptor, do: refute_secret(:sys.get_status(pid))
            end

            for pid <- pids,
                pid not in [server, pid(name), httpd(server).manager, httpd(server).acceptor],
                do: refute_secret(Supervisor.which_children(pid))

            for table <- :ets.all(),
                :ets.info(table, :owner) in pids,
                do: refute_secret(readable(table))

            refute_secret(Lookup.fetch!(name))

            # Crashes, which log the state.
            before = server
            :ok = :sys.terminate(server, :crashed_on_purpose)
            await("another server", fn -> server(name) not in [before, nil, :restarting] end)
            :ok = :sys.terminate(pid(name), :crashed_on_purpose)
            await("another instance", fn -> Lookup.running?(name) end)
            listens_or_refuses(name)
            stop_supervised!({DSPexTelemetry, name})
          end)

        assert log =~ "crashed_on_purpose"
        refute log =~ @token
      end
    end
  end

  defp listens_or_refuses(name) do
    await("an address", fn -> is_map(address_of(name)) end)
  end

  defp readable(table) do
    :ets.tab2list(table)
  rescue
    ArgumentError -> []
  end

  defp refute_secret(term) do
    for text <- [
          inspect(term, limit: :infinity, printable_limit: :infinity),
          :io_lib.format("~0p", [term])
        ] do
      refute IO.chardata_to_string(text) =~ @token
    end
  end
end
