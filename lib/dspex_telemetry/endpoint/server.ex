defmodule DSPexTelemetry.Endpoint.Server do
  @moduledoc false
  # Runs OTP's httpd for an instance: starts it, watches it, starts it again after a pause when it has
  # stopped listening, whatever the reason, and ends connections that take too long.

  use GenServer, shutdown: 15_000

  require Logger

  alias DSPexTelemetry.Endpoint
  alias DSPexTelemetry.Endpoint.{FreePorts, Httpd}
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @first_pause_ms 100
  @longest_pause_ms 30_000
  @watch_ms 1_000
  @stop_ms 10_000
  @free_ports_tried 10

  @typedoc """
  What outlives a restart of this process: whether there was a first start, which alone may fail, and
  the port on which it has listened, which stays.
  """
  @type started :: :atomics.atomics_ref()

  @spec new_started() :: started()
  def new_started, do: :atomics.new(2, [])

  def start_link(%{http: _, config: _, limits: _, started: _} = arguments),
    do: GenServer.start_link(__MODULE__, arguments)

  @doc "Where the endpoint of an instance listens, or why it does not, if that is known."
  @spec address(atom()) ::
          {:ok, {:inet.ip_address(), :inet.port_number()}} | {:error, String.t() | nil}
  def address(name) do
    case Registry.lookup(Lookup.registry(), key(name)) do
      [{_pid, {_ok_or_error, _} = state}] -> state
      _not_there_or_starting -> {:error, nil}
    end
  end

  defp key(name), do: {:endpoint, name}

  @impl true
  def init(arguments) do
    # httpd's supervisor is linked to us.
    Process.flag(:trap_exit, true)
    :ok = Endpoint.Supervisor.register(key(arguments.config.instance))
    Process.send_after(self(), :watch, @watch_ms)

    state =
      Map.merge(arguments, %{
        httpd: nil,
        listening_since_ms: nil,
        pause_ms: @first_pause_ms,
        told: false,
        seen_ms: %{}
      })

    case :atomics.exchange(state.started, 1, 1) do
      0 -> first_start(state)
      1 -> {:ok, start_later(state)}
    end
  end

  defp first_start(state) do
    case start(state) do
      {:ok, state} -> {:ok, state}
      {:error, sentence} when state.http.required -> {:stop, sentence}
      {:error, sentence} -> {:ok, failed(state, sentence)}
    end
  end

  @impl true
  def handle_info(:start, %{httpd: nil} = state) do
    again = if :atomics.get(state.started, 2) == 0, do: "", else: " again"

    case start(state) do
      {:ok, %{http: %{ip: ip}} = state} ->
        port = :atomics.get(state.started, 2)
        Logger.info("#{title(state)} listens#{again} on port #{port} of #{:inet.ntoa(ip)}")
        {:noreply, %{state | told: false}}

      {:error, sentence} ->
        {:noreply, failed(state, sentence)}
    end
  end

  def handle_info(:watch, state) do
    Process.send_after(self(), :watch, @watch_ms)
    {:noreply, state |> shorten_pause() |> end_old_connections()}
  end

  def handle_info({:EXIT, pid, reason}, %{httpd: %{supervisor: pid}} = state),
    do: {:noreply, stopped_listening(state, reason)}

  def handle_info({:DOWN, monitor, :process, _pid, reason}, %{httpd: %{} = httpd} = state) do
    if monitor in httpd.monitors,
      do: {:noreply, stopped_listening(state, reason)},
      else: {:noreply, state}
  end

  # Among them the end of an httpd that we have ended or that could not start. That of the registry, which
  # is linked to us too, ends the instance, and with it us.
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: stop_httpd(state.httpd)

  defp stopped_listening(state, reason) do
    Logger.error("#{title(state)} has stopped listening and starts again: #{inspect(reason)}")
    stop_httpd(state.httpd)
    publish(state, nil)
    start_later(%{state | httpd: nil, seen_ms: %{}})
  end

  # The instance goes on without, and whoever has the port may give it back.
  defp failed(state, sentence) do
    unless state.told, do: Logger.error("#{sentence}. It tries again until it can")
    publish(state, {:error, sentence})
    start_later(%{state | told: true})
  end

  defp start_later(state) do
    Process.send_after(self(), :start, state.pause_ms)
    %{state | pause_ms: min(2 * state.pause_ms, @longest_pause_ms)}
  end

  # After a while only, lest a server that fails as soon as it has started is started all the time.
  defp shorten_pause(%{httpd: %{}} = state) do
    if Clock.now_ms() - state.listening_since_ms > @longest_pause_ms,
      do: %{state | pause_ms: @first_pause_ms},
      else: state
  end

  defp shorten_pause(state), do: state

  defp start(state) do
    wanted = with 0 <- state.http.port, do: :atomics.get(state.started, 2)

    with {:ok, port} <- port(state.http.ip, wanted),
         {:ok, port, httpd} <- start_httpd(state, port, tries(wanted)) do
      :atomics.put(state.started, 2, port)
      publish(state, {:ok, {state.http.ip, port}})
      {:ok, %{state | httpd: httpd, listening_since_ms: Clock.now_ms()}}
    else
      {:error, reason} ->
        {:error, "#{title(state)} cannot listen on #{where(state, wanted)}: #{words(reason)}"}
    end
  end

  defp port(ip, 0), do: FreePorts.take(ip, &listenable(ip, &1))
  defp port(ip, wanted), do: listenable(ip, wanted)

  # httpd reports a port that it cannot have in supervisor reports of several pages, so it is tried
  # beforehand; and one that it has found itself it loses when it fails.
  defp listenable(ip, port) do
    with {:ok, socket} <- :gen_tcp.listen(port, [Httpd.family(ip), ip: ip, reuseaddr: true]) do
      {:ok, port} = :inet.port(socket)
      :ok = :gen_tcp.close(socket)
      {:ok, port}
    end
  end

  # A free port may be taken by somebody before httpd has it, and then another will do.
  defp tries(0), do: @free_ports_tried
  defp tries(_wanted), do: 1

  defp start_httpd(state, port, tries) do
    configuration = Httpd.configuration(state.http.ip, port, state.config, state.limits)

    with {:ok, supervisor} <- :inets.start(:httpd, configuration, :stand_alone),
         {:ok, httpd} <- watched(supervisor) do
      {:ok, port, httpd}
    else
      {:error, _taken} when tries > 1 -> start_httpd_elsewhere(state, tries - 1)
      {:error, reason} -> {:error, reason}
    end
  end

  defp start_httpd_elsewhere(state, tries) do
    with {:ok, port} <- port(state.http.ip, 0), do: start_httpd(state, port, tries)
  end

  # httpd's acceptor ends normally, and for good, after some errors of its socket, and its instance
  # starts again on a port that may have changed hands: neither is left to httpd.
  defp watched(supervisor) do
    # OTP 26 and later have a supervisor without a server where that could not start, and log why.
    if instance = child(supervisor, :httpd_instance_sup) do
      acceptor = instance |> child(:httpd_acceptor_sup) |> child(:httpd_acceptor_sup)

      {:ok,
       %{
         supervisor: supervisor,
         connections: child(instance, :httpd_connection_sup),
         monitors: Enum.map([instance, acceptor], &Process.monitor/1)
       }}
    else
      stop_httpd(%{supervisor: supervisor})
      {:error, :httpd_failed}
    end
  end

  # Its ids are tuples that begin with the kind of process.
  defp child(supervisor, kind) do
    Enum.find_value(Supervisor.which_children(supervisor), fn {id, pid, _type, _modules} ->
      if elem(id, 0) == kind, do: pid
    end)
  end

  defp stop_httpd(nil), do: :ok

  defp stop_httpd(%{supervisor: supervisor}) do
    monitor = Process.monitor(supervisor)
    Process.exit(supervisor, :shutdown)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    after
      @stop_ms -> Process.exit(supervisor, :kill)
    end
  end

  # httpd's own limits are for requests that it has; this is for those that do not arrive, for connections
  # that it should forget about, and for those beyond what is answered, which it does not count.
  defp end_old_connections(%{httpd: nil} = state), do: state

  defp end_old_connections(state) do
    now = Clock.now_ms()
    %{connection_ms: limit_ms, clients: clients} = state.limits

    seen_ms =
      for {_id, pid, _type, _modules} <- connections(state.httpd), into: %{} do
        {pid, Map.get(state.seen_ms, pid, now)}
      end

    for {pid, since} <- seen_ms,
        now - since >= 1_000 * state.limits.headers_s,
        do: Httpd.arrival_is_over(pid)

    for {pid, since} <- seen_ms, now - since > limit_ms do
      Process.exit(pid, if(now - since > 2 * limit_ms, do: :kill, else: {:shutdown, :too_slow}))
    end

    youngest_first = Enum.sort_by(seen_ms, fn {_pid, since} -> -since end)

    for {pid, _since} <- Enum.drop(youngest_first, 2 * clients),
        do: Process.exit(pid, {:shutdown, :too_many})

    %{state | seen_ms: seen_ms}
  end

  defp connections(httpd) do
    Supervisor.which_children(httpd.connections)
  catch
    # It has ended, of which its monitor tells.
    :exit, _reason -> []
  end

  defp publish(state, known) do
    {_new, _old} =
      Registry.update_value(Lookup.registry(), key(state.config.instance), fn _ -> known end)

    :ok
  end

  defp title(state), do: "The HTTP endpoint of #{inspect(state.config.instance)}"

  defp where(state, 0), do: "a free port of #{:inet.ntoa(state.http.ip)}"
  defp where(state, port), do: "port #{port} of #{:inet.ntoa(state.http.ip)}"

  defp words(:httpd_failed), do: "httpd has not started, and has logged why"

  defp words(reason) when is_atom(reason), do: "#{:inet.format_error(reason)} (#{reason})"
  defp words(reason), do: inspect(reason)
end
