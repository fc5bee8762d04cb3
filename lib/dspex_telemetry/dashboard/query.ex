defmodule DSPexTelemetry.Dashboard.Query do
  @moduledoc false
  # PromQL, put together from text and from references to metrics. References are resolved at the
  # end, when it is known what stands before the names of metrics and which form histograms have.

  @typedoc """
  The variables of the dashboard that choose among the series of a metric: those of the instance,
  of the instance and the class, or of the instance, the class and the method.
  """
  @type scope :: :instance | :class | :method

  @typedoc "Text, a reference, or both in turn."
  @type t :: String.t() | reference_to_metric() | [t()]

  @typep reference_to_metric ::
           {:series, String.t(), scope(), String.t()}
           | {:foreign, String.t(), scope()}
           | {:buckets, String.t(), [atom()], scope(), t()}
           | {:histogram_rate, :count | :sum, String.t(), [atom()], scope()}

  @typedoc "What references are resolved with."
  @type context :: %{
          :prefix => String.t(),
          :histograms => :classic | :native,
          optional(atom()) => term()
        }

  @instance ~S(job=~"$job", instance=~"$instance")
  @matchers %{
    instance: @instance,
    class: @instance <> ~S(, python_class=~"$class"),
    method: @instance <> ~S(, python_class=~"$class", method=~"$method")
  }

  # Before a series is taken for new, it must not have been seen for so long: a Prometheus that was
  # away for less finds no new series when it is back.
  @unseen "1h"

  @doc "The series of a metric of ours, such as `name{job=~\"$job\", …}`, with more matchers."
  @spec series(String.t(), scope(), String.t()) :: t()
  def series(metric, scope, matchers \\ ""), do: {:series, metric, scope, matchers}

  @doc "The series of a metric that Prometheus itself has of its targets."
  @spec foreign(String.t(), scope()) :: t()
  def foreign(metric, scope), do: {:foreign, metric, scope}

  @doc "The sum of an expression over all labels but these."
  @spec sum(t(), [atom()]) :: t()
  def sum(expression, by \\ []), do: ["sum", by(by), "(", expression, ")"]

  @doc "Events per second of a counter."
  @spec rate(String.t(), [atom()], scope(), String.t()) :: t()
  def rate(metric, by, scope, matchers \\ ""),
    do: sum(each_rate(metric, scope, matchers), by)

  defp each_rate(metric, scope, matchers \\ ""),
    do: ["rate(", series(metric, scope, matchers), "[$__rate_interval])"]

  @doc """
  How many events a counter has counted within a duration.

  A series that begins within it counts with its value: `increase` does not see the first event, as
  there is no sample before it, and what is rare would not show at all.
  """
  @spec events(String.t(), [atom()], scope(), String.t()) :: t()
  def events(metric, by, scope, duration) do
    series = series(metric, scope)
    before = ["present_over_time(", series, "[#{@unseen}] offset ", duration, ")"]
    sum(["(", series, " unless ", before, ") or increase(", series, "[", duration, "])"], by)
  end

  @doc "Events of a counter with these matchers as a part of all; nothing where there are none, rather than NaN."
  @spec share(String.t(), [atom()], scope(), String.t()) :: t()
  def share(metric, by, scope, matchers),
    do: [rate(metric, by, scope, matchers), " / (", rate(metric, by, scope), " > 0)"]

  @doc "A quantile of a histogram; nothing where it has no samples, rather than NaN."
  @spec quantile(float(), String.t(), [atom()], scope()) :: t()
  def quantile(q, metric, by, scope),
    do: ["histogram_quantile(#{q}, ", buckets(metric, by, scope), ") >= 0"]

  @doc """
  Like `quantile/4`, over those methods of a target only that another counter has counted in the same time.
  """
  @spec quantile_where(float(), String.t(), [atom()], scope(), String.t()) :: t()
  def quantile_where(q, metric, by, scope, counter) do
    counted = [
      " and on (job, instance, python_class, method) ",
      each_rate(counter, scope),
      " > 0"
    ]

    ["histogram_quantile(#{q}, ", {:buckets, metric, by, scope, counted}, ") >= 0"]
  end

  @doc "The mean of a histogram; nothing where it has no samples, rather than NaN."
  @spec mean(String.t(), [atom()], scope()) :: t()
  def mean(metric, by, scope) do
    [sum, count] = for what <- [:sum, :count], do: histogram_rate(what, metric, by, scope)
    [sum, " / (", count, " > 0)"]
  end

  @doc "The rate of each bucket of a histogram, or the histogram of rates."
  @spec buckets(String.t(), [atom()], scope()) :: t()
  def buckets(metric, by, scope), do: {:buckets, metric, by, scope, ""}

  @doc "Samples per second of a histogram, or their sum per second."
  @spec histogram_rate(:count | :sum, String.t(), [atom()], scope()) :: t()
  def histogram_rate(what, metric, by, scope), do: {:histogram_rate, what, metric, by, scope}

  @doc "The largest values; at each point of a graph others may be the largest."
  @spec topk(pos_integer(), t()) :: t()
  def topk(count, expression), do: ["topk(#{count}, ", expression, ")"]

  @doc "An expression as text."
  @spec to_text(t(), context()) :: String.t()
  def to_text(expression, context), do: IO.iodata_to_binary(text(expression, context))

  defp text(text, _context) when is_binary(text), do: text
  defp text(list, context) when is_list(list), do: Enum.map(list, &text(&1, context))

  defp text({:series, metric, scope, matchers}, context),
    do: [context.prefix, selector(metric, scope, matchers)]

  defp text({:foreign, metric, scope}, _context), do: selector(metric, scope, "")

  defp text({:buckets, metric, by, scope, where}, %{histograms: :classic} = context),
    do: text(sum([each_rate(metric <> "_bucket", scope), where], [:le | by]), context)

  defp text({:buckets, metric, by, scope, where}, %{histograms: :native} = context),
    do: text(sum([each_rate(metric, scope), where], by), context)

  defp text({:histogram_rate, what, metric, by, scope}, %{histograms: :classic} = context),
    do: text(rate("#{metric}_#{what}", by, scope), context)

  defp text({:histogram_rate, what, metric, by, scope}, %{histograms: :native} = context),
    do: text(["histogram_#{what}(", rate(metric, by, scope), ")"], context)

  defp selector(metric, scope, ""), do: [metric, "{", @matchers[scope], "}"]
  defp selector(metric, scope, more), do: [metric, "{", @matchers[scope], ", ", more, "}"]

  defp by([]), do: ""
  defp by(labels), do: [" by (", Enum.map_join(labels, ", ", &to_string/1), ") "]
end
