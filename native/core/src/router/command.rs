//! What requests are for, and what is known of each worker that did it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;
use once_cell::race::OnceBox;

use super::estimate::Latency;
use super::stamped::{HalfLife, Tick};
use super::worker::Worker;

/// Commands by name; the first ones that come, up to a limit.
pub(crate) type Commands = HashMap<Arc<str>, Arc<Command>, RandomState>;

/// The place of a worker in the columns of all commands. It is used again, as late as possible, when its
/// worker has left: what a request of the old one then still adds is lost in what is counted of the
/// new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// A place for each worker, allocated for neighbours.
#[derive(Debug)]
struct Column<T>(Box<[OnceBox<[T; CHUNK]>]>);

const CHUNK: usize = 64;

impl<T: Default> Column<T> {
    fn new(workers: usize) -> Self {
        Self((0..workers.div_ceil(CHUNK)).map(|_| OnceBox::new()).collect())
    }

    /// A worker's, if any of its neighbours ever needed one.
    #[inline]
    fn get(&self, slot: Slot) -> Option<&T> {
        Some(&self.0.get(slot.0 as usize / CHUNK)?.get()?[slot.0 as usize % CHUNK])
    }

    #[inline]
    fn get_or_add(&self, slot: Slot) -> Option<&T> {
        self.get(slot).or_else(|| self.add(slot))
    }

    #[cold]
    fn add(&self, slot: Slot) -> Option<&T> {
        let chunk = self.0.get(slot.0 as usize / CHUNK)?;
        let chunk = chunk.get_or_init(|| Box::new(std::array::from_fn(|_| T::default())));
        Some(&chunk[slot.0 as usize % CHUNK])
    }

    fn memory_bytes(&self) -> usize {
        let chunks = self.0.iter().filter(|chunk| chunk.get().is_some()).count();
        size_of_val(&*self.0) + chunks * size_of::<[T; CHUNK]>()
    }
}

/// The latencies of a worker for the first commands, beside its other numbers. Whoever compares workers
/// knows which ones before it knows the command, so all this can be on its way from memory by then.
pub(crate) type Row = [Latency; 32];

/// A command, and what is known of it at each worker.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its latency on whichever worker.
    pub(crate) usual: Latency,
    /// How many slots there are.
    slots: u32,
    /// How many commands there were before.
    number: usize,
    /// Latencies, if its number is too high for the rows of workers.
    latencies: Column<Latency>,
    /// By lane.
    decisions: [Column<AtomicU64>; LANES],
    outcomes: Column<Outcomes>,
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

/// How the requests of a worker went.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) successes: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// How many decisions are forgotten. A lane is written by its thread only, and never goes down.
    forgotten: AtomicU64,
}

impl Command {
    /// One that comes after so many.
    pub(crate) fn new(number: usize, worker_limit: usize) -> Self {
        let is_in_rows = number < size_of::<Row>() / size_of::<Latency>();
        Self {
            usual: Latency::default(),
            slots: worker_limit as u32,
            number,
            latencies: Column::new(if is_in_rows { 0 } else { worker_limit }),
            decisions: std::array::from_fn(|_| Column::new(worker_limit)),
            outcomes: Column::new(worker_limit),
        }
    }

    /// How long a worker takes.
    #[inline(always)]
    pub(crate) fn latency<'a>(&'a self, worker: &'a Worker) -> Option<&'a Latency> {
        let in_row = worker.latencies.get(self.number);
        if in_row.is_some() { in_row } else { self.latencies.get(worker.slot) }
    }

    /// How its requests went.
    pub(crate) fn outcomes(&self, worker: &Worker) -> Option<&Outcomes> {
        self.outcomes.get(worker.slot)
    }

    /// Learns how long a worker took.
    pub(crate) fn observe(&self, worker: &Worker, sample: f32, now: Tick, half_life: HalfLife) {
        let in_row = worker.latencies.get(self.number);
        if let Some(latency) = in_row.or_else(|| self.latencies.get_or_add(worker.slot)) {
            latency.observe(sample, now, half_life);
        }
    }

    /// Counts how a request of a worker went.
    pub(crate) fn ended(&self, worker: &Worker, count: fn(&Outcomes) -> &AtomicU64) {
        if let Some(outcomes) = self.outcomes.get_or_add(worker.slot) {
            count(outcomes).fetch_add(1, Relaxed);
        }
    }

    /// Counts a request that a worker gets.
    #[inline]
    pub(crate) fn decided(&self, worker: &Worker, lane: Lane) {
        if let Some(decisions) = self.decisions[lane.0].get_or_add(worker.slot) {
            lane.increment(decisions);
        }
    }

    /// How many requests a worker got.
    pub(crate) fn decisions(&self, worker: &Worker) -> u64 {
        // In this order: what is forgotten between the two is at most what was counted before.
        let forgotten =
            self.outcomes(worker).map_or(0, |outcomes| outcomes.forgotten.load(Relaxed));
        self.all_decisions(worker.slot).saturating_sub(forgotten)
    }

    fn all_decisions(&self, slot: Slot) -> u64 {
        let lanes = self.decisions.iter().filter_map(|lane| lane.get(slot));
        lanes.map(|decisions| decisions.load(Relaxed)).sum()
    }

    /// Forgets the worker that had a slot. Its row goes with it.
    pub(crate) fn clear_slot(&self, slot: Slot) {
        if let Some(latency) = self.latencies.get(slot) {
            latency.clear();
        }
        let decisions = self.all_decisions(slot);
        let outcomes =
            if decisions > 0 { self.outcomes.get_or_add(slot) } else { self.outcomes.get(slot) };
        if let Some(Outcomes { successes, failures, forgotten }) = outcomes {
            successes.store(0, Relaxed);
            failures.store(0, Relaxed);
            forgotten.store(decisions, Relaxed);
        }
    }

    /// Forgets all workers, but for their rows.
    pub(crate) fn clear(&self) {
        self.usual.clear();
        (0..self.slots).for_each(|slot| self.clear_slot(Slot(slot)));
    }

    /// Bytes that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let decisions: usize = self.decisions.iter().map(Column::memory_bytes).sum();
        size_of::<Self>() + decisions + self.latencies.memory_bytes() + self.outcomes.memory_bytes()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::thread;

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
                    (0..TIMES).for_each(|_| command.decided(chosen, Lane::of(thread)));
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
            (0..3).for_each(|_| command.decided(&chosen, Lane::of(0)));
            assert_eq!(command.decisions(&chosen), 3);
            forget(&command);
            assert_eq!(command.decisions(&chosen), 0);
            command.decided(&chosen, Lane::of(0));
            command.decided(&chosen, Lane::default());
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
                command.observe(worker, sample(at, of), now, half_life);
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
}
