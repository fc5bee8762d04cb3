//! Explicit bucket bounds, inclusive at the top as Prometheus' `le` is.
//!
//! A bound mostly lies inside an HDR bucket, so the HDR counts alone cannot say how many samples are
//! at or below it. They can with one more number: of the samples in the HDR bucket that holds the
//! bound, how many are at or below it. Only that is counted when a sample is recorded, which few
//! samples are affected by; the counts of explicit buckets follow exactly.

use crate::error::DefinitionError;
use crate::histogram::{Location, MAX_VALUE, Precision};
use crate::lane::{ChunkReader, ChunkSums};
use telemetry_common::heap::{self, HeapBytes};

/// Most bounds that one histogram may have.
pub const MAX_BOUNDS: usize = 200;

/// Upper bounds of explicit buckets in stored units; the last bucket, above all bounds, has none.
#[derive(Clone, Debug)]
pub struct Bounds {
    bounds: Box<[u64]>,
    /// Where each bound would be counted as a value.
    locations: Box<[Location]>,
    /// For each HDR chunk the first bound in it.
    chunks: Box<[First]>,
}

/// The first bound in an HDR chunk.
#[derive(Clone, Copy, Debug)]
struct First {
    bound: u64,
    /// Its offset in the chunk, or one that no value has.
    offset: u16,
    /// Which of the bounds it is.
    index: u8,
    /// Whether there are more in the chunk.
    more: bool,
}

impl First {
    const NONE: Self = Self { bound: 0, offset: u16::MAX, index: 0, more: false };
}

impl Bounds {
    /// Checks the bounds and finds their HDR buckets. `metric` is named in errors.
    pub fn new(
        metric: &str,
        bounds: &[u64],
        precision: Precision,
    ) -> Result<Self, DefinitionError> {
        if bounds.len() > MAX_BOUNDS {
            return Err(DefinitionError::TooManyBounds {
                metric: metric.to_owned(),
                given: bounds.len(),
                allowed: MAX_BOUNDS,
            });
        }
        if !bounds.is_sorted_by(|left, right| left < right) {
            return Err(DefinitionError::Bounds {
                metric: metric.to_owned(),
                bounds: bounds.to_vec(),
            });
        }
        // A bound above every value is as good as the largest value.
        let locate = |&bound: &u64| precision.locate(bound.min(MAX_VALUE));
        let locations: Box<[_]> = bounds.iter().map(locate).collect();
        let first = |chunk| {
            let mut inside =
                (0..bounds.len()).filter(|&index| usize::from(locations[index].chunk) == chunk);
            inside.next().map_or(First::NONE, |index| First {
                bound: bounds[index],
                offset: locations[index].offset,
                index: index as u8,
                more: inside.next().is_some(),
            })
        };
        let chunks = (0..precision.chunk_count()).map(first).collect();
        Ok(Self { bounds: bounds.into(), locations, chunks })
    }

    /// Calls `visit` with each bound that lies in the HDR bucket of a value and is not below it.
    #[inline]
    pub fn visit_covering(&self, value: u64, location: Location, mut visit: impl FnMut(usize)) {
        let first = self.chunks[usize::from(location.chunk)];
        if first.more {
            self.visit_each(value, location, usize::from(first.index), visit);
        } else if location.offset == first.offset && value <= first.bound {
            visit(usize::from(first.index));
        }
    }

    fn visit_each(
        &self,
        value: u64,
        location: Location,
        first: usize,
        mut visit: impl FnMut(usize),
    ) {
        for index in first..self.bounds.len() {
            if self.locations[index].chunk != location.chunk {
                break;
            }
            if self.locations[index] == location && value <= self.bounds[index] {
                visit(index);
            }
        }
    }

    /// The counts of the explicit buckets, not cumulated, the one above all bounds last.
    ///
    /// `counts` are the HDR counts in order of value, and `covered` says for each bound how many of
    /// the samples in its HDR bucket are at or below it.
    pub fn buckets(&self, counts: &[(Location, u64)], covered: impl Fn(usize) -> u64) -> Vec<u64> {
        let mut rest = counts.iter().peekable();
        let (mut below, mut last) = (0, 0);
        let mut buckets = Vec::with_capacity(self.bounds.len() + 1);
        for (index, bound) in self.locations.iter().enumerate() {
            while let Some((_, count)) = rest.next_if(|(at, _)| at < bound) {
                below += count;
            }
            let inside = rest.peek().filter(|(at, _)| at == bound).map_or(0, |(_, count)| *count);
            // A sample in flight may be covered already and not yet counted.
            let cumulated = (below + covered(index).min(inside)).max(last);
            buckets.push(cumulated - last);
            last = cumulated;
        }
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        buckets.push(total - last);
        buckets
    }

    /// Which of the explicit buckets a value belongs to.
    pub fn bucket(&self, value: u64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }

    /// The bounds, ascending, in stored units.
    pub fn as_slice(&self) -> &[u64] {
        &self.bounds
    }

    /// Where each bound would be counted as a value.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// How many bounds there are.
    pub fn count(&self) -> usize {
        self.bounds.len()
    }

    /// Bytes allocated by the bounds.
    pub fn memory_bytes(&self) -> usize {
        heap::sum([self.bounds.heap_bytes(), self.locations.heap_bytes(), self.chunks.heap_bytes()])
    }
}

/// Reads explicit buckets from live counters: as [`Bounds::buckets`], but of the counters only the sums
/// between bounds are made.
pub(crate) struct BucketReader<'b, F> {
    bounds: &'b Bounds,
    /// How long a chunk is.
    chunk_length: usize,
    covered: F,
    below: u64,
    last: u64,
    buckets: &'b mut Vec<u64>,
    /// Where they begin.
    start: usize,
}

impl<'b, F: Fn(usize) -> u64> BucketReader<'b, F> {
    /// A reader that appends buckets, not cumulated, the one above all bounds last.
    pub(crate) fn new(
        bounds: &'b Bounds,
        precision: Precision,
        covered: F,
        buckets: &'b mut Vec<u64>,
    ) -> Self {
        let chunk_length = precision.chunk_length();
        let start = buckets.len();
        Self { bounds, chunk_length, covered, below: 0, last: 0, buckets, start }
    }

    /// The bucket whose turn it is.
    fn next(&self) -> usize {
        self.buckets.len() - self.start
    }

    fn push(&mut self, cumulated: u64) {
        let cumulated = cumulated.max(self.last);
        self.buckets.push(cumulated - self.last);
        self.last = cumulated;
    }

    /// Takes the buckets above all that was read. Returns how many samples there are.
    pub(crate) fn finish(mut self) -> u64 {
        while self.next() <= self.bounds.count() {
            self.push(self.below);
        }
        self.last
    }
}

impl<F: Fn(usize) -> u64> ChunkReader for BucketReader<'_, F> {
    fn restart(&mut self) {
        self.buckets.truncate(self.start);
        (self.below, self.last) = (0, 0);
    }

    fn chunk(&mut self, chunk: u16, counters: ChunkSums<'_>) {
        let mut from = 0;
        while let Some(bound) = self.bounds.locations.get(self.next()) {
            if bound.chunk > chunk {
                break;
            }
            let mut inside = 0;
            if bound.chunk == chunk {
                let at = usize::from(bound.offset);
                self.below += counters.sum(from..at);
                from = at;
                // A sample in flight may be covered already and not yet counted.
                inside = counters.sum(at..at + 1).min((self.covered)(self.next()));
            }
            self.push(self.below + inside);
        }
        self.below += counters.sum(from..self.chunk_length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_equal_to_a_bound_is_inside_it() {
        let precision = Precision::Two;
        // The last two share an HDR bucket, which is four wide here.
        let bounds = Bounds::new("m", &[0, 5, 1_000, 1_001], precision).expect("valid");
        let bucket = |value| {
            let location = precision.locate(value);
            let mut covered = [0; 4];
            bounds.visit_covering(value, location, |index| covered[index] += 1);
            let buckets = bounds.buckets(&[(location, 1)], |index| covered[index]);
            assert_eq!(buckets.iter().position(|&count| count == 1), Some(bounds.bucket(value)));
            bounds.bucket(value)
        };
        for (value, expected) in
            [(0, 0), (1, 1), (5, 1), (6, 2), (1_000, 2), (1_001, 3), (1_002, 4)]
        {
            assert_eq!(bucket(value), expected, "{value}");
        }
    }

    #[test]
    fn unordered_bounds_are_refused() {
        let error = Bounds::new("latency", &[5, 5], Precision::Two).expect_err("equal bounds");
        assert_eq!(
            error.to_string(),
            "bucket bounds of latency must be strictly increasing, got [5, 5]"
        );
    }

    #[test]
    fn memory_of_bounds_and_of_their_places_is_counted() {
        let bounds = Bounds::new("m", &[1, 5, 1_000], Precision::Two).expect("valid");
        let chunks = size_of_val(&*bounds.chunks);
        assert!(chunks > 1);
        let one = size_of::<u64>() + size_of::<Location>();
        assert_eq!(bounds.memory_bytes(), 3 * one + chunks);
    }
}
