defmodule DSPexTelemetry.Endpoint.LeavesNothingTest do
  # Not async: counts what the whole VM has.
  use ExUnit.Case, async: false

  import DSPexTelemetry.HttpClient
  import DSPexTelemetry.TestInstance

  test "requests of all kinds leave no atoms, no processes and no ports behind" do
    name = start!(http: [port: 0])
    {:ok, address} = DSPexTelemetry.http_address(instance: name)
    # What the first of each kind loads.
    requests(address, 1..5)
    count = fn -> Enum.map([:atom_count, :process_count, :port_count], &:erlang.system_info/1) end
    [atoms, processes, ports] = count.()

    requests(address, 6..105)

    await("as many processes and ports as before", fn ->
      [_atoms, now_processes, now_ports] = count.()
      now_processes <= processes and now_ports <= ports
    end)

    [now_atoms, _processes, _ports] = count.()
    assert now_atoms - atoms < 10
  end

  test "endpoints on free ports leave no atoms behind, however many there were" do
    name = unique_name()
    %{id: id} = DSPexTelemetry.child_spec(name: name)

    serve = fn ->
      start_supervised!({DSPexTelemetry, name: name, http: [port: 0]})
      {:ok, %{port: port} = address} = DSPexTelemetry.http_address(instance: name)
      assert request(address, "GET", "/health").status == 200
      :ok = stop_supervised(id)
      port
    end

    # As many as are new to httpd, and what the first start loads.
    for _ <- 1..70, do: serve.()
    atoms = :erlang.system_info(:atom_count)
    ports = for _ <- 1..20, do: serve.()
    assert :erlang.system_info(:atom_count) - atoms < 8
    # The one that has rested longest is the next.
    assert Enum.uniq(ports) == ports
  end

  test "two endpoints on free ports have two" do
    ports =
      for _ <- 1..70 do
        {:ok, %{port: port}} = DSPexTelemetry.http_address(instance: start!(http: [port: 0]))
        port
      end

    assert Enum.uniq(ports) == ports
  end

  defp requests(address, numbers) do
    for n <- numbers do
      request(address, "GET", "/metrics?unseen_#{n}=1", [{"unseen-#{n}", "unseen_value_#{n}"}])
      request(address, "GET", "/unseen_#{n}", [{"authorization", "Unseen#{n} x"}])
      request(address, "UNSEEN#{n}", "/metrics")
      request(address, "GET", "/report.json?window=unseen_#{n}")

      request(address, "GET", "/metrics", [
        {"accept", "unseen#{n}/unseen#{n};unseen#{n}=1"},
        {"accept-encoding", "unseen#{n}"}
      ])

      # Gone before it has its answer, and before it has asked.
      impatient = connect!(address)
      :gen_tcp.send(impatient, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
      :gen_tcp.close(impatient)
      address |> connect!() |> :gen_tcp.close()
    end
  end
end
