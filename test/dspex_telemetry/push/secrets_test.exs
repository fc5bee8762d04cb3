defmodule DSPexTelemetry.Push.SecretsTest do
  # Not async: reads everything that is logged in the VM.
  use ExUnit.Case, async: false

  import DSPexTelemetry.PushServer, except: [start!: 0, start!: 1, stop: 1]
  import DSPexTelemetry.TestInstance, except: [start!: 0, start!: 1]

  alias DSPexTelemetry.{Push, PushServer, PushTesting}

  @secret "s3cr3t-t0ken"
  @header "h3ader-v4lue"

  setup do
    PushTesting.watch_everything()
  end

  defp assert_hidden(text) do
    encoded = Base.encode64("user:" <> @secret)

    for secret <- [@secret, @header, encoded] do
      refute text =~ secret

      refute text =~
               inspect(String.to_charlist(secret), charlists: :as_lists) |> String.slice(1..-2//1)
    end
  end

  for {auth, n} <- Enum.with_index([{:bearer, @secret}, {:basic, "user", @secret}]) do
    @tag :capture_log
    test "are in no log and in no state, whatever fails or crashes (#{n})" do
      server = PushServer.start!()

      name =
        PushTesting.start!(server.url,
          interval: PushTesting.long(),
          auth: unquote(Macro.escape(auth)),
          headers: [{"x-api-key", @header}],
          timeout: 2_000
        )

      PushTesting.push_now(name)
      {connection, request} = await_push(server)
      assert request.headers["authorization"] =~ ~r/\A(Bearer|Basic) ./
      assert request.headers["x-api-key"] == @header

      # A server that sends back all that it got, as some do.
      answer(connection, 500, [], inspect(request, limit: :infinity, printable_limit: :infinity))

      for {answer, failures} <- [
            {&send_raw(&1, "\0 no HTTP\r\n\r\n"), 2},
            {&send_raw(&1, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), 3},
            {&send_raw(&1, "HTTP/1.1 503 Oh\r\nretry-after: xy\r\n\r\n"), 4},
            {&close/1, 5},
            {fn _connection -> PushTesting.connections() |> hd() |> Process.exit(:crash) end, 6},
            {fn _connection -> PushTesting.connections() |> hd() |> kill() end, 7}
          ] do
        {connection, _request} = await_push(server)
        answer.(connection)
        await("#{failures} failures", fn -> Push.counts(name).failure >= failures end)
      end

      {_connection, _request} = await_push(server)
      pusher = PushTesting.pusher(name)

      states =
        for pid <- [pusher, supervisor_of(name), pid(name), child(name, Push)],
            do: {:sys.get_state(pid), :sys.get_status(pid)}

      shown = inspect(states, limit: :infinity, printable_limit: :infinity)
      assert shown =~ server.url
      assert_hidden(shown)
      assert_hidden(to_string(:io_lib.format("~p", [states])))
      assert_hidden(inspect(DSPexTelemetry.info(instance: name), limit: :infinity))

      # Crash reports show the state.
      Process.exit(pusher, :crash)
      GenServer.cast(pusher, :no_such_request)
      await("another process", fn -> PushTesting.pusher(name) not in [pusher, nil] end)
      supervisor = child(name, Push)
      Process.exit(pid(name), :crash)

      await("another instance", fn ->
        child(name, Push) not in [supervisor, nil, :restarting] and
          is_pid(PushTesting.pusher(name))
      end)

      # The last of it is logged by another process.
      :logger.error("the end")
      text = PushTesting.everything_logged()
      assert text =~ "cannot be pushed" and text =~ "the end"
      assert text =~ "no_such_request"
      assert text =~ "[hidden]" or not (text =~ "authorization")
      assert_hidden(text)
    end
  end

  test "are not in the error of a start that fails, nor in the report of its supervisor" do
    Process.flag(:trap_exit, true)

    specification =
      DSPexTelemetry.child_spec(
        name: unique_name(),
        push: [url: "ftp://nowhere", auth: {:bearer, @secret}, headers: [{"x-api-key", @header}]]
      )

    {:error, reason} = Supervisor.start_link([specification], strategy: :one_for_one)
    assert inspect(reason) =~ "option :push, key :url must be an http or https address"
    assert_hidden(inspect(reason, limit: :infinity, printable_limit: :infinity))
    assert_hidden(PushTesting.everything_logged())
  end
end
