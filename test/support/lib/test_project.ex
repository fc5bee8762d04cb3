defmodule DSPexTelemetry.TestProject do
  @moduledoc "Mix projects of their own that tests write, compile and run."

  import ExUnit.Assertions

  @doc "Writes files below a folder: pairs of path and text."
  def write!(folder, files) do
    for {path, text} <- files do
      path = Path.join(folder, path)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
    end

    :ok
  end

  @doc "Runs Mix in a folder as `mix/3` does and asserts that it does not fail. Returns what it prints."
  def mix!(folder, arguments, also \\ []) do
    {output, status} = mix(folder, arguments, also)
    assert {status, output} == {0, output}
    output
  end

  @doc """
  Runs Mix in a folder as in a shell of one's own: what this run has set does not count there. Returns what it
  prints, and its status.
  """
  def mix(folder, arguments, also \\ []) do
    unset = ~w(MIX_BUILD_PATH MIX_BUILD_ROOT MIX_DEPS_PATH MIX_EXS MIX_TARGET ERL_FLAGS ERL_LIBS)
    environment = [{"MIX_ENV", "dev"} | Enum.map(unset, &{&1, nil})] ++ also
    System.cmd("mix", arguments, cd: folder, env: environment, stderr_to_stdout: true)
  end

  @doc """
  Evaluates code in a VM of its own with the library running, and asserts that it does not fail. Returns what it
  prints.
  """
  def evaluate!(code) do
    path =
      Path.join(
        System.tmp_dir!(),
        "evaluate-#{System.unique_integer([:positive])}-#{:os.getpid()}.exs"
      )

    File.write!(path, code)
    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])

    try do
      {output, status} = System.cmd("elixir", paths ++ [path], stderr_to_stdout: true)
      assert {status, output} == {0, output}
      output
    after
      File.rm(path)
    end
  end
end
