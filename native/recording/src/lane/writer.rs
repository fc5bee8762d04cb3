//! Ways to write into a lane: into one's own, or into the one that threads share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};

use super::{ExclusiveLane, FULL, Lanes, SharedLane};
use crate::cell::{Cell, plus_float, plus_signed};
use crate::histogram::{Location, Precision};

/// A way to write into a lane.
pub trait Writer {
    /// The scalar cells.
    fn cells(&self) -> &[AtomicU64];

    /// Adds to a counter cell.
    fn add(&self, cell: &AtomicU64, amount: u64);

    /// Adds to a sum, which stops at the largest value.
    fn add_saturating(&self, cell: &AtomicU64, amount: u64);

    /// Counts an event whose other numbers have been written: who sees the count sees them.
    fn finish(&self, cell: &AtomicU64);

    /// Raises a cell to a value that is larger, and with it the cell of the largest value ever,
    /// which is never below it, so that mostly one comparison does for both.
    fn raise(&self, cell: &AtomicU64, ever: &AtomicU64, value: u64);

    /// Adds to a [`Cell::Integer`].
    fn add_signed(&self, cell: &AtomicU64, amount: i64);

    /// Adds to a [`Cell::Float`].
    fn add_float(&self, cell: &AtomicU64, amount: f64);

    /// Marks the lines of samples that have been counted: who sees the mark sees the counts. Returns
    /// the marks that were there.
    fn mark(&self, marks: &AtomicU64, mark: u64) -> u64;

    /// A histogram counter and its count.
    type Counted<'c>
    where
        Self: 'c;

    /// Finds a histogram counter. Done before the scalars are written, so that a counter which is
    /// not in the cache is on its way meanwhile.
    fn find(&self, histogram: usize, location: Location) -> Self::Counted<'_>;

    /// Counts one sample.
    fn count(&self, counted: Self::Counted<'_>);
}

/// Replaces a cell that others write to as well.
fn update(cell: &AtomicU64, new: impl Fn(u64) -> u64) {
    let mut old = cell.load(Relaxed);
    while let Err(seen) = cell.compare_exchange_weak(old, new(old), Relaxed, Relaxed) {
        old = seen;
    }
}

/// A counter of an exclusive lane, or none where the lane has no counters.
pub struct OwnCounter<'c> {
    counter: Option<(&'c AtomicU32, u32)>,
    histogram: usize,
    location: Location,
}

/// Writes to a lane that nobody else writes to.
pub struct OwnWriter<'a> {
    pub(super) lanes: &'a Lanes,
    pub(super) lane: &'a ExclusiveLane,
}

impl Writer for OwnWriter<'_> {
    #[inline]
    fn cells(&self) -> &[AtomicU64] {
        self.lane.cells.as_slice()
    }

    #[inline]
    fn add(&self, cell: &AtomicU64, amount: u64) {
        cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    #[inline]
    fn add_saturating(&self, cell: &AtomicU64, amount: u64) {
        cell.store(cell.load(Relaxed).saturating_add(amount), Relaxed);
    }

    #[inline]
    fn finish(&self, cell: &AtomicU64) {
        cell.store(cell.load(Relaxed).wrapping_add(1), Ordering::Release);
    }

    #[inline]
    fn raise(&self, cell: &AtomicU64, ever: &AtomicU64, value: u64) {
        // A reader may take the cell (see `Lanes::take_max`) between the load and the store. Then
        // the value belongs to what comes after, or was not the largest before.
        if value > cell.load(Relaxed) {
            cell.store(value, Relaxed);
            if value > ever.load(Relaxed) {
                ever.store(value, Relaxed);
            }
        }
    }

    #[inline]
    fn add_signed(&self, cell: &AtomicU64, amount: i64) {
        cell.store(plus_signed(cell.load(Relaxed), amount), Relaxed);
    }

    #[inline]
    fn add_float(&self, cell: &AtomicU64, amount: f64) {
        cell.store(plus_float(cell.load(Relaxed), amount), Relaxed);
    }

    #[inline]
    fn mark(&self, marks: &AtomicU64, mark: u64) -> u64 {
        // Stored even if it is there already: a reader may take it before it has seen the count. A
        // mark that one takes between the load and the store comes back, which does no harm.
        let before = marks.load(Relaxed);
        marks.store(before | mark, Ordering::Release);
        before
    }

    type Counted<'c>
        = OwnCounter<'c>
    where
        Self: 'c;

    #[inline]
    fn find(&self, histogram: usize, location: Location) -> OwnCounter<'_> {
        let counter = self.lane.counters.as_ref().map(|counters| {
            let counter = counters.at(histogram, location);
            (counter, counter.load(Relaxed))
        });
        OwnCounter { counter, histogram, location }
    }

    #[inline]
    fn count(&self, counted: OwnCounter<'_>) {
        let OwnCounter { counter, histogram, location } = counted;
        match counter {
            Some((counter, FULL)) => self.lanes.carry(counter, histogram, location),
            Some((counter, count)) => {
                if count == 0 {
                    self.touch(histogram, location);
                }
                counter.store(count + 1, Ordering::Release);
            }
            None => self.lanes.shared().add_samples(histogram, location, 1),
        }
    }
}

impl OwnWriter<'_> {
    #[cold]
    fn touch(&self, histogram: usize, location: Location) {
        if let Some(counters) = &self.lane.counters {
            counters.touch(self.lanes.shape.precision, histogram, location);
        }
    }
}

/// Writes to the lane that threads share.
pub struct SharedWriter<'a> {
    pub(super) lane: &'a SharedLane,
    pub(super) precision: Precision,
}

impl SharedWriter<'_> {
    /// Merges a word into a cell.
    pub(crate) fn merge(&self, cell: &AtomicU64, meaning: Cell, word: u64) {
        update(cell, |old| meaning.merge(old, word));
    }

    /// Adds samples to a histogram.
    pub fn add_samples(&self, histogram: usize, location: Location, count: u64) {
        let counters = &self.lane.counters;
        if counters.at(histogram, location).fetch_add(count, Ordering::Release) == 0 {
            counters.touch(self.precision, histogram, location);
        }
    }
}

impl Writer for SharedWriter<'_> {
    fn cells(&self) -> &[AtomicU64] {
        self.lane.cells.as_slice()
    }

    fn add(&self, cell: &AtomicU64, amount: u64) {
        cell.fetch_add(amount, Relaxed);
    }

    fn add_saturating(&self, cell: &AtomicU64, amount: u64) {
        update(cell, |old| old.saturating_add(amount));
    }

    fn finish(&self, cell: &AtomicU64) {
        cell.fetch_add(1, Ordering::Release);
    }

    fn raise(&self, cell: &AtomicU64, ever: &AtomicU64, value: u64) {
        if value > cell.load(Relaxed) {
            cell.fetch_max(value, Relaxed);
            ever.fetch_max(value, Relaxed);
        }
    }

    fn add_signed(&self, cell: &AtomicU64, amount: i64) {
        update(cell, |old| plus_signed(old, amount));
    }

    fn add_float(&self, cell: &AtomicU64, amount: f64) {
        update(cell, |old| plus_float(old, amount));
    }

    fn mark(&self, marks: &AtomicU64, mark: u64) -> u64 {
        marks.fetch_or(mark, Ordering::Release)
    }

    type Counted<'c>
        = (usize, Location)
    where
        Self: 'c;

    fn find(&self, histogram: usize, location: Location) -> (usize, Location) {
        (histogram, location)
    }

    fn count(&self, (histogram, location): (usize, Location)) {
        self.add_samples(histogram, location, 1);
    }
}
