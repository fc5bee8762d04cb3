defmodule DSPexTelemetry.UsageAnalytics.CrashTest do
  @moduledoc """
  A VM that is killed while it records and saves leaves a file that can be read, and that has all
  of the last save it told of.

  `USAGE_CRASH_ROUNDS` says how many are killed.
  """
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.UsageAnalytics

  @moduletag :tmp_dir
  @moduletag timeout: :infinity

  @rounds String.to_integer(System.get_env("USAGE_CRASH_ROUNDS", "10"))
  @recorder Path.expand("../../support/usage_recorder.exs", __DIR__)
  @patience_ms 60_000

  test "a usage file is whole and up to date, whenever the VM is killed", %{tmp_dir: folder} do
    File.chmod!(folder, 0o700)

    for round <- 1..@rounds do
      path = Path.join(folder, "usage#{rem(round, 2)}")
      File.rm(path)
      recorder = start_recorder(path)
      await_saves(recorder, 1 + :rand.uniform(5))

      saved =
        saved_until_killed(recorder, System.monotonic_time(:microsecond) + :rand.uniform(20_000))

      instance = start!(attach: false, usage_path: path)
      report = UsageAnalytics.get_usage_report(instance: instance, top: 1_000)
      assert {round, report.file.set_aside} == {round, nil}
      assert report.file.restored
      assert report.before >= saved
      # Whatever it is, it is one moment.
      assert report.tools.most_used |> Enum.map(& &1.count) |> Enum.sum() == report.before
      :ok = stop_supervised!({DSPexTelemetry, instance})
    end
  end

  # Should the test fail, nobody reads what it prints any more, which ends it.
  defp start_recorder(path) do
    ebins = Path.wildcard(Path.join(Mix.Project.build_path(), "lib/*/ebin"))
    paths = Enum.flat_map(ebins, &["-pa", &1])
    elixir = System.find_executable("elixir")
    arguments = paths ++ ["--erl", "-noinput", @recorder, path]
    options = [:binary, :exit_status, :stderr_to_stdout, line: 1_000, args: arguments]
    port = Port.open({:spawn_executable, elixir}, options)
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    %{port: port, os_pid: os_pid}
  end

  defp await_saves(_recorder, 0), do: :ok

  defp await_saves(%{port: port} = recorder, count) do
    assert_receive {^port, {:data, {:eol, line}}}, @patience_ms
    assert "saved " <> recorded = line
    # Nothing has been recorded yet in the first ones.
    await_saves(recorder, if(recorded == "0", do: count, else: count - 1))
  end

  # What the last completed save had at least. Reads on until the time has come, kills, and reads
  # what had been printed by then.
  defp saved_until_killed(recorder, kill_at_us) do
    saved = read_until(recorder, kill_at_us, 0)
    {_output, 0} = System.cmd("kill", ["-9", Integer.to_string(recorder.os_pid)])
    read_to_end(recorder, saved)
  end

  defp read_until(%{port: port} = recorder, until_us, saved) do
    left_us = until_us - System.monotonic_time(:microsecond)

    receive do
      {^port, {:data, {:eol, "saved " <> count}}} when left_us > 0 ->
        read_until(recorder, until_us, String.to_integer(count))
    after
      max(div(left_us, 1_000), 0) -> saved
    end
  end

  defp read_to_end(%{port: port} = recorder, saved) do
    assert_receive {^port, message}, @patience_ms

    case message do
      {:data, {:eol, "saved " <> count}} ->
        read_to_end(recorder, String.to_integer(count))

      {:data, {:noeol, _cut_off}} ->
        read_to_end(recorder, saved)

      # By the signal 9. Whatever the process held is free now.
      {:exit_status, status} ->
        assert status == 128 + 9
        saved
    end
  end
end
