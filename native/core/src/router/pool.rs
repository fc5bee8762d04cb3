//! The workers and commands of a router, as a list that is replaced when it changes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::command::{Command, Commands, Slot};
use super::reason::Reason;
use super::worker::Worker;

/// What a decision is made from. It is never changed, only replaced: deciding takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) workers: Box<[Arc<Worker>]>,
    pub(crate) commands: Commands,
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
}

impl Slots {
    fn take(&mut self) -> Slot {
        self.free.pop_front().unwrap_or_else(|| {
            self.next += 1;
            Slot(self.next - 1)
        })
    }
}

pub(crate) struct Pool {
    members: ArcSwap<Members>,
    /// The same workers, for what names them.
    by_id: DashMap<Arc<str>, Arc<Worker>, RandomState>,
    /// Held by whoever replaces the list.
    changing: Mutex<Slots>,
    worker_limit: usize,
    command_limit: usize,
    refused: AtomicU64,
    /// Decisions for workers that have left, so that totals never go down.
    departed: [AtomicU64; Reason::ALL.len()],
    departed_ejections: AtomicU64,
}

impl Pool {
    pub(crate) fn new(worker_limit: usize, command_limit: usize) -> Self {
        Self {
            members: ArcSwap::default(),
            by_id: DashMap::with_hasher(RandomState::default()),
            changing: Mutex::default(),
            worker_limit,
            command_limit,
            refused: AtomicU64::new(0),
            departed: Default::default(),
            departed_ejections: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn members(&self) -> Guard<Arc<Members>> {
        self.members.load()
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
            self.publish(&changing);
        }
        added
    }

    /// Takes a worker out. `false` if there was none.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut changing = self.changing();
        let removed = self.dismiss(id, &mut changing);
        if removed {
            self.publish(&changing);
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
            self.publish(&changing);
        }
        change
    }

    /// Takes all workers out.
    pub(crate) fn clear(&self) {
        self.put(std::iter::empty(), 0);
    }

    fn admit(&self, id: &str, now_ns: u64, slots: &mut Slots) -> bool {
        if self.by_id.len() >= self.worker_limit {
            self.refused.fetch_add(1, Relaxed);
            return false;
        }
        let slot = slots.take();
        self.members().commands.values().for_each(|command| command.clear_slot(slot));
        let worker = Arc::new(Worker::new(id, now_ns, slot));
        self.by_id.insert(Arc::clone(worker.id()), worker);
        true
    }

    fn dismiss(&self, id: &str, slots: &mut Slots) -> bool {
        let Some((_, worker)) = self.by_id.remove(id) else {
            return false;
        };
        worker.leave();
        slots.free.push_back(worker.vitals().slot);
        self.take_decisions(&worker);
        self.departed_ejections.fetch_add(worker.vitals().health.ejections(), Relaxed);
        true
    }

    /// Takes over what a worker that has left has counted. Also for whoever has counted a decision for
    /// it since.
    #[cold]
    pub(crate) fn take_decisions(&self, worker: &Worker) {
        for reason in Reason::ALL {
            self.departed[reason as usize].fetch_add(worker.take_decisions(reason), Relaxed);
        }
    }

    fn publish(&self, _changing: &Slots) {
        let mut workers: Vec<_> =
            self.by_id.iter().map(|worker| Arc::clone(worker.value())).collect();
        workers.sort_unstable_by(|one, other| one.id().cmp(other.id()));
        let commands = self.members.load().commands.clone();
        self.members.store(Arc::new(Members { workers: workers.into(), commands }));
    }

    /// Gives a command a place, if there is one.
    #[cold]
    pub(crate) fn add_command(&self, name: &str) -> Option<Arc<Command>> {
        if self.members().commands.len() >= self.command_limit {
            return None;
        }
        let _changing = self.changing();
        let members = self.members();
        if let Some(command) = members.commands.get(name) {
            return Some(Arc::clone(command));
        }
        if members.commands.len() >= self.command_limit {
            return None;
        }
        let command = Arc::new(Command::new(self.worker_limit));
        let mut commands = members.commands.clone();
        commands.insert(name.into(), Arc::clone(&command));
        self.members.store(Arc::new(Members { workers: members.workers.clone(), commands }));
        Some(command)
    }

    /// How many workers found no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Decisions for workers that have left.
    pub(crate) fn departed(&self, reason: Reason) -> u64 {
        self.departed[reason as usize].load(Relaxed)
    }

    /// Ejections of workers that have left.
    pub(crate) fn departed_ejections(&self) -> u64 {
        self.departed_ejections.load(Relaxed)
    }

    /// Forgets what was measured and counted.
    pub(crate) fn reset(&self) {
        let members = self.members();
        members.workers.iter().for_each(|worker| worker.clear());
        members.commands.values().for_each(|command| command.clear());
        for count in self.departed.iter().chain([&self.refused, &self.departed_ejections]) {
            count.store(0, Relaxed);
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let members = self.members();
        let workers = members.workers.iter().map(|worker| worker.memory_bytes()).sum::<usize>();
        workers + members.commands.values().map(|command| command.memory_bytes()).sum::<usize>()
    }

    fn changing(&self) -> MutexGuard<'_, Slots> {
        // What it guards is valid after every statement.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
