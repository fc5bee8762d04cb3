//! HdrHistogram's layout: which counter a value belongs to.
//!
//! The layout is Gil Tene's HdrHistogram with a lowest discernible value of 1: values below the
//! sub-bucket count have a counter each, above that every power of two is split into as many
//! counters as the precision demands. The counters of one power of two form a *chunk*. Live
//! counters are in [`crate::lane`]; snapshots are those of the `hdrhistogram` crate.

use hdrhistogram::Histogram as Snapshot;

use crate::error::DefinitionError;

/// The largest value that can be recorded, 2^63 - 1.
pub const MAX_VALUE: u64 = i64::MAX as u64;

/// Significant decimal digits that a histogram preserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Values agree to 10 %.
    One,
    /// Values agree to 1 %.
    Two,
    /// Values agree to 0.1 %.
    Three,
}

impl Precision {
    /// The number of significant digits.
    pub const fn digits(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// Base-two logarithm of a chunk's length: half of the smallest power of two that holds
    /// 2 × 10^digits sub-buckets.
    pub(crate) const fn chunk_bits(self) -> u32 {
        match self {
            Self::One => 4,
            Self::Two => 7,
            Self::Three => 10,
        }
    }

    /// How many counters a chunk has.
    pub const fn chunk_length(self) -> usize {
        1 << self.chunk_bits()
    }

    /// How many chunks cover 0 ..= `MAX_VALUE`.
    pub const fn chunk_count(self) -> usize {
        self.locate(MAX_VALUE).chunk as usize + 1
    }

    /// Where a value is counted.
    ///
    /// Chunk 0 is the lower half of the linear range; chunk `c > 0` holds the values that need a
    /// shift of `c - 1` bits to fit into the sub-buckets, of which only the upper half is used.
    #[inline]
    pub const fn locate(self, value: u64) -> Location {
        let bits = self.chunk_bits();
        let linear_mask = (1u64 << (bits + 1)) - 1;
        let shift = (63 - bits) - (value | linear_mask).leading_zeros();
        let sub_bucket = (value >> shift) as usize;
        // Only shift 0 has sub-buckets in the lower half, and those form chunk 0.
        let upper_half = sub_bucket >> bits;
        Location {
            chunk: (shift as usize + upper_half) as u16,
            offset: (sub_bucket & ((1 << bits) - 1)) as u16,
        }
    }

    /// Whether there is a counter at a place.
    pub const fn has(self, location: Location) -> bool {
        (location.offset as usize) < self.chunk_length()
            && (location.chunk as usize) < self.chunk_count()
    }

    /// The smallest value that is counted at a location: the inverse of [`Self::locate`].
    pub const fn lowest_value(self, location: Location) -> u64 {
        if location.chunk == 0 {
            return location.offset as u64;
        }
        let bits = self.chunk_bits();
        ((location.offset | (1 << bits)) as u64) << (location.chunk - 1)
    }

    /// The largest value that is counted at a location.
    pub const fn highest_value(self, location: Location) -> u64 {
        let width = match location.chunk {
            0 => 1,
            chunk => 1 << (chunk - 1),
        };
        self.lowest_value(location) + (width - 1)
    }
}

impl TryFrom<u8> for Precision {
    type Error = DefinitionError;

    fn try_from(digits: u8) -> Result<Self, DefinitionError> {
        match digits {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            other => Err(DefinitionError::Precision(other)),
        }
    }
}

/// The place of a counter: the chunk (power of two) and the offset in it. Places are ordered as the
/// values are that are counted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Number of the chunk.
    pub chunk: u16,
    /// Offset in the chunk.
    pub offset: u16,
}

impl Location {
    const OFFSET_BITS: u32 = 10;

    /// The place as one number, in the same order.
    #[inline]
    pub const fn number(self) -> u16 {
        self.chunk << Self::OFFSET_BITS | self.offset
    }

    /// The place with this number.
    #[inline]
    pub const fn from_number(number: u16) -> Self {
        Self { chunk: number >> Self::OFFSET_BITS, offset: number & ((1 << Self::OFFSET_BITS) - 1) }
    }
}

/// The counters of a histogram that are not zero, in order of value.
pub type Counts = Vec<(Location, u64)>;

/// An empty snapshot that grows with what is added to it.
pub fn empty_snapshot(precision: Precision) -> Snapshot<u64> {
    let mut snapshot = Snapshot::new(precision.digits())
        .unwrap_or_else(|_| unreachable!("1 to 3 significant digits are always accepted"));
    snapshot.auto(true);
    snapshot
}

/// Adds counts to a snapshot of the same precision.
pub fn add_counts(snapshot: &mut Snapshot<u64>, precision: Precision, counts: &[(Location, u64)]) {
    for &(at, count) in counts {
        // Only a snapshot that does not resize itself refuses values; see `empty_snapshot`.
        let recorded = snapshot.record_n(precision.lowest_value(at), count);
        debug_assert!(recorded.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Precision; 3] = [Precision::One, Precision::Two, Precision::Three];

    /// Every value at which a counter or a chunk begins or ends is one off a power of two times a
    /// sub-bucket, so neighbours of powers of two cover the boundaries.
    fn boundaries() -> impl Iterator<Item = u64> {
        (0..63).flat_map(|bit| {
            let power = 1u64 << bit;
            [power - 1, power, power + 1, power + power / 2]
        })
    }

    #[test]
    fn lowest_value_is_the_inverse_of_locate() {
        for precision in ALL {
            for value in boundaries().chain([MAX_VALUE]) {
                let location = precision.locate(value);
                let lowest = precision.lowest_value(location);
                assert_eq!(precision.locate(lowest), location, "{value} at {precision:?}");
                let highest = precision.highest_value(location);
                assert!((lowest..=highest).contains(&value), "{value} at {precision:?}");
                if highest < MAX_VALUE {
                    let next = precision.locate(highest + 1);
                    assert!(next > location && next.number() > location.number());
                }
                assert_eq!(Location::from_number(location.number()), location);
            }
        }
    }

    #[test]
    fn the_last_chunk_holds_the_largest_value() {
        assert_eq!(Precision::One.chunk_count(), 60);
        assert_eq!(Precision::Two.chunk_count(), 57);
        assert_eq!(Precision::Three.chunk_count(), 54);
    }
}
