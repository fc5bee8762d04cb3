defmodule DSPexTelemetry.Endpoint.Page.BrowserTest do
  # The live page in a real browser, Debian's chromium.
  use ExUnit.Case, async: true

  import DSPexTelemetry.PageTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Browser

  @moduletag :servers
  @moduletag timeout: 180_000

  @script "<script>alert(1)</script>"
  @live "document.body.dataset.state === 'live'"

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
end
