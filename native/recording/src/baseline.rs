//! What a series had counted when a slice of time ended.

use crate::histogram::{Location, Precision};
use crate::lane::{ChunkIndex, CounterLine, LINE, bits, chunk_index, marked_lines};
use crate::layout::Layout;
use crate::point::Point;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::prefetch;

/// The numbers of a series when a slice of time ended, from which the next slice counts.
///
/// Of the histogram counters it keeps the lower 32 bits, one beside the other for every chunk that
/// has been touched. The difference of two counts follows from those bits, since no counter grows by
/// 2^32 during a slice: at ten million samples a second that would take seven minutes.
#[derive(Default)]
pub(crate) struct Baseline {
    cells: Box<[u64]>,
    /// Which chunks there are, in order.
    chunks: Vec<ChunkIndex>,
    /// Their counters.
    lines: Vec<CounterLine>,
}

impl Baseline {
    /// Asks for its cells, and for the list of its chunks.
    pub fn prefetch_cells(&self) {
        prefetch::all(&*self.cells);
        prefetch::all(&*self.chunks);
    }

    /// Asks for the marked lines of a histogram, when the list of chunks has come.
    pub fn prefetch_lines(&self, precision: Precision, histogram: usize, marks: u64) {
        let first = chunk_index(precision, histogram, 0);
        for (chunk, counters) in self.chunks(precision, histogram) {
            let lines = marked_lines(marks, precision, histogram, usize::from(chunk - first));
            bits(lines).for_each(|at| prefetch::line(&counters[at]));
        }
    }

    /// Whether events were counted since; `events` are the cells that count them.
    pub fn differs_from(&self, events: &[u64]) -> bool {
        match self.cells.get(..events.len()) {
            Some(before) => before != events,
            None => events.iter().any(|&count| count > 0),
        }
    }

    /// Turns cells of a series into what came in since.
    pub fn subtract_from(&self, cells: &mut [u64], layout: &Layout) {
        for ((word, before), cell) in cells.iter_mut().zip(&self.cells).zip(layout.cells()) {
            *word = cell.since(*word, *before);
        }
    }

    /// The counters of a histogram, by chunk, in order.
    pub fn chunks(
        &self,
        precision: Precision,
        histogram: usize,
    ) -> impl Iterator<Item = (ChunkIndex, &[CounterLine])> + Clone {
        let first = |histogram| {
            let first = chunk_index(precision, histogram, 0);
            self.chunks.partition_point(|chunk| *chunk < first)
        };
        let length = precision.chunk_length() / LINE;
        let here = first(histogram)..first(histogram + 1);
        let lines = &self.lines[here.start * length..here.end * length];
        self.chunks[here].iter().copied().zip(lines.chunks_exact(length))
    }

    /// Adds what came in since, so that it becomes what has been counted by now. Largest and smallest
    /// samples are not part of it, and not yet in `delta`.
    pub fn advance(&mut self, delta: &Point, layout: &Layout) {
        if self.cells.is_empty() {
            self.cells = vec![0; layout.cell_count()].into();
        }
        for (at, (before, cell)) in self.cells.iter_mut().zip(layout.cells()).enumerate() {
            *before = cell.merge(*before, delta.cell(at));
        }
        let precision = layout.shape().precision;
        for histogram in 0..layout.histogram_count() {
            self.advance_counts(precision, histogram, delta.counts(histogram));
        }
    }

    fn advance_counts(
        &mut self,
        precision: Precision,
        histogram: usize,
        counts: &[(Location, u64)],
    ) {
        let mut last = None;
        for (location, count) in counts {
            let chunk = chunk_index(precision, histogram, usize::from(location.chunk));
            let counters = match last {
                Some((known, at)) if known == chunk => at,
                _ => self.find_or_insert(chunk, precision),
            };
            last = Some((chunk, counters));
            let offset = usize::from(location.offset);
            let counter = &mut self.lines[counters + offset / LINE].0[offset % LINE];
            *counter = counter.wrapping_add(*count as u32);
        }
    }

    /// Where the lines of a chunk begin.
    fn find_or_insert(&mut self, chunk: ChunkIndex, precision: Precision) -> usize {
        let length = precision.chunk_length() / LINE;
        match self.chunks.binary_search(&chunk) {
            Ok(at) => at * length,
            Err(at) => {
                let begin = at * length;
                // By one chunk at a time: there are few, and the room that doubling leaves is large.
                self.chunks.reserve_exact(1);
                self.lines.reserve_exact(length);
                self.chunks.insert(at, chunk);
                self.lines
                    .splice(begin..begin, std::iter::repeat_n(CounterLine::default(), length));
                begin
            }
        }
    }

    /// Adds the baseline of a series whose counts this one's series has taken over.
    pub fn absorb(&mut self, other: &Self, layout: &Layout) {
        if self.cells.is_empty() {
            self.cells = vec![0; layout.cell_count()].into();
        }
        for ((word, more), cell) in self.cells.iter_mut().zip(&other.cells).zip(layout.cells()) {
            *word = cell.merge(*word, *more);
        }
        let precision = layout.shape().precision;
        let length = precision.chunk_length() / LINE;
        for (chunk, more) in other.chunks.iter().zip(other.lines.chunks_exact(length)) {
            let begin = self.find_or_insert(*chunk, precision);
            let lines = self.lines[begin..begin + length].iter_mut().zip(more);
            for (counter, more) in lines.flat_map(|(line, more)| line.0.iter_mut().zip(more.0)) {
                *counter = counter.wrapping_add(more);
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        heap::sum([self.cells.heap_bytes(), self.chunks.heap_bytes(), self.lines.heap_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_kept_in_order_and_their_counts_wrap() {
        let precision = Precision::Two;
        let at = |value| precision.locate(value);
        let mut baseline = Baseline::default();
        let most = u64::from(u32::MAX);
        baseline.advance_counts(precision, 1, &[(at(5), most), (at(1_000), 1)]);
        baseline.advance_counts(precision, 1, &[(at(5), 3), (at(300), 4), (at(301), 7)]);
        baseline.advance_counts(precision, 0, &[(at(1_000), 9)]);
        let counts = |histogram| {
            let chunks = baseline.chunks(precision, histogram);
            let counts = chunks.flat_map(|(chunk, counters)| {
                let chunk = chunk - chunk_index(precision, histogram, 0);
                let counters = counters.iter().flat_map(|line| line.0).enumerate();
                let counters = counters.filter(|(_, count)| *count > 0);
                counters
                    .map(move |(offset, count)| (Location { chunk, offset: offset as u16 }, count))
            });
            counts.collect::<Vec<_>>()
        };
        assert_eq!(counts(0), [(at(1_000), 9)]);
        assert_eq!(counts(1), [(at(5), 2), (at(300), 11), (at(1_000), 1)]);
        assert_eq!(counts(2), []);
    }

    #[test]
    fn memory_of_cells_chunks_and_lines_is_counted() {
        let precision = Precision::Two;
        let mut baseline = Baseline::default();
        assert_eq!(baseline.memory_bytes(), 0);
        baseline.cells = [1, 2, 3].into();
        baseline.advance_counts(precision, 0, &[(precision.locate(5), 1)]);
        let chunks = baseline.chunks.capacity() * size_of::<ChunkIndex>();
        let lines = baseline.lines.capacity() * size_of::<CounterLine>();
        assert!(chunks > 1 && lines >= precision.chunk_length() * size_of::<u32>());
        assert_eq!(baseline.memory_bytes(), 3 * size_of::<u64>() + chunks + lines);
    }
}
