defmodule DSPexTelemetry.Docs.ProductionTest do
  # The formulas of docs/production.md, against what the library says of itself.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Catalogue, Info, Markdown, Native, Options, OTLP, OTLPTesting}
  alias DSPexTelemetry.PerformanceRouter, as: Router

  @guide File.read!("docs/production.md")
  @stop [:dspex, :bridge, :call_method, :stop]
  @methods 100

  setup_all do
    [{module, _binary}] = @guide |> Markdown.block!("Series") |> Code.compile_string()
    %{formula: module}
  end

  defp calls_family,
    do: Enum.find(Catalogue.families(), &(&1.name == Catalogue.calls_family()))

  # The one formula under a heading, in bytes, for its variables.
  defp formula(heading, variables) do
    [_before, section] = String.split(@guide, "\n## #{heading}\n")
    [section | _others] = String.split(section, "\n## ")
    [[_all, formula]] = Regex.scan(~r/^    (\S.*)  bytes$/m, section)

    elixir =
      formula
      |> String.replace(~r/(?<=\d),(?=\d{3})/, "")
      |> String.replace("×", "*")
      |> String.replace(~r/⌈(.*?)⌉/, "ceil(\\1)")

    {bytes, _variables} = Code.eval_string(elixir, variables)
    bytes
  end

  # The numbers in what the guide says.
  defp told(pattern) do
    [_all | numbers] = Regex.run(pattern, @guide)
    for number <- numbers, do: number |> String.replace(",", "") |> number()
  end

  defp number(text) do
    case Integer.parse(text) do
      {integer, ""} -> integer
      _decimals -> String.to_float(text)
    end
  end

  # Each series gets durations and sizes that fall into so many powers of two, on so many schedulers.
  defp record(plans, schedulers, duration_powers, size_powers) do
    for scheduler <- 1..schedulers do
      {_pid, monitor} =
        :erlang.spawn_opt(
          fn ->
            for method <- 1..@methods, power <- 0..9 do
              measurements = %{
                duration: 1_000_000 * 2 ** rem(power, duration_powers),
                result_size: 1_024 * 2 ** rem(power, size_powers)
              }

              # Labels of 15 bytes.
              metadata = %{method: "method_#{99 + method}", python_class: "Index", success: true}
              handle(plans, @stop, measurements, metadata)
            end
          end,
          [:monitor, scheduler: scheduler]
        )

      assert_receive {:DOWN, ^monitor, :process, _pid, :normal}, 10_000
    end
  end

  describe "the formula of series" do
    for digits <- 1..3, recording <- 1..2, powers <- [{1, 1}, {10, 4}] do
      test "agrees with info/1: #{digits} digits, #{recording} schedulers, #{inspect(powers)} powers of two",
           %{formula: formula} do
        {duration_powers, size_powers} = unquote(powers)
        recording = min(unquote(recording), System.schedulers())
        # No slice ends meanwhile, and other tests' events do not come here.
        options = [significant_digits: unquote(digits), slice: 3_600_000, attach: false]
        instance = start!(options)
        record(plans(instance), recording, duration_powers, size_powers)

        %Info{} = info = DSPexTelemetry.info(instance: instance)
        told = Enum.find(info.series, &(&1.event == calls_family().name))
        assert told.series == @methods

        bytes =
          formula.bytes(calls_family(),
            digits: unquote(digits),
            label_bytes: 15,
            schedulers: System.schedulers(),
            recording: recording,
            powers: duration_powers + size_powers
          )

        # The overflow series, which is there from the start, and some words of the family are in what is told.
        assert_in_delta told.memory_bytes / @methods, bytes, 100
      end
    end

    test "gives the table that the guide has", %{formula: formula} do
      for {schedulers, series, row, unit} <- [
            {2, 1, "a series, 2 schedulers", 1_000},
            {4, 2_000, "2,000 series, 4 schedulers", 1_000_000}
          ],
          {digits, index} <- Enum.with_index(1..3) do
        bytes =
          formula.bytes(calls_family(),
            digits: digits,
            label_bytes: 15,
            schedulers: schedulers,
            recording: schedulers,
            powers: 14
          )

        [_all | cells] =
          Regex.run(~r/^\| #{row} \| (\S+) .B \| (\S+) .B \| (\S+) .B \|$/m, @guide)

        {told, ""} = cells |> Enum.at(index) |> Float.parse()
        assert_in_delta told, bytes * series / unit, max(told * 0.02, 0.05)
      end
    end
  end

  test "a series has as many cells as the guide says" do
    family = calls_family()
    assert length(family.histograms) == 3

    combinations =
      for counter <- family.counters,
          do: counter.dimensions |> Enum.map(&length(elem(&1, 1))) |> Enum.product()

    buckets = for histogram <- family.histograms, do: 5 + length(histogram.buckets)
    cells = 2 + Enum.sum(combinations) + Enum.sum(buckets)
    assert @guide =~ "three histograms and #{cells} cells"
  end

  test "a slice takes as many bytes for an active series as the guide says" do
    instance = start!(slice: 10_000, history: 3_600_000, attach: false)
    plans = plans(instance)
    [least, most] = told(~r/\((\d+) to (\d+)\s+were measured\)/)
    {now_ms, unix_ms} = DSPexTelemetry.Instance.Clock.now()
    :rand.seed(:exsss, {11, 24, 2026})

    slices = 20

    for slice <- 1..slices do
      for method <- 1..@methods, _call <- 1..30 do
        metadata = %{method: "method_#{99 + method}", python_class: "Index", success: true}
        duration = round(10_000_000 * :math.exp(0.4 * :rand.normal()))
        handle(plans, @stop, %{duration: duration}, metadata)
      end

      Native.tick(native(instance), {now_ms + slice * 10_000, unix_ms + slice * 10_000})
    end

    %{windows: windows} = DSPexTelemetry.info(instance: instance)
    assert windows.slices >= slices
    bytes = windows.memory_bytes / windows.slices / @methods
    assert bytes >= least and bytes <= most
  end

  test "single calls take at most as much as the formula says, and not much less with the longest texts" do
    text = String.duplicate("x", 300)
    exception = [:snakepit, :python, :call, :exception]

    error = %{
      __struct__: Snakepit.Error.PythonException,
      python_type: String.duplicate("E", 128),
      message: text
    }

    metadata = %{
      function: text,
      python_module: text,
      error: error,
      session_id: text,
      trace_id: text,
      correlation_id: text
    }

    # The worker is in the error, since an event with `worker_id` is Python's.
    metadata = put_in(metadata.error, %{details: %{reason: error, worker_id: text}})
    {:ok, event} = Catalogue.fetch(exception)

    memory = fn options ->
      instance = start!([attach: false, slice: 3_600_000] ++ options)
      plans = plans(instance)
      for ms <- 1..200, do: handle(plans, event, %{duration: ms * 1_000_000}, metadata)
      DSPexTelemetry.info(instance: instance).memory_bytes
    end

    without = memory.(last_failures: 0, slowest_calls: 0)
    kept = memory.(last_failures: 100, slowest_calls: 20) - without
    bytes = formula("Single calls", last_failures: 100, slowest_calls: 20)
    assert kept <= bytes and kept > bytes * 0.8
    assert @guide =~ "#{round(bytes / 1_000)} kB by default"
  end

  describe "the formula of the router" do
    # What the router of an instance takes once these are there. Each worker was asked for each command.
    defp router_bytes(
           workers: workers,
           commands: commands,
           worker_limit: limit,
           sticky_keys: keys
         ) do
      router = [command_limit: 128, sticky_limit: keys]
      on = [instance: start!(attach: false, worker_limit: limit, router: router)]
      before = DSPexTelemetry.info(on).memory_bytes
      ids = worker_ids(workers)
      Router.put_workers(ids, on)
      for id <- ids, do: :ok = Router.bind(id, id, on)

      for command <- 1..commands, id <- ids do
        {:ok, ^id} = Router.route_request("command_#{100 + command}", nil, [sticky: id] ++ on)
      end

      # More than there may be.
      for key <- 1..(keys + 100),
          do: {:ok, _id} = Router.route_request("command_101", nil, [sticky: key] ++ on)

      assert %{sticky_keys: ^keys, commands: told} = Router.report(on)
      assert length(told) == commands
      DSPexTelemetry.info(on).memory_bytes - before
    end

    defp worker_ids(count), do: for(number <- 1..count, do: "worker_#{100_000 + number}")

    for numbers <- [
          [workers: 1_000, commands: 1, worker_limit: 10_000, sticky_keys: 1_000],
          [workers: 64, commands: 40, worker_limit: 64, sticky_keys: 64],
          [workers: 65, commands: 40, worker_limit: 10_000, sticky_keys: 65],
          [workers: 1, commands: 128, worker_limit: 1_000_000, sticky_keys: 1],
          [workers: 1, commands: 1, worker_limit: 1, sticky_keys: 20_000]
        ] do
      test "agrees with info/1: #{inspect(numbers)}" do
        bytes = formula("Router", unquote(numbers))
        assert_in_delta router_bytes(unquote(numbers)), bytes, bytes * 0.01
      end
    end

    test "gives what the guide says of 100 workers" do
      numbers = [workers: 100, commands: 20, worker_limit: 10_000, sticky_keys: 0]
      [kilobytes] = told(~r/100 workers that are asked for 20 commands take (\d+) kB/)
      assert_in_delta kilobytes, formula("Router", numbers) / 1_000, 5
    end

    test "has on top as much for workers that have left as the guide says" do
      [most, bytes] = told(~r/at most the last ([\d,]+) are remembered, with (\d+) bytes each/)
      on = [instance: start!(attach: false)]
      before = DSPexTelemetry.info(on).memory_bytes
      Router.put_workers(worker_ids(most + 500), on)
      Router.put_workers([], on)
      assert_in_delta (DSPexTelemetry.info(on).memory_bytes - before) / most, bytes, 5
    end

    test "leaves out as much free room for 100,000 keys as the guide says" do
      [of_key] = told(~r/bytes for each worker and (\d+) for each key/)
      [megabytes] = told(~r/100,000 keys take up to ([\d.]+) MB/)
      variables = [workers: 0, commands: 0, worker_limit: 1, sticky_keys: 100_000]
      assert_in_delta megabytes, (formula("Router", variables) + 100_000 * of_key) / 1.0e6, 0.1
    end
  end

  describe "what deltas keep for a series" do
    # Calls of one method, exported as deltas, and what that takes.
    defp kept_for_deltas(digits, calls) do
      of_instance = [attach: false, slice: 3_600_000, significant_digits: digits]
      # Nobody is there, and nothing is sent.
      options = [temporality: :delta, instance: of_instance]
      instance = OTLPTesting.start!("http://127.0.0.1:9/v1/metrics", options)
      plans = plans(instance)
      metadata = %{method: "method_100", python_class: "Index", success: true}
      for measurements <- calls, do: handle(plans, @stop, measurements, metadata)
      before = series(instance, calls_family().name).memory_bytes
      %{body: _request} = OTLP.request(instance)
      series(instance, calls_family().name).memory_bytes - before
    end

    for {digits, buckets} <- [{1, 16}, {2, 128}, {3, 1_024}],
        {samples, width} <- [{127, 2}, {128, 3}] do
      numbers = [digits: digits, buckets: buckets, samples: samples, width: width]

      test "is at most as much as the formula says: #{inspect(numbers)}" do
        %{digits: digits, buckets: buckets, samples: samples, width: width} =
          Map.new(unquote(numbers))

        told = told(~r/have samples, (\d+), (\d+) or ([\d,]+) for each power of two/)
        assert Enum.at(told, digits - 1) == buckets
        powers = 20..23

        # All buckets of some powers of two.
        calls =
          for power <- powers, bucket <- 1..buckets, _sample <- 1..samples do
            %{duration: 2 ** power + div(2 ** power * (bucket - 1), buckets)}
          end

        all = buckets * Enum.count(powers)
        bytes = formula("Deliveries and scrapes", cells: 74, width: width, buckets: all)
        kept = kept_for_deltas(digits, calls)
        assert kept <= bytes
        # Most cells of such a series are zero, and take nothing.
        assert kept > bytes - formula("Deliveries and scrapes", cells: 74, width: 0, buckets: 0)
      end
    end

    test "is in the guide for some dozens of calls and for many" do
      :rand.seed(:exsss, {11, 24, 2026})

      calls = fn count, spread ->
        number = fn mean -> round(mean * :math.exp(spread * :rand.normal())) end
        for _ <- 1..count, do: %{duration: number.(10_000_000), result_size: number.(2_000)}
      end

      [least, most] = told(~r/keeps (\d+) to (\d+) bytes after\s+some dozens of calls/)
      [least_kb, most_kb, many] = told(~r/and (\d+) to (\d+) kB after ([\d,]+)\./)

      for spread <- [0.4, 2.0] do
        assert kept_for_deltas(2, calls.(30, spread)) in least..most
        assert kept_for_deltas(2, calls.(many, spread)) in (1_000 * least_kb)..(1_000 * most_kb)
      end
    end
  end

  test "a scrape has lines of as many bytes, and of a histogram as many, as the guide says" do
    [least, most] = told(~r/(\d+) to (\d+) bytes for each line/)
    assert @guide =~ ~r/of a\s+histogram one for each bound and three more/
    instance = start!(attach: false)
    record(plans(instance), 1, 10, 4)
    lines = [instance: instance] |> DSPexTelemetry.scrape() |> String.split("\n", trim: true)
    assert div(Enum.sum(Enum.map(lines, &byte_size/1)), length(lines)) in least..most

    histogram = hd(calls_family().histograms)
    pattern = ~r/^#{histogram.name}_(bucket|count|sum)\{.*method="method_100"/
    assert Enum.count(lines, &(&1 =~ pattern)) == length(histogram.buckets) + 3
  end

  test "the bounds that it multiplies are the options' defaults" do
    cache = Enum.find(Options.table(), &(&1.name == :cache)).keys
    default = fn keys, name -> Enum.find(keys, &(&1.name == name)).default end
    bytes = default.(cache, :method_limit) * default.(cache, :ghost_keys) * 100
    assert @guide =~ "is #{round(bytes / 1_000_000)} MB by default"

    options = Options.table()
    slices = div(default.(options, :history), default.(options, :slice))
    assert @guide =~ "#{slices} slices of ten seconds"
    assert default.(options, :window_memory_limit) == 64 * 1_024 * 1_024
    active = default.(options, :window_memory_limit) / (slices * 150)
    assert_in_delta active, 1_200, 60
  end

  test "alerts that it names are in the rules" do
    rules = File.read!("priv/prometheus/alerting_rules.yml")
    [_before, watching] = String.split(@guide, "## Watching the library")
    names = Regex.scan(~r/\[(\w+)\]\(runbooks\.md/, watching)
    assert length(names) > 5
    for [_all, name] <- names, do: assert(rules =~ "alert: #{name}\n")
    assert rules =~ "name: dspex_telemetry_self"
  end
end
