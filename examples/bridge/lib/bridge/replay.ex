defmodule Bridge.Replay do
  @moduledoc """
  Emits the events of a recording again, at the distances in time at which they were recorded or at
  another speed, and prints what telemetry reports of them.

  Measurements and metadata stay as they were recorded. So durations are those of the recording at
  any speed, while rates and windows are those of the replay. All events come from one process.
  """

  alias Bridge.{Alerts, Demo, Progress, Recording, Signals, Usage}
  alias DSPexTelemetry.{Alert, ErrorAnalyzer}

  @typedoc "How many times faster than recorded, or without any waiting."
  @type speed :: number() | :max

  @typedoc "The time in microseconds, and a wait of at most so many, which a signal ends."
  @type clock :: %{
          now: (() -> integer()),
          wait: (non_neg_integer() -> :ok | {:signal, atom()})
        }

  @typedoc "Events emitted, those of them that the library handles, those left out, and the signal that ended it, or nil."
  @type played :: %{
          emitted: non_neg_integer(),
          handled: non_neg_integer(),
          left_out: non_neg_integer(),
          signal: atom()
        }

  @type option :: {:speed, speed()} | {:json, Path.t() | nil} | {:hold, (() -> term())}

  @refresh_us 200_000
  @most_shown 5

  @doc """
  Replays a recording that `Bridge.Recording.check/1` has read, and prints the report.

  `:speed` is 1 unless given. `:json` also writes the report to that file. `:hold` is called at the
  end, unless a signal came.

  A signal ends the replay early. The report has what was emitted until then, and the result is
  `{:interrupted, :sigterm}`.
  """
  @spec run(Recording.t(), [option()]) :: :ok | {:interrupted, atom()} | {:error, [String.t()]}
  def run(recording, options \\ []) do
    speed = Keyword.get(options, :speed, 1)
    Signals.trap(self())
    IO.puts(headline(recording, speed))

    played =
      play(Recording.stream!(recording.path), speed, clock(), &draw(recording, speed, &1, &2))

    Progress.clear()

    [
      to_string(DSPexTelemetry.report([])),
      errors_section(ErrorAnalyzer.report()),
      Usage.section(Usage.report()),
      events_section(recording, played, DSPexTelemetry.info().rejected)
    ]
    |> Enum.intersperse("\n\n")
    |> IO.puts()

    unsaved = Demo.save_json(options[:json])
    hold = Keyword.get(options, :hold, fn -> :ok end)
    # Whoever wants it to end does not want it to go on.
    unless played.signal, do: hold.()
    Signals.restore()

    case {unsaved, played.signal} do
      {[], nil} -> :ok
      {[], signal} -> {:interrupted, signal}
      {sentences, _signal} -> {:error, sentences}
    end
  end

  @doc """
  Emits the events, each when it is due by the clock.

  An event that is late is emitted at once, and those after it when they were due anyway. What the
  library itself emits, its alerts and summaries, is left out: it emits its own.

  `show` is called five times a second, with the number of events so far and the microseconds since
  the start.
  """
  @spec play(Enumerable.t(), speed(), clock(), (non_neg_integer(), integer() -> term())) ::
          played()
  def play(events, speed, clock, show \\ fn _events, _us -> :ok end) do
    started = clock.now.()

    state = %{
      clock: clock,
      show: show,
      speed: speed,
      started: started,
      shown: started,
      first: nil,
      handled_names: MapSet.new(DSPexTelemetry.events()),
      own_names: MapSet.new(Alerts.events()),
      played: %{emitted: 0, handled: 0, left_out: 0, signal: nil}
    }

    Enum.reduce_while(events, state, &step/2).played
  end

  defp step({time, _, _, _} = event, %{first: nil} = state),
    do: step(event, %{state | first: time})

  defp step({time, event, measurements, metadata}, state) do
    case wait(state, state.started + offset(time - state.first, state.speed)) do
      {:ok, state} -> {:cont, emit(state, event, measurements, metadata)}
      {{:signal, signal}, state} -> {:halt, put_in(state.played.signal, signal)}
    end
  end

  # Waits in steps, so that the progress is shown meanwhile; also for nothing, so that a signal is seen.
  defp wait(state, due) do
    now = state.clock.now.()
    state = show(state, now)
    left = max(0, due - now)

    case state.clock.wait.(min(left, @refresh_us)) do
      :ok when left > @refresh_us -> wait(state, due)
      :ok -> {:ok, state}
      {:signal, signal} -> {{:signal, signal}, state}
    end
  end

  defp show(%{shown: shown} = state, now) when now - shown < @refresh_us, do: state

  defp show(%{played: played} = state, now) do
    state.show.(played.emitted + played.left_out, now - state.started)
    %{state | shown: now}
  end

  defp emit(state, event, measurements, metadata) do
    if event in state.own_names do
      update_in(state.played.left_out, &(&1 + 1))
    else
      :telemetry.execute(event, measurements, metadata)
      state = update_in(state.played.emitted, &(&1 + 1))

      if event in state.handled_names,
        do: update_in(state.played.handled, &(&1 + 1)),
        else: state
    end
  end

  defp offset(_us, :max), do: 0
  defp offset(us, speed), do: round(us / speed)

  defp clock do
    %{
      now: fn -> System.monotonic_time(:microsecond) end,
      wait: fn us ->
        receive do
          {:signal, signal} -> {:signal, signal}
        after
          div(us + 999, 1_000) -> :ok
        end
      end
    }
  end

  defp draw(recording, speed, events, passed_us) do
    left_us = max(0, offset(recording.duration_us, speed) - passed_us)
    seconds_left = div(left_us + 999_999, 1_000_000)
    Progress.draw(%{events: events, of: recording.events, seconds_left: seconds_left})
  end

  # Text

  defp headline(recording, speed) do
    "#{recording.events} events of #{Path.basename(recording.path)}, recorded in " <>
      "#{seconds(recording.duration_us)} s, #{pace(speed)}"
  end

  defp pace(:max), do: "without waiting"
  defp pace(speed) when speed == 1, do: "at the pace at which they came"
  defp pace(speed), do: "at #{speed} times the pace at which they came"

  defp seconds(us), do: :erlang.float_to_binary(us / 1_000_000, decimals: 1)

  defp errors_section(report) do
    spikes =
      for spike <- report.spikes ++ report.recent_spikes do
        "spike    #{Alert.method(spike)} failed #{spike.total} times#{Alert.causes(spike.causes)}"
      end

    section("Errors", ["calls    #{failed(report)}" | first(spikes, "more spikes")])
  end

  defp failed(%{errors: 0}), do: "none failed"
  defp failed(report), do: "#{report.errors} failed: #{reasons(report.by_reason)}"

  defp reasons(by_reason) do
    by_reason
    |> Enum.sort_by(fn {reason, count} -> {-count, reason} end)
    |> Enum.map(fn {reason, count} -> "#{reason} #{count}" end)
    |> first("more")
    |> Enum.join(", ")
  end

  defp first(texts, more) do
    case Enum.split(texts, @most_shown) do
      {texts, []} -> texts
      {texts, rest} -> texts ++ ["#{length(rest)} #{more}"]
    end
  end

  defp events_section(recording, played, rejected) do
    emitted =
      "emitted  #{played.emitted} of #{recording.events}; the library handles #{played.handled} of them"

    left_out =
      if played.left_out > 0,
        do: ["left out #{played.left_out} that the library itself had emitted"],
        else: []

    rejected = for row <- rejected, do: "rejected #{row.count} of #{row.event}: #{row.reason}"

    section("Events", [emitted | left_out] ++ rejected)
  end

  defp section(title, lines), do: Enum.join([title | Enum.map(lines, &"  #{&1}")], "\n")
end
