defmodule DSPexTelemetry.ServerProgram do
  @moduledoc "Real servers that a test starts, which end with it."

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [on_exit: 1]

  @patience_ms 60_000

  @doc "Starts a program and waits until its URL answers with 200."
  def start!(path, arguments, ready_url) do
    port =
      Port.open({:spawn_executable, path}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        args: arguments
      ])

    {:os_pid, pid} = Port.info(port, :os_pid)
    on_exit(fn -> System.cmd("kill", [to_string(pid)], stderr_to_stdout: true) end)
    deadline = System.monotonic_time(:millisecond) + @patience_ms
    await_ready(port, ready_url, deadline)
    pid
  end

  defp await_ready(port, url, deadline) do
    receive do
      {^port, {:exit_status, status}} -> flunk("the server ended with status #{status}")
    after
      50 ->
        cond do
          match?({:ok, {{_, 200, _}, _, _}}, :httpc.request(url)) -> :ok
          System.monotonic_time(:millisecond) > deadline -> flunk("#{url} does not answer")
          true -> await_ready(port, url, deadline)
        end
    end
  end

  @doc "A program that is installed."
  def installed!(name),
    do: System.find_executable(name) || flunk("#{name} is not installed")

  @doc "A program that `bin/setup --full` has unpacked and not installed."
  def unpacked!(name) do
    path = Path.expand("_build/servers/usr/bin/#{name}")
    if File.exists?(path), do: path, else: flunk("#{path} is not there; run bin/setup --full")
  end

  @doc "What a URL answers, which has to be with 200."
  def get!(url) do
    {:ok, {{_version, 200, _phrase}, _headers, body}} =
      :httpc.request(:get, {String.to_charlist(url), []}, [], body_format: :binary)

    body
  end

  @doc "A folder that is removed with the test."
  def temporary_folder do
    folder = Path.join(System.tmp_dir!(), "servers_#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end
end
