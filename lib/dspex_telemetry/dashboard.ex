defmodule DSPexTelemetry.Dashboard do
  @schema_version 41
  @title "DSPex Bridge Observability"
  @uid "dspex-telemetry"

  @moduledoc """
  The Grafana dashboard, made from tables of panels.

  `mix dspex_telemetry.dashboard` writes it out; `priv/grafana/dspex_telemetry.json` is what it writes without
  options, and a test holds the file to that.

  It is in Grafana's classic schema, version #{@schema_version}, which Grafana 11.6 and 12.0 write and later ones read. Its
  queries are PromQL over the metrics of [the reference](reference.md), and need a Prometheus of version
  2.29 or newer, or what answers as one.

  ## Options

    * `:prefix` - what stands before the name of every metric of this library, for those who rename them when they
      are scraped; `""` by default
    * `:datasource` - the uid or the name of a data source, instead of a variable that chooses one
    * `:title`, `:uid` - of the dashboard
    * `:runbooks` - the address of `docs/runbooks.md` or of its page, to which failing methods link; without it there
      are no links
    * `:histograms` - `:classic` (the default) for series such as `…_bucket`, or `:native` for a Prometheus that keeps
      native histograms only
  """

  alias DSPexTelemetry.Dashboard.{JSON, Layout, Panel, Query, Rows, Variables}

  @type option ::
          {:prefix, String.t()}
          | {:datasource, String.t()}
          | {:title, String.t()}
          | {:uid, String.t()}
          | {:runbooks, String.t()}
          | {:histograms, :classic | :native}

  @doc """
  The dashboard as JSON, the same text for the same options.

  Raises `ArgumentError` for an option that is not allowed.

  ## Examples

      iex> json = DSPexTelemetry.Dashboard.render(title: "Bridge", prefix: "acme_")
      iex> json =~ ~S("title": "Bridge") and json =~ "acme_dspex_bridge_call_method_total"
      true
  """
  @spec render([option()]) :: String.t()
  def render(options \\ []) do
    {:ok, options} = validate!(options)
    context = context(options)

    JSON.encode(%{
      uid: options.uid,
      title: options.title,
      description:
        "Method calls, tools, sessions and workers of a DSPex/Snakepit bridge, as dspex_telemetry counts them.",
      tags: ["dspex", "snakepit", "python"],
      schemaVersion: @schema_version,
      version: 1,
      editable: true,
      # A crosshair shared by all graphs.
      graphTooltip: 1,
      fiscalYearStartMonth: 0,
      timezone: "browser",
      time: %{from: "now-1h", to: "now"},
      timepicker: %{},
      refresh: "30s",
      weekStart: "",
      links: [],
      annotations: %{list: Variables.render_annotations(context)},
      templating: %{list: Variables.render(context)},
      panels: Layout.render(rows(), context)
    })
  end

  @doc """
  All queries of panels and annotations: the panel's title, the query's reference, and its text with
  Grafana's variables (`$job`, `$instance`, `$class`, `$method`, `$__rate_interval`, `$__range`).

  Takes the options of `render/1`, and `conditional: false` for those queries only that have a result
  wherever a bridge is in use: one for which an alert must fire is not among them.

  ## Examples

      iex> [{"Calls per second", "A", expression} | _] = DSPexTelemetry.Dashboard.expressions()
      iex> expression
      ~S|sum(rate(dspex_bridge_call_method_total{job=~"$job", instance=~"$instance", | <>
        ~S|python_class=~"$class", method=~"$method"}[$__rate_interval]))|
  """
  @spec expressions([option() | {:conditional, boolean()}]) :: [
          {String.t(), String.t(), String.t()}
        ]
  def expressions(options \\ []) do
    {conditional, options} = Keyword.pop(options, :conditional, true)
    {:ok, options} = validate!(options)
    context = context(options)

    panels =
      for row <- rows(),
          panel <- row.panels,
          {ref, target} <- Panel.referenced(panel),
          conditional or target.conditional == nil do
        {panel.title, ref, Query.to_text(target.expr, context)}
      end

    annotations =
      for annotation <- Variables.annotations(), conditional do
        {"Annotation: " <> annotation.name, "Anno", Query.to_text(annotation.expr, context)}
      end

    panels ++ annotations
  end

  @doc """
  The options in full, or a sentence about one that is not allowed.

      iex> {:ok, options} = DSPexTelemetry.Dashboard.validate(prefix: "acme_")
      iex> options.prefix
      "acme_"
      iex> {:error, _sentence} = DSPexTelemetry.Dashboard.validate(prefix: 1)
  """
  @spec validate([option()]) :: {:ok, map()} | {:error, String.t()}
  def validate(options) do
    Enum.reduce_while(options, {:ok, defaults()}, fn {name, value}, {:ok, valid} ->
      if Map.has_key?(valid, name) do
        case check(name, value) do
          :ok ->
            {:cont, {:ok, Map.put(valid, name, value)}}

          {:error, allowed} ->
            {:halt, {:error, "#{name} must be #{allowed}, not #{inspect(value)}"}}
        end
      else
        {:halt, {:error, "#{inspect(name)} is not an option of the dashboard"}}
      end
    end)
  end

  defp validate!(options) do
    with {:error, problem} <- validate(options), do: raise(ArgumentError, problem)
  end

  defp defaults,
    do: %{
      prefix: "",
      datasource: nil,
      title: @title,
      uid: @uid,
      runbooks: nil,
      histograms: :classic
    }

  defp check(:prefix, value) do
    allowed(
      is_binary(value) and value =~ ~r/\A([a-zA-Z_:][a-zA-Z0-9_:]*)?\z/,
      "the beginning of a metric's name: letters, digits, _ and :, no digit first"
    )
  end

  defp check(:uid, value) do
    allowed(
      is_binary(value) and value =~ ~r/\A[a-zA-Z0-9_-]{1,40}\z/,
      "1 to 40 letters, digits, - and _"
    )
  end

  defp check(:runbooks, value) do
    allowed(
      value == nil or (is_binary(value) and value =~ ~r{\Ahttps?://[^\s#]+\z}),
      "an address that begins with http:// or https:// and has no #"
    )
  end

  defp check(:datasource, value), do: allowed(value == nil or text?(value), "a uid or a name")
  defp check(:title, value), do: allowed(text?(value), "some text")

  defp check(:histograms, value),
    do: allowed(value in [:classic, :native], ":classic or :native")

  defp text?(value), do: is_binary(value) and String.valid?(value) and String.trim(value) != ""

  defp allowed(true, _what), do: :ok
  defp allowed(false, what), do: {:error, what}

  defp context(options) do
    %{
      prefix: options.prefix,
      histograms: options.histograms,
      runbooks: options.runbooks,
      datasource: %{type: "prometheus", uid: options.datasource || "${datasource}"},
      fixed_datasource: options.datasource != nil
    }
  end

  defp rows do
    [Rows.Overview.row()] ++
      Rows.Calls.rows() ++
      [
        Rows.Saturation.row(),
        Rows.Sessions.row(),
        Rows.RoutingAndCaching.row(),
        Rows.Snakepit.row(),
        Rows.Usage.row(),
        Rows.Errors.row(),
        Rows.OwnHealth.row()
      ]
  end
end
