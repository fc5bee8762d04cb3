//! A worker: what it has to do, how fast it is, and how well it fares.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use super::command::Slot;
use super::estimate::Latency;
use super::health::Health;
use super::load::Load;
use super::reason::Reason;
use crossbeam_utils::CachePadded;

/// What every decision reads of a worker, in cache lines of its own: two schedulers that give
/// requests to neighbours do not wait for each other.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Vitals {
    /// Its place in the columns of commands.
    pub(crate) slot: Slot,
    pub(crate) load: Load,
    /// How many times as long as usual its requests take, whatever they are. For commands that it was
    /// never asked for.
    pub(crate) slowness: Latency,
    /// How long requests waited for it before it got them, in nanoseconds.
    pub(crate) queue_wait: Latency,
    pub(crate) health: Health,
    decisions: [AtomicU64; Reason::ALL.len()],
}

/// A worker. Those with the same id at different times are different workers.
#[derive(Debug)]
pub(crate) struct Worker {
    id: Arc<str>,
    is_gone: AtomicBool,
    vitals: CachePadded<Vitals>,
    abandoned: AtomicU64,
}

impl Worker {
    pub(crate) fn new(id: &str, now_ns: u64, slot: Slot) -> Self {
        Self {
            id: id.into(),
            is_gone: AtomicBool::new(false),
            vitals: CachePadded::new(Vitals {
                slot,
                load: Load::default(),
                health: Health::new(now_ns),
                slowness: Latency::default(),
                queue_wait: Latency::default(),
                decisions: Default::default(),
            }),
            abandoned: AtomicU64::new(0),
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    #[inline]
    pub(crate) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Whether it has left the pool.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(SeqCst)
    }

    pub(crate) fn leave(&self) {
        self.is_gone.store(true, SeqCst);
    }

    /// Counts a decision for it.
    #[inline]
    pub(crate) fn decided(&self, reason: Reason) {
        // In one order with `leave` and `take_decisions`: whoever does not see after this that the worker
        // has left has counted before its counts are taken.
        self.vitals.decisions[reason as usize].fetch_add(1, SeqCst);
    }

    /// What was counted since it was last taken.
    pub(crate) fn take_decisions(&self, reason: Reason) -> u64 {
        self.vitals.decisions[reason as usize].swap(0, SeqCst)
    }

    pub(crate) fn decisions(&self, reason: Reason) -> u64 {
        self.vitals.decisions[reason as usize].load(Relaxed)
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Relaxed);
    }

    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.load(Relaxed)
    }

    /// Forgets what was measured and counted. What is in flight stays.
    pub(crate) fn clear(&self) {
        self.vitals.health.clear();
        self.vitals.slowness.clear();
        self.vitals.queue_wait.clear();
        for count in self.vitals.decisions.iter().chain([&self.abandoned]) {
            count.store(0, Relaxed);
        }
    }

    /// Bytes that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.id.len()
    }
}

// The numbers that are read for every worker that is compared come first, in one cache line.
const _: () = assert!(size_of::<Vitals>() <= 128);
