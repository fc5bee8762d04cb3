defmodule DSPexTelemetry.ExpositionTest do
  # Not async: every instance sees every event, and these tests look at all that a scrape has.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{Emit, Exposition}

  doctest DSPexTelemetry.Exposition

  @stop [:dspex, :bridge, :call_method, :stop]

  defp stop(metadata, duration_us \\ 1_000) do
    metadata = Map.merge(%{method: "m", python_class: "C", success: true}, metadata)
    :telemetry.execute(@stop, %{duration: duration_us * 1_000}, metadata)
  end

  defp scrape(instance, format \\ :openmetrics, options \\ []),
    do: DSPexTelemetry.scrape([instance: instance, format: format] ++ options)

  # The labels of exemplars of a histogram.
  defp exemplars(instance, histogram \\ "dspex_bridge_call_method_duration") do
    ~r/^#{histogram}_bucket\{.*\} \d+ # \{(.*)\} /m
    |> Regex.scan(scrape(instance), capture: :all_but_first)
    |> List.flatten()
  end

  # A decimal of three places is hardly ever a float, and its product with 1,000 hardly ever the integer.
  test "bounds of buckets are written as they were given, to three decimals" do
    for thousandths <- Enum.chunk_every(1..9_999, 200) do
      instance =
        start!(buckets: %{dspex_tools_call_duration: Enum.map(thousandths, &(&1 / 1_000))})

      Emit.tool_call(%{tool_name: "t", caller: :python}, fn -> :ok end)

      bounds =
        Regex.scan(~r/^dspex_tools_call_duration_bucket\{.*le="(.*?)"/m, scrape(instance, :text))

      assert for([_line, bound] <- bounds, do: bound) ==
               Enum.map(thousandths, &decimal/1) ++ ["+Inf"]

      :ok = stop_supervised!({DSPexTelemetry, instance})
    end
  end

  defp decimal(thousandths) do
    fraction = thousandths |> rem(1_000) |> to_string() |> String.pad_leading(3, "0")
    "#{div(thousandths, 1_000)}.#{fraction}" |> String.trim_trailing("0") |> String.trim(".")
  end

  describe "exemplars" do
    test "have what the metadata says of trace, span and session" do
      instance = start!()
      stop(%{session_id: "s-1", trace_id: 0xABC, span_id: "0000000000000def"})

      assert exemplars(instance) == [
               ~s(trace_id="00000000000000000000000000000abc",) <>
                 ~s(span_id="0000000000000def",session_id="s-1")
             ]
    end

    test "are kept of exceptions, tools and creations as well" do
      instance = start!()
      metadata = %{method: "raises", python_class: "C", session_id: :of_an_exception}
      catch_error(Emit.call_method(metadata, fn -> raise "no" end))
      Emit.tool_call(%{tool_name: "t", caller: :python, session_id: "of a tool"}, fn -> :ok end)
      Emit.create_instance(%{python_class: "C", trace_id: "of a creation"}, fn -> {:ok, "r"} end)
      assert exemplars(instance) == [~s(session_id="of_an_exception")]
      assert exemplars(instance, "dspex_tools_call_duration") == [~s(session_id="of a tool")]

      assert exemplars(instance, "dspex_bridge_create_instance_duration") ==
               [~s(trace_id="of a creation")]
    end

    test "are the slow and the fast, each in its bucket, the latest of a slice" do
      instance = start!(slice: 3_600_000)
      for {session, us} <- [a: 700, b: 900_000, c: 701], do: stop(%{session_id: session}, us)
      # The third is in the range of the first, so it is not looked at.
      assert exemplars(instance) == [~s(session_id="a"), ~s(session_id="b")]
    end

    test "need something that they can be found by" do
      instance = start!()

      for {value, n} <- Enum.with_index([nil, "", self(), %{}, [1], -1, 1.5, 2 ** 200]) do
        stop(%{trace_id: value, span_id: value}, 1_000 * 2 ** n)
      end

      stop(%{session_id: String.duplicate("x", 200)}, 7)
      assert exemplars(instance) == []
      assert DSPexTelemetry.attached?(instance: instance)
      assert %{count: 9} = hd(DSPexTelemetry.report(instance: instance).operations)
    end

    test "are in no text of version 0.0.4" do
      instance = start!()
      stop(%{session_id: "s-1"})
      refute scrape(instance, :text) =~ "s-1"
      assert scrape(instance, :protobuf) =~ "s-1"
    end
  end

  test "a label of ten megabytes is cut, and one of other bytes is made text, in every format" do
    instance = start!()
    long = String.duplicate("é", 5_000_000)
    stop(%{method: long, python_class: <<"a", 0, 255, "b">>})

    for format <- [:text, :openmetrics, :protobuf] do
      scrape = scrape(instance, format)
      assert byte_size(scrape) < 100_000
      assert scrape =~ String.duplicate("é", 128)
      refute scrape =~ String.duplicate("é", 129)
      assert scrape =~ <<"a", 0, "\u{FFFD}b">>
    end
  end

  test "a scrape that is still held does not change when the next one comes" do
    instance = start!()
    stop(%{method: "first"})
    first = scrape(instance)
    copy = :binary.copy(first)

    for n <- 1..20 do
      stop(%{method: "method #{n}"})
      assert scrape(instance) =~ "method #{n}"
    end

    assert first == copy
  end

  test "scrapes of several processes at once are whole" do
    instance = start!()
    for n <- 1..200, do: stop(%{method: "method #{n}"})

    1..40
    |> Task.async_stream(fn _scrape -> scrape(instance) end, max_concurrency: 8)
    |> Enum.each(fn {:ok, text} ->
      assert String.ends_with?(text, "# EOF\n")
      assert length(Regex.scan(~r/call_method_duration_count/, text)) == 200
    end)
  end

  test "what counts since when is told if it is asked for" do
    instance = start!()
    stop(%{})
    refute scrape(instance) =~ "_duration_created"
    text = scrape(instance, :openmetrics, created: true)

    [_line, seconds] =
      Regex.run(~r/^dspex_bridge_call_method_duration_created\{.*\} (.*)$/m, text)

    assert_in_delta String.to_float(seconds), System.system_time(:second), 60
  end

  test "options that are not allowed are refused" do
    for {option, message} <- [
          {[format: "text"],
           ~s(option :format must be :text, :openmetrics or :protobuf, got: "text")},
          {[created: 1], "option :created must be true or false, got: 1"},
          {[other: 1], "unknown option :other, see the function's documentation"}
        ] do
      assert_raise ArgumentError, message, fn -> DSPexTelemetry.scrape(option) end
    end

    assert Exposition.content_type(:openmetrics) =~ "version=1.0.0"
  end
end
