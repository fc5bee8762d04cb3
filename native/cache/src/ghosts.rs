//! Keys of the calls that were made lately, without their results: what a cache would have had.

use std::collections::VecDeque;

use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::table::KeyMap;

/// What is known of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// Its hash.
    Hash(u64),
    /// Nothing, but a cache could have kept it.
    Unseen,
    /// No cache would keep it: an error, or too large.
    NotKept,
}

/// What the ghosts say of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// A cache would have answered it.
    pub hit: bool,
    /// For a repetition, whether the result has changed.
    pub changed: Option<bool>,
}

/// The last keys of a method, each with the time at which a cache would have stored its result, and
/// with the hash of the last one.
///
/// The key that was stored first goes first, which is the one whose result would expire first.
pub struct Ghosts {
    capacity: usize,
    keys: KeyMap<u64, Ghost>,
    /// Keys with the time at which they were stored; a place whose time is no longer the key's
    /// stands for nothing.
    order: VecDeque<(u64, u64)>,
}

#[derive(Clone, Copy)]
struct Ghost {
    stored_ms: u64,
    result: Option<u64>,
}

impl Ghosts {
    /// Remembers `capacity` keys, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), keys: KeyMap::default(), order: VecDeque::new() }
    }

    /// A call with this key ended, when results live for `ttl_ms`.
    pub fn see(&mut self, key: u64, result: Result, now_ms: u64, ttl_ms: u64) -> Seen {
        let hash = match result {
            Result::Hash(hash) => Some(hash),
            Result::Unseen | Result::NotKept => None,
        };
        let Some(ghost) = self.keys.get_mut(&key) else {
            if result != Result::NotKept {
                self.store(key, Ghost { stored_ms: now_ms, result: hash });
            }
            return Seen { hit: false, changed: None };
        };
        let changed = hash.and_then(|hash| ghost.result.map(|last| last != hash));
        ghost.result = hash.or(ghost.result);
        let hit = now_ms < ghost.stored_ms.saturating_add(ttl_ms);
        if !hit && result != Result::NotKept && ghost.stored_ms != now_ms {
            let ghost = Ghost { stored_ms: now_ms, ..*ghost };
            self.store(key, ghost);
        }
        Seen { hit, changed }
    }

    fn store(&mut self, key: u64, ghost: Ghost) {
        self.keys.insert(key, ghost);
        self.order.push_back((key, ghost.stored_ms));
        // At most as many places stand for nothing as there are keys, or the oldest key goes.
        while self.keys.len() > self.capacity || self.order.len() > 2 * self.capacity {
            let Some((oldest, stored_ms)) = self.order.pop_front() else { break };
            if self.keys.get(&oldest).is_some_and(|ghost| ghost.stored_ms == stored_ms) {
                self.keys.remove(&oldest);
            }
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        heap::sum([self.keys.heap_bytes(), self.order.heap_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(hit: bool, changed: Option<bool>) -> Seen {
        Seen { hit, changed }
    }

    #[test]
    fn a_repetition_within_the_life_of_the_first_result_is_a_hit() {
        let mut ghosts = Ghosts::new(10);
        assert_eq!(ghosts.see(1, Result::Hash(7), 0, 100), seen(false, None));
        assert_eq!(ghosts.see(1, Result::Hash(7), 99, 100), seen(true, Some(false)));
        // A hit does not make the result younger.
        assert_eq!(ghosts.see(1, Result::Hash(8), 100, 100), seen(false, Some(true)));
        assert_eq!(ghosts.see(1, Result::Hash(8), 150, 100), seen(true, Some(false)));
    }

    #[test]
    fn what_is_not_kept_makes_no_ghost_and_is_no_change() {
        let mut ghosts = Ghosts::new(10);
        assert_eq!(ghosts.see(1, Result::NotKept, 0, 100), seen(false, None));
        assert_eq!(ghosts.see(1, Result::Hash(7), 1, 100), seen(false, None));
        assert_eq!(ghosts.see(1, Result::NotKept, 2, 100), seen(true, None));
        assert_eq!(ghosts.see(1, Result::Hash(7), 3, 100), seen(true, Some(false)));
        assert_eq!(ghosts.see(2, Result::Unseen, 0, 100), seen(false, None));
        assert_eq!(ghosts.see(2, Result::Unseen, 1, 100), seen(true, None));
    }

    #[test]
    fn the_first_key_goes_first_and_memory_stays_bounded() {
        let mut ghosts = Ghosts::new(100);
        for round in 0..50 {
            for key in 0..1_000 {
                ghosts.see(key, Result::Hash(key), round * 1_000 + key, 1);
            }
            assert_eq!(ghosts.len(), 100);
        }
        let told = ghosts.memory_bytes();
        assert!(told < 20_000, "{told}");
        // One key that is stored again and again does not push the others out.
        for now_ms in 0..150 {
            ghosts.see(999, Result::Hash(0), 100_000 + now_ms, 1);
        }
        assert!(ghosts.len() > 1);
        for now_ms in 0..10_000 {
            ghosts.see(999, Result::Hash(0), 200_000 + now_ms, 1);
        }
        assert!(ghosts.order.len() <= 200);
        assert_eq!(ghosts.see(999, Result::Hash(0), 209_999, 10), seen(true, Some(false)));
    }

    #[test]
    fn memory_of_keys_and_of_their_order_is_counted() {
        let mut ghosts = Ghosts::new(100);
        assert_eq!(ghosts.memory_bytes(), 0);
        ghosts.see(1, Result::Unseen, 0, 100);
        // Four places each.
        let places = size_of::<(u64, Ghost)>() + 1 + size_of::<(u64, u64)>();
        assert_eq!(ghosts.memory_bytes(), 4 * places);
    }
}
