defmodule DSPexTelemetry.Push do
  @moduledoc """
  Sends an instance's metrics to a server, where none can come and scrape them.

      {DSPexTelemetry,
       name: MyApp.Telemetry,
       push: [
         url: "http://pushgateway:9091/metrics/job/my_app/instance/host-1",
         interval: 15_000
       ]}

  The server is a Prometheus Pushgateway, or one that imports Prometheus' text format, such as
  VictoriaMetrics at `/api/v1/import/prometheus`. The options are those of `:push` in
  `DSPexTelemetry.Options`.

  What is sent is the text of `DSPexTelemetry.scrape/1`, rendered at the moment it is sent. At most one
  push is under way. If the time for the next comes meanwhile, it waits, and so do all after it, as one:
  nothing else is queued, so nothing gets stale. Counts are since the instance's start, so a push that
  fails loses nothing as long as a later one arrives.

    * **A failure** is tried again after a random time between `:retry_floor` and that time doubled with
      each failure, at most `:retry_ceiling`. A server that answers 429 or 503 with `Retry-After` gets that
      long in addition, up to five minutes. Other answers of 300 to 499, 408 aside, are not tried again before
      the next interval, as the same request would fail again. Redirects are not followed.
    * **An outage** is logged once: as a warning when it begins, with the reason, and when it is over, with
      its length and the number of failed pushes. `counts/1`, `DSPexTelemetry.info/1` and the
      metric `dspex_telemetry_push_total` count every try.
    * **The first push** comes at a random time within the first interval, so that many nodes that are started
      together do not push together. The last one is made when the instance stops in order, and may
      take `:stop_timeout`.
    * **TLS** is verified: the certificate, by those of the system or of `:cacertfile`, and its name.
    * **Secrets** (`:auth`, `:headers`) are in no log, and in no process's state but while a push is under way.
      An address with a password is refused; the log leaves its query out.

  Pushes are made by processes of their own, with `httpc`. Recording never waits for them, and their failure,
  or that of this process, ends nothing else.
  """

  use GenServer

  require Logger

  alias DSPexTelemetry.{Instance, Options}
  alias DSPexTelemetry.Delivery.{Address, Attempt, Backoff, Outcome}
  alias DSPexTelemetry.Report.Table

  # What is known of an instance's pushes. It belongs to the instance, so that it outlives this process
  # and is read without asking it.
  @success 1
  @failure 2
  @last_success_unix_ms 3
  @outage_since_unix_ms 4
  @outage_since_ms 5
  @outage_failures 6

  @typedoc """
  Times are milliseconds since 1970; `nil` if there was no success, or if there is no outage.
  """
  @type status :: %{
          success: non_neg_integer(),
          failure: non_neg_integer(),
          last_success_unix_ms: pos_integer() | nil,
          outage_since_unix_ms: pos_integer() | nil
        }

  @doc """
  How many pushes have succeeded and failed since the instance started, retries included; `nil` if it does
  not push.

      iex> DSPexTelemetry.Push.counts(DSPexTelemetry)
      nil

      iex> {:ok, _pid} =
      ...>   DSPexTelemetry.start_link(name: MyApp.Pushing, push: [url: "http://localhost:9091/metrics/job/my_app"])
      iex> DSPexTelemetry.Push.counts(MyApp.Pushing)
      %{success: 0, failure: 0}

  Raises `ArgumentError` if no instance of that name is running.
  """
  @spec counts(atom()) :: %{success: non_neg_integer(), failure: non_neg_integer()} | nil
  def counts(instance) do
    with %{} = status <- status(Instance.fetch!(instance)),
         do: Map.take(status, [:success, :failure])
  end

  @doc false
  @spec status(Instance.handle()) :: status() | nil
  def status(%{push: nil}), do: nil

  def status(%{push: ref}) do
    %{
      success: :atomics.get(ref, @success),
      failure: :atomics.get(ref, @failure),
      last_success_unix_ms: time(ref, @last_success_unix_ms),
      outage_since_unix_ms: time(ref, @outage_since_unix_ms)
    }
  end

  defp time(ref, index) do
    case :atomics.get(ref, index) do
      0 -> nil
      unix_ms -> unix_ms
    end
  end

  @doc false
  # Where an instance keeps what is known of its pushes.
  @spec new_status(Options.t()) :: :atomics.atomics_ref() | nil
  def new_status(%{push: nil}), do: nil
  def new_status(_options), do: :atomics.new(@outage_failures, signed: true)

  @doc false
  # Under a supervisor of its own: however often it ends, the instance does not hear of it. It does nothing
  # before an interval has begun, so it cannot end over and over at once.
  def child_spec(options) do
    push = %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [options]},
      shutdown: options.push.stop_timeout + 5_000
    }

    %{
      id: __MODULE__,
      start:
        {Supervisor, :start_link,
         [[push], [strategy: :one_for_one, max_restarts: 1_000, max_seconds: 1]]},
      type: :supervisor,
      restart: :transient
    }
  end

  @doc false
  def start_link(options), do: GenServer.start_link(__MODULE__, options)

  @impl true
  def init(options) do
    # Attempts are linked to us, and `terminate/2` pushes a last time.
    Process.flag(:trap_exit, true)
    name = options.name

    state = %{
      instance: name,
      job: %{
        render: fn -> DSPexTelemetry.scrape(format: :text, instance: name) end,
        profile: profile(name),
        options: options.push
      },
      status: Instance.fetch!(name).push,
      # `:idle`, `{:pushing, pid, timer}` or `{:backing_off, timer}`
      phase: :idle,
      # Whether an interval has begun while a push was under way.
      again: false,
      tick_at: now_ms() + :rand.uniform(options.push.interval)
    }

    {:ok, schedule_tick(state)}
  end

  @impl true
  def handle_info(:tick, state) do
    state = schedule_tick(%{state | tick_at: next_tick(state)})

    case state.phase do
      :idle -> {:noreply, push(state)}
      {:pushing, _pid, _timer} -> {:noreply, %{state | again: true}}
      # The try that is to come sends what this one would.
      {:backing_off, _timer} -> {:noreply, state}
    end
  end

  def handle_info(:retry, %{phase: {:backing_off, _timer}} = state),
    do: {:noreply, push(%{state | phase: :idle})}

  def handle_info({:overdue, pid}, %{phase: {:pushing, pid, _timer}} = state) do
    kill(pid)
    {:noreply, go_on(state, note(state, Outcome.failure("timeout")))}
  end

  def handle_info({:EXIT, pid, reason}, %{phase: {:pushing, pid, timer}} = state) do
    Process.cancel_timer(timer)
    {:noreply, go_on(state, note(state, outcome(reason)))}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(reason, state) do
    if orderly?(reason), do: push_last(state, now_ms() + state.job.options.stop_timeout)
    :inets.stop(:httpc, state.job.profile)
  end

  defp orderly?({:shutdown, _why}), do: true
  defp orderly?(reason), do: reason in [:normal, :shutdown]

  # First whatever is under way, lest the server have it after the last one.
  defp push_last(%{phase: {:pushing, _pid, _timer}} = state, deadline),
    do: state |> await(deadline) |> push_last(deadline)

  defp push_last(state, deadline) do
    if deadline > now_ms() and instance_running?(state),
      do: state |> push() |> await(deadline)
  end

  defp await(%{phase: {:pushing, pid, timer}} = state, deadline) do
    receive do
      {:EXIT, ^pid, reason} ->
        Process.cancel_timer(timer)
        note(state, outcome(reason))
        %{state | phase: :idle}
    after
      max(deadline - now_ms(), 0) ->
        kill(pid)
        if state.job.options.stop_timeout > 0, do: note(state, Outcome.failure("timeout"))
        %{state | phase: :idle}
    end
  end

  # Not so if it has ended, and we are about to.
  defp instance_running?(%{status: status}) do
    Enum.any?(Instance.running(), fn {pid, handle} ->
      handle.push == status and Process.alive?(pid)
    end)
  end

  defp push(%{job: job} = state) do
    pid = Attempt.start_link(job)
    timer = Process.send_after(self(), {:overdue, pid}, job.options.timeout)
    %{state | phase: {:pushing, pid, timer}, again: false}
  end

  defp kill(pid) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
  end

  defp go_on(%{again: true} = state, :ok), do: push(state)

  defp go_on(state, {:retry_in, delay_ms}) do
    timer = Process.send_after(self(), :retry, delay_ms)
    %{state | phase: {:backing_off, timer}}
  end

  defp go_on(state, _until_the_next_interval), do: %{state | phase: :idle}

  defp outcome({:shutdown, {:pushed, outcome}}), do: outcome
  defp outcome(_killed), do: Outcome.failure("the process that pushes ended")

  # Counts an outcome, logs where an outage begins or ends, and says what comes next.
  defp note(%{status: status} = state, :ok) do
    :atomics.add(status, @success, 1)
    :atomics.put(status, @last_success_unix_ms, System.system_time(:millisecond))
    failures = :atomics.exchange(status, @outage_failures, 0)
    if :atomics.exchange(status, @outage_since_unix_ms, 0) != 0, do: log_end(state, failures)
    :ok
  end

  defp note(%{status: status} = state, {:error, failure}) do
    :atomics.add(status, @failure, 1)
    failures = :atomics.add_get(status, @outage_failures, 1)
    if :atomics.get(status, @outage_since_unix_ms) == 0, do: begin_outage(state, failure)

    if failure.retry do
      delay = Backoff.delay_ms(failures, state.job.options, :rand.uniform(), failure.after_ms)
      {:retry_in, delay}
    else
      :wait
    end
  end

  defp begin_outage(%{status: status} = state, failure) do
    :atomics.put(status, @outage_since_ms, Instance.now_ms())
    :atomics.put(status, @outage_since_unix_ms, System.system_time(:millisecond))

    Logger.warning(
      "Metrics of #{inspect(state.instance)} cannot be pushed to #{address(state)}: " <>
        "#{failure.reason}. They are pushed as soon as that works again"
    )
  end

  defp log_end(%{status: status} = state, failures) do
    duration_ms = Instance.now_ms() - :atomics.get(status, @outage_since_ms)

    Logger.info(
      "Metrics of #{inspect(state.instance)} are pushed to #{address(state)} again, after " <>
        "#{Table.duration(duration_ms * 1_000)} and #{failures} failed pushes"
    )
  end

  defp address(state), do: Address.show(state.job.options.url)

  # httpc makes atoms from it, one set for each name of an instance and shorter than an atom may be.
  defp profile(name) do
    <<digest::binary-size(8), _rest::binary>> = :crypto.hash(:sha256, Atom.to_string(name))
    :"dspex_telemetry_push_#{Base.encode16(digest, case: :lower)}"
  end

  defp schedule_tick(%{tick_at: at} = state) do
    Process.send_after(self(), :tick, at, abs: true)
    state
  end

  # On time even if this one was late, but never at once.
  defp next_tick(%{tick_at: at, job: %{options: %{interval: interval}}}) do
    next = at + interval
    if next > now_ms(), do: next, else: now_ms() + interval
  end

  defp now_ms, do: System.monotonic_time(:millisecond)
end
