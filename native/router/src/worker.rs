//! A worker: what it has to do, how fast it is, and how well it fares.

use std::sync::Arc;

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::estimate::Latency;
use super::health::Health;
use super::load::Load;
use super::reason::Reason;
use super::record::{Counts, Record};
use super::slot::{Row, Slot};
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::prefetch;

/// A worker. Those with the same id at different times are different workers.
///
/// What is read of those that are compared is in the first cache line, with what is read and written
/// of the one that is chosen, if its id is short. The second has what counts of those that are not
/// plain, and more of the id. Both belong to it alone, so two schedulers that give requests to
/// neighbours do not wait for each other.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Worker {
    /// Its place in the columns of commands.
    pub(crate) slot: Slot,
    is_gone: AtomicBool,
    pub(crate) load: Load,
    /// From when on only its latency and its load count, in nanoseconds.
    plain_from: AtomicU64,
    /// Decisions by reason, of which nearly all are for the first.
    best: AtomicU64,
    short_id: ShortId,
    /// How long requests waited for it before it got them, in nanoseconds.
    pub(crate) queue_wait: Latency,
    pub(crate) health: Health,
    /// How many times as long as usual its requests take, whatever they are. For commands that it was
    /// never asked for.
    pub(crate) slowness: Latency,
    others: [AtomicU64; Reason::ALL.len() - 1],
    id: Arc<str>,
    record: Arc<Record>,
    abandoned: AtomicU64,
    /// Of the first commands.
    pub(crate) latencies: Row,
}

/// An id if it is short, beside the other numbers, so that nothing else needs to be read to tell it.
#[derive(Debug)]
struct ShortId {
    length: u8,
    bytes: [u8; Self::MOST],
}

impl ShortId {
    const MOST: usize = 47;
    const TOO_LONG: u8 = u8::MAX;

    fn new(id: &str) -> Self {
        let mut bytes = [0; Self::MOST];
        let length = match bytes.get_mut(..id.len()) {
            Some(bytes) => {
                bytes.copy_from_slice(id.as_bytes());
                id.len() as u8
            }
            None => Self::TOO_LONG,
        };
        Self { length, bytes }
    }

    #[inline]
    fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..usize::from(self.length))
    }
}

impl Worker {
    pub(crate) fn new(id: &Arc<str>, now_ns: u64, slot: Slot, record: Arc<Record>) -> Self {
        Self {
            slot,
            load: Load::default(),
            plain_from: AtomicU64::new(0),
            queue_wait: Latency::default(),
            best: AtomicU64::new(0),
            health: Health::new(now_ns),
            slowness: Latency::default(),
            is_gone: AtomicBool::new(false),
            short_id: ShortId::new(id),
            others: std::array::from_fn(|_| AtomicU64::new(0)),
            id: Arc::clone(id),
            record,
            abandoned: AtomicU64::new(0),
            latencies: Row::default(),
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The id's text.
    #[inline]
    pub(crate) fn text(&self) -> &[u8] {
        self.short_id.get().unwrap_or_else(|| self.id.as_bytes())
    }

    /// What it has counted in other lives.
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Asks for what a decision reads of it.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch::line(&self.slot);
    }

    /// And for its latencies.
    #[inline]
    pub(crate) fn prefetch_latencies(&self) {
        prefetch::all(&self.latencies);
    }

    /// Whether nothing counts but its latency and its load: no failure, no waiting and no ejection, as
    /// of nearly all nearly always.
    #[inline]
    pub(crate) fn is_plain(&self, now_ns: u64) -> bool {
        now_ns >= self.plain_from.load(Relaxed)
    }

    /// Says that something else counts too until then. To be said after it has been stored: who does not
    /// know of it yet decides as it would have done a moment before. Never taken back, as all of it
    /// fades.
    pub(crate) fn not_plain_before(&self, ns: u64) {
        self.plain_from.fetch_max(ns, Relaxed);
    }

    /// Whether it has left the pool.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(SeqCst)
    }

    pub(crate) fn leave(&self) {
        self.is_gone.store(true, SeqCst);
    }

    /// Counts a decision for it. `false` if it has left: then its counts are to be taken once more.
    #[inline]
    #[must_use]
    pub(crate) fn decided(&self, reason: Reason) -> bool {
        // In one order with `leave` and `take_counts`: whoever does not see after this that the worker
        // has left has counted before its counts are taken.
        self.count(reason).fetch_add(1, SeqCst);
        !self.is_gone()
    }

    #[inline]
    fn count(&self, reason: Reason) -> &AtomicU64 {
        match (reason as usize).checked_sub(1) {
            None => &self.best,
            Some(other) => &self.others[other],
        }
    }

    /// What was counted since it was last taken.
    pub(crate) fn take_counts(&self) -> Counts {
        Counts {
            decisions: Reason::ALL.map(|reason| self.count(reason).swap(0, SeqCst)),
            ejections: self.health.take_ejections(),
        }
    }

    /// What was counted since it came.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            decisions: Reason::ALL.map(|reason| self.count(reason).load(Relaxed)),
            ejections: self.health.ejections(),
        }
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Relaxed);
    }

    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.load(Relaxed)
    }

    /// Forgets what was measured and counted. What is in flight stays.
    pub(crate) fn clear(&self) {
        self.health.clear();
        self.slowness.clear();
        self.queue_wait.clear();
        self.latencies.iter().for_each(Latency::clear);
        for count in self.others.iter().chain([&self.best, &self.abandoned]) {
            count.store(0, Relaxed);
        }
    }

    /// Bytes allocated for it, its reference counts and its places in the tables of workers included.
    pub(crate) fn memory_bytes(&self) -> usize {
        heap::sum([
            heap::entries::<(Arc<str>, Arc<Self>)>(1),
            heap::entries::<Arc<Self>>(1),
            heap::shared(self),
            self.id.heap_bytes(),
        ])
    }
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    const LINE: usize = 64;
    /// Of which an id is within the first line.
    const SHORT: usize = 23;
    assert!(offset_of!(Worker, short_id) + size_of::<u8>() + SHORT <= LINE);
    assert!(offset_of!(Worker, health) + Health::READ_BYTES <= 2 * LINE);
};

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    /// A worker leaves while requests go to it: whoever takes its counts, then or later, each is taken
    /// once.
    #[test]
    fn every_decision_is_taken_once_however_a_worker_leaves() {
        fn decide(worker: &Worker) -> u64 {
            if worker.decided(Reason::Best) { 0 } else { taken(worker) }
        }

        fn taken(worker: &Worker) -> u64 {
            worker.take_counts().decisions.iter().sum()
        }

        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let worker = Worker::new(&"w".into(), 0, Slot(0), Arc::default());
            let worker = loom::sync::Arc::new(worker);
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let worker = loom::sync::Arc::clone(&worker);
                    thread::spawn(move || decide(&worker))
                })
                .collect();
            worker.leave();
            let mut total = taken(&worker);
            for caller in callers {
                total += caller.join().expect("no panic");
            }
            assert_eq!(total, 2);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_whatever_its_length() {
        for length in 0..=256 {
            let id: Arc<str> = "w".repeat(length).into();
            let worker = Worker::new(&id, 0, Slot(0), Arc::default());
            assert_eq!(worker.text(), id.as_bytes());
        }
    }

    #[test]
    fn memory_of_a_worker_its_id_and_its_places_is_counted() {
        let worker = Worker::new(&"w12345678".into(), 0, Slot(0), Arc::default());
        let places = size_of::<(Arc<str>, Arc<Worker>)>() + size_of::<Arc<Worker>>();
        // A line of 128 bytes for its counts, and two words of text after two counts.
        assert_eq!(worker.memory_bytes(), 128 + size_of::<Worker>() + 32 + places);
    }
}
