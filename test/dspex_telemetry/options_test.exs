defmodule DSPexTelemetry.OptionsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance, only: [unique_name: 0]

  alias DSPexTelemetry.Options

  doctest DSPexTelemetry.Options
  doctest DSPexTelemetry.Window

  @defaults %{
    name: DSPexTelemetry,
    attach: true,
    presets: [:dspex, :snakebridge, :snakepit],
    transport_commands: [],
    last_failures: 100,
    slowest_calls: 20,
    failure_messages: true,
    duration_unit: :native,
    series_limit: 2_000,
    significant_digits: 2,
    buckets: %{},
    metrics: [],
    ref_limit: 100_000,
    worker_limit: 10_000,
    idle_timeout: :infinity,
    slice: 10_000,
    history: 3_600_000,
    window_memory_limit: 67_108_864,
    summary_interval: 60_000,
    count_unsuccessful: true,
    error_spike_threshold: 5,
    error_spike_window: 10_000,
    error_spike_percent: 50,
    error_spike_repeat: 300_000,
    anomaly_deviations: 5,
    anomaly_min_calls: 20,
    anomaly_min_slices: 12,
    queue_wait_threshold: 5_000,
    signal_limit: 1_000,
    usage_capacity: 10_000,
    usage_path: nil,
    usage_save_interval: 30_000,
    router: %{
      choices: 16,
      half_life: 5_000,
      error_penalty: 10,
      exploration: 10,
      slow_start: 2_000,
      ejection_failures: 5,
      ejection_error_percent: 50,
      ejection_time: 10_000,
      ejection_time_limit: 300_000,
      ejected_percent_limit: 50,
      command_limit: 128,
      sticky_limit: 100_000
    },
    http: nil,
    push: nil,
    otlp: nil,
    cache: nil
  }

  @histograms ~w(
    dspex_bridge_create_instance_duration dspex_bridge_call_method_duration
    dspex_bridge_call_method_args_size_bytes dspex_bridge_call_method_result_size_bytes
    dspex_session_lifetime_seconds dspex_session_operations dspex_session_variable_size_bytes
    dspex_tools_call_duration snakepit_worker_startup_time snakepit_worker_lifetime_seconds
    snakepit_pool_queue_time dspex_bridge_call_method_python_duration
    snakepit_grpc_execute_duration snakepit_request_duration snakepit_pool_init_seconds
    snakepit_heartbeat_latency_seconds snakepit_worker_recycled_memory_bytes
    snakepit_retry_delay_seconds snakepit_session_pruned snakepit_zero_copy_duration
    snakepit_zero_copy_bytes snakepit_python_call_duration snakepit_python_tool_duration
    snakepit_python_tool_result_size_bytes
  )

  @accepted [
    name: [MyApp.Telemetry, :lower, :"with space"],
    attach: [true, false],
    presets: [[], [:dspex], [:snakepit], [:dspex, :snakepit], [:snakepit, :snakebridge, :dspex]],
    transport_commands: [[], ["relay"], ["relay.*", "my_bridge.call"]],
    last_failures: [0, 10_000],
    slowest_calls: [0, 1_000],
    failure_messages: [true, false],
    duration_unit: [:native, :nanosecond, :microsecond, :millisecond, :second],
    series_limit: [1, 1_000_000],
    significant_digits: [1, 2, 3],
    ref_limit: [0, 10_000_000],
    worker_limit: [1, 1_000_000],
    idle_timeout: [1_000, 31_536_000_000, :infinity],
    slice: [10, 3_600_000],
    history: [60_000, 604_800_000],
    window_memory_limit: [65_536, 1_099_511_627_776],
    summary_interval: [100, 3_600_000, :infinity],
    count_unsuccessful: [true, false],
    error_spike_threshold: [1, 1_000],
    error_spike_window: [10, 3_600_000],
    error_spike_percent: [0, 100],
    error_spike_repeat: [0, 86_400_000],
    anomaly_deviations: [1, 1_000, :infinity],
    anomaly_min_calls: [1, 1_000_000],
    anomaly_min_slices: [2, 100_000],
    queue_wait_threshold: [0, 86_400_000, :infinity],
    signal_limit: [1, 1_000_000],
    usage_capacity: [1, 1_000_000],
    usage_path: [nil, "usage", "/var/lib/app/usage é"],
    usage_save_interval: [10, 86_400_000]
  ]

  @refused [
    name:
      {[nil, true, false, "name", 1, {:via, Registry, :x}], "an atom such as MyApp.Telemetry"},
    attach: {[nil, :yes, "true", 1], "true or false"},
    presets:
      {[nil, :dspex, [:dspy], [:dspex, :dspex], [:dspex | :snakepit], ["dspex"]],
       "a list of any of :dspex, :snakebridge, :snakepit, each once"},
    transport_commands:
      {[nil, "relay", [:relay], [""], ["*"], [<<255>>], ["a" | "b"]],
       "a list of commands as strings, of which one that ends in * stands for all that begin so"},
    last_failures: {[nil, -1, 10_001, :infinity], "an integer from 0 to 10000"},
    slowest_calls: {[nil, -1, 1_001, :infinity], "an integer from 0 to 1000"},
    failure_messages: {[nil, 1, "true"], "true or false"},
    duration_unit:
      {[nil, :microseconds, :minute, 1_000, "native"],
       "one of :native, :nanosecond, :microsecond, :millisecond, :second"},
    series_limit: {[nil, 0, -1, 1_000_001, 10.0, "10"], "an integer from 1 to 1000000"},
    significant_digits: {[nil, 0, 4, 2.0], "an integer from 1 to 3"},
    ref_limit: {[nil, -1, 10_000_001, :infinity], "an integer from 0 to 10000000"},
    worker_limit: {[nil, 0, 1_000_001], "an integer from 1 to 1000000"},
    idle_timeout:
      {[nil, 0, 999, 31_536_000_001, 1_000.0, :never],
       "an integer from 1000 to 31536000000 or :infinity"},
    slice: {[nil, 9, 3_600_001, :infinity], "an integer from 10 to 3600000"},
    history: {[nil, 9, 604_800_001, :infinity], "an integer from 10 to 604800000"},
    window_memory_limit:
      {[nil, 0, 65_535, 1_099_511_627_777], "an integer from 65536 to 1099511627776"},
    summary_interval: {[nil, 99, 86_400_001], "an integer from 100 to 86400000 or :infinity"},
    count_unsuccessful: {[nil, 1, "true"], "true or false"},
    error_spike_threshold: {[nil, 0, 1_001, :infinity], "an integer from 1 to 1000"},
    error_spike_window: {[nil, 9, 3_600_001], "an integer from 10 to 3600000"},
    error_spike_percent: {[nil, -1, 101, 0.5, :infinity], "an integer from 0 to 100"},
    error_spike_repeat: {[nil, -1, 86_400_001, :infinity], "an integer from 0 to 86400000"},
    anomaly_deviations: {[nil, 0, 1_001, 2.5], "an integer from 1 to 1000 or :infinity"},
    anomaly_min_calls: {[nil, 0, 1_000_001], "an integer from 1 to 1000000"},
    anomaly_min_slices: {[nil, 1, 100_001], "an integer from 2 to 100000"},
    queue_wait_threshold: {[nil, -1, 86_400_001], "an integer from 0 to 86400000 or :infinity"},
    signal_limit: {[nil, 0, 1_000_001], "an integer from 1 to 1000000"},
    usage_capacity: {[nil, 0, 1_000_001], "an integer from 1 to 1000000"},
    usage_path:
      {["", :path, ~c"usage", "a\0b", <<255>>], "a path as a string without zero bytes, or nil"},
    usage_save_interval: {[nil, 9, 86_400_001], "an integer from 10 to 86400000"},
    buckets: {[nil, [], [m: [1]], "m", 5], "a map from metric name to bucket bounds"}
  ]

  @refused_bounds [
    nil,
    5,
    "1,2",
    [],
    [2, 1],
    [1, 1],
    [-1, 1],
    [1, :infinity],
    ["1"],
    [nil],
    [9.0e15],
    Enum.to_list(1..201)
  ]

  test "without options every option has its documented default" do
    assert Options.validate!([]) == @defaults
  end

  test "the documentation names every option with its default" do
    {:docs_v1, _, _, _, %{"en" => documentation}, _, _} = Code.fetch_docs(Options)

    # The keys have lines of their own.
    for {name, default} <- %{@defaults | router: []} do
      [line] = for line <- String.split(documentation, "\n"), line =~ "* `:#{name}` - ", do: line
      assert line =~ "Default: `#{inspect(default)}`."
    end
  end

  for {name, values} <- @accepted do
    test "#{inspect(name)} takes #{Enum.map_join(values, ", ", &inspect/1)}" do
      for value <- unquote(Macro.escape(values)) do
        expected = Map.put(@defaults, unquote(name), value)
        assert Options.validate!([{unquote(name), value}]) == expected
      end
    end
  end

  for {name, {values, allowed}} <- @refused do
    test "what #{inspect(name)} refuses is named together with what is allowed" do
      for value <- unquote(Macro.escape(values)) do
        message =
          "option #{inspect(unquote(name))} must be #{unquote(allowed)}, got: #{inspect(value)}"

        assert_raise ArgumentError, message, fn ->
          Options.validate!([{unquote(name), value}])
        end
      end
    end
  end

  test ":buckets takes metrics by atom or string and up to 200 increasing bounds" do
    buckets = %{
      :dspex_session_operations => Enum.to_list(0..199),
      "snakepit_pool_queue_time" => [0, 0.5, 1, 1.5e3]
    }

    assert Options.validate!(buckets: buckets).buckets == %{
             "dspex_session_operations" => Enum.to_list(0..199),
             "snakepit_pool_queue_time" => [0, 0.5, 1, 1.5e3]
           }
  end

  test ":buckets refuses bounds that are not increasing numbers and names the metric" do
    for bounds <- @refused_bounds do
      message =
        "option :buckets must be a map from metric name to strictly increasing numbers from 0 " <>
          "to below 9.0e15, 1 to 200 of them, got: " <>
          inspect(%{snakepit_pool_queue_time: bounds})

      assert_raise ArgumentError, message, fn ->
        Options.validate!(buckets: %{snakepit_pool_queue_time: bounds})
      end
    end
  end

  test ":buckets refuses an improper list as it refuses any other bounds" do
    assert_raise ArgumentError, ~r/^option :buckets must be .*, got: .*\[1 \| 2\]/, fn ->
      Options.validate!(buckets: %{snakepit_pool_queue_time: [1 | 2]})
    end
  end

  test ":buckets refuses a metric whose name is neither atom nor string" do
    assert_raise ArgumentError, ~r/^option :buckets must be .*, got: %\{1 => \[1\]\}$/, fn ->
      Options.validate!(buckets: %{1 => [1]})
    end
  end

  test "buckets for a metric that is no histogram raise at start and name the histograms" do
    # Trapping shows the difference: an exit would arrive as a message, and nothing would raise.
    Process.flag(:trap_exit, true)

    for metric <- [:no_such_metric, :dspex_bridge_call_method_total] do
      error =
        assert_raise ArgumentError, fn ->
          DSPexTelemetry.start_link(name: unique_name(), buckets: %{metric => [1, 2]})
        end

      assert error.message =~ ":buckets"
      assert error.message =~ to_string(metric)
      for histogram <- @histograms, do: assert(error.message =~ histogram)
    end
  end

  test "options that do not go together are refused" do
    for {options, message} <- [
          {[slice: 60_001, history: 60_000],
           "option :history must be at least option :slice, which is 60001, got: 60000"},
          {[history: 59_999],
           "option :summary_interval must be at most option :history, which is 59999, or " <>
             ":infinity, got: 60000"},
          {[
             http: [port: 0],
             push: [url: "http://p/metrics/job/j", retry_floor: 9, retry_ceiling: 8]
           ],
           "option :push, key :retry_ceiling must be at least key :retry_floor, which is 9, got: 8"}
        ] do
      assert_raise ArgumentError, message, fn -> Options.validate!(options) end
    end

    assert Options.validate!(history: 59_999, summary_interval: :infinity).history == 59_999
  end

  test "an unknown option is named together with all known ones" do
    message =
      "unknown option :limit, allowed are " <>
        ":name, :attach, :presets, :transport_commands, :duration_unit, :series_limit, :significant_digits, :buckets, " <>
        ":metrics, :ref_limit, :worker_limit, :idle_timeout, :slice, :history, :window_memory_limit, " <>
        ":summary_interval, :count_unsuccessful, :error_spike_threshold, :error_spike_window, " <>
        ":error_spike_percent, :error_spike_repeat, :anomaly_deviations, :anomaly_min_calls, :anomaly_min_slices, " <>
        ":last_failures, :slowest_calls, :failure_messages, :queue_wait_threshold, " <>
        ":signal_limit, :usage_capacity, :usage_path, :usage_save_interval, :router, :http, :push, :otlp, " <>
        ":cache"

    assert_raise ArgumentError, message, fn -> Options.validate!(limit: 5) end
    assert_raise ArgumentError, message, fn -> DSPexTelemetry.start_link(limit: 5) end
  end

  test "options that are no keyword list are refused as a whole" do
    for options <- [nil, :name, %{name: :a}, [:name], [{"name", :a}], [{:name, :a} | :b], 5] do
      message = "options must be a keyword list, got: #{inspect(options)}"
      assert_raise ArgumentError, message, fn -> Options.validate!(options) end
      assert_raise ArgumentError, message, fn -> DSPexTelemetry.start_link(options) end
    end
  end

  test "an instance starts under the longest name that an atom can be" do
    name = String.to_atom(String.duplicate("n", 255))
    start_supervised!({DSPexTelemetry, name: name})
    assert DSPexTelemetry.attached?(instance: name)
  end

  test "every function refuses an option that it does not know" do
    for function <- [:attach, :detach, :attached?, :reset, :report, :info] do
      message = "unknown option :foo, see the function's documentation"

      assert_raise ArgumentError, message, fn ->
        apply(DSPexTelemetry, function, [[foo: 1]])
      end
    end
  end

  test "every function refuses an instance that is not running and names those that are" do
    for function <- [:attach, :detach, :attached?, :reset, :report, :info] do
      error =
        assert_raise ArgumentError, fn ->
          apply(DSPexTelemetry, function, [[instance: NoSuch.Instance]])
        end

      assert error.message =~ "no instance NoSuch.Instance is running, running are: "
      assert error.message =~ ~r/[: ]DSPexTelemetry(,|$)/
    end
  end

  test "the report's format is :struct or :json" do
    message = "option :format must be :struct or :json, got: :xml"
    assert_raise ArgumentError, message, fn -> DSPexTelemetry.report(format: :xml) end
  end
end
