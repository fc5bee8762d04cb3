defmodule Bridge.DetectedTest do
  use ExUnit.Case, async: true

  alias Bridge.Detected

  # 2026-11-24, 12:01:07 UTC
  @noon 1_795_521_667_000

  defp ledger(method), do: %{method: method, python_class: "Ledger"}

  defp alert(kind, measurements, metadata, seconds \\ 0) do
    key = with %{method: method, python_class: class} <- metadata, do: {method, class}

    %{
      kind: kind,
      key: if(is_tuple(key), do: key),
      at_unix_ms: @noon + seconds * 1_000,
      measurements: measurements,
      metadata: metadata
    }
  end

  defp spike do
    causes = [%{kind: "error", reason: "Bridge.PythonError", count: 5}]
    times = %{first_unix_ms: 0, last_unix_ms: 400, causes: causes}
    alert(:error_spike, %{error_count: 5}, Map.merge(ledger("post"), times))
  end

  defp spike_over do
    duration = System.convert_time_unit(3_100, :millisecond, :native)
    alert(:spike_over, %{total: 23, duration: duration}, ledger("post"), 3)
  end

  defp anomaly do
    measurements = %{p95_us: 41_200.0, lower_us: 1_100.0, upper_us: 3_300.0}
    alert(:latency_anomaly, measurements, ledger("scan"), 1)
  end

  defp anomaly_over(reason \\ :back_in_range) do
    duration = System.convert_time_unit(500, :millisecond, :native)
    metadata = Map.put(ledger("scan"), :reason, reason)
    alert(:anomaly_over, %{p95_us: 900.0, duration: duration}, metadata, 2)
  end

  defp wait, do: alert(:queue_wait, %{}, %{text: "call_method waited 1.20s for worker worker-3"})

  defp told(staged, others \\ [], others_count \\ 0) do
    last = %{
      key: {"scan", "Ledger"},
      measurements: %{count: 9, p95_us: 1_500.0},
      interval: %{to_unix_ms: @noon, duration_ms: 2_000}
    }

    %{
      staged: staged,
      others: others,
      others_count: others_count,
      summaries: %{times: 2, calls: %{{"scan", "Ledger"} => 9}, last: last}
    }
  end

  defp all, do: [spike(), anomaly(), anomaly_over(), spike_over(), wait()]

  test "every alert is a line, under each other" do
    assert Detected.section(told(all())) == """
           Detected
             12:01:07  error spike      Ledger.post failed 5 times within 400ms: 5 × error Bridge.PythonError
             12:01:08  latency anomaly  Ledger.scan p95 41.2ms, usually 1.10ms to 3.30ms
             12:01:09  anomaly over     Ledger.scan p95 900us, after 500ms
             12:01:10  spike over       Ledger.post failed 23 times in 3.10s
             12:01:07  queue wait       call_method waited 1.20s for worker worker-3
             12:01:07  summary          2 times, 1 methods; most time in the last 2.00s: Ledger.scan, 9 calls, p95 1.50ms\
           """
  end

  test "what was not staged comes last, as far as it was kept" do
    assert Detected.section(told([], [wait()], 1)) =~ "\n  Not staged, 1:\n  12:01:07  queue wait"
    assert Detected.section(told([], [wait()], 8)) =~ "\n  Not staged, the last 1 of 8:\n"
  end

  test "nothing is said to be nothing" do
    told = %{told([]) | summaries: %{times: 0, calls: %{}, last: nil}}
    assert Detected.section(told) == "Detected\n  nothing"
  end

  test "an anomaly that ends because nobody calls says so" do
    assert Detected.section(told([anomaly_over(:no_calls)])) =~
             "Ledger.scan not called any more, after 500ms"
  end

  test "all that was staged and told is fine, also if noise adds another pair or begins one" do
    assert Detected.disagreements(told(all()), 9) == []
    assert Detected.disagreements(told(all() ++ [anomaly(), anomaly_over()]), 9) == []
    assert Detected.disagreements(told(all() ++ [anomaly()]), 9) == []
  end

  test "a staged alert that never came, came twice or never ended is a sentence" do
    for {staged, told} <- [
          {all() -- [spike(), spike_over()], "error spike of Ledger.post .* told: never"},
          {all() -- [spike_over()], "error spike of Ledger.post .* told: error spike"},
          {all() ++ [spike(), spike()],
           "told: error spike, spike over, error spike, error spike"},
          {all() -- [anomaly()], "latency anomaly of Ledger.scan .* told: anomaly over"},
          {all() -- [anomaly_over()], "latency anomaly of Ledger.scan .* told: latency anomaly"},
          {all() -- [wait()], "a long wait for a worker was staged, and never told"}
        ] do
      assert [sentence] = Detected.disagreements(told(staged), 9)
      assert sentence =~ Regex.compile!(told <> "$")
    end
  end

  test "summaries must have every call of the slow method" do
    assert Detected.disagreements(told(all()), 10) ==
             ["the demo called Ledger.scan 10 times, the summaries say 9"]
  end
end
