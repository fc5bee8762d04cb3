defmodule DSPexTelemetry.ReportModel do
  @moduledoc """
  The report that the documentation promises, computed from all events with sorted lists: the
  oracle for `DSPexTelemetry.report/1`.

  Takes events that carry their class and have nothing wrong with them. Durations are in
  nanoseconds.
  """

  @calls [
    operations: {[:dspex, :bridge, :call_method], [:method, :python_class]},
    instances: {[:dspex, :bridge, :create_instance], [:python_class]},
    tools: {[:dspex, :tools, :call], [:tool_name]}
  ]

  @doc """
  Expected rows and numbers from `{name, measurements, metadata}`. A row is its samples and errors,
  a distribution its samples in stored units and what divides them for the report.
  """
  def new(events) do
    by_name =
      Enum.group_by(events, &elem(&1, 0), fn {_name, numbers, data} -> {numbers, data} end)

    of = &Map.get(by_name, &1, [])
    samples = fn name, key, factor -> for {numbers, _} <- of.(name), do: numbers[key] * factor end

    sets = of.([:dspex, :session, :variable, :set])
    gets = of.([:dspex, :session, :variable, :get])
    expired = of.([:dspex, :session, :expired])
    spawned = of.([:snakepit, :worker, :spawned])
    died = of.([:snakepit, :worker, :died])
    created = length(of.([:dspex, :session, :created]))
    waits = of.([:snakepit, :pool, :queue_time])

    Map.merge(calls(of), %{
      sessions: %{
        created: created,
        expired: count_by(expired, :reason),
        lifetime_ms: {samples.([:dspex, :session, :expired], :lifetime_ms, 1), 1},
        operations: {samples.([:dspex, :session, :expired], :total_operations, 1), 1}
      },
      variables: %{
        set: count_by(sets, :var_type),
        get_found: Enum.count(gets, fn {_numbers, data} -> data.found end),
        get_missed: Enum.count(gets, fn {_numbers, data} -> not data.found end),
        set_size_bytes: {for({%{size: size}, _} <- sets, do: size), 1},
        get_size_bytes: {for({%{size: size}, _} <- gets, do: size), 1}
      },
      pool: %{
        size: alive(events),
        spawned: length(spawned),
        died: count_by(died, :reason),
        startup_us: {samples.([:snakepit, :worker, :spawned], :startup_time, 1), 1_000},
        lifetime_ms: {samples.([:snakepit, :worker, :died], :lifetime_ms, 1), 1},
        queue_wait_us: {samples.([:snakepit, :pool, :queue_time], :wait_time_us, 1_000), 1_000},
        queue_wait_us_by_command:
          waits
          |> Enum.group_by(fn {_numbers, data} -> data.command end)
          |> Map.new(fn {command, waits} ->
            {command, {for({numbers, _} <- waits, do: numbers.wait_time_us * 1_000), 1_000}}
          end)
      }
    })
  end

  @doc """
  The sample at or below which a share of the samples lies.
  """
  def quantile(samples, share) do
    sorted = Enum.sort(samples)
    Enum.at(sorted, max(ceil(share * length(sorted)), 1) - 1)
  end

  defp calls(of) do
    for {section, {span, labels}} <- @calls, into: %{} do
      stops = for {numbers, data} <- of.(span ++ [:stop]), do: {numbers, data, data.success}
      raised = for {numbers, data} <- of.(span ++ [:exception]), do: {numbers, data, false}

      rows =
        (stops ++ raised)
        |> Enum.group_by(fn {_numbers, data, _success} -> Map.take(data, labels) end)
        |> Map.new(fn {labels, calls} ->
          samples = for {numbers, _data, _success} <- calls, do: numbers.duration
          errors = Enum.count(calls, fn {_numbers, _data, success} -> not success end)
          {labels, %{samples: samples, errors: errors}}
        end)

      {section, rows}
    end
  end

  defp count_by(events, key) do
    Enum.frequencies_by(events, fn {_numbers, data} -> to_string(Map.fetch!(data, key)) end)
  end

  defp alive(events) do
    events
    |> Enum.reduce(MapSet.new(), fn
      {[:snakepit, :worker, :spawned], _numbers, %{worker_id: id}}, ids -> MapSet.put(ids, id)
      {[:snakepit, :worker, :died], _numbers, %{worker_id: id}}, ids -> MapSet.delete(ids, id)
      _other, ids -> ids
    end)
    |> MapSet.size()
  end
end
