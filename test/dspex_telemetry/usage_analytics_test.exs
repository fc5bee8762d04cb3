defmodule DSPexTelemetry.UsageAnalyticsTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance
  import DSPexTelemetry.UsageTesting

  alias DSPexTelemetry.{Native, UsageAnalytics}
  alias DSPexTelemetry.Instance.Clock

  doctest UsageAnalytics

  @create [:dspex, :bridge, :create_instance]
  @call [:dspex, :bridge, :call_method]
  @tool [:dspex, :tools, :call]
  @variable [:dspex, :session, :variable]
  @kinds [:classes, :methods, :tools, :variables]

  describe "uses" do
    test "are counted exactly while many processes use what has series, what has none, and what is forgotten" do
      # Far fewer series than names.
      instance = start(series_limit: 7)
      plans = plans(instance)

      users =
        for seed <- 1..4 do
          Task.async(fn ->
            :rand.seed(:exsss, {seed, 2, 3})
            for _ <- 1..5_000, do: use_something(plans)
          end)
        end

      retire_until_done(instance, users, 1)
      expected = users |> Task.await_many(60_000) |> Enum.concat() |> Enum.frequencies()
      overflow = DSPexTelemetry.info(instance: instance).series |> Enum.map(& &1.overflow)
      assert Enum.sum(overflow) > 1_000

      report = usage(instance, top: 1_000)
      assert report.total == 20_000
      assert report.since_start == 20_000
      assert report.before == 0
      assert report.file == nil

      for kind <- @kinds do
        names = for {{^kind, name}, count} <- expected, into: %{}, do: {name, count}
        of_kind = Map.fetch!(report, kind)
        assert {kind, counts(of_kind)} == {kind, names}
        assert of_kind.names == map_size(names)
        assert of_kind.total == names |> Map.values() |> Enum.sum()
        assert %{exact: true, error_bound: 0, before: 0, never_used: [], unsure: []} = of_kind
        assert of_kind.since_start == of_kind.total
      end
    end

    test "are completed operations, successful or not, and no starts" do
      instance = start()
      plans = plans(instance)
      call = %{method: "m", python_class: "C", success: false, kind: :error}
      tool = %{tool_name: "t", success: false, kind: :exit, caller: :python}

      for {span, metadata} <- [{@create, call}, {@call, call}, {@tool, tool}] do
        :ok = handle(plans, span ++ [:start], %{system_time: 1}, metadata)
        :ok = handle(plans, span ++ [:stop], %{duration: 1}, metadata)
        :ok = handle(plans, span ++ [:exception], %{duration: 1}, metadata)
      end

      variable = %{var_name: "v", var_type: "int", found: false}
      :ok = handle(plans, @variable ++ [:set], %{size: 1}, variable)
      :ok = handle(plans, @variable ++ [:get], %{}, variable)

      report = usage(instance)
      assert report.total == 8
      counts = for kind <- @kinds, do: counts(Map.fetch!(report, kind))
      assert counts == [%{"C" => 2}, %{"C.m" => 2}, %{"t" => 2}, %{"v" => 2}]
    end

    test "are listed with the most frequent first, as many as asked for" do
      instance = start()
      for number <- 1..15, do: use_tool(instance, "tool#{number}", number)

      assert names(usage(instance).tools) == for(number <- 15..6//-1, do: "tool#{number}")
      assert names(usage(instance, top: 2).tools) == ~w(tool15 tool14)
      assert usage(instance, top: 0).tools.most_used == []
      assert usage(instance, top: 2).tools.names == 15

      for top <- [-1, 1.0, nil, "10", 1_000_001] do
        assert_raise ArgumentError,
                     "option :top must be an integer from 0 to 1000000, got: #{inspect(top)}",
                     fn -> usage(instance, top: top) end
      end
    end

    test "have the times of the first and the last" do
      instance = start()
      before_unix_ms = System.system_time(:millisecond)
      use_tool(instance, "clock", 3)
      assert [%{first_unix_ms: first, last_unix_ms: last}] = usage(instance).tools.most_used
      assert_in_delta first, before_unix_ms, 1_000
      use_tool(instance, "clock", 1)
      Native.end_slice(native(instance), {Clock.now_ms() + 50_000, last + 50_000})
      assert [%{first_unix_ms: ^first, last_unix_ms: later}] = usage(instance).tools.most_used
      assert later == last + 50_000
    end

    test "beyond the capacity are counted with an error that is told" do
      instance = start(usage_capacity: 10)
      use_tool(instance, "often", 1_000)
      for number <- 1..100, do: use_tool(instance, "tool#{number}", 1)

      tools = usage(instance, top: 100).tools
      assert %{total: 1_100, names: 10, exact: false} = tools
      assert tools.error_bound in 1..110
      assert [%{name: "often"} = often | rare] = tools.most_used
      assert 1_000 in (often.count - often.error)..often.count
      for used <- rare, do: assert(1 in (used.count - used.error)..used.count)
      for used <- tools.most_used, do: assert(used.error <= tools.error_bound)
    end

    test "survive a reset" do
      instance = start()
      use_tool(instance, "clock", 3)
      :ok = DSPexTelemetry.reset(instance: instance)
      use_tool(instance, "clock", 1)
      assert counts(usage(instance).tools) == %{"clock" => 4}
    end
  end

  describe "names that are declared" do
    test "are never used until they are" do
      instance = start()
      use_tool(instance, "clock", 1)
      :ok = UsageAnalytics.declare_tools(~w(clock lookup notify), instance: instance)
      :ok = UsageAnalytics.declare_classes(~w(Index), instance: instance)
      assert usage(instance).tools.never_used == ~w(lookup notify)
      assert usage(instance).classes.never_used == ~w(Index)
      assert usage(instance).total == 1

      use_tool(instance, "notify", 1)
      assert usage(instance).tools.never_used == ~w(lookup)
      # What is declared replaces what was.
      :ok = UsageAnalytics.declare_tools(~w(send), instance: instance)
      assert usage(instance).tools.never_used == ~w(send)
      assert counts(usage(instance).tools) == %{"clock" => 1, "notify" => 1}
    end

    test "are refused if they are too many, and nothing changes" do
      instance = start(usage_capacity: 2)
      :ok = UsageAnalytics.declare_tools(~w(a b), instance: instance)

      assert_raise ArgumentError, "3 tools were declared, at most 2 are allowed", fn ->
        UsageAnalytics.declare_tools(~w(c d e), instance: instance)
      end

      assert_raise ArgumentError, "3 classes were declared, at most 2 are allowed", fn ->
        UsageAnalytics.declare_classes(~w(c d e), instance: instance)
      end

      assert usage(instance).tools.never_used == ~w(a b)
      assert usage(instance).classes.never_used == []
    end

    test "are refused if they are no strings" do
      instance = start()

      for names <- [nil, "a", :a, [:a], ["a" | "b"], ["a", 1], %{}, [<<0xFF>>], [<<1::3>>]] do
        message = "names must be a list of strings, got: #{inspect(names)}"

        assert_raise ArgumentError, message, fn ->
          UsageAnalytics.declare_tools(names, instance: instance)
        end
      end
    end
  end

  # What was used, as a kind and a name.
  defp use_something(plans) do
    class = "Class#{:rand.uniform(30)}"
    method = "method#{:rand.uniform(5)}"

    {event, measurements, metadata, used} =
      case :rand.uniform(8) do
        1 ->
          metadata = %{python_class: class, success: true, ref: "ref"}
          {@create ++ [:stop], %{duration: 1}, metadata, {:classes, class}}

        n when n <= 4 ->
          metadata = %{method: method, python_class: class, success: n > 2}
          {@call ++ [:stop], %{duration: 1}, metadata, {:methods, class <> "." <> method}}

        n when n <= 6 ->
          tool = "tool#{:rand.uniform(20)}"
          {@tool ++ [:stop], %{duration: 1}, %{tool_name: tool, success: true}, {:tools, tool}}

        7 ->
          metadata = %{var_name: "var#{:rand.uniform(20)}", var_type: "int"}
          {@variable ++ [:set], %{size: 1}, metadata, {:variables, metadata.var_name}}

        8 ->
          metadata = %{var_name: "var#{:rand.uniform(20)}", found: true}
          {@variable ++ [:get], %{size: 1}, metadata, {:variables, metadata.var_name}}
      end

    :ok = handle(plans, event, measurements, metadata)
    used
  end

  # Whatever rests between two sweeps goes, and its place to another.
  defp retire_until_done(instance, tasks, at) do
    now_ms = Clock.now_ms()
    Native.retire_idle(native(instance), {now_ms + at, 0}, 0)
    if Enum.any?(tasks, &Process.alive?(&1.pid)), do: retire_until_done(instance, tasks, at + 1)
  end
end
