//! Histogram counters of a lane.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use once_cell::race::OnceBox;

use super::Shape;
use super::lines::{LINE_BITS, chunk_index, touched_place, touched_words};
use crate::histogram::{Location, Precision};
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::prefetch;

/// A histogram counter.
pub(super) trait Counter: Send + Sync + 'static {
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
pub(super) struct Counters<C> {
    /// For each histogram the chunks that are allocated, as bits.
    pub(super) allocated: Box<[AtomicU64]>,
    /// For each histogram the lines in which any counter has ever been written to, as bits: most of
    /// a chunk never is, and need not be read.
    pub(super) touched: Box<[AtomicU64]>,
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
    pub(super) fn new(shape: Shape) -> Self {
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
    pub(super) fn touch(&self, precision: Precision, histogram: usize, location: Location) {
        let (word, first) = touched_place(precision, histogram, usize::from(location.chunk));
        let line = usize::from(location.offset) >> LINE_BITS;
        self.touched[word].fetch_or(1 << (first + line), Relaxed);
    }

    #[inline]
    pub(super) fn at(&self, histogram: usize, location: Location) -> &C {
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
    pub(super) fn chunk(&self, chunk: usize) -> Option<&[C]> {
        each_precision!(&self.rows, chunks => chunks[chunk].get().map(|counters| &counters.0[..]))
    }

    /// Asks for the place where a chunk is told.
    #[inline]
    pub(super) fn prefetch_row(&self, chunk: usize) {
        each_precision!(&self.rows, chunks => prefetch::line(&chunks[chunk]));
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let chunks = self.allocated.iter().map(|chunks| chunks.load(Relaxed).count_ones() as usize);
        let touched = heap::sum(chunks);
        let rows = each_precision!(&self.rows, chunks => {
            heap::sum([chunks.heap_bytes(), touched * bytes_of_chunk(chunks)])
        });
        heap::sum([self.allocated.heap_bytes(), self.touched.heap_bytes(), rows])
    }
}

const fn bytes_of_chunk<C, const LEN: usize>(_: &Chunks<C, LEN>) -> usize {
    size_of::<Chunk<C, LEN>>()
}
