//! The workers and commands of a router, as a list that is replaced when it changes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard};
use telemetry_common::lock::lock;

use arc_swap::{ArcSwap, Guard};
use dashmap::DashMap;
use foldhash::fast::RandomState;

use telemetry_common::heap;

use super::command::{Command, Commands};
use super::record::{Counts, Records};
use super::slot::Slot;
use super::spec::RouterSpec;
use super::worker::Worker;

/// What a decision is made from. It is never changed, only replaced: deciding takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) workers: Box<[Arc<Worker>]>,
    pub(crate) commands: Commands,
}

/// Which list it is, of whichever router: none has the same number. Zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Generation {
    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Relaxed) + 1)
    }
}

/// What became of a declared set of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// How many are new.
    pub added: usize,
    /// How many have left.
    pub removed: usize,
    /// How many found no room.
    pub refused: usize,
}

/// Which slots have no worker.
#[derive(Debug, Default)]
struct Slots {
    /// Those that had one, the longest free first.
    free: VecDeque<Slot>,
    next: u32,
    /// How many of each chunk have one.
    taken: Vec<u32>,
    /// Whether a chunk has become empty since that was last asked.
    any_emptied: bool,
}

impl Slots {
    fn take(&mut self) -> Slot {
        let slot = self.free.pop_front().unwrap_or_else(|| {
            self.next += 1;
            Slot(self.next - 1)
        });
        if slot.chunk() >= self.taken.len() {
            self.taken.resize(slot.chunk() + 1, 0);
        }
        self.taken[slot.chunk()] += 1;
        slot
    }

    fn give_back(&mut self, slot: Slot) {
        self.free.push_back(slot);
        let taken = &mut self.taken[slot.chunk()];
        *taken -= 1;
        self.any_emptied |= *taken == 0;
    }

    fn is_used(&self, chunk: usize) -> bool {
        self.taken.get(chunk).is_some_and(|taken| *taken > 0)
    }
}

/// What is changed together with the list.
#[derive(Debug)]
pub(crate) struct Changing {
    slots: Slots,
    pub(crate) records: Records,
}

pub(crate) struct Pool {
    members: ArcSwap<Members>,
    /// Stored after the list that it is the number of.
    generation: AtomicU64,
    /// The same workers, for what names them.
    by_id: DashMap<Arc<str>, Arc<Worker>, RandomState>,
    /// Held by whoever replaces the list.
    changing: Mutex<Changing>,
    worker_limit: usize,
    command_limit: usize,
    slow_start_ns: u64,
    refused: AtomicU64,
}

impl Pool {
    pub(crate) fn new(spec: &RouterSpec) -> Self {
        let records = Records::new(spec.metrics_limit);
        Self {
            members: ArcSwap::default(),
            generation: AtomicU64::new(Generation::new().0),
            by_id: DashMap::with_hasher(RandomState::default()),
            changing: Mutex::new(Changing { slots: Slots::default(), records }),
            worker_limit: spec.worker_limit,
            command_limit: spec.command_limit,
            slow_start_ns: spec.slow_start_ns(),
            refused: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn members(&self) -> Guard<Arc<Members>> {
        self.members.load()
    }

    /// The number of the list. Whoever has seen it finds that list or a newer one.
    #[inline]
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Acquire))
    }

    pub(crate) fn worker(&self, id: &str) -> Option<Arc<Worker>> {
        self.by_id.get(id).map(|worker| Arc::clone(&worker))
    }

    /// Adds a worker, unless it is there. `false` if there is no room.
    pub(crate) fn add(&self, id: &str, now_ns: u64) -> bool {
        let mut changing = self.changing();
        if self.by_id.contains_key(id) {
            return true;
        }
        let added = self.admit(id, now_ns, &mut changing);
        if added {
            self.publish(&mut changing);
        }
        added
    }

    /// Takes a worker out. `false` if there was none.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut changing = self.changing();
        let removed = self.dismiss(id, &mut changing);
        if removed {
            self.publish(&mut changing);
        }
        removed
    }

    /// Makes these the workers. Those that were there stay as they are.
    pub(crate) fn put<'a>(&self, ids: impl Iterator<Item = &'a str>, now_ns: u64) -> Change {
        let mut changing = self.changing();
        let wanted: HashSet<&str, RandomState> = ids.collect();
        let leaving: Vec<Arc<str>> = self
            .by_id
            .iter()
            .filter(|worker| !wanted.contains(&**worker.key()))
            .map(|worker| Arc::clone(worker.key()))
            .collect();
        let mut change = Change { removed: leaving.len(), ..Change::default() };
        for id in &leaving {
            self.dismiss(id, &mut changing);
        }
        for id in wanted {
            if !self.by_id.contains_key(id) {
                match self.admit(id, now_ns, &mut changing) {
                    true => change.added += 1,
                    false => change.refused += 1,
                }
            }
        }
        if change.added + change.removed > 0 {
            self.publish(&mut changing);
        }
        change
    }

    /// Takes all workers out.
    pub(crate) fn clear(&self) {
        self.put(std::iter::empty(), 0);
    }

    fn admit(&self, id: &str, now_ns: u64, changing: &mut Changing) -> bool {
        if self.by_id.len() >= self.worker_limit {
            self.refused.fetch_add(1, Relaxed);
            return false;
        }
        let slot = changing.slots.take();
        self.members().commands.values().for_each(|command| command.clear_slot(slot));
        let id: Arc<str> = id.into();
        let record = changing.records.join(&id);
        let worker = Arc::new(Worker::new(&id, now_ns, slot, record));
        worker.not_plain_before(now_ns.saturating_add(self.slow_start_ns));
        self.by_id.insert(id, worker);
        true
    }

    fn dismiss(&self, id: &str, changing: &mut Changing) -> bool {
        let Some((_, worker)) = self.by_id.remove(id) else {
            return false;
        };
        worker.leave();
        changing.slots.give_back(worker.slot);
        changing.records.leave(worker.id(), worker.record(), worker.take_counts());
        true
    }

    /// Takes over what is counted of a worker that has left and was not taken over then.
    #[cold]
    pub(crate) fn take_counts(&self, worker: &Worker) {
        // Under the lock, so that no reader finds counts in neither place.
        let changing = self.changing();
        changing.records.add(worker.id(), worker.record(), worker.take_counts());
    }

    fn publish(&self, changing: &mut Changing) {
        let mut workers: Vec<_> =
            self.by_id.iter().map(|worker| Arc::clone(worker.value())).collect();
        workers.sort_unstable_by(|one, other| one.id().cmp(other.id()));
        let mut commands = self.members().commands.clone();
        if std::mem::take(&mut changing.slots.any_emptied) {
            for command in commands.values_mut() {
                if let Some(smaller) = command.without_idle(|chunk| changing.slots.is_used(chunk)) {
                    *command = Arc::new(smaller);
                }
            }
            self.by_id.shrink_to_fit();
        }
        self.replace(Members { workers: workers.into(), commands }, changing);
    }

    fn replace(&self, members: Members, _changing: &mut Changing) {
        self.members.store(Arc::new(members));
        self.generation.store(Generation::new().0, Release);
    }

    /// Gives a command a place, if there is one.
    #[cold]
    pub(crate) fn add_command(&self, name: &str) -> Option<Arc<Command>> {
        if self.members().commands.len() >= self.command_limit {
            return None;
        }
        let mut changing = self.changing();
        let members = self.members();
        if let Some(command) = members.commands.get(name) {
            return Some(Arc::clone(command));
        }
        if members.commands.len() >= self.command_limit {
            return None;
        }
        let command = Arc::new(Command::new(members.commands.len(), self.worker_limit));
        let mut commands = members.commands.clone();
        commands.insert(name.into(), Arc::clone(&command));
        self.replace(Members { workers: members.workers.clone(), commands }, &mut changing);
        Some(command)
    }

    /// How many workers found no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Everything that was counted, of workers that have left too.
    pub(crate) fn total(&self) -> Counts {
        // While nobody comes or leaves, counts are in one place.
        let changing = self.changing();
        let mut live = Counts::default();
        self.members().workers.iter().for_each(|worker| live += worker.counts());
        changing.records.total(live)
    }

    /// Forgets what was measured and counted.
    pub(crate) fn reset(&self) {
        let mut changing = self.changing();
        let members = self.members();
        members.workers.iter().for_each(|worker| worker.clear());
        members.commands.values().for_each(|command| command.clear());
        changing.records.clear();
        self.refused.store(0, Relaxed);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let records = self.changing().records.memory_bytes();
        let members = self.members();
        let commands = members.commands.iter();
        heap::sum([
            records,
            heap::sum(members.workers.iter().map(|worker| worker.memory_bytes())),
            heap::sum(commands.map(|(name, command)| command.memory_bytes(name))),
        ])
    }

    pub(crate) fn changing(&self) -> MutexGuard<'_, Changing> {
        // What it guards is valid after every statement.
        lock(&self.changing)
    }
}
