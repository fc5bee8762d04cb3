defmodule DSPexTelemetry.Docs.PhoenixTest do
  # The module of docs/phoenix.md with Phoenix' events, and its plug as a router calls it.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.Markdown

  @guide File.read!("docs/phoenix.md")

  # What the routers of Phoenix and Plug do with `forward`: options are made and become code when the router is
  # compiled, and Phoenix forwards to a module once.
  @router """
  defmodule GuideRouter do
    defmacro __using__(_options) do
      quote do
        import GuideRouter
        @scope ""
        @forwards []
        @before_compile GuideRouter
      end
    end

    defmacro scope(path, do: block) do
      quote do
        @scope String.trim_trailing(unquote(path), "/")
        unquote(block)
      end
    end

    defmacro pipe_through(_pipelines), do: nil

    defmacro forward(path, to: plug, init_opts: options) do
      quote do: GuideRouter.forward(unquote(path), unquote(plug), unquote(options))
    end

    defmacro forward(path, plug, options) do
      quote do
        if List.keymember?(@forwards, unquote(plug), 1), do: raise("has already been forwarded to")
        @forwards [{@scope <> unquote(path), unquote(plug), unquote(plug).init(unquote(options))} | @forwards]
      end
    end

    defmacro __before_compile__(%{module: module}) do
      forwards = Module.get_attribute(module, :forwards)
      quote do: def(forwards, do: unquote(Macro.escape(forwards)))
    end
  end
  """

  # Those that forward, and modules that they need.
  defp plugs do
    blocks = for %{language: "elixir", code: code} <- Markdown.blocks(@guide), do: code
    modules = Enum.filter(blocks, &(&1 =~ ~r/^defmodule MyApp\.Secrets|@behaviour Plug/))
    {modules, Enum.filter(blocks, &(&1 =~ ~r/^ *forward /m))}
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

  test "the routers of the guide compile, and answer the paths of the table" do
    {[_secrets, _own_module] = modules, [phoenix, admin, plug, second]} = plugs()
    paths = for [_all, path] <- Regex.scan(~r"^\| `/telemetry(/[\w.]*)` \|"m, @guide), do: path
    assert length(paths) == 4

    routers = [["router of Phoenix", phoenix, second], ["another", admin], ["Plug.Router", plug]]

    routers =
      for {[_name | blocks], n} <- Enum.with_index(routers) do
        "defmodule Router#{n} do\nuse GuideRouter\n#{Enum.join(blocks, "\n")}\nend\n"
      end

    output =
      evaluate!("""
      {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
      {:ok, _pid} = DSPexTelemetry.start_link(name: MyApp.BridgeTelemetry)
      {plug_installed?, _binding} = Code.eval_file(#{inspect(Path.expand("../support/plug_stand_in.exs", __DIR__))})
      System.put_env("METRICS_TOKEN", "correct-horse")
      #{@router}
      #{modules}
      #{routers}
      conn = if plug_installed?, do: apply(Plug.Test, :conn, [:get, "/"]), else: struct!(Plug.Conn)
      for router <- [Router0, Router1, Router2],
          {prefix, plug, options} <- router.forwards(),
          path <- #{inspect(paths)},
          {headers, status} <- [{[{"authorization", "Bearer correct-horse"}], 200}, {[], if(options.auth == :none, do: 200, else: 401)}] do
        split = &String.split(&1, "/", trim: true)
        conn = struct!(conn, path_info: split.(path), script_name: split.(prefix), request_path: prefix <> path, req_headers: headers)
        %{status: ^status, halted: true} = plug.call(conn, options)
        IO.puts("\#{prefix}\#{path} \#{status}")
      end
      """)

    for prefix <- ["/telemetry", "/admin/telemetry", "/admin/bridge"], path <- paths do
      assert output =~ "#{prefix}#{path} 200"
      assert output =~ "#{prefix}#{path} 401" == (prefix == "/telemetry")
    end
  end

  test "the words of the guide about routers hold" do
    for {options, word} <- [
          {"auth: fn -> :none end", "cannot escape"},
          {"auth: :none\nforward \"/twice\", DSPexTelemetry.Plug, auth: :none",
           "has already been forwarded to"}
        ] do
      code = "use GuideRouter\nforward \"/telemetry\", DSPexTelemetry.Plug, #{options}"

      output =
        evaluate!("""
        #{@router}
        try do
          Code.eval_string(#{inspect("defmodule Refused do\n#{code}\nend")})
        rescue
          exception -> IO.puts(Exception.message(exception))
        end
        """)

      assert output =~ word
    end
  end
end
