//! Alerts: what is signalled, and what is found out about it when a slice of time ends.

use std::sync::Arc;

use serde::Deserialize;

use crate::anomaly::{Anomalies, AnomalySpec, CurrentAnomaly};
use crate::signal::{Signal, Signals, SuppressedWaits};
use crate::spike::{SpikeSpec, Spikes, Swept};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_common::throttle::Throttle;
use telemetry_recording::family::Family;
use telemetry_recording::point::Point;
use telemetry_windows::quantiles::Samples;

/// What is signalled.
#[derive(Clone, Debug, Deserialize)]
pub struct AlertSpec {
    /// How many signals may wait to be taken.
    pub signal_limit: usize,
    /// What a spike of errors is.
    pub spikes: SpikeSpec,
    /// What an unusual latency is, and of which family's first histogram.
    pub anomalies: Option<(String, AnomalySpec)>,
    /// The shortest time between two signals of waits for the same command.
    pub queue_wait_interval_ms: u64,
    /// How many commands are told apart.
    pub queue_wait_commands: usize,
    /// How long a key has no calls before its anomaly is over for lack of them.
    pub anomaly_silence_ms: u64,
    /// How long a key has no calls before its usual range is forgotten.
    pub anomaly_forget_ms: u64,
}

/// What is signalled, and from where. Looks for anomalies whenever a slice of time ends.
pub(crate) struct Alerts {
    pub(crate) signals: Signals,
    pub(crate) spikes: Spikes,
    /// Which commands' waits were signalled lately.
    pub(crate) queue_waits: Throttle,
    watched: Option<Watched>,
    silence_ms: u64,
    forget_ms: u64,
}

struct Watched {
    /// The family's place and itself.
    index: usize,
    family: Arc<Family>,
    anomalies: Anomalies,
}

impl Alerts {
    pub(crate) fn new(spec: AlertSpec, families: &[Arc<Family>]) -> Self {
        let watched = spec.anomalies.and_then(|(name, anomalies)| {
            let index = families.iter().position(|family| family.name() == name)?;
            families[index].layout().histograms().first()?;
            let family = Arc::clone(&families[index]);
            Some(Watched { index, family, anomalies: Anomalies::new(anomalies) })
        });
        Self {
            signals: Signals::new(spec.signal_limit),
            spikes: Spikes::new(spec.spikes),
            queue_waits: Throttle::new(spec.queue_wait_interval_ms, spec.queue_wait_commands),
            watched,
            silence_ms: spec.anomaly_silence_ms,
            forget_ms: spec.anomaly_forget_ms,
        }
    }

    /// What is over by now.
    pub(crate) fn tick(&self, now: Moment) {
        let Self { signals, spikes, queue_waits, .. } = self;
        let Swept { over, spikes, repeats } = spikes.sweep(now.ms);
        let over = over.into_iter().map(Signal::ErrorSpikeOver);
        let spikes = spikes.into_iter().map(Signal::ErrorSpike);
        let repeats = repeats.into_iter().map(Signal::ErrorSpikeRepeats);
        for signal in over.chain(spikes).chain(repeats) {
            signals.send(now, signal);
        }
        for (command, suppressed) in queue_waits.flush(now.ms) {
            let command = command.as_ref().to_owned();
            let waits = SuppressedWaits { command, suppressed };
            signals.send(now, Signal::QueueWaitsSuppressed(waits));
        }
    }

    /// What a series of the n-th family has counted in the slice that ends.
    pub(crate) fn slice(&self, family: usize, labels: &LabelSet, delta: &Point, now: Moment) {
        let Some(watched) = self.watched.as_ref().filter(|watched| watched.index == family) else {
            return;
        };
        let Some(metric) = watched.family.layout().histograms().first() else {
            return;
        };
        let mut samples = Samples::new(metric);
        samples.add(delta, metric);
        if let Some(p95) = samples.quantile(0.95) {
            let change = watched.anomalies.observe(labels, now.ms, samples.count(), p95);
            if let Some(change) = change {
                self.signals.send(now, Signal::LatencyAnomaly(change));
            }
        }
    }

    /// All series have told what they counted in the slice.
    pub(crate) fn end_slice(&self, now: Moment) {
        if let Some(watched) = &self.watched {
            for change in watched.anomalies.sweep(now.ms, self.silence_ms, self.forget_ms) {
                self.signals.send(now, Signal::LatencyAnomaly(change));
            }
        }
    }

    /// The anomalies that go on.
    pub(crate) fn current(&self) -> Vec<CurrentAnomaly> {
        self.watched.as_ref().map(|watched| watched.anomalies.current()).unwrap_or_default()
    }

    /// Forgets all spikes, anomalies and usual ranges.
    pub(crate) fn clear(&self) {
        self.spikes.clear();
        if let Some(watched) = &self.watched {
            watched.anomalies.clear();
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.watched.as_ref().map_or(0, |watched| watched.anomalies.memory_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_what_is_watched_is_counted() {
        let spec = serde_json::json!({
            "name": "family", "labels": ["m"], "counters": [], "digits": 2, "series_limit": 1,
            "histograms": [{"name": "h", "unit": "one", "bounds": []}],
        });
        let spec = serde_json::from_value(spec).expect("a family");
        let family = Arc::new(Family::new(spec).expect("valid"));
        let spec = AlertSpec {
            signal_limit: 1,
            spikes: SpikeSpec {
                threshold: 1,
                window_ms: 1,
                percent: 0,
                repeat_ms: 0,
                key_limit: 1,
            },
            anomalies: Some((family.name().to_owned(), AnomalySpec::default())),
            queue_wait_interval_ms: 1,
            queue_wait_commands: 1,
            anomaly_silence_ms: 1,
            anomaly_forget_ms: 1,
        };
        let alerts = Alerts::new(spec, &[family]);
        assert_eq!(alerts.memory_bytes(), 0);
        let anomalies = &alerts.watched.as_ref().expect("it has a histogram").anomalies;
        anomalies.observe(&LabelSet::new(["m"]), 0, 1_000, 1);
        assert_eq!(alerts.memory_bytes(), anomalies.memory_bytes());
        assert!(alerts.memory_bytes() > size_of::<Anomalies>());
    }
}
