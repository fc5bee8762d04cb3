defmodule DSPexTelemetry.ToolsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{ErrorAnalyzer, Native, PerformanceMonitor, Tools, UsageAnalytics}
  alias DSPexTelemetry.Instance.Clock

  doctest Tools

  @call [:dspex, :bridge, :call_method]
  @names ~w(method_performance method_errors usage worker_pool)

  describe "a tool" do
    test "has a name, a description, and a JSON Schema of its arguments" do
      tools = Tools.all()
      assert Enum.map(tools, & &1.name) == @names

      for tool <- tools do
        assert tool |> Map.keys() |> Enum.sort() == [:description, :function, :name, :parameters]
        assert is_function(tool.function, 1)
        assert tool.description =~ ~r/^[A-Z].*\.$/
        assert_json(tool.parameters)

        assert %{
                 "type" => "object",
                 "properties" => properties,
                 "required" => [],
                 "additionalProperties" => false
               } = tool.parameters

        for {_name, property} <- properties do
          assert property["type"] in ~w(integer string)
          assert property["description"] =~ ~r/^[A-Z].*\.$/

          if property["type"] == "integer",
            do: assert(property["default"] in property["minimum"]..property["maximum"])
        end
      end
    end

    test "takes exactly the arguments that its schema allows, each of them or nil for none" do
      instance = start_with_events()

      for tool <- Tools.all(instance: instance) do
        assert {:ok, default} = tool.function.(%{})

        for {name, property} <- tool.parameters["properties"] do
          for same <- Enum.uniq([nil, property["default"]]) do
            assert {:ok, answer} = tool.function.(%{name => same})
            assert_same(answer, default)
          end

          for value <- allowed(property),
              do: assert({:ok, %{}} = tool.function.(%{name => value}))

          for value <- refused(property) do
            assert {:error, sentence} = tool.function.(%{name => value})
            assert String.starts_with?(sentence, name <> " must be ")
            assert String.ends_with?(sentence, ", got: " <> inspect(value))
          end
        end
      end
    end

    test "refuses what it does not know, with what it does" do
      for tool <- Tools.all(), name <- ["windw", :window, 1, nil, {}] do
        known = tool.parameters["properties"] |> Map.keys() |> Enum.join(", ")
        sentence = "unknown argument #{inspect(name)}, allowed are #{known}"
        assert tool.function.(%{name => 1}) == {:error, sentence}
      end
    end

    test "refuses what is no object" do
      for tool <- Tools.all(), arguments <- [nil, [], "", 1, [window: 5], ~D[2026-11-24], 1..2] do
        sentence = "arguments must be an object, got: #{inspect(arguments)}"
        assert tool.function.(arguments) == {:error, sentence}
      end
    end

    test "says so when the instance is not running" do
      instance = start!()
      tools = Tools.all(instance: instance)
      for tool <- tools, do: assert({:ok, %{}} = tool.function.(%{}))
      :ok = stop_supervised!({DSPexTelemetry, instance})

      for tool <- tools do
        assert {:error, sentence} = tool.function.(%{})
        assert sentence =~ ~r/^no instance #{inspect(instance)} is running, running are: /
      end

      start!(name: instance)
      for tool <- tools, do: assert({:ok, %{}} = tool.function.(%{}))
    end

    test "answers with what JSON can say, also of names that are no text" do
      instance = start_with_events()
      plans = plans(instance)

      for name <- [<<0xFF, 0>>, "\"\\\n", "🦀", "", String.duplicate("é", 1_000), true] do
        metadata = %{method: name, python_class: name, kind: :error, reason: :no}
        for _ <- 1..5, do: handle(plans, @call ++ [:exception], %{duration: 1}, metadata)
      end

      for tool <- Tools.all(instance: instance), window <- [0, 60] do
        known = Map.keys(tool.parameters["properties"])
        arguments = Map.take(%{"window" => window, "limit" => 5}, known)
        assert {:ok, answer} = tool.function.(arguments)
        assert_json(answer)
      end
    end
  end

  test "all/1 refuses an option that it does not know" do
    assert_raise ArgumentError, ~r/^unknown option :limit/, fn -> Tools.all(limit: 5) end
  end

  describe "the numbers of" do
    setup do
      %{instance: start_with_events()}
    end

    test "method_performance are those of the performance report", %{instance: instance} do
      for {seconds, window} <- [{0, :since_start}, {60, {60, :seconds}}, {3_600, :last_hour}] do
        answer = call(instance, "method_performance", %{"window" => seconds})
        rows = PerformanceMonitor.report(window: window, instance: instance)
        assert length(rows) == 4
        assert answer["more"] == 0
        methods = for row <- answer["methods"], do: Map.put(row, "interval", answer["interval"])
        assert_same(methods, rows)
      end
    end

    test "method_performance are those of the methods asked for", %{instance: instance} do
      methods = fn arguments ->
        answer = call(instance, "method_performance", arguments)
        {Enum.map(answer["methods"], &{&1["python_class"], &1["method"]}), answer["more"]}
      end

      assert methods.(%{"method" => "search"}) == {[{"Index", "search"}, {"Rank", "search"}], 0}
      assert methods.(%{"python_class" => "Rank"}) == {[{"Rank", "search"}, {"Rank", "add"}], 0}

      assert methods.(%{"method" => "add", "python_class" => "Index"}) ==
               {[{"Index", "add"}], 0}

      assert methods.(%{"method" => "none"}) == {[], 0}
      assert methods.(%{"limit" => 1}) == {[{"Index", "search"}], 3}
      assert methods.(%{"limit" => 1, "method" => "add"}) == {[{"Index", "add"}], 1}
    end

    test "method_errors are those of the error report", %{instance: instance} do
      for {seconds, window} <- [{0, :since_start}, {60, {60, :seconds}}] do
        answer = call(instance, "method_errors", %{"window" => seconds})
        report = ErrorAnalyzer.report(window: window, instance: instance)
        assert %{errors: 6, spikes: [%{method: "search"}]} = report

        assert_same(answer, report)
      end
    end

    test "a window are those of its seconds, and of all time for 0", %{instance: instance} do
      later_ms = Clock.now_ms() + 600_000
      for ms <- [later_ms, later_ms + 60_000], do: Native.end_slice(native(instance), {ms, ms})
      methods = &length(call(instance, "method_performance", %{"window" => &1})["methods"])
      assert {methods.(0), methods.(60), methods.(1_200)} == {4, 0, 4}
    end

    test "method_errors are told in words where they are none" do
      options = [attach: false, slice: 3_600_000, anomaly_min_calls: 1, anomaly_min_slices: 2]
      instance = start!(options)
      now_ms = Clock.now_ms()
      metadata = %{method: "search", python_class: "Index", success: true}

      for {us, at} <- Enum.with_index([1_000, 1_000, 9_000], 1) do
        :ok = handle(plans(instance), @call ++ [:stop], %{duration: us * 1_000}, metadata)
        :ok = Native.end_slice(native(instance), {now_ms + 1_000 * at, 0})
      end

      assert [%{"method" => "search", "state" => "started", "direction" => "above"}] =
               call(instance, "method_errors", %{})["anomalies"]
    end

    test "usage are those of the usage report", %{instance: instance} do
      for limit <- [1, 20] do
        answer = call(instance, "usage", %{"limit" => limit})
        report = UsageAnalytics.get_usage_report(top: limit, instance: instance)
        assert %{total: 14, methods: %{names: 4}} = report
        assert_same(answer, report)
      end
    end

    test "worker_pool are those of the report", %{instance: instance} do
      for {seconds, window} <- [{0, :since_start}, {60, {60, :seconds}}] do
        answer = call(instance, "worker_pool", %{"window" => seconds})
        pool = DSPexTelemetry.report(window: window, instance: instance).pool
        assert %{size: 1, spawned: 2, died: %{"timeout" => 1}} = pool
        {interval, answer} = Map.pop!(answer, "interval")
        assert_same(answer, pool)
        assert interval["duration_ms"] >= 30_000
      end
    end
  end

  defp start_with_events do
    options = [attach: false, slice: 3_600_000, summary_interval: :infinity]
    instance = start!(options ++ [error_spike_window: 3_600_000])
    plans = plans(instance)

    for {class, method, count, duration, success} <- [
          {"Index", "search", 4, 4_000_000, true},
          {"Index", "search", 6, 9_000_000, false},
          {"Index", "add", 2, 5_000_000, true},
          {"Rank", "search", 1, 3_000_000, true},
          {"Rank", "add", 1, 1_000_000, true}
        ],
        _ <- 1..count do
      metadata = %{method: method, python_class: class, success: success}
      :ok = handle(plans, @call ++ [:stop], %{duration: duration}, metadata)
    end

    for id <- ~w(w1 w2) do
      metadata = %{worker_id: id, python_version: "3.12"}
      :ok = handle(plans, [:snakepit, :worker, :spawned], %{startup_time: 1_000}, metadata)
    end

    metadata = %{worker_id: "w1", reason: :timeout}
    :ok = handle(plans, [:snakepit, :worker, :died], %{lifetime_ms: 5}, metadata)
    wait = %{command: "predict", worker_id: "w2"}
    :ok = handle(plans, [:snakepit, :pool, :queue_time], %{wait_time_us: 7}, wait)

    # So far ahead that time stands still for the reports of a test.
    {now_ms, unix_ms} = Clock.now()
    :ok = Native.end_slice(native(instance), {now_ms + 30_000, unix_ms + 30_000})
    instance
  end

  defp call(instance, name, arguments) do
    tool = Enum.find(Tools.all(instance: instance), &(&1.name == name))
    assert {:ok, answer} = tool.function.(arguments)
    assert_json(answer)
    answer
  end

  defp allowed(%{"type" => "string"}), do: ["", "search", <<0xFF>>]
  defp allowed(%{"minimum" => low, "maximum" => high}), do: [low, low + 1, high]

  defp refused(%{"type" => "string"}), do: [1, true, [], %{}, :search, self()]

  defp refused(%{"minimum" => low, "maximum" => high}),
    do: [low - 1, high + 1, 1.0, "1", true, [], %{}, 2 ** 70, {1, :minute}]

  # What every encoder of JSON takes.
  defp assert_json(map) when is_map(map) do
    refute is_struct(map)

    for {key, value} <- map do
      assert is_binary(key) and String.valid?(key)
      assert_json(value)
    end
  end

  defp assert_json(list) when is_list(list), do: Enum.each(list, &assert_json/1)
  defp assert_json(text) when is_binary(text), do: assert(String.valid?(text))
  defp assert_json(value), do: assert(is_number(value) or is_boolean(value) or is_nil(value))

  # The same numbers. The calendar's time is made of two clocks, and may differ by what lies between.
  defp assert_same(answer, report),
    do: assert(without_calendar(answer) == report |> as_json() |> without_calendar())

  defp as_json(%{} = map),
    do: Map.new(map, fn {key, value} -> {to_string(key), as_json(value)} end)

  defp as_json(list) when is_list(list), do: Enum.map(list, &as_json/1)
  defp as_json(other) when is_boolean(other) or is_nil(other), do: other
  defp as_json(atom) when is_atom(atom), do: Atom.to_string(atom)
  defp as_json(other), do: other

  defp without_calendar(%{} = map) do
    for {key, value} <- map, not String.ends_with?(key, "_unix_ms"), into: %{} do
      {key, without_calendar(value)}
    end
  end

  defp without_calendar(list) when is_list(list), do: Enum.map(list, &without_calendar/1)
  defp without_calendar(other), do: other
end
