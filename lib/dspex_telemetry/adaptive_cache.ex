defmodule DSPexTelemetry.AdaptiveCache do
  @moduledoc """
  Caches the results of methods for which that is worth it, by what was measured of them.

      # Which methods may be cached at all is declared:
      {DSPexTelemetry, name: MyApp.Telemetry, cache: [cacheable: ["embed", {"Index", "search"}]]}

      AdaptiveCache.fetch("embed", [text], [ref: ref, instance: MyApp.Telemetry], fn ->
        Bridge.call(ref, "embed", [text])
      end)

  `fetch/4` returns what its function returns. It runs it if there is no result, once for all processes
  that ask for the same at the same time. This rule decides whether the result is then kept, and how long, from what was
  measured of the method:

    * it was called more than 100 times,
    * a cache has answered more than 0.3 of its recent calls, or would have: the keys of recent calls are
      remembered, with their results' hashes, whether the results are kept or not,
    * a result lives for 60 s × (1 − variance) × min(calls / 1000, 2), where the variance is the share of
      recent repetitions whose result had changed. A change that is seen shortens the lives of all
      results of the method, those that are kept already too.

  The numbers are options; see `cache` in `DSPexTelemetry.Options`, and docs/caching.md for how they are
  measured. `report/1` says for each method what was decided and why.

  What keeps it safe:

    * Only what is declared `cacheable:` is kept or answers other callers. Everything else runs as if
      there were no cache, and is only measured.
    * A result is found by reference, method, class and arguments, all of them compared. Equal arguments
      find each other however they are represented; `1` and `1.0` differ. Calls with a function or a bit
      string that is no binary among the arguments, or with arguments of more than `max_key_bytes`, run as if
      there were no cache; so do those with an integer of more than 8,192 bits.
    * Errors (`:error` and `{:error, _}`) are not kept, unless `error_ttl` says so.
    * When `invalidate/2` has returned, nobody gets a result whose run was started before, whether it
      had ended or not.
    * Results of an instance go with the worker in whose memory it lives, if `worker_id:` or the event
      of its creation said which that is.

  An instance without the option `cache`, or one that is just being restarted, caches nothing: `fetch/4`
  runs the function. There is no process on the way.
  """

  alias DSPexTelemetry.AdaptiveCache.Failure
  alias DSPexTelemetry.{Emit, Native}
  alias DSPexTelemetry.Instance.Lookup

  @typedoc "A method's or class's name."
  @type name :: String.t() | atom()

  @typedoc "The report of one method; see `report/1`."
  @type method_report :: %{
          method: String.t(),
          python_class: String.t(),
          cached: boolean(),
          decision: String.t(),
          ttl_ms: pos_integer() | nil,
          calls: non_neg_integer(),
          hits: non_neg_integer(),
          joined: non_neg_integer(),
          misses: non_neg_integer(),
          unanswered: non_neg_integer(),
          hit_rate: float(),
          variance: float(),
          mean_us: float() | nil,
          time_saved_us: float(),
          entries: non_neg_integer(),
          bytes: non_neg_integer(),
          evictions: non_neg_integer(),
          too_large: non_neg_integer()
        }

  @type report :: %{
          methods: [method_report()],
          entries: non_neg_integer(),
          bytes: non_neg_integer(),
          max_bytes: non_neg_integer(),
          running: non_neg_integer(),
          waiting: non_neg_integer()
        }

  @doc """
  The result of a call: one that is kept, or what `fun` returns.

  Options:

    * `:ref` - the reference of the instance
    * `:python_class` - its class; for counts, what is known of the reference is used where it is absent
    * `:worker_id` - the worker in whose memory the instance lives, if the caller knows it
    * `:timeout` - how many milliseconds to wait for another caller's run, `:infinity` by default
    * `:instance` - the telemetry instance

  If `fun` raises, exits or throws, so does `fetch/4` in the caller that ran it. Callers that waited for
  it get `{:error, failure}` with a `DSPexTelemetry.AdaptiveCache.Failure`, and so do those of a caller
  that was killed; nothing is kept, and the next call runs `fun` again.

  Raises `ArgumentError` if `fun` fetches what it is being run for, directly or through other processes
  that fetch, since that would wait for itself for ever; for an unknown option; and for an instance that
  never was.

      iex> alias DSPexTelemetry.AdaptiveCache
      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Cached, cache: [cacheable: ["add"], min_calls: 0, min_hit_rate: 0])
      iex> add = fn -> AdaptiveCache.fetch("add", [1, 2], [instance: MyApp.Cached], fn -> send(self(), :ran); {:ok, 3} end) end
      iex> for _ <- 1..5, do: add.()
      [ok: 3, ok: 3, ok: 3, ok: 3, ok: 3]
      iex> {:messages, ran} = Process.info(self(), :messages)
      iex> # Only the second run is known to repeat the first.
      iex> Enum.count(ran, &(&1 == :ran))
      2
  """
  @spec fetch(name(), term(), keyword(), (() -> result)) :: result | {:error, Failure.t()}
        when result: term()
  def fetch(method, args, options \\ [], fun) when is_function(fun, 0) do
    {_source, value} = fetch_from(method, args, options, fun)
    Emit.value(value)
  end

  @doc false
  # The result with where it comes from; what the function returned is as it was.
  @spec fetch_from(name(), term(), keyword(), (() -> result)) ::
          {:hit | :joined | :unanswered | :run, result | {:error, Failure.t()}}
        when result: term()
  def fetch_from(method, args, options, fun) do
    {number, ref, class, _worker, _timeout, _instance} = call = call(options)

    case Native.cache_get(number, method, class, ref, args) do
      {:ok, value} -> {:hit, value}
      {:encoded, binary} -> {:hit, :erlang.binary_to_term(binary)}
      :miss -> enter(method, args, call, fun)
      _uncacheable_or_stopped -> {:run, fun.()}
    end
  end

  defp enter(method, args, {number, ref, class, worker, timeout, instance}, fun) do
    made = {{method, class, ref, args}, worker, declares?(instance, method, class, ref, args)}
    tag = make_ref()

    case Native.cache_enter(number, made, tag) do
      {:run, flight} ->
        {:run, lead(number, flight, fun)}

      {:wait, flight} ->
        receive do
          {^tag, answer} -> answered(answer, method, fun)
        after
          timeout ->
            if Native.cache_leave(number, flight) do
              {:unanswered, {:error, %Failure{kind: :timeout, method: method}}}
            else
              receive do: ({^tag, answer} -> answered(answer, method, fun))
            end
        end

      {:ok, value} ->
        {:hit, value}

      {:encoded, binary} ->
        {:hit, :erlang.binary_to_term(binary)}

      :circular ->
        raise ArgumentError,
              "fetch of #{inspect(method)} waits for itself: the function that is run for it fetches " <>
                "the same, directly or through other processes"

      _runs_on_its_own ->
        {:run, fun.()}
    end
  end

  defp lead(number, flight, fun) do
    started = System.monotonic_time()

    try do
      result = fun.()
      land(number, flight, Emit.value(result), nanoseconds_since(started))
      result
    catch
      kind, reason ->
        encoded = :erlang.term_to_binary({kind, reason})
        duration = nanoseconds_since(started)

        with :dirty <- Native.cache_fail(number, flight, encoded, duration),
             do: Native.cache_fail_dirty(number, flight, encoded, duration)

        :erlang.raise(kind, reason, __STACKTRACE__)
    end
  end

  defp land(number, flight, value, duration) do
    with :ok <- Native.cache_prepare(number, flight, :erlang.external_size(value), duration),
         encoded = encode(value),
         :dirty <- Native.cache_land(number, flight, encoded, error?(value), duration),
         do: Native.cache_land_dirty(number, flight, encoded, error?(value), duration)
  end

  defp answered({:landed, binary}, _method, _fun), do: {:joined, :erlang.binary_to_term(binary)}

  defp answered({:failed, binary}, method, _fun) do
    {kind, reason} = :erlang.binary_to_term(binary)
    {:unanswered, {:error, %Failure{kind: kind, reason: reason, method: method}}}
  end

  defp answered(:died, method, _fun),
    do: {:unanswered, {:error, %Failure{kind: :died, method: method}}}

  # The instance has stopped: there is no cache any more.
  defp answered(:stopped, _method, fun), do: {:run, fun.()}

  @doc """
  The result of a call if one is kept.

  Takes the options of `fetch/4`. A call that finds nothing is not counted; `maybe_cache/4` counts it.

      iex> DSPexTelemetry.AdaptiveCache.get("embed", ["text"], ref: "ref-1")
      :miss
  """
  @spec get(name(), term(), keyword()) :: {:ok, term()} | :miss
  def get(method, args, options \\ []) do
    {number, ref, class, _worker, _timeout, _instance} = call(options)

    case Native.cache_get(number, method, class, ref, args) do
      {:ok, value} -> {:ok, value}
      {:encoded, binary} -> {:ok, :erlang.binary_to_term(binary)}
      _nothing -> :miss
    end
  end

  @doc """
  Counts a call that was made without `fetch/4`, and keeps its result if the rule says so.

  Metadata are `:ref`, `:python_class`, `:worker_id` and `:instance` as in `fetch/4`, and

    * `:duration` - how long the call took, in native time units
    * `:since` - what `mark/1` said before the call was made. Without it, an invalidation between the
      call and this function is not noticed.

  Other keys are ignored: what the rule looks at is measured.

  Returns `:cached`, or `{:not_cached, why}` with a sentence.

      iex> DSPexTelemetry.AdaptiveCache.maybe_cache("embed", ["text"], {:ok, [0.1]}, %{ref: "ref-1"})
      {:not_cached, "the instance has no cache"}
  """
  @spec maybe_cache(name(), term(), term(), map()) :: :cached | {:not_cached, String.t()}
  def maybe_cache(method, args, result, metadata \\ %{}) do
    options = Keyword.new(Map.take(metadata, [:ref, :python_class, :worker_id, :instance]))
    {number, ref, class, worker, _timeout, instance} = call(options)
    declared? = number != 0 and declares?(instance, method, class, ref, args)
    made = {{method, class, ref, args}, worker, declared?}

    duration =
      with duration when is_integer(duration) <- metadata[:duration],
           do: nanoseconds(duration)

    kept =
      Native.cache_put(number, made, metadata[:since], encode(result), error?(result), duration)

    case kept do
      {:kept, _ttl_ms} -> :cached
      {:refused, "not cached: " <> why} -> {:not_cached, why}
      other -> {:not_cached, why_not(other)}
    end
  end

  defp why_not(:undeclared), do: "not declared cacheable"
  defp why_not(:failed), do: "an error"
  defp why_not(:too_large), do: "larger than max_result_bytes"
  defp why_not(:invalidated), do: "invalidated meanwhile"
  defp why_not(:stopped), do: "the instance has no cache"
  defp why_not({:uncacheable, :too_large}), do: "arguments larger than max_key_bytes"
  defp why_not({:uncacheable, :too_deep}), do: "arguments nested too deeply"
  defp why_not({:uncacheable, :function}), do: "a function among the arguments"
  defp why_not({:uncacheable, :bit_string}), do: "a bit string among the arguments"
  defp why_not({:uncacheable, :no_text}), do: "method, class or reference is no text"

  @doc """
  A mark in time for `:since` of `maybe_cache/4`.

      iex> is_integer(DSPexTelemetry.AdaptiveCache.mark())
      true
  """
  @spec mark(keyword()) :: non_neg_integer()
  def mark(options \\ []) do
    {number, _ref, _class, _worker, _timeout, _instance} = call(options)
    Native.cache_now(number)
  end

  @doc """
  Forgets results:

    * `:all` - all of them
    * `{:method, name}` or `{:method, {class, name}}` - those of a method
    * `{:ref, ref}` - those of an instance
    * `{:worker, worker_id}` - those of the instances in a worker's memory
    * `{:key, method, args}` - that of one call, with `:ref` and `:python_class` as in `fetch/4`

  When this has returned, nobody gets a result whose run was started before, not even one that ends
  later: callers that ask from now on start a run of their own. Those that were waiting for it already
  get what it returns. Results of a few others may be forgotten too, since references, workers and keys
  are told apart by one of 4,096 places.

      iex> DSPexTelemetry.AdaptiveCache.invalidate({:ref, "ref-1"})
      :ok
  """
  @spec invalidate(
          :all
          | {:method, name() | {name(), name()}}
          | {:ref, name()}
          | {:worker, name()}
          | {:key, name(), term()},
          keyword()
        ) :: :ok
  def invalidate(what, options \\ []) do
    {number, ref, class, _worker, _timeout, _instance} = call(options)

    case what do
      :all -> Native.cache_invalidate(number, :all, nil, nil)
      {:method, {class, name}} -> Native.cache_invalidate(number, :method, name, class)
      {:method, name} -> Native.cache_invalidate(number, :method, name, nil)
      {:ref, ref} -> Native.cache_invalidate(number, :reference, ref, nil)
      {:worker, id} -> Native.cache_invalidate(number, :worker, id, nil)
      {:key, method, args} -> Native.cache_invalidate_key(number, method, class, ref, args)
    end

    :ok
  end

  @doc """
  What was measured, and what follows from it. Option: `:instance`.

  `:methods` has a row for each method whose calls went through the cache, those that saved most time
  first:

    * `:method`, `:python_class`
    * `:cached`, `:decision`, `:ttl_ms` - whether results are kept now, why, and how long
    * `:calls` - hits, joined and misses together
    * `:hits` - answered by a kept result; `:joined` - by the result of another caller's run;
      `:misses` - run, also where the caller was killed meanwhile
    * `:unanswered` - calls that waited for another caller's run and got no result: it failed, its caller
      was killed, or time was up. They are in none of the others, and count as no hits in `:hit_rate`
    * `:hit_rate`, `:variance` - the inputs of the rule, of recent calls
    * `:mean_us` - how long a run takes, `:time_saved_us` - hits times that
    * `:entries`, `:bytes` - what is kept, `:evictions` - what went because there was no room
    * `:too_large` - results that were larger than `max_result_bytes`

  Methods over `method_limit` are in one row whose names are `otel_metric_overflow`. `:entries`, `:bytes`
  and `:max_bytes` are those of the whole cache, `:running` and `:waiting` how many runs are under way
  and how many callers wait for them. Results that have expired are in the numbers until their memory is
  given back, a moment later.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Advised, cache: [cacheable: ["embed"]])
      iex> DSPexTelemetry.AdaptiveCache.fetch("embed", ["text"], [instance: MyApp.Advised], fn -> {:ok, 1} end)
      iex> [row] = DSPexTelemetry.AdaptiveCache.report(instance: MyApp.Advised).methods
      iex> {row.method, row.misses, row.decision}
      {"embed", 1, "not cached: 1 calls, more than 100 are needed"}
  """
  @spec report(keyword()) :: report()
  def report(options \\ []) do
    {number, _ref, _class, _worker, _timeout, _instance} = call(options)

    case Native.cache_report(number) do
      {report, running, waiting} -> Map.merge(report, %{running: running, waiting: waiting})
      :stopped -> %{methods: [], entries: 0, bytes: 0, max_bytes: 0, running: 0, waiting: 0}
    end
  end

  @doc false
  # Makes the cache of an instance known; 0 is none. It is a number, which costs nothing to replace, and
  # stays when the instance ends: it then stands for no cache.
  def publish(instance, number), do: :persistent_term.put({__MODULE__, instance}, number)

  defp number(instance) do
    case :persistent_term.get({__MODULE__, instance}, nil) do
      nil ->
        _raises_if_there_is_none = Lookup.fetch!(instance)
        number(instance)

      number ->
        number
    end
  end

  defp call(options), do: call(options, DSPexTelemetry, nil, nil, nil, :infinity)

  # One walk, since this is done for every hit.
  defp call([], instance, ref, class, worker, timeout),
    do: {number(instance), ref, class, worker, timeout, instance}

  defp call([{key, value} | options], instance, ref, class, worker, timeout) do
    case key do
      :ref ->
        call(options, instance, value, class, worker, timeout)

      :instance ->
        call(options, value, ref, class, worker, timeout)

      :python_class ->
        call(options, instance, ref, value, worker, timeout)

      :worker_id ->
        call(options, instance, ref, class, value, timeout)

      :timeout ->
        call(options, instance, ref, class, worker, value)

      other ->
        raise ArgumentError, "unknown option #{inspect(other)}, see the function's documentation"
    end
  end

  defp declares?(instance, method, class, ref, args) do
    with {:ok, %{options: %{cache: %{cacheable: cacheable}}}} <- Lookup.fetch(instance) do
      call = %{method: method, python_class: class, ref: ref, args: args}
      Enum.any?(cacheable, &(is_function(&1) and &1.(call) == true))
    else
      _stopped_or_without_cache -> false
    end
  end

  defp encode(value), do: :erlang.term_to_binary(value, minor_version: 2)

  defp error?(:error), do: true
  defp error?({:error, _reason}), do: true
  defp error?(_value), do: false

  defp nanoseconds_since(started), do: nanoseconds(System.monotonic_time() - started)
  defp nanoseconds(native), do: System.convert_time_unit(native, :native, :nanosecond)
end
