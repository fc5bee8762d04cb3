//! Families as a definition declares them.

use serde::{Deserialize, Serialize};

use crate::measure::MeasureSpec;
use crate::metric::{CounterSpec, HistogramSpec};
use telemetry_common::label::LabelSet;

/// A family as a definition declares it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FamilySpec {
    /// The event or span whose series these are, such as `dspex.bridge.call_method`.
    pub name: String,
    /// Names of the labels, in the order of label values.
    pub labels: Vec<String>,
    /// Its counters.
    pub counters: Vec<CounterSpec>,
    /// Its histograms.
    pub histograms: Vec<HistogramSpec>,
    /// Significant decimal digits that its histograms keep, 1 to 3.
    pub digits: u8,
    /// How many series it may have before the rest goes to the overflow series.
    pub series_limit: usize,
    /// What reports ask it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Of what its series count uses.
    #[serde(default)]
    pub usage: Option<UsageSource>,
    /// Its measures. A family that has any has neither counters nor histograms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<MeasureSpec>,
}

/// What reports ask a family for. Where several families have a role, they read the first.
///
/// Calls are read from the family's first counter, by its dimension `success`, and their times from its first
/// histogram. All else is read from the first counter or from the histograms, in the order that the role says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Method calls, by method and class.
    Calls,
    /// What Python itself measured of them, by method and class.
    PythonTimes,
    /// Errors of method calls, by method, class and reason.
    CallErrors,
    /// All errors, by reason.
    Errors,
    /// Spikes of errors, by method and class.
    Spikes,
    /// Created instances, by class.
    Instances,
    /// Tool calls, by tool.
    Tools,
    /// Sessions that were created.
    CreatedSessions,
    /// Sessions that expired, by reason: how long they lived, and their operations.
    ExpiredSessions,
    /// Session variables that were set, by type.
    SetVariables,
    /// Reads of session variables, by whether they found a value.
    ReadVariables,
    /// Sizes of session variables, by what was done to them.
    VariableSizes,
    /// Workers that were started.
    StartedWorkers,
    /// Workers that died, by reason.
    DeadWorkers,
    /// Times of workers: how long they took to start, and how long they lived.
    WorkerTimes,
    /// Waits for a worker, by command.
    QueueWaits,
}

/// How the uses of something are read from a family.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct UsageSource {
    kind: UsageKind,
    counter: String,
    labels: Vec<usize>,
}

impl UsageSource {
    /// Of what.
    pub fn kind(&self) -> UsageKind {
        self.kind
    }

    /// Name of the counter that counts uses.
    pub fn counter(&self) -> &str {
        &self.counter
    }

    /// The name of what a series counts uses of: some of its labels, joined by dots.
    pub fn name(&self, labels: &LabelSet) -> String {
        let labels: Vec<_> = labels.values().collect();
        let parts = self.labels.iter().filter_map(|&label| labels.get(label).copied());
        parts.collect::<Vec<_>>().join(".")
    }
}

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    /// A Python class.
    Class,
    /// A method of a class.
    Method,
    /// A tool.
    Tool,
    /// A session variable.
    Variable,
}

impl UsageKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Class, Self::Method, Self::Tool, Self::Variable];

    /// The word for several of this kind.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Class => "classes",
            Self::Method => "methods",
            Self::Tool => "tools",
            Self::Variable => "variables",
        }
    }
}
