//! Points: the numbers of one series over some time, as OpenTelemetry names them.
//!
//! A cumulative point has what a series counted since its start, a delta point what it counted in
//! a slice of time. Points of the same family merge by adding. Deltas are kept encoded: nearly all
//! cells of a point are zero and most counts are small, so that a variable-length integer for each
//! that is not zero takes a tenth of the room.

use integer_encoding::VarInt;

use crate::histogram::{Counts, Location};
use crate::lane::Lanes;
use crate::layout::Layout;
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
        let histograms = layout.histogram_count();
        Self {
            cells: vec![0; layout.cell_count()],
            counts: vec![Counts::new(); histograms],
            ordered: vec![0; histograms],
        }
    }

    /// Replaces the point by all that a series has counted. Whatever is recorded meanwhile, what a
    /// sample writes before its count is there if the count is.
    pub(crate) fn read(&mut self, lanes: &Lanes, layout: &Layout) {
        self.read_event_cells(lanes, layout);
        self.read_each_histogram(|index, counts| lanes.read_counts(index, counts));
        self.read_other_cells(lanes, layout);
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

    /// Goes on after [`Self::read_event_cells`]: with the other cells. Largest and smallest samples
    /// are left to the caller.
    pub(crate) fn read_other_cells(&mut self, lanes: &Lanes, layout: &Layout) {
        let first = layout.event_cell_count();
        let rest = &mut self.cells[first..];
        rest.fill(0);
        let measured = layout.first_measured_cell();
        let (natural, rest) = rest.split_at_mut(measured - first);
        lanes.add_cells_to(first, natural);
        lanes.merge_cells_to(measured, rest, &layout.cells()[measured..]);
        for (ever, slice) in layout.raising_cells() {
            self.cells[ever] = 0;
            self.cells[slice] = 0;
        }
        self.cells[layout.marks_cell()] = 0;
    }

    /// Replaces the counts of each histogram by what `read` finds, in order of value.
    pub(crate) fn read_each_histogram(&mut self, mut read: impl FnMut(usize, &mut Counts)) {
        for (index, counts) in self.counts.iter_mut().enumerate() {
            read(index, counts);
            self.ordered[index] = counts.len();
        }
    }

    /// Makes largest and smallest samples agree with the counts: a sample that is being recorded
    /// may have reached one and not the other. Not done to the deltas that a sum is made of: the
    /// largest sample may stand in one and its count in the next.
    fn settle(&mut self, layout: &Layout) {
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
        for measure in layout.measures() {
            measure.settle(&mut self.cells, &self.counts);
        }
    }

    /// What was counted since an earlier point of the same series.
    pub fn since(&self, before: &Self, layout: &Layout) -> Self {
        let mut delta = self.clone();
        for ((value, before), cell) in delta.cells.iter_mut().zip(&before.cells).zip(layout.cells())
        {
            *value = cell.since(*value, *before);
        }
        for (counts, before) in delta.counts.iter_mut().zip(&before.counts) {
            let mut before = before.iter().peekable();
            for (location, count) in &mut *counts {
                while before.next_if(|(at, _)| at < location).is_some() {}
                if let Some((_, earlier)) = before.next_if(|(at, _)| at == location) {
                    *count = count.saturating_sub(*earlier);
                }
            }
            counts.retain(|(_, count)| *count > 0);
        }
        delta.ordered = delta.counts.iter().map(Vec::len).collect();
        // The extremes of all time, within the buckets that have samples.
        delta.settle(layout);
        delta
    }

    /// The cells.
    pub fn cells_mut(&mut self) -> &mut [u64] {
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
    pub fn encode(&self, bytes: &mut Vec<u8>) {
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

    /// Adds an encoded point of the same family. [`Self::merge_counts`] or [`Self::finish`] follows
    /// after the last one.
    pub fn add_encoded(&mut self, mut bytes: &[u8], layout: &Layout) {
        let mut next = 0;
        for _ in 0..take(&mut bytes) {
            let cell = next + take(&mut bytes) as usize;
            let value = take(&mut bytes);
            if let Some(sum) = self.cells.get_mut(cell) {
                *sum = layout.cells()[cell].merge(*sum, value);
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

    /// Checks bytes that came from elsewhere: that [`Self::add_encoded`] finds one whole point of this
    /// layout in them, such as a series may have. Gives `visit` the cells that are not zero, and
    /// returns how many samples there are in all histograms. Allocates nothing.
    pub fn check_encoded(
        bytes: &[u8],
        layout: &Layout,
        mut visit: impl FnMut(usize, u64),
    ) -> Result<u64, Malformed> {
        let mut bytes = Bytes(bytes);
        let mut next = 0_u64;
        for _ in 0..bytes.number()? {
            let cell = next.checked_add(bytes.number()?).ok_or(Malformed)?;
            let value = bytes.number()?;
            let known = usize::try_from(cell).ok().and_then(|cell| layout.cells().get(cell));
            if !known.is_some_and(|cell| cell.may_be(value)) {
                return Err(Malformed);
            }
            visit(cell as usize, value);
            next = cell + 1;
        }
        let mut samples = 0_u64;
        let precision = layout.shape().precision;
        for _ in 0..layout.histogram_count() {
            let mut last = None;
            for _ in 0..bytes.number()? {
                let number = last.unwrap_or(0_u64).checked_add(bytes.number()?).ok_or(Malformed)?;
                let location = u16::try_from(number).map_err(|_| Malformed)?;
                let count = bytes.number()?;
                let ascends = last.is_none_or(|last| last < number);
                let known = precision.has(Location::from_number(location));
                if !ascends || !known || count == 0 {
                    return Err(Malformed);
                }
                samples = samples.checked_add(count).ok_or(Malformed)?;
                last = Some(number);
            }
        }
        if bytes.0.is_empty() { Ok(samples) } else { Err(Malformed) }
    }

    /// Events that a series of the family counted.
    pub fn event_count(&self, layout: &Layout) -> u64 {
        self.sum(0..layout.event_cell_count())
    }

    /// Adds another point of the same family. [`Self::merge_counts`] or [`Self::finish`] follows
    /// after the last one.
    pub fn add(&mut self, other: &Self, layout: &Layout) {
        for ((sum, value), cell) in self.cells.iter_mut().zip(&other.cells).zip(layout.cells()) {
            *sum = cell.merge(*sum, *value);
        }
        for (index, counts) in other.counts.iter().enumerate() {
            self.counts[index].extend_from_slice(counts);
        }
    }

    /// Makes a sum of points ready to be read.
    pub fn finish(&mut self, layout: &Layout) {
        self.merge_counts();
        self.settle(layout);
    }

    /// Puts the counts in order after other points were added.
    pub fn merge_counts(&mut self) {
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

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Bytes from elsewhere, taken from the front.
pub struct Bytes<'b>(pub &'b [u8]);

impl<'b> Bytes<'b> {
    /// A number as [`put`] writes it.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let (value, length) = u64::decode_var(self.0).ok_or(Malformed)?;
        self.0 = &self.0[length..];
        Ok(value)
    }

    /// So many bytes as a number before them says.
    pub fn counted(&mut self) -> Result<&'b [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }
}

/// Appends bytes with their number before them.
pub fn put_counted(bytes: &mut Vec<u8>, counted: &[u8]) {
    put(bytes, counted.len() as u64);
    bytes.extend_from_slice(counted);
}

/// Appends a number with as many bytes as it needs.
pub fn put(bytes: &mut Vec<u8>, value: u64) {
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

#[cfg(test)]
mod tests;
