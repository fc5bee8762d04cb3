//! The nodes of a report: who is in it, who is not, and why.

use serde::{Deserialize, Serialize};

use telemetry_windows::window::Interval;

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its numbers are in the report.
    Merged,
    /// It did not answer in time.
    Timeout,
    /// There is no connection to it, or there was none any more before it answered.
    NotConnected,
    /// No instance of this name runs on it.
    NoInstance,
    /// It does not have this library, or one that is too old.
    NoLibrary,
    /// It sends snapshots of another format.
    OtherVersion,
    /// Its families have other labels, metrics, bounds or digits than those that were merged before.
    OtherConfiguration,
    /// Its snapshot is larger than allowed.
    TooLarge,
    /// What it sent is no snapshot, or a damaged one.
    Corrupt,
    /// It failed.
    Failed,
    /// It was not asked, because there are more nodes than allowed.
    NotAsked,
}

/// One node of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// What became of it.
    pub state: State,
    /// Why it is not in the report, or what of it is not; absent if all of it is.
    pub reason: Option<String>,
    /// The time that its numbers cover, by its own clock.
    pub interval: Option<Interval>,
    /// Series that it sent.
    pub series: u64,
    /// Series that it, or the merge, had no room for, and which are in the overflow rows.
    pub folded: u64,
    /// Completed method calls that it counted.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Bytes that it sent.
    pub bytes: u64,
}

impl Node {
    /// A node whose numbers are not in the report.
    pub fn absent(node: String, state: State, reason: Option<String>) -> Self {
        Self {
            node,
            state,
            reason,
            interval: None,
            series: 0,
            folded: 0,
            calls: 0,
            errors: 0,
            bytes: 0,
        }
    }
}

/// Why a snapshot was not merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What that makes of the node.
    pub state: State,
    /// A sentence.
    pub reason: String,
}

impl Refusal {
    pub(super) fn corrupt(reason: &str) -> Self {
        Self { state: State::Corrupt, reason: reason.to_owned() }
    }

    pub(super) fn too_large(bytes: usize, limit: usize) -> Self {
        Self {
            state: State::TooLarge,
            reason: format!(
                "its snapshot has {bytes} bytes before compression, {limit} are allowed: raise \
                 max_bytes, lower series_limit or take a shorter window"
            ),
        }
    }
}
