defmodule DSPexTelemetry.TopTest do
  # Whether there is a terminal is a setting of the VM.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TopSamples
  import ExUnit.CaptureIO

  alias DSPexTelemetry.{FakeTerminal, StrictJSON, Top}
  alias DSPexTelemetry.Top.Screen

  doctest Top

  @patience_ms 10_000
  @enter "\e[?1049h\e[?25l\e[2J"
  @leave "\e[?25h\e[?1049l"
  @session Path.expand("../support/pty_session.py", __DIR__)

  describe "without a terminal" do
    test "the screen is printed once, whole and without control sequences" do
      operations = for n <- 1..100, do: operation("method#{n}", "C", %{errors: 1})
      data = %{empty() | operations: operations}
      fetch = counted(fn -> data end)
      printed = capture_io(fn -> assert Top.run(fetch) == :ok end)
      assert_received :fetched
      refute_received :fetched
      assert printed == IO.iodata_to_binary([Screen.render(data, {120, :infinity}), "\n"])
      assert printed =~ " method100 (C)"
      refute printed =~ "\e"
    end

    test "what the fetching function raises is raised on" do
      capture_io(fn ->
        assert_raise RuntimeError, "no data", fn -> Top.run(fn -> raise "no data" end) end
      end)
    end
  end

  test "options that are not allowed are refused before anything is fetched" do
    for {options, message} <- [
          {[interval: 99], "option :interval must be an integer from 100 to 60000, got: 99"},
          {[interval: 60_001],
           "option :interval must be an integer from 100 to 60000, got: 60001"},
          {[interval: 1.0e3],
           "option :interval must be an integer from 100 to 60000, got: 1000.0"},
          {[interval: nil], "option :interval must be an integer from 100 to 60000, got: nil"},
          {[colour: true], "unknown option :colour, allowed is :interval"},
          {%{interval: 100}, "options must be a keyword list, got: %{interval: 100}"}
        ] do
      fetch = fn -> flunk("was fetched") end
      assert_raise ArgumentError, message, fn -> Top.run(fetch, options) end
    end

    for interval <- [100, 60_000] do
      assert capture_io(fn -> Top.run(&empty/0, interval: interval) end) =~ "no calls"
    end
  end

  describe "on a terminal" do
    setup do
      ansi = Application.fetch_env(:elixir, :ansi_enabled)
      Application.put_env(:elixir, :ansi_enabled, true)

      on_exit(fn ->
        case ansi do
          {:ok, value} -> Application.put_env(:elixir, :ansi_enabled, value)
          :error -> Application.delete_env(:elixir, :ansi_enabled)
        end
      end)

      %{terminal: FakeTerminal.start()}
    end

    test "the screen is taken, drawn over and over, and given back at a key", %{
      terminal: terminal
    } do
      {_pid, monitor} = run(terminal, counting())
      assert_written(@enter)
      first = assert_drawn("Refresh1")
      second = assert_drawn("Refresh2")
      assert String.replace(second, "Refresh2", "Refresh1") == first

      # In place: from the top, every line cleared behind its end, and the last row not left.
      assert "\e[H" <> drawn = first
      assert length(String.split(drawn, "\e[K\r\n")) == 24
      assert String.ends_with?(drawn, "\r\nany key ends\e[K\e[J")
      refute drawn =~ "\e[2J"

      FakeTerminal.press(terminal, ~c"x")
      assert_ended(monitor, :normal)
      assert last_written() == @leave
      assert_untouched(terminal)
    end

    test "Enter, arrows and several keys leave nothing to be read", %{terminal: terminal} do
      for keys <- [~c"\r", ~c"\e[A", ~c"qwerty", ~c"é", [4], [21]] do
        {_pid, monitor} = run(terminal, counting())
        assert_drawn("Refresh1")
        FakeTerminal.press(terminal, keys)
        assert_ended(monitor, :normal)
        assert last_written() == @leave
        assert_untouched(terminal)
      end
    end

    test "where the keys are somebody else's to trace, Enter ends it", %{terminal: terminal} do
      tracer = spawn_link(fn -> Process.sleep(:infinity) end)
      assert :erlang.trace(terminal, true, [:receive, {:tracer, tracer}]) == 1
      {_pid, monitor} = run(terminal, counting())
      assert assert_drawn("Refresh1") =~ "\r\nEnter ends\e[K"
      FakeTerminal.press(terminal, ~c"x")
      for n <- 2..4, do: assert_drawn("Refresh#{n}")
      FakeTerminal.press(terminal, ~c"\r")
      assert_ended(monitor, :normal)
      assert last_written() == @leave
      assert FakeTerminal.unread(terminal) == []
      assert :erlang.trace_info(terminal, :tracer) == {:tracer, tracer}
    end

    test "a fetching function that raises gives the screen back", %{terminal: terminal} do
      {_pid, monitor} = run(terminal, failing(fn -> raise "no data" end))
      assert_drawn("Refresh1")
      assert_ended(monitor, {:raised, %RuntimeError{message: "no data"}})
      assert last_written() == @leave
      assert_untouched(terminal)
    end

    test "a process that is killed gives the screen back", %{terminal: terminal} do
      {pid, monitor} = run(terminal, counting())
      assert_drawn("Refresh1")
      Process.exit(pid, :kill)
      assert_ended(monitor, :killed)
      assert_written(@leave)
      assert_untouched(terminal)
    end

    test "a terminal without ANSI is printed to once", %{terminal: terminal} do
      Application.put_env(:elixir, :ansi_enabled, false)
      {_pid, monitor} = run(terminal, counting())
      assert_ended(monitor, :normal)
      assert assert_drawn("Refresh1") =~ "no worker pool"
      refute_received {:written, _more}
    end
  end

  describe "in iex, in a pseudo-terminal," do
    for {name, keys} <- [{"q", "q"}, {"Enter", "\r"}, {"an arrow", "\e[A"}] do
      test "#{name} ends it, and the prompt is as if it had not been" do
        %{"top" => top, "done" => done} =
          session([
            "await:iex(1)>",
            "send:alias DSPexTelemetry.{Top, TopSamples}; self = Process.group_leader()\r",
            "await:iex(2)>",
            "send:there = Process.list(); nil\r",
            "await:iex(3)>",
            "send:Top.run(TopSamples.counting(), interval: 1_000)\r",
            "await:Refresh1)",
            "await:Refresh2)",
            "screen:top",
            "send:#{unquote(keys)}",
            "await:iex(4)>",
            # The last line of the history is the one from before.
            "send:\e[A",
            "await:iex(4)> Top.run(",
            "send:\x15{:erlang.trace_info(self, :flags), Process.list() -- there}\r",
            "await:iex(5)>",
            "send:1+1\r",
            "await:iex(6)>",
            "screen:done"
          ])

        assert %{"alternate" => true, "cursor" => false, "lines" => lines} = top
        assert [" search (Refresh" <> _] = Enum.filter(lines, &(&1 =~ "Refresh"))
        assert {length(lines), List.last(lines)} == {24, "any key ends"}

        assert %{"alternate" => false, "cursor" => true, "lines" => lines} = done

        assert Enum.drop_while(lines, &(not String.starts_with?(&1, "iex(3)>"))) == [
                 "iex(3)> Top.run(TopSamples.counting(), interval: 1_000)",
                 "iex(4)> {:erlang.trace_info(self, :flags), Process.list() -- there}",
                 "{{:flags, []}, []}",
                 "iex(5)> 1+1",
                 "2",
                 "iex(6)>"
               ]
      end
    end

    test "the screen is given back even if the shell is killed" do
      %{"killed" => killed} =
        session([
          "await:iex(1)>",
          "send:alias DSPexTelemetry.{Top, TopSamples}\r",
          "await:iex(2)>",
          "send:Top.run(TopSamples.counting(), interval: 1_000)\r",
          "await:Refresh2)",
          "send:\x07",
          "await: -->",
          "send:k\r",
          "await: --> k",
          # A new shell in its place, since nothing is written meanwhile.
          "send:s\r",
          "await: --> s",
          "send:c\r",
          "await:iex(2)> Top.run(",
          "screen:killed"
        ])

      assert %{"alternate" => false, "cursor" => true} = killed
    end
  end

  # Runs it in a process of its own, as its group leader belongs to it. That process may die.
  defp run(terminal, fetch) do
    spawn_monitor(fn ->
      Process.group_leader(self(), terminal)

      try do
        Top.run(fetch, interval: 100)
      rescue
        error -> exit({:raised, error})
      end
    end)
  end

  # From its second call on.
  defp failing(fail) do
    fetch = counting()
    called = :counters.new(1, [])

    fn ->
      :counters.add(called, 1, 1)
      if :counters.get(called, 1) > 1, do: fail.(), else: fetch.()
    end
  end

  defp counted(fetch) do
    test = self()

    fn ->
      send(test, :fetched)
      fetch.()
    end
  end

  defp assert_written(text), do: assert_receive({:written, ^text}, @patience_ms)

  defp assert_drawn(text) do
    assert_receive {:written, written}, @patience_ms
    if written =~ text, do: written, else: assert_drawn(text)
  end

  defp assert_ended(monitor, reason),
    do: assert_receive({:DOWN, ^monitor, :process, _pid, ^reason}, @patience_ms)

  defp last_written(last \\ nil) do
    receive do
      {:written, text} -> last_written(text)
    after
      0 -> last
    end
  end

  # No keeper is left that reads, or traces what is received.
  defp assert_untouched(terminal) do
    assert FakeTerminal.unread(terminal) == []
    FakeTerminal.press(terminal, ~c"next")
    FakeTerminal.press(terminal, ~c"\r")
    assert FakeTerminal.unread(terminal) == ~c"next\r"
    assert :erlang.trace_info(terminal, :flags) == {:flags, []}
  end

  defp session(steps) do
    ebin = Application.app_dir(:dspex_telemetry, "ebin")
    command = ["iex", "--dot-iex", "", "-pa", ebin]
    {output, 0} = System.cmd("python3", [@session | steps] ++ ["--" | command])
    %{"failed" => failed, "screens" => screens} = seen = StrictJSON.decode!(output)
    assert {failed, seen["screen"]} == {nil, nil}
    screens
  end
end
