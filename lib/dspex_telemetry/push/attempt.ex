defmodule DSPexTelemetry.Push.Attempt do
  @moduledoc false
  # One push, in a process of its own: it renders the metrics at the moment they are sent, and waits for
  # the answer. So whoever started it is never busy, and its memory goes with it.
  #
  # The request is made by `httpc`, in a process of its own too. That process calls the function that
  # provides the body, and so is known by its pid: httpc bounds neither the length of an answer nor how
  # long sending may take, so both are watched from outside, and the process is killed if it must be.

  alias DSPexTelemetry.{Auth, Exposition}
  alias DSPexTelemetry.Push.{Address, Outcome, TLS}

  @longest_answer_bytes 1_048_576
  @watch_interval_ms 10

  @type job :: %{
          render: (() -> iodata()),
          profile: atom(),
          options: map()
        }

  @doc """
  Starts an attempt, linked to the caller. The caller gets `{:connection, attempt, pid}` when a connection
  stands, and an exit signal of reason `{:shutdown, {:pushed, outcome}}` at the end.
  """
  @spec start_link(job()) :: pid()
  def start_link(job) do
    owner = self()
    spawn_link(fn -> exit({:shutdown, {:pushed, run(job, owner)}}) end)
  end

  @doc "Ends an attempt and its connection, whatever they do."
  @spec kill(pid(), pid() | nil) :: :ok
  def kill(attempt, connection) do
    Process.unlink(attempt)
    for pid <- [attempt, connection], pid != nil, do: Process.exit(pid, :kill)
    :ok
  end

  # Whatever is raised or thrown on the way ends here and in words, as errors of httpc show the
  # request with its secrets.
  defp run(job, owner) do
    push(job, owner)
  rescue
    exception -> Outcome.failure("#{inspect(exception.__struct__)} was raised")
  catch
    :exit, {:noproc, _call} -> Outcome.failure("inets, the HTTP client, is not running")
    _kind, _reason -> Outcome.failure("the HTTP client failed")
  end

  defp push(%{options: options} = job, owner) do
    with {:ok, auth, secrets} <- auth(options.auth),
         {:ok, tls} <- TLS.options(options.url, options.cacertfile),
         :ok <- start_profile(job.profile, options.url) do
      {encoding, body} = encode(job.render.(), options.gzip)
      headers = value(options.headers)
      secrets = secrets ++ Enum.map(headers, fn {_name, value} -> value end)
      {:ok, request} = send_request(job, owner, encoding ++ auth ++ headers, body, tls)
      request |> await(nil, nil) |> outcome(secrets)
    end
  end

  defp outcome({:failed, reason}, _secrets), do: Outcome.failure(reason)
  defp outcome(result, secrets), do: Outcome.of(result, secrets, System.system_time(:second))

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

  defp value(given), do: if(is_function(given, 0), do: given.(), else: given)

  defp start_profile(profile, url) do
    case :inets.start(:httpc, profile: profile) do
      {:ok, _pid} -> :httpc.set_options([ipfamily: Address.family(url)], profile)
      {:error, {:already_started, _pid}} -> :ok
      {:error, _reason} -> Outcome.failure("the HTTP client cannot be started")
    end
  end

  defp encode(text, true), do: {[{"content-encoding", "gzip"}], gzip(text)}
  defp encode(text, false), do: {[], IO.iodata_to_binary(text)}

  # 31 is the largest window (15) with gzip's header (16). The best speed, as the text is very repetitive
  # and the network near.
  defp gzip(text) do
    stream = :zlib.open()
    :ok = :zlib.deflateInit(stream, :best_speed, :deflated, 31, 8, :default)
    compressed = :zlib.deflate(stream, text, :finish)
    :zlib.close(stream)
    IO.iodata_to_binary(compressed)
  end

  defp send_request(%{options: options, profile: profile}, owner, headers, body, tls) do
    headers =
      [
        {"content-length", Integer.to_string(byte_size(body))},
        # Pushes are far apart: a connection that is kept would be found closed as often as not.
        {"connection", "close"},
        {"user-agent", "dspex_telemetry"} | headers
      ]
      |> Enum.map(fn {name, value} -> {to_charlist(name), to_charlist(value)} end)

    url = to_charlist(options.url)
    type = to_charlist(Exposition.content_type(:text))

    :httpc.request(
      Address.method(options.url, options.method),
      {url, headers, type, {provider(self(), owner, body), :all}},
      [
        autoredirect: false,
        timeout: options.timeout,
        # A name with both families may take it twice.
        connect_timeout: max(div(options.timeout, 2), 1),
        ssl: tls
      ],
      [
        sync: false,
        body_format: :binary,
        socket_opts: [send_timeout: options.timeout, send_timeout_close: true]
      ],
      profile
    )
  end

  # Called in the process that has the connection. It may have got it too late for anybody to wait.
  defp provider(attempt, owner, body) do
    fn
      :all ->
        unless Process.alive?(attempt), do: exit(:normal)
        for pid <- [attempt, owner], do: send(pid, {:connection, attempt, self()})
        {:ok, body, :nothing}

      :nothing ->
        :eof
    end
  end

  defp await(request, connection, bytes) do
    attempt = self()

    receive do
      {:http, {^request, result}} ->
        result

      {:connection, ^attempt, pid} ->
        Process.monitor(pid)
        await(request, pid, bytes(pid))

      {:DOWN, _monitor, :process, ^connection, _reason} ->
        {:failed, "the connection's process ended"}
    after
      @watch_interval_ms ->
        if connection != nil and bytes(connection) - bytes > @longest_answer_bytes do
          Process.exit(connection, :kill)
          {:failed, "the answer is longer than 1 MiB"}
        else
          await(request, connection, bytes)
        end
    end
  end

  # Large binaries are not in a process's own memory.
  defp bytes(pid) do
    case Process.info(pid, [:memory, :binary]) do
      [memory: memory, binary: binaries] ->
        Enum.reduce(binaries, memory, fn {_id, size, _references}, sum -> sum + size end)

      nil ->
        0
    end
  end
end
