defmodule Bridge do
  @moduledoc """
  Python classes from Elixir: a pool of Python processes that hold instances under refs.

      {:ok, _} = Bridge.start_link(workers: 2)
      {:ok, ref} = Bridge.create_instance("Tokenizer", %{pattern: "[a-z]+"})
      {:ok, %{"tokens" => _}} = Bridge.call_method(ref, "count", ["difflib"])

  `create_instance/3` and `call_method/4` return `{:error, exception}` when Python raises, when
  the worker dies or when the pool has none to give; the functions with `!` raise that
  exception. Telemetry sees the same difference: a stop with `success: false`, or an exception
  event.

  The span of an operation is what the caller waited for, with the time in the queue.
  """

  alias Bridge.{Cache, Pool, PoolError, PythonError, Session, WorkerError}
  alias DSPexTelemetry.Emit

  @type ref :: String.t()
  @type error :: PythonError.t() | WorkerError.t() | PoolError.t()
  @type option ::
          {:session, Session.id()}
          | {:timeout, pos_integer()}
          | {:cache, boolean()}
          | {:worker, String.t()}

  # Milliseconds Python may take for one request before its worker is replaced.
  @timeout 30_000

  @doc """
  Starts the pool, the sessions and what they need, linked to the caller.

  Options: `:workers` (4), `:answer` (`&Bridge.Upcall.answer/1`, what answers Python's questions),
  `:python` (the `python3` on the PATH) and `:handicaps`, which makes workers slow or failing: their
  ids (`"worker-1"` is the first) with options of `priv/python/handicap.py`.
  """
  @spec start_link(keyword()) :: Supervisor.on_start()
  defdelegate start_link(options \\ []), to: Bridge.Supervisor

  @doc false
  defdelegate child_spec(options), to: Bridge.Supervisor

  @doc """
  Creates an instance of a Python class; `args` are the keyword arguments of its constructor.

  With `session: id` the instance lives as long as the session; with `worker: id` in that worker.
  """
  @spec create_instance(String.t(), map(), [option()]) :: {:ok, ref()} | {:error, error()}
  def create_instance(class, args \\ %{}, options \\ []) do
    Emit.create_instance(%{python_class: class, args: args}, fn ->
      create(class, args, options)
    end)
  end

  @doc "As `create_instance/3`, but raises."
  @spec create_instance!(String.t(), map(), [option()]) :: ref()
  def create_instance!(class, args \\ %{}, options \\ []) do
    {:ok, ref} =
      Emit.create_instance(%{python_class: class, args: args}, fn ->
        {:ok, unwrap!(create(class, args, options))}
      end)

    ref
  end

  @doc """
  Calls a method of an instance with positional arguments, in the worker that holds it.

  `session: id` lets the method use the session's variables. `cache: true` is for pure methods:
  the result is taken from `Bridge.Cache` when the same call has been made before.
  """
  @spec call_method(ref(), String.t(), list(), [option()]) :: {:ok, term()} | {:error, error()}
  def call_method(ref, method, args \\ [], options \\ []) do
    Emit.call_method(method_metadata(ref, method, args, options), fn ->
      {outcome, cached?} = call(ref, method, args, options)
      Emit.result(outcome, %{cached: cached?})
    end)
  end

  @doc "As `call_method/4`, but returns the bare value and raises on errors."
  @spec call_method!(ref(), String.t(), list(), [option()]) :: term()
  def call_method!(ref, method, args \\ [], options \\ []) do
    Emit.call_method(method_metadata(ref, method, args, options), fn ->
      {outcome, cached?} = call(ref, method, args, options)
      Emit.result(unwrap!(outcome), %{cached: cached?})
    end)
  end

  defp method_metadata(ref, method, args, options) do
    %{ref: ref, method: method, args: args, session_id: options[:session]}
  end

  defp unwrap!({:ok, value}), do: value
  defp unwrap!({:error, exception}), do: raise(exception)

  defp create(class, args, options) do
    # Unique for the life of the BEAM, so that a ref never names two instances.
    ref = "#{class}-#{System.unique_integer([:positive])}"
    session = options[:session]
    request = %{op: "create", ref: ref, class: class, args: args, session: session}

    target = if worker = options[:worker], do: {:worker, worker}, else: :any

    with {:ok, ^ref} <- Pool.run(target, "create_instance", request, timeout(options)) do
      if session, do: Session.own(session, ref)
      {:ok, ref}
    end
  end

  defp call(ref, method, args, options) do
    if session = options[:session], do: Session.touch(session)

    case options[:cache] && Cache.fetch({ref, method, args}) do
      {:ok, value} -> {{:ok, value}, true}
      _ -> {call_python(ref, method, args, options), false}
    end
  end

  defp call_python(ref, method, args, options) do
    request = %{op: "call", ref: ref, method: method, args: args, session: options[:session]}

    with {:ok, value} <- Pool.run({:ref, ref}, "call_method", request, timeout(options)) do
      if options[:cache], do: Cache.put({ref, method, args}, value)
      {:ok, value}
    end
  end

  defp timeout(options), do: Keyword.get(options, :timeout, @timeout)
end
