defmodule DSPexTelemetry.Catalogue.Event do
  @moduledoc """
  An event: its name, its fields and what it does.

  Steps, in which fields are named by their key:

    * `{:feed, family, labels, counts, observes}` - records into one series of the family: `labels`
      gives the source of each label, `counts` the counters with the source of each dimension,
      `observes` the histograms with the field whose value they take
    * `{:failure, labels, kind}` - counts an error of the method and class that these labels are, by kind and reason,
      keeps it among the last ones, and looks for a spike
    * `{:wait, measurement, worker, command}` - signals a wait that is too long
    * `{:unless, flag, step}` - the step, unless the flag is `true`
    * `{:claimed, step}` - the step, if the event's `:claim` says that it counts
    * `{:enter, operation, condition}`, `{:leave, operation}` - the process starts or ends an operation of a bridge, for
      which the pool below may execute something; with `{key, word}` for the condition it starts one only if the choice
      is that word
    * `{:dispatched, requester, worker, command}` - a worker gets the request of a process
    * `{:in_pool, worker, pool, except}` - remembers the pool of a worker, unless its name is one of those that tell no
      pool from another
    * `{:set, gauge, labels, source}` - sets a gauge of `DSPexTelemetry.Catalogue.levels/0`
    * `{:bind, reference, class}` - remembers the class of a reference
    * `{:completion, command, worker, duration, success}` - tells the router how a request went, if
      the event names the worker; with `nil` for `success` it failed
    * `{:queued, wait, worker}` - tells the router how long a request waited for its worker
    * `{:lives, reference, worker}` - tells the router and the cache that what a reference names lives in a
      worker's memory
    * `{:worker_up, id}`, `{:worker_down, id}` - adds to or takes from the workers that are alive, and that the
      router knows

  A source is a field's key, `{:constant, value}`, `{:class_of, reference, class}`: the class if
  the event gives one, else the class that was bound to the reference, else `unknown`; or `{:pool_of, worker, pool}`: the
  pool that is known of the worker, else the one that the event gives.

  `:claim` says when the claimed steps are done, where another emitter may tell of the same:

    * `{:execution, command, worker, phase}` - unless it is an execution that carries a call of a bridge. The phase is
      `:begin`, `:end` or, if no worker was given a request, `nil`
    * `:call` - unless its process is in a call of a bridge
    * `{:tool, key}`, `{:worker, key}` - if the emitter owns the name: a bridge takes tools, and of workers the first to
      tell of one keeps it

  `:call` is the call that the event ends, `{labels, duration, condition}`: the slowest are kept. With a flag for the
  condition it ends none where that is set.

  `:only` tells apart emitters that use the same name, by whether the metadata have one of some keys: `{:with, keys}` or
  `{:without, keys}`. Then `:variant` tells the rows apart.

  `:preset` is the emitter whose events these are, as option `presets` names it.

  `:exemplar` is the measurement of which exemplars are kept; see `DSPexTelemetry.Exemplar`.
  """
  alias DSPexTelemetry.Catalogue.Field

  @enforce_keys [:name, :doc, :fields, :steps]
  defstruct @enforce_keys ++
              [exemplar: nil, preset: :dspex, claim: nil, call: nil, only: nil, variant: nil]

  @type source ::
          atom() | {:constant, term()} | {:class_of | :pool_of, atom(), atom()}
  @type step ::
          {:feed, String.t(), [source()], [{atom(), [source()]}], [{atom(), atom()}]}
          | {:failure, [source()], source()}
          | {:wait, atom(), atom(), atom()}
          | {:unless, atom(), step()}
          | {:claimed, step()}
          | {:enter, operation(), {atom(), String.t()} | nil}
          | {:leave, operation()}
          | {:dispatched, atom(), atom(), atom()}
          | {:in_pool, atom(), atom(), [String.t()]}
          | {:set, atom(), [source()], source()}
          | {:bind, atom(), atom()}
          | {:completion, atom(), atom(), atom(), atom() | nil}
          | {:queued | :lives, atom(), atom()}
          | {:worker_up | :worker_down, atom()}
  @type operation :: :call | :create | :tool
  @type claim ::
          {:execution, atom(), atom(), :begin | :end | nil}
          | :call
          | {:tool | :worker, atom()}
  @type t :: %__MODULE__{
          name: [atom()],
          doc: String.t(),
          fields: [Field.t()],
          steps: [step()],
          exemplar: atom() | nil,
          preset: :dspex | :snakepit | :snakebridge,
          claim: claim() | nil,
          call: {[source()], atom(), atom() | nil} | nil,
          only: {:with | :without, [Field.key()]} | nil,
          variant: atom() | nil
        }
end
