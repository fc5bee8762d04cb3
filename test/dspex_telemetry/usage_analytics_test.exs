defmodule DSPexTelemetry.UsageAnalyticsTest do
  use ExUnit.Case, async: true

  import Bitwise
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Instance, Native, UsageAnalytics}
  alias DSPexTelemetry.Instance.{Clock, Lookup}

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

  describe "a usage file" do
    @describetag :tmp_dir

    # Whatever the umask is.
    setup %{tmp_dir: folder}, do: File.chmod!(folder, 0o700)

    test "carries the counts over a restart", %{tmp_dir: folder} do
      path = Path.join(folder, "usage")
      instance = start(usage_path: path)
      assert %{path: ^path, restored: false, set_aside: nil, last_error: nil} = file(instance)
      use_tool(instance, "clock", 3)
      :ok = UsageAnalytics.declare_tools(~w(clock lookup), instance: instance)
      assert UsageAnalytics.save(instance: instance) == :ok
      assert (File.stat!(path).mode &&& 0o777) == 0o600
      # This is saved when it stops.
      use_tool(instance, "notify", 1)
      restart(instance, usage_path: path)

      assert %{path: ^path, restored: true, set_aside: nil, last_error: nil} = file(instance)
      use_tool(instance, "clock", 2)
      report = usage(instance)
      assert {report.total, report.before, report.since_start} == {6, 4, 2}
      tools = report.tools
      assert {tools.total, tools.before, tools.since_start} == {6, 4, 2}
      assert tools.never_used == ~w(lookup)

      assert [
               %{name: "clock", count: 5, before: 3, since_start: 2},
               %{name: "notify", count: 1, before: 1, since_start: 0}
             ] = tools.most_used
    end

    test "is not written while nothing has changed", %{tmp_dir: folder} do
      path = Path.join(folder, "usage")
      instance = start(usage_path: path)
      # It is there from the start, as nothing else can be locked.
      File.rm!(path)
      assert UsageAnalytics.save(instance: instance) == :ok
      refute File.exists?(path)
      use_tool(instance, "clock", 1)
      assert UsageAnalytics.save(instance: instance) == :ok
      File.rm!(path)
      assert UsageAnalytics.save(instance: instance) == :ok
      refute File.exists?(path)
    end

    test "is written by itself", %{tmp_dir: folder} do
      path = Path.join(folder, "usage")
      instance = start(usage_path: path, usage_save_interval: 10)
      use_tool(instance, "clock", 1)
      await("the use", fn -> File.read!(path) =~ ~s("name":"clock") end)
    end

    test "is none without a path" do
      instance = start()
      use_tool(instance, "clock", 1)
      assert UsageAnalytics.save(instance: instance) == {:error, :no_path}
      assert usage(instance).file == nil
    end

    test "has all that was recorded before the instance was killed", %{tmp_dir: folder} do
      instance = start(usage_path: Path.join(folder, "usage"))

      Enum.reduce(1..3, 0, fn _, recorded ->
        plans = plans(instance)
        killed = pid(instance)
        # They record until the plan says that it has stopped.
        users = for _ <- 1..3, do: Task.async(fn -> use_until_stopped(plans, 0) end)
        await("some uses", fn -> usage(instance).since_start > 1_000 end)
        kill(killed)
        recorded = recorded + (users |> Task.await_many(60_000) |> Enum.sum())
        await("the instance to be back", fn -> running?(instance, killed) end)
        assert %{before: ^recorded, since_start: 0} = usage(instance)
        assert file(instance).restored
        recorded
      end)
    end

    for why <- ~w(damaged truncated foreign newer)a do
      test "that is #{why} is moved aside, and is not lost", %{tmp_dir: folder} do
        path = Path.join(folder, "usage")
        instance = start(usage_path: path)
        use_tool(instance, "clock", 3)
        :ok = stop_supervised!({DSPexTelemetry, instance})
        contents = path |> File.read!() |> flawed(unquote(why))
        File.write!(path, contents)
        watch_log(path)
        start(name: instance, usage_path: path)

        assert %{restored: false, set_aside: %{path: aside, why: unquote(to_string(why))}} =
                 file(instance)

        assert_received {:logged, :error, line}
        assert line == "Usage file #{path} is #{unquote(why)} and was moved to #{aside}"
        assert usage(instance).total == 0

        use_tool(instance, "notify", 1)
        assert UsageAnalytics.save(instance: instance) == :ok
        restart(instance, usage_path: path)
        assert counts(usage(instance).tools) == %{"notify" => 1}
        assert %{restored: true, set_aside: nil} = file(instance)
        assert File.read!(aside) == contents
      end
    end

    test "has one instance: a second one is refused, and the first goes on", %{tmp_dir: folder} do
      path = Path.join(folder, "usage")
      first = start(usage_path: path)
      second = unique_name()
      Process.flag(:trap_exit, true)
      options = [name: second, attach: false, usage_path: path]
      assert {:error, reason} = DSPexTelemetry.start_link(options)
      assert {:shutdown, {:failed_to_start_child, Instance, sentence}} = reason

      assert sentence ==
               "usage file #{path} is in use by #{inspect(first)} (OS process #{System.pid()}); " <>
                 "give each instance a file of its own"

      assert_raise ArgumentError, ~r/^no instance/, fn -> usage(second) end
      use_tool(first, "clock", 1)
      assert UsageAnalytics.save(instance: first) == :ok
      :ok = stop_supervised!({DSPexTelemetry, first})

      start(name: second, usage_path: path)
      assert usage(second).before == 1
    end

    test "that is not safe is refused with a sentence, and nothing is touched", %{tmp_dir: folder} do
      Process.flag(:trap_exit, true)
      precious = Path.join(folder, "precious")
      link = Path.join(folder, "usage")
      File.write!(precious, "notes")
      File.ln_s!(precious, link)
      options = [name: unique_name(), attach: false, usage_path: link]
      assert {:error, {:shutdown, {_, Instance, sentence}}} = DSPexTelemetry.start_link(options)

      assert sentence ==
               "usage file #{link} leads through a link to #{precious}, which is no usage file; " <>
                 "remove the link or choose another path"

      File.chmod!(folder, 0o777)
      assert {:error, {:shutdown, {_, Instance, sentence}}} = DSPexTelemetry.start_link(options)

      assert sentence ==
               "usage file #{link} is not safe: #{folder} may be written by others (mode 0777); " <>
                 "run chmod go-w on it, or choose another path"

      assert File.read!(precious) == "notes"
      assert File.read_link!(link) == precious
    end

    test "in a folder that does not exist is refused with a sentence", %{tmp_dir: folder} do
      Process.flag(:trap_exit, true)
      path = Path.join(folder, "missing/usage")
      options = [name: unique_name(), attach: false, usage_path: path]
      assert {:error, {:shutdown, {_, Instance, sentence}}} = DSPexTelemetry.start_link(options)

      assert sentence =~ "usage file #{path} needs the folder #{Path.dirname(path)}: "
      assert sentence =~ "; create it or choose another path"
    end

    test "that cannot be written any more is told and logged once, and once when it can again",
         %{tmp_dir: folder} do
      folder = Path.join(folder, "disk")
      File.mkdir!(folder)
      path = Path.join(folder, "usage")
      watch_log(path)
      instance = start(usage_path: path, usage_save_interval: 10)
      saver = child(instance, UsageAnalytics)

      File.rm_rf!(folder)
      use_tool(instance, "clock", 1)
      assert_receive {:logged, :error, line}, 10_000
      assert line =~ ~r/^Usage counts cannot be saved: .*#{path}.*\. They stay in memory$/
      await_saves(saver, 3)
      refute_received {:logged, _level, _line}

      assert file(instance).last_error =~ path
      assert UsageAnalytics.save(instance: instance) == {:error, file(instance).last_error}
      assert counts(usage(instance).tools) == %{"clock" => 1}

      File.mkdir!(folder)
      assert_receive {:logged, :info, line}, 10_000
      assert line == "Usage counts are saved to #{path} again"
      await_saves(saver, 3)
      refute_received {:logged, _level, _line}
      assert file(instance).last_error == nil

      restart(instance, usage_path: path)
      assert counts(usage(instance).tools) == %{"clock" => 1}
    end

    test "that is closed already is no failure to save", %{tmp_dir: folder} do
      path = Path.join(folder, "usage")
      instance = start(usage_path: path, usage_save_interval: 10)
      use_tool(instance, "clock", 1)
      watch_log("Usage counts")
      # As after a kill, until those that live on the instance end too.
      :ok = Instance.stop_native(Lookup.fetch!(instance))
      await_saves(child(instance, UsageAnalytics), 3)
      refute_received {:logged, _level, "Usage counts cannot be saved: no_path" <> _}
    end
  end

  defp start(options \\ []) do
    defaults = [attach: false, summary_interval: :infinity, usage_save_interval: 86_400_000]
    start!(Keyword.merge(defaults, options))
  end

  defp restart(instance, options) do
    :ok = stop_supervised!({DSPexTelemetry, instance})
    start([name: instance] ++ options)
  end

  defp usage(instance, options \\ []),
    do: UsageAnalytics.get_usage_report([instance: instance] ++ options)

  defp file(instance), do: usage(instance).file
  defp names(kind), do: Enum.map(kind.most_used, & &1.name)
  defp counts(kind), do: Map.new(kind.most_used, &{&1.name, &1.count})

  defp flawed(contents, :damaged), do: String.replace(contents, "clock", "clack")
  defp flawed(contents, :truncated), do: binary_part(contents, 0, byte_size(contents) - 1)
  defp flawed(contents, :foreign), do: "# my notes\n" <> contents
  defp flawed(contents, :newer), do: String.replace(contents, "version=1", "version=2")

  defp use_tool(instance, tool, count) do
    plans = plans(instance)
    for _ <- 1..count, do: :ok = use_tool_of(plans, tool)
  end

  defp use_tool_of(plans, tool) do
    metadata = %{tool_name: tool, success: true}
    handle(plans, @tool ++ [:stop], %{duration: 1}, metadata)
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

  defp use_until_stopped(plans, count) do
    case use_tool_of(plans, "clock") do
      :ok -> use_until_stopped(plans, count + 1)
      :stopped -> count
    end
  end

  # Whatever rests between two sweeps goes, and its place to another.
  defp retire_until_done(instance, tasks, at) do
    now_ms = Clock.now_ms()
    Native.retire_idle(native(instance), {now_ms + at, 0}, 0)
    if Enum.any?(tasks, &Process.alive?(&1.pid)), do: retire_until_done(instance, tasks, at + 1)
  end

  defp running?(instance, before),
    do: match?([{pid, %{}}] when pid != before, Registry.lookup(Lookup.registry(), instance))

  defp await_saves(saver, count) do
    :erlang.trace(saver, true, [:receive])
    for _ <- 1..count, do: assert_receive({:trace, ^saver, :receive, :save}, 10_000)
    :erlang.trace(saver, false, [:receive])
  end
end
