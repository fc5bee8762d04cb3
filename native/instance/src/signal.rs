//! Signals: what is noticed while events are recorded or a slice of time ends.
//!
//! They go into a channel of bounded length. When nobody takes them out, the channel fills, and what
//! comes then is dropped and counted: whoever records never waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_channel::{Receiver, Sender, unbounded};

use serde::{Deserialize, Serialize};

use crate::anomaly::{Anomaly, AnomalyChange, CurrentAnomaly, Direction, OverReason};
use crate::spike::{Cause, CurrentSpike, ErrorSpike, SpikeOver, SpikeRepeats};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_recording::metric::NANOSECONDS_PER_MICROSECOND;

/// Something that people want to be told at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// Many errors of one key in a short time.
    ErrorSpike(ErrorSpike),
    /// A spike is over.
    ErrorSpikeOver(SpikeOver),
    /// Spikes of one key were held back, and no other came after them.
    ErrorSpikeRepeats(SpikeRepeats),
    /// The latency of a key left its usual range, or is back.
    LatencyAnomaly(AnomalyChange),
    /// A request waited too long for a worker.
    QueueWait(QueueWait),
    /// More requests did, and no other came after them.
    QueueWaitsSuppressed(SuppressedWaits),
    /// A family got its first event over the limit.
    Overflow(Overflow),
}

/// A signal as it is told: with names, microseconds, and the calendar's time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Described {
    /// Many errors of one method in a short time.
    ErrorSpike(DescribedSpike),
    /// A spike is over.
    ErrorSpikeOver(DescribedSpikeOver),
    /// Spikes of one method were held back, and no other came after them.
    ErrorSpikeRepeats(DescribedRepeats),
    /// The latency of a method left its usual range, or is back.
    LatencyAnomaly(DescribedAnomaly),
    /// A request waited too long for a worker.
    QueueWait(QueueWait),
    /// More requests did, and no other came after them.
    QueueWaitsSuppressed(SuppressedWaits),
    /// A family got its first event over the limit.
    Overflow(Overflow),
}

/// A spike that has just started or goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescribedSpike {
    /// The method.
    pub method: String,
    /// The class.
    pub python_class: String,
    /// Errors in the window; of one that has just been signalled, all.
    pub error_count: u64,
    /// Errors from the first in the window that started it.
    pub total: u64,
    /// Their causes, the most frequent first.
    pub causes: Vec<Cause>,
    /// When the first came.
    pub first_unix_ms: i64,
    /// When the last came.
    pub last_unix_ms: i64,
    /// Spikes of the method that were held back since the last that was signalled, before this one.
    pub repeats: u64,
}

/// A spike that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescribedSpikeOver {
    /// The method.
    pub method: String,
    /// The class.
    pub python_class: String,
    /// Errors from the first in the window that started it.
    pub total: u64,
    /// Their causes, the most frequent first.
    pub causes: Vec<Cause>,
    /// When the first came.
    pub first_unix_ms: i64,
    /// When the last came.
    pub last_unix_ms: i64,
    /// From the first error to the end.
    pub duration_ms: u64,
    /// Further spikes, held back, that are summed up in this.
    pub repeats: u64,
}

/// Spikes that were held back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DescribedRepeats {
    /// The method.
    pub method: String,
    /// The class.
    pub python_class: String,
    /// How many.
    pub repeats: u64,
}

/// Whether an anomaly is on or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyState {
    /// It began, and goes on as far as is known.
    Started,
    /// It is over.
    Over,
}

/// An unusual latency that begins, goes on or ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescribedAnomaly {
    /// The method.
    pub method: String,
    /// The class.
    pub python_class: String,
    /// Whether it is on or over.
    pub state: AnomalyState,
    /// On which side of the usual range.
    pub direction: Direction,
    /// The 0.95 quantile of the latest slice.
    pub p95_us: f64,
    /// The median of the slices before.
    pub median_us: f64,
    /// Their median absolute deviation.
    pub mad_us: f64,
    /// Where the usual range begins.
    pub lower_us: f64,
    /// Where it ends.
    pub upper_us: f64,
    /// Calls in the latest slice.
    pub count: u64,
    /// Since it began.
    pub duration_ms: u64,
    /// When it began.
    pub started_unix_ms: i64,
    /// Why it ended.
    pub reason: Option<OverReason>,
}

/// The labels of a method: its name and its class.
fn method_and_class(key: &LabelSet) -> (String, String) {
    let mut values = key.values().map(str::to_owned);
    (values.next().unwrap_or_default(), values.next().unwrap_or_default())
}

impl DescribedSpike {
    fn started(spike: &ErrorSpike, now: Moment) -> Self {
        let (method, python_class) = method_and_class(&spike.key);
        Self {
            method,
            python_class,
            error_count: spike.error_count,
            total: spike.error_count,
            causes: spike.causes.clone(),
            first_unix_ms: now.unix_ms_at(spike.first_ms),
            last_unix_ms: now.unix_ms_at(spike.last_ms),
            repeats: spike.repeats,
        }
    }

    /// A spike that goes on.
    pub fn current(spike: &CurrentSpike, now: Moment) -> Self {
        let (method, python_class) = method_and_class(&spike.key);
        Self {
            method,
            python_class,
            error_count: spike.error_count,
            total: spike.total,
            causes: spike.causes.clone(),
            first_unix_ms: now.unix_ms_at(spike.first_ms),
            last_unix_ms: now.unix_ms_at(spike.last_ms),
            repeats: spike.repeats,
        }
    }
}

impl DescribedSpikeOver {
    /// A spike that is over.
    pub fn new(over: &SpikeOver, now: Moment) -> Self {
        let (method, python_class) = method_and_class(&over.key);
        Self {
            method,
            python_class,
            total: over.total,
            causes: over.causes.clone(),
            first_unix_ms: now.unix_ms_at(over.first_ms),
            last_unix_ms: now.unix_ms_at(over.last_ms),
            duration_ms: over.duration_ms,
            repeats: over.repeats,
        }
    }
}

impl DescribedRepeats {
    fn new(repeats: &SpikeRepeats) -> Self {
        let (method, python_class) = method_and_class(&repeats.key);
        Self { method, python_class, repeats: repeats.repeats }
    }
}

impl DescribedAnomaly {
    /// An anomaly that goes on.
    pub fn current(current: &CurrentAnomaly, now: Moment) -> Self {
        let duration_ms = now.ms.saturating_sub(current.started_ms);
        Self::new(&current.anomaly, AnomalyState::Started, current.started_ms, duration_ms, now)
    }

    fn changed(change: &AnomalyChange, now: Moment) -> Self {
        match change {
            AnomalyChange::Started(anomaly) => {
                Self::new(anomaly, AnomalyState::Started, anomaly.at_ms, 0, now)
            }
            AnomalyChange::Over(over) => {
                let started_ms = over.anomaly.at_ms.saturating_sub(over.duration_ms);
                let state = AnomalyState::Over;
                let told = Self::new(&over.anomaly, state, started_ms, over.duration_ms, now);
                Self { reason: Some(over.reason), ..told }
            }
        }
    }

    /// The values of an anomaly are nanoseconds.
    fn new(
        anomaly: &Anomaly,
        state: AnomalyState,
        started_ms: u64,
        duration_ms: u64,
        now: Moment,
    ) -> Self {
        let (method, python_class) = method_and_class(&anomaly.key);
        let us = |nanoseconds: f64| nanoseconds / NANOSECONDS_PER_MICROSECOND;
        Self {
            method,
            python_class,
            state,
            direction: anomaly.direction,
            p95_us: us(anomaly.p95 as f64),
            median_us: us(anomaly.median),
            mad_us: us(anomaly.mad),
            lower_us: us(anomaly.lower),
            upper_us: us(anomaly.upper),
            count: anomaly.samples,
            duration_ms,
            started_unix_ms: now.unix_ms_at(started_ms),
            reason: None,
        }
    }
}

impl Sent {
    /// The signal as it is told.
    pub fn describe(&self) -> Described {
        let at = self.at;
        match &self.signal {
            Signal::ErrorSpike(spike) => Described::ErrorSpike(DescribedSpike::started(spike, at)),
            Signal::ErrorSpikeOver(over) => {
                Described::ErrorSpikeOver(DescribedSpikeOver::new(over, at))
            }
            Signal::ErrorSpikeRepeats(repeats) => {
                Described::ErrorSpikeRepeats(DescribedRepeats::new(repeats))
            }
            Signal::LatencyAnomaly(change) => {
                Described::LatencyAnomaly(DescribedAnomaly::changed(change, at))
            }
            Signal::QueueWait(wait) => Described::QueueWait(wait.clone()),
            Signal::QueueWaitsSuppressed(waits) => Described::QueueWaitsSuppressed(waits.clone()),
            Signal::Overflow(overflow) => Described::Overflow(overflow.clone()),
        }
    }
}

/// A request that waited too long.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueWait {
    /// The worker that it got.
    pub worker_id: String,
    /// What it was for.
    pub command: String,
    /// How long it waited, in microseconds.
    pub wait_us: f64,
    /// How many of the same command were not signalled since the last that was.
    pub suppressed: u64,
}

/// Requests that waited too long and were not signalled one by one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuppressedWaits {
    /// The command of the requests.
    pub command: String,
    /// How many.
    pub suppressed: u64,
}

/// A family that got its first event over the limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overflow {
    /// The family.
    pub event: String,
    /// How many series it may have.
    pub limit: usize,
}

/// A signal, and when it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The time.
    pub at: Moment,
    /// The signal.
    pub signal: Signal,
}

/// The sending end.
pub struct Signals {
    limit: usize,
    sender: Sender<Sent>,
    receiver: Receiver<Sent>,
    dropped: AtomicU64,
}

impl Signals {
    /// A channel in which `limit` signals may wait.
    ///
    /// A bounded one would allocate room for all of them at once. This one allocates as they come.
    pub fn new(limit: usize) -> Self {
        let (sender, receiver) = unbounded();
        Self { limit, sender, receiver, dropped: AtomicU64::new(0) }
    }

    /// Sends a signal, or drops it if there is no room.
    ///
    /// Threads that look at the length at the same time may each send one: the length is at most the
    /// limit and one for each other thread.
    pub fn send(&self, at: Moment, signal: Signal) {
        if self.sender.len() >= self.limit || self.sender.send(Sent { at, signal }).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// The receiving end.
    pub fn receiver(&self) -> Receiver<Sent> {
        self.receiver.clone()
    }

    /// How many were dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment { ms: 5, unix_ms: 1_000 };

    fn overflow(limit: usize) -> Sent {
        let overflow = Overflow { event: "event".to_owned(), limit };
        Sent { at: NOW, signal: Signal::Overflow(overflow) }
    }

    #[test]
    fn threads_that_send_at_once_exceed_the_limit_by_one_each_at_most() {
        let (limit, threads, each) = (100, 8, 1_000);
        let signals = Signals::new(limit);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|n| signals.send(NOW, overflow(n).signal)));
            }
        });
        let kept = signals.receiver().len();
        assert!((limit..limit + threads).contains(&kept), "{kept}");
        assert_eq!(signals.dropped_total(), (threads * each - kept) as u64);
    }

    #[test]
    fn a_full_channel_drops_and_counts() {
        let signals = Signals::new(2);
        for limit in 0..5 {
            signals.send(NOW, overflow(limit).signal);
        }
        assert_eq!(signals.dropped_total(), 3);
        let kept: Vec<_> = signals.receiver().try_iter().collect();
        assert_eq!(kept, [overflow(0), overflow(1)]);
        signals.send(NOW, overflow(7).signal);
        assert_eq!(signals.receiver().try_recv(), Ok(overflow(7)));
    }
}
