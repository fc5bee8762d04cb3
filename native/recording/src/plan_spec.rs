//! Plans as a definition declares them.

use serde::Deserialize;
use serde_json::{Map, Value};

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

/// One thing that an event does.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub enum StepSpec {
    /// Feeds the metrics of one series.
    Feed(FeedSpec),
    /// Counts an error by its reason, and tells of it.
    Failure(FailureSpec),
    /// Something else, which is made from what is said of it by [`crate::compile::Effects`].
    Effect {
        /// What it is called.
        name: String,
        /// What is said of it.
        spec: Value,
    },
}

/// The name of the effect that is told of calls.
pub const CALL: &str = "call";

impl TryFrom<Map<String, Value>> for StepSpec {
    type Error = String;

    fn try_from(step: Map<String, Value>) -> Result<Self, String> {
        let mut entries = step.into_iter();
        let (Some((name, spec)), None) = (entries.next(), entries.next()) else {
            return Err("a step is an object with one key, its name".to_owned());
        };
        let error = |error: serde_json::Error| format!("step {name}: {error}");
        Ok(match &*name {
            "feed" => Self::Feed(serde_json::from_value(spec).map_err(error)?),
            "failure" => Self::Failure(serde_json::from_value(spec).map_err(error)?),
            _ => Self::Effect { name, spec },
        })
    }
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
    pub claim: Option<Value>,
    /// The call that the event ends, if it ends one.
    #[serde(default)]
    pub call: Option<Value>,
}
