defmodule DSPexTelemetry.Reporter.OpenMetricsTest do
  # Whatever definitions come, a scrape can be read, and has the same metrics in every format.
  # Not async: every instance sees every event, and no event may come between two scrapes.
  use ExUnit.Case, async: false

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.{StrictJSON, StrictOpenMetrics}

  @moduletag :capture_log

  # Debian's packages of Python are for Debian's Python.
  @python "/usr/bin/python3"
  @reader Path.expand("../../support/read_strictly.py", __DIR__)

  @rounds 40
  @formats [:text, :openmetrics]

  # Few enough that most definitions clash. The last are, with suffixes, what the library calls its own.
  @stems ~w(shop shop shop_x shop_x x dspex_session dspex_session_lifetime_seconds snakepit_worker_pool_size)
  @suffixes ~w(total created count sum bucket bytes seconds info)
  @kinds [:counter, :sum, :gauge, :last_value, :distribution, :summary]
  @numbers [0, 1, 0.25, 12.5, 1_000, 1.0e12, -1, -0.25, -1_000, -1.0e12]
  @bounds [[0.5, 10], [0, 1, 2.5], [1.001, 1.0e6], [-1, 10], [-0.5, 0], [-0.0, 1]]

  for seed <- 1..@rounds do
    test "round #{seed}: no name clashes with another, and what the format does not allow is counted" do
      for scrapes <- scrapes(unquote(seed)) do
        assert StrictOpenMetrics.faults(scrapes.openmetrics) == []
        lacks = length(samples(scrapes.text)) - length(samples(scrapes.openmetrics))
        assert lacks == left_out(scrapes.openmetrics)
        if lacks == 0, do: assert(names(scrapes.openmetrics) == names(scrapes.text))
      end
    end
  end

  @tag :servers
  @tag :tmp_dir
  test "Prometheus' own client for Python reads every scrape", %{tmp_dir: folder} do
    paths =
      for seed <- 1..(3 * @rounds),
          {scrapes, number} <- Enum.with_index(scrapes(seed)),
          format <- @formats do
        path = Path.join(folder, "#{seed}-#{number}.#{format}")
        File.write!(path, scrapes[format])
        path
      end

    assert faults(paths) == []
  end

  # So that the rounds above find what that client would.
  @tag :servers
  @tag :tmp_dir
  test "the rules of these tests are those of Prometheus' own client for Python", %{
    tmp_dir: folder
  } do
    histogram = "# HELP h h\n# TYPE h histogram\n"

    for {metrics, number} <-
          Enum.with_index([
            {"# HELP a a\n# TYPE a counter\na_total 1\n# HELP b b\n# TYPE b unknown\nb -1\n",
             true},
            {"# HELP a a\n# TYPE a counter\na_total -1\n", false},
            {"# HELP a a\n# TYPE a counter\na 1\n", false},
            {"# HELP a a\n# TYPE a counter\na_total 1\n# HELP a_created a\n# TYPE a_created gauge\na_created 1\n",
             false},
            {"# HELP a a\n# TYPE a unknown\na 1\n# HELP a_created a\n# TYPE a_created gauge\na_created 1\n",
             true},
            {"# HELP q q\n# TYPE q summary\nq{quantile=\"0.5\"} -1\nq_count 1\n", false},
            {"# HELP q q\n# TYPE q summary\nq_sum -1\nq_count 1\n", false},
            {"# HELP q q\n# TYPE q summary\nq_count 1\n", true},
            {histogram <>
               "h_bucket{le=\"-1.0\"} 0\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n", false},
            {histogram <> "h_bucket{le=\"-1.0\"} 0\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n", false},
            {histogram <> "h_bucket{le=\"-1.0\"} 0\nh_bucket{le=\"+Inf\"} 1\nh_created 1\n",
             true},
            {histogram <>
               "h_bucket{le=\"1.0\"} 0\nh_bucket{le=\"+Inf\"} 1\nh_sum -1\nh_count 1\n", false}
          ]) do
      {text, readable?} = metrics
      path = Path.join(folder, "#{number}.openmetrics")
      File.write!(path, text <> "# EOF\n")
      assert {text, faults([path]) == []} == {text, readable?}
      assert {text, StrictOpenMetrics.faults(text <> "# EOF\n") == []} == {text, readable?}
    end
  end

  defp faults(paths) do
    {output, 0} = System.cmd(@python, [@reader | paths])

    for {path, fault} when fault != nil <- Enum.zip(paths, StrictJSON.decode!(output)),
        do: {fault, File.read!(path)}
  end

  # What some instances expose, each in both formats.
  defp scrapes(seed) do
    :rand.seed(:exsss, {seed, 3, 1_000})
    event = [:openmetrics_test, :"event_#{System.unique_integer([:positive])}"]

    instances =
      for _instance <- 1..3,
          do:
            start!(
              metrics: for(_metric <- 1..(1 + :rand.uniform(15)), do: definition(event)),
              series_limit: pick([1, 2_000])
            )

    for _event <- 1..20,
        do: :telemetry.execute(event, %{v: pick(@numbers)}, %{t: pick(["a", "b\\\"\n#"])})

    for instance <- instances do
      scrapes = Map.new(@formats, &{&1, DSPexTelemetry.scrape(instance: instance, format: &1)})

      :ok = stop_supervised!({DSPexTelemetry, instance})
      scrapes
    end
  end

  defp pick(list), do: Enum.random(list)

  defp definition(event) do
    suffixes = for _suffix <- 1..pick([0, 1, 1, 2])//1, do: pick(@suffixes)
    name = Enum.map([pick(@stems) | suffixes], &String.to_atom/1)
    kind = pick(@kinds)

    reporter_options =
      case kind do
        :gauge -> [prometheus_type: :gauge]
        :distribution -> [buckets: pick(@bounds)]
        _other -> []
      end

    options = [
      event_name: event,
      measurement: :v,
      tags: pick([[], [:t]]),
      reporter_options: reporter_options
    ]

    apply(Telemetry.Metrics, if(kind == :gauge, do: :sum, else: kind), [name, options])
  end

  # The names of samples, without what only OpenMetrics has.
  defp samples(scrape) do
    metrics = for [_, name] <- Regex.scan(~r/^# TYPE (\S+)/m, scrape), do: name

    for line <- String.split(scrape, "\n", trim: true),
        not String.starts_with?(line, "#"),
        name = line |> String.split(["{", " "], parts: 2) |> hd(),
        name in metrics or not String.ends_with?(name, "_created"),
        name != "dspex_telemetry_samples_left_out",
        do: name
  end

  defp names(scrape), do: scrape |> samples() |> Enum.uniq() |> Enum.sort()

  defp left_out(scrape) do
    for [_line, count] <- Regex.scan(~r/^dspex_telemetry_samples_left_out\{.*\} (\d+)$/m, scrape),
        reduce: 0,
        do: (sum -> sum + String.to_integer(count))
  end
end
