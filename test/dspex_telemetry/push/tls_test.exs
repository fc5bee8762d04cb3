defmodule DSPexTelemetry.Push.TLSTest do
  # Not async: one test replaces the system's certificates.
  use ExUnit.Case, async: false

  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.TestInstance, except: [start!: 0, start!: 1]

  alias DSPexTelemetry.{Push, PushServer, PushTesting}

  # A failure is not retried during a test.
  @options [interval: PushTesting.long(), retry_ceiling: 3_600_000, retry_floor: 3_600_000]

  # A folder of its own for each test, as `ssl` remembers a file by its name.
  setup do
    folder = Path.join(System.tmp_dir!(), "push_tls_#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{cacertfile: Path.join(folder, "ca.pem")}
  end

  # The configuration of a server whose certificate is for `name`, and the CA's certificates, to verify it.
  defp certificates(name, peer \\ []) do
    subject_alternative_name = {:Extension, {2, 5, 29, 17}, false, [name]}
    key = [key: {:namedCurve, :secp256r1}, digest: :sha256]
    peer = peer ++ [extensions: [subject_alternative_name]] ++ key

    %{server_config: server, client_config: client} =
      :public_key.pkix_test_data(%{
        server_chain: %{root: key, intermediates: [key], peer: peer},
        client_chain: %{root: key, intermediates: [], peer: key}
      })

    {server, client[:cacerts]}
  end

  defp write_pem(path, certificates) do
    entries = for der <- certificates, do: {:Certificate, der, :not_encrypted}
    File.write!(path, :public_key.pem_encode(entries))
  end

  defp localhost, do: {:dNSName, ~c"localhost"}

  defp push(server, options) do
    {much, options} = Keyword.pop(options, :much, false)
    name = PushTesting.start!(server.url, Keyword.merge(@options, options))
    if much, do: PushTesting.record_much(name)
    watch_log(inspect(name))
    PushTesting.push_now(name)
    name
  end

  defp assert_accepted(server, options) do
    name = push(server, options)
    {connection, request} = await_push(server)
    assert request.body =~ "dspex_telemetry_build_info"
    answer(connection, 200)
    await("success", fn -> Push.counts(name) == %{success: 1, failure: 0} end)
  end

  # Nothing was sent, and the log says why, once: ssl is silent.
  defp assert_refused(server, options, reason) do
    PushTesting.watch_everything()
    name = push(server, options)
    assert_receive {:logged, :warning, line}, 10_000
    refute PushTesting.everything_logged() =~ ~r/TLS :?client/
    # Of the words of OTP 25, and of those of later ones.
    reasons = for reason <- List.wrap(reason), do: "no connection: #{reason}."
    assert line =~ "cannot be pushed to #{server.url}: " and String.contains?(line, reasons)
    assert Push.counts(name) == %{success: 0, failure: 1}
    refute_received {:pushed, _server, _connection, _request}
  end

  test "a server is accepted whose name is certified by a CA that is trusted", context do
    for {name, host} <- [
          {localhost(), "localhost"},
          {{:iPAddress, <<127, 0, 0, 1>>}, "127.0.0.1"}
        ],
        versions <- [[:"tlsv1.2"], [:"tlsv1.3"]] do
      {tls, cas} = certificates(name)
      path = context.cacertfile <> to_string(System.unique_integer([:positive]))
      write_pem(path, cas)
      server = PushServer.start!(tls: tls ++ [versions: versions], host: host)
      assert_accepted(server, cacertfile: path)
    end
  end

  test "a wildcard is one name's part", context do
    {tls, cas} = certificates({:dNSName, ~c"*.localhost"})
    write_pem(context.cacertfile, cas)
    server = PushServer.start!(tls: tls, host: "localhost")

    assert_refused(
      server,
      [cacertfile: context.cacertfile],
      "the certificate is not for the address's host"
    )
  end

  test "the server is told the name that is wanted", context do
    {tls, cas} = certificates(localhost())
    write_pem(context.cacertfile, cas)
    test = self()

    sni = fn name ->
      send(test, {:sni, name})
      []
    end

    server = PushServer.start!(tls: tls ++ [sni_fun: sni], host: "localhost")
    assert_accepted(server, cacertfile: context.cacertfile)
    assert_received {:sni, ~c"localhost"}
  end

  test "a server is refused whose CA is not trusted", context do
    {tls, _cas} = certificates(localhost())
    {_tls, others} = certificates(localhost())
    write_pem(context.cacertfile, others)
    server = PushServer.start!(tls: tls, host: "localhost")
    assert_refused(server, [cacertfile: context.cacertfile], "TLS unknown ca")
    # Nor do the system's certificates know it.
    assert_refused(server, [], "TLS unknown ca")
  end

  test "a server is refused whose certificate is for another name or address", context do
    for {name, host} <- [
          {{:dNSName, ~c"example.org"}, "localhost"},
          {{:iPAddress, <<127, 0, 0, 2>>}, "127.0.0.1"},
          {{:iPAddress, <<127, 0, 0, 1>>}, "localhost"},
          {{:dNSName, ~c"localhost"}, "127.0.0.1"}
        ] do
      {tls, cas} = certificates(name)
      path = context.cacertfile <> to_string(System.unique_integer([:positive]))
      write_pem(path, cas)
      server = PushServer.start!(tls: tls, host: host)
      assert_refused(server, [cacertfile: path], "the certificate is not for the address's host")
    end
  end

  test "a server is refused whose certificate has expired", context do
    {tls, cas} = certificates(localhost(), validity: {{2020, 1, 1}, {2020, 12, 31}})
    write_pem(context.cacertfile, cas)
    server = PushServer.start!(tls: tls, host: "localhost")
    assert_refused(server, [cacertfile: context.cacertfile], "TLS certificate expired")
  end

  test "a server is refused that speaks old versions only", context do
    {tls, cas} = certificates(localhost())
    write_pem(context.cacertfile, cas)
    server = PushServer.start!(tls: tls ++ [versions: [:"tlsv1.1"]], host: "localhost")

    reasons = ["TLS protocol version", "TLS insufficient security"]
    assert_refused(server, [cacertfile: context.cacertfile], reasons)
  end

  test "a :cacertfile that cannot be read fails the push, and works as soon as it can be",
       context do
    {tls, cas} = certificates(localhost())
    server = PushServer.start!(tls: tls, host: "localhost")
    reason = "the :cacertfile cannot be read"
    assert_refused(server, [cacertfile: context.cacertfile], reason)
    write_pem(context.cacertfile, cas)
    assert_accepted(server, cacertfile: context.cacertfile)
  end

  test "without :cacertfile the system's certificates are trusted", context do
    {tls, cas} = certificates(localhost())
    write_pem(context.cacertfile, cas)
    on_exit(fn -> :public_key.cacerts_clear() end)
    :ok = :public_key.cacerts_load(context.cacertfile)
    server = PushServer.start!(tls: tls, host: "localhost")
    assert_accepted(server, [])
  end

  test "an answer without end, and a server that does not answer, are as bad as without TLS",
       context do
    {tls, cas} = certificates(localhost())
    write_pem(context.cacertfile, cas)
    server = PushServer.start!(tls: tls, host: "localhost")

    push(server, cacertfile: context.cacertfile, timeout: 60_000)
    {connection, _request} = await_push(server)
    flood(connection, "HTTP/1.1 500 Oh\r\n\r\n", String.duplicate("x", 60_000))
    assert_receive {:logged, :warning, line}, 10_000
    assert line =~ "the answer is longer than 1 MiB"
    assert await_closed(connection) < 64 * 1_048_576

    push(server, cacertfile: context.cacertfile, timeout: 2_000)
    {connection, _request} = await_push(server)
    assert_receive {:logged, :warning, line}, 10_000
    assert line =~ "timeout"
    assert await_closed(connection) == 0
    await("no connection", fn -> PushTesting.connections() == [] end)
  end

  test "a server that does not read in TLS is left", context do
    {tls, cas} = certificates(localhost())
    write_pem(context.cacertfile, cas)
    server = PushServer.start!(tls: tls, host: "localhost", read: false)
    name = push(server, cacertfile: context.cacertfile, timeout: 2_000, gzip: false, much: true)
    assert_receive {:held, _server, _connection}, 10_000
    assert_receive {:logged, :warning, line}, 10_000
    assert line =~ "timeout"
    assert Push.counts(name).failure == 1
    await("no connection", fn -> PushTesting.connections() == [] end)
  end
end
