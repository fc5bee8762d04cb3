//! Error spikes: keys whose errors within a sliding window reach a threshold.
//!
//! The window is a true one, ending at each error, and not a row of slices. A spike is told once
//! when it starts and once when it is over; in between, however many errors come, nothing is told.

mod cause;

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::label::LabelSet;
use crate::table::{KeyMap, serialize_key};
pub use cause::Cause;
use cause::{CauseId, Causes, Counters};

/// How many ended spikes are remembered.
pub const RECENT_SPIKES: usize = 100;

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
    /// How many keys are followed at a time.
    pub key_limit: usize,
}

/// A spike that starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorSpike {
    /// Whose errors they are.
    #[serde(serialize_with = "serialize_key")]
    pub key: LabelSet,
    /// Errors in the window.
    pub error_count: u64,
    /// Their causes, the most frequent first, at most 8.
    pub causes: Vec<Cause>,
    /// When the oldest error in the window came.
    pub first_ms: u64,
    /// When the error came that started the spike.
    pub last_ms: u64,
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
    /// The first moment when fewer than half the threshold were in the window, however late it
    /// was noticed.
    pub over_ms: u64,
    /// From `first_ms` to `over_ms`.
    pub duration_ms: u64,
    /// Causes of all the errors, the most frequent first, at most 8. The counts are exact for
    /// spikes with up to 16 causes; with more they are estimates that are never too low and at
    /// most `total / 16` too high, save for errors that counted as `other` (see
    /// [`Spikes::record`]).
    pub causes: Vec<Cause>,
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
}

/// What an error changed. Nearly always nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpikeChange {
    /// The key's previous spike, which was over before this error came.
    pub over: Option<SpikeOver>,
    /// The spike that this error starts.
    pub spike: Option<ErrorSpike>,
}

/// The errors of many keys, and which of them are having a spike.
///
/// A spike starts with the error that makes `threshold` errors lie in the window. It is over when
/// fewer than half the threshold, rounded up, lie there: a rate around the threshold does not
/// flap. Times of a key never go back: a time below one already seen counts as the latter.
///
/// ```
/// use telemetry_core::label::LabelSet;
/// use telemetry_core::spike::{SpikeSpec, Spikes};
///
/// let spikes = Spikes::new(SpikeSpec { threshold: 3, window_ms: 1_000, key_limit: 100 });
/// let key = LabelSet::new(["predict"]);
/// assert_eq!(spikes.record(&key, "error", "timeout", 10).spike, None);
/// assert_eq!(spikes.record(&key, "error", "timeout", 20).spike, None);
/// let spike = spikes.record(&key, "exit", "killed", 30).spike.unwrap();
/// assert_eq!((spike.error_count, spike.first_ms, spike.causes[0].count), (3, 10, 2));
///
/// // One error is in the window from the moment when the one of 20 ms leaves it.
/// assert!(spikes.sweep(1_019).is_empty());
/// let over = spikes.sweep(5_000);
/// assert_eq!((over[0].total, over[0].over_ms, over[0].duration_ms), (3, 1_020, 1_010));
/// ```
pub struct Spikes {
    spec: SpikeSpec,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Keys with an error in the window or a spike; each has at least one error.
    keys: KeyMap<LabelSet, KeyErrors>,
    /// The latest reported first.
    recent: VecDeque<SpikeOver>,
    untracked: u64,
    /// When keys were last dropped. They are gone with the times that they had seen, so that this
    /// is the least time of any later error.
    dropped_ms: u64,
    next_search_ms: u64,
}

/// The errors of a key in the window, and its spike.
#[derive(Default)]
struct KeyErrors {
    /// Oldest first, at most as many as the threshold.
    newest: VecDeque<Error>,
    causes: Causes,
    spike: Option<Spike>,
}

struct Error {
    at_ms: u64,
    cause: CauseId,
}

struct Spike {
    total: u64,
    first_ms: u64,
    counters: Counters,
}

impl Spikes {
    /// Follows no key yet. Values of the specification out of range are replaced by the nearest in
    /// range.
    pub fn new(spec: SpikeSpec) -> Self {
        let spec = SpikeSpec {
            threshold: spec.threshold.clamp(1, MAX_THRESHOLD),
            window_ms: spec.window_ms.max(1),
            ..spec
        };
        Self { spec, table: Mutex::default() }
    }

    /// Records an error. Allocates nothing once the key and the cause are known and as many errors
    /// as the threshold were in the window.
    ///
    /// Kind and reason are cut at 256 bytes. Of more than 32 causes at a time, the further ones
    /// count as kind and reason `other`. An error of a new key is dropped and counted as untracked
    /// if as many keys as the limit have an error in the window or a spike that was not told to be
    /// over. A full table is searched for others at most 16 times a window, so that a key may hold
    /// its place for a 16th of the window longer.
    pub fn record(&self, key: &LabelSet, kind: &str, reason: &str, now_ms: u64) -> SpikeChange {
        let table = &mut *self.table();
        let now_ms = now_ms.max(table.dropped_ms);
        let change = if let Some(errors) = table.keys.get_mut(key) {
            errors.record(&self.spec, key, (kind, reason), now_ms)
        } else if table.has_room(&self.spec, now_ms) {
            let mut errors = KeyErrors::default();
            let change = errors.record(&self.spec, key, (kind, reason), now_ms);
            table.keys.insert(key.clone(), errors);
            change
        } else {
            table.untracked += 1;
            SpikeChange::default()
        };
        if let Some(over) = &change.over {
            table.remember(over);
        }
        change
    }

    /// Spikes that are over and were not yet told to be, in the order in which they ended. Drops
    /// the keys without an error in the window.
    pub fn sweep(&self, now_ms: u64) -> Vec<SpikeOver> {
        let table = &mut *self.table();
        let mut ended = Vec::new();
        table.drop_keys(now_ms, |key, errors, now_ms| {
            ended.extend(errors.end_spike(&self.spec, key, now_ms));
            errors.are_past(&self.spec, now_ms)
        });
        ended.sort_by(|one, other| (one.over_ms, &one.key).cmp(&(other.over_ms, &other.key)));
        ended.iter().for_each(|over| table.remember(over));
        ended
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

    /// The last [`RECENT_SPIKES`] spikes that were told to be over, the latest told first.
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
        let of_keys = table.keys.iter().map(|(key, errors)| {
            let newest = errors.newest.capacity() * size_of::<Error>();
            let spike = errors.spike.as_ref().map_or(0, |spike| spike.counters.memory_bytes());
            key.memory_bytes() + newest + errors.causes.memory_bytes() + spike
        });
        let of_recent = table.recent.iter().map(|over| {
            let causes = over.causes.iter().map(|cause| cause.kind.len() + cause.reason.len());
            let causes = causes.sum::<usize>() + over.causes.capacity() * size_of::<Cause>();
            over.key.memory_bytes() + causes
        });
        table.keys.table_bytes()
            + of_keys.sum::<usize>()
            + table.recent.capacity() * size_of::<SpikeOver>()
            + of_recent.sum::<usize>()
    }

    /// Forgets all errors and spikes, without telling of those that are on.
    pub fn clear(&self) {
        let table = &mut *self.table();
        *table = Table { dropped_ms: table.dropped_ms, ..Table::default() };
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
                errors.spike.is_none() && errors.are_past(spec, now_ms)
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

    fn remember(&mut self, over: &SpikeOver) {
        self.recent.truncate(RECENT_SPIKES - 1);
        self.recent.push_front(over.clone());
    }
}

impl KeyErrors {
    fn record(
        &mut self,
        spec: &SpikeSpec,
        key: &LabelSet,
        (kind, reason): (&str, &str),
        now_ms: u64,
    ) -> SpikeChange {
        let now_ms = self.not_before_newest(now_ms);
        let over = self.end_spike(spec, key, now_ms);
        // Without a spike there are fewer than the threshold in the window; with one, the oldest
        // is no longer needed to tell when it is over.
        while self.newest.len() == spec.threshold
            || self.newest.front().is_some_and(|oldest| !spec.in_window(oldest.at_ms, now_ms))
        {
            if let Some(oldest) = self.newest.pop_front() {
                self.causes.release(oldest.cause);
            }
        }
        let cause = self.causes.hold(kind, reason);
        self.newest.push_back(Error { at_ms: now_ms, cause });
        if let Some(spike) = &mut self.spike {
            spike.total += 1;
            spike.counters.add(cause, &mut self.causes);
            return SpikeChange { over, spike: None };
        }
        let full = self.newest.len() == spec.threshold;
        SpikeChange { over, spike: full.then(|| self.start_spike(key, now_ms)) }
    }

    fn start_spike(&mut self, key: &LabelSet, now_ms: u64) -> ErrorSpike {
        let first_ms = self.newest.front().map_or(now_ms, |oldest| oldest.at_ms);
        let total = self.newest.len() as u64;
        let mut counters = Counters::default();
        for error in &self.newest {
            counters.add(error.cause, &mut self.causes);
        }
        self.spike = Some(Spike { total, first_ms, counters });
        let causes = self.causes.tally(self.newest.iter().map(|error| error.cause));
        ErrorSpike { key: key.clone(), error_count: total, causes, first_ms, last_ms: now_ms }
    }

    /// Ends the spike if there is one and it is over.
    fn end_spike(&mut self, spec: &SpikeSpec, key: &LabelSet, now_ms: u64) -> Option<SpikeOver> {
        self.spike.as_ref()?;
        let deciding_ms = self.deciding_ms(spec)?;
        if spec.in_window(deciding_ms, now_ms) {
            return None;
        }
        let Spike { total, first_ms, counters } = self.spike.take()?;
        let over_ms = deciding_ms.saturating_add(spec.window_ms);
        let causes = counters.most_frequent(&self.causes);
        counters.release(&mut self.causes);
        Some(SpikeOver {
            key: key.clone(),
            total,
            first_ms,
            last_ms: self.newest_ms(),
            over_ms,
            duration_ms: over_ms.saturating_sub(first_ms),
            causes,
        })
    }

    fn current_spike(&self, spec: &SpikeSpec, key: &LabelSet, now_ms: u64) -> Option<CurrentSpike> {
        let spike = self.spike.as_ref()?;
        let is_on = spec.in_window(self.deciding_ms(spec)?, now_ms);
        let in_window = self.newest.iter().filter(|error| spec.in_window(error.at_ms, now_ms));
        is_on.then(|| CurrentSpike {
            key: key.clone(),
            error_count: in_window.count() as u64,
            total: spike.total,
            first_ms: spike.first_ms,
            last_ms: self.newest_ms(),
            causes: spike.counters.most_frequent(&self.causes),
        })
    }

    /// When the error came with which half the threshold is in the window: as long as it is in the
    /// window, a spike goes on.
    fn deciding_ms(&self, spec: &SpikeSpec) -> Option<u64> {
        let place = self.newest.len().checked_sub(spec.threshold.div_ceil(2))?;
        self.newest.get(place).map(|error| error.at_ms)
    }

    /// Whether no error is in the window.
    fn are_past(&self, spec: &SpikeSpec, now_ms: u64) -> bool {
        !self.newest.back().is_some_and(|newest| spec.in_window(newest.at_ms, now_ms))
    }

    /// The time, which is not before that of the newest error.
    fn not_before_newest(&self, now_ms: u64) -> u64 {
        now_ms.max(self.newest_ms())
    }

    fn newest_ms(&self) -> u64 {
        self.newest.back().map_or(0, |newest| newest.at_ms)
    }
}

impl SpikeSpec {
    /// Whether an error is in the window at a time not before it.
    fn in_window(&self, at_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(at_ms) < self.window_ms
    }
}
