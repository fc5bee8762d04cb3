//! Points: the numbers of one series over some time, as OpenTelemetry names them.
//!
//! A cumulative point has what a series counted since its start, a delta point what it counted in
//! a slice of time. Points of the same family merge by adding. Deltas are kept encoded: nearly all
//! cells of a point are zero and most counts are small, so that a variable-length integer for each
//! that is not zero takes a tenth of the room.

use std::mem::size_of;

use integer_encoding::VarInt;

use crate::family::Layout;
use crate::histogram::{Counts, Location};
use crate::lane::Lanes;
use crate::metric::HistogramMetric;

/// The numbers of one series over some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// By the family's layout. Largest and smallest samples stand in the cells of all time.
    cells: Vec<u64>,
    counts: Vec<Counts>,
    /// For each histogram how many of its counts are in order and without doublets.
    ordered: Vec<usize>,
}

impl Point {
    /// No events.
    pub fn new(layout: &Layout) -> Self {
        let histograms = layout.histograms().len();
        Self {
            cells: vec![0; layout.cell_count()],
            counts: vec![Counts::new(); histograms],
            ordered: vec![0; histograms],
        }
    }

    /// Replaces the point by all that a series has counted.
    pub(crate) fn read(&mut self, lanes: &Lanes, layout: &Layout) {
        self.read_event_cells(lanes, layout);
        self.read_rest(lanes, layout);
        for (ever, _) in layout.raising_cells() {
            self.cells[ever] = lanes.max(ever);
        }
        self.settle(layout);
    }

    /// Starts to replace the point by what a series has counted: with the cells that count events,
    /// which have to be read first.
    pub(crate) fn read_event_cells(&mut self, lanes: &Lanes, layout: &Layout) -> &[u64] {
        let events = &mut self.cells[..layout.event_cell_count()];
        events.fill(0);
        lanes.add_cells_to(0, events);
        events
    }

    /// Goes on after [`Self::read_event_cells`]. Largest and smallest samples are left to the
    /// caller.
    pub(crate) fn read_rest(&mut self, lanes: &Lanes, layout: &Layout) {
        let first = layout.event_cell_count();
        let rest = &mut self.cells[first..];
        rest.fill(0);
        lanes.add_cells_to(first, rest);
        for (ever, slice) in layout.raising_cells() {
            self.cells[ever] = 0;
            self.cells[slice] = 0;
        }
        for (index, counts) in self.counts.iter_mut().enumerate() {
            lanes.read_counts(index, counts);
            self.ordered[index] = counts.len();
        }
    }

    /// Makes largest and smallest samples agree with the counts: a sample that is being recorded
    /// may have reached one and not the other.
    pub(crate) fn settle(&mut self, layout: &Layout) {
        for (metric, counts) in layout.histograms().iter().zip(&self.counts) {
            let (max, min) = match (counts.first(), counts.last()) {
                (Some((first, _)), Some((last, _))) => {
                    let within = |value: u64, at| {
                        let precision = metric.precision;
                        value.clamp(precision.lowest_value(at), precision.highest_value(at))
                    };
                    let max = within(self.cells[metric.max_cell()], *last);
                    let min = within(!self.cells[metric.min_complement_cell()], *first);
                    (max, !min)
                }
                _ => (0, 0),
            };
            self.cells[metric.max_cell()] = max;
            self.cells[metric.min_complement_cell()] = min;
        }
    }

    pub(crate) fn cells_mut(&mut self) -> &mut [u64] {
        &mut self.cells
    }

    /// The value of a cell.
    #[inline]
    pub fn cell(&self, cell: usize) -> u64 {
        self.cells[cell]
    }

    /// The sum over some cells.
    pub fn sum(&self, cells: impl IntoIterator<Item = usize>) -> u64 {
        cells.into_iter().map(|cell| self.cells[cell]).fold(0, u64::saturating_add)
    }

    /// The counters of the family's n-th histogram that are not zero, in order of value.
    pub fn counts(&self, histogram: usize) -> &[(Location, u64)] {
        debug_assert_eq!(self.ordered[histogram], self.counts[histogram].len());
        &self.counts[histogram]
    }

    /// The number of samples of the family's n-th histogram.
    pub fn sample_count(&self, histogram: usize) -> u64 {
        total(&self.counts[histogram])
    }

    /// The largest sample of a histogram, if there is any.
    pub fn max(&self, metric: &HistogramMetric) -> Option<u64> {
        self.min(metric).map(|_| self.cells[metric.max_cell()])
    }

    /// The smallest sample of a histogram, if there is any.
    pub fn min(&self, metric: &HistogramMetric) -> Option<u64> {
        // Samples are below 2^63, so the complement of one is never zero.
        match self.cells[metric.min_complement_cell()] {
            0 => None,
            complement => Some(!complement),
        }
    }

    /// Appends the point to `bytes`.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        let cells = self.cells.iter().enumerate().filter(|(_, value)| **value > 0);
        put(bytes, cells.clone().count() as u64);
        let mut next = 0;
        for (cell, &value) in cells {
            put(bytes, (cell - next) as u64);
            put(bytes, value);
            next = cell + 1;
        }
        for counts in &self.counts {
            put(bytes, counts.len() as u64);
            let mut last = 0;
            for &(location, count) in counts {
                put(bytes, u64::from(location.number() - last));
                put(bytes, count);
                last = location.number();
            }
        }
    }

    /// Adds an encoded point of the same family. [`Self::finish`] follows after the last one.
    pub(crate) fn add_encoded(&mut self, mut bytes: &[u8], layout: &Layout) {
        let mut next = 0;
        for _ in 0..take(&mut bytes) {
            let cell = next + take(&mut bytes) as usize;
            let value = take(&mut bytes);
            if let Some(sum) = self.cells.get_mut(cell) {
                *sum = if layout.is_raising(cell) {
                    (*sum).max(value)
                } else {
                    sum.saturating_add(value)
                };
            }
            next = cell + 1;
        }
        for index in 0..self.counts.len() {
            let mut last = 0;
            for _ in 0..take(&mut bytes) {
                last += take(&mut bytes) as u16;
                self.counts[index].push((Location::from_number(last), take(&mut bytes)));
            }
            // Now and then, so that many slices take no more room than their sum.
            if self.counts[index].len() > 2 * self.ordered[index] + 1_024 {
                self.order(index);
            }
        }
    }

    /// Adds another point of the same family. [`Self::finish`] follows after the last one.
    pub(crate) fn add(&mut self, other: &Self, layout: &Layout) {
        for (cell, &value) in other.cells.iter().enumerate() {
            let sum = &mut self.cells[cell];
            *sum =
                if layout.is_raising(cell) { (*sum).max(value) } else { sum.saturating_add(value) };
        }
        for (index, counts) in other.counts.iter().enumerate() {
            self.counts[index].extend_from_slice(counts);
        }
    }

    /// Puts the counts in order after other points were added.
    pub(crate) fn finish(&mut self) {
        for index in 0..self.counts.len() {
            self.order(index);
        }
    }

    fn order(&mut self, index: usize) {
        let counts = &mut self.counts[index];
        if self.ordered[index] < counts.len() {
            // Stable sorting is fast for what consists of a few runs in order.
            counts.sort_by_key(|(location, _)| *location);
            counts.dedup_by(|(next, count), (kept, sum)| {
                let same = next == kept;
                if same {
                    *sum = sum.saturating_add(*count);
                }
                same
            });
            self.ordered[index] = counts.len();
        }
    }
}

/// The sum of counts.
pub fn total(counts: &[(Location, u64)]) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

fn put(bytes: &mut Vec<u8>, value: u64) {
    // Most values are below 128.
    if value < 0x80 {
        bytes.push(value as u8);
    } else {
        let mut buffer = [0; 10];
        let length = value.encode_var(&mut buffer);
        bytes.extend_from_slice(&buffer[..length]);
    }
}

/// Takes a value from the front; zero at the end, which encoded points never reach.
fn take(bytes: &mut &[u8]) -> u64 {
    match **bytes {
        [value @ 0..0x80, ref rest @ ..] => {
            *bytes = rest;
            u64::from(value)
        }
        _ => {
            let (value, length) = u64::decode_var(bytes).unwrap_or((0, bytes.len()));
            *bytes = &bytes[length..];
            value
        }
    }
}

/// What a series had counted when a slice of time ended.
#[derive(Default)]
pub(crate) struct Baseline {
    cells: Box<[u64]>,
    /// For each histogram its counters that were not zero, in order of value.
    counts: Box<[Vec<Counted>]>,
}

/// A counter's place and the lower 48 bits of its count in one word. The difference of two counts
/// follows from those bits, since no counter grows by 2^48 during a slice: at ten million samples a
/// second that would take a year.
#[derive(Clone, Copy)]
struct Counted(u64);

impl Counted {
    const COUNT_BITS: u32 = 48;
    const MASK: u64 = (1 << Self::COUNT_BITS) - 1;

    fn new((location, count): (Location, u64)) -> Self {
        Self(u64::from(location.number()) << Self::COUNT_BITS | count & Self::MASK)
    }

    fn is_at(self, location: Location) -> bool {
        self.0 >> Self::COUNT_BITS == u64::from(location.number())
    }

    /// How much has come in since.
    fn until(self, count: u64) -> u64 {
        count.wrapping_sub(self.0) & Self::MASK
    }
}

impl Baseline {
    /// Whether events were counted since; `events` are the cells that count them.
    pub(crate) fn differs_from(&self, events: &[u64]) -> bool {
        match self.cells.get(..events.len()) {
            Some(before) => before != events,
            None => events.iter().any(|&count| count > 0),
        }
    }

    /// Turns a cumulative point into what came in since the baseline. With `advance` the baseline
    /// becomes that point.
    pub(crate) fn subtract_from(&mut self, point: &mut Point, layout: &Layout, advance: bool) {
        if self.cells.is_empty() {
            self.cells = vec![0; layout.cell_count()].into();
            self.counts = vec![Vec::new(); layout.histograms().len()].into();
        }
        for (before, cell) in self.cells.iter_mut().zip(&mut point.cells) {
            let now = *cell;
            *cell = now.saturating_sub(*before);
            if advance {
                *before = now;
            }
        }
        for (index, counts) in point.counts.iter_mut().enumerate() {
            subtract(counts, &mut self.counts[index], advance);
            point.ordered[index] = counts.len();
        }
    }

    /// Adds the baseline of a series whose counts this one's series has taken over.
    pub(crate) fn absorb(&mut self, other: &Self, layout: &Layout) {
        if other.cells.is_empty() {
            return;
        }
        let mut sum = self.as_point(layout);
        sum.add(&other.as_point(layout), layout);
        sum.finish();
        self.cells = sum.cells.into();
        let packed = |counts: &Counts| counts.iter().copied().map(Counted::new).collect();
        self.counts = sum.counts.iter().map(packed).collect();
    }

    fn as_point(&self, layout: &Layout) -> Point {
        let mut point = Point::new(layout);
        point.cells[..self.cells.len()].copy_from_slice(&self.cells);
        for (index, counted) in self.counts.iter().enumerate() {
            let count = |counted: &Counted| {
                let number = (counted.0 >> Counted::COUNT_BITS) as u16;
                (Location::from_number(number), counted.0 & Counted::MASK)
            };
            point.counts[index] = counted.iter().map(count).collect();
            point.ordered[index] = counted.len();
        }
        point
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let counted = self.counts.iter().map(|counted| counted.capacity() * size_of::<Counted>());
        size_of_val(&*self.cells) + size_of_val(&*self.counts) + counted.sum::<usize>()
    }
}

/// Subtracts the counts before. No counter goes back to zero, so whatever was counted before is
/// among `counts` too.
fn subtract(counts: &mut Counts, before: &mut Vec<Counted>, advance: bool) {
    if counts.len() == before.len() {
        for ((_, count), before) in counts.iter_mut().zip(before) {
            let now = *count;
            *count = before.until(now);
            if advance {
                before.0 = before.0 & !Counted::MASK | now & Counted::MASK;
            }
        }
    } else {
        let now = advance.then(|| counts.iter().copied().map(Counted::new).collect());
        let mut rest = before.iter().copied().peekable();
        for (location, count) in counts.iter_mut() {
            if let Some(before) = rest.next_if(|before| before.is_at(*location)) {
                *count = before.until(*count);
            }
        }
        if let Some(now) = now {
            *before = now;
        }
    }
    counts.retain(|(_, count)| *count > 0);
}
