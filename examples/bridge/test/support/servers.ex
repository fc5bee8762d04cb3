defmodule Bridge.Servers do
  @moduledoc "What the tests with real servers share."

  # Milliseconds.
  @patience 60_000
  @pause 100

  @doc """
  Starts the library anew, so that it has counted nothing, with its HTTP endpoint on a free port and
  with these options. Returns `"host:port"`. When the tests of the module are over it is started as
  it was.
  """
  @spec restart_telemetry(keyword()) :: String.t()
  def restart_telemetry(options \\ []) do
    options = [http: [port: 0]] ++ options
    before = Application.get_all_env(:dspex_telemetry)
    restart(options)

    ExUnit.Callbacks.on_exit(fn ->
      for {name, _} <- options, do: Application.delete_env(:dspex_telemetry, name)
      restart(before)
    end)

    {:ok, %{port: port}} = DSPexTelemetry.http_address()
    "127.0.0.1:#{port}"
  end

  defp restart(options) do
    :ok = Application.stop(:dspex_telemetry)
    Application.put_all_env(dspex_telemetry: options)
    :ok = Application.start(:dspex_telemetry)
  end

  @doc "A new folder for a server; all of them are in `folder/0`."
  @spec new_folder(String.t()) :: Path.t()
  def new_folder(name) do
    folder = Path.join(folder(), "#{name}-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    folder
  end

  @doc "Where the servers of this run of the tests have their data and logs."
  @spec folder() :: Path.t()
  def folder, do: Path.join(System.tmp_dir!(), "bridge-servers-#{System.pid()}")

  @doc "For `ExUnit.after_suite/1`: keeps the servers' logs if a test has failed."
  @spec clean_up(%{failures: non_neg_integer()}) :: :ok
  def clean_up(%{failures: 0}) do
    File.rm_rf!(folder())
    :ok
  end

  def clean_up(_failed) do
    if File.dir?(folder()), do: IO.puts("The logs of the servers are in #{folder()}")
    :ok
  end

  @doc """
  Asks again and again until the answer is neither nil nor false, and returns it; after a minute
  the test fails, and tells `what` it has waited for.
  """
  @spec await!(String.t(), (() -> answer)) :: answer when answer: term()
  def await!(what, ask), do: await!(what, ask, now() + @patience)

  defp await!(what, ask, deadline) do
    cond do
      answer = ask.() ->
        answer

      now() > deadline ->
        ExUnit.Assertions.flunk("waited in vain for #{what}")

      true ->
        receive after: (@pause -> await!(what, ask, deadline))
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
