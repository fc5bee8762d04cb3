defmodule DSPexTelemetry.Catalogue.Field do
  @moduledoc """
  A measurement or metadata key of an event.

    * `:key`, `:doc`
    * `:from` - the key that emitters give, if it is not `:key`; of a list, the first that is there
    * `:formerly` - keys that older emitters give, looked at if the others are not there
    * `:in` - `:measurements` or `:metadata`
    * `:type` - `:integer` (not negative), `:number` (the same or a float), `:text` (binary, atom or integer), `:name`
      (any term, reduced by `DSPexTelemetry.Name`), `:flag` (boolean), `{:choice, words}` (anything else counts as
      the last word), `:reason` (any term, reduced by `DSPexTelemetry.Reason`), `:requester` (no key: the process that the
      emitting one monitors), `:why` (no key: the word for why the call failed, of `DSPexTelemetry.Reason.word/1`),
      `:term` (anything, not used or only as a detail)
    * `:unit` of a number - `:duration` (the instance's `duration_unit`), `:native` (native time units whatever that
      says), `:native_as_milliseconds` (the same, stored in milliseconds), `:nanosecond`, `:microsecond`, `:millisecond`, `:fine_millisecond` (stored in nanoseconds),
      `:byte`, `:mebibyte`, `:percent`, `:celsius`, `:watt`, `:one`
    * `:flags` of a flag - other terms that say `true` or `false`, such as `[ok: true, error: false]`
    * `:unless` of a `:why` - the flag that says, where it is `true`, that nothing failed
    * `:required` - whether an event without it is rejected
    * `:default` of a flag, or of a name
    * `:usual` - whether emitters normally give it; the handler is fastest when they do
  """
  @enforce_keys [:key, :in, :type, :doc]
  defstruct [
    :key,
    :from,
    :in,
    :type,
    :doc,
    :unit,
    :default,
    :unless,
    flags: [],
    formerly: [],
    required: true,
    usual: true
  ]

  @typedoc "A key of measurements or metadata; some that come from Python are texts."
  @type key :: atom() | String.t()

  @type t :: %__MODULE__{
          key: atom(),
          from: key() | [key()] | nil,
          formerly: [key()],
          in: :measurements | :metadata,
          type:
            :integer
            | :number
            | :text
            | :name
            | :flag
            | {:choice, [String.t()]}
            | :reason
            | :requester
            | :why
            | :term,
          unit: atom(),
          unless: atom() | nil,
          flags: [{atom(), boolean()}],
          required: boolean(),
          default: boolean() | String.t() | nil,
          usual: boolean(),
          doc: String.t()
        }

  @doc "A key that is looked at only of what failed."
  @spec why(atom(), String.t()) :: t()
  def why(key, doc), do: detail(key, doc <> " Says why it failed.")

  @doc "A key that goes into an exemplar, which is found by it."
  @spec found_by(atom(), String.t()) :: t()
  def found_by(key, doc), do: detail(key, doc <> " Goes into an exemplar.")

  defp detail(key, doc),
    do: %__MODULE__{key: key, in: :metadata, type: :term, required: false, doc: doc}

  @doc "The word for why something failed, unless a flag says that it did not."
  @spec word(atom() | nil) :: t()
  def word(unless \\ nil) do
    doc = "No key: the word for why it failed, of the keys that say so."
    %__MODULE__{key: :why, in: :metadata, type: :why, unless: unless, required: false, doc: doc}
  end

  @doc "The keys that may hold the field's value; the first that is there does."
  @spec sources(t()) :: [key()]
  def sources(%__MODULE__{from: nil, key: key}), do: [key]
  def sources(%__MODULE__{from: from}), do: List.wrap(from)
end
