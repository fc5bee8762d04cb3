defmodule DSPexTelemetry.Catalogue.Event do
  @moduledoc """
  An event: its name, its fields and what it does.

  Steps are `{:feed, family, labels, counts, observes}`, `{:bind, reference, class}`,
  `{:worker_up, id}` and `{:worker_down, id}`, where fields are named by their key.
  """
  alias DSPexTelemetry.Catalogue.Field

  @enforce_keys [:name, :doc, :fields, :steps]
  defstruct @enforce_keys

  @type source :: atom() | {:constant, term()} | {:class_of, atom(), atom()}
  @type step ::
          {:feed, String.t(), [source()], [{atom(), [source()]}], [{atom(), atom()}]}
          | {:bind, atom(), atom()}
          | {:worker_up | :worker_down, atom()}
  @type t :: %__MODULE__{
          name: [atom()],
          doc: String.t(),
          fields: [Field.t()],
          steps: [step()]
        }
end
