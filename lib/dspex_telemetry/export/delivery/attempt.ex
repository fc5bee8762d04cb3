defmodule DSPexTelemetry.Export.Delivery.Attempt do
  @moduledoc false
  # One delivery, in a process of its own: it renders the metrics at the moment they are sent, and waits for
  # the answer. So whoever started it is never busy, and its memory goes with it.
  #
  # The request is made by `httpc`, which has a process for the connection too. Of some things that httpc
  # does it cannot be told not to; these are watched from here:
  #
  #   * It bounds neither how long an answer may be nor how long sending may take. The process that has the
  #     connection calls the function that provides the body, and so becomes known; it is killed if the
  #     answer gets too long, or when this process ends, at the latest after `:timeout`. Of headers it
  #     makes lists, which take 16 bytes for each of theirs and more while they are collected: its heap,
  #     on which a body is not, has a limit.
  #   * It answers a 503 whose `Retry-After` is below 100 seconds by sending the same request again after
  #     that time, and tells nobody. Its manager, of which every attempt has its own, is told about that
  #     by the connection's process. So it is suspended before the body is sent, and looked into at the end.

  alias DSPexTelemetry.Auth
  alias DSPexTelemetry.Export.Delivery.{Address, Headers, Outcome, TLS}
  alias DSPexTelemetry.Export.Gzip

  @watch_interval_ms 10
  @longest_end_ms 1_000
  # Headers of about 100 KiB.
  @heap_bytes 8 * 1_048_576

  @type job :: %{
          kind: module(),
          instance: atom(),
          profile: atom(),
          options: map()
        }

  @doc """
  Starts an attempt, linked to the caller, who gets an exit signal of reason `{:shutdown, {:delivered, outcome}}`
  at the end. If it is killed, its connection is closed too.
  """
  @spec start_link(job()) :: pid()
  def start_link(job), do: spawn_link(fn -> exit({:shutdown, {:delivered, run(job)}}) end)

  # Whatever is raised or thrown on the way ends here and in words, as errors of httpc show the
  # request with its secrets.
  defp run(job) do
    deliver(job)
  rescue
    exception -> Outcome.failure("#{inspect(exception.__struct__)} was raised")
  catch
    :exit, {:noproc, _call} -> Outcome.failure("inets, the HTTP client, is not running")
    _kind, _reason -> Outcome.failure("the HTTP client failed")
  end

  defp deliver(%{kind: kind, options: options, profile: profile} = job) do
    with {:ok, auth, secrets} <- auth(options.auth),
         {:ok, headers} <- headers(options.headers, kind.headers()),
         {:ok, tls} <- TLS.options(options.url, options.cacertfile),
         {:ok, manager} <- start_httpc(profile, options.url) do
      request = kind.request(job.instance)
      # The scheme of an `authorization` is none.
      values = for {_name, value} <- headers, part <- [value, last_word(value)], do: part
      secrets = secrets ++ Enum.filter(values, &secret?/1)
      result = send_request(job, request, with_auth(headers, auth), tls, manager)
      :inets.stop(:httpc, profile)
      kind.outcome(result, request, secrets, System.system_time(:second))
    end
  end

  defp send_request(%{kind: kind, options: options} = job, request, headers, tls, manager) do
    %{request_bytes: request_bytes, answer_bytes: answer_bytes} = kind.limits(options)

    if IO.iodata_length(request.body) > request_bytes do
      {:error, {:request_too_long, request_bytes}}
    else
      {encoding, body} = encode(request.body, options.gzip)
      {:ok, reference} = start_request(job, encoding ++ headers, body, tls)

      case await_connection(reference, manager, answer_bytes) do
        # It may have come whole before anybody has looked.
        {_status, _headers, body} when byte_size(body) > answer_bytes ->
          {:error, {:answer_too_long, answer_bytes}}

        result ->
          result
      end
    end
  end

  defp auth(auth) do
    case value(auth) do
      none when none in [nil, :none] ->
        {:ok, [], []}

      {:bearer, token} = auth ->
        authorization(auth, "Bearer " <> token, [token])

      {:basic, user, password} = auth ->
        encoded = Base.encode64("#{user}:#{password}")
        authorization(auth, "Basic " <> encoded, [encoded, password])

      _other ->
        authorization(nil, "", [])
    end
  end

  # A function may return today what was not checked at the start.
  defp authorization(auth, header, secrets) do
    if auth != nil and Auth.valid?(auth),
      do: {:ok, [{"authorization", header}], secrets},
      else: Outcome.failure("the function given as :auth returns something else than is allowed")
  end

  defp headers(given, also) do
    headers = value(given)

    if Headers.valid?(headers, also),
      do: {:ok, headers},
      else:
        Outcome.failure("the function given as :headers returns something else than is allowed")
  end

  defp with_auth(headers, auth) do
    given? = Enum.any?(headers, fn {name, _value} -> String.downcase(name) == "authorization" end)
    if given?, do: headers, else: auth ++ headers
  end

  defp last_word(value), do: value |> String.split(" ") |> List.last()

  # A header that is shorter is none, and may be part of anything that a server answers.
  defp secret?(value), do: byte_size(value) >= 8

  defp value(given), do: if(is_function(given, 0), do: given.(), else: given)

  defp start_httpc(profile, url) do
    # One that was killed has left it behind.
    :inets.stop(:httpc, profile)

    with {:ok, manager} <- :inets.start(:httpc, profile: profile),
         :ok <- :httpc.set_options([ipfamily: Address.family(url)], profile) do
      {:ok, manager}
    else
      {:error, _reason} -> Outcome.failure("the HTTP client cannot be started")
    end
  end

  defp encode(body, true), do: {[{"content-encoding", "gzip"}], Gzip.compress(body)}
  defp encode(body, false), do: {[], IO.iodata_to_binary(body)}

  defp start_request(%{kind: kind, options: options, profile: profile}, headers, body, tls) do
    headers =
      [
        {"content-length", Integer.to_string(byte_size(body))},
        # Deliveries are far apart: a connection that is kept would be found closed as often as not.
        {"connection", "close"},
        {"user-agent", "dspex_telemetry"} | headers
      ]
      |> Enum.map(fn {name, value} -> {to_charlist(name), to_charlist(value)} end)

    url = to_charlist(options.url)
    type = to_charlist(kind.content_type())

    :httpc.request(
      Address.method(options.url, options.method),
      {url, headers, type, {provider(self(), body), :all}},
      [
        autoredirect: false,
        timeout: options.timeout,
        connect_timeout: options.timeout,
        ssl: tls
      ],
      [
        sync: false,
        body_format: :binary,
        # Headers and body go out one after the other; without nodelay the second waits for an answer.
        socket_opts: [nodelay: true, send_timeout: options.timeout, send_timeout_close: true]
      ],
      profile
    )
  end

  # Called in the process that has the connection, which may have got it too late for anybody to wait.
  defp provider(attempt, body) do
    fn
      :all ->
        words = div(@heap_bytes, :erlang.system_info(:wordsize))
        Process.flag(:max_heap_size, %{size: words, kill: true, error_logger: false})
        monitor = Process.monitor(attempt)
        send(attempt, {:connection, self()})

        receive do
          {:go_on, ^attempt} -> Process.demonitor(monitor, [:flush])
          {:DOWN, ^monitor, :process, ^attempt, _reason} -> exit(:normal)
        end

        {:ok, body, :nothing}

      :nothing ->
        :eof
    end
  end

  defp await_connection(request, manager, answer_bytes) do
    receive do
      {:http, {^request, result}} ->
        result

      {:connection, connection} ->
        guard(connection)
        monitor = Process.monitor(connection)
        :ok = :sys.suspend(manager)
        send(connection, {:go_on, self()})
        await_answer(request, manager, connection, monitor, answer_bytes)
    end
  end

  # Closes the connection when this process has ended, in whatever way.
  defp guard(connection) do
    attempt = self()

    spawn(fn ->
      attempt_monitor = Process.monitor(attempt)
      connection_monitor = Process.monitor(connection)

      receive do
        {:DOWN, ^attempt_monitor, :process, _pid, _reason} -> Process.exit(connection, :kill)
        {:DOWN, ^connection_monitor, :process, _pid, _reason} -> :ok
      end
    end)
  end

  defp await_answer(request, manager, connection, monitor, answer_bytes) do
    receive do
      {:http, {^request, result}} ->
        await_end(monitor)
        result

      # By its limit, as we have not.
      {:DOWN, ^monitor, :process, _connection, :killed} ->
        {:error, {:headers_too_long, @heap_bytes}}

      {:DOWN, ^monitor, :process, _connection, _reason} ->
        kept_from_us(manager)
    after
      @watch_interval_ms ->
        if received_bytes(connection) > answer_bytes,
          do: {:error, {:answer_too_long, answer_bytes}},
          else: await_answer(request, manager, connection, monitor, answer_bytes)
    end
  end

  # It closes by itself, as we have asked for; if not, the guard does.
  defp await_end(monitor) do
    receive do
      {:DOWN, ^monitor, :process, _connection, _reason} -> :ok
    after
      @longest_end_ms -> :ok
    end
  end

  # No answer came, and no error: httpc wants to try again.
  defp kept_from_us(manager) do
    messages =
      case Process.info(manager, :messages) do
        {:messages, messages} -> messages
        nil -> []
      end

    Enum.find_value(messages, {:error, :socket_closed_remotely}, fn
      {:"$gen_cast", {:retry_or_redirect_request, {ms, _request}}} when is_integer(ms) ->
        {{~c"HTTP/1.1", 503, ~c""}, [{~c"retry-after", Integer.to_charlist(div(ms, 1_000))}], ""}

      _other ->
        nil
    end)
  end

  # By what its socket has received, as a binary that grows is in no number that is kept of a process. With
  # TLS the socket belongs to a process that watches over this one.
  defp received_bytes(connection) do
    watchers =
      case Process.info(connection, :monitored_by) do
        {:monitored_by, watchers} -> watchers
        nil -> []
      end

    for pid <- [connection | watchers], is_pid(pid), port <- ports(pid), reduce: 0 do
      bytes -> bytes + received(port)
    end
  end

  defp ports(pid) do
    case Process.info(pid, :links) do
      {:links, links} -> Enum.filter(links, &is_port/1)
      nil -> []
    end
  end

  defp received(port) do
    case :inet.getstat(port, [:recv_oct]) do
      {:ok, [recv_oct: bytes]} -> bytes
      {:error, _closed} -> 0
    end
  end
end
