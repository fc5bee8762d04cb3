defmodule DSPexTelemetry.Export.Delivery do
  @moduledoc false
  # Sends what an instance has counted to a server, again and again: intervals, retries and outages. What is
  # sent, and what an answer means, is up to the module that is the kind of the delivery: `DSPexTelemetry.Push`
  # or `DSPexTelemetry.OTLP`.
  #
  # This process never waits. Each delivery is made by a process of its own, `DSPexTelemetry.Export.Delivery.Attempt`.

  use GenServer

  require Logger

  alias DSPexTelemetry.{Native, Options}
  alias DSPexTelemetry.Export.Delivery.{Address, Attempt, Backoff, Outcome}
  alias DSPexTelemetry.Instance.{Clock, Lookup}
  alias DSPexTelemetry.Report.Table

  # What is known of an instance's deliveries. It belongs to the instance, so that it outlives this process
  # and is read without asking it.
  @success 1
  @failure 2
  @last_success_unix_ms 3
  @outage_since_unix_ms 4
  @outage_since_ms 5
  @outage_failures 6
  @lost 7

  @typedoc "What is sent; `points` is how many data points are lost if it is refused for good."
  @type request :: %{body: iodata(), points: non_neg_integer()}

  @typedoc """
  Bounds in bytes of a request, before it is compressed, and of an answer, and how many milliseconds a
  server's `Retry-After` is heeded for.
  """
  @type limits :: %{
          request_bytes: pos_integer() | :infinity,
          answer_bytes: pos_integer(),
          retry_after_ms: pos_integer()
        }

  @typedoc "How the log calls it: that it cannot be done, is done, and what was done."
  @type words :: %{cannot: String.t(), are: String.t(), noun: String.t()}

  @type status :: DSPexTelemetry.OTLP.status()

  @doc "The instance's options of this kind."
  @callback options(Options.t()) :: map() | nil

  @doc "Where the instance keeps what is known of its deliveries."
  @callback status_of(Lookup.handle()) :: :atomics.atomics_ref() | nil

  @doc "What is sent now. Called in a process that may end any time."
  @callback request(Lookup.name()) :: request()

  @callback content_type() :: String.t()

  @doc "Headers that `:headers` may have, though `:auth` would set them."
  @callback headers() :: [String.t()]

  @callback limits(options :: map()) :: limits()
  @callback words() :: words()

  @doc "What became of a request, by httpc's result. See `DSPexTelemetry.Export.Delivery.Outcome`."
  @callback outcome(result :: term(), request(), secrets :: [String.t()], now :: integer()) ::
              Outcome.t()

  @doc "Whether a request that has failed is sent again as it was, until `settle/1`."
  @callback resends?(options :: map()) :: boolean()

  @doc "Told when a request has been delivered, or refused for good."
  @callback settle(Native.instance()) :: :ok

  @doc "What is known of an instance's deliveries."
  @spec status(:atomics.atomics_ref() | nil) :: status() | nil
  def status(nil), do: nil

  def status(ref) do
    %{
      success: :atomics.get(ref, @success),
      failure: :atomics.get(ref, @failure),
      lost: :atomics.get(ref, @lost),
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

  @doc "Where what is known of deliveries is kept; `nil` without options."
  @spec new_status(map() | nil) :: :atomics.atomics_ref() | nil
  def new_status(nil), do: nil
  def new_status(_options), do: :atomics.new(@lost, signed: true)

  # Under a supervisor of its own: however often it ends, the instance does not hear of it. It does nothing
  # before an interval has begun, so it cannot end over and over at once.
  def child_spec({kind, options}) do
    delivery = %{
      id: kind,
      start: {__MODULE__, :start_link, [{kind, options}]},
      shutdown: kind.options(options).stop_timeout + 5_000
    }

    %{
      id: kind,
      start:
        {Supervisor, :start_link,
         [[delivery], [strategy: :one_for_one, max_restarts: 1_000, max_seconds: 1]]},
      type: :supervisor,
      restart: :transient
    }
  end

  def start_link(kind_and_options), do: GenServer.start_link(__MODULE__, kind_and_options)

  @impl true
  def init({kind, options}) do
    # Attempts are linked to us, and `terminate/2` delivers a last time.
    Process.flag(:trap_exit, true)
    name = options.name
    handle = Lookup.fetch!(name)
    options = kind.options(options)

    state = %{
      instance: name,
      job: %{kind: kind, instance: name, profile: profile(kind, name), options: options},
      native: handle.native,
      status: kind.status_of(handle),
      # `:idle`, `{:delivering, pid, timer}` or `{:backing_off, timer}`
      phase: :idle,
      # Whether an interval has begun while a delivery was under way.
      again: false,
      # Whether there is a request that has failed and is sent again as it was.
      unsettled: false,
      # What the server has remarked on the last request that it took.
      remark: nil,
      tick_at: now_ms() + :rand.uniform(options.interval)
    }

    {:ok, schedule_tick(state)}
  end

  @impl true
  def handle_info(:tick, state) do
    state = schedule_tick(%{state | tick_at: next_tick(state)})

    case state.phase do
      :idle -> {:noreply, deliver(state)}
      {:delivering, _pid, _timer} -> {:noreply, %{state | again: true}}
      # The try that is to come sends what this one would.
      {:backing_off, _timer} -> {:noreply, state}
    end
  end

  def handle_info(:retry, %{phase: {:backing_off, _timer}} = state),
    do: {:noreply, deliver(%{state | phase: :idle})}

  def handle_info({:overdue, pid}, %{phase: {:delivering, pid, _timer}} = state) do
    {state, next} = note(state, overdue(pid))
    {:noreply, go_on(state, next)}
  end

  def handle_info({:EXIT, pid, reason}, %{phase: {:delivering, pid, timer}} = state) do
    Process.cancel_timer(timer)
    {state, next} = note(state, outcome(reason))
    {:noreply, go_on(state, next)}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(reason, state) do
    if orderly?(reason), do: deliver_last(state, now_ms() + state.job.options.stop_timeout)
    :inets.stop(:httpc, state.job.profile)
  end

  defp orderly?({:shutdown, _why}), do: true
  defp orderly?(reason), do: reason in [:normal, :shutdown]

  # First whatever is under way, lest the server have it after the last one.
  defp deliver_last(%{phase: {:delivering, _pid, _timer}} = state, deadline),
    do: state |> await(deadline) |> deliver_last(deadline)

  defp deliver_last(state, deadline) do
    if deadline > now_ms() and instance_running?(state) do
      after_it = state |> deliver() |> await(deadline)
      # It was an old one, and what came in since is left.
      if state.unsettled and not after_it.unsettled, do: deliver_last(after_it, deadline)
    end
  end

  defp await(%{phase: {:delivering, pid, timer}} = state, deadline) do
    receive do
      {:EXIT, ^pid, reason} ->
        Process.cancel_timer(timer)
        {state, _next} = note(state, outcome(reason))
        %{state | phase: :idle}
    after
      max(deadline - now_ms(), 0) ->
        outcome = overdue(pid)

        {state, _next} =
          if state.job.options.stop_timeout > 0, do: note(state, outcome), else: {state, :wait}

        %{state | phase: :idle}
    end
  end

  # Not so if it has ended, and we are about to.
  defp instance_running?(%{status: status} = state) do
    Enum.any?(Lookup.running(), fn {pid, handle} ->
      state.job.kind.status_of(handle) == status and Process.alive?(pid)
    end)
  end

  defp deliver(%{job: job} = state) do
    pid = Attempt.start_link(job)
    timer = Process.send_after(self(), {:overdue, pid}, job.options.timeout)
    %{state | phase: {:delivering, pid, timer}, again: false}
  end

  # Ends an attempt whose time is over. It may have just ended itself.
  defp overdue(pid) do
    Process.unlink(pid)
    Process.exit(pid, :kill)

    receive do
      {:EXIT, ^pid, reason} -> outcome(reason)
    after
      0 -> Outcome.failure("timeout")
    end
  end

  defp go_on(%{again: true} = state, :ok), do: deliver(state)

  defp go_on(state, {:retry_in, delay_ms}) do
    timer = Process.send_after(self(), :retry, delay_ms)
    %{state | phase: {:backing_off, timer}}
  end

  defp go_on(state, _until_the_next_interval), do: %{state | phase: :idle}

  defp outcome({:shutdown, {:delivered, outcome}}), do: outcome
  defp outcome(_killed), do: Outcome.failure("the process that delivers ended")

  # Counts an outcome, logs where an outage begins or ends, and says what comes next.
  defp note(state, :ok), do: note(state, {:ok, nil})

  # What was lost is counted first, so that who sees a delivery sees what it has lost.
  defp note(%{status: status} = state, {:ok, remark}) do
    :atomics.add(status, @lost, if(remark, do: remark.lost, else: 0))
    :atomics.add(status, @success, 1)
    :atomics.put(status, @last_success_unix_ms, System.system_time(:millisecond))
    failures = :atomics.exchange(status, @outage_failures, 0)
    if :atomics.exchange(status, @outage_since_unix_ms, 0) != 0, do: log_end(state, failures)
    {state |> settle() |> note_remark(remark), :ok}
  end

  defp note(%{status: status} = state, {:error, failure}) do
    :atomics.add(status, @lost, Map.get(failure, :lost, 0))
    :atomics.add(status, @failure, 1)
    failures = :atomics.add_get(status, @outage_failures, 1)
    if :atomics.get(status, @outage_since_unix_ms) == 0, do: begin_outage(state, failure)

    if failure.retry do
      %{kind: kind, options: options} = state.job
      longest_ms = kind.limits(options).retry_after_ms
      delay = Backoff.delay_ms(failures, options, :rand.uniform(), failure.after_ms, longest_ms)
      {%{state | unsettled: kind.resends?(options)}, {:retry_in, delay}}
    else
      {settle(state), :wait}
    end
  end

  defp settle(state) do
    :ok = state.job.kind.settle(state.native)
    %{state | unsettled: false}
  end

  # What it says again and again is logged once.
  defp note_remark(state, nil), do: %{state | remark: nil}

  defp note_remark(state, remark) do
    if state.remark == nil or state.remark.reason != remark.reason do
      Logger.warning(
        "Metrics of #{inspect(state.instance)} are taken by #{address(state)}, " <>
          "#{remark.lost} data points aside: #{remark.reason}"
      )
    end

    %{state | remark: remark}
  end

  defp begin_outage(%{status: status} = state, failure) do
    :atomics.put(status, @outage_since_ms, Clock.now_ms())
    :atomics.put(status, @outage_since_unix_ms, System.system_time(:millisecond))

    words = state.job.kind.words()

    Logger.warning(
      "Metrics of #{inspect(state.instance)} #{words.cannot} #{address(state)}: " <>
        "#{failure.reason}. They #{words.are} as soon as that works again"
    )
  end

  defp log_end(%{status: status} = state, failures) do
    duration_ms = Clock.now_ms() - :atomics.get(status, @outage_since_ms)

    words = state.job.kind.words()

    Logger.info(
      "Metrics of #{inspect(state.instance)} #{words.are} to #{address(state)} again, after " <>
        "#{Table.duration(duration_ms * 1_000)} and #{failures} failed #{words.noun}"
    )
  end

  defp address(state), do: Address.show(state.job.options.url)

  # httpc makes atoms from it, one set for each kind and name of an instance and shorter than an atom may be.
  defp profile(kind, name) do
    <<digest::binary-size(8), _rest::binary>> = :crypto.hash(:sha256, Atom.to_string(name))
    noun = kind.words().noun
    :"dspex_telemetry_#{noun}_#{Base.encode16(digest, case: :lower)}"
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
