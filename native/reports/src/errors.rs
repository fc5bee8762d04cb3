//! The error report: errors in a window by kind and reason, spikes and anomalies.

use serde::{Deserialize, Serialize};

use crate::reasons::MethodErrors;
use crate::report::{CountBy, View};
use crate::source::{Live, Source};
use telemetry_common::moment::Moment;
use telemetry_instance::call_log::LoggedCall;
use telemetry_instance::instance::Instance;
use telemetry_instance::signal::{DescribedAnomaly, DescribedSpike, DescribedSpikeOver};
use telemetry_recording::family::Role;
use telemetry_windows::window::{Interval, Window};

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
    /// The same by method, those that fail most first.
    pub by_method: Vec<MethodErrors>,
    /// The last calls that failed, the newest first.
    pub last_failures: Vec<LoggedCall>,
    /// Spikes that go on, the earliest first.
    pub spikes: Vec<DescribedSpike>,
    /// Spikes that are over, the latest first.
    pub recent_spikes: Vec<DescribedSpikeOver>,
    /// Unusual latencies that go on, the earliest first.
    pub anomalies: Vec<DescribedAnomaly>,
}

/// What goes on now, or did lately, whatever the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ongoing {
    /// Spikes that go on, the earliest first.
    pub spikes: Vec<DescribedSpike>,
    /// Spikes that are over, the latest first.
    pub recent_spikes: Vec<DescribedSpikeOver>,
    /// Unusual latencies that go on, the earliest first.
    pub anomalies: Vec<DescribedAnomaly>,
}

impl Ongoing {
    pub(crate) fn of(instance: &Instance, now: Moment) -> Self {
        let spikes = instance.spikes();
        Self {
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

impl Errors {
    /// Reads an instance while it goes on recording.
    pub fn new(instance: &Instance, window: Window, now: Moment) -> Self {
        let reader = instance.read();
        let source = Live::new(&reader, window, now);
        let last_failures = instance.call_log().failures(&source.interval());
        Self { last_failures, ..Self::of(&source, Ongoing::of(instance, now)) }
    }

    /// What a source says, and what goes on. It has no single calls.
    pub(crate) fn of(source: &dyn Source, ongoing: Ongoing) -> Self {
        let view = View(source);
        let by_reason = view.counts(Role::Errors);
        let Ongoing { spikes, recent_spikes, anomalies } = ongoing;
        Self {
            interval: source.interval(),
            errors: by_reason.values().sum(),
            by_kind: view.counts_by_dimension(Role::Errors),
            by_reason,
            by_method: view.method_errors(),
            last_failures: Vec::new(),
            spikes,
            recent_spikes,
            anomalies,
        }
    }
}
