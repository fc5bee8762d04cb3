//! Plans as a definition declares them.

use serde::Deserialize;

use crate::claim::ClaimSpec;
use crate::field::FieldKind;

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
    /// Who feeds them, if several sources could.
    #[serde(default)]
    pub claim: Option<ClaimSpec>,
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
    /// Who counts it, if several sources could.
    #[serde(default)]
    pub claim: Option<ClaimSpec>,
    /// Sources of the labels by which errors are told apart.
    pub labels: Vec<LabelSource>,
    /// The kind of the error.
    pub kind: WordSource,
    /// Its reason.
    pub reason: WordSource,
    /// Name of the family with these labels whose first counter counts spikes.
    pub spikes: String,
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
    /// Who tells it, if several sources could.
    #[serde(default)]
    pub claim: Option<ClaimSpec>,
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
    /// Looks for a spike of errors.
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
    /// Takes an id out of the set of workers.
    WorkerDown {
        /// The field with the id.
        id: usize,
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
}
