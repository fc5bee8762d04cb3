//! Keys that keep their worker.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, Weak};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

use dashmap::DashMap;
use foldhash::fast::{FixedState, RandomState};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};

use super::worker::Worker;
use telemetry_common::heap;
use telemetry_common::label;

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
    /// Changed by whoever holds the lock of `order` only, and read by all.
    assignments: DashMap<Key, Assignment, RandomState>,
    order: Mutex<VecDeque<Key>>,
}

impl Sticky {
    pub(crate) fn new(limit: usize) -> Self {
        let assignments = DashMap::with_hasher(RandomState::default());
        Self { limit, assignments, order: Mutex::new(VecDeque::new()) }
    }

    /// The worker of a key if it is still in the pool, and whether the key is bound to it.
    pub(crate) fn get(&self, key: Key) -> Option<(Arc<Worker>, bool)> {
        let assignment = self.assignments.get(&key)?;
        if !assignment.used.load(Relaxed) {
            assignment.used.store(true, Relaxed);
        }
        let (worker, bound) = (assignment.worker.upgrade()?, assignment.bound);
        drop(assignment);
        (!worker.is_gone()).then_some((worker, bound))
    }

    /// Says that what a key names lives in a worker.
    pub(crate) fn bind(&self, key: Key, worker: &Arc<Worker>) {
        self.put(key, worker, true, &mut self.order());
    }

    /// Gives a key a worker, unless it was bound to another meanwhile, which is still in the pool: that is
    /// given back then.
    pub(crate) fn assign(&self, key: Key, worker: &Arc<Worker>) -> Option<Arc<Worker>> {
        // Whoever binds a key holds the lock too, so nobody does between the look and the change.
        let mut order = self.order();
        let bound = self.assignments.get(&key).filter(|assignment| assignment.bound);
        let bound = bound.and_then(|assignment| assignment.worker.upgrade());
        if let Some(bound) = bound.filter(|worker| !worker.is_gone()) {
            return Some(bound);
        }
        self.put(key, worker, false, &mut order);
        None
    }

    fn put(&self, key: Key, worker: &Arc<Worker>, bound: bool, order: &mut VecDeque<Key>) {
        if self.limit == 0 {
            return;
        }
        let used = AtomicBool::new(false);
        let assignment = Assignment { worker: Arc::downgrade(worker), bound, used };
        if self.assignments.insert(key, assignment).is_some() {
            return;
        }
        if order.len() >= self.limit {
            self.forget_one(order);
        }
        order.push_back(key);
    }

    /// Forgets one of those that are in order, which the newest is not yet: it stays even if all others are
    /// in use.
    fn forget_one(&self, order: &mut VecDeque<Key>) {
        // Each turn spares a key once, and not all of a large table: somebody waits for a worker.
        let turns = order.len().min(SPARES - 1);
        for may_be_spared in (0..=turns).rev().map(|left| left > 0) {
            let Some(key) = order.pop_front() else {
                return;
            };
            let is_used = |assignment: &Assignment| {
                assignment.worker().is_some() && assignment.used.swap(false, Relaxed)
            };
            // Each once, however often it is used meanwhile.
            let spared = may_be_spared
                && self.assignments.get(&key).is_some_and(|assignment| is_used(&assignment));
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

    /// Forgets keys whose worker has left, which would keep its memory, for as long as nobody asks for
    /// them.
    pub(crate) fn forget_gone(&self) {
        let mut order = self.order();
        self.assignments.retain(|_, assignment| assignment.worker().is_some());
        order.retain(|key| self.assignments.contains_key(key));
    }

    pub(crate) fn clear(&self) {
        let mut order = self.order();
        order.clear();
        self.assignments.clear();
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let count = self.len();
        heap::sum([heap::entries::<(Key, Assignment)>(count), heap::entries::<Key>(count)])
    }

    fn order(&self) -> MutexGuard<'_, VecDeque<Key>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::slot::Slot;
    use super::*;
    use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use loom::thread;

    fn worker(slot: u32) -> Arc<Worker> {
        Arc::new(Worker::new(&format!("w{slot}").into(), 0, Slot(slot), Arc::default()))
    }

    /// A key is bound while requests with it look for a worker, find none, and take one. Those that come
    /// afterwards go where it is bound to.
    #[test]
    fn what_is_bound_is_not_lost_to_requests_that_are_on_their_way() {
        fn route(
            sticky: &Sticky,
            key: Key,
            preferred: &Arc<Worker>,
            is_bound: &AtomicBool,
        ) -> Arc<Worker> {
            let found = sticky.get(key);
            // The table is unknown to the model, which would not try to bind between the two.
            is_bound.load(SeqCst);
            match found {
                Some((worker, _)) => worker,
                None => sticky.assign(key, preferred).unwrap_or_else(|| Arc::clone(preferred)),
            }
        }

        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let sticky = Arc::new(Sticky::new(10));
            let (preferred, bound, key) = (worker(0), worker(1), Key::of(b"key"));
            let is_bound = Arc::new(AtomicBool::new(false));
            let routing: Vec<_> = (0..2)
                .map(|_| {
                    let (sticky, is_bound) = (Arc::clone(&sticky), Arc::clone(&is_bound));
                    let preferred = Arc::clone(&preferred);
                    thread::spawn(move || route(&sticky, key, &preferred, &is_bound))
                })
                .collect();
            is_bound.store(true, SeqCst);
            sticky.bind(key, &bound);
            assert!(Arc::ptr_eq(&route(&sticky, key, &preferred, &is_bound), &bound));
            for routed in routing {
                routed.join().expect("no panic");
            }
            let (worker, is_bound) = sticky.get(key).expect("a worker");
            assert!(is_bound && Arc::ptr_eq(&worker, &bound));
        });
    }

    /// The worker that a key is bound to leaves while a request with it is on its way.
    #[test]
    fn what_is_bound_to_a_worker_that_has_left_goes_elsewhere() {
        loom::model(|| {
            let sticky = Arc::new(Sticky::new(10));
            let (next, bound, key) = (worker(0), worker(1), Key::of(b"key"));
            sticky.bind(key, &bound);
            let leaving = {
                let bound = Arc::clone(&bound);
                thread::spawn(move || bound.leave())
            };
            if sticky.get(key).is_none() {
                assert!(sticky.assign(key, &next).is_none());
            }
            leaving.join().expect("no panic");
            assert!(sticky.get(key).is_none_or(|(worker, _)| Arc::ptr_eq(&worker, &next)));
            assert!(sticky.assign(key, &next).is_none());
            assert!(sticky.get(key).is_some_and(|(_, is_bound)| !is_bound));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::slot::Slot;
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
        sticky.assign(a, &workers[0]);
        sticky.assign(b, &workers[0]);
        assert!(sticky.get(a).is_some());
        sticky.bind(c, &workers[0]);
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
            sticky.assign(key, &workers[0]);
            assert!(sticky.get(key).is_some());
        }
        sticky.assign(Key::of(b"another"), &workers[0]);
        assert_eq!(sticky.len(), 4 * SPARES);
        let spared = keys.iter().filter(|key| {
            let assignment = sticky.assignments.get(key);
            assignment.is_some_and(|assignment| !assignment.used.load(Relaxed))
        });
        assert_eq!(spared.count(), SPARES - 1);
    }

    #[test]
    fn the_newest_key_stays_even_if_all_others_are_in_use() {
        let (workers, sticky) = (workers(1), Sticky::new(3));
        for number in 0..100u8 {
            let key = Key::of(&[number]);
            sticky.bind(key, &workers[0]);
            assert!(sticky.get(key).is_some_and(|(_, bound)| bound), "{number}");
            assert_eq!(sticky.len(), usize::from(number + 1).min(3));
        }
    }

    #[test]
    fn a_worker_that_has_left_has_no_keys() {
        let (workers, sticky) = (workers(1), Sticky::new(2));
        let key = Key::of(b"a");
        sticky.bind(key, &workers[0]);
        workers[0].leave();
        assert!(sticky.get(key).is_none());
    }

    #[test]
    fn only_a_living_worker_that_a_key_is_bound_to_stands_in_the_way() {
        let (workers, sticky, key) = (workers(3), Sticky::new(2), Key::of(b"a"));
        let has = |worker: usize, is_bound: bool| {
            let (found, bound) = sticky.get(key).expect("a worker");
            Arc::ptr_eq(&found, &workers[worker]) && bound == is_bound
        };
        assert!(sticky.assign(key, &workers[0]).is_none());
        assert!(sticky.assign(key, &workers[1]).is_none());
        assert!(has(1, false));
        sticky.bind(key, &workers[0]);
        let bound = sticky.assign(key, &workers[1]).expect("it is bound");
        assert!(Arc::ptr_eq(&bound, &workers[0]) && has(0, true));
        sticky.bind(key, &workers[2]);
        assert!(has(2, true));
        workers[2].leave();
        assert!(sticky.assign(key, &workers[1]).is_none());
        assert!(has(1, false));
        let off = Sticky::new(0);
        off.bind(key, &workers[0]);
        assert!(off.assign(key, &workers[1]).is_none() && off.get(key).is_none());
    }

    #[test]
    fn memory_of_keys_is_counted_in_the_table_and_in_their_order() {
        let (sticky, workers) = (Sticky::new(10), workers(1));
        for key in 0..3_u32 {
            sticky.bind(Key::of(&key.to_le_bytes()), &workers[0]);
        }
        let one = size_of::<(Key, Assignment)>() + size_of::<Key>();
        assert_eq!(sticky.memory_bytes(), 3 * one);
    }
}
