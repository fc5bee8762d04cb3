defmodule Bridge.AlertsTest do
  use ExUnit.Case

  alias Bridge.Alerts
  alias DSPexTelemetry.Alert

  setup do
    start_supervised!(%{id: Alerts, start: {Alerts, :start_link, []}})
    :ok
  end

  defp spike(method) do
    {:error_spike,
     %{
       method: method,
       python_class: "Doc",
       error_count: 5,
       causes: [],
       first_unix_ms: 0,
       last_unix_ms: 1
     }}
  end

  defp await(count_of, count) do
    assert Alerts.await(&(length(Map.fetch!(&1, count_of)) == count), 5_000)
  end

  test "an alert is remembered with its key, and kept out of the log" do
    log = ExUnit.CaptureLog.capture_log(fn -> Alert.raise(spike("parse"), Alerts) end)

    await(:staged, 1)
    assert [%{kind: :error_spike, key: {"parse", "Doc"}}] = Alerts.told().staged
    assert log == ""
  end

  test "a long wait is taken from the log" do
    wait = %{command: "call_method", worker_id: "worker-1", wait_us: 700_000, suppressed: 0}
    log = ExUnit.CaptureLog.capture_log(fn -> Alert.raise({:queue_wait, wait}, Alerts) end)

    await(:staged, 1)

    assert [%{kind: :queue_wait, key: nil, metadata: %{text: text}}] = Alerts.told().staged
    assert text == "call_method waited 700ms for worker worker-1"
    assert log == ""
  end

  test "a warning that nobody else tells stays in the log" do
    overflow = {:overflow, %{limit: 7, event: "dspex.bridge.call_method"}}
    log = ExUnit.CaptureLog.capture_log(fn -> Alert.raise(overflow, Alerts) end)

    assert log =~ "Series limit of 7 reached"
  end

  test "of what was not staged the latest are kept, and the number" do
    Alert.raise(spike("staged"), Alerts)
    await(:staged, 1)
    Alerts.end_scenes()
    for n <- 1..7, do: Alert.raise(spike("mix#{n}"), Alerts)
    assert Alerts.await(&(&1.others_count == 7), 5_000)

    assert %{staged: [_], others: others} = Alerts.told()
    assert for(%{key: {method, _}} <- others, do: method) == ~w(mix3 mix4 mix5 mix6 mix7)
  end

  test "a condition that never holds is given up" do
    refute Alerts.await(fn _told -> false end, 1)
  end
end
