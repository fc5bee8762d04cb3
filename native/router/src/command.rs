//! What requests are for, and what is known of each worker that did it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;

use telemetry_common::heap::{self, HeapBytes};

use super::estimate::Latency;
use super::shared_cell::SharedCell;
use super::slot::{CHUNK, Slot};
use super::worker::Worker;

/// Commands by name; the first ones that come, up to a limit.
pub(crate) type Commands = HashMap<Arc<str>, Arc<Command>, RandomState>;

/// A command, with a column that has a place for each worker.
///
/// When workers have left, the list gets another one in its place that shares all but the chunks that
/// nobody is in any more. Whoever still has the old one learns into the new one too, but where a chunk had
/// not been allocated yet: what is learned of its first workers just then is lost.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its latency on whichever worker.
    pub(crate) usual: Arc<Latency>,
    /// How many commands there were before.
    number: usize,
    column: Box<[SharedCell<Chunk>]>,
}

/// Where a thread counts decisions. The first threads have lanes of their own, in which a count goes up
/// by a load and a store, and nobody waits for another's cache line; the others share one, and count
/// by atomic instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stripe(usize);

/// How many threads have lanes of their own.
const OWN: usize = 4;
const LANES: usize = OWN + 1;

impl Stripe {
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

impl Default for Stripe {
    fn default() -> Self {
        Self::SHARED
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Chunk {
    /// If the command's number is too high for the rows of workers.
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
    /// One that comes after so many.
    pub(crate) fn new(number: usize, worker_limit: usize) -> Self {
        let chunks = worker_limit.div_ceil(CHUNK);
        let column = (0..chunks).map(|_| SharedCell::default()).collect();
        Self { usual: Arc::default(), number, column }
    }

    /// The same command without the chunks that are not in use, if it has any of those.
    pub(crate) fn without_idle(&self, is_used: impl Fn(usize) -> bool) -> Option<Self> {
        let mut chunks = self.column.iter().enumerate();
        if !chunks.any(|(at, chunk)| chunk.get().is_some() && !is_used(at)) {
            return None;
        }
        let keep = |(at, chunk): (usize, &SharedCell<Chunk>)| {
            if is_used(at) { chunk.share() } else { SharedCell::default() }
        };
        let column = self.column.iter().enumerate().map(keep).collect();
        Some(Self { usual: Arc::clone(&self.usual), number: self.number, column })
    }

    /// Where a worker's numbers are, if any of its neighbours was ever asked.
    #[inline]
    fn find(&self, slot: Slot) -> Option<(&Chunk, usize)> {
        let chunk = self.column.get(slot.chunk())?.get()?;
        Some((chunk, slot.place()))
    }

    #[inline]
    fn find_or_add(&self, slot: Slot) -> Option<(&Chunk, usize)> {
        self.find(slot).or_else(|| self.add(slot))
    }

    #[cold]
    fn add(&self, slot: Slot) -> Option<(&Chunk, usize)> {
        let chunk = self.column.get(slot.chunk())?.get_or_add();
        Some((chunk, slot.place()))
    }

    /// How long a worker takes.
    #[inline(always)]
    pub(crate) fn latency<'a>(&'a self, worker: &'a Worker) -> Option<&'a Latency> {
        let in_column = || self.find(worker.slot).map(|(chunk, at)| &chunk.latencies[at]);
        worker.latencies.get(self.number).or_else(in_column)
    }

    /// How its requests went.
    pub(crate) fn outcomes(&self, worker: &Worker) -> Option<&Outcomes> {
        self.find(worker.slot).map(|(chunk, at)| &chunk.outcomes[at])
    }

    /// Where what is learned of a worker goes.
    pub(crate) fn of<'a>(&'a self, worker: &'a Worker) -> Option<(&'a Latency, &'a Outcomes)> {
        let (chunk, at) = self.find_or_add(worker.slot)?;
        let latency = worker.latencies.get(self.number).unwrap_or(&chunk.latencies[at]);
        Some((latency, &chunk.outcomes[at]))
    }

    /// Counts a request that a worker gets.
    #[inline]
    pub(crate) fn decided(&self, worker: &Worker, lane: Stripe) {
        if let Some((chunk, at)) = self.find_or_add(worker.slot) {
            lane.increment(&chunk.decisions[lane.0][at]);
        }
    }

    /// How many requests a worker got.
    pub(crate) fn decisions(&self, worker: &Worker) -> u64 {
        self.find(worker.slot).map_or(0, |(chunk, at)| chunk.decisions(at))
    }

    /// Forgets the worker that had a slot. Its row goes with it.
    pub(crate) fn clear_slot(&self, slot: Slot) {
        if let Some((chunk, at)) = self.find(slot) {
            chunk.clear(at);
        }
    }

    /// Forgets all workers, but for their rows.
    pub(crate) fn clear(&self) {
        self.usual.clear();
        for chunk in self.column.iter().filter_map(SharedCell::get) {
            (0..CHUNK).for_each(|at| chunk.clear(at));
        }
    }

    /// Bytes allocated for it and its name, with reference counts and its place in the table.
    pub(crate) fn memory_bytes(&self, name: &Arc<str>) -> usize {
        heap::sum([
            heap::entries::<(Arc<str>, Arc<Self>)>(1),
            name.heap_bytes(),
            heap::shared(self),
            self.usual.heap_bytes(),
            self.column.heap_bytes(),
            heap::sum(self.column.iter().filter_map(SharedCell::get).map(heap::shared)),
        ])
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::super::stamped::{HalfLife, Tick};
    use super::*;

    fn worker(slot: u32) -> Worker {
        Worker::new(&"w".into(), 0, Slot(slot), Arc::default())
    }

    #[test]
    fn every_decision_is_counted_by_threads_with_lanes_of_their_own_and_others() {
        const THREADS: usize = LANES + 2;
        const TIMES: usize = 300_000;
        let (command, chosen) = (Command::new(0, 100), worker(70));
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (command, chosen, start) = (&command, &chosen, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..TIMES).for_each(|_| command.decided(chosen, Stripe::of(thread)));
                });
            }
        });
        assert_eq!(command.decisions(&chosen), (THREADS * TIMES) as u64);
        assert_eq!(command.decisions(&worker(71)), 0);
    }

    #[test]
    fn what_is_forgotten_is_not_told_again_when_its_thread_goes_on_to_count() {
        let (command, chosen) = (Command::new(0, 100), worker(7));
        for forget in [|command: &Command| command.clear_slot(Slot(7)), Command::clear] {
            (0..3).for_each(|_| command.decided(&chosen, Stripe::of(0)));
            assert_eq!(command.decisions(&chosen), 3);
            forget(&command);
            assert_eq!(command.decisions(&chosen), 0);
            command.decided(&chosen, Stripe::of(0));
            command.decided(&chosen, Stripe::default());
            assert_eq!(command.decisions(&chosen), 2);
            forget(&command);
        }
    }

    /// Of the last command that has a place in the rows of workers, and of the first that has none.
    #[test]
    fn latencies_are_those_of_a_command_at_a_worker_wherever_they_are_kept() {
        let (now, half_life) = (Tick::at(1 << 40), HalfLife::from_ns(1 << 40));
        let commands = [30, 31, 32, 33].map(|number| Command::new(number, 100));
        let workers = [worker(1), worker(99)];
        let sample = |command: usize, worker: usize| (command * 10 + worker + 1) as f32;
        for (at, command) in commands.iter().enumerate() {
            for (of, worker) in workers.iter().enumerate() {
                let (latency, _) = command.of(worker).expect("room");
                latency.observe(sample(at, of), now, half_life);
            }
        }
        let latency = |command: &Command, worker: &Worker| {
            command.latency(worker).and_then(|latency| latency.get(now, half_life))
        };
        for (at, command) in commands.iter().enumerate() {
            for (of, worker) in workers.iter().enumerate() {
                assert_eq!(latency(command, worker), Some((sample(at, of), 1.0)));
            }
        }
        // The next worker in the slot has none.
        commands.iter().for_each(|command| command.clear_slot(Slot(99)));
        let next = worker(99);
        assert!(commands.iter().all(|command| latency(command, &next).is_none()));
        assert!(commands.iter().all(|command| latency(command, &workers[0]).is_some()));
        commands.iter().for_each(Command::clear);
        workers[0].clear();
        assert!(commands.iter().all(|command| latency(command, &workers[0]).is_none()));
    }

    #[test]
    fn memory_of_a_command_and_its_column_is_counted() {
        let (name, command) = (Arc::from("predict"), Command::new(0, 10 * CHUNK));
        let entry = size_of::<(Arc<str>, Arc<Command>)>();
        let own = 16 + size_of::<Command>() + 16 + size_of::<Latency>();
        let column = command.column.len() * size_of::<usize>();
        let empty = entry + 24 + own + column;
        assert!(column >= 80);
        assert_eq!(command.memory_bytes(&name), empty);
        // The chunks of two workers, each with a line of 64 bytes for its counts.
        let slots = [0, CHUNK as u32].map(Slot);
        assert!(slots.into_iter().all(|slot| command.find_or_add(slot).is_some()));
        assert_eq!(command.memory_bytes(&name), empty + 2 * (64 + size_of::<Chunk>()));
    }
}
