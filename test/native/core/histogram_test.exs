defmodule DSPexTelemetry.Native.Core.HistogramTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance, only: [label: 1, start!: 0, start!: 1]

  alias DSPexTelemetry.HdrEncoding

  @stop [:dspex, :bridge, :call_method, :stop]
  @largest 2 ** 63 - 1

  # Values at which a bucket or a power of two begins or ends, some of them more than once.
  @values [0, 0, 1, 1, 1, 15, 16, 31, 32, 33, 127, 128, 129, 255, 256, 257, 258, 511, 512, 513] ++
            [2_047, 2_048, 2_049, 4_096, 10_000, 10_001, 10_040, 999_999, 1_000_000, 1_000_000] ++
            [2 ** 32 - 1, 2 ** 32, 2 ** 40 + 1, 2 ** 62, @largest - 1, @largest]

  for digits <- 1..3 do
    test "known values are counted in the buckets that HdrHistogram has for #{digits} digits" do
      digits = unquote(digits)
      {instance, labels} = recorded(@values, significant_digits: digits)
      assert {:ok, histogram} = DSPexTelemetry.histogram(@stop, labels, instance: instance)

      assert HdrEncoding.decode!(histogram.v2).counts == counts(@values, digits)
    end

    test "random values are counted in the buckets that HdrHistogram has for #{digits} digits" do
      digits = unquote(digits)
      :rand.seed(:exsss, {1, 6, digits})
      values = for _ <- 1..20_000, do: :rand.uniform(2 ** :rand.uniform(62)) - 1
      {instance, labels} = recorded(values, significant_digits: digits)
      assert {:ok, histogram} = DSPexTelemetry.histogram(@stop, labels, instance: instance)

      assert HdrEncoding.decode!(histogram.v2).counts == counts(values, digits)
    end

    test "the header says what readers need for #{digits} digits" do
      digits = unquote(digits)
      {instance, labels} = recorded([1, 1_000_000_000], significant_digits: digits)
      assert {:ok, histogram} = DSPexTelemetry.histogram(@stop, labels, instance: instance)

      assert %{
               normalizing_index_offset: 0,
               digits: ^digits,
               lowest: 1,
               highest: highest,
               conversion_ratio: 1.0
             } = HdrEncoding.decode!(histogram.v2)

      assert highest >= 1_000_000_000
    end
  end

  test "the compressed encoding holds the plain one" do
    {instance, labels} = recorded(@values)
    assert {:ok, histogram} = DSPexTelemetry.histogram(@stop, labels, instance: instance)
    assert HdrEncoding.inflate!(histogram.v2_compressed) == histogram.v2
  end

  test "the first histogram of the event is meant unless another one is named" do
    {instance, labels} = recorded([5_000])

    for {options, metric, unit, value} <- [
          {[], :dspex_bridge_call_method_duration, :nanosecond, 5_000},
          {[metric: :dspex_bridge_call_method_duration], :dspex_bridge_call_method_duration,
           :nanosecond, 5_000},
          {[metric: :dspex_bridge_call_method_result_size_bytes],
           :dspex_bridge_call_method_result_size_bytes, :byte, 70}
        ] do
      assert {:ok, %{metric: ^metric, unit: ^unit} = histogram} =
               DSPexTelemetry.histogram(@stop, labels, [instance: instance] ++ options)

      assert HdrEncoding.decode!(histogram.v2).counts == counts([value], 2)
    end
  end

  test "start events lead to the size of arguments" do
    instance = start!()
    labels = %{method: label("method"), python_class: "C"}
    start = [:dspex, :bridge, :call_method, :start]
    :telemetry.execute(start, %{}, Map.put(labels, :args_size, 33))

    assert {:ok, %{metric: :dspex_bridge_call_method_args_size_bytes, unit: :byte} = histogram} =
             DSPexTelemetry.histogram(start, labels, instance: instance)

    assert HdrEncoding.decode!(histogram.v2).counts == %{33 => 1}
    # The series is there, but no call has returned.
    assert {:ok, histogram} = DSPexTelemetry.histogram(@stop, labels, instance: instance)
    assert HdrEncoding.decode!(histogram.v2).counts == %{}
  end

  test "labels may be given as the terms that events carry" do
    instance = start!()
    class = label("Class")
    event = [:dspex, :bridge, :create_instance, :stop]
    :telemetry.execute(event, %{duration: 9}, %{python_class: class, success: true})

    for class <- [class, String.to_atom(class)], success <- [true, "true"] do
      labels = %{python_class: class, success: success}
      assert {:ok, histogram} = DSPexTelemetry.histogram(event, labels, instance: instance)
      assert HdrEncoding.decode!(histogram.v2).counts == %{9 => 1}
    end

    labels = %{python_class: class, success: false}
    assert DSPexTelemetry.histogram(event, labels, instance: instance) == {:error, :not_found}
  end

  test "the overflow series is meant by its one label" do
    # The limit is certainly reached, whatever other tests emit.
    instance = start!(series_limit: 1)
    overflow = %{otel_metric_overflow: "true"}
    metadata = %{python_class: "C", success: true}

    for _ <- 1..3 do
      call = Map.put(metadata, :method, label("method"))
      :telemetry.execute(@stop, %{duration: 1}, call)
    end

    assert {:ok, histogram} = DSPexTelemetry.histogram(@stop, overflow, instance: instance)
    assert HdrEncoding.decode!(histogram.v2).counts[1] >= 2

    empty = start!(attach: false)
    assert DSPexTelemetry.histogram(@stop, overflow, instance: empty) == {:error, :not_found}
  end

  test "a label that no event could carry is named" do
    for value <- [{}, [], %{}, 1.0, self()] do
      message = "label :method must be a string, an atom or an integer, got: #{inspect(value)}"

      assert_raise ArgumentError, message, fn ->
        DSPexTelemetry.histogram(@stop, %{method: value, python_class: "C"})
      end
    end
  end

  test "microseconds come in nanoseconds" do
    instance = start!()
    command = label("command")
    event = [:snakepit, :pool, :queue_time]
    :telemetry.execute(event, %{wait_time_us: 12}, %{command: command})

    assert {:ok, %{unit: :nanosecond, v2: v2}} =
             DSPexTelemetry.histogram(event, %{command: command}, instance: instance)

    assert HdrEncoding.decode!(v2).counts == counts([12_000], 2)
  end

  test "milliseconds and plain numbers come as they are" do
    instance = start!()
    reason = String.to_atom(label("reason"))
    event = [:dspex, :session, :expired]
    numbers = %{lifetime_ms: 12, total_operations: 3}
    :telemetry.execute(event, numbers, %{reason: reason})

    for {metric, unit, value} <- [
          {:dspex_session_lifetime_seconds, :millisecond, 12},
          {:dspex_session_operations, :one, 3}
        ] do
      options = [instance: instance, metric: metric]

      assert {:ok, %{unit: ^unit, v2: v2}} =
               DSPexTelemetry.histogram(event, %{reason: reason}, options)

      assert HdrEncoding.decode!(v2).counts == %{value => 1}
    end
  end

  test "a series that is not there is not found" do
    instance = start!()
    labels = %{method: label("none"), python_class: "C"}
    assert DSPexTelemetry.histogram(@stop, labels, instance: instance) == {:error, :not_found}
  end

  test "an unknown event is named" do
    assert_raise ArgumentError, "no event [:no, :such], see events/1", fn ->
      DSPexTelemetry.histogram([:no, :such], %{})
    end
  end

  test "an event without histogram is named" do
    message = "[:dspex, :session, :created] feeds no histogram"

    assert_raise ArgumentError, message, fn ->
      DSPexTelemetry.histogram([:dspex, :session, :created], %{})
    end
  end

  test "a metric that the event does not feed is named together with those that it feeds" do
    message =
      "option :metric must be one of [:dspex_bridge_call_method_duration, " <>
        ":dspex_bridge_call_method_result_size_bytes], got: :dspex_tools_call_duration"

    assert_raise ArgumentError, message, fn ->
      DSPexTelemetry.histogram(@stop, %{}, metric: :dspex_tools_call_duration)
    end
  end

  test "labels other than those of the series are named together with what is expected" do
    for labels <- [
          %{},
          %{method: "m"},
          %{method: "m", python_class: "C", success: true},
          %{"method" => "m", "python_class" => "C"},
          [method: "m", python_class: "C"],
          nil
        ] do
      message =
        "labels must be a map with the keys [:method, :python_class], got: #{inspect(labels)}"

      assert_raise ArgumentError, message, fn -> DSPexTelemetry.histogram(@stop, labels) end
    end
  end

  test "an instance that is not running is refused" do
    assert_raise ArgumentError, ~r/^no instance NoSuch.Instance is running/, fn ->
      DSPexTelemetry.histogram(@stop, %{method: "m", python_class: "C"}, instance: NoSuch.Instance)
    end
  end

  defp recorded(values, options \\ []) do
    instance = start!(options)
    labels = %{method: label("method"), python_class: "C"}
    metadata = Map.put(labels, :success, true)

    for value <- values,
        do: :telemetry.execute(@stop, %{duration: value, result_size: 70}, metadata)

    {instance, labels}
  end

  defp counts(values, digits),
    do: Enum.frequencies_by(values, &HdrEncoding.lowest_equivalent(&1, digits))
end
