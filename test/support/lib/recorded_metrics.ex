defmodule DSPexTelemetry.RecordedMetrics do
  @moduledoc """
  Definitions as the documentation of Phoenix, Ecto, Oban, Broadway, Finch and telemetry_poller has
  them or suggests them, and events as these libraries emit them.

  `test/fixtures/telemetry_metrics.txt` is what telemetry_metrics_prometheus_core 1.2.1 with
  telemetry_metrics 1.1 exposes of the same definitions after the same events. It was recorded by
  `test/support/record_telemetry_metrics.exs`, which needs both.
  """

  import Telemetry.Metrics

  @milliseconds [buckets: [1, 5, 10, 50, 100, 500, 1_000]]
  @seconds [buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5]]

  @doc "All definitions, those that telemetry_metrics_prometheus_core takes."
  def definitions,
    do: phoenix() ++ ecto() ++ oban() ++ broadway() ++ finch() ++ vm() ++ application()

  @doc "What `mix phx.new` generates: summaries, which telemetry_metrics_prometheus_core leaves out."
  def summaries do
    [
      summary("phoenix.endpoint.start.system_time", unit: {:native, :millisecond}),
      summary("phoenix.endpoint.stop.duration", unit: {:native, :millisecond}),
      summary("phoenix.router_dispatch.start.system_time",
        tags: [:route],
        unit: {:native, :millisecond}
      ),
      summary("phoenix.router_dispatch.exception.duration",
        tags: [:route],
        unit: {:native, :millisecond}
      ),
      summary("phoenix.router_dispatch.stop.duration",
        tags: [:route],
        unit: {:native, :millisecond}
      ),
      summary("phoenix.socket_connected.duration", unit: {:native, :millisecond}),
      sum("phoenix.socket_drain.count"),
      summary("phoenix.channel_joined.duration", unit: {:native, :millisecond}),
      summary("phoenix.channel_handled_in.duration", tags: [:event], unit: {:native, :millisecond}),
      summary("my_app.repo.query.total_time",
        unit: {:native, :millisecond},
        description: "The sum of the other measurements"
      ),
      summary("my_app.repo.query.queue_time", unit: {:native, :millisecond}),
      summary("vm.memory.total", unit: {:byte, :kilobyte}),
      summary("vm.total_run_queue_lengths.total"),
      summary("vm.total_run_queue_lengths.cpu"),
      summary("vm.total_run_queue_lengths.io")
    ]
  end

  defp phoenix do
    [
      counter("phoenix.endpoint.stop.count", tags: [:method, :status], tag_values: &conn_tags/1),
      distribution("phoenix.endpoint.stop.duration.milliseconds",
        event_name: [:phoenix, :endpoint, :stop],
        measurement: :duration,
        unit: {:native, :millisecond},
        description: "Time of \"requests\"",
        reporter_options: @milliseconds
      ),
      distribution("http.request.duration.seconds",
        event_name: [:phoenix, :router_dispatch, :stop],
        measurement: :duration,
        unit: {:native, :second},
        tags: [:route, :plug_opts],
        reporter_options: @seconds
      ),
      counter("phoenix.router_dispatch.exception.count", tags: [:route, :kind]),
      sum("phoenix.socket_drain.count"),
      counter("phoenix.channel_handled_in.count", tags: [:event]),
      counter("phoenix.slow.requests.total",
        event_name: [:phoenix, :endpoint, :stop],
        keep: &match?(%{slow: true}, &1)
      ),
      counter("phoenix.endpoint.without.health",
        event_name: [:phoenix, :endpoint, :stop],
        drop: &match?(%{conn: %{request_path: "/health"}}, &1)
      )
    ]
  end

  defp conn_tags(%{conn: conn}),
    do: %{method: conn.method, status: conn.status, ignored: make_ref()}

  defp ecto do
    time = [
      event_name: "my_app.repo.query",
      unit: {:native, :millisecond},
      reporter_options: @milliseconds
    ]

    [
      counter("my_app.repo.query.count", tags: [:source, :command], tag_values: &query_tags/1),
      distribution("my_app.repo.query.total_time", time),
      distribution("my_app.repo.query.queue_time", time),
      distribution("my_app.repo.query.idle_time", [tags: [:source]] ++ time),
      sum("my_app.repo.query.rows",
        measurement: fn _measurements, %{result: {_ok, result}} -> result.num_rows end,
        tags: [:source]
      )
    ]
  end

  defp query_tags(%{source: source, result: {_ok, result}}),
    do: %{source: source, command: result.command}

  defp oban do
    stop = [
      event_name: [:oban, :job, :stop],
      tags: [:worker, :queue, :state],
      tag_values: &job_tags/1
    ]

    [
      counter("oban.job.stop.count", stop),
      distribution(
        "oban.job.duration.seconds",
        [measurement: :duration, unit: {:native, :second}, reporter_options: @seconds] ++ stop
      ),
      distribution(
        "oban.job.queue_time.milliseconds",
        [measurement: :queue_time, unit: {:native, :millisecond}, reporter_options: @milliseconds] ++
          stop
      ),
      counter("oban.job.exception.count",
        tags: [:worker, :queue, :state],
        tag_values: &job_tags/1
      ),
      last_value("oban.queue.length.count", tags: [:queue, :state])
    ]
  end

  defp job_tags(%{job: job, state: state}),
    do: %{worker: job.worker, queue: job.queue, state: state}

  defp broadway do
    [
      counter("broadway.processor.message.stop.count", tags: [:processor_key, :name]),
      distribution("broadway.processor.message.stop.duration",
        unit: {:native, :millisecond},
        tags: [:name, :processor_key],
        reporter_options: @milliseconds
      ),
      sum("broadway.batch_processor.stop.failed",
        measurement: fn _measurements, metadata -> length(metadata.failed_messages) end,
        tags: [:batcher],
        tag_values: fn metadata -> %{batcher: metadata.batch_info.batcher} end
      ),
      last_value("broadway.batch_processor.stop.size",
        measurement: fn _measurements, metadata -> metadata.batch_info.size end
      )
    ]
  end

  defp finch do
    [
      counter("finch.request.stop.count",
        tags: [:name, :status, :host],
        tag_values: &request_tags/1
      ),
      sum("finch.connections.open.count",
        event_name: [:finch, :connect, :change],
        measurement: :delta,
        reporter_options: [prometheus_type: :gauge]
      )
    ]
  end

  defp request_tags(%{result: {:ok, response}} = metadata),
    do: %{name: metadata.name, status: response.status, host: metadata.request.host}

  defp request_tags(metadata),
    do: %{name: metadata.name, status: nil, host: metadata.request.host}

  defp vm do
    memory =
      for key <- ~w(total processes processes_used system atom atom_used binary code ets)a,
          do: key

    Enum.map(memory, &last_value([:vm, :memory, &1], unit: :byte)) ++
      [
        last_value("vm.memory.megabytes", measurement: :total, unit: {:byte, :megabyte}),
        last_value("vm.total_run_queue_lengths.total"),
        last_value("vm.total_run_queue_lengths.cpu"),
        last_value("vm.total_run_queue_lengths.io"),
        last_value("vm.system_counts.process_count"),
        last_value("my_app.worker.message_queue_len",
          event_name: [:my_app, :worker],
          tags: [:name]
        )
      ]
  end

  # What other libraries have not: odd names, tags and numbers.
  defp application do
    [
      counter([:"_9my-app", :"odd.name!", :total], event_name: [:my_app, :odd], tags: [:tag]),
      distribution("my_app.temperature.celsius",
        event_name: [:my_app, :temperature],
        measurement: :value,
        tags: [:place],
        reporter_options: [buckets: [-10.5, 0, 12.25, 1.0e3, 1.0e-4 + 2_000]]
      ),
      sum("my_app.balance.cents", event_name: [:my_app, :balance], measurement: :cents),
      last_value("my_app.ratio", event_name: [:my_app, :measured], measurement: :ratio),
      counter("my_app.never.count")
    ]
  end

  @doc "The events, in order, durations in native units of this VM."
  def events do
    requests() ++ queries() ++ jobs() ++ messages() ++ connections() ++ memory() ++ odd()
  end

  defp ms(milliseconds),
    do: round(milliseconds * System.convert_time_unit(1, :millisecond, :native))

  defp requests do
    stop = [:phoenix, :endpoint, :stop]
    dispatch = [:phoenix, :router_dispatch, :stop]

    requests =
      for {path, status, time, slow} <- [
            {"/", 200, 0.7, false},
            {"/", 200, 5, false},
            {"/users", 404, 12.5, false},
            {"/users", 500, 2_000, true},
            {"/health", 200, 0.1, false},
            {"/", nil, 499.999, true}
          ],
          event <- [
            {stop, %{duration: ms(time), monotonic_time: 1},
             %{
               conn: %{method: "GET", status: status, request_path: path},
               slow: slow,
               options: []
             }},
            {dispatch, %{duration: ms(time)},
             %{route: path, plug: MyAppWeb.Controller, plug_opts: :index, conn: %{}}}
          ],
          do: event

    requests ++
      [
        {[:phoenix, :router_dispatch, :exception], %{duration: ms(3)},
         %{route: "/users/:id", kind: :error}},
        {[:phoenix, :router_dispatch, :exception], %{duration: ms(3)},
         %{route: "/users/:id", kind: :throw}},
        # Without a route, and without a duration.
        {[:phoenix, :router_dispatch, :exception], %{duration: ms(3)}, %{kind: :error}},
        {dispatch, %{}, %{route: "/", plug_opts: :index}},
        {[:phoenix, :socket_drain], %{count: 100, total: 200, index: 1},
         %{endpoint: MyAppWeb.Endpoint}},
        {[:phoenix, :socket_drain], %{count: 17, total: 200, index: 2},
         %{endpoint: MyAppWeb.Endpoint}},
        {[:phoenix, :channel_handled_in], %{duration: ms(1)}, %{event: "new \"msg\""}},
        {[:phoenix, :channel_handled_in], %{duration: ms(1)}, %{event: ""}}
      ]
  end

  defp queries do
    for {source, command, rows, total, queue} <- [
          {"users", :select, 3, 4.25, 0.1},
          {"users", :select, 0, 5, nil},
          {"sessions", :insert, 1, 80, 51},
          {nil, :commit, 0, 1, 0.01}
        ] do
      measurements = %{total_time: ms(total), query_time: ms(total / 2), decode_time: ms(0.01)}
      queued = if queue, do: %{queue_time: ms(queue)}, else: %{queue_time: nil}
      idle = if source, do: %{idle_time: ms(900)}, else: %{}

      {[:my_app, :repo, :query], measurements |> Map.merge(queued) |> Map.merge(idle),
       %{source: source, repo: MyApp.Repo, result: {:ok, %{command: command, num_rows: rows}}}}
    end
  end

  defp jobs do
    stops =
      for {worker, state, time} <- [
            {"MyApp.Mailer", :success, 120},
            {"MyApp.Mailer", :success, 80.5},
            {"MyApp.Report", :snoozed, 3_000}
          ] do
        {[:oban, :job, :stop], %{duration: ms(time), queue_time: ms(time / 3), memory: 1_000},
         %{job: %{worker: worker, queue: "default", id: 1}, state: state}}
      end

    stops ++
      [
        {[:oban, :job, :exception], %{duration: ms(1), queue_time: ms(2)},
         %{job: %{worker: "MyApp.Report", queue: "slow"}, state: :failure, kind: :error}},
        {[:oban, :queue, :length], %{count: 12}, %{queue: "slow", state: "available"}},
        {[:oban, :queue, :length], %{count: 4}, %{queue: "slow", state: "available"}},
        {[:oban, :queue, :length], %{count: 0}, %{queue: "default", state: "available"}}
      ]
  end

  defp messages do
    processed =
      for {key, time} <- [default: 1, default: 0.2, other: 7_000, default: 30] do
        {[:broadway, :processor, :message, :stop], %{duration: ms(time)},
         %{name: MyApp.Broadway.Processor_0, processor_key: key, topology_name: MyApp.Broadway}}
      end

    batches =
      for {batcher, size, failed} <- [{:s3, 10, 0}, {:s3, 8, 2}, {:default, 3, 3}] do
        {[:broadway, :batch_processor, :stop], %{duration: ms(5)},
         %{
           batch_info: %{batcher: batcher, size: size},
           failed_messages: List.duplicate(:message, failed),
           successful_messages: []
         }}
      end

    processed ++ batches
  end

  defp connections do
    requests =
      for result <- [
            {:ok, %{status: 200}},
            {:ok, %{status: 503}},
            {:error, :timeout},
            {:ok, %{status: 200}}
          ] do
        {[:finch, :request, :stop], %{duration: ms(9)},
         %{name: MyApp.Finch, request: %{host: "example.com"}, result: result}}
      end

    requests ++
      for(delta <- [3, 2, -4, 1], do: {[:finch, :connect, :change], %{delta: delta}, %{}})
  end

  defp memory do
    for total <- [123_456_789, 54_321_000] do
      {[:vm, :memory],
       %{
         total: total,
         processes: 20_000_000,
         processes_used: 19_999_999,
         system: total - 20_000_000,
         atom: 512_000,
         atom_used: 500_001,
         binary: 1_024,
         code: 9_000_000,
         ets: 700_000
       }, %{}}
    end ++
      [
        {[:vm, :total_run_queue_lengths], %{total: 3, cpu: 2, io: 1}, %{}},
        {[:vm, :total_run_queue_lengths], %{total: 0, cpu: 0, io: 0}, %{}},
        {[:vm, :system_counts], %{process_count: 211, atom_count: 20_000, port_count: 5}, %{}},
        {[:my_app, :worker], %{message_queue_len: 7, memory: 2_000}, %{name: MyApp.Worker}}
      ]
  end

  defp odd do
    [
      {[:my_app, :odd], %{}, %{tag: 1.5}},
      {[:my_app, :odd], %{}, %{tag: ~c"charlist"}},
      {[:my_app, :odd], %{}, %{tag: nil}},
      {[:my_app, :odd], %{}, %{tag: true}},
      {[:my_app, :odd], %{}, %{tag: 12_345_678_901_234_567_890}},
      {[:my_app, :odd], %{}, %{tag: -7}},
      {[:my_app, :odd], %{}, %{tag: ~D[2024-02-29]}},
      {[:my_app, :odd], %{}, %{tag: "grün"}},
      {[:my_app, :odd], %{}, %{tag: {:no, :text}}},
      {[:my_app, :odd], %{}, %{other: 1}},
      {[:my_app, :balance], %{cents: 500}, %{}},
      {[:my_app, :balance], %{cents: -700}, %{}},
      {[:my_app, :measured], %{ratio: 0.1 + 0.2}, %{}},
      {[:my_app, :measured], %{ratio: "7"}, %{}},
      {[:my_app, :measured], %{ratio: nil}, %{}}
    ] ++
      for value <- [-11, -10.5, 0, 0.0, 12.25, 12.250001, 999, 1.0e3, 5_000] do
        {[:my_app, :temperature], %{value: value}, %{place: "attic"}}
      end
  end
end
