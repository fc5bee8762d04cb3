defmodule Bridge.Python do
  @moduledoc "The Python interpreter and the script that makes it a worker."

  @minimum "3.8"

  @doc """
  The path of the interpreter behind a command such as `"python3"`.

  Version managers put a shell script under that name; asking it once keeps the script out of the
  start of every worker.
  """
  @spec find(String.t()) :: {:ok, Path.t()} | {:error, String.t()}
  def find(command) do
    case System.find_executable(command) do
      nil -> {:error, "#{command} is not on the PATH; Python #{@minimum} or later is needed"}
      path -> ask(path)
    end
  end

  @doc """
  Opens a worker as a port: four bytes of length before each frame, and its exit status at the
  end. The arguments are those of `priv/python/handicap.py`.
  """
  @spec open(Path.t(), [String.t()]) :: port()
  def open(interpreter, arguments) do
    Port.open({:spawn_executable, interpreter}, [
      :binary,
      :exit_status,
      :hide,
      packet: 4,
      # -B: no __pycache__ in priv. -E: no PYTHON* variables of the user's.
      args: ["-B", "-E", script() | arguments]
    ])
  end

  @doc """
  Ends a worker that does not listen any more. The port must still be open, or the pid may be
  another's.
  """
  @spec kill(pos_integer() | nil) :: :ok
  def kill(nil), do: :ok

  def kill(os_pid) do
    System.cmd("kill", ["-KILL", Integer.to_string(os_pid)], stderr_to_stdout: true)
    :ok
  end

  defp script, do: Application.app_dir(:bridge, "priv/python/worker.py")

  defp ask(path) do
    code = "import sys; print(sys.executable, '.'.join(map(str, sys.version_info[:3])))"

    with {output, 0} <- System.cmd(path, ["-E", "-c", code], stderr_to_stdout: true),
         [executable, version] <- String.split(output),
         true <- Version.match?(version, ">= #{@minimum}.0") do
      {:ok, executable}
    else
      _ -> {:error, "#{path} is not Python #{@minimum} or later"}
    end
  end
end
