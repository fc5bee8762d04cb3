# Makes a picture of the live page with Chromium, of whatever is served:
#
#     bin/demo --seconds 180 --http 9568 --serve
#     MIX_ENV=test mix run --no-start test/support/page_screenshot.exs http://127.0.0.1:9568/ docs/images/page.png
#
# Then may come: light or dark, the width and height in pixels, and the window, as in
# `dark 390 844 5m`. Without a height it is the whole page.

alias DSPexTelemetry.Browser

[url, file | rest] = System.argv()

[scheme, width, height, window] =
  rest ++ Enum.drop(["light", "1200", "1000", "since_start"], length(rest))

{width, height} = {String.to_integer(width), String.to_integer(height)}

browser = Browser.open!(on_end: fn ended -> System.at_exit(fn _status -> ended.() end) end)
Browser.size!(browser, width, max(height, 800), mobile: width < 700)
Browser.scheme!(browser, scheme)
Browser.go!(browser, url)
Browser.await!(browser, "document.body.dataset.state === 'live'")
before = Browser.value!(browser, "document.body.dataset.report")
Browser.value!(browser, ~s|document.querySelector('input[value="#{window}"]').click()|)

unless window == "last_hour",
  do: Browser.await!(browser, "document.body.dataset.report !== '#{before}'")

File.write!(file, Browser.screenshot!(browser, whole: height == 0))
for complaint <- Browser.complaints(browser), do: IO.puts(:stderr, inspect(complaint))
