defmodule DSPexTelemetry.Options.EnvironmentTest do
  # Not async: sets environment variables, and reads what is logged.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias DSPexTelemetry.Options
  alias DSPexTelemetry.Options.Environment

  @otlp "OTEL_EXPORTER_OTLP_"
  @metrics "OTEL_EXPORTER_OTLP_METRICS_"

  defp otlp(variables, given \\ []),
    do: Environment.complete(given, Options.OTLP.table(), Map.new(variables))

  test "without variables the address is the protocol's default" do
    assert otlp(%{}) == [url: "http://localhost:4318/v1/metrics", resource: %{}]
    assert otlp(%{"OTEL_EXPORTER_OTLP_ENDPOINT" => "", "OTEL_SERVICE_NAME" => " "}) == otlp(%{})
  end

  test "the endpoint of all signals gets the path of metrics, and that of metrics is as it is" do
    for {variables, url} <- [
          {%{"ENDPOINT" => "http://c:4318"}, "http://c:4318/v1/metrics"},
          {%{"ENDPOINT" => "http://c:4318/"}, "http://c:4318/v1/metrics"},
          {%{"ENDPOINT" => "https://c/otlp/"}, "https://c/otlp/v1/metrics"},
          {%{"ENDPOINT" => " http://c:4318\t"}, "http://c:4318/v1/metrics"},
          {%{"ENDPOINT" => "http://c:4318?x=1/"}, "http://c:4318/v1/metrics?x=1/"},
          {%{"ENDPOINT" => "http://c/otlp/?x=/?"}, "http://c/otlp/v1/metrics?x=/?"},
          {%{"METRICS_ENDPOINT" => "http://c:4318"}, "http://c:4318/"},
          {%{"METRICS_ENDPOINT" => "http://c:4318?x=/"}, "http://c:4318/?x=/"},
          {%{"METRICS_ENDPOINT" => " http://c/x?y=1 "}, "http://c/x?y=1"},
          {%{"METRICS_ENDPOINT" => "http://c/x", "ENDPOINT" => "http://d"}, "http://c/x"}
        ] do
      variables = for {name, value} <- variables, do: {@otlp <> name, value}
      assert otlp(variables)[:url] == url
    end
  end

  test "what is of metrics comes before what is of all signals" do
    for prefix <- [@otlp, @metrics] do
      variables = %{
        (@otlp <> "TIMEOUT") => "1",
        (@otlp <> "COMPRESSION") => "what",
        (prefix <> "TIMEOUT") => "2500",
        (prefix <> "COMPRESSION") => "none",
        (prefix <> "CERTIFICATE") => " /etc/ca.pem ",
        (prefix <> "HEADERS") => "Authorization=Bearer%20s3cret, X-Tenant = a ",
        (prefix <> "PROTOCOL") => " http/protobuf "
      }

      read = otlp(variables)
      assert read[:timeout] == 2_500
      assert read[:gzip] == false
      assert read[:cacertfile] == "/etc/ca.pem"
      assert read[:headers] == [{"authorization", "Bearer s3cret"}, {"x-tenant", "a"}]
    end
  end

  test "temporality, histograms and interval have OpenTelemetry's words" do
    for {preference, temporality} <- [
          {"cumulative", :cumulative},
          {"DELTA", :delta},
          {"LowMemory", :low_memory}
        ] do
      assert otlp([{@metrics <> "TEMPORALITY_PREFERENCE", preference}])[:temporality] ==
               temporality
    end

    for {aggregation, histogram} <- [
          {"explicit_bucket_histogram", :explicit},
          {"base2_exponential_bucket_histogram", :exponential}
        ] do
      variables = [{@metrics <> "DEFAULT_HISTOGRAM_AGGREGATION", aggregation}]
      assert otlp(variables)[:histogram] == histogram
    end

    # As far as the option goes.
    for interval <- [10, 5_000, 900_000, 86_400_000] do
      variables = [{"OTEL_METRIC_EXPORT_INTERVAL", " #{interval} "}]
      assert otlp(variables)[:interval] == interval
    end
  end

  test "a resource is made of attributes, the service's name, and the release" do
    attributes =
      {"OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment=pro%2Cd,empty="}

    assert otlp([attributes])[:resource] ==
             %{"service.name" => "a", "deployment.environment" => "pro,d", "empty" => ""}

    release = [{"RELEASE_NAME", "my_app"}, {"RELEASE_VSN", "1.2.3"}]

    assert otlp([attributes, {"OTEL_SERVICE_NAME", "b"} | release])[:resource] == %{
             "service.name" => "b",
             "service.version" => "1.2.3",
             "deployment.environment" => "pro,d",
             "empty" => ""
           }

    assert otlp(release)[:resource]["service.name"] == "my_app"
  end

  test "what is not understood is logged without its value and ignored" do
    for {name, value} <- [
          {@otlp <> "TIMEOUT", "10 s3cret"},
          {@metrics <> "TIMEOUT", "-1"},
          {@metrics <> "TIMEOUT", "600001"},
          {@otlp <> "COMPRESSION", "s3cret"},
          {@otlp <> "HEADERS", "s3cret"},
          {@otlp <> "HEADERS", "x-key=s3cret,host=foo"},
          {@otlp <> "HEADERS", "Content-Type=s3cret"},
          {@otlp <> "HEADERS", "x key=s3cret"},
          {@otlp <> "HEADERS", "x-key=s3crèt"},
          {@otlp <> "HEADERS", "x-key=s3cret%0Ax-other:%201"},
          {@otlp <> "HEADERS", "x-key=s3cret%C3%A8"},
          {@otlp <> "CERTIFICATE", "/s3cret\0"},
          {@metrics <> "TEMPORALITY_PREFERENCE", "s3cret"},
          {@metrics <> "DEFAULT_HISTOGRAM_AGGREGATION", "s3cret"},
          {"OTEL_METRIC_EXPORT_INTERVAL", "1m"},
          {"OTEL_METRIC_EXPORT_INTERVAL", "86400001"},
          {"OTEL_RESOURCE_ATTRIBUTES", "=s3cret"},
          {"OTEL_RESOURCE_ATTRIBUTES", attributes(129)}
        ] do
      log = capture_log(fn -> assert otlp([{name, value}]) == otlp(%{}) end)
      assert log =~ "Environment variable #{name} is not understood and ignored"
      refute log =~ "s3cret"
    end
  end

  test "a resource is taken from as many variables as attributes are allowed, and of those given first" do
    full = [
      {"OTEL_RESOURCE_ATTRIBUTES", attributes(127)},
      {"OTEL_SERVICE_NAME", "s"},
      {"RELEASE_VSN", "1"}
    ]

    log = capture_log(fn -> assert map_size(otlp(full)[:resource]) == 128 end)
    assert log =~ "RELEASE_VSN is not understood"

    log =
      capture_log(fn ->
        assert otlp(full, resource: %{"service.name": "mine", zone: "z", host: "h"})[:resource] ==
                 %{
                   :"service.name" => "mine",
                   :zone => "z",
                   :host => "h",
                   "service.version" => "1"
                 }
      end)

    assert log =~ "OTEL_RESOURCE_ATTRIBUTES is not understood"
    refute log =~ "s3cret"
  end

  test "an endpoint that is none, and another protocol, are refused" do
    for name <- [@otlp <> "ENDPOINT", @metrics <> "ENDPOINT"] do
      message = ~r/^environment variable #{name} must be an http or https address/
      error = assert_raise ArgumentError, message, fn -> otlp([{name, "ftp://u:s3cret@h"}]) end
      refute error.message =~ "s3cret"
    end

    message = ~r/OTEL_EXPORTER_OTLP_PROTOCOL must be http.protobuf, .*, got: "grpc"/
    assert_raise ArgumentError, message, fn -> otlp([{@otlp <> "PROTOCOL", "grpc"}]) end
  end

  defp attributes(count), do: Enum.map_join(1..count, ",", &"s3cret#{&1}=#{&1}")

  describe "an instance" do
    setup do
      variables = %{
        "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://collector:4318",
        "OTEL_EXPORTER_OTLP_HEADERS" => "x-key=s3cret",
        "OTEL_EXPORTER_OTLP_TIMEOUT" => "3000",
        "OTEL_RESOURCE_ATTRIBUTES" => "service.name=a,zone=b"
      }

      System.put_env(variables)
      on_exit(fn -> Enum.each(variables, fn {name, _value} -> System.delete_env(name) end) end)
    end

    test "with url: :env takes from them what it is not given" do
      given = [url: :env, timeout: 500, resource: %{"zone" => "c"}]
      otlp = Options.validate!(otlp: given).otlp
      assert otlp.url == "http://collector:4318/v1/metrics"
      assert otlp.timeout == 500
      assert %{"service.name" => "a", "zone" => "c"} = otlp.resource
      # A secret stays one.
      assert otlp.headers.() == [{"x-key", "s3cret"}]
    end

    test "takes no attribute from them that an atom names" do
      otlp = Options.validate!(otlp: [url: :env, resource: %{zone: "c"}]).otlp
      assert %{"service.name" => "a", "zone" => "c"} = otlp.resource
    end

    test "with values that the option would not take starts without them" do
      System.put_env("OTEL_EXPORTER_OTLP_HEADERS", "host=foo")
      System.put_env("OTEL_RESOURCE_ATTRIBUTES", attributes(129))

      log =
        capture_log(fn ->
          otlp = Options.validate!(otlp: [url: :env]).otlp
          assert {otlp.headers, otlp.resource} == {[], %{}}
        end)

      for name <- ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES"],
          do: assert(log =~ "Environment variable #{name} is not understood and ignored")
    end

    test "with an address does not look at them" do
      otlp = Options.validate!(otlp: [url: "http://other/v1/metrics"]).otlp
      assert {otlp.timeout, otlp.headers, otlp.resource} == {10_000, [], %{}}
    end
  end
end
