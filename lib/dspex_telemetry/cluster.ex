defmodule DSPexTelemetry.Cluster do
  @moduledoc """
  Reports over several nodes, merged over distributed Erlang.

      DSPexTelemetry.Cluster.report(window: :last_minute)

  Each node makes a snapshot of its instance, the caller's too, and the caller adds them up: counts cell
  by cell, histograms counter by counter. A quantile of the merged report is therefore the one that a
  single histogram fed with everything would have, and not an average of the nodes' quantiles.

  A node that does not answer is no error: the report has the others, and says in `:nodes` who is missing
  and why. `docs/cluster.md` says how each number is merged, what it costs, and what to use for fleets
  that are larger than one cluster.

  ## Options

  All functions take, beside their own:

    * `:nodes` - which nodes, exactly these; by default the caller's own and all that `Node.list/0` knows
    * `:instance` - the instance's name, the same on all nodes
    * `:window` - see `DSPexTelemetry.Window`; each node applies it to its own clock. `:since_start` by
      default
    * `:timeout` - milliseconds until the report is made of what has come, one deadline for all nodes; an
      integer from 1 to 600000, 5000 by default
    * `:series_limit` - how many series of each family a node sends, and how many the merged report has; the
      rest is in a row labelled `otel_metric_overflow`. From 1 to 1000000, 10000 by default
    * `:max_bytes` - how many bytes a node may send, before compression: 1024 to 268435456, by default
      8388608. All nodes together may send 268435456.
    * `:node_limit` - how many nodes are asked, the caller's first and then in order: 1 to 1024, 128 by
      default

  ## Nodes

  Every entry of `:nodes` has `:node`, `:state`, `:reason` (a sentence; `nil` if all of it was merged), `:interval`
  (which time its numbers cover, by its clock), `:series` (how many it sent), `:folded` (how many of its series
  had no room and are in overflow rows), `:calls` and `:errors` (method calls that it completed, and those
  that failed) and `:bytes` (that it sent, compressed). The states:

    * `:merged` - its numbers are in the report, but for metrics of option `:metrics` that differ from those of
      the first node; the reason names them
    * `:timeout` - it did not answer in time
    * `:not_connected` - there is no connection, or there was none any more before it answered
    * `:no_instance` - no instance of this name runs there
    * `:no_library` - it does not have this library, or a version without this module
    * `:other_version` - its snapshots have another format
    * `:other_configuration` - its families have other significant digits, bucket bounds, labels or metrics
      than the first node that was merged
    * `:too_large` - its snapshot has more than `:max_bytes`
    * `:corrupt` - what came is no snapshot, or a damaged one
    * `:failed` - it raised
    * `:not_asked` - there are more nodes than `:node_limit`
  """

  alias DSPexTelemetry.{Native, UsageAnalytics, Window}
  alias DSPexTelemetry.Cluster.Report
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @most_bytes 256 * 1024 * 1024
  @integers [
    timeout: {5_000, 1, 600_000},
    series_limit: {10_000, 1, 1_000_000},
    max_bytes: {8 * 1024 * 1024, 1_024, @most_bytes},
    node_limit: {128, 1, 1_024}
  ]
  @most_described 10_000
  # What a node may say of itself.
  @own_states [:no_instance, :too_large, :failed]

  @typedoc "A node of a report, as the module's documentation says."
  @type member :: %{
          node: node(),
          state: atom(),
          reason: String.t() | nil,
          interval: Window.interval() | nil,
          series: non_neg_integer(),
          folded: non_neg_integer(),
          calls: non_neg_integer(),
          errors: non_neg_integer(),
          bytes: non_neg_integer()
        }

  @typedoc "As `t:DSPexTelemetry.ErrorAnalyzer.report/0`, and of spikes and anomalies the node."
  @type errors :: %{
          interval: Window.interval(),
          errors: non_neg_integer(),
          by_kind: %{String.t() => pos_integer()},
          by_reason: %{String.t() => pos_integer()},
          by_method: [map()],
          last_failures: [DSPexTelemetry.Report.call()],
          spikes: [%{:node => node(), optional(atom()) => term()}],
          recent_spikes: [%{:node => node(), optional(atom()) => term()}],
          anomalies: [%{:node => node(), optional(atom()) => term()}],
          nodes: [member()]
        }

  @typedoc "As `t:DSPexTelemetry.UsageAnalytics.window_report/0`."
  @type usage :: %{
          interval: Window.interval(),
          total: non_neg_integer(),
          classes: UsageAnalytics.window_kind(),
          methods: UsageAnalytics.window_kind(),
          tools: UsageAnalytics.window_kind(),
          variables: UsageAnalytics.window_kind(),
          nodes: [member()]
        }

  @doc """
  The report of `DSPexTelemetry.report/1` over all nodes, as a `DSPexTelemetry.Cluster.Report`: the same and
  `:nodes`.

  Options, beside those of all functions:

    * `:format` - `:struct` (default), which prints as a table, or `:json` for the same numbers as JSON text

  Raises `ArgumentError` for an option that is not allowed; whatever befalls a node is told in `:nodes`.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Merged)
      iex> DSPexTelemetry.Emit.call_method(%{method: "ask", python_class: "Node"}, fn -> :ok end)
      iex> report = DSPexTelemetry.Cluster.report(instance: MyApp.Merged)
      iex> [%{state: :merged, node: node}] = report.nodes
      iex> row = Enum.find(report.operations, &(&1.method == "ask" and &1.python_class == "Node"))
      iex> {node == node(), row.count}
      {true, 1}

      iex> DSPexTelemetry.Cluster.report(timeout: 0)
      ** (ArgumentError) option :timeout must be an integer from 1 to 600000, got: 0
  """
  @spec report(keyword()) :: Report.t() | String.t()
  def report(options \\ []) do
    {format, options} = Keyword.pop(options, :format, :struct)

    unless format in [:struct, :json] do
      raise ArgumentError, "option :format must be :struct or :json, got: #{inspect(format)}"
    end

    request = request!(options)
    answers = ask(request)

    case format do
      :struct ->
        {report, members} = Native.cluster_report(answers, request.limits, Clock.now())
        struct!(Report, Map.put(report, :nodes, members(members, request)))

      :json ->
        Native.cluster_report_json(answers, request.limits, Clock.now())
    end
  end

  @doc """
  The report of `DSPexTelemetry.ErrorAnalyzer.report/1` over all nodes, with `:nodes`.

  Errors add up. Spikes and anomalies are those of single nodes, as each node looks for its own; each has
  its `:node`. Of spikes that are over there are the latest hundred.

      iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Alone, attach: false)
      iex> errors = DSPexTelemetry.Cluster.errors(instance: MyApp.Alone, nodes: [node()])
      iex> {errors.errors, Enum.map(errors.nodes, & &1.state)}
      {0, [:merged]}
  """
  @spec errors(keyword()) :: errors()
  def errors(options \\ []) do
    request = request!(options)
    answers = ask(request)

    {{errors, members}, spikes, recent_spikes, anomalies} =
      Native.cluster_errors(answers, request.limits, Clock.now())

    names = Map.new(request.nodes, &{Atom.to_string(&1), &1})

    of_nodes = fn things ->
      for {name, thing} <- things, do: Map.put(thing, :node, names[name])
    end

    Map.merge(errors, %{
      spikes: of_nodes.(spikes),
      recent_spikes: of_nodes.(recent_spikes),
      anomalies: of_nodes.(anomalies),
      nodes: members(members, request)
    })
  end

  @doc """
  What was used how often in a window over all nodes, as `DSPexTelemetry.UsageAnalytics.get_usage_report/1`
  tells it with option `:window`, with `:nodes`.

  It is counted since the instances started. What usage files have from before, and what was declared and
  never used, each node knows for itself only.

  Options, beside those of all functions:

    * `:top` - how many of the most used there are of each kind, from 0 to 1000000, 10 by default
  """
  @spec usage(keyword()) :: usage()
  def usage(options \\ []) do
    {top, options} = Keyword.pop(options, :top, 10)
    top = integer!(:top, top, 0, 1_000_000)
    request = request!(options)
    answers = ask(request)
    {usage, members} = Native.cluster_usage(answers, request.limits, Clock.now(), top)
    Map.put(usage, :nodes, members(members, request))
  end

  @doc false
  # What another node asks for. The request is a map, so that later versions can ask for more.
  @spec snapshot(map()) :: {:ok, binary()} | {:error, {atom(), String.t()}}
  def snapshot(%{instance: name, window: window, limits: limits}) do
    with pid when is_pid(pid) <- Process.whereis(Lookup.registry()),
         {:ok, %{native: native}} <- Lookup.fetch(name) do
      Native.cluster_snapshot(native, window, Clock.now(), limits)
    else
      _not_started -> {:error, {:no_instance, "no instance #{inspect(name)} is running there"}}
    end
  end

  defp request!(options) do
    {integers, options} =
      Enum.map_reduce(@integers, options, fn {key, {default, least, most}}, options ->
        {value, options} = Keyword.pop(options, key, default)
        {{key, integer!(key, value, least, most)}, options}
      end)

    {window, options} = Keyword.pop(options, :window, :since_start)
    {nodes, options} = Keyword.pop(options, :nodes)
    nodes = nodes!(nodes || [node() | Node.list()])
    {asked, not_asked} = Enum.split(nodes, integers[:node_limit])
    bytes = min(integers[:max_bytes], div(@most_bytes, length(asked)))

    %{
      nodes: nodes,
      asked: asked,
      not_asked: not_asked,
      node_limit: integers[:node_limit],
      instance: DSPexTelemetry.instance!(options),
      window: Window.native!(window),
      timeout: integers[:timeout],
      limits: {integers[:series_limit], bytes}
    }
  end

  # The first one decides which configuration is merged, so that should be the caller's.
  defp nodes!(nodes) do
    unless is_list(nodes) and nodes != [] and not List.improper?(nodes) and
             Enum.all?(nodes, &is_atom/1) do
      raise ArgumentError, "option :nodes must be a list of nodes, got: #{inspect(nodes)}"
    end

    {own, others} = nodes |> Enum.uniq() |> Enum.split_with(&(&1 == node()))
    own ++ others
  end

  defp integer!(_key, value, least, most) when is_integer(value) and value in least..most//1,
    do: value

  defp integer!(key, value, least, most) do
    raise ArgumentError,
          "option #{inspect(key)} must be an integer from #{least} to #{most}, got: #{inspect(value)}"
  end

  defp ask(request) do
    argument = Map.take(request, [:instance, :window, :limits])

    answers = :erpc.multicall(request.asked, __MODULE__, :snapshot, [argument], request.timeout)

    asked =
      for {node, answer} <- Enum.zip(request.asked, answers) do
        {state, content} = outcome(answer, request)
        {Atom.to_string(node), state, content}
      end

    asked ++
      for node <- request.not_asked do
        reason =
          "there are more than #{request.node_limit} nodes: raise node_limit, or name fewer"

        {Atom.to_string(node), :not_asked, reason}
      end
  end

  defp outcome({:ok, {:ok, snapshot}}, _request) when is_binary(snapshot), do: {:ok, snapshot}

  defp outcome({:ok, {:error, {state, reason}}}, _request)
       when state in @own_states and is_binary(reason),
       do: {state, sentence(reason)}

  defp outcome({:ok, _other}, _request),
    do: {:corrupt, "its answer is none that this version understands"}

  defp outcome({:error, {:erpc, :timeout}}, %{timeout: timeout}),
    do: {:timeout, "it did not answer within #{timeout} ms"}

  defp outcome({:error, {:erpc, :noconnection}}, _request),
    do: {:not_connected, "there is no connection to it"}

  defp outcome({:error, {:exception, :undef, [{module, _function, _args, _} | _]}}, _request)
       when module in [__MODULE__, Clock, Lookup, Native],
       do: {:no_library, "it has no dspex_telemetry, or a version without #{inspect(__MODULE__)}"}

  defp outcome({:error, {:erpc, :notsup}}, _request),
    do: {:no_library, "its Erlang is too old to be asked"}

  defp outcome({class, failure}, _request),
    do: {:failed, sentence("it failed with #{class} #{described(failure)}")}

  # What another node failed with can be any term. Of some that are large, `inspect/2` makes text for
  # minutes, and what it does for a struct is up to the struct's module.
  defp described({:exception, reason, _stacktrace}), do: described(reason)

  defp described(failure) do
    case :erlang.external_size(failure) do
      size when size <= @most_described ->
        inspect(failure, limit: 10, printable_limit: 300, structs: false)

      size ->
        "and a term of #{size} bytes"
    end
  end

  # Text of another node: at most 1,000 characters, and UTF-8 whatever it was.
  defp sentence(text) do
    text
    |> binary_part(0, min(byte_size(text), 4_000))
    |> String.chunk(:valid)
    |> Enum.map_join(&if(String.valid?(&1), do: &1, else: "\uFFFD"))
    |> String.slice(0, 1_000)
  end

  defp members(members, %{nodes: nodes}) do
    for {node, member} <- Enum.zip(nodes, members), do: %{member | node: node}
  end
end
