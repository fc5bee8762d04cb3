defmodule Bridge.ReplayTest do
  use ExUnit.Case

  import ExUnit.CaptureIO

  alias Bridge.{Recording, Replay, Servers}

  @snakepit Path.expand("../../../../test/fixtures/recorded_events/snakepit.exs.txt", __DIR__)

  # A clock of the test's own: it stands still but for waits, which it remembers.
  defp clock(wait \\ fn _us -> :ok end) do
    Process.put(:now, 1_000_000)
    Process.put(:waits, [])

    %{
      now: fn -> Process.get(:now) end,
      wait: fn us ->
        Process.put(:now, Process.get(:now) + us)
        Process.put(:waits, [us | Process.get(:waits)])
        wait.(us)
      end
    }
  end

  # Microseconds since the start and measurements of each event, in the order in which they came.
  defp emitted(events, speed, clock \\ clock(), show \\ fn _events, _us -> :ok end) do
    handler = {__MODULE__, make_ref()}
    names = for {_, name, _, _} <- events, uniq: true, do: name
    Process.put(:emitted, [])
    :ok = :telemetry.attach_many(handler, names, &__MODULE__.handle/4, nil)
    played = Replay.play(events, speed, clock, show)
    :telemetry.detach(handler)
    {played, Enum.reverse(Process.get(:emitted))}
  end

  @doc false
  def handle(_event, measurements, metadata, _config) do
    Process.put(:emitted, [{Process.get(:now) - 1_000_000, measurements} | Process.get(:emitted)])
    Process.put(:now, Process.get(:now) + Map.get(metadata, :takes, 0))
  end

  defp event(time, n, metadata \\ %{}), do: {time, [:replay_test], %{n: n}, metadata}

  test "events come in their order and at their distances in time" do
    events = [event(0, 1), event(0, 2), event(1_500, 3), event(700_000, 4)]

    assert {%{emitted: 4, signal: nil}, emitted} = emitted(events, 1)
    assert emitted == [{0, %{n: 1}}, {0, %{n: 2}}, {1_500, %{n: 3}}, {700_000, %{n: 4}}]
  end

  test "the first event does not wait for the time before it" do
    assert {_played, [{0, _}, {250, _}]} = emitted([event(9_000_000, 1), event(9_000_250, 2)], 1)
  end

  test "at another speed the distances are divided by it" do
    events = [event(0, 1), event(1_000, 2), event(3_000_000, 3)]

    assert {_, [{0, _}, {400, _}, {1_200_000, _}]} = emitted(events, 2.5)
    assert {_, [{0, _}, {2_000, _}, {6_000_000, _}]} = emitted(events, 0.5)
  end

  test "at most speed nothing waits" do
    events = [event(0, 1), event(1_000, 2), event(3_000_000, 3)]

    assert {_, [{0, %{n: 1}}, {0, %{n: 2}}, {0, %{n: 3}}]} = emitted(events, :max)
    assert Enum.all?(Process.get(:waits), &(&1 == 0))
  end

  test "an event that is late comes at once, and those after it when they are due" do
    events = [event(0, 1, %{takes: 500}), event(100, 2), event(50, 3), event(900, 4)]

    assert {_, [{0, %{n: 1}}, {500, %{n: 2}}, {500, %{n: 3}}, {900, %{n: 4}}]} =
             emitted(events, 1)
  end

  test "measurements and metadata come as they were recorded" do
    test = self()
    metadata = %{:pool => Snakepit.Pool, "python_module" => "math", pid: :"#pid"}
    measurements = %{duration: 12, system_time: 1_796_096_220_005_814_517}

    :telemetry.attach(
      {__MODULE__, :as_recorded},
      [:replay_test],
      fn event, measurements, metadata, nil -> send(test, {event, measurements, metadata}) end,
      nil
    )

    Replay.play([{0, [:replay_test], measurements, metadata}], 1, clock())
    :telemetry.detach({__MODULE__, :as_recorded})
    assert_received {[:replay_test], ^measurements, ^metadata}
  end

  test "a long wait is interrupted for the progress" do
    test = self()
    events = [event(0, 1), event(1_000_000, 2)]
    emitted(events, 1, clock(), fn events, us -> send(test, {:shown, events, us}) end)

    assert Enum.max(Process.get(:waits)) == 200_000

    for us <- [200_000, 400_000, 600_000, 800_000], do: assert_received({:shown, 1, ^us})

    refute_received {:shown, _, _}
  end

  test "a signal ends it, also in the middle of a wait and without any" do
    events = [event(0, 1), event(1_000_000, 2)]
    at_the_second = fn us -> if us > 0, do: {:signal, :sigterm}, else: :ok end
    assert {%{emitted: 1, signal: :sigterm}, [_]} = emitted(events, 1, clock(at_the_second))

    assert {%{emitted: 0, signal: :sigterm}, []} =
             emitted(events, :max, clock(fn 0 -> {:signal, :sigterm} end))
  end

  test "events that the library handles are counted, and those that it emits itself are left out" do
    events = [
      event(0, 1),
      {1, [:snakepit, :heartbeat, :ping_sent], %{pings: 1}, %{}},
      {2, [:dspex, :alerts, :error_spike], %{error_count: 5}, %{}},
      {3, [:dspex, :performance, :summary], %{count: 5}, %{}}
    ]

    assert {%{emitted: 2, handled: 1, left_out: 2}, [_, _]} = emitted(events, 1)
  end

  describe "a run" do
    setup do
      Servers.restart_telemetry(duration_unit: :nanosecond)
      {:ok, recording} = Recording.check(@snakepit)
      %{recording: recording}
    end

    test "reports what is in the recording", %{recording: recording} do
      test = self()
      json = Path.join(System.tmp_dir!(), "replay-#{System.unique_integer([:positive])}.json")
      on_exit(fn -> File.rm(json) end)
      hold = fn -> send(test, {:held, File.exists?(json)}) end

      {output, _log} =
        ExUnit.CaptureLog.with_log(fn ->
          capture_io(fn ->
            assert Replay.run(recording, speed: :max, json: json, hold: hold) == :ok
          end)
        end)

      assert_received {:held, true}
      assert output =~ "1718 events of snakepit.exs.txt, recorded in 68.7 s, without waiting\n"
      assert output =~ ~r/^  nap +snakepit +\d+ /m
      assert output =~ ~r/^Errors\n  calls +\d+ failed: /m
      assert output =~ ~r/^  spike +snakepit.boom failed \d+ times: /m
      assert output =~ ~r/^Most used\n.*\n  methods  snakepit.nap \d+, /m
      assert output =~ ~r/^Events\n  emitted +1718 of 1718; the library handles \d+ of them$/m

      # What the text of the file says of one command.
      stops =
        for line <- File.stream!(@snakepit),
            line =~
              ~r/^\{\d+, \[:snakepit, :grpc_worker, :execute(_session)?, :stop\], .* command: "nap",/,
            do: line

      durations = for line <- stops, do: line |> nanoseconds() |> String.to_integer()
      report = DSPexTelemetry.report()
      row = Enum.find(report.operations, &(&1.method == "nap"))
      assert row.count == length(stops)
      assert row.errors == Enum.count(stops, &(&1 =~ "status: :error"))
      assert row.max_us == Enum.max(durations) / 1_000
      assert_in_delta row.mean_us, Enum.sum(durations) / length(durations) / 1_000, 0.001

      {:ok, %{"operations" => operations}} = json |> File.read!() |> Bridge.JSON.decode()
      assert Enum.any?(operations, &(&1["method"] == "nap" and &1["count"] == row.count))
    end

    test "by the command takes durations as nanoseconds" do
      Application.delete_env(:dspex_telemetry, :duration_unit)

      {output, _log} =
        ExUnit.CaptureLog.with_log(fn ->
          capture_io(fn ->
            Mix.Task.run("bridge.demo", ["--replay", @snakepit, "--speed", "max"])
          end)
        end)

      assert output =~ "  emitted  1718 of 1718;"
      assert Application.get_env(:dspex_telemetry, :duration_unit) == :nanosecond
    end

    test "that a signal ends prints its report, and holds no more", %{recording: recording} do
      send(self(), {:signal, :sigterm})
      hold = fn -> flunk("it went on") end

      output =
        capture_io(fn ->
          assert Replay.run(recording, hold: hold) == {:interrupted, :sigterm}
        end)

      assert output =~ ", at the pace at which they came\n"
      assert output =~ "Method calls\n  none"
      assert output =~ "  calls    none failed"
      assert output =~ "  emitted  0 of 1718"
    end

    test "that cannot write its JSON says so", %{recording: recording} do
      send(self(), {:signal, :sigterm})

      output =
        capture_io(fn ->
          assert Replay.run(recording, json: "/no/such/folder/report.json", speed: 2.5) ==
                   {:error,
                    ["cannot write /no/such/folder/report.json: no such file or directory"]}
        end)

      assert output =~ ", at 2.5 times the pace at which they came\n"
    end
  end

  defp nanoseconds(line) do
    [_, duration] = Regex.run(~r/%\{duration: (\d+),/, line)
    duration
  end
end
