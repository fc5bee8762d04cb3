//! Owners: which of several emitters counts a thing that both may tell of.
//!
//! A bridge and the pool below it may both emit events of the same worker, or of the same tool. One of them owns the
//! name, and only its events count: the one that takes names, else the first to come.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use telemetry_common::lock::lock;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use serde::Deserialize;

use telemetry_common::heap::{self, HeapBytes};

/// An emitter, as a definition numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Emitter {
    /// Its number; not that of another.
    pub number: u8,
    /// Whether it takes names from others. Otherwise the first to come keeps them.
    pub takes: bool,
}

/// A bounded map from name to its owner; the oldest names are forgotten first.
pub struct Owners {
    limit: usize,
    owners: DashMap<Box<str>, u8, RandomState>,
    oldest_first: Mutex<VecDeque<Box<str>>>,
}

impl Owners {
    /// Knows of no name, and of at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self { limit, owners: DashMap::default(), oldest_first: Mutex::default() }
    }

    /// Whether an emitter's events of this name count. The name is its own from now on if nobody's was it, or if it takes
    /// it.
    pub(crate) fn admit(&self, name: &str, emitter: Emitter) -> bool {
        match self.owners.get(name).map(|owner| *owner) {
            Some(owner) if owner == emitter.number => true,
            Some(_) if !emitter.takes => false,
            _ => self.own(name, emitter),
        }
    }

    #[cold]
    fn own(&self, name: &str, emitter: Emitter) -> bool {
        if self.limit == 0 {
            return true;
        }
        let mut oldest_first = self.oldest_first();
        // Once more: another thread may have been here.
        if let Some(mut owner) = self.owners.get_mut(name) {
            if emitter.takes {
                *owner = emitter.number;
            }
            return *owner == emitter.number;
        }
        if oldest_first.len() == self.limit
            && let Some(oldest) = oldest_first.pop_front()
        {
            self.owners.remove(&oldest);
        }
        oldest_first.push_back(name.into());
        self.owners.insert(name.into(), emitter.number);
        true
    }

    /// Bytes allocated for names.
    pub fn memory_bytes(&self) -> usize {
        let oldest_first = self.oldest_first();
        // Each name is in both.
        let texts = heap::sum(oldest_first.iter().map(HeapBytes::heap_bytes));
        heap::sum([oldest_first.heap_bytes(), texts, self.owners.heap_bytes(), texts])
    }

    fn oldest_first(&self) -> MutexGuard<'_, VecDeque<Box<str>>> {
        lock(&self.oldest_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Emitter = Emitter { number: 2, takes: false };

    #[test]
    fn the_first_to_come_keeps_a_name() {
        let owners = Owners::new(10);
        let other = Emitter { number: 1, takes: false };
        assert!(owners.admit("w1", POOL));
        assert!(!owners.admit("w1", other));
        assert!(owners.admit("w1", POOL));
        assert!(owners.admit("w2", other));
        assert!(!owners.admit("w2", POOL));
    }

    #[test]
    fn an_emitter_that_takes_names_has_them_from_then_on() {
        let owners = Owners::new(10);
        let bridge = Emitter { number: 1, takes: true };
        assert!(owners.admit("search", POOL));
        assert!(owners.admit("search", bridge));
        assert!(!owners.admit("search", POOL));
    }

    #[test]
    fn memory_of_names_is_counted() {
        const NAMES: usize = 100;
        let owners = Owners::new(NAMES);
        for name in 0..NAMES {
            assert!(owners.admit(&format!("{name:0>1000}"), POOL));
        }
        let list = owners.oldest_first().capacity() * size_of::<Box<str>>();
        let map = owners.owners.capacity() * size_of::<(Box<str>, u8)>();
        assert_eq!(owners.memory_bytes(), list + map + 2 * NAMES * 1_000);
    }

    #[test]
    fn the_oldest_names_are_forgotten() {
        let owners = Owners::new(2);
        for name in ["a", "b", "c"] {
            assert!(owners.admit(name, POOL));
        }
        assert_eq!(owners.owners.len(), 2);
        assert!(owners.admit("a", Emitter { number: 1, takes: false }));
        assert!(Owners::new(0).admit("a", POOL));
    }
}
