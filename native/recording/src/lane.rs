//! The numbers of a series: scalars and histogram counters, in lanes by recording thread.
//!
//! A thread whose number is below [`exclusive_lanes`] has a lane of its own in every series that it
//! touches. Such a lane has a single writer, so its cells need no read-modify-write instruction: a
//! relaxed load and a relaxed store suffice, no store buffer has to drain, and no cache line moves
//! between cores. The other threads share one lane and pay for atomic instructions. The total of a
//! cell is the sum over lanes.
//!
//! Histogram counters in exclusive lanes are half as wide as those in the shared lane, and only the
//! first [`COUNTING_LANES`] threads have them, which bounds the memory of a series on machines with
//! many cores. A counter that is full is *carried*: its count moves to the shared lane. Readers
//! notice a carry that ran while they were reading, and read again.
//!
//! All orderings are relaxed where nothing else is said: a cell carries no other data with it, and
//! a reader may miss what is in flight. It never sees a count go down. The count of events is the
//! exception: it is written last and read first, so that whoever sees an event counted sees its
//! samples.

mod cells;
mod counters;
mod lines;
mod reading;
mod writer;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed, fence};
use std::sync::{Arc, OnceLock};

use crate::cell::Cell;
use crate::histogram::{Location, Precision};
use cells::Cells;
use counters::Counters;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::thread_number::{ThreadNumber, exclusive_lanes};

pub(crate) use lines::{ChunkIndex, CounterLine, LINE, bits, chunk_index, mark_of, marked_lines};
pub(crate) use reading::{ChunkReader, ChunkSums};
pub use writer::{OwnWriter, SharedWriter, Writer};

/// How many threads have histogram counters of their own.
pub const COUNTING_LANES: usize = 4;

/// The count at which a counter of an exclusive lane is carried.
pub(crate) const FULL: u32 = if cfg!(test) { 1_000 } else { u32::MAX };

/// How many scalars and histograms a series has.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of scalar cells.
    pub cells: usize,
    /// Number of histograms.
    pub histograms: usize,
    /// Precision of the histograms.
    pub precision: Precision,
}

/// The lane of one thread.
pub struct ExclusiveLane {
    cells: Cells,
    /// Only for the first [`COUNTING_LANES`].
    counters: Option<Counters<AtomicU32>>,
}

struct SharedLane {
    cells: Cells,
    counters: Counters<AtomicU64>,
}

/// The numbers of a series.
pub struct Lanes {
    exclusive: Box<[OnceLock<Arc<ExclusiveLane>>]>,
    shared: OnceLock<SharedLane>,
    shape: Shape,
    carries_begun: AtomicU64,
    carries_ended: AtomicU64,
}

impl Lanes {
    /// All zero. A lane is allocated when its thread first writes.
    pub fn new(shape: Shape) -> Self {
        Self {
            exclusive: (0..exclusive_lanes()).map(|_| OnceLock::new()).collect(),
            shared: OnceLock::new(),
            shape,
            carries_begun: AtomicU64::new(0),
            carries_ended: AtomicU64::new(0),
        }
    }

    /// The precision of the histograms.
    pub fn precision(&self) -> Precision {
        self.shape.precision
    }

    /// The thread's own lane, if it has one. The thread may keep it: nobody else writes to it as
    /// long as the thread holds its number.
    pub fn exclusive(&self, number: &ThreadNumber) -> Option<&Arc<ExclusiveLane>> {
        let number = number.get();
        let lane = self.exclusive.get(number)?.get_or_init(|| {
            let counters = (number < COUNTING_LANES).then(|| Counters::new(self.shape));
            Arc::new(ExclusiveLane { cells: Cells::new(self.shape.cells), counters })
        });
        Some(lane)
    }

    /// A way to write into a thread's own lane.
    #[inline]
    pub fn own<'a>(&'a self, lane: &'a ExclusiveLane) -> OwnWriter<'a> {
        OwnWriter { lanes: self, lane }
    }

    /// The lane of all threads.
    pub fn shared(&self) -> SharedWriter<'_> {
        SharedWriter { lane: self.shared_lane(), precision: self.shape.precision }
    }

    fn shared_lane(&self) -> &SharedLane {
        self.shared.get_or_init(|| SharedLane {
            cells: Cells::new(self.shape.cells),
            counters: Counters::new(self.shape),
        })
    }

    /// The sum of a cell over all lanes.
    pub fn sum(&self, cell: usize) -> u64 {
        self.values(cell).fold(0, u64::saturating_add)
    }

    /// The largest value of a cell over all lanes.
    pub fn max(&self, cell: usize) -> u64 {
        self.values(cell).max().unwrap_or(0)
    }

    /// What each lane has in a cell.
    pub(crate) fn values(&self, cell: usize) -> impl Iterator<Item = u64> + '_ {
        self.cells().map(move |cells| cells.as_slice()[cell].load(Relaxed))
    }

    /// Adds the cells from `first` on, as many as `sums` has, to `sums`. What writers have written
    /// before a [`Writer::finish`] that is seen here is seen by what is read after this.
    pub fn add_cells_to(&self, first: usize, sums: &mut [u64]) {
        for cells in self.cells() {
            let cells = &cells.as_slice()[first..];
            for (sum, cell) in sums.iter_mut().zip(cells) {
                // Acquire pairs with the Release in `finish`.
                *sum = sum.saturating_add(cell.load(Ordering::Acquire));
            }
        }
    }

    /// As [`Self::add_cells_to`], for cells of any meaning.
    pub(crate) fn merge_cells_to(&self, first: usize, merged: &mut [u64], meanings: &[Cell]) {
        for cells in self.cells() {
            let words = &cells.as_slice()[first..];
            for ((merged, meaning), cell) in merged.iter_mut().zip(meanings).zip(words) {
                *merged = meaning.merge(*merged, cell.load(Ordering::Acquire));
            }
        }
    }

    /// The largest value of a cell over all lanes, which starts anew from zero. A value that a
    /// writer is raising it to meanwhile is in this result or in the next.
    pub fn take_max(&self, cell: usize) -> u64 {
        self.cells().map(|cells| cells.as_slice()[cell].swap(0, Relaxed)).max().unwrap_or(0)
    }

    fn cells(&self) -> impl Iterator<Item = &Cells> {
        let exclusive = self.exclusive.iter().filter_map(OnceLock::get).map(|lane| &lane.cells);
        exclusive.chain(self.shared.get().map(|lane| &lane.cells))
    }

    /// Moves the count of a full counter to the shared lane, with the sample that found it full.
    /// Called by the counter's only writer.
    #[cold]
    fn carry(&self, counter: &AtomicU32, histogram: usize, location: Location) {
        self.carries_begun.fetch_add(1, Relaxed);
        // Keeps the stores below after the one above; see `counts`.
        fence(Ordering::Release);
        let carried = u64::from(counter.load(Relaxed)) + 1;
        self.shared().add_samples(histogram, location, carried);
        counter.store(0, Relaxed);
        // Release: who sees the carry ended sees both counters as it left them.
        self.carries_ended.fetch_add(1, Ordering::Release);
    }

    /// Bytes allocated by the lanes in use.
    pub fn memory_bytes(&self) -> usize {
        let own = self.exclusive.iter().filter_map(OnceLock::get).map(|lane| {
            let counters = lane.counters.as_ref().map_or(0, Counters::memory_bytes);
            heap::sum([lane.heap_bytes(), lane.cells.0.heap_bytes(), counters])
        });
        let shared = self.shared.get();
        let shared =
            shared.map(|lane| heap::sum([lane.cells.0.heap_bytes(), lane.counters.memory_bytes()]));
        heap::sum(own.chain(shared).chain([self.exclusive.heap_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use super::lines::touched_words;
    use super::*;

    const SHAPE: Shape = Shape { cells: 40, histograms: 2, precision: Precision::Two };

    fn sample(writer: &impl Writer, value: u64) {
        writer.add(&writer.cells()[17], 3);
        writer.raise(&writer.cells()[38], &writer.cells()[39], value);
        writer.count(writer.find(1, SHAPE.precision.locate(value)));
    }

    fn record(lanes: &Lanes, number: &ThreadNumber, value: u64) {
        match lanes.exclusive(number) {
            Some(own) => sample(&lanes.own(own), value),
            None => sample(&lanes.shared(), value),
        }
    }

    fn total(lanes: &Lanes) -> u64 {
        lanes.counts(1).iter().map(|(_, count)| count).sum()
    }

    #[test]
    fn no_count_is_lost_with_more_threads_than_lanes() {
        let lanes = Lanes::new(SHAPE);
        let threads = 4 * exclusive_lanes() as u64 + 3;
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let lanes = &lanes;
                scope.spawn(move || {
                    let number = ThreadNumber::take();
                    for step in 0..10_000 {
                        record(lanes, &number, thread * 10_000 + step);
                    }
                });
            }
        });
        assert_eq!(lanes.sum(17), threads * 30_000);
        assert_eq!(lanes.max(39), threads * 10_000 - 1);
        assert_eq!(lanes.take_max(38), threads * 10_000 - 1);
        assert_eq!((lanes.take_max(38), lanes.max(39)), (0, threads * 10_000 - 1));
        assert_eq!(total(&lanes), threads * 10_000);
        assert_eq!(lanes.sum(0), 0);
        assert!(lanes.counts(0).is_empty());
    }

    #[test]
    fn a_reader_never_sees_a_carried_count_twice_or_not_at_all() {
        let lanes = Lanes::new(SHAPE);
        let samples = 200 * u64::from(FULL) + 7;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let number = ThreadNumber::take();
                for _ in 0..samples {
                    record(&lanes, &number, 5);
                }
            });
            let mut last = 0;
            while !writer.is_finished() {
                let now = total(&lanes);
                assert!(now >= last, "{now} after {last}");
                assert!(now <= samples);
                last = now;
            }
        });
        assert_eq!(total(&lanes), samples);
    }

    #[test]
    fn sums_saturate() {
        let lanes = Lanes::new(SHAPE);
        let shared = lanes.shared();
        for _ in 0..2 {
            shared.add_saturating(&shared.cells()[0], u64::MAX - 1);
        }
        assert_eq!(lanes.sum(0), u64::MAX);
    }

    #[test]
    fn counters_are_allocated_on_first_touch() {
        let lanes = Lanes::new(SHAPE);
        let number = ThreadNumber::take();
        let before = lanes.memory_bytes();
        assert_eq!(before, exclusive_lanes() * size_of::<OnceLock<Arc<ExclusiveLane>>>());
        // Three lines of cells; of two histograms the chunks, and which of them and of their lines there are.
        let chunks = 2 * SHAPE.precision.chunk_count();
        let counters = 2 * 8 + 2 * touched_words(SHAPE.precision) * 8 + chunks * size_of::<usize>();
        record(&lanes, &number, 1_000_000);
        let first = lanes.memory_bytes();
        let own = number.get() < COUNTING_LANES.min(exclusive_lanes());
        if own {
            let lane = 16 + size_of::<ExclusiveLane>();
            assert_eq!(first - before, lane + 3 * 128 + counters + 128 * 4);
        } else {
            assert!(first > before);
        }
        record(&lanes, &number, 1_000_001);
        assert_eq!(lanes.memory_bytes(), first);
        record(&lanes, &number, 3_000_000);
        assert!(lanes.memory_bytes() >= first + 128 * size_of::<AtomicU32>());
        let before = lanes.memory_bytes();
        lanes.shared().add_samples(0, SHAPE.precision.locate(5), 1);
        if own {
            assert_eq!(lanes.memory_bytes() - before, 3 * 128 + counters + 128 * 8);
        }
    }
}
