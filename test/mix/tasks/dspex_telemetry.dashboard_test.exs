defmodule Mix.Tasks.DspexTelemetry.DashboardTest do
  # Not async: the task works in the current folder, of which there is one.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias DSPexTelemetry.Dashboard
  alias Mix.Tasks.DspexTelemetry.Dashboard, as: Task

  setup do
    folder = Path.join(System.tmp_dir!(), "dashboard-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder}
  end

  # What the task said on standard error, and the status that it ended with.
  defp failure(arguments) do
    parent = self()

    said = capture_io(:stderr, fn -> send(parent, {:ended, catch_exit(Task.run(arguments))}) end)

    assert_received {:ended, {:shutdown, status}}
    {status, said}
  end

  test "writes a file of the dashboard's name into the current folder", %{folder: folder} do
    File.cd!(folder, fn ->
      assert capture_io(fn -> Task.run([]) end) == "wrote dspex_telemetry.json\n"
      assert File.read!("dspex_telemetry.json") == Dashboard.render()
      assert File.ls!(".") == ["dspex_telemetry.json"]
    end)
  end

  test "writes where it is told, what it is told", %{folder: folder} do
    file = Path.join(folder, "bridge.json")

    arguments =
      ~w(--output #{file} --prefix acme_ --datasource main --title Bridge --uid bridge --native-histograms
         --runbooks https://example.org/runbooks.html)

    assert capture_io(fn -> Task.run(arguments) end) == "wrote #{file}\n"

    assert File.read!(file) ==
             Dashboard.render(
               prefix: "acme_",
               datasource: "main",
               title: "Bridge",
               uid: "bridge",
               runbooks: "https://example.org/runbooks.html",
               histograms: :native
             )
  end

  test "writes nothing but the dashboard to standard output" do
    assert capture_io(fn -> Task.run(["--output", "-"]) end) == Dashboard.render()
  end

  test "--help names every option and writes no file", %{folder: folder} do
    File.cd!(folder, fn ->
      help = capture_io(fn -> Task.run(["--help"]) end)

      for option <-
            ~w(--output --prefix --datasource --title --uid --runbooks --native-histograms --help) do
        assert help =~ "\n  #{option} "
      end

      assert File.ls!(".") == []
    end)
  end

  test "refuses what it does not understand, with status 2 and the usage", %{folder: folder} do
    File.cd!(folder, fn ->
      for {arguments, problem} <- [
            {["--outptu", "x"], "--outptu is not an option, or lacks its value"},
            {["--prefix"], "--prefix is not an option, or lacks its value"},
            {["--native-histograms=7"], ~s(--native-histograms cannot be "7")},
            {["x.json"], ~s(there is nothing to do with "x.json")},
            {["--prefix", "1x"], "prefix must be the beginning of a metric's name"},
            {["--uid", "a/b"], "uid must be 1 to 40 letters"},
            {["--title", ""], "title must be some text"}
          ] do
        assert {2, said} = failure(arguments)
        assert said =~ problem
        assert said =~ "Usage: mix dspex_telemetry.dashboard"
      end

      assert File.ls!(".") == []
    end)
  end

  test "says why a file cannot be written, with status 1", %{folder: folder} do
    assert {1, said} = failure(["--output", Path.join(folder, "none/dashboard.json")])
    assert said =~ "none/dashboard.json: no such file or directory"
  end
end
