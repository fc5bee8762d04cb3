//! Reports over merged snapshots: those of an instance, with the nodes.

use serde::Serialize;

use super::merge::Merged;
use super::node::Node;
use crate::errors::{Errors, Ongoing};
use crate::report::Report;
use crate::usage_window::UsageInWindow;
use telemetry_instance::signal::{DescribedAnomaly, DescribedSpike, DescribedSpikeOver};

/// The report of an instance over all nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterReport {
    /// The sums.
    #[serde(flatten)]
    pub report: Report,
    /// Who is in it.
    pub nodes: Vec<Node>,
}

impl ClusterReport {
    /// What merged snapshots say.
    pub fn new(merged: &Merged) -> Self {
        Self { report: Report::of(merged), nodes: merged.nodes().to_vec() }
    }

    /// The report as JSON text.
    ///
    /// # Errors
    ///
    /// None that a report can cause: all keys are text and all numbers finite.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// The error report over all nodes. Spikes and anomalies are those of single nodes, each with its
/// node.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterErrors {
    /// The sums. Its spikes and anomalies are empty.
    pub errors: Errors,
    /// Spikes that go on, the earliest first.
    pub spikes: Vec<(String, DescribedSpike)>,
    /// Spikes that are over, the latest first, at most as many as one instance remembers.
    pub recent_spikes: Vec<(String, DescribedSpikeOver)>,
    /// Unusual latencies that go on, the earliest first.
    pub anomalies: Vec<(String, DescribedAnomaly)>,
}

impl ClusterErrors {
    /// What merged snapshots say.
    pub fn new(merged: &Merged) -> Self {
        let mut spikes = of_each(merged, |ongoing| &ongoing.spikes);
        spikes.sort_by_key(|(_, spike)| spike.first_unix_ms);
        let mut recent_spikes = of_each(merged, |ongoing| &ongoing.recent_spikes);
        recent_spikes.sort_by_key(|(_, spike)| std::cmp::Reverse(spike.last_unix_ms));
        recent_spikes.truncate(telemetry_instance::spike::RECENT_SPIKES);
        let mut anomalies = of_each(merged, |ongoing| &ongoing.anomalies);
        anomalies.sort_by_key(|(_, anomaly)| anomaly.started_unix_ms);
        let errors = Errors::of(merged, Ongoing::default());
        Self { errors, spikes, recent_spikes, anomalies }
    }
}

/// Something of each node, with the node's name.
fn of_each<T: Clone>(merged: &Merged, of: fn(&Ongoing) -> &Vec<T>) -> Vec<(String, T)> {
    let nodes = merged.ongoing().iter();
    nodes
        .flat_map(|(node, ongoing)| of(ongoing).iter().map(|one| (node.clone(), one.clone())))
        .collect()
}

/// What was used how often over all nodes.
pub fn usage(merged: &Merged, top: usize) -> UsageInWindow {
    UsageInWindow::of(merged, top)
}
