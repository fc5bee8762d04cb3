defmodule DSPexTelemetry.ErrorAnalyzer do
  @moduledoc """
  Errors of method calls: how many, of what kind, and whether they come in spikes.

      DSPexTelemetry.ErrorAnalyzer.report(window: {5, :minutes})

  An error is a call that ended in an exception or, unless option `:count_unsuccessful` is `false`,
  one that returned with `success: false`.

  A *spike* is five errors of one method and class within ten seconds, if at least half of the calls fail
  that complete from the first of the five to the last (options `:error_spike_threshold`,
  `:error_spike_window` and `:error_spike_percent`). The ten seconds end with the fifth error; they are not
  those of some grid. A method that begins to fail always has a spike with its fifth error, however well it
  worked before. A method with 100 calls a second of which 1 % fail has none. Where calls have no series of their
  own, the number of errors alone decides.

  A spike is over when fewer than half as many errors are within ten seconds, or when fewer than a quarter
  of the calls, half of the percentage, failed throughout ten seconds. Beginning and end are alerts, see
  `DSPexTelemetry.Alert`. Further spikes of the method within five minutes (option `:error_spike_repeat`)
  are *repeats*: they are counted and shown here, but are no alerts.

  At most `:series_limit` methods are watched for spikes. The errors of others are counted in
  `DSPexTelemetry.info/1` as `:spikes_untracked`.
  """

  alias DSPexTelemetry.{Native, Window}
  alias DSPexTelemetry.Instance.{Clock, Lookup}

  @typedoc "How many errors of a kind and reason there were."
  @type cause :: %{kind: String.t(), reason: String.t(), count: pos_integer()}

  @type report :: %{
          interval: Window.interval(),
          errors: non_neg_integer(),
          by_kind: %{String.t() => pos_integer()},
          by_reason: %{String.t() => pos_integer()},
          by_method: [
            %{
              method: String.t(),
              python_class: String.t(),
              errors: pos_integer(),
              reasons: [cause()]
            }
          ],
          last_failures: [DSPexTelemetry.Report.call()],
          spikes: [
            %{
              method: String.t(),
              python_class: String.t(),
              error_count: non_neg_integer(),
              total: pos_integer(),
              first_unix_ms: integer(),
              last_unix_ms: integer(),
              causes: [cause()],
              repeats: non_neg_integer()
            }
          ],
          recent_spikes: [
            %{
              method: String.t(),
              python_class: String.t(),
              total: pos_integer(),
              duration_ms: non_neg_integer(),
              first_unix_ms: integer(),
              last_unix_ms: integer(),
              causes: [cause()],
              repeats: non_neg_integer()
            }
          ],
          anomalies: [map()]
        }

  @doc """
  Errors in a window, and spikes.

    * `:interval` - the time that the numbers cover
    * `:errors` - how many calls failed, `:by_kind` (`error`, `exit`, `throw`, `other`, and
      `unsuccessful` for calls that reported no success) and `:by_reason` (see
      `DSPexTelemetry.Reason`; `unknown` where an exception event had none)
    * `:by_method` - why each method fails: `errors` and `reasons`, the most frequent first
    * `:last_failures` - the last calls that failed (option `last_failures`), the newest first: when, method, class,
      duration, kind, reason, message, worker, session, trace and correlation id; see `t:DSPexTelemetry.Report.call/0`
    * `:spikes` - those going on now: `error_count` is how many errors are in the spike's window,
      `total` all since its first, `repeats` how many spikes of the method before it were held back since
      the last alert
    * `:recent_spikes` - the last hundred that are over, the latest first. A spike and its `repeats` are
      one entry: `total` and `causes` are those of all, and `duration_ms` goes from the first error to the
      end of the last spike
    * `:anomalies` - methods whose latency is unusual now, as in `DSPexTelemetry.Alert`

  Options:

    * `:window` - see `DSPexTelemetry.Window`; `:since_start` by default
    * `:instance` - the instance's name

        iex> {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.Analyzed)
        iex> for _ <- 1..5, do: DSPexTelemetry.Emit.call_method(%{method: "parse", python_class: "Doc"}, fn -> :error end)
        iex> report = DSPexTelemetry.ErrorAnalyzer.report(instance: MyApp.Analyzed)
        iex> spike = Enum.find(report.spikes, &(&1.method == "parse"))
        iex> {spike.error_count, hd(spike.causes)}
        {5, %{kind: "unsuccessful", reason: "unsuccessful", count: 5}}
  """
  @spec report(keyword()) :: report()
  def report(options \\ []) do
    {window, options} = Keyword.pop(options, :window, :since_start)
    window = Window.native!(window)
    native = options |> DSPexTelemetry.instance!() |> Lookup.native!()
    Native.errors(native, window, Clock.now())
  end
end
