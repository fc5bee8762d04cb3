defmodule DSPexTelemetry.Catalogue.Event do
  @moduledoc """
  An event: its name, its fields and what it does.

  Steps, in which fields are named by their key:

    * `{:feed, family, labels, counts, observes}` - records into one series of the family: `labels`
      gives the source of each label, `counts` the counters with the source of each dimension,
      `observes` the histograms with the field whose value they take
    * `{:failure, family, labels, kind, reason}` - looks for a spike of errors with these labels, which
      are those of the family whose counter counts spikes
    * `{:wait, measurement, worker, command}` - signals a wait that is too long
    * `{:unless, flag, step}` - the step, unless the flag is `true`
    * `{:claimed, group, step}` - the step, if the event's preset counts the group. The bridge and the pool below it may
      both tell of the same calls, tools or workers, which then must count once:
      `DSPexTelemetry.Catalogue.claim/3` says who counts them
    * `{:set, gauge, labels, source}` - sets a gauge of `DSPexTelemetry.Catalogue.levels/0`
    * `{:bind, reference, class}` - remembers the class of a reference
    * `{:completion, command, worker, duration, success}` - tells the router what became of a request, if
      the event names the worker; with `nil` for `success` it failed
    * `{:queued, wait, worker}` - tells the router how long a request waited for its worker
    * `{:lives, reference, worker}` - tells the router and the cache that what a reference names lives in a
      worker's memory
    * `{:worker_up, id}`, `{:worker_down, id}` - adds to or takes from the workers that are alive, and that the
      router knows

  A source is a field's key, `{:constant, value}`, or `{:class_of, reference, class}`: the class if
  the event gives one, else the class that was bound to the reference, else `unknown`.

  `:preset` is the emitter whose events these are, as option `presets` names it.

  `:exemplar` is the measurement of which exemplars are kept; see `DSPexTelemetry.Exemplar`.
  """
  alias DSPexTelemetry.Catalogue.Field

  @enforce_keys [:name, :doc, :fields, :steps]
  defstruct @enforce_keys ++ [exemplar: nil, preset: :dspex]

  @type source :: atom() | {:constant, term()} | {:class_of, atom(), atom()}
  @type step ::
          {:feed, String.t(), [source()], [{atom(), [source()]}], [{atom(), atom()}]}
          | {:failure, String.t(), [source()], source(), source()}
          | {:wait, atom(), atom(), atom()}
          | {:unless, atom(), step()}
          | {:claimed, :calls | :tools | :workers | :completions, step()}
          | {:set, atom(), [source()], source()}
          | {:bind, atom(), atom()}
          | {:completion, atom(), atom(), atom(), atom() | nil}
          | {:queued | :lives, atom(), atom()}
          | {:worker_up | :worker_down, atom()}
  @type t :: %__MODULE__{
          name: [atom()],
          doc: String.t(),
          fields: [Field.t()],
          steps: [step()],
          exemplar: atom() | nil,
          preset: :dspex | :snakepit
        }
end
