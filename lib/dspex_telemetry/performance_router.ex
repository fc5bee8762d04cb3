defmodule DSPexTelemetry.PerformanceRouter do
  @moduledoc """
  Sends requests to the worker that is expected to answer first.

      DSPexTelemetry.PerformanceRouter.run("search", %{query: "beam"}, fn worker_id ->
        MyPool.call(worker_id, "search", %{query: "beam"})
      end)

  A request goes to the best of up to `choices` workers by latency × (in flight + 1) × a penalty for
  failures. Workers that fail are left out for a while, new ones get less at first, and now and then an
  idle one is tried to see how it does. It all happens in the calling process, in Rust: there is no
  process on the way. `docs/routing.md` has the algorithm, the options (`router: [...]` of an instance)
  and a simulation against simpler ways.

  ## Workers

  An instance asks Snakepit for its workers when it starts, and learns others from the events of Snakepit and of a bridge that
  name them. `put_workers/2` gives them by hand. Ids are text: atoms and integers may be given, and come back as strings.

  ## What is learned, and what is in flight

  Three ways to send a request, the best first:

    * `run/4` measures, reports and releases, whatever happens.
    * `checkout/3` returns a ticket, and `complete/3` reports the end. The request is in flight until
      then. When the process that has checked it out ends before, or the ticket is garbage, it is
      released too, so nothing is ever in flight that is not.
    * `route_request/3` only tells the worker. Nobody may ever report the end of such a request, so it is
      not counted as in flight but *presumed*: it fades with the usual latency as its mean life, which
      for steady traffic adds up to what is in flight on average (Little's law). Nothing is monitored,
      and nothing can leak. How it ends is learned from an execution of Snakepit, or from
      `[:dspex, :bridge, :call_method, :stop]` or `:exception` with the `worker_id` in its metadata.

  An event of a worker that has requests by ticket in flight and none presumed belongs to one of those,
  and is left to its ticket. Waits in the pool's queue are learned from `[:snakepit, :pool, :queue_time]`
  where it tells the worker.

  ## Sticky requests

  `sticky: key` keeps requests with the same key, any term, on one worker while that is well. Where the
  arguments are a map with a `:ref` or `"ref"`, this is the key by itself (`affinity: false` turns that
  off), since what it refers to lives in one Python process. `[:dspex, :bridge, :create_instance, :stop]`
  with `ref` and `worker_id`, and `bind/3`, tell which: requests with the reference then go there, well
  or not, as long as the worker is in the pool.

  Every function takes `instance:`, and raises `ArgumentError` if none of that name is running.
  """

  alias DSPexTelemetry.{Emit, Native}
  alias DSPexTelemetry.Instance.Lookup
  alias DSPexTelemetry.PerformanceRouter.Ticket

  @typedoc "What a request is for: text of at most 256 bytes, such as a method's name."
  @type command :: String.t() | atom() | integer()

  @typedoc """
  How a request ended. Failures count against the worker, so tell `:unknown` when it was not the
  worker's fault.
  """
  @type outcome :: :success | :failure | :unknown

  @outcomes [:success, :failure, :unknown]

  @doc """
  The worker for a request.

  Options, beside `:instance`:

    * `:sticky` - a key, any term; requests with the same key go to the same worker. `nil` is none.
    * `:affinity` - `false` if a reference in the arguments is not to be the key. Default: `true`.

  Returns `{:error, :no_workers}` while no worker is known.

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers(["python-1"])
      iex> PerformanceRouter.route_request("search", %{query: "beam"})
      {:ok, "python-1"}

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers([])
      iex> PerformanceRouter.route_request("search", %{query: "beam"})
      {:error, :no_workers}
  """
  @spec route_request(command(), term(), keyword()) :: {:ok, String.t()} | {:error, :no_workers}
  def route_request(command, args, opts \\ [])

  # The common case without a look at options.
  def route_request(command, args, []) do
    case Native.route(DSPexTelemetry, command, reference(args)) do
      {_ok_or_error, _worker_or_why} = routed -> routed
      refused -> refuse!(refused, DSPexTelemetry, command)
    end
  end

  def route_request(command, args, opts) do
    {name, key} = request!(args, opts)

    case Native.route(name, command, key) do
      {_ok_or_error, _worker_or_why} = routed -> routed
      refused -> refuse!(refused, name, command)
    end
  end

  @doc """
  The worker for a request whose end will be reported by `complete/3`.

  Options are those of `route_request/3`.

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers(["python-1"])
      iex> {:ok, ticket} = PerformanceRouter.checkout("search", %{query: "beam"})
      iex> ticket.worker_id
      "python-1"
      iex> PerformanceRouter.complete(ticket, :success)
      :ok
  """
  @spec checkout(command(), term(), keyword()) :: {:ok, Ticket.t()} | {:error, :no_workers}
  def checkout(command, args, opts \\ []) do
    {name, key} = request!(args, opts)

    case Native.checkout(name, command, key) do
      {:ok, native, worker_id} -> {:ok, %Ticket{worker_id: worker_id, native: native}}
      {:error, :no_workers} = none -> none
      refused -> refuse!(refused, name, command)
    end
  end

  @doc """
  Reports how a request ended, and takes it out of what is in flight.

  Option `:duration` says how long it took, in native time units; without it, it is the time since the
  checkout.

  Nothing is learned, and the reason is returned, when the ticket was completed before
  (`{:error, :completed}`), or its worker has left the pool (`{:error, :worker_gone}`) or its instance
  has stopped (`{:error, :stopped}`) meanwhile.

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers(["python-1"])
      iex> {:ok, ticket} = PerformanceRouter.checkout("search", %{query: "beam"})
      iex> PerformanceRouter.complete(ticket, :failure, duration: 1_000)
      :ok
      iex> PerformanceRouter.complete(ticket, :failure)
      {:error, :completed}
  """
  @spec complete(Ticket.t(), outcome(), keyword()) ::
          :ok | {:error, :completed | :worker_gone | :stopped}
  def complete(%Ticket{native: native}, outcome, opts \\ []) do
    outcome = outcome!(outcome)

    case Native.complete(native, outcome, duration!(Keyword.pop(opts, :duration))) do
      :ok -> :ok
      why_not -> {:error, why_not}
    end
  end

  @doc """
  Routes a request, runs `fun` with the worker's id, reports how it went, and returns what `fun` returns.

  `:error` and `{:error, _}` are failures, everything else is a success; option `:outcome` is a function
  that says otherwise. What `fun` raises, throws or exits with is a failure, and is passed on. Other
  options are those of `route_request/3`.

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers(["python-1"])
      iex> PerformanceRouter.run("search", %{query: "beam"}, fn worker_id -> {:ok, worker_id} end)
      {:ok, "python-1"}
  """
  @spec run(command(), term(), (String.t() -> result), keyword()) ::
          result | {:error, :no_workers}
        when result: term()
  def run(command, args, fun, opts \\ []) when is_function(fun, 1) do
    {judge, opts} = Keyword.pop(opts, :outcome, &outcome/1)

    with {:ok, ticket} <- checkout(command, args, opts) do
      try do
        result = fun.(ticket.worker_id)
        {result, outcome!(judge.(result))}
      catch
        kind, reason ->
          complete(ticket, :failure)
          :erlang.raise(kind, reason, __STACKTRACE__)
      else
        {result, outcome} ->
          complete(ticket, outcome)
          result
      end
    end
  end

  @doc """
  Declares which workers there are. Those that were known stay as they are, others join or leave.

  Returns how many were added and removed, and how many found no room (option `worker_limit`). Events
  of workers that start and die go on to count.

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers([])
      iex> PerformanceRouter.put_workers(["python-1", "python-2"])
      %{added: 2, removed: 0, refused: 0}
      iex> PerformanceRouter.put_workers(["python-2"])
      %{added: 0, removed: 1, refused: 0}
  """
  @spec put_workers([String.t() | atom() | integer()], keyword()) :: %{
          added: non_neg_integer(),
          removed: non_neg_integer(),
          refused: non_neg_integer()
        }
  def put_workers(ids, opts \\ []) do
    unless is_list(ids) and List.improper?(ids) == false and Enum.all?(ids, &text?/1) do
      raise ArgumentError,
            "worker ids must be a list of strings, atoms or integers, got: #{inspect(ids)}"
    end

    {added, removed, refused} = Native.put_workers(native!(opts), ids)
    %{added: added, removed: removed, refused: refused}
  end

  @doc """
  Says that what a key names lives in a worker: requests with the key go there as long as the worker is
  in the pool. `{:error, :unknown_worker}` if it is not.

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers(["python-1", "python-2"])
      iex> PerformanceRouter.bind("ref-1", "python-2")
      :ok
      iex> PerformanceRouter.route_request("search", %{ref: "ref-1"})
      {:ok, "python-2"}
  """
  @spec bind(term(), String.t() | atom() | integer(), keyword()) ::
          :ok | {:error, :unknown_worker}
  def bind(key, worker_id, opts \\ []) do
    unless text?(worker_id) do
      raise ArgumentError,
            "a worker id must be a string, an atom or an integer, got: #{inspect(worker_id)}"
    end

    if Native.bind_to_worker(native!(opts), key(key), worker_id),
      do: :ok,
      else: {:error, :unknown_worker}
  end

  @doc """
  How a request for a command would be decided now. Changes nothing.

  A map with the `:command`, `:usual_us`, how long it usually takes in microseconds (`nil` if unknown),
  and `:candidates`: the workers, best first, ejected ones last. Each has

    * `:worker_id`, and its `:score`, of which the least wins: microseconds that an answer is expected to
      cost
    * `:latency_us`, and `:latency_from`: `"command"` if it was measured, `"worker"` if it was
      concluded from how slow the worker is in general, else `"usual"`
    * `:in_flight`, presumed requests included, and `:queue_wait_us`
    * `:error_rate` of all its requests lately, `:successes` and `:failures` of the command
    * `:ejected_for_ms`, `nil` if it is not ejected, and `:ejections`, how often it was
    * `:share`, 0 to 1, of the command's requests that it got

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Explained, router: [])
      iex> DSPexTelemetry.PerformanceRouter.put_workers(["w-1"], instance: MyApp.Explained)
      iex> [worker] = DSPexTelemetry.PerformanceRouter.explain("ask", instance: MyApp.Explained).candidates
      iex> {worker.worker_id, worker.latency_from, worker.ejected_for_ms}
      {"w-1", "usual", nil}
  """
  @spec explain(command(), keyword()) :: map()
  def explain(command, opts \\ []) do
    unless text?(command), do: refuse!(:invalid_command, nil, command)
    Native.explain_routing(native!(opts), command)
  end

  @doc """
  How all workers do.

  A map with `:workers` (by id: `:tickets` in flight, `:presumed`, `:slowness`, `:queue_wait_us`,
  `:error_rate`, `:decisions`, `:abandoned`, `:ejected_for_ms`, `:ejections`, `:warmth`), the `:commands`
  that are told apart, `:decisions` by reason (`"best"`, `"explore"`, `"sticky"`, `"rendezvous"`,
  `"bound"`, `"panic"`), `:sticky_keys`, and `:refused` workers.

      iex> alias DSPexTelemetry.PerformanceRouter
      iex> PerformanceRouter.put_workers(["python-1"])
      iex> [worker] = PerformanceRouter.report().workers
      iex> {worker.worker_id, worker.tickets}
      {"python-1", 0}
  """
  @spec report(keyword()) :: map()
  def report(opts \\ []), do: opts |> native!() |> Native.router_report()

  defp native!(opts), do: opts |> DSPexTelemetry.instance!() |> Lookup.native!()

  defp request!(args, opts) do
    {sticky, opts} = Keyword.pop(opts, :sticky)
    {affinity, opts} = Keyword.pop(opts, :affinity, true)

    unless is_boolean(affinity) do
      raise ArgumentError, "option :affinity must be true or false, got: #{inspect(affinity)}"
    end

    key = key(sticky) || if affinity, do: reference(args)
    {DSPexTelemetry.instance!(opts), key}
  end

  defp reference(%{ref: reference}) when reference != nil, do: reference
  defp reference(%{"ref" => reference}), do: reference
  defp reference(_args), do: nil

  # Text as it comes, so that a key is the same as a reference of an event; other terms as a whole.
  defp key(key) when is_binary(key) or is_atom(key) or is_integer(key), do: key
  defp key(key), do: :erlang.term_to_binary(key, [:deterministic])

  defp text?(term), do: is_binary(term) or is_atom(term) or is_integer(term)

  defp outcome(result), do: if(Emit.success?(result), do: :success, else: :failure)

  defp outcome!(outcome) when outcome in @outcomes, do: outcome

  defp outcome!(other) do
    raise ArgumentError,
          "an outcome must be :success, :failure or :unknown, got: #{inspect(other)}"
  end

  defp duration!({nil, []}), do: nil

  defp duration!({duration, []}) when is_integer(duration) and duration >= 0 do
    nanoseconds = System.convert_time_unit(duration, :native, :nanosecond)
    min(nanoseconds, 0x7FFF_FFFF_FFFF_FFFF)
  end

  defp duration!({duration, []}) do
    raise ArgumentError,
          "option :duration must be native time, an integer from 0, got: #{inspect(duration)}"
  end

  defp duration!({_duration, [{name, _value} | _]}),
    do: raise(ArgumentError, "unknown option #{inspect(name)}, allowed is :duration")

  @spec refuse!(atom(), atom(), term()) :: no_return()
  defp refuse!(:not_running, name, _command) do
    _raises = Lookup.fetch!(name)
    raise ArgumentError, "instance #{inspect(name)} is starting or stopping"
  end

  defp refuse!(:invalid_command, _name, command) do
    raise ArgumentError,
          "a command must be a string, an atom or an integer of 64 bits, got: #{inspect(command)}"
  end

  defp refuse!(:panicked, _name, command),
    do: raise("routing #{inspect(command)} panicked, which is a bug; standard error has more")
end
