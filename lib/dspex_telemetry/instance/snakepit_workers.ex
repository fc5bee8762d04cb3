defmodule DSPexTelemetry.Instance.SnakepitWorkers do
  @moduledoc false
  # The workers that Snakepit has now, for instances that start after it and missed the events.

  # A module of Snakepit, which need not be there.
  @registry Snakepit.Pool.Registry
  @spawned [:snakepit, :pool, :worker_ready]

  @doc "The ids of Snakepit's workers with their pools; none where Snakepit is not running."
  @spec all(module()) :: [{worker_id :: String.t(), pool :: term()}]
  def all(registry \\ @registry) do
    if Code.ensure_loaded?(registry) and function_exported?(registry, :list_workers, 0),
      do: for(id <- list(registry), is_binary(id), do: {id, pool(registry, id)}),
      else: []
  end

  @doc "The event whose plan makes a worker known, with measurements and metadata of one."
  @spec event({String.t(), term()}) :: {[atom()], map(), map()}
  def event({id, pool}), do: {@spawned, %{}, %{worker_id: id, pool_name: pool}}

  # Its tables come and go with Snakepit.
  defp list(registry) do
    registry.list_workers()
  rescue
    ArgumentError -> []
  end

  defp pool(registry, id) do
    with true <- function_exported?(registry, :fetch_worker, 1),
         {:ok, _pid, %{} = metadata} <- registry.fetch_worker(id) do
      Map.get(metadata, :pool_identifier) || Map.get(metadata, :pool_name)
    else
      _unknown -> nil
    end
  rescue
    ArgumentError -> nil
  end
end
