defmodule DSPexTelemetry.Dashboard.Variables do
  @moduledoc false
  # The variables at the top of the dashboard, and the events that are marked in all graphs.

  alias DSPexTelemetry.Dashboard.{Alerts, Query}

  # The labels of Query's scopes, each among the values that the variables before it leave.
  @calls "dspex_bridge_call_method_total"
  @queries [
    {"job", "Job", "Prometheus jobs that have instances of the library.",
     ~S(dspex_telemetry_build_info), "job"},
    {"instance", "Instance", "Instances of these jobs.",
     ~S(dspex_telemetry_build_info{job=~"$job"}), "instance"},
    {"class", "Class", "Python classes whose methods were called.",
     @calls <> ~S({job=~"$job", instance=~"$instance"}), "python_class"},
    {"method", "Method", "Methods of these classes.",
     @calls <> ~S({job=~"$job", instance=~"$instance", python_class=~"$class"}), "method"}
  ]

  @doc "The variables, without the first one where the data source is fixed."
  @spec render(map()) :: [map()]
  def render(context), do: datasource(context) ++ Enum.map(@queries, &query(&1, context))

  @doc "The names of the variables that queries use, in their order."
  @spec names() :: [String.t()]
  def names, do: Enum.map(@queries, &elem(&1, 0))

  defp datasource(%{fixed_datasource: true}), do: []

  defp datasource(_context) do
    [
      %{
        type: "datasource",
        name: "datasource",
        label: "Data source",
        description: "The Prometheus that scrapes the instances.",
        query: "prometheus",
        regex: "",
        current: %{text: "default", value: "default"},
        options: [],
        hide: 0,
        includeAll: false,
        multi: false,
        refresh: 1,
        skipUrlSync: false
      }
    ]
  end

  # All is any value or none: the overflow series has no class and no method, and belongs to it.
  # Chosen values are escaped and joined by Grafana, as the matchers are =~.
  defp query({name, label, description, series, values_of}, context) do
    %{
      type: "query",
      name: name,
      label: label,
      description: description,
      datasource: context.datasource,
      query: %{
        qryType: 1,
        query: "label_values(#{context.prefix}#{series}, #{values_of})",
        refId: "PrometheusVariableQueryEditor-VariableQuery"
      },
      regex: "",
      sort: 5,
      current: %{text: ["All"], value: ["$__all"]},
      options: [],
      allValue: ".*",
      includeAll: true,
      multi: true,
      hide: 0,
      refresh: 2,
      skipUrlSync: false
    }
  end

  @doc "Name, colour, query, title, text and tags of the marks."
  @spec annotations() :: [map()]
  def annotations do
    [
      %{
        name: "Error spikes",
        color: "red",
        enabled: true,
        expr:
          Query.events(
            "dspex_alerts_error_spike_total",
            [:python_class, :method],
            :method,
            "$__rate_interval"
          ),
        title: "Error spike",
        text: "{{python_class}}.{{method}} failed several times within seconds",
        tags: "python_class,method"
      },
      %{
        name: "Alerts",
        color: "orange",
        enabled: true,
        expr: Alerts.series(~S(alertstate="firing")),
        title: "{{alertname}}",
        text: "severity {{severity}}",
        tags: "alertname,severity"
      }
    ]
  end

  @doc "The marks as Grafana reads them, after those that a person makes."
  @spec render_annotations(map()) :: [map()]
  def render_annotations(context) do
    by_hand = %{
      builtIn: 1,
      datasource: %{type: "grafana", uid: "-- Grafana --"},
      enable: true,
      hide: true,
      iconColor: "rgba(0, 211, 255, 1)",
      name: "Annotations & Alerts",
      type: "dashboard"
    }

    [by_hand | Enum.map(annotations(), &annotation(&1, context))]
  end

  defp annotation(annotation, context) do
    %{
      name: annotation.name,
      datasource: context.datasource,
      enable: annotation.enabled,
      hide: false,
      iconColor: annotation.color,
      expr: Query.to_text(annotation.expr, context),
      titleFormat: annotation.title,
      textFormat: annotation.text,
      tagKeys: annotation.tags,
      useValueForTime: false
    }
  end
end
