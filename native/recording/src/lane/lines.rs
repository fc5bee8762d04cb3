//! Where histogram counters are: chunks, and the cache lines that these are read and marked by.

use crate::histogram::{Location, Precision};

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

/// How many lines of counters a chunk has: a power of two of at most 64.
pub(super) const fn lines_of_chunk(precision: Precision) -> usize {
    precision.chunk_length() >> LINE_BITS
}

/// How many words have a bit for each line of a histogram.
pub(super) const fn touched_words(precision: Precision) -> usize {
    (precision.chunk_count() * lines_of_chunk(precision)).div_ceil(64)
}

/// The word that has the bits for the lines of a chunk, and the first of them.
#[inline]
pub(super) const fn touched_place(
    precision: Precision,
    histogram: usize,
    chunk: usize,
) -> (usize, usize) {
    let bit = chunk * lines_of_chunk(precision);
    (histogram * touched_words(precision) + bit / 64, bit % 64)
}

/// Base-two logarithm of how many counters one mark stands for: as many as 32-bit ones have room
/// for in a cache line.
pub(super) const LINE_BITS: u32 = 4;

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
pub fn marked_lines(marks: u64, precision: Precision, histogram: usize, chunk: usize) -> u64 {
    let lines = lines_of_chunk(precision);
    let first = (chunk * lines) as u32 + histogram as u32 * HISTOGRAM_MARKS;
    marks.rotate_right(first) & (u64::MAX >> (64 - lines))
}

/// Counters that were read, in a cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
pub struct CounterLine(pub(crate) [u32; LINE]);

/// The counters of a line.
#[inline]
pub(super) fn line<N>(counters: &[N], line: usize) -> &[N] {
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
