defmodule Bridge.Servers.Prometheus do
  @moduledoc "A Prometheus that scrapes every other second, and the questions to ask of it."

  alias Bridge.{JSON, Servers}
  alias Bridge.Servers.{HTTP, Program, ScrapeProxy}

  # A scrape may take as long, which on a busy machine it sometimes does.
  @scrape_interval "2s"
  @evaluation_interval "1s"

  @own_labels ["__name__", "instance", "job"]

  @type labels :: %{String.t() => String.t()}
  @typedoc "A native histogram has its count and sum, and its buckets as `{lower, upper, count}`."
  @type histogram :: %{count: number(), sum: number(), buckets: [{number(), number(), number()}]}
  @type value :: float() | :nan | :infinity | :negative_infinity | histogram()
  @type sample :: %{labels: labels(), value: value(), at: float()}

  @doc """
  Starts one under the test's supervisor.

  Options:

    * `:name` - of its folder
    * `:target` - `"host:port"` to scrape
    * `:proxy` - the `Bridge.Servers.ScrapeProxy` to scrape it through
    * `:features` - names for `--enable-feature`
    * `:rules` - rule files
    * `:alertmanager` - the address of one
  """
  @spec start(keyword()) :: Program.t()
  def start(options) do
    folder = Servers.new_folder(options[:name])
    File.write!(Path.join(folder, "prometheus.yml"), JSON.encode!(config(options)))

    Program.start(
      name: options[:name],
      folder: folder,
      command:
        [
          "prometheus",
          "--config.file=#{folder}/prometheus.yml",
          "--storage.tsdb.path=#{folder}/data",
          "--web.listen-address=127.0.0.1:0",
          "--rules.alert.resend-delay=1s",
          # Scrapes that fail are logged at no other level.
          "--log.level=debug"
        ] ++ features(Keyword.get(options, :features, []))
    )
  end

  # YAML takes JSON for its own.
  defp config(options) do
    %{
      global: %{scrape_interval: @scrape_interval, evaluation_interval: @evaluation_interval},
      rule_files: Keyword.get(options, :rules, []),
      alerting: %{alertmanagers: alertmanagers(options[:alertmanager])},
      scrape_configs: [scrape(options[:target], options[:proxy])]
    }
  end

  defp scrape(target, %ScrapeProxy{url: url}),
    do: target |> scrape(nil) |> Map.put(:proxy_url, url)

  defp scrape(target, nil), do: %{job_name: "bridge", static_configs: [%{targets: [target]}]}

  defp alertmanagers(nil), do: []
  defp alertmanagers("http://" <> address), do: [%{static_configs: [%{targets: [address]}]}]

  defp features([]), do: []
  defp features(names), do: ["--enable-feature=" <> Enum.join(names, ",")]

  @doc "The samples of an expression, now."
  @spec query(Program.t(), String.t()) :: [sample()]
  def query(prometheus, expression) do
    for result <- ask(prometheus, "query", query: expression)["result"], do: sample(result)
  end

  @doc "The value of the only sample of an expression, or nil if there is none."
  @spec value(Program.t(), String.t()) :: value() | nil
  def value(prometheus, expression) do
    case query(prometheus, expression) do
      [%{value: value}] -> value
      [] -> nil
    end
  end

  @doc "The values of an expression, now, by the labels that are not Prometheus' own."
  @spec values(Program.t(), String.t()) :: %{labels() => value()}
  def values(prometheus, expression) do
    for %{labels: labels, value: value} <- query(prometheus, expression), into: %{} do
      {Map.drop(labels, @own_labels), value}
    end
  end

  @doc "The bounds of the buckets of a metric, the least one first."
  @spec bounds(Program.t(), String.t()) :: [number() | :infinity]
  def bounds(prometheus, metric) do
    samples = query(prometheus, metric)
    Enum.sort(for %{labels: %{"le" => bound}} <- samples, uniq: true, do: bound(bound))
  end

  @doc "The bound in a label `le`; infinity is above every number, as atoms are."
  @spec bound(String.t()) :: number() | :infinity
  def bound(text), do: number(text)

  @doc "The exemplars in the last hour of the series that an expression takes."
  @spec exemplars(Program.t(), String.t()) :: [
          %{series: labels(), labels: labels(), value: value()}
        ]
  def exemplars(prometheus, expression) do
    now = System.os_time(:second)
    times = [start: now - 3_600, end: now + 60]

    for %{"seriesLabels" => series, "exemplars" => exemplars} <-
          ask(prometheus, "query_exemplars", [query: expression] ++ times),
        %{"labels" => labels, "value" => value} <- exemplars do
      %{series: series, labels: labels, value: number(value)}
    end
  end

  @doc "What it says of its only target."
  @spec target(Program.t()) :: %{String.t() => term()}
  def target(prometheus) do
    [target] = ask(prometheus, "targets")["activeTargets"]
    target
  end

  @doc "Its rules, from all groups."
  @spec rules(Program.t()) :: [%{String.t() => term()}]
  def rules(prometheus) do
    Enum.flat_map(ask(prometheus, "rules")["groups"], & &1["rules"])
  end

  @doc "Returns when a scrape that began after this call is stored."
  @spec await_scrape(Program.t()) :: :ok
  def await_scrape(prometheus) do
    since = System.os_time(:millisecond) / 1_000

    Servers.await!("a scrape", fn ->
      at = value(prometheus, "timestamp(up)")
      at && at > since
    end)

    :ok
  end

  @doc "Returns when all rules have been evaluated since this call."
  @spec await_evaluation(Program.t()) :: :ok
  def await_evaluation(prometheus) do
    since = DateTime.utc_now()

    Servers.await!("an evaluation of the rules", fn ->
      Enum.all?(rules(prometheus), fn %{"lastEvaluation" => at} ->
        {:ok, at, _offset} = DateTime.from_iso8601(at)
        DateTime.compare(at, since) == :gt
      end)
    end)

    :ok
  end

  @doc """
  The lines of its log that are warnings or worse, or say that a scrape failed; but for one that took
  too long, which is the machine's fault.
  """
  @spec complaints(Program.t()) :: [String.t()]
  def complaints(prometheus) do
    for line <- prometheus |> Program.log() |> String.split("\n"),
        line =~ ~r/level=(warn|error)|msg="(Scrape|Append) failed"/,
        not (line =~ ~r/msg="Scrape failed" err=.*context deadline exceeded/),
        do: line
  end

  defp ask(%Program{url: url}, what, parameters \\ []) do
    %{"status" => "success", "data" => data} = HTTP.json!("#{url}/api/v1/#{what}", parameters)
    data
  end

  defp sample(%{"metric" => labels, "value" => [at, value]}) do
    %{labels: labels, value: number(value), at: at}
  end

  defp sample(%{"metric" => labels, "histogram" => [at, histogram]}) do
    buckets =
      for [_inclusive, lower, upper, count] <- Map.get(histogram, "buckets", []) do
        {number(lower), number(upper), number(count)}
      end

    value = %{count: number(histogram["count"]), sum: number(histogram["sum"]), buckets: buckets}
    %{labels: labels, value: value, at: at}
  end

  defp number("NaN"), do: :nan
  defp number("+Inf"), do: :infinity
  defp number("-Inf"), do: :negative_infinity

  defp number(text) do
    {number, ""} = Float.parse(text)
    number
  end
end
