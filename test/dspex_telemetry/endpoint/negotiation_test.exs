defmodule DSPexTelemetry.Endpoint.NegotiationTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.Endpoint.Negotiation
  alias DSPexTelemetry.Exposition

  @delimited "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

  @clients [
    {"curl", "*/*", :text},
    {"a browser",
     "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
     :text},
    {"Prometheus 2.42",
     "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75," <>
       "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", :openmetrics},
    {"Prometheus 2.42 with native histograms",
     @delimited <>
       ",application/openmetrics-text;version=1.0.0;q=0.8," <>
       "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
     :protobuf},
    {"Prometheus 3",
     "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5," <>
       "application/openmetrics-text;version=0.0.1;q=0.4," <>
       "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
     :openmetrics},
    {"Prometheus 3 with native histograms",
     @delimited <>
       ";q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5," <>
       "application/openmetrics-text;version=0.0.1;q=0.4," <>
       "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
     :protobuf},
    {"Prometheus 3 that prefers the text format",
     "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5," <>
       "application/openmetrics-text;version=1.0.0;q=0.4,*/*;q=0.1", :text},
    {"VictoriaMetrics", "text/plain;version=0.0.4;q=1,*/*;q=0.1", :text},
    {"the OpenTelemetry collector",
     "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4," <>
       "text/plain;version=0.0.4;q=0.3,*/*;q=0.2", :openmetrics}
  ]

  for {client, accept, format} <- @clients do
    test "#{client} gets #{format}" do
      expected = {unquote(format), Exposition.content_type(unquote(format))}
      assert Negotiation.format([unquote(accept)]) == expected
    end
  end

  @accepted [
    # Without a wish, the text format.
    {[], :text},
    {[""], :text},
    {["  ,  , "], :text},
    # The most specific range counts, not the most liked one.
    {["application/openmetrics-text;q=0.9, text/plain;q=0.1, */*"], :protobuf},
    {["text/plain;q=0.4, text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.5"],
     :text},
    {["*/*;q=0.9, application/openmetrics-text;q=0.1"], :text},
    {["text/*;q=0.3, application/*;q=0.7"], :openmetrics},
    {["text/*;q=0.8, application/*;q=0.7"], :text},
    # Not wanted at all.
    {["text/plain;q=0, */*"], :openmetrics},
    {["text/plain;q=0.0, application/openmetrics-text;q=0.000, */*;q=0.001"], :protobuf},
    {["text/plain;q=0"], :text},
    {["*/*;q=0"], :text},
    # Nothing that there is.
    {["text/html"], :text},
    {["application/json"], :text},
    {["application/openmetrics-text;version=2.0.0"], :text},
    {["text/plain;version=1.0.0, application/openmetrics-text;q=0.1"], :openmetrics},
    # A type without its version is any version.
    {["application/openmetrics-text"], :openmetrics},
    {["text/plain"], :text},
    {["text/plain;charset=UTF-8"], :text},
    {["text/plain;charset=latin1, application/openmetrics-text;q=0.1"], :openmetrics},
    # Of protobuf there are many messages and encodings.
    {["application/vnd.google.protobuf"], :text},
    {["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"], :text},
    {["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text"],
     :text},
    {["application/vnd.google.protobuf;proto=other.Message;encoding=delimited"], :text},
    {[@delimited], :protobuf},
    # The first of several that are liked equally.
    {["application/openmetrics-text, text/plain"], :openmetrics},
    {["text/plain, application/openmetrics-text"], :text},
    {[@delimited <> ", application/openmetrics-text;version=1.0.0;charset=utf-8"], :protobuf},
    {["*/*, application/openmetrics-text"], :openmetrics},
    # Spaces, case, quotes, several headers.
    {["  APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.9 ,text/plain;q=0.8"],
     :openmetrics},
    {["text/plain;q=0.5", "application/openmetrics-text"], :openmetrics},
    {["\ttext/plain\t;\tq=0.5\t,\tapplication/openmetrics-text"], :openmetrics},
    # Malformed ranges are skipped.
    {["application/openmetrics-text;q=2, text/plain;q=0.1"], :text},
    {["application/openmetrics-text;q=1.001, text/plain;q=0.1"], :text},
    {["application/openmetrics-text;q=-1, text/plain;q=0.1"], :text},
    {["application/openmetrics-text;q=0.1234, text/plain;q=0.1"], :text},
    {["application/openmetrics-text;q=, text/plain;q=0.1"], :text},
    {["application/openmetrics-text;q=nan, text/plain;q=0.1"], :text},
    {["/, ;, =, */, /*, ;q=1, openmetrics-text, application/openmetrics-text;;;q=0.3"],
     :openmetrics},
    {["application/openmetrics-text/x"], :text},
    {["*"], :text},
    {["\xff\xfe/\xff;\xff=\xff", "application/openmetrics-text"], :openmetrics},
    {["application/openmetrics-text;" <> String.duplicate("a=b;", 3_000)], :openmetrics},
    {[String.duplicate("a/b,", 5_000) <> "application/openmetrics-text"], :text}
  ]

  for {accept, format} <- @accepted do
    test "Accept #{inspect(accept, printable_limit: 120)} is #{format}" do
      expected = {unquote(format), Exposition.content_type(unquote(format))}
      assert Negotiation.format(unquote(accept)) == expected
    end
  end

  test "who takes OpenMetrics 0.0.1 alone gets it under that version" do
    assert Negotiation.format(["application/openmetrics-text;version=0.0.1"]) ==
             {:openmetrics, "application/openmetrics-text; version=0.0.1; charset=utf-8"}

    assert {:openmetrics, "application/openmetrics-text; version=0.0.1" <> _} =
             Negotiation.format([
               "application/openmetrics-text;version=0.0.1;q=0.6,application/openmetrics-text;q=0.5"
             ])
  end

  @encodings [
    {[], :identity},
    {[""], :identity},
    {["gzip"], :gzip},
    {["x-gzip"], :gzip},
    {["GZip"], :gzip},
    {["gzip, deflate, br"], :gzip},
    {["deflate, br"], :identity},
    {["gzip;q=0"], :identity},
    {["gzip;q=0.000"], :identity},
    {["gzip;q=0.001"], :gzip},
    {["gzip;q=0, *"], :identity},
    {["*"], :gzip},
    {["*;q=0"], :identity},
    {["identity"], :identity},
    {["identity, gzip;q=0.5"], :identity},
    {["identity;q=0.5, gzip"], :gzip},
    {["identity;q=0.5, gzip;q=0.5"], :gzip},
    {["identity;q=0"], :identity},
    {["identity;q=0, gzip"], :gzip},
    {["gzip;q=2"], :identity},
    {["gzip;q=x"], :identity},
    {["gzipped"], :identity},
    {["br", "gzip"], :gzip},
    {["\xff, gzip ; q = 1"], :gzip}
  ]

  for {accept_encoding, encoding} <- @encodings do
    test "Accept-Encoding #{inspect(accept_encoding)} is #{encoding}" do
      assert Negotiation.encoding(unquote(accept_encoding)) == unquote(encoding)
    end
  end
end
