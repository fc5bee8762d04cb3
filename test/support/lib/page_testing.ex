defmodule DSPexTelemetry.PageTesting do
  @moduledoc """
  The live page in a browser, and what it shows.
  """

  import DSPexTelemetry.TestInstance
  import ExUnit.Assertions

  alias DSPexTelemetry.{Browser, Catalogue}

  @stop [:dspex, :bridge, :call_method, :stop]
  @exception [:dspex, :bridge, :call_method, :exception]
  @wait [:snakepit, :pool, :queue_time]
  @script "<script>alert(1)</script>"

  @doc "It keeps fifteen seconds in slots of 250 ms, and takes events of this test only."
  def serve!(http \\ [port: 0], options \\ []) do
    defaults = [
      attach: false,
      slice: 250,
      history: 15_000,
      summary_interval: :infinity,
      http: http
    ]

    name = start!(Keyword.merge(defaults, options))
    {:ok, %{port: port}} = DSPexTelemetry.http_address(instance: name)
    {name, port, "http://127.0.0.1:#{port}/"}
  end

  def call(plans, method, microseconds, success \\ true) do
    metadata = %{method: method, python_class: "Doc", success: success}
    handle(plans, @stop, %{duration: microseconds * 1_000}, metadata)
    handle(plans, @wait, %{wait_time_us: microseconds}, %{command: method})
  end

  @doc "A call whose Python raised an exception of this type."
  def failed_call(plans, method, type, message, microseconds, found_by \\ %{}) do
    error = %{python_type: type, message: message, __struct__: RuntimeError, __exception__: true}
    metadata = %{method: method, python_class: "Doc", kind: :error, reason: error}
    handle(plans, @exception, %{duration: microseconds * 1_000}, Map.merge(metadata, found_by))
  end

  @doc "What Python says of a call of its own."
  def inside_python(plans, method, microseconds) do
    name = [:snakepit, :python, :call, :stop]
    event = Enum.find(Catalogue.events(), &(&1.name == name and &1.variant == :python))
    metadata = %{"python_module" => "Doc", function: method, python_pid: 7, worker_id: "w1"}
    handle(plans, event, %{duration: microseconds * 1_000}, metadata)
  end

  def traffic(name) do
    plans = plans(name)
    for n <- 1..400, do: call(plans, "embed", 200 + n)
    for n <- 1..300, do: call(plans, "search", 40_000 + 100 * n, rem(n, 30) != 0)
    for n <- 1..90, do: call(plans, @script, 900_000 + 10_000 * n)
    for n <- 1..20, do: call(plans, "rank", 7 * n)
    :ok
  end

  def open!(url) do
    browser = Browser.open!()
    Browser.size!(browser, 1280, 900)
    Browser.go!(browser, url)
    browser
  end

  def choose!(browser, window) do
    before = Browser.value!(browser, "document.body.dataset.report")
    Browser.value!(browser, ~s|document.querySelector('input[value="#{window}"]').click()|)
    Browser.await!(browser, "document.body.dataset.report !== '#{before}'")
  end

  def updated!(browser) do
    before = Browser.value!(browser, "document.body.dataset.report")
    Browser.await!(browser, "document.body.dataset.report !== '#{before}'")
  end

  @doc "The texts of the cells of a table's body, or of its foot."
  def cells(browser, table, part \\ "tbody") do
    Browser.value!(
      browser,
      ~s|[...document.querySelectorAll('#{table} #{part} tr')].map((row) => | <>
        "[...row.children].map((cell) => cell.textContent))"
    )
  end

  @factors %{"µs" => 1, "ms" => 1.0e3, "s" => 1.0e6}

  def assert_shown(text, us) do
    [number, unit] = String.split(text, " ")
    {number, ""} = Float.parse(number)
    # Three digits.
    assert_in_delta number * @factors[unit], us, us * 0.006
  end

  @hostile [
    @script,
    String.duplicate("x", 256),
    "<img src=x onerror=alert(1)>",
    "se\u{202E}arch \u{200B}all",
    String.duplicate("\u{202E}", 80),
    String.duplicate("many words ", 20)
  ]

  def hostile_texts, do: @hostile

  @doc "Names, messages and ids of calls that failed, with which no layout should break."
  def hostile_traffic(name) do
    for {text, n} <- Enum.with_index(@hostile, 1) do
      found_by = %{worker_id: text, session_id: text, trace_id: text, correlation_id: text}
      plans = plans(name)
      failed_call(plans, text, String.duplicate("T", 100 + n), text, n, found_by)
      inside_python(plans, text, n)
    end
  end
end
