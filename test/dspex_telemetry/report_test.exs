defmodule DSPexTelemetry.ReportTest do
  # Not async: totals count the events of all tests.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance, only: [row: 2, start!: 0, start!: 1]

  alias DSPexTelemetry.{ReportModel, StrictJSON}

  @events 40_000
  @classes ~w(Index Ranker Parser Cache)
  @methods ~w(search add score close flush open)
  @tools ~w(clock lookup notify)
  @reasons ~w(timeout closed)a
  @quantiles [p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99, p999: 0.999]

  @empty %{
    count: 0,
    mean: nil,
    min: nil,
    max: nil,
    p50: nil,
    p90: nil,
    p95: nil,
    p99: nil,
    p999: nil
  }

  describe "of random events from several processes" do
    setup do
      :rand.seed(:exsss, {3, 1, 4})
      digits = for digits <- 1..3, do: {digits, start!(significant_digits: digits)}

      events = for _ <- 1..@events, do: random_event()

      # Only the pool depends on the order of events.
      {pool, others} =
        Enum.split_with(events, fn {name, _, _} -> match?([:snakepit, :worker, _], name) end)

      others
      |> Enum.chunk_every(div(@events, 4))
      |> Task.async_stream(&emit_all/1, ordered: false, timeout: :infinity)
      |> Stream.run()

      emit_all(pool)

      %{digits: digits, model: ReportModel.new(pool ++ others)}
    end

    test "every number is exact, and quantiles are within the precision",
         %{digits: digits, model: model} do
      for {digits, instance} <- digits do
        report = DSPexTelemetry.report(instance: instance)
        # The upper end of the bucket: never below the sample, and above it by the precision.
        precision = 10 ** -digits

        for section <- [:operations, :instances, :tools] do
          rows = Map.fetch!(report, section)
          expected = Map.fetch!(model, section)
          assert length(rows) == map_size(expected)

          for {labels, %{samples: samples, errors: errors}} <- expected do
            row = row(rows, labels)
            assert row.errors == errors
            assert row.error_rate == errors / length(samples)
            assert_distribution(row_distribution(row), samples, 1_000, precision)
          end

          assert rows == Enum.sort_by(rows, &(-Enum.sum(expected[labels(&1)].samples)))
        end

        for section <- [:sessions, :variables, :pool],
            {key, expected} <- Map.fetch!(model, section) do
          actual = report |> Map.fetch!(section) |> Map.fetch!(key)
          assert_number({section, key}, actual, expected, precision)
        end
      end
    end

    test "the JSON text holds the numbers of the struct", %{digits: [{_, instance} | _]} do
      json = StrictJSON.decode!(DSPexTelemetry.report(instance: instance, format: :json))
      report = DSPexTelemetry.report(instance: instance, format: :struct)
      assert_same(json, report)
    end
  end

  test "an instance that has seen no event reports nothing, in all formats" do
    instance = start!()
    report = DSPexTelemetry.report(instance: instance)

    assert report |> Map.from_struct() |> Map.delete(:interval) == %{
             slowest: [],
             summaries: [],
             operations: [],
             instances: [],
             tools: [],
             sessions: %{
               created: 0,
               expired: %{},
               lifetime_ms: @empty,
               operations: @empty
             },
             variables: %{
               set: %{},
               get_found: 0,
               get_missed: 0,
               set_size_bytes: @empty,
               get_size_bytes: @empty
             },
             pool: %{
               size: 0,
               spawned: 0,
               died: %{},
               startup_us: @empty,
               lifetime_ms: @empty,
               queue_wait_us: @empty,
               queue_wait_us_by_command: %{}
             }
           }

    json = DSPexTelemetry.report(instance: instance, format: :json)
    assert_same(StrictJSON.decode!(json), report)
    assert to_string(report) =~ "Method calls\n  none\n"
  end

  test "calls that have only started make no row" do
    instance = start!()
    call = %{method: "m", python_class: "C"}
    :telemetry.execute([:dspex, :bridge, :call_method, :start], %{}, call)
    :telemetry.execute([:dspex, :bridge, :create_instance, :start], %{}, call)
    tool = %{tool_name: "t", caller: :python}
    :telemetry.execute([:dspex, :tools, :call, :start], %{}, tool)

    assert %{operations: [], instances: [], tools: []} = DSPexTelemetry.report(instance: instance)
  end

  test "calls count whether they were cached or not" do
    instance = start!()

    for cached <- [true, false, nil], success <- [true, false] do
      metadata = %{method: "m", python_class: "C", success: success, cached: cached}
      :telemetry.execute([:dspex, :bridge, :call_method, :stop], %{duration: 1}, metadata)
    end

    assert [%{count: 6, errors: 3, error_rate: 0.5}] =
             DSPexTelemetry.report(instance: instance).operations
  end

  test "the pool is a set of workers: what repeats or was never there changes nothing" do
    instance = start!(worker_limit: 3)
    size = fn -> DSPexTelemetry.report(instance: instance).pool.size end

    spawned("a")
    spawned("a")
    assert size.() == 1
    died("b")
    assert size.() == 1
    died("a")
    died("a")
    assert size.() == 0

    for id <- ~w(a b c d e d), do: spawned(id)
    assert size.() == 3
    assert %{workers: 3, workers_overflow: 3} = DSPexTelemetry.info(instance: instance)
    assert %{spawned: 8, died: %{"closed" => 3}} = DSPexTelemetry.report(instance: instance).pool
  end

  test "reasons of deaths are reduced to a bounded set of words" do
    instance = start!()

    for reason <- [
          :timeout,
          {:exit_status, 1},
          {:exit_status, 137},
          %RuntimeError{message: "no"},
          {%RuntimeError{message: "again"}, [{__MODULE__, :f, 0, []}]},
          {:shutdown, :restart},
          "text",
          {:badmatch, 5, 6}
        ],
        do: died("w", reason)

    assert DSPexTelemetry.report(instance: instance).pool.died == %{
             "timeout" => 1,
             "exit_status" => 2,
             "RuntimeError" => 2,
             "restart" => 1,
             "badmatch" => 1,
             "other" => 1
           }
  end

  defp emit_all(events) do
    for {name, measurements, metadata} <- events do
      :telemetry.execute(name, measurements, metadata)
    end
  end

  defp random_event do
    case :rand.uniform(20) do
      n when n <= 8 ->
        {[:dspex, :bridge, :call_method, :stop], duration(), call(success())}

      9 ->
        {[:dspex, :bridge, :call_method, :exception], duration(), call(%{kind: :error})}

      10 ->
        {[:dspex, :bridge, :create_instance, :stop], duration(), creation(success())}

      11 ->
        {[:dspex, :bridge, :create_instance, :exception], duration(), creation(%{kind: :exit})}

      12 ->
        {[:dspex, :tools, :call, :stop], duration(), Map.merge(tool(), success())}

      13 ->
        {[:dspex, :tools, :call, :exception], duration(), Map.put(tool(), :kind, :throw)}

      14 ->
        {[:dspex, :session, :created], %{system_time: 1}, %{session_id: "s"}}

      15 ->
        {[:dspex, :session, :expired], expiry(), %{reason: Enum.random(@reasons)}}

      16 ->
        {[:dspex, :session, :variable, :set], %{size: size()}, %{var_type: any(~w(int str))}}

      17 ->
        {[:dspex, :session, :variable, :get], maybe_size(), %{found: any([true, false])}}

      18 ->
        {[:snakepit, :worker, :spawned], %{startup_time: time()}, worker()}

      19 ->
        {[:snakepit, :worker, :died], %{lifetime_ms: size()}, Map.put(worker(), :reason, :closed)}

      20 ->
        {[:snakepit, :pool, :queue_time], %{wait_time_us: size()}, %{command: any(~w(a b))}}
    end
  end

  defp any(list), do: Enum.random(list)
  defp duration, do: %{duration: time(), result_size: size()}
  defp success, do: %{success: :rand.uniform(10) > 1, cached: any([true, false])}
  defp tool, do: %{tool_name: any(@tools)}
  defp worker, do: %{worker_id: "w#{:rand.uniform(30)}", python_version: any(~w(3.11 3.12))}
  defp expiry, do: %{lifetime_ms: time(), total_operations: size()}
  defp creation(more), do: Map.merge(%{python_class: any(@classes), ref: "r"}, more)

  defp call(more),
    do: Map.merge(%{method: any(@methods), python_class: any(@classes), ref: "r"}, more)

  # Spread evenly over the powers of two, zero included; a few hours at most.
  defp time, do: :rand.uniform(2 ** :rand.uniform(44)) - 1
  defp size, do: :rand.uniform(2 ** :rand.uniform(30)) - 1
  defp maybe_size, do: any([%{}, %{size: size()}])

  defp spawned(id) do
    metadata = %{worker_id: id, python_version: "3.11"}
    :telemetry.execute([:snakepit, :worker, :spawned], %{startup_time: 1}, metadata)
  end

  defp died(id, reason \\ :closed) do
    metadata = %{worker_id: id, reason: reason}
    :telemetry.execute([:snakepit, :worker, :died], %{lifetime_ms: 1}, metadata)
  end

  defp assert_number(_place, actual, {samples, divisor}, precision) when is_list(samples),
    do: assert_distribution(actual, samples, divisor, precision)

  defp assert_number(place, actual, %{} = expected, precision) do
    assert {place, Map.keys(actual)} == {place, Map.keys(expected)}

    for {label, value} <- expected,
        do: assert_number({place, label}, Map.fetch!(actual, label), value, precision)
  end

  defp assert_number(place, actual, expected, _precision),
    do: assert({place, actual} == {place, expected})

  defp assert_distribution(actual, samples, divisor, precision) do
    count = length(samples)
    assert actual.count == count
    assert actual.mean == Enum.sum(samples) / count / divisor
    assert actual.min == Enum.min(samples) / divisor
    assert actual.max == Enum.max(samples) / divisor

    for {key, share} <- @quantiles do
      exact = ReportModel.quantile(samples, share) / divisor
      reported = Map.fetch!(actual, key)
      assert reported >= exact and reported <= min(exact * (1 + precision), actual.max)
    end
  end

  defp labels(row), do: Map.take(row, [:method, :python_class, :tool_name])

  defp row_distribution(row) do
    for key <- [:mean, :min, :max | Keyword.keys(@quantiles)], into: %{count: row.count} do
      {key, Map.fetch!(row, :"#{key}_us")}
    end
  end

  defp string_keys(%{} = map),
    do: Map.new(map, fn {key, value} -> {to_string(key), string_keys(value)} end)

  defp string_keys(list) when is_list(list), do: Enum.map(list, &string_keys/1)
  defp string_keys(value), do: value

  # Time goes on between the two.
  defp assert_same(json, report) do
    report = report |> Map.from_struct() |> string_keys()
    assert Map.delete(json, "interval") === Map.delete(report, "interval")
    interval = json["interval"]
    assert_in_delta interval["from_unix_ms"], report["interval"]["from_unix_ms"], 100
    assert interval["duration_ms"] == interval["to_unix_ms"] - interval["from_unix_ms"]
  end
end
