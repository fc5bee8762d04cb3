defmodule Bridge.Workload do
  @moduledoc """
  What a caller of the demo does: a seeded mix of operations over the text of Python's library.

  A caller has a session, and in it one instance of each class that it has needed so far. Now
  and then it leaves: half the time it closes the session, half the time it just goes, and the
  session expires. When it loses an instance, because the worker died, it makes a new one at the
  next need.

  Every outcome is counted in `Bridge.Tally`, here where it is known.
  """

  alias Bridge.{PoolError, PythonError, Session, Tally, Tools, WorkerError}

  @type stage :: :tour | :mix

  @typep client :: %{
           session: Session.id() | nil,
           instances: %{String.t() => Bridge.ref()},
           texts: [String.t()]
         }

  # How often, relative to each other.
  @mix [
    search: 140,
    count_lines: 140,
    query: 60,
    query_wrongly: 10,
    cross_reference: 30,
    ratio: 60,
    archive: 6,
    round_trip: 60,
    decompress_damaged: 10,
    compare: 100,
    similarity: 120,
    closest: 20,
    count_tokens: 140,
    top: 100,
    replace: 80,
    replace_wrongly: 10,
    stems: 30,
    line_lengths: 100,
    density: 60,
    field: 60,
    field_wrongly: 10,
    remember: 60,
    total: 10,
    create_wrongly: 8,
    set_variable: 60,
    get_variable: 60,
    use_tool: 40,
    leave: 20,
    kill_worker: 1
  ]

  # Every event of the catalogue comes, and a worker dies when all the others have been used.
  @tour Keyword.keys(@mix) ++ [:similarity, :similarity, :leave]

  # Milliseconds without use.
  @session_timeout 1_500

  @words ~w(return import self yield lambda nonlocal raise async None zeugma encode super)
  @patterns ["[A-Za-z_]+", "\\w+", "[a-z]{4,}", "\"[^\"]*\"", "\\d+"]

  @doc """
  Runs operations until `continue?.(:mix)` returns false.

  With `tour: true` every one comes once before, as long as `continue?.(:tour)` is true.
  """
  @spec run([String.t()], {integer(), integer(), integer()}, keyword(), (stage() -> boolean())) ::
          :ok
  def run(texts, seed, options, continue?) do
    :rand.seed(:exsss, seed)
    client = %{session: nil, instances: %{}, texts: texts}
    client = if options[:tour], do: tour(@tour, client, continue?), else: client
    loop(client, continue?)
  end

  @doc "The names of the texts; asked of Python, and counted like any call."
  @spec texts() :: [String.t()]
  def texts do
    ref = Tally.count({:instance, "Corpus"}, Bridge.create_instance!("Corpus"))
    Tally.count({:operation, {"names", "Corpus"}}, Bridge.call_method!(ref, "names"))
  end

  defp tour([], client, _continue?), do: client

  defp tour([name | names], client, continue?) do
    if continue?.(:tour), do: tour(names, step(name, client), continue?), else: client
  end

  defp loop(client, continue?) do
    if continue?.(:mix), do: @mix |> pick() |> step(client) |> loop(continue?), else: :ok
  end

  defp pick(mix) do
    total = mix |> Keyword.values() |> Enum.sum()
    pick(mix, :rand.uniform(total))
  end

  defp pick([{name, weight} | _], at) when at <= weight, do: name
  defp pick([{_, weight} | mix], at), do: pick(mix, at - weight)

  defp step(name, client), do: operation(name, in_session(client))

  # Operations

  @spec operation(atom(), client()) :: client()
  defp operation(:search, client), do: call(client, "SqliteIndex", "search", [word(), 10])
  defp operation(:count_lines, client), do: call(client, "SqliteIndex", "count", [word()])

  defp operation(:query, client) do
    call(client, "SqliteIndex", "query", ["SELECT text, count(*) FROM line GROUP BY text"])
  end

  # sqlite3.OperationalError
  defp operation(:query_wrongly, client) do
    call!(client, "SqliteIndex", "query", ["SELECT nothing FROM nowhere"])
  end

  # Sets a variable, and asks a tool for every name it finds.
  defp operation(:cross_reference, client) do
    call(client, "SqliteIndex", "cross_reference", [word(), 5])
  end

  defp operation(:ratio, client), do: call(client, "Compressor", "ratio", [text(client)])

  # The slow one.
  defp operation(:archive, client) do
    call(client, "Compressor", "archive", [Enum.take_random(client.texts, 4)])
  end

  defp operation(:round_trip, client) do
    text = Enum.map_join(1..200, " ", fn _ -> word() end)
    call(client, "Compressor", "compress", [text])
  end

  # zlib.error, or what the algorithm raises
  defp operation(:decompress_damaged, client) do
    call!(client, "Compressor", "decompress", [Base.encode64("not compressed")])
  end

  defp operation(:compare, client) do
    call(client, "Differ", "compare", [text(client), text(client), 200])
  end

  # Pure, and of two pairs only, so that the cache has something to give.
  defp operation(:similarity, client) do
    [first, second, third | _] = client.texts
    pair = Enum.random([[first, second], [second, third]])
    call(client, "Differ", "similarity", pair, cache: true)
  end

  defp operation(:closest, client) do
    call(client, "Differ", "closest", [word(), text(client), 3])
  end

  defp operation(:count_tokens, client), do: call(client, "Tokenizer", "count", [text(client)])
  defp operation(:top, client), do: call(client, "Tokenizer", "top", [text(client), 10])

  defp operation(:replace, client) do
    call(client, "Tokenizer", "replace", ["[aeiou]+", "*", Enum.join(@words, " ")])
  end

  # re.error
  defp operation(:replace_wrongly, client) do
    call!(client, "Tokenizer", "replace", ["(", "*", word()])
  end

  # Asks a tool that refuses some of the words.
  defp operation(:stems, client), do: call(client, "Tokenizer", "stems", [text(client), 10])

  defp operation(:line_lengths, client) do
    call(client, "Summarizer", "line_lengths", [text(client)])
  end

  # ZeroDivisionError when the word does not occur
  defp operation(:density, client) do
    word = Enum.random(~w(return import self raise zeugma))
    call(client, "Summarizer", "density", [text(client), word])
  end

  defp operation(:field, client) do
    call(client, "Summarizer", "field", [text(client), Enum.random(["mean", "median", "lines"])])
  end

  # KeyError
  defp operation(:field_wrongly, client) do
    call!(client, "Summarizer", "field", [text(client), "mode"])
  end

  # Gets one variable, and sets two.
  defp operation(:remember, client), do: call(client, "Summarizer", "remember", [text(client)])

  # Asks a tool that raises for all but integers, and random.py has others.
  defp operation(:total, client), do: call(client, "Summarizer", "total", ["random", 20])

  defp operation(:create_wrongly, client) do
    create!(client, "Tokenizer", %{pattern: "(unclosed"})
    create(client, "SqliteIndex", %{texts: [], path: "/nowhere/index.db"})
    create!(client, "Compressor", %{algorithm: "zip"})
    client
  end

  defp operation(:set_variable, client) do
    value = Enum.random([word(), :rand.uniform(1000), [word(), word()], true, %{word: word()}])

    with :ok <- Session.set(client.session, word(), value) do
      Tally.count({:variable_set, Session.type(value)})
    end

    client
  end

  defp operation(:get_variable, client) do
    case Session.get(client.session, word()) do
      {:ok, _} -> Tally.count({:variable_get, :found})
      :error -> Tally.count({:variable_get, :missed})
      {:error, _expired} -> :ok
    end

    client
  end

  defp operation(:use_tool, client) do
    tool("stem", [Enum.random(["tokens", "4th"])], client)
    tool("to_integer", [Enum.random(["31", "0x1F"])], client)
    client
  end

  defp operation(:leave, client) do
    if :rand.uniform(2) == 1, do: Session.close(client.session)
    %{client | session: nil, instances: %{}}
  end

  # os._exit and SIGKILL; whoever waits for this worker gets an error, and so does this call.
  defp operation(:kill_worker, client) do
    {method, args} = Enum.random([{"exit", [3]}, {"kill", []}])

    with {:ok, ref} <- create(client, "Saboteur", %{}) do
      outcome = Bridge.call_method(ref, method, args, session: client.session)
      Tally.count({:operation, {method, "Saboteur"}}, outcome)
    end

    client
  end

  # Calls, counted

  defp call(client, class, method, args, options \\ []) do
    with {:ok, ref, client} <- instance(client, class) do
      options = [session: client.session] ++ options

      {:operation, {method, class}}
      |> Tally.count(Bridge.call_method(ref, method, args, options))
      |> forget_if_lost(client, class)
    end
  end

  # What the functions with ! raise is what the others return; counted the same.
  defp call!(client, class, method, args) do
    with {:ok, ref, client} <- instance(client, class) do
      {:operation, {method, class}}
      |> Tally.count(
        rescued(fn -> Bridge.call_method!(ref, method, args, session: client.session) end)
      )
      |> forget_if_lost(client, class)
    end
  end

  defp create(client, class, args) do
    Tally.count(
      {:instance, class},
      Bridge.create_instance(class, args, session: client.session)
    )
  end

  defp create!(client, class, args) do
    Tally.count(
      {:instance, class},
      rescued(fn -> Bridge.create_instance!(class, args, session: client.session) end)
    )
  end

  defp tool(name, args, client) do
    Tally.count({:tool, name}, rescued(fn -> Tools.call(name, args, session: client.session) end))
  end

  defp rescued(fun) do
    fun.()
  rescue
    error in [PythonError, WorkerError, PoolError, ArgumentError] -> {:error, error}
  end

  # The client

  defp instance(%{instances: instances} = client, class) when is_map_key(instances, class) do
    {:ok, instances[class], client}
  end

  # Without an instance there is no call; the next operation tries again.
  defp instance(client, class) do
    case create(client, class, constructor(class, client)) do
      {:ok, ref} -> {:ok, ref, put_in(client.instances[class], ref)}
      {:error, _} -> client
    end
  end

  defp constructor("SqliteIndex", client), do: %{texts: Enum.take_random(client.texts, 3)}
  defp constructor("Tokenizer", _), do: %{pattern: Enum.random(@patterns)}
  defp constructor("Compressor", _), do: %{algorithm: Enum.random(["zlib", "bz2", "lzma"])}
  defp constructor(_, _), do: %{}

  defp forget_if_lost({:error, %error{}}, client, class)
       when error in [WorkerError, PoolError] do
    %{client | instances: Map.delete(client.instances, class)}
  end

  defp forget_if_lost(_outcome, client, _class), do: client

  # A session may have expired while its caller waited for a worker.
  defp in_session(client) do
    if client.session && Session.whereis(client.session), do: client, else: enter(client)
  end

  defp enter(client) do
    {:ok, session} = Session.open(%{"language" => "python"}, timeout: @session_timeout)
    Tally.watch_session(session)
    %{client | session: session, instances: %{}}
  end

  defp word, do: Enum.random(@words)
  defp text(client), do: Enum.random(client.texts)
end
