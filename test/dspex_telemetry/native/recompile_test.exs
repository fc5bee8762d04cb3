defmodule DSPexTelemetry.Native.RecompileTest do
  # What `recompile()` does to a system that records, in a project of its own.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.Package

  @moduletag :tmp_dir
  # Compiles the library, but not what is in Rust.
  @moduletag timeout: 300_000

  @script """
  alias DSPexTelemetry.Native
  alias DSPexTelemetry.Instance.{HandlerJanitor, Lookup}

  processes = fn ->
    [Process.whereis(DSPexTelemetry.Supervisor), Process.whereis(HandlerJanitor)] ++
      for({pid, _handle} <- Lookup.running(), do: pid)
  end

  defmodule Emitter do
    def emit(count) do
      :telemetry.execute(
        [:dspex, :bridge, :call_method, :stop],
        %{duration: 1},
        %{method: "m", python_class: "C", success: true}
      )

      receive do
        {:enough, who} -> send(who, {:emitted, count + 1})
      after
        0 -> emit(count + 1)
      end
    end
  end

  source = "lib/dspex_telemetry/native.ex"
  text = File.read!(source)
  added = "  def added(_argument), do: not_loaded()\\n\\n  @type instance ::"
  before = processes.()
  emitter = spawn_link(fn -> Emitter.emit(0) end)

  File.write!(source, String.replace(text, "  @type instance ::", added))
  IO.inspect(IEx.Helpers.recompile(), label: "recompiled")

  # A tick and a report with the code that is there now.
  [instance] = for {pid, _handle} <- Lookup.running(), do: pid
  send(instance, :tick)
  :sys.get_state(instance)
  send(emitter, {:enough, self()})
  emitted = receive do: ({:emitted, count} -> count)
  [%{method: "m", count: counted}] = DSPexTelemetry.report().operations

  IO.inspect(counted == emitted and counted > 0, label: "all counted")
  IO.inspect(DSPexTelemetry.attached?(), label: "attached")
  IO.inspect(processes.() == before, label: "same processes")
  IO.inspect(function_exported?(Native, :added, 1), label: "new code")
  :ok = Application.stop(:dspex_telemetry)
  """

  test "after a change of native.ex the old code goes on, and no event is lost", %{
    tmp_dir: folder
  } do
    on_exit(fn -> File.rm_rf!(folder) end)
    Package.unpack!(folder)
    File.mkdir_p!(Path.join(folder, "test/support"))
    File.cp_r!("test/support/telemetry", Path.join(folder, "test/support/telemetry"))
    # After its sources, so that it is not built.
    library = "priv/native/telemetry_nif.so"
    File.cp!(library, Path.join(folder, library))
    write!(folder, [{"script.exs", @script}])

    refute mix!(folder, ["compile"]) =~ "warning"
    output = mix!(folder, ["run", "script.exs"])
    assert output =~ "DSPexTelemetry.Native has changed. The VM goes on with the code"

    for line <- [
          "recompiled: :ok",
          "all counted: true",
          "attached: true",
          "same processes: true",
          "new code: false"
        ],
        do: assert(output =~ ~r/^#{line}$/m, output)

    # The next VM has it.
    after_restart = "DSPexTelemetry.Native |> function_exported?(:added, 1) |> IO.inspect()"
    assert mix!(folder, ["run", "-e", after_restart]) == "true\n"

    # Compiling it anew loads nothing: the library may be missing by now, or be one for other code.
    File.write!(Path.join(folder, library), "no library")
    source = Path.join(folder, "lib/dspex_telemetry/native.ex")
    File.write!(source, "\n# changed\n", [:append])
    output = mix!(folder, ["compile"])
    assert output =~ "Compiling 1 file (.ex)\n"
    refute output =~ "telemetry_nif"
  end
end
