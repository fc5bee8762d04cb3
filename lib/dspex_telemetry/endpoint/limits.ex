defmodule DSPexTelemetry.Endpoint.Limits do
  @moduledoc false
  # What a client may take of the endpoint. Not options: nobody has had to change them. Tests have
  # shorter times.

  @typedoc """
    * `:clients` - how many connections are answered at a time; those beyond get 503, and of more than
      twice as many the oldest are ended
    * `:header_bytes`, `:uri_bytes` - beyond which 413 and 414 are answered; httpd takes 16 bytes of
      memory for each
    * `:headers_s` - seconds for the request to arrive
    * `:rendered_ms` - milliseconds that a request waits for its rendering before it gets 503
    * `:sent_ms` - milliseconds for a client to take the answer
    * `:connection_ms` - milliseconds after which a connection is ended, whatever it is at
  """
  @type t :: %__MODULE__{
          clients: pos_integer(),
          header_bytes: pos_integer(),
          uri_bytes: pos_integer(),
          headers_s: pos_integer(),
          rendered_ms: pos_integer(),
          sent_ms: pos_integer(),
          connection_ms: pos_integer()
        }

  # The last is more than those before it together.
  defstruct clients: 250,
            header_bytes: 8_192,
            uri_bytes: 2_048,
            headers_s: 10,
            rendered_ms: 10_000,
            sent_ms: 10_000,
            connection_ms: 45_000
end
