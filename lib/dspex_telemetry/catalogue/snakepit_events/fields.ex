defmodule DSPexTelemetry.Catalogue.SnakepitEvents.Fields do
  @moduledoc false
  # The fields that Snakepit's events have in common, and how a field or an event is written down.

  alias DSPexTelemetry.Catalogue.{Event, Field, Metrics}

  @spec event([atom()], String.t(), [Field.t()], [Event.step()]) :: Event.t()
  def event(name, doc, fields, steps),
    do: %Event{
      name: [:snakepit | name],
      doc: doc,
      fields: fields,
      steps: steps,
      preset: :snakepit
    }

  @spec measurement(atom(), atom(), atom(), String.t()) :: Field.t()
  def measurement(key, type, unit, doc),
    do: %Field{key: key, in: :measurements, type: type, unit: unit, doc: doc}

  @spec optional(Field.t()) :: Field.t()
  def optional(field), do: %Field{field | required: false}

  @spec text(atom(), String.t()) :: Field.t()
  def text(key, doc), do: %Field{key: key, in: :metadata, type: :text, doc: doc}

  @spec name(atom(), String.t()) :: Field.t()
  def name(key, doc),
    do: %Field{key: key, in: :metadata, type: :name, required: false, doc: doc}

  @spec reason(String.t()) :: Field.t()
  def reason(doc),
    do: %Field{key: :reason, in: :metadata, type: :reason, required: false, doc: doc}

  @spec unused(:measurements | :metadata, atom(), String.t()) :: Field.t()
  def unused(place, key, doc),
    do: %Field{key: key, in: place, type: :term, required: false, doc: doc <> " Not used."}

  @spec yes_or_no(atom(), String.t()) :: Field.t()
  def yes_or_no(key, doc),
    do: %Field{key: key, in: :metadata, type: :flag, default: false, required: false, doc: doc}

  @spec duration() :: Field.t()
  def duration, do: measurement(:duration, :integer, :native, "How long it took.")

  @spec system_time() :: Field.t()
  def system_time,
    do: unused(:measurements, :system_time, "System time at the start, in native units.")

  @spec count() :: Field.t()
  def count, do: unused(:measurements, :count, "Always 1.")

  @spec kind() :: Field.t()
  def kind do
    %Field{
      key: :kind,
      in: :metadata,
      type: {:choice, Metrics.kinds()},
      doc: "Kind of the exception."
    }
  end

  @spec pool() :: Field.t()
  def pool, do: name(:pool, "The pool.")

  @spec command() :: Field.t()
  def command, do: text(:command, "What was executed.")

  @spec worker_id() :: Field.t()
  def worker_id, do: text(:worker_id, "The worker.")

  @spec some_worker() :: Field.t()
  def some_worker, do: optional(worker_id())

  @doc "The name of the pool's process, whichever pool it is, and what a process without a name becomes."
  @spec no_pool() :: [String.t()]
  def no_pool, do: ["Snakepit.Pool", "other"]

  @doc "The label of the pool that a worker belongs to."
  @spec in_pool() :: Event.source()
  def in_pool, do: {:pool_of, :worker_id, :pool}
end
