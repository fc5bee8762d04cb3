//! Explicit bucket bounds, inclusive at the top as Prometheus' `le` is.

use std::mem::size_of_val;

use crate::error::DefinitionError;
use crate::histogram::{Location, Precision};

/// Most bounds that one histogram may have.
pub const MAX_BOUNDS: usize = 200;

/// Upper bounds of explicit buckets in stored units; the last bucket, above all bounds, has none.
#[derive(Clone, Debug)]
pub struct Bounds {
    bounds: Box<[u64]>,
    /// For each HDR chunk where the search begins, so that it begins where it nearly ends.
    chunks: Box<[Start]>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    /// The first bucket that any value of the chunk can be in.
    bucket: u8,
    /// Whether more than one bound lies in the chunk.
    search: bool,
    /// The bound of that bucket, or more than any value.
    bound: u64,
}

impl Bounds {
    /// Checks the bounds and prepares the search. `metric` is named in errors.
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
        let lowest = |chunk| precision.lowest_value(Location { chunk, offset: 0 });
        let below = |value| bounds.partition_point(|&bound| bound < value);
        let chunk_count = precision.chunk_count();
        let chunks = (0..chunk_count).map(|chunk| {
            let first = below(lowest(chunk));
            let end = if chunk + 1 < chunk_count { below(lowest(chunk + 1)) } else { bounds.len() };
            Start {
                bucket: first as u8,
                search: end - first > 1,
                bound: bounds.get(first).copied().unwrap_or(u64::MAX),
            }
        });
        Ok(Self { bounds: bounds.into(), chunks: chunks.collect() })
    }

    /// The bucket of a value, which was located at `location`: the number of bounds below it.
    #[inline]
    pub fn bucket(&self, value: u64, location: Location) -> usize {
        let start = self.chunks[location.chunk];
        // Where bounds are at least a power of two apart, this comparison is the whole search, and
        // it costs no branch that could be mispredicted.
        let mut bucket = usize::from(start.bucket) + usize::from(value > start.bound);
        if start.search {
            while self.bounds.get(bucket).is_some_and(|&bound| value > bound) {
                bucket += 1;
            }
        }
        bucket
    }

    /// The bounds, ascending, in stored units.
    pub fn as_slice(&self) -> &[u64] {
        &self.bounds
    }

    /// How many buckets there are: one more than bounds.
    pub fn bucket_count(&self) -> usize {
        self.bounds.len() + 1
    }

    /// Bytes allocated by the bounds.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.bounds) + size_of_val(&*self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_equal_to_a_bound_is_inside_it() {
        let precision = Precision::Two;
        let bounds = Bounds::new("m", &[0, 5, 1_000, 1_001], precision).expect("valid");
        let bucket = |value| bounds.bucket(value, precision.locate(value));
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(1), 1);
        assert_eq!(bucket(5), 1);
        assert_eq!(bucket(6), 2);
        assert_eq!(bucket(1_000), 2);
        assert_eq!(bucket(1_001), 3);
        assert_eq!(bucket(1_002), 4);
    }

    #[test]
    fn unordered_bounds_are_refused() {
        let error = Bounds::new("latency", &[5, 5], Precision::Two).expect_err("equal bounds");
        assert_eq!(
            error.to_string(),
            "bucket bounds of latency must be strictly increasing, got [5, 5]"
        );
    }
}
