defmodule DSPexTelemetry.Endpoint.PageTest do
  # The live page in a real browser, Debian's chromium.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Browser, Catalogue}

  @moduletag :servers
  @moduletag timeout: 180_000

  @stop [:dspex, :bridge, :call_method, :stop]
  @exception [:dspex, :bridge, :call_method, :exception]
  @wait [:snakepit, :pool, :queue_time]
  @script "<script>alert(1)</script>"
  @token "s3cr3t-t0ken"
  @live "document.body.dataset.state === 'live'"

  # It keeps fifteen seconds in slots of 250 ms, and takes events of this test only.
  defp serve!(http \\ [port: 0], options \\ []) do
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

  defp call(plans, method, microseconds, success \\ true) do
    metadata = %{method: method, python_class: "Doc", success: success}
    handle(plans, @stop, %{duration: microseconds * 1_000}, metadata)
    handle(plans, @wait, %{wait_time_us: microseconds}, %{command: method})
  end

  # A call whose Python raised an exception of this type.
  defp failed_call(plans, method, type, message, microseconds, found_by \\ %{}) do
    error = %{python_type: type, message: message, __struct__: RuntimeError, __exception__: true}
    metadata = %{method: method, python_class: "Doc", kind: :error, reason: error}
    handle(plans, @exception, %{duration: microseconds * 1_000}, Map.merge(metadata, found_by))
  end

  # What Python says of a call of its own.
  defp inside_python(plans, method, microseconds) do
    name = [:snakepit, :python, :call, :stop]
    event = Enum.find(Catalogue.events(), &(&1.name == name and &1.variant == :python))
    metadata = %{"python_module" => "Doc", function: method, python_pid: 7, worker_id: "w1"}
    handle(plans, event, %{duration: microseconds * 1_000}, metadata)
  end

  defp traffic(name) do
    plans = plans(name)
    for n <- 1..400, do: call(plans, "embed", 200 + n)
    for n <- 1..300, do: call(plans, "search", 40_000 + 100 * n, rem(n, 30) != 0)
    for n <- 1..90, do: call(plans, @script, 900_000 + 10_000 * n)
    for n <- 1..20, do: call(plans, "rank", 7 * n)
    :ok
  end

  defp open!(url) do
    browser = Browser.open!()
    Browser.size!(browser, 1280, 900)
    Browser.go!(browser, url)
    browser
  end

  defp choose!(browser, window) do
    before = Browser.value!(browser, "document.body.dataset.report")
    Browser.value!(browser, ~s|document.querySelector('input[value="#{window}"]').click()|)
    Browser.await!(browser, "document.body.dataset.report !== '#{before}'")
  end

  defp updated!(browser) do
    before = Browser.value!(browser, "document.body.dataset.report")
    Browser.await!(browser, "document.body.dataset.report !== '#{before}'")
  end

  # The texts of the cells of a table's body, or of its foot.
  defp cells(browser, table, part \\ "tbody") do
    Browser.value!(
      browser,
      ~s|[...document.querySelectorAll('#{table} #{part} tr')].map((row) => | <>
        "[...row.children].map((cell) => cell.textContent))"
    )
  end

  @factors %{"µs" => 1, "ms" => 1.0e3, "s" => 1.0e6}

  defp assert_shown(text, us) do
    [number, unit] = String.split(text, " ")
    {number, ""} = Float.parse(number)
    # Three digits.
    assert_in_delta number * @factors[unit], us, us * 0.006
  end

  test "the numbers are those of the report, and names are text" do
    {name, _port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")
    report = DSPexTelemetry.report(instance: name)
    rows = cells(browser, "#methods")
    assert Enum.map(rows, &hd/1) == ["Doc.embed", "Doc.search", "Doc." <> @script, "Doc.rank"]

    for [title, calls, _rate, errors, _why, p50, p95, p99 | _charts] <- rows do
      "Doc." <> method = title
      row = row(report.operations, %{method: method})
      assert calls == Integer.to_string(row.count)
      assert_shown(p50, row.p50_us)
      assert_shown(p95, row.p95_us)
      assert_shown(p99, row.p99_us)
      assert {percent, " %"} = Float.parse(errors)
      assert_in_delta percent, row.error_rate * 100, 0.01
    end

    assert [["embed", "400" | waits] | _commands] = cells(browser, "#pool")
    distribution = report.pool.queue_wait_us_by_command["embed"]

    for {text, us} <- Enum.zip(waits, [distribution.p50, distribution.p95, distribution.p99]),
        do: assert_shown(text, us)

    tiles =
      Browser.value!(
        browser,
        "[...document.querySelectorAll('.tile .value')].map((tile) => tile.textContent)"
      )

    assert ["810", "1.23 %" | _latencies] = tiles
    assert Browser.value!(browser, "document.querySelectorAll('script').length") == 1
    assert Browser.value!(browser, "document.querySelector('h1').textContent") == inspect(name)

    assert Browser.value!(browser, "document.querySelector('#router .empty').textContent") =~
             "No request has been routed"

    assert Browser.value!(browser, "document.querySelector('#cache .empty').textContent") =~
             "has no cache"

    assert Browser.complaints(browser) == []
  end

  test "without data it says so, and shows what comes then by itself" do
    {name, _port, url} = serve!()
    browser = open!(url)
    Browser.await!(browser, @live)
    empty = "document.querySelector('#methods .empty')"
    assert Browser.value!(browser, empty <> ".textContent") =~ "handlers are not attached"
    traffic(name)
    Browser.await!(browser, "document.querySelectorAll('#methods tbody tr').length === 4")
    assert Browser.value!(browser, empty <> ".hidden")
    assert Browser.complaints(browser) == []
  end

  test "a column sorts by a click, and the order stays when numbers come" do
    {name, _port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")
    names = fn -> browser |> cells("#methods") |> Enum.map(&hd/1) end
    head = "document.querySelector('#methods th.p95')"
    assert Browser.value!(browser, head <> ".getAttribute('aria-sort')") == "none"

    Browser.value!(browser, head <> ".querySelector('button').click()")
    slowest = ["Doc." <> @script, "Doc.search", "Doc.embed", "Doc.rank"]
    assert names.() == slowest
    assert Browser.value!(browser, head <> ".getAttribute('aria-sort')") == "descending"

    Browser.value!(browser, head <> ".querySelector('button').focus()")
    for n <- 1..5_000, do: call(plans(name), "rank", rem(n, 100))
    updated!(browser)
    Browser.await!(browser, "document.querySelector('#methods').textContent.includes('5,020')")
    assert names.() == slowest
    assert Browser.value!(browser, "document.activeElement === #{head}.querySelector('button')")

    Browser.value!(browser, head <> ".querySelector('button').click()")
    assert names.() == Enum.reverse(slowest)
    assert Browser.value!(browser, head <> ".getAttribute('aria-sort')") == "ascending"
  end

  @heads "[...document.querySelectorAll('#methods thead th:not([hidden])')].map((head) => head.textContent)"

  test "a row says why calls fail and, once Python measures them, how long they are in it" do
    {name, _port, url} = serve!(port: 0, page_methods: 1)
    plans = plans(name)
    call(plans, "rank", 7)
    for n <- 1..10, do: call(plans, "loads", 1_000 * n)
    for _ <- 1..6, do: failed_call(plans, "loads", "JSONDecodeError", "line 1", 9_000)
    for _ <- 1..2, do: failed_call(plans, "loads", "KeyError", "'id'", 2_000)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")

    why = "document.querySelector('#methods tbody td.why')"
    assert Browser.value!(browser, why <> ".textContent") == "JSONDecodeError ×6"

    assert Browser.value!(browser, why <> ".title") ==
             "error: JSONDecodeError ×6, error: KeyError ×2"

    # Calls that are alike in everything are still several.
    assert length(cells(browser, "#failures")) == 8

    # The sum of other methods has none.
    assert [["1 other method", "1", _rate, "0 %", "" | _more]] =
             cells(browser, "#methods", "tfoot")

    refute "in Python" in Browser.value!(browser, @heads)

    inside_python(plans, "loads", 2_000)
    inside_python(plans, "loads", 3_000)
    updated!(browser)
    Browser.await!(browser, @heads <> ".includes('in Python')")
    python = "document.querySelector('#methods tbody td.python')"
    [inside, whole] = String.split(Browser.value!(browser, python <> ".textContent"), " of ")
    row = row(DSPexTelemetry.report(instance: name).operations, %{method: "loads"})
    assert row.python_us.mean == 2_500.0
    assert_shown(inside, row.python_us.mean)
    assert_shown(whole, row.mean_us)
    hint = Browser.value!(browser, python <> ".title")
    assert [_, overhead] = Regex.run(~r/serialisation take (.+) of a call/, hint)
    assert_shown(overhead, row.overhead_us)

    assert Browser.value!(browser, "document.querySelector('#methods tfoot .python').textContent") ==
             ""

    assert Browser.complaints(browser) == []
  end

  # Those of the last failures or of the slowest calls that are seen, by the names of their columns.
  defp single_calls(browser, panel) do
    names = ~w(name when took why message worker ids)
    for row <- cells(browser, panel), do: names |> Enum.zip(row) |> Map.new()
  end

  test "single calls say when they ended, why they failed and what they can be found by" do
    {name, _port, url} = serve!([port: 0], last_failures: 30, slowest_calls: 2)
    plans = plans(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")
    empty = &"document.querySelector('#{&1} .empty').textContent"
    assert Browser.value!(browser, empty.("#failures")) == "No call has failed in this time."
    assert Browser.value!(browser, empty.("#slowest")) == "No call has ended in this time."

    session = "session-of-a-name-that-is-long"
    for n <- 1..25, do: failed_call(plans, "f#{n}", "KeyError", "no #{n}", 100)
    found_by = %{worker_id: "w1", session_id: session, trace_id: "t1", correlation_id: nil}
    failed_call(plans, "loads", "JSONDecodeError", "line 1\n  column 2", 9_000, found_by)
    call(plans, "search", 70_000_000)
    call(plans, "embed", 3)
    updated!(browser)
    Browser.await!(browser, "document.querySelector('#failures').textContent.includes('loads')")

    assert [last | _] = failures = single_calls(browser, "#failures")
    assert length(failures) == 20
    assert Enum.map(tl(failures), & &1["name"]) == for(n <- 25..7//-1, do: "Doc.f#{n}")

    assert %{"name" => "Doc.loads", "took" => "9.00 ms", "why" => "JSONDecodeError"} = last
    assert %{"message" => "line 1 ↵ column 2", "worker" => "w1"} = last
    assert last["when"] =~ ~r/^\d\d:\d\d:\d\d$/
    assert last["ids"] == "session session-…s-longtrace t1"

    ids =
      "[...document.querySelectorAll('#failures tbody tr:first-child .ids span')].map((id) => id.title)"

    assert Browser.value!(browser, ids) == ["session_id #{session}", "trace_id t1"]
    note = "document.querySelector('#failures-note').textContent"
    assert Browser.value!(browser, note) == "the last 20 of 26 that are kept"

    assert [%{"name" => "Doc.search", "why" => "succeeded"}, %{"why" => "JSONDecodeError"}] =
             single_calls(browser, "#slowest")

    assert Browser.complaints(browser) == []
  end

  test "a call of another day has its day, and a long id its beginning and its end" do
    {_name, _port, url} = serve!()
    browser = open!(url)

    assert [time, other_day, id, long_id] =
             Browser.value!(browser, """
             import("/page/format.js").then(({ moment, short }) => [
               moment(1795000000000, 1795000000000 + 11 * 3600000),
               moment(1795000000000, 1795000000000 + 13 * 3600000),
               short("0123456789abcdef"),
               short("0123456789abcdefg"),
             ])
             """)

    assert time =~ ~r/^\d\d:\d\d:\d\d$/
    assert other_day =~ ~r/Nov.*, \d\d:\d\d$/
    assert {id, long_id} == {"0123456789abcdef", "01234567…bcdefg"}
  end

  test "it says so where no single calls are kept" do
    {name, _port, url} = serve!([port: 0], last_failures: 0, slowest_calls: 0)
    failed_call(plans(name), "loads", "KeyError", "no", 100)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")

    for {panel, option} <- [{"#failures", "last_failures"}, {"#slowest", "slowest_calls"}] do
      said = Browser.value!(browser, "document.querySelector('#{panel} .empty').textContent")
      assert said =~ "option #{option} says how many are"
      assert cells(browser, panel) == []
    end
  end

  @hostile [
    @script,
    String.duplicate("x", 256),
    "<img src=x onerror=alert(1)>",
    "se\u{202E}arch \u{200B}all",
    String.duplicate("\u{202E}", 80),
    String.duplicate("many words ", 20)
  ]

  # Names, messages and ids of calls that failed, with which no layout should break.
  defp hostile_traffic(name) do
    for {text, n} <- Enum.with_index(@hostile, 1) do
      found_by = %{worker_id: text, session_id: text, trace_id: text, correlation_id: text}
      plans = plans(name)
      failed_call(plans, text, String.duplicate("T", 100 + n), text, n, found_by)
      inside_python(plans, text, n)
    end
  end

  test "hostile texts of single calls stay text" do
    {name, _port, url} = serve!()
    hostile_traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")

    seen = fn text ->
      text |> String.replace("\u{202E}", "\\u{202E}") |> String.replace("\u{200B}", "\\u{200B}")
    end

    for panel <- ["#failures", "#slowest"] do
      rows = single_calls(browser, panel)
      # The last failed is the slowest.
      for {row, text} <- Enum.zip(rows, Enum.reverse(@hostile)) do
        assert row["message"] == seen.(String.trim(text))
        assert row["name"] == "Doc." <> seen.(text)
      end

      titles =
        "[...document.querySelectorAll('#{panel} tbody .ids span:first-child')].map((id) => id.title)"

      assert Browser.value!(browser, titles) ==
               for(text <- Enum.reverse(@hostile), do: "session_id " <> seen.(text))

      titles =
        "[...document.querySelectorAll('#{panel} tbody .message')].map((cell) => cell.title)"

      assert Browser.value!(browser, titles) == Enum.map(Enum.reverse(@hostile), seen)
      assert Browser.value!(browser, "document.querySelectorAll('#{panel} img').length") == 0
    end

    assert Browser.value!(browser, "document.querySelectorAll('script').length") == 1
    assert Browser.complaints(browser) == []
  end

  test "more methods than have a row are summed" do
    {name, _port, url} = serve!(port: 0, page_methods: 2)
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")
    assert length(cells(browser, "#methods")) == 2
    assert [["2 other methods", "110" | _numbers]] = cells(browser, "#methods", "tfoot")
  end

  test "the maps are read by keys, pointer and touch" do
    {name, _port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    readout = "document.querySelector('#heatmap .readout').textContent"
    assert Browser.value!(browser, readout) =~ "arrow keys"

    Browser.value!(browser, "document.querySelector('#heatmap .area').focus()")
    Browser.press!(browser, "End")
    assert Browser.value!(browser, readout) =~ ~r/\d\d:\d\d:\d\d–\d\d:\d\d:\d\d/
    # However many slots there have been, the calls are in one of them.
    for _ <- 1..60,
        Browser.value!(browser, readout) =~ ": no calls",
        do: Browser.press!(browser, "ArrowLeft")

    assert Browser.value!(browser, readout) =~ ~r/ of \d+ calls? \(.*p50 .*p95 .*p99 /

    assert Browser.value!(browser, "document.activeElement.getAttribute('aria-valuetext')") =~
             "p95"

    Browser.press!(browser, "Escape")
    assert Browser.value!(browser, readout) =~ "arrow keys"

    [x, y] =
      Browser.value!(browser, """
      (() => {
        const area = document.querySelector('#timeline .area');
        area.scrollIntoView();
        const box = area.getBoundingClientRect();
        return [box.right - 3, box.top + 20];
      })()
      """)

    Browser.command!(browser, "Input.dispatchMouseEvent", %{type: "mouseMoved", x: x, y: y})

    Browser.await!(
      browser,
      "!document.querySelector('#timeline .readout').textContent.includes('Columns')"
    )

    assert Browser.complaints(browser) == []
  end

  # The least contrast of a text with what is behind it, and the text (WCAG 2.1, 1.4.3).
  @contrast """
  (() => {
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const colour = (text) => text.match(/[\\d.]+/g).map(Number);
    const behind = (node) => {
      const found = colour(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
      return node.parentElement ? behind(node.parentElement) : [255, 255, 255];
    };
    let worst = [99, ""];
    for (const node of document.querySelectorAll("body *")) {
      const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
      if (!own || node.closest("[hidden]") || node.closest("svg")) continue;
      const [one, other] = [colour(getComputedStyle(node).color), behind(node)].map(light);
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (contrast < worst[0]) worst = [contrast, node.textContent];
    }
    return worst;
  })()
  """

  # Tables that are wider than where they are, and the height of the lowest button.
  @cut """
  [...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth)
    .map((box) => box.querySelector("table").getAttribute("aria-label"))
  """
  @lowest """
  Math.min(...[...document.querySelectorAll("button")].map((button) => button.offsetHeight)
    .filter((height) => height > 1))
  """
  @sizes [
    {390, true},
    {320, true},
    {700, false},
    {768, false},
    {901, false},
    {1000, false},
    {1041, false},
    {1161, false},
    {1241, false},
    {1920, false}
  ]

  test "it is legible in light and dark, and fits a phone" do
    {name, port, url} = serve!()
    traffic(name)
    hostile_traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)

    backgrounds =
      for scheme <- ["light", "dark"] do
        Browser.scheme!(browser, scheme)
        assert [contrast, text] = Browser.value!(browser, @contrast)
        assert contrast >= 4.5, "#{text} has a contrast of #{contrast} in #{scheme}"
        Browser.value!(browser, "getComputedStyle(document.body).backgroundColor")
      end

    assert backgrounds == Enum.uniq(backgrounds)

    for {width, mobile} <- @sizes do
      Browser.size!(browser, width, 844, mobile: mobile)
      assert Browser.value!(browser, "document.documentElement.scrollWidth") <= width
      assert Browser.value!(browser, "innerWidth") == width
      assert {width, Browser.value!(browser, @cut)} == {width, []}
      # A finger finds what it wants (WCAG 2.2, 2.5.8).
      assert Browser.value!(browser, @lowest) >= 24
    end

    # Also with the banner, and with a name without an end.
    Browser.size!(browser, 390, 844, mobile: true)
    call(plans(name), String.duplicate("x", 250), 10)
    updated!(browser)
    stop_supervised!({DSPexTelemetry, name})
    Browser.await!(browser, "document.body.dataset.state === 'stale'")
    assert Browser.value!(browser, "document.documentElement.scrollWidth") <= 390
    assert [contrast, text] = Browser.value!(browser, @contrast)
    assert contrast >= 4.5, "#{text} has a contrast of #{contrast}"
    assert is_integer(port)
  end

  test "names break between their parts, and show characters that are not seen" do
    {name, _port, url} = serve!()
    call(plans(name), "se\u{202E}arch_\u{200B}all", 10)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")
    shown = "se\\u{202E}arch_\\u{200B}all"
    assert [["Doc." <> ^shown | _numbers]] = cells(browser, "#methods")

    html = Browser.value!(browser, "document.querySelector('#methods tbody th').innerHTML")
    assert html == "Doc.<wbr>se\\u{202E}arch_<wbr>\\u{200B}all"
  end

  test "nothing moves when numbers come" do
    {name, _port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)

    Browser.value!(browser, """
    window.shift = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => (window.shift += entry.value)))
      .observe({ type: "layout-shift" });
    """)

    for _ <- 1..2 do
      for n <- 1..100, do: call(plans(name), "embed", 100 * n)
      updated!(browser)
    end

    assert Browser.value!(browser, "window.shift") == 0
  end

  test "when the server stops it says how old the numbers are, and goes on when it is back" do
    {name, port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    banner = "document.querySelector('#banner')"
    assert Browser.value!(browser, banner <> ".hidden")

    stop_supervised!({DSPexTelemetry, name})
    Browser.await!(browser, "document.body.dataset.state === 'stale'")
    refute Browser.value!(browser, banner <> ".hidden")
    said = Browser.value!(browser, banner <> ".textContent")

    assert said =~
             ~r/The server does not answer\. These numbers are .* old, of \d\d:\d\d:\d\d\. Next try in \d+ s\./

    assert length(cells(browser, "#methods")) == 4

    {_name, ^port, ^url} = serve!([port: port], name: name)
    Browser.value!(browser, banner <> ".querySelector('button').click()")
    Browser.await!(browser, @live)
    assert Browser.value!(browser, banner <> ".hidden")
  end

  # Answers the page's next requests itself, until `answer_no_more!/1`.
  defp answer!(browser, response),
    do: Browser.value!(browser, "window.asked = fetch; window.fetch = async () => #{response}; 0")

  defp answer_no_more!(browser), do: Browser.value!(browser, "window.fetch = window.asked; 0")

  test "a report that it cannot show makes it stale, until one comes that it can" do
    {name, _port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    answer!(browser, "Response.json({ instance: 'Another', state: {} })")
    Browser.await!(browser, "document.body.dataset.state === 'stale'")
    said = Browser.value!(browser, "document.querySelector('#banner').textContent")
    assert said =~ "perhaps of another version: reload it"
    assert said =~ ~r/Next try in \d+ s/

    answer_no_more!(browser)
    Browser.await!(browser, @live)
    assert Browser.value!(browser, "document.querySelector('h1').textContent") == inspect(name)
  end

  test "calls that took no time are drawn" do
    {name, _port, url} = serve!()
    for _ <- 1..30, do: call(plans(name), "instant", 0)
    browser = open!(url)
    Browser.await!(browser, @live)
    choose!(browser, "since_start")

    assert [["Doc.instant", "30", _rate, _errors, _why, "0 µs" | _more]] =
             cells(browser, "#methods")

    drawn = fn paths ->
      Browser.value!(
        browser,
        "[...document.querySelectorAll('#{paths}')].map((path) => path.getAttribute('d'))"
      )
    end

    assert [_band, line] = drawn.("#methods .latency-course path")
    assert line =~ ~r/^M[\d.]+ 98H/
    for path <- drawn.("path[d]"), do: refute(path =~ ~r/NaN|Infinity/)
    assert Browser.complaints(browser) == []
  end

  test "the charts span five minutes at first, then the age of the history, then its hour" do
    {name, _port, url} = serve!([port: 0], slice: 1_000, history: 3_600_000)
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)

    spans =
      Browser.value!(browser, """
      import("/page/time.js").then(({ Time }) => [10, 299, 301, 1200, 3599, 3661].map((age) => {
        const slot = { from_unix_ms: 0, to_unix_ms: age * 1000, duration_ms: age * 1000 };
        const time = new Time({ slots: [slot], span_ms: 3600000 });
        return [time.span / 1000, ...time.extent(slot)];
      }))
      """)

    assert [[300, from, 1], [300, _, 1], [301, 0, 1], [1200, 0, 1], [3599, 0, 1], [3600, 0, 1]] =
             spans

    assert_in_delta from, 29 / 30, 1.0e-9

    for plot <- ["#heatmap", "#timeline"] do
      ticks =
        Browser.value!(
          browser,
          "[...document.querySelectorAll('#{plot} .x-axis span')].map((tick) => tick.textContent)"
        )

      minutes =
        for <<_hour::binary-size(3), minute::binary>> <- ticks, do: String.to_integer(minute)

      assert length(minutes) in 5..6

      for {minute, next} <- Enum.zip(minutes, tl(minutes)),
          do: assert(next == rem(minute + 1, 60))
    end
  end

  test "paused, it says so when another window cannot be had" do
    {name, _port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)
    Browser.value!(browser, "document.querySelector('#pause').click()")
    answer!(browser, "Promise.reject(new TypeError())")
    Browser.value!(browser, ~s|document.querySelector('input[value="5m"]').click()|)
    Browser.await!(browser, "document.body.dataset.state === 'stale'")
    said = Browser.value!(browser, "document.querySelector('#banner').textContent")
    assert said =~ ~r/The server does not answer\..* Paused\./
    refute said =~ "Next try"
  end

  test "it does not ask while it is paused or hidden" do
    {name, _port, url} = serve!()
    traffic(name)
    browser = open!(url)
    Browser.await!(browser, @live)

    asked =
      "performance.getEntriesByType('resource').filter((one) => one.name.includes('report.json')).length"

    wait = "new Promise((done) => setTimeout(done, 6500))"
    online = "dispatchEvent(new Event('online'))"

    Browser.value!(browser, "document.querySelector('#pause').click()")
    before = Browser.value!(browser, asked)
    Browser.value!(browser, online)
    Browser.value!(browser, wait)
    assert Browser.value!(browser, asked) == before
    assert Browser.value!(browser, "document.querySelector('#status').textContent") =~ "paused"
    Browser.value!(browser, "document.querySelector('#pause').click()")
    Browser.await!(browser, "#{asked} > #{before}")

    hide = fn hidden ->
      Browser.value!(browser, """
      Object.defineProperty(document, "hidden", { configurable: true, get: () => #{hidden} });
      document.dispatchEvent(new Event("visibilitychange"));
      """)
    end

    Browser.await!(browser, @live)
    hide.(true)
    before = Browser.value!(browser, asked)
    Browser.value!(browser, online)
    Browser.value!(browser, wait)
    assert Browser.value!(browser, asked) == before
    hide.(false)
    Browser.await!(browser, "#{asked} > #{before}")
  end

  test "a browser signs in with user and password, or a bearer token as the password" do
    for rule <- [{:basic, "user", @token}, {:bearer, @token}] do
      rules = :ets.new(:rules, [:public])
      :ets.insert(rules, {:rule, rule})
      auth = fn -> :ets.lookup_element(rules, :rule, 2) end
      {name, _port, url} = serve!(port: 0, auth: auth)
      traffic(name)

      # Whoever has no credentials sees nothing.
      stranger = open!(url)
      status = "performance.getEntriesByType('navigation')[0].responseStatus"
      assert Browser.value!(stranger, status) == 401
      refute Browser.value!(stranger, "document.documentElement.outerHTML") =~ "embed"

      browser = Browser.open!()
      Browser.go!(browser, String.replace(url, "//", "//user:#{@token}@"))
      Browser.await!(browser, @live)
      assert length(cells(browser, "#methods")) == 4
      assert Browser.complaints(browser) == []

      # They change while the page is open.
      :ets.insert(rules, {:rule, {:bearer, "another"}})
      Browser.await!(browser, "document.body.dataset.state === 'denied'")

      assert Browser.value!(browser, "document.querySelector('#banner').textContent") =~
               "credentials"

      assert Browser.value!(browser, "document.querySelector('#banner button').textContent") ==
               "Sign in"
    end
  end
end
