defmodule DSPexTelemetry.Endpoint.Page.RefreshTest do
  # The live page in a real browser, Debian's chromium.
  use ExUnit.Case, async: true

  import DSPexTelemetry.PageTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Browser

  @moduletag :servers
  @moduletag timeout: 180_000

  @token "s3cr3t-t0ken"
  @live "document.body.dataset.state === 'live'"

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
