//! Plans as a definition declares them.

use serde::Deserialize;

use crate::call_path::{Operation, Phase};
use crate::field::FieldKind;
use crate::owner::Emitter;

/// Where a label's value comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// A text or flag field.
    Field(usize),
    /// Always the same.
    Constant(String),
    /// The class field where it is there, else the class of the reference, else `unknown`.
    ClassOf {
        /// The field with the reference.
        reference: usize,
        /// The field with the class.
        class: usize,
    },
    /// The pool of the worker where that is known, else the pool field.
    PoolOf {
        /// The field with the worker.
        worker: usize,
        /// The field with the pool.
        pool: usize,
    },
}

/// Where the index into a dimension comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DimensionSource {
    /// A flag (`true` is index 0, `false` is 1) or choice field.
    Field(usize),
    /// Always the same index.
    Constant(usize),
}

/// A counter that a step increments.
#[derive(Clone, Debug, Deserialize)]
pub struct CountSpec {
    /// Name of the counter in the step's family.
    pub counter: String,
    /// One source for each of its dimensions.
    pub dimensions: Vec<DimensionSource>,
}

/// A histogram that a step records into.
#[derive(Clone, Debug, Deserialize)]
pub struct ObserveSpec {
    /// Name of the histogram in the step's family.
    pub histogram: String,
    /// The field with the value; an absent optional one is skipped.
    pub field: usize,
}

/// The metrics of one series that an event feeds.
#[derive(Clone, Debug, Deserialize)]
pub struct FeedSpec {
    /// A flag that keeps the event from feeding them where it is set.
    #[serde(default)]
    pub unless: Option<usize>,
    /// Another such flag.
    #[serde(default)]
    pub or_unless: Option<usize>,
    /// Whether it is done only if the event counts, by the plan's claim.
    #[serde(default)]
    pub claimed: bool,
    /// Name of the family.
    pub family: String,
    /// One source for each of its labels.
    pub labels: Vec<LabelSource>,
    /// The counters to increment.
    pub counts: Vec<CountSpec>,
    /// The histograms to record into.
    pub observes: Vec<ObserveSpec>,
}

/// Where a word comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordSource {
    /// A text or choice field.
    Field(usize),
    /// Always the same.
    Constant(String),
}

/// An error, of which many in a short time are a spike.
#[derive(Clone, Debug, Deserialize)]
pub struct FailureSpec {
    /// A flag that says, where it is set, that there was no error.
    #[serde(default)]
    pub unless: Option<usize>,
    /// Another such flag.
    #[serde(default)]
    pub or_unless: Option<usize>,
    /// Whether it is done only if the event counts, by the plan's claim.
    #[serde(default)]
    pub claimed: bool,
    /// Sources of the labels by which errors are told apart.
    pub labels: Vec<LabelSource>,
    /// The kind of the error.
    pub kind: WordSource,
    /// A text field that is its reason.
    #[serde(default)]
    pub reason: Option<usize>,
    /// Its reason where the event gives none.
    pub otherwise: String,
    /// Name of the family with these labels whose first counter counts spikes.
    pub spikes: String,
    /// Names of families whose first counter counts errors by kind: one with the reason as its label, and one with
    /// these labels and the reason.
    #[serde(default)]
    pub errors: Vec<String>,
    /// Name of the family with these labels whose first counter counts completed calls, failed ones
    /// included; without one, errors alone make a spike.
    #[serde(default)]
    pub calls: Option<String>,
}

/// A request that a worker is done with.
#[derive(Clone, Debug, Deserialize)]
pub struct CompletionSpec {
    /// A flag that says, where it is set, that no worker had anything to do with it.
    #[serde(default)]
    pub unless: Option<usize>,
    /// The field with what the request was for.
    pub command: usize,
    /// The field with the worker.
    pub worker: usize,
    /// The field with the duration, in nanoseconds once stored.
    pub duration: usize,
    /// The flag that says whether it succeeded; without one it did not.
    pub success: Option<usize>,
}

/// A level that a step sets.
#[derive(Clone, Debug, Deserialize)]
pub struct SetSpec {
    /// Name of the level.
    pub level: String,
    /// One source for each of its labels.
    pub labels: Vec<LabelSource>,
    /// The value.
    pub value: ValueSource,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// A measurement; an absent optional one sets nothing.
    Field(usize),
    /// Always the same.
    Constant(u64),
}

/// One thing that an event does.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSpec {
    /// Feeds the metrics of one series.
    Feed(FeedSpec),
    /// Counts an error by its reason, and looks for a spike of errors.
    Failure(FailureSpec),
    /// Signals a wait that is too long.
    Wait {
        /// The field with the wait, in nanoseconds once stored.
        field: usize,
        /// The longest wait that is not signalled.
        above: u64,
        /// The field with the worker.
        worker: usize,
        /// The field with the command.
        command: usize,
    },
    /// Remembers the class of a reference, if the event carries one.
    Bind {
        /// The field with the reference.
        reference: usize,
        /// The field with the class.
        class: usize,
    },
    /// Tells the router what became of a request, if the event names the worker that it went to.
    Completion(CompletionSpec),
    /// Tells the router how long a request waited for its worker, if the event names it.
    Queued {
        /// The field with the wait, in nanoseconds once stored.
        field: usize,
        /// The field with the worker.
        worker: usize,
    },
    /// Tells the router and the cache in which worker's memory what a reference names lives, if the event
    /// carries both.
    Lives {
        /// The field with the reference.
        reference: usize,
        /// The field with the worker.
        worker: usize,
    },
    /// Sets a level.
    Set(SetSpec),
    /// Adds an id to the set of workers.
    WorkerUp {
        /// The field with the id.
        id: usize,
    },
    /// Remembers the pool of a worker, if the event carries both.
    InPool {
        /// The field with the worker.
        worker: usize,
        /// The field with the pool.
        pool: usize,
        /// Names that tell no pool from another.
        except: Vec<String>,
    },
    /// The process starts an operation of a bridge.
    Enter {
        /// Which one.
        operation: Operation,
        /// A choice field and the index at which it does; always without one.
        #[serde(default)]
        when: Option<(usize, usize)>,
    },
    /// The process ends an operation of a bridge.
    Leave {
        /// Which one.
        operation: Operation,
    },
    /// A worker gets a request.
    Dispatched {
        /// The field with the process that has made it, if that is not the one that emits the event.
        process: usize,
        /// The field with the worker.
        worker: usize,
        /// The field with the command.
        command: usize,
    },
    /// Takes an id out of the set of workers.
    WorkerDown {
        /// The field with the id.
        id: usize,
    },
}

/// When the claimed steps of an event are done, if another emitter may tell of the same.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimSpec {
    /// Unless it is an execution that carries a call of a bridge.
    Execution {
        /// The field with the command.
        command: usize,
        /// The field with the worker.
        worker: usize,
        /// Which end it is, if it is one that a worker was given.
        phase: Option<Phase>,
    },
    /// Unless its process is in a call of a bridge.
    Call,
    /// If the emitter owns the name of the tool.
    Tool {
        /// The field with the name.
        name: usize,
        /// Who emits.
        emitter: Emitter,
    },
    /// If the emitter owns the id of the worker.
    Worker {
        /// The field with the id.
        id: usize,
        /// Who emits.
        emitter: Emitter,
    },
}

/// The exemplars of an event.
#[derive(Clone, Debug, Deserialize)]
pub struct ExemplarSpec {
    /// The field with the value: exemplars are kept by the histograms that observe it.
    pub field: usize,
    /// Names of the labels that exemplars have, the most wanted first.
    pub labels: Vec<String>,
}

/// A plan as a definition declares it.
#[derive(Clone, Debug, Deserialize)]
pub struct PlanSpec {
    /// The event's name, its segments joined by dots.
    pub event: String,
    /// The positional fields.
    pub fields: Vec<FieldKind>,
    /// What the event does.
    pub steps: Vec<StepSpec>,
    /// Of what exemplars are kept, if of anything.
    #[serde(default)]
    pub exemplar: Option<ExemplarSpec>,
    /// When its claimed steps are done, if not always.
    #[serde(default)]
    pub claim: Option<ClaimSpec>,
    /// The call that the event ends, if it ends one.
    #[serde(default)]
    pub call: Option<CallSpec>,
}

/// A call that an event ends. Among the slowest it is kept.
#[derive(Clone, Debug, Deserialize)]
pub struct CallSpec {
    /// Sources of the labels of its method: the name and the class.
    pub labels: Vec<LabelSource>,
    /// The field with its duration, in nanoseconds once stored.
    pub duration: usize,
    /// A flag that says, where it is set, that it is none.
    #[serde(default)]
    pub unless: Option<usize>,
}
