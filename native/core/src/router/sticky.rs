//! Keys that keep their worker.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dashmap::DashMap;
use foldhash::fast::{FixedState, RandomState};

use super::worker::Worker;
use crate::label;

/// A key as it is remembered: 64 bits of it. Two keys in a table of 100,000 have the same ones with
/// a probability of 3 in 10,000 million; the second then goes where the first does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

/// The same seed in every process, so that a restart leaves keys where they are.
const SEED: u64 = 0x0D5B_E57A_11A5_7E57;

impl Key {
    /// Of a key that is longer than labels may be, as references are labels, what is beyond does not count.
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(FixedState::with_seed(SEED).hash_one(label::cut(key)))
    }

    /// How much a key prefers a worker: the highest wins (rendezvous hashing, Thaler and
    /// Ravishankar 1998). When a worker leaves, only its own keys move.
    fn preference(self, worker: &Worker) -> u64 {
        FixedState::with_seed(self.0).hash_one(worker.id())
    }

    /// The worker that a key prefers.
    pub(crate) fn preferred<'a>(
        self,
        workers: impl Iterator<Item = &'a Arc<Worker>>,
    ) -> Option<&'a Arc<Worker>> {
        workers.max_by_key(|worker| self.preference(worker))
    }
}

/// A worker that a key has.
struct Assignment {
    worker: Weak<Worker>,
    /// What the key names lives there, so it does not help to go elsewhere.
    bound: bool,
    used: AtomicBool,
}

impl Assignment {
    /// The worker, if it is still in the pool.
    fn worker(&self) -> Option<Arc<Worker>> {
        self.worker.upgrade().filter(|worker| !worker.is_gone())
    }
}

/// How many keys are spared at most before one is forgotten: a fraction of a millisecond.
const SPARES: usize = 1_024;

/// A bounded table of keys. The oldest one goes first, unless it was used since it was last
/// spared.
pub(crate) struct Sticky {
    limit: usize,
    assignments: DashMap<Key, Assignment, RandomState>,
    order: Mutex<VecDeque<Key>>,
}

impl Sticky {
    pub(crate) fn new(limit: usize) -> Self {
        let assignments = DashMap::with_hasher(RandomState::default());
        Self { limit, assignments, order: Mutex::default() }
    }

    /// The worker of a key if it is still in the pool, and whether the key is bound to it.
    pub(crate) fn get(&self, key: Key) -> Option<(Arc<Worker>, bool)> {
        let assignment = self.assignments.get(&key)?;
        let worker = assignment.worker()?;
        if !assignment.used.load(Relaxed) {
            assignment.used.store(true, Relaxed);
        }
        Some((worker, assignment.bound))
    }

    /// Gives a key a worker.
    pub(crate) fn assign(&self, key: Key, worker: &Arc<Worker>, bound: bool) {
        if self.limit == 0 {
            return;
        }
        let mut order = self.order();
        let used = AtomicBool::new(false);
        let assignment = Assignment { worker: Arc::downgrade(worker), bound, used };
        if self.assignments.insert(key, assignment).is_some() {
            return;
        }
        order.push_back(key);
        if order.len() > self.limit {
            self.forget_one(&mut order);
        }
    }

    fn forget_one(&self, order: &mut VecDeque<Key>) {
        // Each turn spares a key once, and not all of a large table: somebody waits for a worker.
        let mut spares = SPARES;
        while let Some(key) = order.pop_front() {
            spares -= 1;
            let spared = self.assignments.get(&key).is_some_and(|assignment| {
                assignment.worker().is_some() && assignment.used.swap(false, Relaxed) && spares > 0
            });
            // The newest stays even if all others are in use: it is at the end.
            if !spared {
                self.assignments.remove(&key);
                return;
            }
            order.push_back(key);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.assignments.len()
    }

    /// Forgets where keys went that could as well have gone elsewhere.
    pub(crate) fn forget_unbound(&self) {
        let mut order = self.order();
        self.assignments.retain(|_, assignment| assignment.bound);
        order.retain(|key| self.assignments.contains_key(key));
    }

    pub(crate) fn clear(&self) {
        let mut order = self.order();
        order.clear();
        self.assignments.clear();
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.len() * (size_of::<(Key, Assignment)>() + size_of::<Key>())
    }

    fn order(&self) -> MutexGuard<'_, VecDeque<Key>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Slot;
    use super::*;

    fn workers(count: u32) -> Vec<Arc<Worker>> {
        (0..count)
            .map(|number| {
                let id = format!("w{number}").into();
                Arc::new(Worker::new(&id, 0, Slot(number), Arc::default()))
            })
            .collect()
    }

    #[test]
    fn keys_spread_evenly_and_only_those_of_a_worker_that_leaves_move() {
        let workers = workers(16);
        let keys: Vec<_> = (0..16_000).map(|key: u32| Key::of(&key.to_le_bytes())).collect();
        let before: Vec<_> =
            keys.iter().map(|key| key.preferred(workers.iter()).expect("one")).collect();
        for worker in &workers {
            let count = before.iter().filter(|preferred| Arc::ptr_eq(preferred, worker)).count();
            assert!((850..1_150).contains(&count), "{count}");
        }
        for (key, before) in keys.iter().zip(&before) {
            let after = key.preferred(workers.iter().skip(1)).expect("one");
            assert_eq!(Arc::ptr_eq(after, before), !Arc::ptr_eq(before, &workers[0]));
        }
    }

    #[test]
    fn the_oldest_unused_key_is_forgotten_first() {
        let (workers, sticky) = (workers(1), Sticky::new(2));
        let [a, b, c] = [b"a", b"b", b"c"].map(|key| Key::of(key));
        sticky.assign(a, &workers[0], false);
        sticky.assign(b, &workers[0], false);
        assert!(sticky.get(a).is_some());
        sticky.assign(c, &workers[0], true);
        assert_eq!(sticky.len(), 2);
        assert!(sticky.get(b).is_none());
        assert!(sticky.get(a).is_some_and(|(_, bound)| !bound));
        assert!(sticky.get(c).is_some_and(|(_, bound)| bound));
    }

    #[test]
    fn where_all_keys_are_in_use_only_some_are_looked_at() {
        let (workers, sticky) = (workers(1), Sticky::new(4 * SPARES));
        let keys: Vec<_> = (0..4 * SPARES).map(|key| Key::of(&key.to_le_bytes())).collect();
        for &key in &keys {
            sticky.assign(key, &workers[0], false);
            assert!(sticky.get(key).is_some());
        }
        sticky.assign(Key::of(b"another"), &workers[0], false);
        assert_eq!(sticky.len(), 4 * SPARES);
        let spared = keys.iter().filter(|key| {
            let assignment = sticky.assignments.get(key);
            assignment.is_some_and(|assignment| !assignment.used.load(Relaxed))
        });
        assert_eq!(spared.count(), SPARES - 1);
    }

    #[test]
    fn a_worker_that_has_left_has_no_keys() {
        let (workers, sticky) = (workers(1), Sticky::new(2));
        let key = Key::of(b"a");
        sticky.assign(key, &workers[0], true);
        workers[0].leave();
        assert!(sticky.get(key).is_none());
    }
}
