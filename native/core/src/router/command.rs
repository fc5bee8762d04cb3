//! What requests are for, and what is known of each worker that did it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;
use once_cell::race::OnceBox;

use super::estimate::Latency;

/// Commands by name; the first ones that come, up to a limit.
pub(crate) type Commands = HashMap<Arc<str>, Arc<Command>, RandomState>;

/// The place of a worker in the columns of all commands. It is used again, as late as possible, when its
/// worker has left: what a request of the old one then still adds is lost in what is learned of the
/// new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// Slots are allocated by neighbours.
const CHUNK: usize = 64;

/// A command, with a column that has a place for each worker: whoever compares workers finds what it
/// needs of several in one cache line.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its latency on whichever worker.
    pub(crate) usual: Latency,
    column: Box<[OnceBox<Chunk>]>,
}

#[derive(Debug)]
struct Chunk {
    latencies: [Latency; CHUNK],
    counts: [Counts; CHUNK],
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            latencies: std::array::from_fn(|_| Latency::default()),
            counts: std::array::from_fn(|_| Counts::default()),
        }
    }
}

/// How often a worker was asked, and how it went.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) decisions: AtomicU64,
    pub(crate) successes: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Counts {
    fn clear(&self) {
        for count in [&self.decisions, &self.successes, &self.failures] {
            count.store(0, Relaxed);
        }
    }
}

impl Command {
    pub(crate) fn new(worker_limit: usize) -> Self {
        let chunks = worker_limit.div_ceil(CHUNK);
        Self { usual: Latency::default(), column: (0..chunks).map(|_| OnceBox::new()).collect() }
    }

    fn chunk(&self, slot: Slot) -> Option<&Chunk> {
        self.column.get(slot.0 as usize / CHUNK)?.get()
    }

    /// How long a worker takes, if any of its neighbours was ever asked.
    #[inline]
    pub(crate) fn latency(&self, slot: Slot) -> Option<&Latency> {
        Some(&self.chunk(slot)?.latencies[slot.0 as usize % CHUNK])
    }

    /// The counts of a worker, if any of its neighbours was ever asked.
    pub(crate) fn counts(&self, slot: Slot) -> Option<&Counts> {
        Some(&self.chunk(slot)?.counts[slot.0 as usize % CHUNK])
    }

    /// Where what is learned of a worker goes.
    #[inline]
    pub(crate) fn of(&self, slot: Slot) -> Option<(&Latency, &Counts)> {
        let chunk = self.column.get(slot.0 as usize / CHUNK)?.get_or_init(Box::default);
        let at = slot.0 as usize % CHUNK;
        Some((&chunk.latencies[at], &chunk.counts[at]))
    }

    /// Forgets a worker.
    pub(crate) fn clear_slot(&self, slot: Slot) {
        if let (Some(latency), Some(counts)) = (self.latency(slot), self.counts(slot)) {
            latency.clear();
            counts.clear();
        }
    }

    /// Forgets all workers.
    pub(crate) fn clear(&self) {
        self.usual.clear();
        for chunk in self.column.iter().filter_map(OnceBox::get) {
            chunk.latencies.iter().for_each(Latency::clear);
            chunk.counts.iter().for_each(Counts::clear);
        }
    }

    /// Bytes that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let chunks = self.column.iter().filter(|chunk| chunk.get().is_some()).count();
        size_of::<Self>() + size_of_val(&*self.column) + chunks * size_of::<Chunk>()
    }
}
