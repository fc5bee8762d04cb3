defmodule Bridge.AlertingTest do
  @moduledoc """
  Failures of real Python methods, and whether somebody hears of them: by way of Prometheus with the
  shipped rules and Alertmanager, at a webhook.
  """

  use ExUnit.Case

  alias Bridge.{Pool, PythonError, Servers}
  alias Bridge.Servers.{Alertmanager, FastRules, Prometheus, Webhook}

  @moduletag :servers
  @moduletag timeout: 300_000
  @moduletag capture_log: true

  # Of HighErrorRate.
  @share 0.05
  @failures 40

  # Of WorkerPoolUnhealthy: at least three, more than half of the pool, and some more.
  @deaths 6
  @workers 4

  doctest FastRules

  setup_all do
    target = Servers.restart_telemetry()
    webhook = Webhook.start()
    alertmanager = Alertmanager.start(webhook.url)

    prometheus =
      Prometheus.start(
        name: "alerting",
        target: target,
        rules: FastRules.write(),
        alertmanager: alertmanager.url
      )

    start_supervised!({Bridge, workers: @workers})
    :ok = Pool.await_ready()
    %{prometheus: prometheus, webhook: webhook}
  end

  test "the rules are the shipped ones but for how long and how often", context do
    for path <- FastRules.shipped(), text = File.read!(path) do
      changed =
        for {shipped, fast} <- Enum.zip(lines(text), lines(FastRules.fast(text))),
            shipped != fast,
            do: shipped

      assert changed != []
      for line <- changed, do: assert(line =~ ~r/^\s*(for|keep_firing_for|interval): \d+[smhd]$/)
    end

    rules =
      Servers.await!("every rule to be evaluated", fn ->
        rules = Prometheus.rules(context.prometheus)
        if Enum.all?(rules, &(&1["health"] != "unknown")), do: rules
      end)

    shipped = Enum.map_join(FastRules.shipped(), &File.read!/1)
    assert length(rules) == length(Regex.scan(~r/^\s*- (?:alert|record): /m, shipped))
    for rule <- rules, do: assert(%{"health" => "ok"} = rule)
  end

  test "a burst of failures fires HighErrorRate at the webhook, and good calls resolve it",
       context do
    folder = Servers.new_folder("ledger")

    [ledger, other] =
      for _ <- 1..2, do: Bridge.create_instance!("Ledger", %{path: "#{folder}/ledger.db"})

    # A rate needs a value from before.
    Bridge.call_method!(ledger, "post", [[]])
    Prometheus.await_scrape(context.prometheus)
    for _ <- 1..@failures, do: Bridge.call_method!(ledger, "post", [[]])
    refute told?(context.webhook, "HighErrorRate", "firing")

    Bridge.call_method!(other, "close_books")

    for _ <- 1..@failures do
      assert_raise PythonError, ~r/locked/, fn -> Bridge.call_method!(ledger, "post", [[]]) end
    end

    Bridge.call_method!(other, "open_books")

    alert = await_told(context.webhook, "HighErrorRate", "firing")

    assert %{"method" => "post", "python_class" => "Ledger", "severity" => "warning"} =
             alert.labels

    assert alert.annotations["summary"] == "High error rate for bridge operations"

    # Half of them.
    assert alert.annotations["description"] =~
             ~r/^(4|5)\d(\.\d+)?% of the calls of Ledger.post on 127.0.0.1:\d+ failed/

    assert alert.annotations["runbook_url"] =~ ~r/^\S*docs\/runbooks.md#higherrorrate$/
    assert pending?(context.prometheus, "HighErrorRate")

    # So many that the failures are a smaller share of all.
    for _ <- 1..ceil(1.2 * @failures / @share), do: Bridge.call_method!(ledger, "post", [[]])

    resolved = await_told(context.webhook, "HighErrorRate", "resolved")
    assert resolved.labels == alert.labels
  end

  test "workers that die one after the other fire WorkerPoolUnhealthy at the webhook", context do
    # A single one, which is too few, makes the series.
    kill_until(deaths() + 1)
    Prometheus.await_scrape(context.prometheus)
    refute told?(context.webhook, "WorkerPoolUnhealthy", "firing")
    kill_workers(@deaths)

    alert = await_told(context.webhook, "WorkerPoolUnhealthy", "firing")
    assert alert.labels["severity"] == "warning"
    assert alert.annotations["summary"] == "Python workers dying frequently"
    assert alert.annotations["runbook_url"] =~ ~r/^\S*docs\/runbooks.md#workerpoolunhealthy$/
    assert pending?(context.prometheus, "WorkerPoolUnhealthy")
  end

  # Until so many more have died: a call that waits for a worker dies with it, and kills none.
  defp kill_workers(number) do
    wanted = deaths() + number

    1..@workers
    |> Enum.map(fn _ -> Task.async(fn -> kill_until(wanted) end) end)
    |> Task.await_many(60_000)
  end

  defp kill_until(wanted) do
    if deaths() < wanted do
      with {:ok, ref} <- Bridge.create_instance("Saboteur"), do: Bridge.call_method(ref, "kill")
      kill_until(wanted)
    end
  end

  defp deaths, do: Map.get(Pool.status().died, "exit_status", 0)

  defp await_told(webhook, name, status) do
    Servers.await!("#{name} to be told as #{status}", fn -> told(webhook, name, status) end)
  end

  defp told?(webhook, name, status), do: told(webhook, name, status) != nil

  defp told(webhook, name, status) do
    Enum.find(Webhook.alerts(webhook), &(&1.status == status and &1.labels["alertname"] == name))
  end

  # At some time; it is over when the alert fires.
  defp pending?(prometheus, name) do
    expression = ~s|count_over_time(ALERTS{alertname="#{name}", alertstate="pending"}[10m])|
    Prometheus.query(prometheus, expression) != []
  end

  defp lines(text), do: String.split(text, "\n")
end
