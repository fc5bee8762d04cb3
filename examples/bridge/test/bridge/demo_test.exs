defmodule Bridge.DemoTest do
  use ExUnit.Case

  import ExUnit.CaptureIO

  alias Bridge.{Audit, Demo}
  alias Mix.Tasks.Bridge.Demo, as: DemoTask

  doctest Bridge.Audit
  doctest Bridge.Progress, import: true
  doctest Mix.Tasks.Bridge.Demo

  # The scenes go on until their alerts came, which takes a while on a busy machine.
  @tag timeout: 300_000
  test "a run sees every event and staged alert, and the reports agree with its own counts" do
    json = Path.join(System.tmp_dir!(), "bridge-demo-#{System.unique_integer([:positive])}.json")
    on_exit(fn -> File.rm(json) end)

    output = capture_io(fn -> assert Demo.run(seconds: 1, workers: 2, json: json) == :ok end)

    assert output =~ "the reports agree with the demo's own counts"

    for line <- [
          ~r/^  [\d:]{8}  error spike      Ledger.post failed 5 times within .*sqlite3.OperationalError$/m,
          ~r/^  [\d:]{8}  spike over       Ledger.post failed \d+ times in/m,
          ~r/^  [\d:]{8}  latency anomaly  Ledger.scan p95 .*, usually /m,
          ~r/^  [\d:]{8}  anomaly over     Ledger.scan /m,
          ~r/^  [\d:]{8}  queue wait       call_method waited .* for worker worker-\d+$/m,
          ~r/^  [\d:]{8}  summary          /m,
          ~r/^Python's verdict, slowest first\n  \w+\.\w+ p95 /m,
          ~r/^  classes  \w+ \d+, /m,
          ~r/^  methods  [\w.]+ \d+, /m,
          # Whether a name is looked up in so short a run is up to the texts.
          ~r/^  tools    .*; never (lookup, )?method_errors, usage, worker_pool$/m
        ],
        do: assert(output =~ line)

    assert {:ok, %{}} = json |> File.read!() |> Bridge.JSON.decode()
  end

  test "the audit finds a call that the report has missed" do
    counted = %{{:operation, {"search", "SqliteIndex"}} => {2, 0}, {:session, :created} => {1, 0}}

    reported = %{
      {:operation, {"search", "SqliteIndex"}} => {1, 0},
      {:session, :created} => {1, 0}
    }

    assert Audit.disagreements(counted, reported) == [
             "method SqliteIndex.search: the demo counted 2, the report says 1"
           ]
  end

  test "good options are taken as they are" do
    assert DemoTask.parse(["--http", "9568", "--serve", "--seconds", "3"]) ==
             {:ok, [http: 9568, serve: true, seconds: 3]}

    assert DemoTask.parse(["--http", "0"]) == {:ok, [http: 0]}
    assert DemoTask.parse([]) == {:ok, []}

    assert DemoTask.parse(["--route", "--cache", "--workers", "3"]) ==
             {:ok, [route: true, cache: true, workers: 3]}

    assert DemoTask.parse(["--cache", "--workers", "1"]) == {:ok, [cache: true, workers: 1]}

    tmp = System.tmp_dir!()
    arguments = ~w(--replay calls.txt --http 0 --serve --json ../report.json)

    assert DemoTask.parse(arguments, Path.join(tmp, "here")) ==
             {:ok,
              [
                replay: Path.join(tmp, "here/calls.txt"),
                http: 0,
                serve: true,
                json: Path.join(tmp, "report.json")
              ]}

    for {text, speed} <- [{"1", 1}, {"0.001", 0.001}, {"1000000", 1_000_000}, {"max", :max}] do
      assert {:ok, options} = DemoTask.parse(["--replay", "/a", "--speed", text])
      assert options[:speed] === speed
    end
  end

  test "bad options are refused with a reason" do
    for {arguments, reason} <- [
          {["--pace", "9"], "--pace is not an option, or lacks its value"},
          {["--replay"], "--replay is not an option, or lacks its value"},
          {["--speed", "9"], "--speed needs --replay"},
          {["--replay", "a", "--workers", "3", "--route"],
           "--replay plays a recording, without --workers, --route"},
          {["--replay", "a", "--seconds", "3", "--cache"],
           "--route and --cache make a run of their own, without --seconds"},
          {["--replay", "a", "--serve"], "--serve needs --http, or there is nothing to serve"},
          {["--seconds"], "--seconds is not an option, or lacks its value"},
          {["--seconds", "soon"], "--seconds cannot be \"soon\""},
          {["--seconds", "0"], "--seconds is 1 to 86400, not 0"},
          {["--workers", "-1"], "--workers is 1 to 64, not -1"},
          {["--http", "70000"], "--http is 0 to 65535, not 70000"},
          {["--http", "on"], "--http cannot be \"on\""},
          {["--serve"], "--serve needs --http, or there is nothing to serve"},
          {["--json", "/no/such/folder/report.json"],
           "--json: there is no folder /no/such/folder"},
          {["--route", "--seconds", "9", "--http", "0"],
           "--route and --cache make a run of their own, without --seconds, --http"},
          {["--cache", "--json", "report.json"],
           "--route and --cache make a run of their own, without --json"},
          {["--route", "--workers", "2"],
           "--route needs 3 --workers: one is slow, one fails, and one is well"},
          {["10"], "there is nothing to do with \"10\""}
        ] do
      assert DemoTask.parse(arguments) == {:error, reason}
    end

    for speed <- ["fast", "0", "-1", "0.0009", "1000001", "1e3", "1e400", "2.", ".5", "2x", ""] do
      assert DemoTask.parse(["--replay", "a", "--speed", speed]) ==
               {:error, "--speed is 0.001 to 1000000, or max, not #{speed}"}
    end
  end

  describe "a recording that cannot be read" do
    setup do
      folder = Path.join(System.tmp_dir!(), "demo-#{System.unique_integer([:positive])}")
      File.mkdir!(folder)
      System.put_env("DEMO_FOLDER", folder)
      shell = Mix.shell()
      Mix.shell(Mix.Shell.Process)

      on_exit(fn ->
        Mix.shell(shell)
        System.delete_env("DEMO_FOLDER")
        File.rm_rf!(folder)
      end)

      %{folder: folder}
    end

    test "ends the command with status 2 and a sentence", %{folder: folder} do
      File.write!(Path.join(folder, "code.txt"), "{0, [:a], %{}, %{}}\n{1, [:a], %{}, halt()}\n")

      for {file, problem} <- [
            {"gone.txt", "cannot read #{folder}/gone.txt: no such file or directory"},
            {".", "#{folder} must be a regular file, and is a directory"},
            {"code.txt", "#{folder}/code.txt:2: halt() is code, and only literals are read"}
          ] do
        assert catch_exit(DemoTask.run(["--replay", file, "--speed", "max"])) == {:shutdown, 2}
        message = "--replay: " <> problem
        assert_received {:mix_shell, :error, [^message]}
      end
    end
  end
end
