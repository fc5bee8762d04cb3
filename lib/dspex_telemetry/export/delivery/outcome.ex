defmodule DSPexTelemetry.Export.Delivery.Outcome do
  @moduledoc false
  # What became of a delivery: what httpc says, in words, and when to try again.

  @shown_characters 200

  @typedoc """
  `retry` says whether trying again may help before the metrics have changed; `after_ms` how long the
  server wants to be left alone. `lost` is how many data points it has refused for good.
  """
  @type failure :: %{
          :reason => String.t(),
          :retry => boolean(),
          :after_ms => non_neg_integer(),
          optional(:lost) => non_neg_integer()
        }

  @typedoc "What a server says of a request that it has taken."
  @type remark :: %{reason: String.t(), lost: non_neg_integer()}

  @type t :: :ok | {:ok, remark()} | {:error, failure()}

  @doc "A failure that is tried again."
  @spec failure(String.t()) :: {:error, failure()}
  def failure(reason), do: {:error, %{reason: reason, retry: true, after_ms: 0}}

  @doc """
  The outcome of httpc's result. `secrets` are not shown if the server sends them back; `now` is the
  time in seconds since 1970.
  """
  @spec of(term(), [String.t()], integer()) :: t()
  def of({{_version, status, _phrase}, _headers, _body}, _secrets, _now) when status in 200..299,
    do: :ok

  def of({{_version, status, _phrase}, headers, body}, secrets, now) do
    {:error,
     %{
       reason: refusal(status, body, secrets),
       retry: status in [408, 429] or status >= 500,
       after_ms: if(status in [429, 503], do: retry_after_ms(headers, now), else: 0)
     }}
  end

  def of({:error, reason}, _secrets, _now), do: failure(words(reason))

  @doc "Why a server has refused, in its own words."
  @spec refusal(100..599, binary(), [String.t()]) :: String.t()
  def refusal(status, body, secrets) do
    case excerpt(body, secrets) do
      "" -> "the server answers #{status}"
      excerpt -> "the server answers #{status}: #{excerpt}"
    end
  end

  @doc "The first line of what a server says, which is where it says what is wrong."
  @spec excerpt(binary(), [String.t()]) :: String.t()
  def excerpt(body, secrets) do
    if String.valid?(body) do
      line = body |> hide(secrets) |> String.trim() |> String.split(["\r", "\n"]) |> hd()
      line = String.replace(line, ~r/[^[:print:]]/u, " ")
      String.slice(line, 0, @shown_characters)
    else
      ""
    end
  end

  defp hide(text, secrets), do: Enum.reduce(secrets, text, &String.replace(&2, &1, "[hidden]"))

  @doc "How long a server wants to be left alone, by its `Retry-After` in seconds or as a date."
  @spec retry_after_ms([{charlist(), charlist()}], integer()) :: non_neg_integer()
  def retry_after_ms(headers, now) do
    with {_name, value} <- List.keyfind(headers, ~c"retry-after", 0),
         seconds when is_integer(seconds) <- seconds(value, now) do
      max(seconds, 0) * 1_000
    else
      _absent_or_unreadable -> 0
    end
  end

  defp seconds(value, now) do
    text = to_string(value)

    cond do
      text =~ ~r/\A[0-9]{1,9}\z/ ->
        String.to_integer(text)

      text =~ ~r/\A[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\z/ ->
        until(value, now)

      true ->
        nil
    end
  end

  defp until(value, now) do
    with {_day, _time} = date <- :httpd_util.convert_request_date(value),
         {:ok, date} <- NaiveDateTime.from_erl(date) do
      DateTime.to_unix(DateTime.from_naive!(date, "Etc/UTC")) - now
    else
      _no_date -> nil
    end
  end

  # Only what is known to hold no header and no option is put into words.
  defp words({:failed_connect, details}), do: "no connection: " <> words(cause(details))

  defp words({:tls_alert, {alert, details}}) do
    if to_string(details) =~ "hostname_check_failed",
      do: "the certificate is not for the address's host",
      else: "TLS #{spaced(alert)}"
  end

  defp words({:eoptions, {:options, {:cacertfile, _path, _error}}}), do: unreadable()
  defp words({:options, {:cacertfile, _path, _error}}), do: unreadable()
  defp words({:could_not_parse_as_http, _data}), do: "the answer is no HTTP"
  defp words(:socket_closed_remotely), do: "the server closed the connection"
  defp words({:answer_too_long, bytes}), do: "the answer is longer than #{size(bytes)}"
  defp words({:headers_too_long, _heap}), do: "the headers of the answer are too long"
  defp words({:request_too_long, bytes}), do: "the request is longer than #{size(bytes)}"
  defp words(:nxdomain), do: "no address of that name"
  defp words(:timeout), do: "timeout"
  defp words(reason) when is_atom(reason), do: reason |> :inet.format_error() |> to_string()
  defp words({:shutdown, reason}), do: words(reason)
  defp words({reason, _details}) when is_atom(reason), do: spaced(reason)
  defp words(_other), do: "httpc failed"

  defp size(bytes) when rem(bytes, 1_048_576) == 0, do: "#{div(bytes, 1_048_576)} MiB"
  defp size(bytes), do: "#{bytes} bytes"

  defp unreadable, do: "the :cacertfile cannot be read"

  defp cause(details) do
    Enum.find_value(details, :unknown, fn
      {family, _options, reason} when family in [:inet, :inet6] -> reason
      _address -> nil
    end)
  end

  defp spaced(atom), do: atom |> Atom.to_string() |> String.replace("_", " ")
end
