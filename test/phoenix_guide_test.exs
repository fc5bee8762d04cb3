defmodule DSPexTelemetry.PhoenixGuideTest do
  # The module of docs/phoenix.md with Phoenix' events, and its plug as a router calls it.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.Markdown

  @guide File.read!("docs/phoenix.md")

  defp plugs do
    blocks = for %{language: "elixir", code: code} <- Markdown.blocks(@guide), do: code
    {secrets, rest} = Enum.split_with(blocks, &(&1 =~ "defmodule MyApp.Secrets"))

    forwards =
      for code <- rest,
          [_all, options] <- Regex.scan(~r/forward "[^"]+", DSPexTelemetry\.Plug, (.*)$/m, code),
          do: options

    {secrets, forwards}
  end

  test "the generated module with the line reports what Phoenix, Ecto and the VM tell" do
    output =
      evaluate!("""
      {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
      Logger.configure(level: :error)

      defmodule :telemetry_poller do
        def child_spec(_options), do: %{id: :poller, start: {Agent, :start_link, [fn -> nil end]}}
      end

      #{Markdown.block!(@guide, "The reporter")}
      {:ok, _pid} = Supervisor.start_link([MyAppWeb.Telemetry], strategy: :one_for_one)
      ms = System.convert_time_unit(1, :millisecond, :native)
      for n <- 1..100, do: :telemetry.execute([:phoenix, :router_dispatch, :stop], %{duration: n * ms}, %{route: "/users/:id"})
      :telemetry.execute([:my_app, :repo, :query], %{total_time: 4 * ms}, %{})
      :telemetry.execute([:vm, :memory], %{total: 5_000}, %{})
      IO.puts(DSPexTelemetry.scrape())
      """)

    assert output =~ ~r/^# TYPE phoenix_router_dispatch_stop_duration summary$/m

    for quantile <- ["0.5", "0.9", "0.95", "0.99", "0.999"],
        do:
          assert(
            output =~
              ~r/^phoenix_router_dispatch_stop_duration\{route="\/users\/:id",quantile="#{quantile}"\} \d/m
          )

    assert output =~
             ~r/^phoenix_router_dispatch_stop_duration_count\{route="\/users\/:id"\} 100$/m

    assert output =~ ~r/^my_app_repo_query_total_time_sum 4(\.0)?$/m
    assert output =~ ~r/^vm_memory_total_sum 5(\.0)?$/m
    assert output =~ ~r/^dspex_telemetry_build_info/m
  end

  test "the plug takes the options of each forward, and answers the paths of the table" do
    {[secrets], forwards} = plugs()
    assert length(forwards) == 2
    paths = for [_all, path] <- Regex.scan(~r"^\| `/telemetry(/[\w.]*)` \|"m, @guide), do: path
    assert length(paths) == 4

    evaluate!("""
    {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
    {plug_installed?, _binding} = Code.eval_file(#{inspect(Path.expand("support/plug_stand_in.exs", __DIR__))})
    System.put_env("METRICS_TOKEN", "correct-horse")
    #{secrets}
    conn = if plug_installed?, do: apply(Plug.Test, :conn, [:get, "/"]), else: struct!(Plug.Conn)
    for options <- [#{Enum.map_join(forwards, ", ", &"[#{&1}]")}],
        path <- #{inspect(paths)},
        {headers, status} <- [{[{"authorization", "Bearer correct-horse"}], 200}, {[], if(options[:auth] == :none, do: 200, else: 401)}] do
      segments = String.split(path, "/", trim: true)
      conn = struct!(conn, path_info: segments, script_name: ["telemetry"], request_path: "/telemetry" <> path, req_headers: headers)
      %{status: ^status, halted: true} = DSPexTelemetry.Plug.call(conn, DSPexTelemetry.Plug.init(options))
    end
    """)
  end
end
