//! Sets of ids whose size is a gauge.

use crate::lock::lock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use foldhash::fast::RandomState;

use crate::heap;

/// A set of ids whose size is a gauge, such as the workers that are alive.
///
/// A set and not a number: a repeated event changes nothing.
pub struct IdSet {
    limit: usize,
    ids: Mutex<Ids>,
    overflow_total: AtomicU64,
}

#[derive(Default)]
struct Ids {
    set: HashSet<Box<str>, RandomState>,
    text_bytes: usize,
}

impl IdSet {
    /// An empty set for at most `limit` ids.
    pub fn new(limit: usize) -> Self {
        Self { limit, ids: Mutex::default(), overflow_total: AtomicU64::new(0) }
    }

    /// Adds an id. At the limit it is counted as overflow instead.
    pub fn insert(&self, id: &str) {
        let mut ids = self.ids();
        if ids.set.contains(id) {
            return;
        }
        if ids.set.len() == self.limit {
            self.overflow_total.fetch_add(1, Relaxed);
            return;
        }
        ids.text_bytes += id.len();
        ids.set.insert(id.into());
    }

    /// Takes an id out.
    pub fn remove(&self, id: &str) {
        let mut ids = self.ids();
        if ids.set.remove(id) {
            ids.text_bytes -= id.len();
        }
    }

    /// Whether an id is in it.
    pub fn contains(&self, id: &str) -> bool {
        self.ids().set.contains(id)
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.ids().set.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many ids found no room.
    pub fn overflow_total(&self) -> u64 {
        self.overflow_total.load(Relaxed)
    }

    /// Bytes allocated for the ids.
    pub fn memory_bytes(&self) -> usize {
        let ids = self.ids();
        heap::sum([heap::entries::<Box<str>>(ids.set.len()), ids.text_bytes])
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        lock(&self.ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_id_changes_nothing() {
        let set = IdSet::new(2);
        set.insert("w1");
        set.insert("w1");
        assert_eq!(set.len(), 1);
        set.remove("w1");
        set.remove("w1");
        assert!(set.is_empty());
        for id in ["a", "b", "c", "a"] {
            set.insert(id);
        }
        assert_eq!((set.len(), set.overflow_total()), (2, 1));
    }

    #[test]
    fn memory_of_ids_is_counted_until_they_go() {
        let set = IdSet::new(10);
        ["abc", "de", "f"].into_iter().for_each(|id| set.insert(id));
        set.remove("f");
        assert_eq!(set.memory_bytes(), 2 * size_of::<Box<str>>() + "abcde".len());
    }
}
