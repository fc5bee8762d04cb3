defmodule DSPexTelemetry.UsageAnalytics.FileTest do
  use ExUnit.Case, async: true

  import Bitwise
  import DSPexTelemetry.TestInstance
  import DSPexTelemetry.UsageTesting

  alias DSPexTelemetry.{Instance, UsageAnalytics}
  alias DSPexTelemetry.Instance.Lookup

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

  defp restart(instance, options) do
    :ok = stop_supervised!({DSPexTelemetry, instance})
    start([name: instance] ++ options)
  end

  defp flawed(contents, :damaged), do: String.replace(contents, "clock", "clack")
  defp flawed(contents, :truncated), do: binary_part(contents, 0, byte_size(contents) - 1)
  defp flawed(contents, :foreign), do: "# my notes\n" <> contents
  defp flawed(contents, :newer), do: String.replace(contents, "version=1", "version=2")

  defp use_until_stopped(plans, count) do
    case use_tool_of(plans, "clock") do
      :ok -> use_until_stopped(plans, count + 1)
      :stopped -> count
    end
  end

  defp running?(instance, before),
    do: match?([{pid, %{}}] when pid != before, Registry.lookup(Lookup.registry(), instance))

  defp await_saves(saver, count) do
    :erlang.trace(saver, true, [:receive])
    for _ <- 1..count, do: assert_receive({:trace, ^saver, :receive, :save}, 10_000)
    :erlang.trace(saver, false, [:receive])
  end
end
