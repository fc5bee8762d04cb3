defmodule Bridge.Servers.ScrapedDemo do
  @moduledoc """
  A run of the demo that three Prometheus servers scrape in three formats.

  The demo holds at its end, with its workers alive, until the tests of the module are over, so that
  what the servers have is what the report says.
  """

  import ExUnit.{Assertions, CaptureIO}
  import ExUnit.Callbacks, only: [on_exit: 1, start_supervised!: 1]
  import Telemetry.Metrics, only: [counter: 2, sum: 2]

  alias Bridge.{Demo, Pool, Servers, Tally, Workload}
  alias Bridge.Servers.{FastRules, Listener, Program, Prometheus, Samples, ScrapeProxy, Watch}
  alias DSPexTelemetry.{AdaptiveCache, PerformanceRouter, Report}

  @type format :: :text | :openmetrics | :protobuf

  # Prometheus prefers OpenMetrics to the text format.
  @formats %{
    text: {[accept: "text/plain;version=0.0.4"], []},
    openmetrics: {[], [features: ["exemplar-storage"]]},
    protobuf: {[], [features: ["native-histograms"]]}
  }

  @workers 3
  @callers 6
  @operations 150
  @cached_class "Differ"
  @cached_method "similarity"

  @doc """
  Runs it under the supervisor of the tests.

  The Prometheus of `:openmetrics` has the shipped rules, made fast, and exemplars; that of
  `:protobuf` has native histograms.
  """
  @spec start() :: %{
          prometheus: %{format() => Program.t()},
          proxies: %{format() => ScrapeProxy.t()},
          watched: Watch.seen(),
          report: Report.t()
        }
  def start do
    importer = start_importer()

    target =
      Servers.restart_telemetry(
        push: [url: importer, interval: 1_000],
        otlp: [url: importer, interval: 1_000],
        metrics: definitions(),
        cache: [cacheable: [{@cached_class, @cached_method}], min_calls: 0, min_hit_rate: 0]
      )

    send_malformed_event()
    start_supervised!(Samples)
    rules = [rules: FastRules.write()]

    {proxies, prometheus} =
      for {format, {proxy_options, options}} <- @formats, reduce: {%{}, %{}} do
        {proxies, prometheus} ->
          proxy = ScrapeProxy.start(proxy_options)
          options = if format == :openmetrics, do: rules ++ options, else: options
          server = Prometheus.start([name: "#{format}", target: target, proxy: proxy] ++ options)
          {Map.put(proxies, format, proxy), Map.put(prometheus, format, server)}
      end

    await_scrapes(prometheus)
    watch = Watch.start()
    run_demo(prometheus)
    watched = Watch.stop(watch)
    await_scrapes(prometheus)

    %{
      prometheus: prometheus,
      proxies: proxies,
      watched: watched,
      report: DSPexTelemetry.report()
    }
  end

  @doc "How many workers live at the end."
  @spec workers() :: pos_integer()
  def workers, do: @workers

  @doc "How many calls went through the cache."
  @spec operations() :: pos_integer()
  def operations, do: @operations

  # The tag is missing in what the demo emits, so that an event is not recorded. The malformed event makes a negative sum,
  # so that OpenMetrics lacks a sample.
  defp definitions do
    [
      counter("demo.sessions.count", event_name: [:dspex, :session, :created], tags: [:missing]),
      sum("demo.wait.total",
        event_name: [:snakepit, :pool, :queue_time],
        measurement: :wait_time_us,
        tags: [:command]
      )
    ]
  end

  # So that there are pushes and exports to be shown. It is there until the library does not push any more.
  defp start_importer do
    {:ok, importer} =
      GenServer.start(Listener, fn _push -> %{status: 204, headers: %{}, body: ""} end)

    on_exit(fn -> GenServer.stop(importer) end)
    Listener.url(importer)
  end

  # So that there is something rejected to be shown.
  defp send_malformed_event do
    :telemetry.execute([:snakepit, :pool, :queue_time], %{wait_time_us: -1}, %{command: "none"})
  end

  # Returns when the calls are over and the workers still live.
  defp run_demo(prometheus) do
    test = self()

    hold = fn ->
      # What came once only comes again after a scrape, or its rate would not be known.
      await_scrapes(prometheus)
      call_often()
      route_and_cache()
      send(test, :holding)

      receive do
        :over -> :ok
      end
    end

    {demo, monitor} =
      spawn_monitor(fn ->
        options = [workers: @workers, seconds: 1, hold: hold]
        capture_io(fn -> assert miscounted(Demo.run(options)) == [] end)
      end)

    # It puts back what it has changed of the VM, and says whether all it has counted was reported.
    on_exit(fn ->
      monitor = Process.monitor(demo)
      send(demo, :over)
      assert_receive {:DOWN, ^monitor, :process, _, reason}, 30_000
      assert reason == :normal
    end)

    receive do
      :holding ->
        Process.demonitor(monitor, [:flush])

      {:DOWN, ^monitor, :process, _, reason} ->
        flunk("the demo did not get to its end: #{inspect(reason)}")
    end
  end

  # On a busy machine the demo notices more than was staged, and says so; that is not our concern.
  defp miscounted(:ok), do: []
  defp miscounted({:error, sentences}), do: Enum.filter(sentences, &(&1 =~ "the demo counted"))

  # The same work on every machine, so that there are quantiles to compare.
  defp call_often do
    texts = Workload.texts()

    1..@callers
    |> Enum.map(fn n ->
      left = :counters.new(1, [])
      :counters.put(left, 1, @operations)

      continue? = fn _stage ->
        :counters.sub(left, 1, 1)
        :counters.get(left, 1) >= 0
      end

      Task.async(Workload, :run, [texts, {2, n, 0}, [tour: n == 1], continue?])
    end)
    |> Task.await_many(:infinity)

    :ok = Demo.settle()
  end

  # Through the router and the cache, which the demo as such does not use.
  defp route_and_cache do
    places =
      for worker <- Pool.workers(), into: %{} do
        created = Bridge.create_instance(@cached_class, %{}, worker: worker)
        {:ok, ref} = Tally.count({:instance, @cached_class}, created)
        {worker, ref}
      end

    for n <- 1..@operations do
      pair = ["queue", Enum.at(["heapq", "shlex", "textwrap"], rem(n, 3))]

      {:ok, _similarity} =
        AdaptiveCache.fetch(@cached_method, pair, [python_class: @cached_class], fn ->
          PerformanceRouter.run(@cached_method, pair, &similarity(places[&1], pair))
        end)

      {:ok, _worker} = PerformanceRouter.route_request(@cached_method, pair)
    end
  end

  defp similarity(ref, pair) do
    Tally.count(
      {:operation, {@cached_method, @cached_class}},
      Bridge.call_method(ref, @cached_method, pair)
    )
  end

  defp await_scrapes(prometheus) do
    for {_format, server} <- prometheus, do: Prometheus.await_scrape(server)
    :ok
  end
end
