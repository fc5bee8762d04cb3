defmodule DSPexTelemetry.PushTesting do
  @moduledoc "Instances that push, and looks into what they do."

  alias DSPexTelemetry.{LogWatch, Push, TestInstance}

  @doc "An interval that does not end during a test."
  def long, do: 86_400_000

  @doc """
  Starts an instance that pushes every 10 ms, retries after 1 ms, and pushes nothing when it stops, unless
  `options` of `:push` say otherwise. With `restart: :temporary` the test can stop it in any way.
  """
  def start!(url, options \\ []) do
    {restart, options} = Keyword.pop(options, :restart, :permanent)
    defaults = [url: url, interval: 10, retry_floor: 1, retry_ceiling: 1, stop_timeout: 0]
    TestInstance.start!([push: Keyword.merge(defaults, options)], restart)
  end

  @doc "The process that pushes for a running instance."
  def pusher(name) do
    [{_id, pid, _type, _modules}] =
      name |> TestInstance.child(Push) |> Supervisor.which_children()

    if is_pid(pid), do: pid
  end

  @doc "Begins an interval."
  def push_now(name), do: send(pusher(name), :tick)

  @doc "Waits until so many pushes have succeeded and failed."
  def await_counts(name, expected) do
    TestInstance.await("counts #{inspect(expected)}", fn -> Push.counts(name) == expected end)
  end

  @doc "Gives an instance, and no other, metrics whose text is longer than what sockets buffer."
  def record_much(name) do
    plans = TestInstance.plans(name)
    class = String.duplicate("c", 250)

    for n <- 1..1_500 do
      metadata = %{method: "method-#{n}", python_class: class, success: true}
      event = [:dspex, :bridge, :call_method, :stop]
      TestInstance.handle(plans, event, %{duration: 1}, metadata)
    end

    true = byte_size(DSPexTelemetry.scrape(instance: name)) > 8_000_000
  end

  @doc "The processes of httpc that have or want a connection."
  def connections do
    for {_id, pid, _type, _modules} <- Supervisor.which_children(:httpc_handler_sup),
        is_pid(pid),
        do: pid
  end

  @doc "The uncached, successful calls of each method in a text of metrics."
  def method_counts(text) do
    for [_all, labels, count] <-
          Regex.scan(~r/^dspex_bridge_call_method_total\{(.*)\} (\d+)$/m, text),
        labels =~ ~s(success="true") and labels =~ ~s(cached="false"),
        [_all, method] = Regex.run(~r/method="([^"]*)"/, labels),
        into: %{},
        do: {method, String.to_integer(count)}
  end

  @doc """
  Keeps for the test what is logged in the VM, of any level, reports of supervisors and crashes included,
  as Erlang's own formatter has it.
  """
  def watch_everything do
    LogWatch.watch(fn event ->
      formatted = :logger_formatter.format(event, %{depth: :unlimited, chars_limit: :unlimited})
      {:anything_logged, IO.chardata_to_string(formatted)}
    end)
  end

  @doc "What was logged since `watch_everything/0`, or since the last time."
  def everything_logged(lines \\ []) do
    receive do
      {:anything_logged, line} -> everything_logged([line | lines])
    after
      0 -> lines |> Enum.reverse() |> Enum.join()
    end
  end
end
