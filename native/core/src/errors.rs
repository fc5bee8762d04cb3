//! The error report: errors in a window by kind and reason, spikes and anomalies.

use serde::Serialize;

use crate::instance::Instance;
use crate::report::{CountBy, View};
use crate::signal::{DescribedAnomaly, DescribedSpike, DescribedSpikeOver};
use crate::window::{Interval, Moment, Window};

const FAMILY: &str = "dspex.bridge.error";

/// Errors in a window, and what goes on now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Errors {
    /// The time that the numbers cover.
    pub interval: Interval,
    /// How many calls failed.
    pub errors: u64,
    /// The same by kind.
    pub by_kind: CountBy,
    /// The same by reason.
    pub by_reason: CountBy,
    /// Spikes that go on, the earliest first.
    pub spikes: Vec<DescribedSpike>,
    /// Spikes that are over, the latest first.
    pub recent_spikes: Vec<DescribedSpikeOver>,
    /// Unusual latencies that go on, the earliest first.
    pub anomalies: Vec<DescribedAnomaly>,
}

impl Errors {
    /// Reads an instance while it goes on recording.
    pub fn new(instance: &Instance, window: Window, now: Moment) -> Self {
        let view = View { reader: instance.read(), window, now };
        let by_reason = view.counts(FAMILY);
        let spikes = instance.spikes();
        Self {
            interval: view.reader.interval(window, now),
            errors: by_reason.values().sum(),
            by_kind: view.counts_by_dimension(FAMILY),
            by_reason,
            spikes: spikes
                .current(now.ms)
                .iter()
                .map(|spike| DescribedSpike::current(spike, now))
                .collect(),
            recent_spikes: spikes
                .recent()
                .iter()
                .map(|over| DescribedSpikeOver::new(over, now))
                .collect(),
            anomalies: instance
                .anomalies()
                .iter()
                .map(|anomaly| DescribedAnomaly::current(anomaly, now))
                .collect(),
        }
    }
}
