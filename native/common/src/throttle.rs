//! Throttles: at most one admission in an interval for each key, and how many were suppressed.

use crate::lock::lock;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::heap::{self, HeapBytes};
use crate::label::normalise;
use crate::table::KeyMap;

/// The key under which [`Throttle::flush`] tells of the keys that share an entry. One of that name
/// may have its own as well.
pub const SHARED_KEY: &str = "other";

/// Admits at most one of many equal things in an interval, such as one warning per second and
/// command.
///
/// Keys are cut at 256 bytes. As many keys as the limit have an entry of their own; those that find
/// no room share one, and with it their admissions and the number suppressed, until an interval has
/// passed since the last shared admission and [`Throttle::flush`] has made room. Times of a key
/// never go back: a time below one already seen counts as the latter.
///
/// ```
/// use telemetry_common::throttle::Throttle;
///
/// let warnings = Throttle::new(1_000, 100);
/// assert_eq!(warnings.admit("predict", 0), Some(0));
/// assert_eq!(warnings.admit("predict", 400), None);
/// assert_eq!(warnings.admit("predict", 999), None);
/// assert_eq!(warnings.admit("predict", 1_000), Some(2));
/// assert_eq!(warnings.admit("predict", 1_500), None);
/// assert_eq!(warnings.flush(2_000), [("predict".into(), 1)]);
/// ```
pub struct Throttle {
    interval_ms: u64,
    key_limit: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    keys: KeyMap<Arc<str>, Entry>,
    shared: Entry,
    /// When keys were last dropped. They are gone with the times that they had seen, so that this
    /// is the least time of any later call.
    dropped_ms: u64,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    admitted_ms: Option<u64>,
    suppressed: u64,
}

impl Throttle {
    /// A throttle with this interval in milliseconds, for `key_limit` keys at a time. With an
    /// interval of 0 everything is admitted.
    pub fn new(interval_ms: u64, key_limit: usize) -> Self {
        Self { interval_ms, key_limit, table: Mutex::default() }
    }

    /// Admits or suppresses. Admitted with the number that were suppressed since the last
    /// admission of the key, if that is at least the interval ago.
    pub fn admit(&self, key: &str, now_ms: u64) -> Option<u64> {
        let table = &mut *self.table();
        let now_ms = now_ms.max(table.dropped_ms);
        let key = normalise(key.as_bytes());
        if let Some(entry) = table.keys.get_mut(&*key) {
            return entry.admit(now_ms, self.interval_ms);
        }
        // A key that was admitted by the shared entry a moment ago must not be admitted again by
        // one of its own.
        let has_room = table.keys.len() < self.key_limit;
        if has_room && table.shared.may_admit(now_ms, self.interval_ms) {
            let entry = Entry { admitted_ms: Some(now_ms), suppressed: 0 };
            table.keys.insert(key.into(), entry);
            return Some(0);
        }
        table.shared.admit(now_ms, self.interval_ms)
    }

    /// Tells of the keys with suppressed ones whose interval has passed, with their number; it
    /// counts as an admission. Drops the keys that hold no information.
    pub fn flush(&self, now_ms: u64) -> Vec<(Arc<str>, u64)> {
        let table = &mut *self.table();
        table.dropped_ms = table.dropped_ms.max(now_ms);
        let mut told = Vec::new();
        if let Some(suppressed) = table.shared.flush(table.dropped_ms, self.interval_ms) {
            told.push((SHARED_KEY.into(), suppressed));
        }
        table.keys.retain(|key, entry| {
            let suppressed = entry.flush(table.dropped_ms, self.interval_ms);
            told.extend(suppressed.map(|suppressed| (Arc::clone(key), suppressed)));
            !entry.may_admit(table.dropped_ms, self.interval_ms)
        });
        told.sort_unstable();
        told
    }

    /// Bytes allocated for the keys.
    pub fn memory_bytes(&self) -> usize {
        let table = self.table();
        let texts = heap::sum(table.keys.keys().map(HeapBytes::heap_bytes));
        heap::sum([table.keys.heap_bytes(), texts])
    }

    /// Forgets all admissions and what was suppressed.
    pub fn clear(&self) {
        let table = &mut *self.table();
        *table = Table { dropped_ms: table.dropped_ms, ..Table::default() };
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Entry {
    fn admit(&mut self, now_ms: u64, interval_ms: u64) -> Option<u64> {
        if self.may_admit(now_ms, interval_ms) {
            self.admitted_ms = Some(now_ms);
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }

    fn flush(&mut self, now_ms: u64, interval_ms: u64) -> Option<u64> {
        let due = self.suppressed > 0 && self.may_admit(now_ms, interval_ms);
        due.then(|| self.admit(now_ms, interval_ms)).flatten()
    }

    /// Whether an interval has passed since the last admission.
    fn may_admit(&self, now_ms: u64, interval_ms: u64) -> bool {
        self.admitted_ms.is_none_or(|admitted_ms| now_ms.saturating_sub(admitted_ms) >= interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_keys_is_counted() {
        let throttle = Throttle::new(1_000, 10);
        assert_eq!(throttle.memory_bytes(), 0);
        assert_eq!(["predict", "fit"].map(|key| throttle.admit(key, 0)), [Some(0); 2]);
        // Four places, and two texts of one word after two counts.
        let table = 4 * (size_of::<(Arc<str>, Entry)>() + 1);
        assert_eq!(throttle.memory_bytes(), table + 2 * 24);
    }
}
