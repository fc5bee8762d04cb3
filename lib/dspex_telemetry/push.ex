defmodule DSPexTelemetry.Push do
  @moduledoc """
  Sends an instance's metrics to a server, where none can come and scrape them.

      {DSPexTelemetry,
       name: MyApp.Telemetry,
       push: [
         url: "http://pushgateway:9091/metrics/job/my_app/instance/host-1",
         interval: 15_000
       ]}

  The server is a Prometheus Pushgateway, or one that imports Prometheus' text format, such as
  VictoriaMetrics at `/api/v1/import/prometheus`. The options are those of `:push` in
  `DSPexTelemetry.Options`.

  What is sent is the text of `DSPexTelemetry.scrape/1`, rendered at the moment it is sent. At most one
  push is under way. If the time for the next comes meanwhile, it waits, and so do all after it, as one:
  nothing else is queued, so nothing gets stale. Counts are since the instance's start, so a push that
  fails loses nothing as long as a later one arrives.

    * **A failure** is tried again after a random time between `:retry_floor` and that time doubled with
      each failure, at most `:retry_ceiling`. A server that answers 429 or 503 with `Retry-After` gets that
      long in addition, up to five minutes. Other answers of 300 to 499, 408 aside, are not tried again before
      the next interval, as the same request would fail again. Redirects are not followed.
    * **An outage** is logged once: as a warning when it begins, with the reason, and when it is over, with
      its length and the number of failed pushes. `counts/1`, `DSPexTelemetry.info/1` and the
      metric `dspex_telemetry_push_total` count every try.
    * **The first push** comes at a random time within the first interval, so that many nodes that are started
      together do not push together. The last one is made when the instance stops in order, and may
      take `:stop_timeout`.
    * **TLS** is verified: the certificate, by those of the system or of `:cacertfile`, and its name.
    * **Secrets** (`:auth`, `:headers`) are in no log, and in no process's state but while a push is under way.
      An address with a password is refused; the log leaves its query out.

  Pushes are made by processes of their own, with `httpc`. Recording never waits for them, and their failure,
  or that of this process, ends nothing else.
  """

  @behaviour DSPexTelemetry.Export.Delivery

  alias DSPexTelemetry.{Exposition, Options}
  alias DSPexTelemetry.Export.Delivery
  alias DSPexTelemetry.Export.Delivery.Outcome
  alias DSPexTelemetry.Instance.Lookup

  @typedoc """
  Times are milliseconds since 1970; `nil` if there was no success, or if there is no outage.
  """
  @type status :: %{
          success: non_neg_integer(),
          failure: non_neg_integer(),
          last_success_unix_ms: pos_integer() | nil,
          outage_since_unix_ms: pos_integer() | nil
        }

  @doc """
  How many pushes have succeeded and failed since the instance started, retries included; `nil` if it does
  not push.

      iex> DSPexTelemetry.Push.counts(DSPexTelemetry)
      nil

      iex> {:ok, _pid} =
      ...>   DSPexTelemetry.start_link(name: MyApp.Pushing, push: [url: "http://localhost:9091/metrics/job/my_app"])
      iex> DSPexTelemetry.Push.counts(MyApp.Pushing)
      %{success: 0, failure: 0}

  Raises `ArgumentError` if no instance of that name is running.
  """
  @spec counts(atom()) :: %{success: non_neg_integer(), failure: non_neg_integer()} | nil
  def counts(instance) do
    with %{} = status <- status(Lookup.fetch!(instance)),
         do: Map.take(status, [:success, :failure])
  end

  @doc false
  @spec status(Lookup.handle()) :: status() | nil
  def status(handle) do
    # All that is refused comes with the next push.
    with %{} = status <- Delivery.status(handle.push), do: Map.delete(status, :lost)
  end

  @doc false
  @spec child_spec(Options.t()) :: Supervisor.child_spec()
  def child_spec(options), do: Delivery.child_spec({__MODULE__, options})

  @impl Delivery
  def options(options), do: options.push

  @impl Delivery
  def status_of(handle), do: handle.push

  @impl Delivery
  def request(name),
    do: %{body: DSPexTelemetry.scrape(format: :text, instance: name), points: 0}

  @impl Delivery
  def content_type, do: Exposition.content_type(:text)

  @impl Delivery
  def headers, do: []

  @impl Delivery
  # Whoever is told to come back in a month still looks in every five minutes.
  def limits(_options),
    do: %{request_bytes: :infinity, answer_bytes: 1_048_576, retry_after_ms: 300_000}

  @impl Delivery
  def words, do: %{cannot: "cannot be pushed to", are: "are pushed", noun: "pushes"}

  @impl Delivery
  def outcome(result, _request, secrets, now), do: Outcome.of(result, secrets, now)

  @impl Delivery
  def resends?(_options), do: false

  @impl Delivery
  def settle(_native), do: :ok
end
