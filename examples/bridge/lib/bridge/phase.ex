defmodule Bridge.Phase do
  @moduledoc """
  One half of a comparison: some callers make seeded requests of a fresh pool, watched by a fresh
  instance of telemetry, so that its report has this half and nothing else.

  Every call is also timed and kept here, where it returns, to hold the report against.
  """

  alias Bridge.Pool

  @type call :: %{
          worker: String.t() | nil,
          request: term(),
          outcome: {:ok, term()} | {:error, Exception.t()},
          us: non_neg_integer()
        }

  @type setting :: %{
          instance: atom(),
          telemetry: keyword(),
          bridge: keyword(),
          class: String.t(),
          requests: [[term()]],
          seed: integer(),
          continue?: (() -> boolean())
        }

  @typedoc "A worker's id with the instance of the class that lives in it."
  @type places :: %{String.t() => Bridge.ref()}

  @doc """
  Has each caller go through its list of requests by `call`, which returns the outcome and which worker
  it came from, and returns what `report` makes of all calls while pool and telemetry are still there.
  """
  @spec run(
          setting(),
          (term(), places() -> {String.t() | nil, {:ok, term()} | {:error, Exception.t()}}),
          ([call()] -> result)
        ) :: {:ok, result} | {:error, Exception.t()}
        when result: term()
  def run(setting, call, report) do
    # Before the workers, so that it sees them come.
    {:ok, telemetry} = DSPexTelemetry.start_link([name: setting.instance] ++ setting.telemetry)
    {:ok, bridge} = Bridge.start_link(setting.bridge)

    try do
      with :ok <- Pool.await_ready(), {:ok, places} <- places(Pool.workers(), setting.class) do
        {:ok, setting |> calls(&call.(&1, places)) |> report.()}
      end
    after
      if Process.alive?(bridge), do: Supervisor.stop(bridge)
      Supervisor.stop(telemetry)
    end
  end

  @doc "So many lists of so many requests each, picked from a list; the same for the same seed."
  @spec requests([term()], pos_integer(), pos_integer(), integer()) :: [[term()]]
  def requests(from, callers, count, seed) do
    for n <- 1..callers do
      {requests, _state} =
        Enum.map_reduce(1..count, :rand.seed_s(:exsss, {seed, n, 0}), fn _, state ->
          {at, state} = :rand.uniform_s(length(from), state)
          {Enum.at(from, at - 1), state}
        end)

      requests
    end
  end

  @doc "How many of the calls failed."
  @spec errors([call()]) :: non_neg_integer()
  def errors(calls), do: Enum.count(calls, &match?({:error, _}, &1.outcome))

  @doc """
  The least time that so large a share of the calls did not exceed, in microseconds.

  ## Examples

      iex> Bridge.Phase.quantile([%{us: 30}, %{us: 10}, %{us: 20}], 0.99)
      30
  """
  @spec quantile([%{us: number()}, ...], float()) :: number()
  def quantile(calls, share) do
    sorted = calls |> Enum.map(& &1.us) |> Enum.sort()
    Enum.at(sorted, ceil(share * length(sorted)) - 1)
  end

  defp places(workers, class) do
    Enum.reduce_while(workers, {:ok, %{}}, fn worker, {:ok, places} ->
      case Bridge.create_instance(class, %{}, worker: worker) do
        {:ok, ref} -> {:cont, {:ok, Map.put(places, worker, ref)}}
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  defp calls(setting, call) do
    setting.requests
    |> Enum.with_index(fn requests, n ->
      Task.async(fn ->
        :rand.seed(:exsss, {setting.seed, n, 1})

        # A stream, so that it is asked before each.
        requests
        |> Stream.take_while(fn _ -> setting.continue?.() end)
        |> Enum.map(&timed(&1, call))
      end)
    end)
    |> Task.await_many(:infinity)
    |> Enum.concat()
  end

  defp timed(request, call) do
    started = System.monotonic_time()
    {worker, outcome} = call.(request)
    took = System.convert_time_unit(System.monotonic_time() - started, :native, :microsecond)
    %{worker: worker, request: request, outcome: outcome, us: took}
  end
end
