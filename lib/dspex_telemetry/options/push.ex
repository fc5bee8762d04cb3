defmodule DSPexTelemetry.Options.Push do
  @moduledoc false
  # The table of option `push`.

  alias DSPexTelemetry.Options.Delivery

  @url [
    url: [
      type: :url,
      doc:
        "Where to: a Pushgateway with the job and what else groups its metrics, such as " <>
          "`http://gateway:9091/metrics/job/my_app/instance/host-1`, or what imports Prometheus' text " <>
          "format, such as `http://victoria:8428/api/v1/import/prometheus?extra_label=job=my_app`."
    ]
  ]

  @method [
    method: [
      type: {:in, [:auto, :put, :post]},
      default: :auto,
      doc:
        "HTTP method. `:auto` is `PUT` where the address has `/metrics/job/` in it, as a Pushgateway then " <>
          "replaces all that it had of the group, and `POST` elsewhere."
    ]
  ]

  @spec table() :: keyword()
  def table do
    table = @url ++ Delivery.interval("push", 15_000) ++ @method ++ Delivery.table("push")
    gzip = "Whether the text is compressed. A Pushgateway before 1.5 does not understand that."
    put_in(table, [:gzip, :doc], gzip)
  end
end
