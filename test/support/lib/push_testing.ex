defmodule DSPexTelemetry.PushTesting do
  @moduledoc "Instances that push, and looks into what they do."

  alias DSPexTelemetry.{Push, TestInstance}

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
end
