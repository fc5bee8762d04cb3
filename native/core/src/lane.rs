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

use std::mem::size_of;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed, fence};
use std::sync::{Arc, OnceLock};

use once_cell::race::OnceBox;

use crate::cell::{Cell, plus_float, plus_signed};
use crate::histogram::{Counts, Location, Precision};
use crate::prefetch;
use crate::thread_number::{ThreadNumber, exclusive_lanes};

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

/// A histogram counter.
trait Counter: Send + Sync + 'static {
    const ZERO: Self;
    fn get(&self) -> u64;
}

impl Counter for AtomicU32 {
    const ZERO: Self = AtomicU32::new(0);

    fn get(&self) -> u64 {
        u64::from(self.load(Relaxed))
    }
}

impl Counter for AtomicU64 {
    const ZERO: Self = AtomicU64::new(0);

    fn get(&self) -> u64 {
        self.load(Relaxed)
    }
}

/// The counters of a chunk. They begin with a cache line, so that a line of counters is one.
#[repr(C, align(64))]
struct Chunk<C, const LEN: usize>([C; LEN]);

type Chunks<C, const LEN: usize> = Box<[OnceBox<Chunk<C, LEN>>]>;

/// The counters of all histograms of a lane: for each histogram a row of chunks, each of which is
/// allocated when the first value falls into it, so that a histogram takes memory for the powers of
/// two that its samples span and for nothing else.
struct Counters<C> {
    /// For each histogram the chunks that are allocated, as bits.
    allocated: Box<[AtomicU64]>,
    /// For each histogram the lines in which any counter has ever been written to, as bits: most of
    /// a chunk never is, and need not be read.
    touched: Box<[AtomicU64]>,
    rows: Rows<C>,
}

enum Rows<C> {
    One(Chunks<C, 16>),
    Two(Chunks<C, 128>),
    Three(Chunks<C, 1024>),
}

macro_rules! each_precision {
    ($rows:expr, $chunks:ident => $body:expr) => {
        match $rows {
            Rows::One($chunks) => $body,
            Rows::Two($chunks) => $body,
            Rows::Three($chunks) => $body,
        }
    };
}

impl<C: Counter> Counters<C> {
    fn new(shape: Shape) -> Self {
        fn chunks<C, const LEN: usize>(shape: Shape) -> Chunks<C, LEN> {
            (0..shape.histograms * shape.precision.chunk_count()).map(|_| OnceBox::new()).collect()
        }
        let rows = match shape.precision {
            Precision::One => Rows::One(chunks(shape)),
            Precision::Two => Rows::Two(chunks(shape)),
            Precision::Three => Rows::Three(chunks(shape)),
        };
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let touched = shape.histograms * touched_words(shape.precision);
        Self { allocated: zeros(shape.histograms), touched: zeros(touched), rows }
    }

    /// Remembers that a counter is no longer zero, or is about to be. To be called before the event
    /// is counted, so that who sees that sees this.
    #[cold]
    fn touch(&self, precision: Precision, histogram: usize, location: Location) {
        let (word, first) = touched_place(precision, histogram, usize::from(location.chunk));
        let line = usize::from(location.offset) >> LINE_BITS;
        self.touched[word].fetch_or(1 << (first + line), Relaxed);
    }

    #[inline]
    fn at(&self, histogram: usize, location: Location) -> &C {
        fn at<'c, C: Counter, const LEN: usize>(
            chunks: &'c Chunks<C, LEN>,
            allocated: &[AtomicU64],
            precision: Precision,
            histogram: usize,
            location: Location,
        ) -> &'c C {
            let chunk = &chunks
                [usize::from(chunk_index(precision, histogram, usize::from(location.chunk)))];
            let counters = chunk.get_or_init(|| {
                // Comes before the mark of any sample in the chunk, which publishes it.
                allocated[histogram].fetch_or(1 << location.chunk, Relaxed);
                Box::new(Chunk([const { C::ZERO }; LEN]))
            });
            &counters.0[usize::from(location.offset)]
        }
        let allocated = &self.allocated;
        match &self.rows {
            Rows::One(chunks) => at(chunks, allocated, Precision::One, histogram, location),
            Rows::Two(chunks) => at(chunks, allocated, Precision::Two, histogram, location),
            Rows::Three(chunks) => at(chunks, allocated, Precision::Three, histogram, location),
        }
    }

    /// The counters of a chunk, if any was touched.
    #[inline]
    fn chunk(&self, chunk: usize) -> Option<&[C]> {
        each_precision!(&self.rows, chunks => chunks[chunk].get().map(|counters| &counters.0[..]))
    }

    /// Asks for the place where a chunk is told.
    #[inline]
    fn ask_for_row(&self, chunk: usize) {
        each_precision!(&self.rows, chunks => prefetch::line(&chunks[chunk]));
    }

    fn memory_bytes(&self) -> usize {
        let chunks = self.allocated.iter().map(|chunks| chunks.load(Relaxed).count_ones() as usize);
        let touched: usize = chunks.sum();
        fn bytes<C, const LEN: usize>(chunks: &Chunks<C, LEN>, touched: usize) -> usize {
            size_of_val(&**chunks) + touched * size_of::<Chunk<C, LEN>>()
        }
        size_of_val(&*self.allocated)
            + size_of_val(&*self.touched)
            + each_precision!(&self.rows, chunks => bytes(chunks, touched))
    }
}

/// The place of a histogram's chunk in the row of all.
pub(crate) type ChunkIndex = u16;

/// The place of a histogram's chunk in the row of all.
#[inline]
pub(crate) const fn chunk_index(
    precision: Precision,
    histogram: usize,
    chunk: usize,
) -> ChunkIndex {
    (histogram * precision.chunk_count() + chunk) as ChunkIndex
}

/// Adds counters to sums.
#[inline]
fn add<C: Counter>(sums: &mut [u64], counters: &[C]) {
    sums.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.get());
}

/// How many lines of counters a chunk has: a power of two of at most 64.
const fn lines_of_chunk(precision: Precision) -> usize {
    precision.chunk_length() >> LINE_BITS
}

/// How many words have a bit for each line of a histogram.
const fn touched_words(precision: Precision) -> usize {
    (precision.chunk_count() * lines_of_chunk(precision)).div_ceil(64)
}

/// The word that has the bits for the lines of a chunk, and the first of them.
#[inline]
const fn touched_place(precision: Precision, histogram: usize, chunk: usize) -> (usize, usize) {
    let bit = chunk * lines_of_chunk(precision);
    (histogram * touched_words(precision) + bit / 64, bit % 64)
}

/// Base-two logarithm of how many counters one mark stands for: as many as 32-bit ones have room
/// for in a cache line.
const LINE_BITS: u32 = 4;

pub(crate) const LINE: usize = 1 << LINE_BITS;

/// How far apart the marks of two histograms' first lines are. The lines of three histograms then
/// share few marks where they lie close together.
const HISTOGRAM_MARKS: u32 = 21;

/// The mark of the line that a sample is counted in: a bit of a word, in which lines far from each
/// other share their bits.
#[inline]
pub(crate) const fn mark_of(precision: Precision, histogram: usize, location: Location) -> u64 {
    let line = (location.chunk as u32) << (precision.chunk_bits() - LINE_BITS)
        | location.offset as u32 >> LINE_BITS;
    1u64.rotate_left(line + histogram as u32 * HISTOGRAM_MARKS)
}

/// The lines of a chunk that may have been written to, as bits.
#[inline]
pub(crate) fn marked_lines(
    marks: u64,
    precision: Precision,
    histogram: usize,
    chunk: usize,
) -> u64 {
    let lines = lines_of_chunk(precision);
    let first = (chunk * lines) as u32 + histogram as u32 * HISTOGRAM_MARKS;
    marks.rotate_right(first) & (u64::MAX >> (64 - lines))
}

/// Counters that were read, in a cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
pub(crate) struct CounterLine(pub(crate) [u32; LINE]);

/// The counters of a line.
#[inline]
fn line<N>(counters: &[N], line: usize) -> &[N] {
    &counters[line * LINE..][..LINE]
}

/// The numbers of the bits that are set.
#[inline]
pub(crate) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        lowest
    })
}

/// Appends the sums of a line that are not zero.
#[inline]
fn collect(chunk: usize, line: usize, sums: &[u64; LINE], counts: &mut Counts) {
    for (at, &sum) in sums.iter().enumerate().filter(|(_, sum)| **sum != 0) {
        let (chunk, offset) = (chunk as u16, (line * LINE + at) as u16);
        counts.push((Location { chunk, offset }, sum));
    }
}

const CELLS_PER_LINE: usize = 16;

/// 128 bytes, because x86 prefetches cache lines in pairs and some Arm cores have lines this long.
#[repr(C, align(128))]
#[derive(Default)]
struct Line([AtomicU64; CELLS_PER_LINE]);

/// Scalar cells in cache lines of their own.
struct Cells(Box<[Line]>);

impl Cells {
    fn new(cells: usize) -> Self {
        Self((0..cells.div_ceil(CELLS_PER_LINE)).map(|_| Line::default()).collect())
    }

    #[inline]
    fn as_slice(&self) -> &[AtomicU64] {
        let lines = &*self.0;
        // SAFETY: `Line` is 128 bytes long and consists of nothing but 16 cells, so a slice of lines
        // is a slice of 16 times as many cells; the borrow stays the same.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * CELLS_PER_LINE) }
    }
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
    pub fn own<'a>(&'a self, lane: &'a ExclusiveLane) -> Exclusive<'a> {
        Exclusive { lanes: self, lane }
    }

    /// The lane of all threads.
    pub fn shared(&self) -> Shared<'_> {
        Shared { lane: self.shared_lane(), precision: self.shape.precision }
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
    pub(crate) fn marks(&self, cell: usize) -> u64 {
        // Acquire pairs with the Release in `mark`, here and below.
        let marks = self.cells().map(|cells| cells.as_slice()[cell].load(Ordering::Acquire));
        marks.fold(0, |all, marks| all | marks)
    }

    /// As [`Self::marks`], which start anew from none. The mark of a count that is not seen after
    /// this comes later, since it is set after counting.
    pub(crate) fn take_marks(&self, cell: usize) -> u64 {
        let marks = self.cells().map(|cells| cells.as_slice()[cell].swap(0, Ordering::Acquire));
        marks.fold(0, |all, marks| all | marks)
    }

    /// Replaces `changes` by what came in since the counters of a histogram were as they are in
    /// `before`, in order of value: in the marked lines, for there is nothing in others. Chunks that
    /// are not in `before` were zero.
    pub(crate) fn read_changes<'b>(
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
    pub(crate) fn ask_for_lanes(&self) {
        prefetch::all(&*self.exclusive);
    }

    /// Asks for the lanes, whose list has come.
    pub(crate) fn ask_for_own(&self) {
        self.exclusive.iter().filter_map(OnceLock::get).for_each(|lane| prefetch::all(&**lane));
    }

    /// Asks for the cells of the lanes, which have come, and for what they have allocated.
    pub(crate) fn ask_for_cells(&self) {
        self.cells().for_each(|cells| prefetch::all(&*cells.0));
        self.counters().for_each(prefetch::all);
    }

    /// Asks for the places where chunks are told, when the cells have come.
    pub(crate) fn ask_for_rows(&self, histogram: usize, marks: u64) {
        self.ask_for_rows_of(histogram, self.marked_chunks(histogram, marks));
    }

    /// Asks for the marked lines, when their places have come.
    pub(crate) fn ask_for_lines(&self, histogram: usize, marks: u64) {
        self.ask_for_lines_of(histogram, self.marked_chunks(histogram, marks));
    }

    /// As [`Self::ask_for_rows`], for all chunks in which anything was counted.
    pub(crate) fn ask_for_touched_rows(&self, histogram: usize) {
        self.ask_for_rows_of(histogram, self.touched_chunks(histogram));
    }

    /// As [`Self::ask_for_lines`], for all lines in which anything was counted.
    pub(crate) fn ask_for_touched_lines(&self, histogram: usize) {
        self.ask_for_lines_of(histogram, self.touched_chunks(histogram));
    }

    fn ask_for_rows_of(&self, histogram: usize, chunks: impl Iterator<Item = (usize, u64)>) {
        for (chunk, _) in chunks {
            let index = usize::from(self.chunk_index(histogram, chunk));
            let own = self.exclusive.iter().filter_map(OnceLock::get);
            own.filter_map(|lane| lane.counters.as_ref()).for_each(|own| own.ask_for_row(index));
            self.shared.get().into_iter().for_each(|lane| lane.counters.ask_for_row(index));
        }
    }

    fn ask_for_lines_of(&self, histogram: usize, chunks: impl Iterator<Item = (usize, u64)>) {
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
        let cells = self.shape.cells.div_ceil(CELLS_PER_LINE) * size_of::<Line>();
        let exclusive = self.exclusive.iter().filter_map(OnceLock::get).map(|lane| {
            size_of::<ExclusiveLane>()
                + 2 * size_of::<usize>()
                + cells
                + lane.counters.as_ref().map_or(0, |counters| counters.memory_bytes())
        });
        let shared = self.shared.get().map(|lane| cells + lane.counters.memory_bytes());
        size_of_val(&*self.exclusive) + exclusive.chain(shared).sum::<usize>()
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
pub struct Exclusive<'a> {
    lanes: &'a Lanes,
    lane: &'a ExclusiveLane,
}

impl Writer for Exclusive<'_> {
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

impl Exclusive<'_> {
    #[cold]
    fn touch(&self, histogram: usize, location: Location) {
        if let Some(counters) = &self.lane.counters {
            counters.touch(self.lanes.shape.precision, histogram, location);
        }
    }
}

/// Writes to the lane that threads share.
pub struct Shared<'a> {
    lane: &'a SharedLane,
    precision: Precision,
}

impl Shared<'_> {
    /// Adds samples to a histogram.
    pub fn add_samples(&self, histogram: usize, location: Location, count: u64) {
        let counters = &self.lane.counters;
        if counters.at(histogram, location).fetch_add(count, Ordering::Release) == 0 {
            counters.touch(self.precision, histogram, location);
        }
    }
}

impl Writer for Shared<'_> {
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

#[cfg(test)]
mod tests {
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
        record(&lanes, &number, 1_000_000);
        let first = lanes.memory_bytes();
        record(&lanes, &number, 1_000_001);
        assert!(first > before);
        assert_eq!(lanes.memory_bytes(), first);
        record(&lanes, &number, 3_000_000);
        assert!(lanes.memory_bytes() >= first + 128 * size_of::<AtomicU32>());
    }
}
