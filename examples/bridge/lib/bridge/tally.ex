defmodule Bridge.Tally do
  @moduledoc """
  What the demo itself knows to have happened, to hold the telemetry's report against.

  Nothing here comes from an event. Calls are counted where they return, Python's questions
  where they are answered, and sessions that ended by monitors. A fact is a key and `{count,
  errors}`; the keys are those of `Bridge.Audit`.
  """

  use GenServer

  alias Bridge.{Session, Upcall}

  @type key :: {atom(), term()}
  @type facts :: %{key() => {count :: integer(), errors :: integer()}}

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_options \\ []), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Counts one of `key`; an error when the outcome is `{:error, _}`. Returns the outcome."
  @spec count(key(), outcome) :: outcome when outcome: term()
  def count(key, outcome \\ :ok) do
    errors = if match?({:error, _}, outcome), do: 1, else: 0
    :ets.update_counter(__MODULE__, key, [{2, 1}, {3, errors}], {key, 0, 0})
    outcome
  end

  @doc "Counts a session that was just opened, and why it ends when it does."
  @spec watch_session(Session.id()) :: :ok
  def watch_session(id), do: GenServer.call(__MODULE__, {:watch_session, id}, :infinity)

  @doc "Returns when every session that is watched has ended."
  @spec await_sessions() :: :ok
  def await_sessions, do: GenServer.call(__MODULE__, :await_sessions, :infinity)

  @doc "Answers a question of Python's as `Bridge.Upcall` does, and counts what became of it."
  @spec answer(Upcall.question()) :: Upcall.answer()
  def answer(question) do
    answer = Upcall.answer(question)
    count_answer(question, answer)
    answer
  end

  @doc "Everything counted."
  @spec facts() :: facts()
  def facts do
    Map.new(:ets.tab2list(__MODULE__), fn {key, count, errors} -> {key, {count, errors}} end)
  end

  @doc "Method calls and creations so far, and how many of them failed."
  @spec calls() :: {non_neg_integer(), non_neg_integer()}
  def calls do
    Enum.reduce(facts(), {0, 0}, fn
      {{kind, _}, {count, errors}}, {calls, failed} when kind in [:operation, :instance] ->
        {calls + count, failed + errors}

      _, sum ->
        sum
    end)
  end

  defp count_answer(%{"kind" => "tool", "name" => name}, answer), do: count({:tool, name}, answer)

  defp count_answer(%{"kind" => "set", "value" => value}, {:ok, _}) do
    count({:variable_set, Session.type(value)})
  end

  defp count_answer(%{"kind" => "get"}, {:ok, %{found: found?}}) do
    count({:variable_get, if(found?, do: :found, else: :missed)})
  end

  # The session had expired: there is no variable that could have been set or got.
  defp count_answer(_question, {:error, _}), do: :ok

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table, :public, write_concurrency: true])
    {:ok, %{watched: MapSet.new(), waiting: []}}
  end

  @impl true
  def handle_call({:watch_session, id}, _from, tally) do
    count({:session, :created})

    case Session.whereis(id) do
      nil ->
        # Nobody else knows its id yet, so it can only have timed out.
        count({:session_expired, "timeout"})
        {:reply, :ok, tally}

      pid ->
        {:reply, :ok, %{tally | watched: MapSet.put(tally.watched, Process.monitor(pid))}}
    end
  end

  def handle_call(:await_sessions, from, tally) do
    {:noreply, tell_if_over(%{tally | waiting: [from | tally.waiting]})}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, reason}, tally) do
    count({:session_expired, reason_name(reason)})
    {:noreply, tell_if_over(%{tally | watched: MapSet.delete(tally.watched, monitor)})}
  end

  defp tell_if_over(tally) do
    if MapSet.size(tally.watched) == 0 do
      Enum.each(tally.waiting, &GenServer.reply(&1, :ok))
      %{tally | waiting: []}
    else
      tally
    end
  end

  defp reason_name({:shutdown, reason}), do: Atom.to_string(reason)
  defp reason_name(reason) when is_atom(reason), do: Atom.to_string(reason)
  defp reason_name(_crash), do: "crash"
end
