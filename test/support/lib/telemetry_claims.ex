defmodule DSPexTelemetry.TelemetryClaims do
  @moduledoc """
  What the tests of `:telemetry` share: each claim holds for the upstream library as well as for the stand-in in
  `test/support/telemetry`.

  Most claims are checked twice: with handlers stored the normal way, and after `:telemetry.persist/0`. Persisting and
  stopping the application affect the whole node, so none of these tests is async, and handlers that were attached
  before are put back afterwards.
  """

  import ExUnit.Callbacks, only: [on_exit: 1]

  # persist/0 arrived upstream in 1.4.0, together with list_handlers/1 answering
  # while the application is not started.
  @can_persist Code.ensure_loaded?(:telemetry) and function_exported?(:telemetry, :persist, 0)

  @doc "How handlers are stored while a claim is checked."
  def modes, do: if(@can_persist, do: [:normal, :persisted], else: [:normal])

  def can_persist?, do: @can_persist

  def forward(event, measurements, metadata, %{pid: pid} = config) do
    send(pid, {:handled, config[:tag], event, measurements, metadata})
  end

  def echo(event, measurements, metadata, config) do
    send(config.pid, {:echo, event, measurements, metadata, config, self()})
  end

  def fail(_event, _measurements, _metadata, %{fail: fun}), do: fun.()

  def detach_id(_event, _measurements, _metadata, %{pid: pid, tag: tag, detach: id}) do
    send(pid, {:handled, tag, :telemetry.detach(id)})
  end

  def attach_id(event, _measurements, _metadata, %{pid: pid, attach: id}) do
    :telemetry.attach(id, event, &__MODULE__.forward/4, %{pid: pid, tag: :late})
  end

  def report_failure(_event, _measurements, metadata, %{pid: pid}) do
    send(pid, {:listed_at_failure, :telemetry.list_handlers(metadata.event_name)})
  end

  @doc "Starts `:telemetry` for a test, and puts back afterwards what was attached before."
  def prepare(context) do
    {:ok, _} = Application.ensure_all_started(:telemetry)
    kept = :telemetry.list_handlers([])

    if context[:restart] || context[:mode] == :persisted do
      on_exit(fn -> restart_with(kept) end)
    else
      kept_ids = ids(kept)

      on_exit(fn ->
        for id <- ids(:telemetry.list_handlers([])), id not in kept_ids, do: :telemetry.detach(id)
      end)
    end

    # Applied, because releases without persist/0 would have this warned about.
    if context[:mode] == :persisted, do: :ok = apply(:telemetry, :persist, [])

    unique = :"stand_in_#{System.unique_integer([:positive])}"
    {:ok, event: [unique, :thing, :done], root: unique, id: {:stand_in, unique}}
  end

  def attach(id, event, tag \\ nil) do
    :telemetry.attach(id, event, &__MODULE__.forward/4, %{pid: self(), tag: tag || id})
  end

  def attach_many(id, events, tag \\ nil) do
    :telemetry.attach_many(id, events, &__MODULE__.forward/4, %{pid: self(), tag: tag || id})
  end

  def attach_failing(id, event, fun) do
    config = %{fail: fun}
    :ok = :telemetry.attach(id, event, &__MODULE__.fail/4, config)
    config
  end

  def drain do
    receive do
      {:handled, tag, event, measurements, metadata} ->
        [{tag, event, measurements, metadata} | drain()]
    after
      0 -> []
    end
  end

  def tags, do: Enum.map(drain(), &elem(&1, 0))

  def ids(handlers), do: Enum.map(handlers, & &1.id)

  def listed(prefix) do
    prefix |> :telemetry.list_handlers() |> Enum.map(& &1.event_name) |> Enum.sort()
  end

  def second, do: System.convert_time_unit(1, :second, :native)

  # Runs the function in a process per element, all let go at the same moment.
  def concurrently(enumerable, fun) do
    tasks =
      for element <- enumerable do
        Task.async(fn ->
          receive do
            :go -> fun.(element)
          end
        end)
      end

    for task <- tasks, do: send(task.pid, :go)
    Task.await_many(tasks, 30_000)
  end

  defp restart_with(handlers) do
    _ = Application.stop(:telemetry)
    :ok = Application.start(:telemetry)

    handlers
    |> Enum.group_by(&{&1.id, &1.function, &1.config}, & &1.event_name)
    |> Enum.each(fn {{id, function, config}, events} ->
      :ok = :telemetry.attach_many(id, events, function, config)
    end)
  end
end
