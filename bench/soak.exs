# Everything that comes and goes, for minutes, against a model of its own. See bin/soak --help.

defmodule Bench.Soak do
  alias Bench.Soak
  alias Bench.Soak.{Churn, Model, Table}

  @instance Soak.Kept
  @warm_up_ms 60_000
  @series_limit 200

  def main(argv) do
    {minutes, every} = arguments(argv)
    DSPexTelemetry.detach()
    Logger.configure(level: :none)

    # A history of seconds is full when the warm-up ends: what grows later is not meant to.
    {:ok, _pid} =
      DSPexTelemetry.start_link(
        name: @instance,
        duration_unit: :nanosecond,
        presets: [:dspex],
        series_limit: @series_limit,
        ref_limit: 500,
        slice: 1_000,
        history: 20_000,
        summary_interval: 20_000,
        http: [port: 0]
      )

    started_ms = now_ms()
    Table.header()

    run(%{
      model: Model.new(),
      round: 0,
      started_ms: started_ms,
      end_ms: started_ms + minutes * 60_000,
      every_ms: every * 1_000,
      shown_ms: started_ms,
      baseline: nil,
      faults: []
    })
  end

  defp arguments(argv) do
    case OptionParser.parse(argv, strict: [minutes: :integer, every: :integer]) do
      {options, [], []} ->
        minutes = Keyword.get(options, :minutes, 10)
        every = Keyword.get(options, :every, 30)
        if minutes < 2, do: refuse("--minutes must be at least 2, got #{minutes}")
        if every < 1, do: refuse("--every must be at least 1, got #{every}")
        {minutes, every}

      {_options, rest, invalid} ->
        names = rest ++ Enum.map(invalid, fn {name, value} -> "#{name} #{value}" end)
        refuse("there is nothing to do with #{Enum.join(names, " ")}; see bin/soak --help")
    end
  end

  defp refuse(sentence) do
    IO.puts(:stderr, "soak: #{sentence}")
    System.halt(2)
  end

  defp run(state) do
    Churn.round(state.round, @instance, state.model)
    now = now_ms()
    state = %{state | round: state.round + 1}
    state = if now - state.shown_ms >= state.every_ms, do: look(state, now), else: state
    if now < state.end_ms, do: run(state), else: finish(look(state, now))
  end

  defp look(state, now) do
    measured = Table.measure()
    counted = Model.counted(@instance)

    faults =
      drifts(state.baseline, measured) ++
        Model.differences(state.model, counted) ++ Model.differences_elsewhere(state.model)

    Table.row(now - state.started_ms, measured, counted, faults)
    warm? = now - state.started_ms >= @warm_up_ms

    %{
      state
      | shown_ms: now,
        baseline: state.baseline || if(warm?, do: measured),
        faults: state.faults ++ faults
    }
  end

  @rss_kib 5 * 1_024

  defp drifts(nil, _measured), do: []

  defp drifts(baseline, measured) do
    for {what, allowed} <- [rss_kib: @rss_kib, atoms: 0, ports: 0, threads: 0],
        grown = measured[what] - baseline[what],
        grown > allowed,
        do: "#{what} grew by #{grown} since the first minute, allowed are #{allowed}"
  end

  defp finish(%{faults: []} = state) do
    IO.puts("soak: #{state.round} rounds; nothing has drifted, and all counts are right")
  end

  defp finish(%{faults: faults}) do
    for fault <- Enum.uniq(faults), do: IO.puts(:stderr, "soak: #{fault}")
    System.halt(1)
  end

  defp now_ms, do: System.monotonic_time(:millisecond)
end

defmodule Bench.Soak.Model do
  # What was sent, counted before and after each event: a process that is killed between the two leaves them apart.

  @kinds [calls: 1, errors: 2, tools: 3, rejected: 4, wrong: 5]
  @width length(@kinds)

  def new, do: :counters.new(2 * @width, [:atomics])

  @doc "Executes something that counts as these kinds."
  def count(model, kinds, fun) do
    for kind <- kinds, do: :counters.add(model, @kinds[kind], 1)
    fun.()
    for kind <- kinds, do: :counters.add(model, @width + @kinds[kind], 1)
    :ok
  end

  @doc "Notes that an instance that is gone has counted something else than it was sent."
  def wrong(model), do: :counters.add(model, @kinds[:wrong], 1)

  @doc "What an instance says."
  def counted(instance) do
    report = DSPexTelemetry.report(instance: instance)
    sum = fn rows, key -> rows |> Enum.map(&Map.fetch!(&1, key)) |> Enum.sum() end

    %{
      calls: sum.(report.operations, :count),
      errors: sum.(report.operations, :errors),
      tools: sum.(report.tools, :count),
      rejected: sum.(DSPexTelemetry.info(instance: instance).rejected, :count)
    }
  end

  def differences(model, counted) do
    for {kind, count} <- counted,
        least = :counters.get(model, @width + @kinds[kind]),
        most = :counters.get(model, @kinds[kind]),
        count not in least..most,
        do: "#{kind} should be #{least} to #{most}, the instance says #{count}"
  end

  def differences_elsewhere(model) do
    case :counters.get(model, @kinds[:wrong]) do
      0 -> []
      wrong -> ["#{wrong} instances of one round have counted something else than they were sent"]
    end
  end
end

defmodule Bench.Soak.Churn do
  alias Bench.Soak.Model

  @call [:dspex, :bridge, :call_method, :stop]
  @tool [:dspex, :tools, :call, :stop]
  @create [:dspex, :bridge, :create_instance, :stop]
  @malformed [
    %{},
    %{duration: -1},
    %{duration: "1"},
    %{duration: nil},
    %{duration: 1.0e300},
    %{duration: [1 | 2]}
  ]
  @names Enum.map(1..4, &Module.concat(Bench.Soak, "Passing#{&1}"))
  @formats [:text, :openmetrics, :protobuf]

  @doc "One of each, the label sets of this round among them."
  def round(number, instance, model) do
    labels(number, model)
    malformed(number, model)
    killed(number, model)
    if rem(number, 4) == 0, do: scrape(number, instance)
    if rem(number, 16) == 0, do: instance(number, model)
  end

  # More methods than there is room for, and ever new references.
  defp labels(number, model) do
    for at <- 1..100 do
      call(model, number * 10 + at)

      Model.count(model, [:tools], fn ->
        :telemetry.execute(@tool, %{duration: at}, %{
          tool_name: "tool #{rem(at, 7)}",
          success: true
        })
      end)

      :telemetry.execute(@create, %{duration: at}, %{
        ref: "ref #{number} #{at}",
        python_class: "Class#{rem(at, 9)}",
        success: true
      })
    end
  end

  defp call(model, number) do
    failed? = rem(number, 11) == 0
    metadata = %{method: "method #{number}", python_class: "Soak", success: not failed?}
    metadata = if failed?, do: Map.put(metadata, :error_type, "TimeoutError"), else: metadata

    Model.count(model, if(failed?, do: [:calls, :errors], else: [:calls]), fn ->
      :telemetry.execute(@call, %{duration: number}, metadata)
    end)
  end

  defp malformed(number, model) do
    metadata = %{method: "method #{number}", python_class: "Soak", success: true}

    for measurements <- @malformed do
      Model.count(model, [:rejected], fn -> :telemetry.execute(@call, measurements, metadata) end)
    end
  end

  # In the middle of what they do.
  defp killed(number, model) do
    parent = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        call(model, number)
        send(parent, {:began, self()})
        calls_forever(model, number)
      end)

    receive do
      {:began, ^pid} -> Process.exit(pid, :kill)
    end

    receive do
      {:DOWN, ^monitor, :process, ^pid, :killed} -> :ok
    end
  end

  defp calls_forever(model, number) do
    call(model, number)
    calls_forever(model, number)
  end

  defp scrape(number, instance) do
    for format <- @formats, do: DSPexTelemetry.scrape(instance: instance, format: format)
    {:ok, %{ip: ip, port: port}} = DSPexTelemetry.http_address(instance: instance)
    path = Enum.at(["/metrics", "/report.json", "/health", "/"], rem(number, 4))
    request = "GET #{path} HTTP/1.1\r\nhost: localhost\r\n\r\n"
    {:ok, socket} = :gen_tcp.connect(ip, port, [:binary, active: false])
    # Now and then a client goes away before the answer, or before its request is whole.
    case rem(div(number, 4), 5) do
      0 -> :gen_tcp.send(socket, binary_part(request, 0, 10))
      1 -> :gen_tcp.send(socket, request)
      _ -> whole(socket, request)
    end

    :gen_tcp.close(socket)
  end

  defp whole(socket, request) do
    :ok = :gen_tcp.send(socket, request)
    "HTTP/1.1 200" <> _rest = read(socket, "")
  end

  defp read(socket, read) do
    case :gen_tcp.recv(socket, 0, 30_000) do
      {:ok, bytes} -> read(socket, read <> bytes)
      {:error, :closed} -> read
    end
  end

  # Starts, counts and goes: it is stopped, or killed with all that is below it.
  defp instance(number, model) do
    name = Enum.at(@names, rem(div(number, 16), length(@names)))
    parent = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        {:ok, owner} =
          DSPexTelemetry.start_link(name: name, duration_unit: :nanosecond, presets: [:dspex])

        for at <- 1..50, do: call(model, at)
        if Model.counted(name).calls != 50, do: Model.wrong(model)
        if rem(number, 32) == 0, do: Supervisor.stop(owner)
        send(parent, {:counted, self()})
        Process.sleep(:infinity)
      end)

    receive do
      {:counted, ^pid} -> Process.exit(pid, :kill)
      {:DOWN, ^monitor, :process, ^pid, _reason} -> Model.wrong(model)
    end

    gone(name)
  end

  defp gone(name) do
    case Registry.whereis_name({DSPexTelemetry.Instance.Lookup.registry(), name}) do
      :undefined ->
        :ok

      pid ->
        monitor = Process.monitor(pid)

        receive do
          {:DOWN, ^monitor, :process, ^pid, _reason} -> :ok
        end
    end
  end
end

defmodule Bench.Soak.Table do
  @columns [
    time: 8,
    rss_kib: 9,
    atoms: 7,
    ports: 6,
    threads: 8,
    processes: 10,
    calls: 10,
    errors: 8,
    tools: 10,
    rejected: 9
  ]

  def header, do: @columns |> Enum.map(fn {name, width} -> cell(name, width) end) |> IO.puts()

  @doc "What the VM takes, without what nobody needs any more."
  def measure do
    {rss_kib, ports} = least()

    %{
      rss_kib: rss_kib,
      atoms: :erlang.system_info(:atom_count),
      ports: ports,
      threads: length(File.ls!("/proc/self/task")),
      processes: :erlang.system_info(:process_count)
    }
  end

  # A connection whose client is gone takes a moment to close, and an instance that was killed to go.
  @looks 20
  @look_ms 50

  defp least do
    looks =
      for _look <- 1..@looks do
        Process.sleep(@look_ms)
        for pid <- Process.list(), do: :erlang.garbage_collect(pid)
        {rss_kib(), :erlang.system_info(:port_count)}
      end

    {rss_kib, ports} = Enum.unzip(looks)
    {Enum.min(rss_kib), Enum.min(ports)}
  end

  defp rss_kib do
    [_all, kib] = Regex.run(~r/^VmRSS:\s+(\d+) kB$/m, File.read!("/proc/self/status"))
    String.to_integer(kib)
  end

  def row(ms, measured, counted, faults) do
    row = measured |> Map.merge(counted) |> Map.put(:time, "#{div(ms, 1_000)} s")
    cells = for {name, width} <- @columns, do: cell(row[name], width)
    IO.puts([cells, if(faults == [], do: "", else: "  ← wrong")])
  end

  defp cell(value, width), do: value |> to_string() |> String.pad_leading(width)
end

Bench.Soak.main(System.argv())
