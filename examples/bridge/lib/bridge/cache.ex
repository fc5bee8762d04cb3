defmodule Bridge.Cache do
  @moduledoc """
  Results of pure methods, in ETS, read and written by the callers themselves.

  The key is the whole call, ref included, so an entry never becomes wrong; it only becomes
  useless when its ref is released. When the table is full, it is emptied: small, and enough for
  a demo.
  """

  use GenServer

  @limit 1_000

  @type key :: {Bridge.ref(), String.t(), list()}

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil)

  @spec fetch(key()) :: {:ok, term()} | :error
  def fetch(key) do
    case :ets.lookup(__MODULE__, key) do
      [{^key, value}] -> {:ok, value}
      [] -> :error
    end
  end

  @spec put(key(), term()) :: :ok
  def put(key, value) do
    if :ets.info(__MODULE__, :size) >= @limit, do: :ets.delete_all_objects(__MODULE__)
    :ets.insert(__MODULE__, {key, value})
    :ok
  end

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table, :public, read_concurrency: true])
    {:ok, nil}
  end
end
