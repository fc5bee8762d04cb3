//! Latency anomalies: keys whose p95 leaves the range in which it was lately.
//!
//! The range is the median of the key's earlier values and some standard deviations to both sides,
//! estimated by the median absolute deviation: unlike mean and standard deviation, neither moves
//! before half of the values are outliers (Rousseeuw and Croux, "Alternatives to the Median
//! Absolute Deviation", JASA 88, 1993; Leys et al., "Detecting outliers", Journal of Experimental
//! Social Psychology 49, 2013).

mod range;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use telemetry_common::lock::lock;

use serde::{Deserialize, Serialize};

pub use range::Direction;
use range::Range;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::LabelSet;
use telemetry_common::table::{KeyMap, serialize_key};

/// What an anomaly is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct AnomalySpec {
    /// How many standard deviations the range extends from the median; by default 5, as for
    /// numbers that are negative or not finite.
    pub deviations: f64,
    /// Observations of fewer samples are ignored; by default 20.
    pub min_samples: u64,
    /// How many earlier values it takes to judge one, at least 1; by default 12.
    pub min_history: usize,
    /// How many earlier values are kept, at least `min_history`; by default 360.
    pub history: usize,
    /// How many keys are followed at a time; by default 2000.
    pub key_limit: usize,
}

impl Default for AnomalySpec {
    fn default() -> Self {
        Self { deviations: 5.0, min_samples: 20, min_history: 12, history: 360, key_limit: 2000 }
    }
}

/// An observation within an anomaly, and the range that held for it. All values but the samples
/// are in the unit in which p95s are observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Anomaly {
    /// Whose latency it is.
    #[serde(serialize_with = "serialize_key")]
    pub key: LabelSet,
    /// To which side the p95 left the range when the anomaly started.
    pub direction: Direction,
    /// The p95 observed.
    pub p95: u64,
    /// Median of the earlier p95s.
    pub median: f64,
    /// Their median absolute deviation from it, not scaled.
    pub mad: f64,
    /// The lowest p95 within the range.
    pub lower: f64,
    /// The highest p95 within the range.
    pub upper: f64,
    /// Samples of which `p95` is the 95th percentile.
    pub samples: u64,
    /// When it happened.
    pub at_ms: u64,
}

/// An anomaly that is on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurrentAnomaly {
    /// The last observation.
    #[serde(flatten)]
    pub anomaly: Anomaly,
    /// When the anomaly started.
    pub started_ms: u64,
}

/// An anomaly that is over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnomalyOver {
    /// The last observation: with [`OverReason::BackInRange`] the one that is in the range. `at_ms`
    /// is when the anomaly was over.
    #[serde(flatten)]
    pub anomaly: Anomaly,
    /// From the start of the anomaly to its end.
    pub duration_ms: u64,
    /// Why it is over.
    pub reason: OverReason,
}

/// Why an anomaly is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverReason {
    /// A p95 was in the range again.
    BackInRange,
    /// There were too few calls for too long. Over since the last observation was as old as the
    /// silence that was asked for, however late it was noticed.
    NoCalls,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyChange {
    /// Its p95 left the range.
    Started(Anomaly),
    /// Its anomaly is over.
    Over(AnomalyOver),
}

/// The recent p95s of many keys, and which of them are out of range.
///
/// The median absolute deviation times 1.4826 estimates the standard deviation of normally
/// distributed values; a tenth of the median is the least that is taken for it, so that a steady
/// key does not alarm for nothing. An anomaly starts with the first p95 outside and is over with
/// the first inside; a p95 on the other side is part of the same anomaly.
///
/// Values become history during an anomaly too. A change that lasts is the new normal, and its
/// anomaly over, after about as many observations as half the history kept.
///
/// Times of a key never go back: a time below one already seen counts as the latter.
///
/// ```
/// use telemetry_instance::anomaly::{Anomalies, AnomalyChange, AnomalySpec};
/// use telemetry_common::label::LabelSet;
///
/// let anomalies = Anomalies::new(AnomalySpec::default());
/// let key = LabelSet::new(["predict"]);
/// for slice in 0..12 {
///     assert_eq!(anomalies.observe(&key, slice * 10_000, 50, 1_000), None);
/// }
/// // A steady key: a tenth of the median counts as its deviation.
/// assert_eq!(anomalies.observe(&key, 120_000, 50, 1_500), None);
/// let change = anomalies.observe(&key, 130_000, 50, 1_501);
/// assert!(matches!(change, Some(AnomalyChange::Started(anomaly)) if anomaly.upper == 1_500.0));
/// let change = anomalies.observe(&key, 140_000, 50, 900);
/// assert!(matches!(change, Some(AnomalyChange::Over(over)) if over.duration_ms == 10_000));
/// ```
pub struct Anomalies {
    spec: AnomalySpec,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    keys: KeyMap<LabelSet, KeyHistory>,
    untracked: u64,
    /// When keys were last dropped. They are gone with the times that they had seen, so that this
    /// is the least time of any later observation.
    swept_ms: u64,
    /// Where medians are searched.
    scratch: Vec<f64>,
}

struct KeyHistory {
    observed_ms: u64,
    /// Oldest first. Six digits are enough to tell what is usual.
    p95s: VecDeque<f32>,
    /// Boxed, because few keys have one.
    anomaly: Option<Box<Ongoing>>,
}

/// An anomaly that is on, as last observed.
struct Ongoing {
    started_ms: u64,
    direction: Direction,
    last: Observation,
    range: Range,
}

#[derive(Clone, Copy)]
struct Observation {
    at_ms: u64,
    samples: u64,
    p95: u64,
}

impl Anomalies {
    /// Follows no key yet. Values of the specification out of range are replaced by the nearest in
    /// range.
    pub fn new(spec: AnomalySpec) -> Self {
        let usable = spec.deviations.is_finite() && spec.deviations >= 0.0;
        let min_history = spec.min_history.max(1);
        let spec = AnomalySpec {
            deviations: if usable { spec.deviations } else { AnomalySpec::default().deviations },
            min_history,
            history: spec.history.max(min_history),
            ..spec
        };
        Self { spec, table: Mutex::default() }
    }

    /// Judges a key's p95 of a slice by the earlier ones, and adds it to them. To be called once
    /// for each key and slice that has samples.
    ///
    /// With fewer than `min_samples` it is as if there had been no observation. That of a new key
    /// is dropped and counted as untracked if there is no room; see [`Anomalies::sweep`].
    pub fn observe(
        &self,
        key: &LabelSet,
        now_ms: u64,
        samples: u64,
        p95: u64,
    ) -> Option<AnomalyChange> {
        if samples < self.spec.min_samples {
            return None;
        }
        let table = &mut *self.table();
        let seen = Observation { at_ms: now_ms.max(table.swept_ms), samples, p95 };
        if let Some(history) = table.keys.get_mut(key) {
            return history.observe(&self.spec, key, seen, &mut table.scratch);
        }
        if table.keys.len() >= self.spec.key_limit {
            table.untracked += 1;
            return None;
        }
        let mut history = KeyHistory { observed_ms: 0, p95s: VecDeque::new(), anomaly: None };
        let change = history.observe(&self.spec, key, seen, &mut table.scratch);
        table.keys.insert(key.clone(), history);
        change
    }

    /// Anomalies that are over because their keys were not observed for `silence_ms`, in the order
    /// in which they ended.
    ///
    /// Keys without an anomaly that were not observed for longer than `forget_ms` are forgotten. If
    /// that leaves the table full, those that were not observed for `silence_ms` make room, the
    /// least recently observed first, until a 16th of the table is free. Keys in use are never
    /// forgotten for new ones: with too many for the table, some are followed rather than none.
    pub fn sweep(&self, now_ms: u64, silence_ms: u64, forget_ms: u64) -> Vec<AnomalyChange> {
        let table = &mut *self.table();
        table.swept_ms = table.swept_ms.max(now_ms);
        let mut ended = Vec::new();
        table.keys.retain(|key, history| {
            let idle_ms = table.swept_ms.saturating_sub(history.observed_ms);
            if idle_ms >= silence_ms {
                ended.extend(history.end_by_silence(key, silence_ms));
            }
            history.anomaly.is_some() || idle_ms <= forget_ms
        });
        table.make_room(self.spec.key_limit, silence_ms);
        let order = |over: &AnomalyOver| (over.anomaly.at_ms, over.anomaly.key.clone());
        ended.sort_by_cached_key(order);
        ended.into_iter().map(AnomalyChange::Over).collect()
    }

    /// The anomalies that are on, the earliest first.
    pub fn current(&self) -> Vec<CurrentAnomaly> {
        let table = self.table();
        let current = table.keys.iter().filter_map(|(key, history)| {
            let ongoing = history.anomaly.as_ref()?;
            let anomaly = ongoing.describe(key);
            Some(CurrentAnomaly { anomaly, started_ms: ongoing.started_ms })
        });
        let mut current: Vec<_> = current.collect();
        current.sort_by_cached_key(|one| (one.started_ms, one.anomaly.key.clone()));
        current
    }

    /// How many observations were dropped because their keys found no room.
    pub fn untracked(&self) -> u64 {
        self.table().untracked
    }

    /// Bytes allocated for keys and their histories.
    pub fn memory_bytes(&self) -> usize {
        let table = self.table();
        heap::sum([
            table.keys.heap_bytes(),
            heap::sum(table.keys.keys().map(LabelSet::memory_bytes)),
            heap::sum(table.keys.values().map(KeyHistory::memory_bytes)),
            table.scratch.heap_bytes(),
        ])
    }

    /// Forgets all keys, without telling of the anomalies that are on.
    pub fn clear(&self) {
        let table = &mut *self.table();
        *table = Table { swept_ms: table.swept_ms, ..Table::default() };
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    /// To be called when the anomalies of silent keys have just been ended.
    fn make_room(&mut self, key_limit: usize, silence_ms: u64) {
        if self.keys.len() < key_limit {
            return;
        }
        let is_silent =
            |history: &KeyHistory| self.swept_ms.saturating_sub(history.observed_ms) >= silence_ms;
        let silent = self.keys.iter().filter(|(_, history)| is_silent(history));
        let mut silent: Vec<_> =
            silent.map(|(key, history)| (history.observed_ms, key.clone())).collect();
        silent.sort_unstable();
        for (_, key) in silent.iter().take((key_limit / 16).max(1)) {
            self.keys.remove(key);
        }
    }
}

impl KeyHistory {
    fn observe(
        &mut self,
        spec: &AnomalySpec,
        key: &LabelSet,
        seen: Observation,
        scratch: &mut Vec<f64>,
    ) -> Option<AnomalyChange> {
        let seen = Observation { at_ms: seen.at_ms.max(self.observed_ms), ..seen };
        self.observed_ms = seen.at_ms;
        let enough = self.p95s.len() >= spec.min_history;
        let range = enough.then(|| Range::of(&self.p95s, spec.deviations, scratch));
        if self.p95s.len() == spec.history {
            self.p95s.pop_front();
        }
        self.p95s.push_back(seen.p95 as f32);
        self.judge(key, seen, range?)
    }

    fn judge(&mut self, key: &LabelSet, seen: Observation, range: Range) -> Option<AnomalyChange> {
        let outside = range.direction(seen.p95);
        if let Some(ongoing) = &mut self.anomaly {
            (ongoing.last, ongoing.range) = (seen, range);
            if outside.is_none() {
                return self.end(key, seen.at_ms, OverReason::BackInRange).map(AnomalyChange::Over);
            }
            return None;
        }
        let direction = outside?;
        let ongoing = Ongoing { started_ms: seen.at_ms, direction, last: seen, range };
        let started = AnomalyChange::Started(ongoing.describe(key));
        self.anomaly = Some(Box::new(ongoing));
        Some(started)
    }

    fn memory_bytes(&self) -> usize {
        heap::sum([self.p95s.heap_bytes(), self.anomaly.heap_bytes()])
    }

    fn end_by_silence(&mut self, key: &LabelSet, silence_ms: u64) -> Option<AnomalyOver> {
        let over_ms = self.observed_ms.saturating_add(silence_ms);
        self.end(key, over_ms, OverReason::NoCalls)
    }

    fn end(&mut self, key: &LabelSet, at_ms: u64, reason: OverReason) -> Option<AnomalyOver> {
        let ongoing = self.anomaly.take()?;
        let duration_ms = at_ms.saturating_sub(ongoing.started_ms);
        let anomaly = Anomaly { at_ms, ..ongoing.describe(key) };
        Some(AnomalyOver { anomaly, duration_ms, reason })
    }
}

impl Ongoing {
    fn describe(&self, key: &LabelSet) -> Anomaly {
        let Observation { at_ms, samples, p95 } = self.last;
        let Range { median, mad, lower, upper } = self.range;
        let (key, direction) = (key.clone(), self.direction);
        Anomaly { key, direction, p95, median, mad, lower, upper, samples, at_ms }
    }
}
