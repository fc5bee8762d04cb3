defmodule DSPexTelemetry.Catalogue.Field do
  @moduledoc """
  A measurement or metadata key of an event.

    * `:key`, `:doc`
    * `:in` - `:measurements` or `:metadata`
    * `:type` - `:integer` (not negative), `:text` (binary, atom or integer), `:flag` (boolean),
      `{:choice, words}` (anything else counts as the last word), `:reason` (any term,
      reduced by `DSPexTelemetry.Reason`), `:term` (anything, not used)
    * `:unit` of an integer - `:duration` (the instance's `duration_unit`), `:microsecond`,
      `:millisecond`, `:byte`, `:one`
    * `:required` - whether an event without it is rejected
    * `:default` of a flag
    * `:usual` - whether emitters normally give it; the handler is fastest when they do
  """
  @enforce_keys [:key, :in, :type, :doc]
  defstruct [:key, :in, :type, :doc, :unit, :default, required: true, usual: true]

  @type t :: %__MODULE__{
          key: atom(),
          in: :measurements | :metadata,
          type: :integer | :text | :flag | {:choice, [String.t()]} | :reason | :term,
          unit: atom(),
          required: boolean(),
          default: boolean() | nil,
          usual: boolean(),
          doc: String.t()
        }
end
