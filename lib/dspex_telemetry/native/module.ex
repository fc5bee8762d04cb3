defmodule DSPexTelemetry.Native.Module do
  @moduledoc false
  # Defines the module that the Rust library is loaded into, so that it stays when its source changes.
  #
  # Mix unloads a module before it compiles it anew, as in `recompile()`. Events, ticks and reports would call a
  # function that is not there. And the new code could not be loaded: the VM has the library already. So the module is
  # compiled apart from those that Mix knows of. Its file is written, and a VM that has loaded it goes on with what it
  # has until it is restarted.

  @doc """
  The same as `defmodule`, for a module that is not unloaded. While it is compiled, its body can use no other module
  of the project.
  """
  defmacro defnative(name, do: body) do
    name = Macro.expand(name, __CALLER__)
    file = Path.join(Mix.Project.compile_path(), "#{name}.beam")

    # The compiler would load the one from before, without a library or with one that is not of it.
    unless :erlang.module_loaded(name), do: File.rm(file)
    {^name, code} = compile(name, body, __CALLER__.file)
    write!(file, code)
    if changed?(name, code), do: tell(name)
    name
  end

  # A process that the compiler does not know: what is defined there it does not note.
  defp compile(name, body, file) do
    quoted =
      quote do
        defmodule unquote(name) do
          # The VM would complain at length that there is no library yet.
          @compile {:autoload, false}
          unquote(body)
        end
      end

    task = Task.async(fn -> Code.compile_quoted(quoted, file) end)
    [compiled] = Task.await(task, :infinity)
    compiled
  end

  defp write!(file, code) do
    File.mkdir_p!(Path.dirname(file))
    File.write!(file, code)
  end

  defp changed?(name, code) do
    {:ok, {^name, md5}} = :beam_lib.md5(code)
    :erlang.module_loaded(name) and name.module_info(:md5) != md5
  end

  defp tell(name) do
    Mix.shell().error(
      "#{inspect(name)} has changed. The VM goes on with the code and the library that it has loaded. " <>
        "Restart it to use the new ones."
    )
  end
end
