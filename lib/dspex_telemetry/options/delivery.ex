defmodule DSPexTelemetry.Options.Delivery do
  @moduledoc false
  # What the tables of options `push` and `otlp` have in common.

  @doc """
  Rows about a delivery that is called by a noun, such as `push`. `also` are headers that may be given
  beside the usual ones.
  """
  @spec table(String.t(), [String.t()]) :: keyword()
  def table(noun, also \\ []) do
    [
      timeout: [
        type: {:integer, 10, 600_000},
        default: 10_000,
        doc: "Milliseconds that #{a(noun)} may take, from rendering to the answer."
      ],
      auth: [
        type: :auth,
        default: nil,
        secret: true,
        doc:
          "`{:bearer, token}` or `{:basic, user, password}`, sent as `Authorization`. A function without " <>
            "arguments that returns one of them is called for each #{noun}. Give it with `https` addresses."
      ],
      headers: [
        type: {:headers, also},
        default: [],
        secret: true,
        doc:
          "More headers, such as `[{\"x-scope-orgid\", \"tenant\"}]`, or a function without arguments " <>
            "that returns them and is called for each #{noun}."
      ],
      gzip: [
        type: :boolean,
        default: true,
        doc: "Whether the body is compressed."
      ],
      cacertfile: [
        type: :path,
        default: nil,
        doc:
          "PEM file with the CA certificates that verify an `https` server; `nil` takes the system's."
      ],
      retry_floor: [
        type: {:integer, 1, 3_600_000},
        default: 500,
        doc: "Milliseconds that #{a(noun)} that failed is at least retried after."
      ],
      retry_ceiling: [
        type: {:integer, 1, 3_600_000},
        default: 30_000,
        doc: "Milliseconds that it is at most retried after, unless the server asks for more."
      ],
      stop_timeout: [
        type: {:integer, 0, 60_000},
        default: 5_000,
        doc:
          "Milliseconds that the last #{noun}, when the instance stops in order, may take; 0 makes none."
      ]
    ]
  end

  @doc "The row of an interval."
  @spec interval(String.t(), pos_integer()) :: keyword()
  def interval(noun, default) do
    [
      interval: [
        type: {:integer, 10, 86_400_000},
        default: default,
        doc: "Milliseconds from one #{noun} to the next."
      ]
    ]
  end

  defp a("export"), do: "an export"
  defp a(noun), do: "a #{noun}"
end
