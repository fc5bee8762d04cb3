defmodule Bridge.Pool do
  @moduledoc """
  Who may use which worker, who waits for one, and which worker holds which ref.

  A caller checks a worker out, talks to it on its own and checks it in again. A request for a
  ref waits for the one worker that holds it, any other takes the first that is free; among
  those a worker can serve, the oldest goes first. The pool itself never waits for anything.

  A worker that ends is replaced. Its refs are gone with it: requests that wait for them are
  answered with an error at once, and so are later ones.
  """

  use GenServer

  alias Bridge.{JSON, PoolError, Python, Worker, WorkerError}
  alias DSPexTelemetry.Emit

  # Milliseconds a request may wait for a worker.
  @queue_timeout 30_000
  # Workers in a row that end before they say hello; then it is not bad luck.
  @failed_starts_allowed 3

  @type worker :: %{id: String.t(), pid: pid()}
  @type target :: :any | {:ref, Bridge.ref()} | {:worker, String.t()}
  @type status :: %{
          size: non_neg_integer(),
          spawned: non_neg_integer(),
          died: %{String.t() => pos_integer()},
          waiting: non_neg_integer()
        }

  @doc "Options as of `Bridge.start_link/1`."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc """
  Has a worker do a request: `command` is the name under which the wait for it is measured.
  """
  @spec run(target(), String.t(), map(), pos_integer()) ::
          {:ok, term()} | {:error, Bridge.error()}
  def run(target, command, request, timeout) do
    # Encoded before there is a worker to lose: arguments without JSON raise here.
    id = System.unique_integer([:positive])
    frame = request |> Map.put(:id, id) |> JSON.encode!()

    with {:ok, worker} <- checkout(target, command) do
      outcome = Worker.request(worker, id, frame, timeout)
      check_in(worker, request, outcome)
      outcome
    end
  end

  @doc "Lets instances go, in whichever workers they are."
  @spec release([Bridge.ref()]) :: :ok
  def release(refs), do: GenServer.cast(__MODULE__, {:release, refs})

  @doc "Returns when every worker is ready, also one that is being replaced."
  @spec await_ready() :: :ok | {:error, PoolError.t()}
  def await_ready, do: ask(:await_ready)

  @doc "How many workers live, were ever ready, died of what, and how many requests wait."
  @spec status() :: status() | {:error, PoolError.t()}
  def status, do: ask(:status)

  @doc "The ids of the workers that are ready, the oldest first."
  @spec workers() :: [String.t()] | {:error, PoolError.t()}
  def workers, do: ask(:workers)

  @doc false
  # A worker says that its Python is there.
  def ready(pid), do: GenServer.cast(__MODULE__, {:ready, pid})

  defp checkout(target, command) do
    asked = System.monotonic_time()

    with {:ok, worker} <- ask({:checkout, target}) do
      waited = System.convert_time_unit(System.monotonic_time() - asked, :native, :microsecond)
      Emit.queue_time(%{wait_time_us: waited}, %{worker_id: worker.id, command: command})
      {:ok, worker}
    end
  end

  defp check_in(worker, _request, {:error, %WorkerError{}}) do
    GenServer.cast(__MODULE__, {:lost, worker.pid})
  end

  defp check_in(worker, %{op: "create", ref: ref}, {:ok, _}) do
    GenServer.cast(__MODULE__, {:check_in, worker.pid, [ref]})
  end

  defp check_in(worker, _request, _outcome) do
    GenServer.cast(__MODULE__, {:check_in, worker.pid, []})
  end

  # Without a timeout: the pool answers everything, and gives up on waits itself.
  defp ask(message) do
    GenServer.call(__MODULE__, message, :infinity)
  catch
    :exit, _ -> {:error, %PoolError{reason: :stopped}}
  end

  @impl true
  def init(options) do
    pool = %{
      answer: Keyword.get(options, :answer, &Bridge.Upcall.answer/1),
      python: Keyword.get(options, :python, "python3"),
      interpreter: nil,
      handicaps: Keyword.get(options, :handicaps, %{}),
      wanted: Keyword.get(options, :workers, 4),
      # pid => %{id, state: :starting | :free | {:held_by, monitor} | :ending}
      workers: %{},
      # Free workers, the one that has rested longest first, so that instances spread.
      free: [],
      # [%{from, target, monitor, timer}], the oldest first
      waiting: [],
      # ref => the pid of its worker
      refs: %{},
      awaiting_ready: [],
      next_id: 1,
      failed_starts: 0,
      # Why no worker can be started, once that is known.
      broken: nil,
      spawned: 0,
      died: %{}
    }

    {:ok, pool, {:continue, :start}}
  end

  @impl true
  def handle_continue(:start, pool) do
    case Python.find(pool.python) do
      {:ok, interpreter} ->
        pool = %{pool | interpreter: interpreter}
        {:noreply, Enum.reduce(1..pool.wanted, pool, fn _, pool -> start_worker(pool) end)}

      {:error, what} ->
        {:noreply, give_up(pool, what)}
    end
  end

  @impl true
  def handle_call(_request, _from, %{broken: %PoolError{} = error} = pool) do
    {:reply, {:error, error}, pool}
  end

  def handle_call({:checkout, target}, {caller, _} = from, pool) do
    case target(target, pool) do
      nil ->
        {:reply, {:error, unknown(target)}, pool}

      target ->
        monitor = Process.monitor(caller)
        timer = Process.send_after(self(), {:queue_timeout, monitor}, @queue_timeout)
        request = %{from: from, target: target, monitor: monitor, timer: timer}
        {:noreply, serve(%{pool | waiting: pool.waiting ++ [request]})}
    end
  end

  def handle_call(:await_ready, from, pool) do
    {:noreply, tell_if_ready(%{pool | awaiting_ready: [from | pool.awaiting_ready]})}
  end

  def handle_call(:workers, _from, pool) do
    ids = for {_pid, worker} <- pool.workers, ready?(worker), do: worker.id
    # worker-10 is younger than worker-9.
    {:reply, Enum.sort_by(ids, &{byte_size(&1), &1}), pool}
  end

  def handle_call(:status, _from, pool) do
    status = %{
      size: Enum.count(pool.workers, fn {_, worker} -> ready?(worker) end),
      spawned: pool.spawned,
      died: pool.died,
      waiting: length(pool.waiting)
    }

    {:reply, status, pool}
  end

  @impl true
  def handle_cast({:ready, pid}, pool) do
    pool = %{pool | spawned: pool.spawned + 1, failed_starts: 0}
    {:noreply, pool |> free(pid) |> serve() |> tell_if_ready()}
  end

  # A worker that died meanwhile is not among the workers any more.
  def handle_cast({:lost, pid}, pool) when not is_map_key(pool.workers, pid) do
    {:noreply, pool}
  end

  def handle_cast({:check_in, pid, _refs}, pool) when not is_map_key(pool.workers, pid) do
    {:noreply, pool}
  end

  # The caller knows of the worker's death before its :DOWN is here.
  def handle_cast({:lost, pid}, pool) do
    {:held_by, monitor} = pool.workers[pid].state
    Process.demonitor(monitor, [:flush])
    {:noreply, put_in(pool.workers[pid].state, :ending)}
  end

  def handle_cast({:check_in, pid, refs}, pool) do
    {:held_by, monitor} = pool.workers[pid].state
    Process.demonitor(monitor, [:flush])
    pool = %{pool | refs: Map.merge(pool.refs, Map.new(refs, &{&1, pid}))}
    {:noreply, pool |> free(pid) |> serve()}
  end

  def handle_cast({:release, refs}, pool) do
    {gone, refs_left} = Map.split(pool.refs, refs)

    gone
    |> Enum.group_by(fn {_ref, pid} -> pid end, fn {ref, _pid} -> ref end)
    |> Enum.each(fn {pid, refs} -> Worker.release(pid, refs) end)

    {:noreply, %{pool | refs: refs_left}}
  end

  @impl true
  def handle_info({:queue_timeout, monitor}, pool) do
    {late, waiting} = Enum.split_with(pool.waiting, &(&1.monitor == monitor))
    refuse(late, %PoolError{reason: :queue_timeout})
    {:noreply, %{pool | waiting: waiting}}
  end

  def handle_info({:DOWN, _monitor, :process, pid, reason}, pool)
      when is_map_key(pool.workers, pid) do
    {worker, workers} = Map.pop!(pool.workers, pid)
    {lost, waiting} = Enum.split_with(pool.waiting, &(&1.target == pid))
    refuse(lost, %WorkerError{worker_id: worker.id, reason: why(reason)})

    with {:held_by, monitor} <- worker.state, do: Process.demonitor(monitor, [:flush])

    pool = %{
      pool
      | workers: workers,
        waiting: waiting,
        free: List.delete(pool.free, pid),
        refs: Map.reject(pool.refs, fn {_ref, holder} -> holder == pid end)
    }

    {:noreply, pool |> count_death(worker, why(reason)) |> replace()}
  end

  # A caller died: while it waited, or while Python worked for it. In the second case nobody knows
  # how long Python will still be busy, so the worker goes too.
  def handle_info({:DOWN, monitor, :process, _caller, _reason}, pool) do
    {left, waiting} = Enum.split_with(pool.waiting, &(&1.monitor == monitor))
    Enum.each(left, &Process.cancel_timer(&1.timer))

    workers =
      Map.new(pool.workers, fn
        {pid, %{state: {:held_by, ^monitor}} = worker} ->
          Worker.stop(pid, :caller_died)
          {pid, %{worker | state: :ending}}

        other ->
          other
      end)

    {:noreply, %{pool | waiting: waiting, workers: workers}}
  end

  # Workers

  defp start_worker(pool) do
    id = "worker-#{pool.next_id}"

    settings = %{
      id: id,
      interpreter: pool.interpreter,
      arguments: Map.get(pool.handicaps, id, []),
      answer: pool.answer
    }

    {:ok, pid} = DynamicSupervisor.start_child(Bridge.WorkerSupervisor, {Worker, settings})
    Process.monitor(pid)

    %{
      pool
      | workers: Map.put(pool.workers, pid, %{id: id, state: :starting}),
        next_id: pool.next_id + 1
    }
  end

  defp count_death(pool, %{state: :starting}, _reason) do
    %{pool | failed_starts: pool.failed_starts + 1}
  end

  defp count_death(pool, _worker, reason) do
    %{pool | died: Map.update(pool.died, reason_name(reason), 1, &(&1 + 1))}
  end

  defp replace(%{failed_starts: failed} = pool) when failed >= @failed_starts_allowed do
    give_up(pool, "#{failed} in a row ended before they were ready")
  end

  defp replace(pool), do: start_worker(pool)

  defp give_up(pool, what) do
    error = %PoolError{reason: {:python, what}}
    refuse(pool.waiting, error)
    Enum.each(pool.awaiting_ready, &GenServer.reply(&1, {:error, error}))
    %{pool | broken: error, waiting: [], awaiting_ready: []}
  end

  defp tell_if_ready(pool) do
    if Enum.all?(pool.workers, fn {_, worker} -> ready?(worker) end) do
      Enum.each(pool.awaiting_ready, &GenServer.reply(&1, :ok))
      %{pool | awaiting_ready: []}
    else
      pool
    end
  end

  defp ready?(worker), do: worker.state not in [:starting, :ending]

  # The queue

  defp target(:any, _pool), do: :any
  defp target({:ref, ref}, pool), do: pool.refs[ref]

  defp target({:worker, id}, pool) do
    Enum.find_value(pool.workers, fn {pid, worker} -> if worker.id == id, do: pid end)
  end

  defp unknown({:ref, ref}), do: %PoolError{reason: {:unknown_ref, ref}}
  defp unknown({:worker, id}), do: %PoolError{reason: {:unknown_worker, id}}

  defp free(pool, pid) do
    %{put_in(pool.workers[pid].state, :free) | free: pool.free ++ [pid]}
  end

  # Gives free workers to those who wait, until no pair is left.
  defp serve(pool) do
    case Enum.find(pool.waiting, &servable?(&1, pool)) do
      nil -> pool
      request -> request |> give(pool) |> serve()
    end
  end

  defp servable?(%{target: :any}, pool), do: pool.free != []
  defp servable?(%{target: pid}, pool), do: pid in pool.free

  defp give(request, pool) do
    pid = if request.target == :any, do: hd(pool.free), else: request.target
    Process.cancel_timer(request.timer)
    GenServer.reply(request.from, {:ok, %{id: pool.workers[pid].id, pid: pid}})

    pool = put_in(pool.workers[pid].state, {:held_by, request.monitor})
    %{pool | free: List.delete(pool.free, pid), waiting: List.delete(pool.waiting, request)}
  end

  defp refuse(requests, error) do
    for request <- requests do
      Process.cancel_timer(request.timer)
      Process.demonitor(request.monitor, [:flush])
      GenServer.reply(request.from, {:error, error})
    end
  end

  defp why({:shutdown, reason}), do: reason
  defp why(reason) when is_atom(reason), do: reason
  defp why(_crash), do: :crash

  defp reason_name({kind, _detail}), do: Atom.to_string(kind)
  defp reason_name(reason), do: Atom.to_string(reason)
end
