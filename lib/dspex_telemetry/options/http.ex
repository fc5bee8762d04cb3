defmodule DSPexTelemetry.Options.HTTP do
  @moduledoc false
  # The table of option `http`.

  @table [
    port: [
      type: {:integer, 0, 65_535},
      doc: "TCP port; 0 takes a free one."
    ],
    ip: [
      type: :ip,
      default: {127, 0, 0, 1},
      doc:
        "Address to listen on: of this machine alone (`{127, 0, 0, 1}`, `{0, 0, 0, 0, 0, 0, 0, 1}`) " <>
          "or, with `:auth`, any other."
    ],
    auth: [
      type: :auth,
      default: nil,
      secret: true,
      doc:
        "Who may ask: who has the token of `{:bearer, token}`, or user and password of " <>
          "`{:basic, user, password}`. A function without arguments that returns one of them is " <>
          "called for each request. `:none` lets everybody in, and `nil` everybody on this machine. " <>
          "A browser asks for a user and a password: with a bearer token, any user and the token."
    ],
    hosts: [
      type: :hosts,
      default: [],
      doc:
        "Names under which requests are answered where `:auth` asks for nothing, beside `localhost` and IP " <>
          "addresses; `:any` for all. A request for another name gets 421, as a web site could have made it " <>
          "up for a browser on this machine (DNS rebinding)."
    ],
    page_methods: [
      type: {:integer, 1, 500},
      default: 50,
      doc:
        "How many methods have a row of their own on the live page, those that were called most. The " <>
          "others are summed."
    ],
    required: [
      type: :boolean,
      default: false,
      doc:
        "Whether the instance starts only if it can listen. With `false`, an instance whose port is taken records " <>
          "without being served, logs that once, and tries again until it listens; `DSPexTelemetry.info/1` says why " <>
          "it does not."
    ]
  ]

  @spec table() :: keyword()
  def table, do: @table
end
