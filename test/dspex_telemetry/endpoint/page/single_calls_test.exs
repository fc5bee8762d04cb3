defmodule DSPexTelemetry.Endpoint.Page.SingleCallsTest do
  # The live page in a real browser, Debian's chromium.
  use ExUnit.Case, async: true

  import DSPexTelemetry.PageTesting
  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Browser

  @moduletag :servers
  @moduletag timeout: 180_000

  @live "document.body.dataset.state === 'live'"

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
      for {row, text} <- Enum.zip(rows, Enum.reverse(hostile_texts())) do
        assert row["message"] == seen.(String.trim(text))
        assert row["name"] == "Doc." <> seen.(text)
      end

      titles =
        "[...document.querySelectorAll('#{panel} tbody .ids span:first-child')].map((id) => id.title)"

      assert Browser.value!(browser, titles) ==
               for(text <- Enum.reverse(hostile_texts()), do: "session_id " <> seen.(text))

      titles =
        "[...document.querySelectorAll('#{panel} tbody .message')].map((cell) => cell.title)"

      assert Browser.value!(browser, titles) == Enum.map(Enum.reverse(hostile_texts()), seen)
      assert Browser.value!(browser, "document.querySelectorAll('#{panel} img').length") == 0
    end

    assert Browser.value!(browser, "document.querySelectorAll('script').length") == 1
    assert Browser.complaints(browser) == []
  end
end
