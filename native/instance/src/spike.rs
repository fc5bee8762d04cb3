//! Error spikes: keys whose errors within a sliding window reach a threshold, and are many of their
//! calls.
//!
//! The window is a true one, ending at each error, and not a row of slices. A spike is signalled when
//! it starts and when it is over; in between, however many errors come, nothing is signalled. Nor are
//! further spikes of a key soon after one that was: they are counted, and their number is signalled.

mod cause;
mod key_errors;
mod recent;

use std::sync::{Mutex, MutexGuard};
use telemetry_common::lock::lock;

use serde::{Deserialize, Serialize};

pub use cause::Cause;
use key_errors::{Ended, KeyErrors};
use recent::Recent;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::LabelSet;
use telemetry_common::table::{KeyMap, serialize_key};

pub use recent::RECENT_SPIKES;

const MAX_THRESHOLD: usize = 1000;

/// How often within a window a full table is searched for keys that can be dropped.
const SEARCHES_PER_WINDOW: u64 = 16;

/// What a spike is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SpikeSpec {
    /// How many errors within the window make a spike: 1 to 1000, else the nearest of these.
    pub threshold: usize,
    /// Length of the window in milliseconds, at least 1. An error at time `t` is in the window at
    /// `now` as long as `t > now - window_ms`.
    pub window_ms: u64,
    /// How many percent of the calls have to fail, 0 to 100: from the oldest of the errors that reach
    /// the threshold to the newest. With 0 the threshold alone decides.
    #[serde(default)]
    pub percent: u64,
    /// How long after a spike of a key was signalled further ones of it are only counted, in
    /// milliseconds. With 0 all are signalled.
    #[serde(default)]
    pub repeat_ms: u64,
    /// How many keys are followed at a time.
    pub key_limit: usize,
}

/// A spike that starts, or started as a repeat and is still on when those are no longer held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorSpike {
    /// Whose errors they are.
    #[serde(serialize_with = "serialize_key")]
    pub key: LabelSet,
    /// Errors so far: those in the window, unless the spike started as a repeat.
    pub error_count: u64,
    /// Their causes, the most frequent first, at most 8.
    pub causes: Vec<Cause>,
    /// When the first of them came.
    pub first_ms: u64,
    /// When the last of them came.
    pub last_ms: u64,
    /// How many spikes of the key were held back since the last that was signalled.
    pub repeats: u64,
}

/// A spike that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpikeOver {
    /// Whose errors they were.
    #[serde(serialize_with = "serialize_key")]
    pub key: LabelSet,
    /// Errors from the oldest in the window that started the spike to the last before it was over.
    pub total: u64,
    /// When the first of them came.
    pub first_ms: u64,
    /// When the last of them came.
    pub last_ms: u64,
    /// The first moment when fewer than half the threshold were in the window, or none with which
    /// half the percentage of calls failed, however late it was noticed.
    pub over_ms: u64,
    /// From `first_ms` to `over_ms`.
    pub duration_ms: u64,
    /// Causes of all the errors, the most frequent first, at most 8. The counts are exact for
    /// spikes with up to 16 causes; with more they are estimates that are never too low and at
    /// most `total / 16` too high, save for errors that counted as `other` (see
    /// [`Spikes::record`]).
    pub causes: Vec<Cause>,
    /// How many further spikes, held back as repeats, this sums up: see [`Spikes::recent`].
    pub repeats: u64,
}

/// Spikes that were held back, with none after them that could say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpikeRepeats {
    /// Whose errors they were.
    #[serde(serialize_with = "serialize_key")]
    pub key: LabelSet,
    /// How many since the last that was signalled.
    pub repeats: u64,
}

/// A spike that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CurrentSpike {
    /// Whose errors they are.
    #[serde(serialize_with = "serialize_key")]
    pub key: LabelSet,
    /// Errors in the window now. Only as many as the threshold are kept, so never more than that.
    pub error_count: u64,
    /// Errors of the spike so far, as in [`SpikeOver::total`].
    pub total: u64,
    /// When the first of them came.
    pub first_ms: u64,
    /// When the last of them came.
    pub last_ms: u64,
    /// Causes of all the errors so far, as in [`SpikeOver::causes`].
    pub causes: Vec<Cause>,
    /// How many spikes of the key before this one were held back and not yet told of.
    pub repeats: u64,
}

/// What an error changed. Nearly always nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpikeChange {
    /// The key's previous spike, which was over before this error came, unless it was held back.
    pub over: Option<SpikeOver>,
    /// Whether this error starts a spike, held back or not.
    pub started: bool,
    /// The spike that this error starts, unless it is held back.
    pub spike: Option<ErrorSpike>,
}

/// What time alone changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Spikes that are over and were not yet said to be, in the order in which they ended.
    pub over: Vec<SpikeOver>,
    /// Spikes that started as repeats and are still on, the earliest first.
    pub spikes: Vec<ErrorSpike>,
    /// How many repeats there were of keys without a spike.
    pub repeats: Vec<SpikeRepeats>,
}

/// The errors of many keys, and which of them are having a spike.
///
/// A spike starts with the error that makes `threshold` errors lie in the window, if they are at
/// least `percent` of the calls completed from the oldest of them on. It is over when fewer than half
/// the threshold, rounded up, lie there, or when none lies there with which the errors kept, at most
/// as many as the threshold, were at least half that percentage: a rate around the threshold or the
/// percentage does not flap. Times of a key never go back: a time below one already seen counts as
/// the latter.
///
/// ```
/// use telemetry_common::label::LabelSet;
/// use telemetry_instance::spike::{SpikeSpec, Spikes};
///
/// let spec =
///     SpikeSpec { threshold: 3, window_ms: 1_000, percent: 50, repeat_ms: 9_000, key_limit: 100 };
/// let spikes = Spikes::new(spec);
/// let key = LabelSet::new(["predict"]);
/// // Three of a hundred calls.
/// assert!(!spikes.record(&key, "error", "timeout", 0, || Some(100)).started);
/// assert!(!spikes.record(&key, "error", "timeout", 10, || Some(197)).started);
/// assert!(!spikes.record(&key, "error", "timeout", 20, || Some(199)).started);
/// // Three of four.
/// let spike = spikes.record(&key, "exit", "killed", 30, || Some(200)).spike.unwrap();
/// assert_eq!((spike.error_count, spike.first_ms, spike.causes[0].count), (3, 10, 2));
///
/// // One error is in the window from the moment when the one of 20 ms leaves it.
/// assert!(spikes.sweep(1_019).over.is_empty());
/// let over = spikes.sweep(5_000).over;
/// assert_eq!((over[0].total, over[0].over_ms, over[0].duration_ms), (3, 1_020, 1_010));
///
/// // Another one comes too soon to be signalled.
/// let changes = [201, 202, 203].map(|calls| {
///     spikes.record(&key, "exit", "killed", 6_000, || Some(calls))
/// });
/// assert_eq!((changes[2].started, &changes[2].spike), (true, &None));
/// assert_eq!(spikes.sweep(9_030).repeats[0].repeats, 1);
/// ```
pub struct Spikes {
    spec: SpikeSpec,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Keys with an error in the window, a spike, or repeats that are held back.
    keys: KeyMap<LabelSet, KeyErrors>,
    recent: Recent,
    untracked: u64,
    /// When keys were last dropped. They are gone with the times that they had seen, so that this
    /// is the least time of any later error.
    dropped_ms: u64,
    next_search_ms: u64,
}

impl Spikes {
    /// Follows no key yet. Values of the specification out of range are replaced by the nearest in
    /// range.
    pub fn new(spec: SpikeSpec) -> Self {
        let spec = SpikeSpec {
            threshold: spec.threshold.clamp(1, MAX_THRESHOLD),
            window_ms: spec.window_ms.max(1),
            percent: spec.percent.min(100),
            ..spec
        };
        Self { spec, table: Mutex::default() }
    }

    /// Records an error. Allocates nothing once the key and the cause are known and as many errors
    /// as the threshold were in the window.
    ///
    /// `calls_total` says how many calls of the key were ever completed, this one included. It is
    /// asked under the lock, so that the totals of errors from several threads come in order. Where
    /// it is unknown, or less than it was, the threshold alone decides until the errors before are no
    /// longer needed.
    ///
    /// Kind and reason are cut at 256 bytes. Of more than 32 causes at a time, the further ones
    /// count as kind and reason `other`. An error of a new key is dropped and counted as untracked
    /// if as many keys as the limit have an error in the window, a spike that was not told to be
    /// over, or repeats held back. A full table is searched for others at most 16 times a window, so
    /// that a key may hold its place for a 16th of the window longer.
    pub fn record(
        &self,
        key: &LabelSet,
        kind: &str,
        reason: &str,
        now_ms: u64,
        calls_total: impl FnOnce() -> Option<u64>,
    ) -> SpikeChange {
        let table = &mut *self.table();
        let now_ms = now_ms.max(table.dropped_ms);
        let calls = calls_total();
        let (ended, started) = if let Some(errors) = table.keys.get_mut(key) {
            errors.record(&self.spec, key, (kind, reason), calls, now_ms)
        } else if table.has_room(&self.spec, now_ms) {
            let mut errors = KeyErrors::default();
            let recorded = errors.record(&self.spec, key, (kind, reason), calls, now_ms);
            table.keys.insert(key.clone(), errors);
            recorded
        } else {
            table.untracked += 1;
            return SpikeChange::default();
        };
        let over = ended.and_then(|ended| table.recent.keep(ended));
        SpikeChange { over, started: started.is_some(), spike: started.flatten() }
    }

    /// What is to be signalled though no error came. Drops the keys that hold no information: without
    /// an error in the window, and without a spike lately whose repeats would be held back.
    pub fn sweep(&self, now_ms: u64) -> Swept {
        let table = &mut *self.table();
        let is_full = table.keys.len() >= self.spec.key_limit;
        let (mut ended, mut swept) = (Vec::<Ended>::new(), Swept::default());
        table.drop_keys(now_ms, |key, errors, now_ms| {
            ended.extend(errors.end_spike(&self.spec, key, now_ms));
            swept.spikes.extend(errors.promote(&self.spec, key, now_ms));
            swept.repeats.extend(errors.take_repeats(&self.spec, key, now_ms));
            // To hold back what may come is not worth the place of a key that has errors.
            let is_idle = if is_full {
                !errors.has_repeats()
            } else {
                !errors.holds_back(&self.spec, now_ms)
            };
            is_idle && errors.are_past(&self.spec, now_ms)
        });
        ended.sort_by(|Ended { over: one, .. }, Ended { over: other, .. }| {
            (one.over_ms, &one.key).cmp(&(other.over_ms, &other.key))
        });
        swept.over.extend(ended.into_iter().filter_map(|ended| table.recent.keep(ended)));
        swept
            .spikes
            .sort_by(|one, other| (one.first_ms, &one.key).cmp(&(other.first_ms, &other.key)));
        swept.repeats.sort_by(|one, other| one.key.cmp(&other.key));
        swept
    }

    /// The spikes that are on, the earliest first.
    pub fn current(&self, now_ms: u64) -> Vec<CurrentSpike> {
        let table = self.table();
        let now_ms = now_ms.max(table.dropped_ms);
        let current = table.keys.iter().filter_map(|(key, errors)| {
            errors.current_spike(&self.spec, key, errors.not_before_newest(now_ms))
        });
        let mut current: Vec<_> = current.collect();
        current.sort_by(|one, other| (one.first_ms, &one.key).cmp(&(other.first_ms, &other.key)));
        current
    }

    /// The last [`RECENT_SPIKES`] spikes that were told to be over, the latest told first. Repeats that
    /// were held back are summed up in the spike of their key before them: one entry from the first
    /// error of that to the end of the last, with the errors and causes of all.
    pub fn recent(&self) -> Vec<SpikeOver> {
        self.table().recent.iter().cloned().collect()
    }

    /// How many errors were dropped because their keys found no room.
    pub fn untracked(&self) -> u64 {
        self.table().untracked
    }

    /// Bytes allocated for keys, errors, causes and ended spikes.
    pub fn memory_bytes(&self) -> usize {
        let table = self.table();
        heap::sum([
            table.keys.heap_bytes(),
            heap::sum(table.keys.keys().map(LabelSet::memory_bytes)),
            heap::sum(table.keys.values().map(KeyErrors::memory_bytes)),
            table.recent.memory_bytes(),
        ])
    }

    /// Forgets all errors and spikes, without telling of those that are on.
    pub fn clear(&self) {
        let table = &mut *self.table();
        *table = Table { dropped_ms: table.dropped_ms, ..Table::default() };
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    /// Whether there is room for another key, after dropping those that hold no information if it
    /// is time to search for them.
    fn has_room(&mut self, spec: &SpikeSpec, now_ms: u64) -> bool {
        if self.keys.len() >= spec.key_limit && now_ms >= self.next_search_ms {
            let pause_ms = (spec.window_ms / SEARCHES_PER_WINDOW).max(1);
            self.next_search_ms = now_ms.saturating_add(pause_ms);
            self.drop_keys(now_ms, |_, errors, now_ms| {
                errors.is_idle() && errors.are_past(spec, now_ms)
            });
        }
        self.keys.len() < spec.key_limit
    }

    /// Drops the keys for which `is_past` holds at their time.
    fn drop_keys(
        &mut self,
        now_ms: u64,
        mut is_past: impl FnMut(&LabelSet, &mut KeyErrors, u64) -> bool,
    ) {
        self.dropped_ms = self.dropped_ms.max(now_ms);
        self.keys.retain(|key, errors| {
            let now_ms = errors.not_before_newest(self.dropped_ms);
            !is_past(key, errors, now_ms)
        });
    }
}

impl SpikeSpec {
    /// Whether an error is in the window at a time not before it.
    fn in_window(&self, at_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(at_ms) < self.window_ms
    }
}
