defmodule DSPexTelemetry.Reporter.Handler do
  @moduledoc false
  # What `:telemetry` calls for an event that metrics of option `:metrics` are made of. The config is the
  # number of the plan. Both functions never raise, whatever comes in or functions of metrics do.

  require Logger

  alias DSPexTelemetry.{Native, Reason, Reporter}
  alias DSPexTelemetry.Reporter.Name

  # Integers from here on are no tags.
  @huge Bitwise.bsl(1, 8_192)

  @doc "For an event of which all metrics are made by plain keys."
  def plain(_event, measurements, metadata, plan) do
    case Native.observe(plan, measurements, metadata) do
      :untold -> tell_texts(Reporter.fetch(plan), plan, measurements, metadata, [])
      outcome -> outcome
    end
  end

  @doc "For an event of which functions make some metrics."
  def computed(_event, measurements, metadata, plan) do
    with %{} = entry <- Reporter.fetch(plan) do
      computed = compute_all(entry.plan.groups, measurements, metadata, entry)

      case Native.observe(plan, measurements, metadata, List.to_tuple(computed)) do
        :untold -> tell_texts(entry, plan, measurements, metadata, computed)
        outcome -> outcome
      end
    end
  end

  defp compute_all([], _measurements, _metadata, _entry), do: []

  defp compute_all([group | groups], measurements, metadata, entry) do
    rest = compute_all(groups, measurements, metadata, entry)
    values = values(group.values, measurements, metadata, entry)

    case group.tags do
      nil -> values ++ rest
      tags -> [tags(tags, group, values, metadata, entry) | values ++ rest]
    end
  end

  defp values([], _measurements, _metadata, _entry), do: []

  defp values([{metric, _number} = numbered | metrics], measurements, metadata, entry) do
    value =
      case keep?(metric.keep, measurements, metadata, numbered, entry) do
        :raised -> :raised
        drop when drop in [false, nil] -> :dropped
        _keep -> value(metric, measurements, metadata, numbered, entry)
      end

    [value | values(metrics, measurements, metadata, entry)]
  end

  defp keep?(nil, _measurements, _metadata, _metric, _entry), do: true

  defp keep?(keep, _measurements, metadata, metric, entry) when is_function(keep, 1),
    do: call(keep, [metadata], :keep, [metric], entry)

  defp keep?(keep, measurements, metadata, metric, entry),
    do: call(keep, [metadata, measurements], :keep, [metric], entry)

  defp value(%{kind: :counter}, _measurements, _metadata, _metric, _entry), do: 1

  defp value(%{measurement: function}, measurements, _metadata, metric, entry)
       when is_function(function, 1),
       do: call(function, [measurements], :measurement, [metric], entry)

  defp value(%{measurement: function}, measurements, metadata, metric, entry)
       when is_function(function, 2),
       do: call(function, [measurements, metadata], :measurement, [metric], entry)

  defp value(%{measurement: key}, measurements, _metadata, _metric, _entry) do
    case measurements do
      %{^key => value} -> value
      _lacks_it -> nil
    end
  end

  # Tags of what nobody wants are not asked for: the function may rely on what has been dropped.
  defp tags(tags, group, values, metadata, entry) do
    if group.always? or Enum.any?(values, &(&1 not in [:dropped, :raised])),
      do: tags(tags, metadata, group.metrics, entry),
      else: nil
  end

  defp tags({:map, function}, metadata, metrics, entry),
    do: call(function, [metadata], :tag_values, metrics, entry)

  defp tags({:renamed, nil, renamed}, metadata, _metrics, _entry), do: rename(metadata, renamed)

  defp tags({:renamed, function, renamed}, metadata, metrics, entry) do
    with tags when tags != :raised <- call(function, [metadata], :tag_values, metrics, entry),
         do: rename(tags, renamed)
  end

  defp rename(tags, renamed) when is_map(tags),
    do:
      for(
        {key, tag} <- renamed,
        is_map_key(tags, tag),
        into: %{},
        do: {key, Map.fetch!(tags, tag)}
      )

  defp rename(_no_map, _renamed), do: %{}

  # Whatever a function does, the other metrics get their event, and `:telemetry` keeps the handler.
  defp call(function, arguments, field, metrics, entry) do
    apply(function, arguments)
  catch
    kind, reason ->
      log_once(metrics, field, {kind, reason, __STACKTRACE__}, entry)
      :raised
  end

  defp log_once(metrics, field, failure, entry) do
    for {metric, number} <- metrics,
        :atomics.compare_exchange(entry.failed, number, 0, 1) == :ok do
      Logger.error(
        "Function #{inspect(field)} of metric #{metric.name} of event #{Name.event(metric.event)} failed. " <>
          "The event does not count in it; further failures are counted and not logged.\n#{describe(failure)}"
      )
    end
  end

  # Messages of exceptions, what is thrown and arguments may hold any metadata of the event, which may be secret.
  defp describe({kind, reason, stacktrace}) do
    class = kind |> Exception.normalize(reason, stacktrace) |> Reason.class()
    where = stacktrace |> Enum.map(&frame/1) |> Exception.format_stacktrace()
    "** (#{kind}) #{class}\n#{where}"
  end

  defp frame({module, function, arguments, location}) when is_list(arguments),
    do: {module, function, length(arguments), location}

  defp frame({function, arguments, location}) when is_list(arguments),
    do: {function, length(arguments), location}

  defp frame(frame), do: frame

  # Once more, with every tag as the text that it has, if it has any.
  defp tell_texts(nil, _plan, _measurements, _metadata, _computed), do: :stopped

  defp tell_texts(entry, plan, measurements, metadata, computed) do
    groups = entry.plan.groups
    keys = for %{tags: nil, keys: keys} <- groups, key <- keys, uniq: true, do: key
    computed = texts_of_all(groups, computed)
    Native.observe(plan, measurements, texts(metadata, keys), List.to_tuple(computed), :final)
  end

  defp texts_of_all([], []), do: []

  defp texts_of_all([group | groups], computed) do
    {tags, computed} = if group.tags, do: Enum.split(computed, 1), else: {[], computed}
    {values, computed} = Enum.split(computed, length(group.values))

    keys =
      with {:renamed, _function, renamed} <- group.tags,
           do: Keyword.keys(renamed),
           else: (_ -> group.keys)

    Enum.map(tags, &texts(&1, keys)) ++ values ++ texts_of_all(groups, computed)
  end

  defp texts(tags, keys) when is_map(tags) do
    for key <- keys, is_map_key(tags, key), reduce: tags do
      tags -> Map.update!(tags, key, &text/1)
    end
  end

  defp texts(no_map, _keys), do: no_map

  # What has no text stays what it is, which Rust counts.
  defp text(tag) when is_binary(tag) or is_atom(tag), do: tag
  # To write it would hold up the scheduler.
  defp text(tag) when is_integer(tag) and (tag >= @huge or tag <= -@huge), do: tag

  defp text(tag) do
    to_string(tag)
  catch
    _kind, _reason -> tag
  end
end
