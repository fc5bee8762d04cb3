//! Exponential histograms of OpenTelemetry from HDR counts.

use super::message::Buckets;
use crate::native;
use telemetry_recording::histogram::{Location, Precision};
use telemetry_recording::metric::Unit;

/// The buckets of an exponential histogram: with scale `s`, bucket `i` has the values above
/// `2^(i / 2^s)` up to `2^((i + 1) / 2^s)`.
#[derive(Debug, PartialEq)]
pub(super) struct Exponential {
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) positive: Option<Buckets>,
}

impl Exponential {
    /// The histogram of some counts, in the unit in which they are exposed. The scale is that of native
    /// histograms, or the largest one below with which so many buckets suffice, at least two.
    pub(super) fn new(
        counts: &[(Location, u64)],
        precision: Precision,
        unit: Unit,
        max_buckets: usize,
    ) -> Self {
        let (zero_count, filled) = native::filled(counts, precision, unit);
        let mut scale = native::schema(precision);
        let (Some(&(first, _)), Some(&(last, _))) = (filled.first(), filled.last()) else {
            return Self { scale, zero_count, positive: None };
        };
        // Prometheus numbers a bucket by its upper end, OpenTelemetry by its lower one.
        let (first, last) = (first - 1, last - 1);
        let mut halvings = 0;
        // Two buckets always suffice in the end: the powers of two below and above 1.
        while (last >> halvings) - (first >> halvings) >= max_buckets.max(2) as i32 {
            halvings += 1;
        }
        scale -= halvings;
        let offset = first >> halvings;
        let mut bucket_counts = vec![0; ((last >> halvings) - offset) as usize + 1];
        for (index, count) in filled {
            bucket_counts[(((index - 1) >> halvings) - offset) as usize] += count;
        }
        Self { scale, zero_count, positive: Some(Buckets { offset, bucket_counts }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use telemetry_recording::histogram::{Counts, MAX_VALUE};
    use telemetry_recording::point::total;

    /// The ends of a bucket.
    fn ends(index: i32, scale: i32) -> (f64, f64) {
        let end = |index: i32| (f64::from(index) / f64::from(scale).exp2()).exp2();
        (end(index), end(index + 1))
    }

    fn precision() -> impl Strategy<Value = Precision> {
        prop_oneof![Just(Precision::One), Just(Precision::Two), Just(Precision::Three)]
    }

    fn unit() -> impl Strategy<Value = Unit> {
        prop_oneof![Just(Unit::Nanosecond), Just(Unit::One)]
    }

    proptest! {
        #[test]
        fn every_sample_is_in_the_bucket_of_its_largest_equivalent(
            values in btree_map(prop_oneof![0..2_000_u64, 0..=MAX_VALUE], 1..1_000_u64, 0..40),
            precision in precision(),
            unit in unit(),
            max_buckets in 2..400_usize,
        ) {
            let mut counts = Counts::new();
            for (value, count) in values {
                let at = precision.locate(value);
                match counts.last_mut() {
                    Some((last, sum)) if *last == at => *sum += count,
                    _ => counts.push((at, count)),
                }
            }
            let histogram = Exponential::new(&counts, precision, unit, max_buckets);
            let buckets = histogram.positive.clone().unwrap_or_default();
            let length = buckets.bucket_counts.len();
            prop_assert!(length <= max_buckets);
            let sum = buckets.bucket_counts.iter().sum::<u64>() + histogram.zero_count;
            prop_assert_eq!(sum, total(&counts));
            prop_assert!(histogram.scale <= native::schema(precision));
            // No bucket is empty at either end, and with a scale more there would be too many.
            prop_assert!(buckets.bucket_counts.first() != Some(&0));
            prop_assert!(buckets.bucket_counts.last() != Some(&0));
            if histogram.scale < native::schema(precision) {
                prop_assert!(2 * length + 1 > max_buckets);
            }
            let mut left = buckets.bucket_counts;
            for (at, count) in counts.into_iter().filter(|(at, _)| at.number() > 0) {
                let value = precision.highest_value(at) as f64 / unit.divisor();
                let place = (0..length)
                    .find(|place| value <= ends(buckets.offset + *place as i32, histogram.scale).1 * (1.0 + 1e-12))
                    .expect("a bucket for every sample");
                let lowest = ends(buckets.offset + place as i32, histogram.scale).0;
                prop_assert!(value >= lowest * (1.0 - 1e-12), "{} below {}", value, lowest);
                left[place] = left[place].checked_sub(count).expect("as many as were counted");
            }
            prop_assert!(left.iter().all(|count| *count == 0));
        }
    }

    #[test]
    fn a_power_of_two_is_the_upper_end_of_its_bucket() {
        for (value, index) in [(1, -1), (2, 31), (4, 63), (3, 50)] {
            let counts = [(Precision::Two.locate(value), 7)];
            let histogram = Exponential::new(&counts, Precision::Two, Unit::One, 160);
            assert_eq!(histogram.scale, 5);
            let positive = Buckets { offset: index, bucket_counts: vec![7] };
            assert_eq!(histogram.positive, Some(positive), "{value}");
        }
    }

    #[test]
    fn the_scale_is_as_large_as_the_buckets_allow() {
        let at = |value| (Precision::Two.locate(value), 1);
        let scale = |max_buckets, counts: &[_]| {
            Exponential::new(counts, Precision::Two, Unit::One, max_buckets).scale
        };
        // 1 to 31 and to 33 are 160 and 162 buckets of scale 5, of which the first is below 1.
        assert_eq!(scale(160, &[at(1), at(31)]), 5);
        assert_eq!(scale(160, &[at(1), at(33)]), 4);
        // Everything there is, from 1 to 2^63.
        assert_eq!(scale(160, &[at(1), at(MAX_VALUE)]), 1);
        assert_eq!(scale(2_048, &[at(1), at(MAX_VALUE)]), 5);
        assert_eq!(scale(2, &[at(1), at(MAX_VALUE)]), -6);
    }
}
