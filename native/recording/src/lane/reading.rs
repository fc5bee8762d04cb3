//! Histogram counters as readers see them: summed over all lanes, while recording goes on.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed, fence};

use super::counters::Counter;
use super::lines::{
    ChunkIndex, CounterLine, LINE, bits, chunk_index, line, lines_of_chunk, marked_lines,
    touched_place,
};
use super::{COUNTING_LANES, Lanes};
use crate::histogram::{Counts, Location};
use telemetry_common::prefetch;

impl Lanes {
    /// The counters of a histogram that are not zero, in order of value.
    pub fn counts(&self, histogram: usize) -> Counts {
        let mut counts = Counts::new();
        self.read_counts(histogram, &mut counts);
        counts
    }

    /// Replaces `counts` by the counters of a histogram that are not zero, in order of value.
    pub fn read_counts(&self, histogram: usize, counts: &mut Counts) {
        self.read_between_carries(|| {
            counts.clear();
            self.read_counts_once(histogram, counts);
        });
    }

    /// The lines that histograms were written to in since [`Self::take_marks`]. What has been counted
    /// in them before is seen by what is read after this.
    pub fn marks(&self, cell: usize) -> u64 {
        // Acquire pairs with the Release in `mark`, here and below.
        let marks = self.cells().map(|cells| cells.as_slice()[cell].load(Ordering::Acquire));
        marks.fold(0, |all, marks| all | marks)
    }

    /// As [`Self::marks`], which start anew from none. The mark of a count that is not seen after
    /// this comes later, since it is set after counting.
    pub fn take_marks(&self, cell: usize) -> u64 {
        let marks = self.cells().map(|cells| cells.as_slice()[cell].swap(0, Ordering::Acquire));
        marks.fold(0, |all, marks| all | marks)
    }

    /// Replaces `changes` by what came in since the counters of a histogram were as they are in
    /// `before`, in order of value: in the marked lines, for there is nothing in others. Chunks that
    /// are not in `before` were zero.
    pub fn read_changes<'b>(
        &self,
        histogram: usize,
        marks: u64,
        before: impl Iterator<Item = (ChunkIndex, &'b [CounterLine])> + Clone,
        changes: &mut Counts,
    ) {
        self.read_between_carries(|| {
            changes.clear();
            self.read_changes_once(histogram, marks, before.clone(), changes);
        });
    }

    /// Reads until no carry has run meanwhile.
    fn read_between_carries(&self, mut read: impl FnMut()) {
        loop {
            let ended = self.carries_ended.load(Ordering::Acquire);
            read();
            // Keeps the loads above before the one below. Together with the fence in `carry`: if a
            // load has seen what a carry wrote, the load below sees that the carry had begun.
            fence(Ordering::Acquire);
            if self.carries_begun.load(Relaxed) == ended {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// Shows a reader the chunks of a histogram that have been allocated, in order of value.
    pub(crate) fn read_chunks(&self, histogram: usize, reader: &mut impl ChunkReader) {
        self.read_between_carries(|| {
            reader.restart();
            for (chunk, lines) in self.touched_chunks(histogram) {
                let index = usize::from(self.chunk_index(histogram, chunk));
                reader.chunk(chunk as u16, ChunkSums { lanes: self, index, lines });
            }
        });
    }

    fn read_counts_once(&self, histogram: usize, counts: &mut Counts) {
        for (chunk, lines) in self.touched_chunks(histogram) {
            let index = usize::from(self.chunk_index(histogram, chunk));
            for at in bits(lines) {
                let mut sums = [0; LINE];
                self.own_chunks(index).for_each(|own| add(&mut sums, line(own, at)));
                self.shared_chunk(index).into_iter().for_each(|all| add(&mut sums, line(all, at)));
                collect(chunk, at, &sums, counts);
            }
        }
    }

    /// Asks for the list of lanes.
    pub fn prefetch_lanes(&self) {
        prefetch::all(&*self.exclusive);
    }

    /// Asks for the lanes, whose list has come.
    pub fn prefetch_own(&self) {
        self.exclusive.iter().filter_map(OnceLock::get).for_each(|lane| prefetch::all(&**lane));
    }

    /// Asks for the cells of the lanes, which have come, and for what they have allocated.
    pub fn prefetch_cells(&self) {
        self.cells().for_each(|cells| prefetch::all(&*cells.0));
        self.counters().for_each(prefetch::all);
    }

    /// Asks for the places where chunks are told, when the cells have come.
    pub fn prefetch_rows(&self, histogram: usize, marks: u64) {
        self.prefetch_rows_of(histogram, self.marked_chunks(histogram, marks));
    }

    /// Asks for the marked lines, when their places have come.
    pub fn prefetch_lines(&self, histogram: usize, marks: u64) {
        self.prefetch_lines_of(histogram, self.marked_chunks(histogram, marks));
    }

    /// As [`Self::prefetch_rows`], for all chunks in which anything was counted.
    pub fn prefetch_touched_rows(&self, histogram: usize) {
        self.prefetch_rows_of(histogram, self.touched_chunks(histogram));
    }

    /// As [`Self::prefetch_lines`], for all lines in which anything was counted.
    pub fn prefetch_touched_lines(&self, histogram: usize) {
        self.prefetch_lines_of(histogram, self.touched_chunks(histogram));
    }

    fn prefetch_rows_of(&self, histogram: usize, chunks: impl Iterator<Item = (usize, u64)>) {
        for (chunk, _) in chunks {
            let index = usize::from(self.chunk_index(histogram, chunk));
            let own = self.exclusive.iter().filter_map(OnceLock::get);
            own.filter_map(|lane| lane.counters.as_ref()).for_each(|own| own.prefetch_row(index));
            self.shared.get().into_iter().for_each(|lane| lane.counters.prefetch_row(index));
        }
    }

    fn prefetch_lines_of(&self, histogram: usize, chunks: impl Iterator<Item = (usize, u64)>) {
        for (chunk, lines) in chunks {
            let index = usize::from(self.chunk_index(histogram, chunk));
            for counters in self.own_chunks(index) {
                bits(lines).for_each(|at| prefetch::all(line(counters, at)));
            }
            if let Some(counters) = self.shared_chunk(index) {
                bits(lines).for_each(|at| prefetch::all(line(counters, at)));
            }
        }
    }

    /// For each lane the chunks that are allocated, by histogram.
    #[inline]
    fn counters(&self) -> impl Iterator<Item = &[AtomicU64]> {
        let own = self.exclusive.iter().filter_map(OnceLock::get);
        let own = own.filter_map(|lane| lane.counters.as_ref()).map(|own| &*own.allocated);
        own.chain(self.shared.get().map(|lane| &*lane.counters.allocated))
    }

    /// The chunks of a histogram that any lane has allocated, as bits.
    #[inline]
    fn allocated(&self, histogram: usize) -> u64 {
        self.counters().fold(0, |all, one| all | one[histogram].load(Relaxed))
    }

    /// The chunks of a histogram in which anything was ever counted, and their lines of which the same
    /// holds, as bits. Of samples whose event is seen counted they are seen: that comes first.
    #[inline]
    fn touched_chunks(&self, histogram: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let precision = self.shape.precision;
        let all = u64::MAX >> (64 - lines_of_chunk(precision));
        let lines = move |chunk| {
            let (word, first) = touched_place(precision, histogram, chunk);
            let own = self.exclusive.iter().filter_map(OnceLock::get);
            let own = own.filter_map(|lane| lane.counters.as_ref()).map(|own| &own.touched);
            let touched = own.chain(self.shared.get().map(|lane| &lane.counters.touched));
            touched.fold(0, |all, touched| all | touched[word].load(Relaxed)) >> first & all
        };
        bits(self.allocated(histogram)).map(move |chunk| (chunk, lines(chunk)))
    }

    /// The chunks of a histogram in which lines are marked, with those lines as bits.
    #[inline]
    fn marked_chunks(
        &self,
        histogram: usize,
        marks: u64,
    ) -> impl Iterator<Item = (usize, u64)> + '_ {
        let precision = self.shape.precision;
        bits(self.allocated(histogram))
            .map(move |chunk| (chunk, marked_lines(marks, precision, histogram, chunk)))
            .filter(|(_, lines)| *lines != 0)
    }

    #[inline]
    fn own_chunks(&self, chunk: usize) -> impl Iterator<Item = &[AtomicU32]> {
        let own = self.exclusive.iter().filter_map(OnceLock::get);
        own.filter_map(move |lane| lane.counters.as_ref()?.chunk(chunk))
    }

    #[inline]
    fn shared_chunk(&self, chunk: usize) -> Option<&[AtomicU64]> {
        self.shared.get().and_then(|lane| lane.counters.chunk(chunk))
    }

    #[inline]
    fn chunk_index(&self, histogram: usize, chunk: usize) -> ChunkIndex {
        chunk_index(self.shape.precision, histogram, chunk)
    }

    fn read_changes_once<'b>(
        &self,
        histogram: usize,
        marks: u64,
        before: impl Iterator<Item = (ChunkIndex, &'b [CounterLine])>,
        changes: &mut Counts,
    ) {
        let mut before = before.peekable();
        for (chunk, lines) in self.marked_chunks(histogram, marks) {
            let index = self.chunk_index(histogram, chunk);
            while before.next_if(|(before, _)| *before < index).is_some() {}
            let before = before.next_if(|(before, _)| *before == index).map(|(_, before)| before);
            let shared = self.shared_chunk(usize::from(index));
            let mut own = [&[][..]; COUNTING_LANES];
            let mut lanes = 0;
            for counters in self.own_chunks(usize::from(index)) {
                own[lanes] = counters;
                lanes += 1;
            }
            for at in bits(lines) {
                // One counter at a time over all lanes: sums in an array would be written in words
                // and read in wider ones, which stalls the processor.
                let own = own.map(|counters| counters.get(at * LINE..(at + 1) * LINE));
                let shared = shared.map(|counters| line(counters, at));
                let before = before.map(|lines| &lines[at].0);
                for offset in 0..LINE {
                    let shared = shared.map_or(0, |counters| counters[offset].get() as u32);
                    let own = own[..lanes].iter().flatten();
                    let sum = own.fold(shared, |sum, counters| {
                        sum.wrapping_add(counters[offset].load(Relaxed))
                    });
                    let change = sum.wrapping_sub(before.map_or(0, |before| before[offset]));
                    if change != 0 {
                        let offset = (at * LINE + offset) as u16;
                        changes.push((Location { chunk: chunk as u16, offset }, change.into()));
                    }
                }
            }
        }
    }
}

/// Adds counters to sums.
#[inline]
fn add<C: Counter>(sums: &mut [u64], counters: &[C]) {
    sums.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.get());
}

/// Appends the sums of a line that are not zero.
#[inline]
fn collect(chunk: usize, line: usize, sums: &[u64; LINE], counts: &mut Counts) {
    for (at, &sum) in sums.iter().enumerate().filter(|(_, sum)| **sum != 0) {
        let (chunk, offset) = (chunk as u16, (line * LINE + at) as u16);
        counts.push((Location { chunk, offset }, sum));
    }
}

/// Reads the counters of a histogram, chunk by chunk.
pub(crate) trait ChunkReader {
    /// Forgets what was read: a count has moved from one lane to another meanwhile.
    fn restart(&mut self);

    /// Reads a chunk.
    fn chunk(&mut self, chunk: u16, counters: ChunkSums<'_>);
}

/// The counters of a chunk over all lanes.
#[derive(Clone, Copy)]
pub(crate) struct ChunkSums<'l> {
    lanes: &'l Lanes,
    index: usize,
    /// The lines in which anything was counted, as bits.
    lines: u64,
}

impl ChunkSums<'_> {
    /// The sum of the counters at some offsets.
    #[inline]
    pub(crate) fn sum(self, offsets: Range<usize>) -> u64 {
        fn sum<C: Counter>(counters: &[C]) -> u64 {
            counters.iter().map(Counter::get).sum()
        }
        if offsets.is_empty() {
            return 0;
        }
        let (first, last) = (offsets.start / LINE, (offsets.end - 1) / LINE);
        let inside = u64::MAX << first & u64::MAX >> (63 - last);
        let of_line = |at: usize| {
            let offsets = offsets.start.max(at * LINE)..offsets.end.min((at + 1) * LINE);
            let own = self.lanes.own_chunks(self.index).map(|own| sum(&own[offsets.clone()]));
            let shared = self.lanes.shared_chunk(self.index);
            own.chain(shared.map(|shared| sum(&shared[offsets.clone()]))).sum::<u64>()
        };
        bits(self.lines & inside).map(of_line).sum()
    }
}
