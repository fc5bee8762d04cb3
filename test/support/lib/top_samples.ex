defmodule DSPexTelemetry.TopSamples do
  @moduledoc "Data for `DSPexTelemetry.Top`, as no instance would have to record it."

  @doc "Nothing happened."
  def empty do
    %{
      instance: DSPexTelemetry,
      interval: %{
        from_unix_ms: 1_795_510_800_000,
        to_unix_ms: 1_795_510_860_000,
        duration_ms: 60_000
      },
      operations: [],
      spikes: [],
      anomalies: [],
      pool: %{
        size: 0,
        spawned: 0,
        died: %{},
        queue_wait_us: %{count: 0, p50: nil, p95: nil, p99: nil, max: nil}
      }
    }
  end

  @doc "A row of methods. `fields` replaces its numbers."
  def operation(method, class, fields \\ %{}) do
    Map.merge(
      %{
        method: method,
        python_class: class,
        count: 600,
        errors: 0,
        error_rate: 0.0,
        avg_us: 1_500.0,
        max_us: 9_000.0,
        p50_us: 1_000.0,
        p95_us: 4_000.0,
        p99_us: 8_000.0,
        calls_per_second: 10.0,
        total_us: 900_000.0,
        change: %{calls_per_second: nil, error_rate: nil, avg_us: nil, p95_us: nil}
      },
      fields
    )
  end

  def spike(method, class, causes) do
    %{
      method: method,
      python_class: class,
      error_count: 12,
      total: 40,
      first_unix_ms: 1_795_510_801_000,
      last_unix_ms: 1_795_510_804_500,
      causes: causes
    }
  end

  def anomaly(method, class, direction) do
    %{
      method: method,
      python_class: class,
      direction: direction,
      p95_us: 12_000.0,
      median_us: 3_000.0
    }
  end

  @doc "A function whose data say how often it was called: `Refresh1`, `Refresh2`, and so on."
  def counting do
    counter = :counters.new(1, [])

    fn ->
      :counters.add(counter, 1, 1)
      class = "Refresh#{:counters.get(counter, 1)}"

      %{
        empty()
        | operations: [
            operation("search", class, %{
              errors: 6,
              error_rate: 0.01,
              change: %{calls_per_second: nil, error_rate: nil, avg_us: nil, p95_us: 0.5}
            })
          ]
      }
    end
  end
end
