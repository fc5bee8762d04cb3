defmodule DSPexTelemetry.ProductionTest do
  # The formulas of docs/production.md, against what the library says of itself.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Catalogue, Info, Markdown, Native, Options}

  @guide File.read!("docs/production.md")
  @stop [:dspex, :bridge, :call_method, :stop]
  @methods 100

  setup_all do
    [{module, _binary}] = @guide |> Markdown.block!("Series") |> Code.compile_string()
    %{formula: module}
  end

  defp calls_family,
    do: Enum.find(Catalogue.families(), &(&1.name == Catalogue.calls_family()))

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
    [_all, least, most] = Regex.run(~r/\((\d+) to (\d+)\s+were measured\)/, @guide)
    {now_ms, unix_ms} = DSPexTelemetry.Instance.now()
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
    assert bytes >= String.to_integer(least) and bytes <= String.to_integer(most)
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
