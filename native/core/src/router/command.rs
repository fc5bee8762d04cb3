//! What requests are for, and what is known of each worker that did it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;
use once_cell::race::OnceBox;

use super::estimate::Latency;
use crate::prefetch;

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

/// Where a thread counts decisions. The first threads have lanes of their own, in which a count goes up
/// by a load and a store, and nobody waits for another's cache line; the others share one, and count
/// by atomic instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane(usize);

/// How many threads have lanes of their own.
const OWN: usize = 4;
const LANES: usize = OWN + 1;

impl Lane {
    const SHARED: Self = Self(OWN);

    pub(crate) fn of(thread: usize) -> Self {
        Self(thread.min(OWN))
    }

    #[inline]
    fn increment(self, count: &AtomicU64) {
        if self.0 < OWN {
            count.store(count.load(Relaxed) + 1, Relaxed);
        } else {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::SHARED
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Chunk {
    latencies: [Latency; CHUNK],
    outcomes: [Outcomes; CHUNK],
    decisions: [[AtomicU64; CHUNK]; LANES],
    /// How many of those are forgotten. A lane is written by its thread only, and never goes down.
    forgotten: [AtomicU64; CHUNK],
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            latencies: std::array::from_fn(|_| Latency::default()),
            outcomes: std::array::from_fn(|_| Outcomes::default()),
            decisions: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            forgotten: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Chunk {
    fn clear(&self, at: usize) {
        self.latencies[at].clear();
        self.outcomes[at].clear();
        self.forgotten[at].store(self.all_decisions(at), Relaxed);
    }

    fn all_decisions(&self, at: usize) -> u64 {
        self.decisions.iter().map(|lane| lane[at].load(Relaxed)).sum()
    }

    fn decisions(&self, at: usize) -> u64 {
        // In this order: what is forgotten between the two is at most what was counted before.
        let forgotten = self.forgotten[at].load(Relaxed);
        self.all_decisions(at).saturating_sub(forgotten)
    }
}

/// How the requests of a worker went.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) successes: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Outcomes {
    fn clear(&self) {
        for count in [&self.successes, &self.failures] {
            count.store(0, Relaxed);
        }
    }
}

impl Command {
    pub(crate) fn new(worker_limit: usize) -> Self {
        let chunks = worker_limit.div_ceil(CHUNK);
        Self { usual: Latency::default(), column: (0..chunks).map(|_| OnceBox::new()).collect() }
    }

    /// Where a worker's numbers are, if any of its neighbours was ever asked.
    #[inline]
    fn find(&self, slot: Slot) -> Option<(&Chunk, usize)> {
        let chunk = self.column.get(slot.0 as usize / CHUNK)?.get()?;
        Some((chunk, slot.0 as usize % CHUNK))
    }

    #[inline]
    fn find_or_add(&self, slot: Slot) -> Option<(&Chunk, usize)> {
        let chunk = self.column.get(slot.0 as usize / CHUNK)?.get_or_init(Box::default);
        Some((chunk, slot.0 as usize % CHUNK))
    }

    /// How long a worker takes.
    #[inline]
    pub(crate) fn latency(&self, slot: Slot) -> Option<&Latency> {
        self.find(slot).map(|(chunk, at)| &chunk.latencies[at])
    }

    /// Asks for what a decision reads of a worker, and for what it writes if the worker is chosen.
    #[inline]
    pub(crate) fn prefetch(&self, slot: Slot, lane: Lane) {
        if let Some((chunk, at)) = self.find(slot) {
            prefetch::line(&chunk.latencies[at]);
            prefetch::line(&chunk.decisions[lane.0][at]);
        }
    }

    /// How its requests went.
    pub(crate) fn outcomes(&self, slot: Slot) -> Option<&Outcomes> {
        self.find(slot).map(|(chunk, at)| &chunk.outcomes[at])
    }

    /// Where what is learned of a worker goes.
    pub(crate) fn of(&self, slot: Slot) -> Option<(&Latency, &Outcomes)> {
        self.find_or_add(slot).map(|(chunk, at)| (&chunk.latencies[at], &chunk.outcomes[at]))
    }

    /// Counts a request that a worker gets.
    #[inline]
    pub(crate) fn decided(&self, slot: Slot, lane: Lane) {
        if let Some((chunk, at)) = self.find_or_add(slot) {
            lane.increment(&chunk.decisions[lane.0][at]);
        }
    }

    /// How many requests a worker got.
    pub(crate) fn decisions(&self, slot: Slot) -> u64 {
        self.find(slot).map_or(0, |(chunk, at)| chunk.decisions(at))
    }

    /// Forgets a worker.
    pub(crate) fn clear_slot(&self, slot: Slot) {
        if let Some((chunk, at)) = self.find(slot) {
            chunk.clear(at);
        }
    }

    /// Forgets all workers.
    pub(crate) fn clear(&self) {
        self.usual.clear();
        for chunk in self.column.iter().filter_map(OnceBox::get) {
            (0..CHUNK).for_each(|at| chunk.clear(at));
        }
    }

    /// Bytes allocated for it and its name, with reference counts and its place in the table.
    pub(crate) fn memory_bytes(&self, name: &str) -> usize {
        let counts = 2 * size_of::<usize>();
        let chunks = self.column.iter().filter(|chunk| chunk.get().is_some()).count();
        counts
            + size_of::<Self>()
            + size_of_val(&*self.column)
            + chunks * size_of::<Chunk>()
            + counts
            + name.len()
            + size_of::<(Arc<str>, Arc<Self>)>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn every_decision_is_counted_by_threads_with_lanes_of_their_own_and_others() {
        const THREADS: usize = LANES + 2;
        const TIMES: usize = 300_000;
        let command = Command::new(100);
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (command, start) = (&command, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..TIMES).for_each(|_| command.decided(Slot(70), Lane::of(thread)));
                });
            }
        });
        assert_eq!(command.decisions(Slot(70)), (THREADS * TIMES) as u64);
        assert_eq!(command.decisions(Slot(71)), 0);
    }

    #[test]
    fn what_is_forgotten_is_not_told_again_when_its_thread_goes_on_to_count() {
        let command = Command::new(100);
        for forget in [|command: &Command| command.clear_slot(Slot(7)), Command::clear] {
            (0..3).for_each(|_| command.decided(Slot(7), Lane::of(0)));
            assert_eq!(command.decisions(Slot(7)), 3);
            forget(&command);
            assert_eq!(command.decisions(Slot(7)), 0);
            command.decided(Slot(7), Lane::of(0));
            command.decided(Slot(7), Lane::default());
            assert_eq!(command.decisions(Slot(7)), 2);
            forget(&command);
        }
    }
}
