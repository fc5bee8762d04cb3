defmodule DSPexTelemetry.Browser do
  @moduledoc """
  Chromium without a window, driven by the DevTools protocol over a pipe: messages are JSON that end in
  a zero byte, on the descriptors 3 and 4, which are those of a port with `:nouse_stdio`.

  It belongs to the process that has opened it, and ends with it.
  """

  import ExUnit.Assertions

  alias DSPexTelemetry.Dashboard.JSON
  alias DSPexTelemetry.StrictJSON

  defstruct [:port, :session]

  @patience_ms 30_000

  @doc "Starts Chromium with an empty profile, and opens an empty page."
  def open!(options \\ []) do
    executable = System.find_executable("chromium") || flunk("chromium is not installed")

    profile =
      Path.join(
        System.tmp_dir!(),
        "browser-#{System.unique_integer([:positive])}-#{:os.getpid()}"
      )

    on_end = Keyword.get(options, :on_end, &ExUnit.Callbacks.on_exit/1)

    port =
      Port.open({:spawn_executable, executable}, [
        :binary,
        :nouse_stdio,
        :exit_status,
        args: arguments(profile)
      ])

    {:os_pid, pid} = Port.info(port, :os_pid)

    on_end.(fn ->
      System.cmd("kill", ["-KILL", "#{pid}"], stderr_to_stdout: true)
      # Its other processes end a little later, and write until then.
      Enum.find(1..1_000, fn _ -> match?({:ok, _}, File.rm_rf(profile)) end)
    end)

    browser = %__MODULE__{port: port}
    %{"targetId" => target} = command!(browser, "Target.createTarget", %{url: "about:blank"})
    attach = %{targetId: target, flatten: true}
    %{"sessionId" => session} = command!(browser, "Target.attachToTarget", attach)
    browser = %{browser | session: session}

    for domain <- ["Page", "Runtime", "Log", "Network"],
        do: command!(browser, domain <> ".enable")

    browser
  end

  defp arguments(profile) do
    # Chromium refuses to run as root with its sandbox.
    {user, 0} = System.cmd("id", ["-u"])
    sandbox = if String.trim(user) == "0", do: ["--no-sandbox"], else: []

    sandbox ++
      [
        "--headless=new",
        "--remote-debugging-pipe",
        "--user-data-dir=#{profile}",
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--hide-scrollbars",
        "--mute-audio",
        "about:blank"
      ]
  end

  @doc "Opens an address, and waits until it is loaded."
  def go!(browser, url) do
    flush_events(browser)
    command!(browser, "Page.navigate", %{url: url})
    event!(browser, "Page.loadEventFired")
    :ok
  end

  @doc "The value of a JavaScript expression; promises are awaited."
  def value!(browser, expression) do
    parameters = %{expression: expression, returnByValue: true, awaitPromise: true}
    result = command!(browser, "Runtime.evaluate", parameters)
    refute result["exceptionDetails"], inspect(result["exceptionDetails"])
    result["result"]["value"]
  end

  @doc "Waits until an expression is true, and returns its value."
  def await!(browser, expression, patience_ms \\ @patience_ms) do
    await!(browser, expression, patience_ms, System.monotonic_time(:millisecond) + patience_ms)
  end

  defp await!(browser, expression, patience_ms, deadline) do
    case value!(browser, expression) do
      value when value not in [nil, false, 0, ""] ->
        value

      _not_yet ->
        if System.monotonic_time(:millisecond) > deadline,
          do: flunk("in vain waited #{patience_ms} ms for #{expression}")

        # The page's own clock lets time pass.
        value!(browser, "new Promise((done) => setTimeout(done, 50))")
        await!(browser, expression, patience_ms, deadline)
    end
  end

  @doc "Sets the size of the window, in CSS pixels."
  def size!(browser, width, height, options \\ []) do
    command!(browser, "Emulation.setDeviceMetricsOverride", %{
      width: width,
      height: height,
      deviceScaleFactor: Keyword.get(options, :scale, 1),
      mobile: Keyword.get(options, :mobile, false)
    })
  end

  @doc "Prefers `\"dark\"` or `\"light\"`."
  def scheme!(browser, scheme) do
    features = [%{name: "prefers-color-scheme", value: scheme}]
    command!(browser, "Emulation.setEmulatedMedia", %{features: features})
  end

  @doc "Presses a key, such as `\"ArrowLeft\"`."
  def press!(browser, key) do
    for type <- ["keyDown", "keyUp"],
        do: command!(browser, "Input.dispatchKeyEvent", %{type: type, key: key})

    :ok
  end

  @doc "The whole page, or what is seen of it, as PNG."
  def screenshot!(browser, options \\ []) do
    whole = Keyword.get(options, :whole, true)
    parameters = %{format: "png", captureBeyondViewport: whole}

    parameters =
      if whole do
        [width, height] = value!(browser, "[innerWidth, document.documentElement.scrollHeight]")

        Map.put(parameters, :clip, %{x: 0, y: 0, width: width, height: height, scale: 1})
      else
        parameters
      end

    command!(browser, "Page.captureScreenshot", parameters)["data"] |> Base.decode64!()
  end

  @doc """
  What the page has said since it was opened: exceptions, errors and warnings on its console, and what
  the browser has to say of it, such as violations of its policy and files that are missing.
  """
  def complaints(browser) do
    # What was said before this is answered.
    value!(browser, "0")
    for event <- events(browser), complaint = complaint(event), do: complaint
  end

  defp complaint(%{"method" => "Runtime.exceptionThrown", "params" => params}), do: params

  defp complaint(%{"method" => "Runtime.consoleAPICalled", "params" => %{"type" => type} = params})
       when type in ["error", "warning", "assert"],
       do: params["args"]

  defp complaint(%{"method" => "Log.entryAdded", "params" => %{"entry" => entry}}),
    do: "#{entry["level"]} of #{entry["source"]}: #{entry["text"]} #{entry["url"]}"

  defp complaint(_other), do: nil

  @doc "Sends a command of the protocol, and returns its result."
  def command!(browser, method, parameters \\ %{}) do
    id = System.unique_integer([:positive])
    message = %{id: id, method: method, params: parameters}
    message = if browser.session, do: Map.put(message, :sessionId, browser.session), else: message
    # The encoder lays its text out for people.
    text = message |> JSON.encode() |> String.trim_trailing("\n")
    Port.command(browser.port, [text, 0])

    case receive_until(browser, &(&1["id"] == id)) do
      %{"result" => result} -> result
      %{"error" => error} -> flunk("#{method}: #{inspect(error)}")
    end
  end

  # Events are kept in the process that has opened it.
  defp event!(browser, method) do
    case Enum.find(events(browser), &(&1["method"] == method)) do
      nil -> receive_until(browser, &(&1["method"] == method))
      event -> event
    end
  end

  defp events(browser), do: Process.get({browser.port, :events}, [])
  defp flush_events(browser), do: Process.put({browser.port, :events}, [])

  defp receive_until(%{port: port} = browser, wanted?) do
    {messages, rest} = split(Process.get({port, :received}, ""))
    Process.put({port, :received}, rest)
    kept = Process.get({port, :messages}, []) ++ Enum.map(messages, &StrictJSON.decode!/1)

    case Enum.split_while(kept, &(not wanted?.(&1))) do
      {before, [message | later]} ->
        keep(browser, before)
        Process.put({port, :messages}, later)
        message

      {all, []} ->
        keep(browser, all)
        Process.put({port, :messages}, [])

        receive do
          {^port, {:data, data}} ->
            Process.put({port, :received}, rest <> data)
            receive_until(browser, wanted?)

          {^port, {:exit_status, status}} ->
            flunk("chromium ended with status #{status}")
        after
          @patience_ms -> flunk("chromium does not answer")
        end
    end
  end

  defp keep(browser, messages) do
    events = for message <- messages, is_map_key(message, "method"), do: message
    Process.put({browser.port, :events}, events(browser) ++ events)
  end

  defp split(received) do
    {messages, [rest]} = received |> :binary.split(<<0>>, [:global]) |> Enum.split(-1)
    {messages, rest}
  end
end
