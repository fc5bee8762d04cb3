defmodule DSPexTelemetry.Native.Core.ConcurrencyTest do
  # Not async: measures the memory of the VM, and keeps all cores busy.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Native

  @stop [:dspex, :bridge, :call_method, :stop]
  @producers 2
  @first 1_000_000
  @all 10_000_000
  @allowed_growth 1_048_576
  @methods 10

  setup do
    # The default instance would do all the work a second time.
    :ok = DSPexTelemetry.detach()
    on_exit(fn -> DSPexTelemetry.attach() end)
    watch_handler_failures()
    instance = start!()
    create("C")
    %{instance: instance}
  end

  test "of ten million events from two processes none is lost and no memory is taken for any",
       %{instance: instance} do
    producers = for _ <- 1..@producers, do: start_producer()

    run(producers, @first)
    before = resident_bytes()
    run(producers, @all - @first)
    growth = resident_bytes() - before

    assert growth < @allowed_growth, "resident memory grew by #{growth} bytes"

    rows = DSPexTelemetry.report(instance: instance).operations
    assert length(rows) == @methods
    assert Enum.map(rows, & &1.count) |> Enum.uniq() == [div(@all, @methods)]
    assert DSPexTelemetry.info(instance: instance).rejected == []
  end

  test "reports read meanwhile lose no event, and never see a count go down",
       %{instance: instance} do
    producers = for _ <- 1..@producers, do: start_producer()
    events = 500_000

    reads =
      read_while(producers, events, fn ->
        info = DSPexTelemetry.info(instance: instance)
        json = DSPexTelemetry.report(instance: instance, format: :json)
        rows = DSPexTelemetry.report(instance: instance).operations
        assert info.rejected == [] and is_binary(json)

        for row <- rows, row.p50_us do
          assert row.min_us <= row.p50_us and row.p50_us <= row.p999_us and
                   row.p999_us <= row.max_us
        end

        rows |> Enum.map(& &1.count) |> Enum.sum()
      end)

    assert reads == Enum.sort(reads)
    assert Enum.all?(reads, &(&1 <= events))
    assert total(instance) == events
  end

  test "resets meanwhile raise nothing, and what is recorded after the last one is counted",
       %{instance: instance} do
    producers = for _ <- 1..@producers, do: start_producer()
    read_while(producers, 200_000, fn -> DSPexTelemetry.reset(instance: instance) end)
    assert total(instance) <= 200_000
    assert_undisturbed(instance)

    :ok = DSPexTelemetry.reset(instance: instance)
    run(producers, 1_000)
    assert total(instance) == 1_000
  end

  test "retirement meanwhile raises nothing, and what is recorded after it is counted",
       %{instance: instance} do
    producers = for _ <- 1..@producers, do: start_producer()
    # After no time at all every series is idle.
    read_while(producers, 200_000, fn -> Native.retire_idle(native(instance), {1_000, 0}, 0) end)
    before = total(instance)
    assert before <= 200_000
    assert_undisturbed(instance)

    run(producers, 1_000)
    assert total(instance) == before + 1_000
  end

  test "handlers that come and go meanwhile raise nothing", %{instance: instance} do
    producers = for _ <- 1..@producers, do: start_producer()

    read_while(producers, 200_000, fn ->
      :ok = DSPexTelemetry.detach(instance: instance)
      :ok = DSPexTelemetry.attach(instance: instance)
    end)

    assert total(instance) in 1..200_000
    assert_undisturbed(instance)
  end

  test "an instance that stops and starts meanwhile raises nothing and starts from zero",
       %{instance: instance} do
    producers = for _ <- 1..@producers, do: start_producer()

    read_while(producers, 200_000, fn ->
      :ok = stop_supervised!({DSPexTelemetry, instance})
      start!(name: instance)
    end)

    assert_undisturbed(instance)
    before = total(instance)
    run(producers, 1_000)
    assert total(instance) == before + 1_000
  end

  test "reference bindings meanwhile lose no call", %{instance: instance} do
    producers = for _ <- 1..@producers, do: start_producer()

    read_while(producers, 200_000, fn ->
      create("A")
      create("B")
    end)

    rows = DSPexTelemetry.report(instance: instance).operations

    assert rows
           |> Enum.map(& &1.python_class)
           |> Enum.uniq()
           |> Enum.all?(&(&1 in ~w(A B C)))

    assert total(instance) == 200_000
  end

  defp create(class) do
    metadata = %{python_class: class, ref: "ref", success: true}
    :telemetry.execute([:dspex, :bridge, :create_instance, :stop], %{duration: 1}, metadata)
  end

  # A producer emits its share of events whenever it is told a number, and says when it is done.
  # It makes no garbage of its own: all events are made beforehand.
  defp start_producer do
    test = self()

    start_supervised!(
      {Task,
       fn ->
         calls =
           for number <- 1..@methods do
             metadata = %{method: "m#{number}", ref: "ref", success: true, cached: false}
             {%{duration: number * 1_000, result_size: number}, metadata}
           end

         produce_when_told(test, List.to_tuple(calls))
       end},
      id: make_ref()
    )
  end

  defp produce_when_told(test, calls) do
    receive do
      {:produce, count} ->
        produce(count, calls)
        send(test, {:produced, self()})
        produce_when_told(test, calls)
    end
  end

  defp produce(0, _calls), do: :ok

  defp produce(count, calls) do
    {measurements, metadata} = elem(calls, rem(count, @methods))
    :telemetry.execute(@stop, measurements, metadata)
    produce(count - 1, calls)
  end

  defp tell(producers, events),
    do: for(producer <- producers, do: send(producer, {:produce, div(events, @producers)}))

  defp run(producers, events) do
    tell(producers, events)
    for producer <- producers, do: assert_receive({:produced, ^producer}, 50_000)
  end

  # Calls `fun` again and again while the producers are at work, at least once.
  defp read_while(producers, events, fun) do
    tell(producers, events)
    read_until_produced(producers, [fun.()], fun)
  end

  defp read_until_produced([], reads, _fun), do: Enum.reverse(reads)

  defp read_until_produced(producers, reads, fun) do
    receive do
      {:produced, producer} -> read_until_produced(producers -- [producer], reads, fun)
    after
      0 -> read_until_produced(producers, [fun.() | reads], fun)
    end
  end

  defp total(instance) do
    for(row <- DSPexTelemetry.report(instance: instance).operations, do: row.count) |> Enum.sum()
  end

  defp assert_undisturbed(instance) do
    assert_no_handler_failed()
    assert_all_attached(plans(instance))
  end

  defp resident_bytes do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    status = File.read!("/proc/self/status")
    [_line, kilobytes] = Regex.run(~r/^VmRSS:\s+(\d+) kB$/m, status)
    String.to_integer(kilobytes) * 1_024
  end
end
