//! Native histograms: HDR counts in the exponential buckets of Prometheus and OpenTelemetry.
//!
//! With schema `s`, bucket `i` has the values above `2^((i - 1) / 2^s)` up to `2^(i / 2^s)`. An HDR
//! bucket that lies across a border goes where its largest value belongs, which is the value that
//! reports give for a quantile in it: so a quantile that Prometheus computes lies in the same
//! exponential bucket as ours.

use once_cell::race::OnceBox;

use telemetry_recording::histogram::{Location, Precision};
use telemetry_recording::metric::Unit;

/// The schema for a precision: a bucket is 9 % wide for one digit and 2.2 % for more, which is about
/// as wide as, or wider than, the HDR buckets that go into it.
pub(crate) const fn schema(precision: Precision) -> i32 {
    match precision {
        Precision::One => 3,
        Precision::Two | Precision::Three => 5,
    }
}

/// Values at or below it are in the zero bucket: that of OpenTelemetry's and Prometheus' libraries.
pub(crate) const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// So many empty buckets take less room as such than as a gap between two spans.
const SHORT_GAP: i32 = 2;

/// The positive buckets of a native histogram, and its zero bucket.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Buckets {
    pub(crate) zero_count: u64,
    /// For each span how many buckets it is away from the one before, or the first one from bucket
    /// 0, and how many buckets it has.
    pub(crate) spans: Vec<(i32, u32)>,
    /// For each bucket how much more it has than the one before.
    pub(crate) deltas: Vec<i64>,
}

impl Buckets {
    /// The buckets for HDR counts in order of value, in the unit in which they are exposed.
    pub(crate) fn new(counts: &[(Location, u64)], precision: Precision, unit: Unit) -> Self {
        let (zero_count, filled) = filled(counts, precision, unit);
        let mut buckets = Self { zero_count, ..Self::default() };
        let (mut next, mut before) = (0, 0);
        for (index, count) in filled {
            let gap = index - next;
            match buckets.spans.last_mut() {
                Some((_, length)) if gap <= SHORT_GAP => {
                    *length += gap as u32 + 1;
                    for _ in 0..gap {
                        buckets.deltas.push(-before);
                        before = 0;
                    }
                }
                _ => buckets.spans.push((gap, 1)),
            }
            buckets.deltas.push(count as i64 - before);
            (next, before) = (index + 1, count as i64);
        }
        buckets
    }
}

/// How many samples are zero, and how many are in each bucket of [`schema`] that has any, in order.
pub(crate) fn filled(
    counts: &[(Location, u64)],
    precision: Precision,
    unit: Unit,
) -> (u64, Vec<(i32, u64)>) {
    let mut zero_count = 0;
    let mut filled: Vec<(i32, u64)> = Vec::new();
    let indices = indices(precision, unit);
    for &(location, count) in counts {
        if location.number() == 0 {
            zero_count += count;
            continue;
        }
        let index = i32::from(indices[place(location, precision)]);
        match filled.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => filled.push((index, count)),
        }
    }
    (zero_count, filled)
}

/// The place of a location among all.
fn place(location: Location, precision: Precision) -> usize {
    usize::from(location.chunk) * precision.chunk_length() + usize::from(location.offset)
}

/// The bucket of each location but the first, which has zero. Made once: logarithms cost more than all
/// the rest of a native histogram.
fn indices(precision: Precision, unit: Unit) -> &'static [i16] {
    static OF_PRECISION: [[OnceBox<Box<[i16]>>; 2]; 3] =
        [const { [const { OnceBox::new() }; 2] }; 3];
    let is_divided = usize::from(unit.divisor() != 1.0);
    OF_PRECISION[usize::from(precision.digits()) - 1][is_divided].get_or_init(|| {
        let length = precision.chunk_length();
        let of_place = |place: usize| {
            let (chunk, offset) = ((place / length) as u16, (place % length) as u16);
            let value = precision.highest_value(Location { chunk, offset });
            index(value as f64 / unit.divisor(), schema(precision)) as i16
        };
        Box::new((0..precision.chunk_count() * length).map(of_place).collect())
    })
}

/// The bucket that a positive value belongs to.
fn index(value: f64, schema: i32) -> i32 {
    (value.log2() * f64::from(1 << schema)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use telemetry_recording::histogram::{Counts, MAX_VALUE};

    /// Upper end of a bucket.
    fn bound(index: i32, schema: i32) -> f64 {
        (f64::from(index) / f64::from(1 << schema)).exp2()
    }

    /// Counts by bucket, read back from spans and deltas as Prometheus reads them.
    fn decoded(buckets: &Buckets) -> Vec<(i32, u64)> {
        let (mut index, mut count, mut deltas) = (0, 0, buckets.deltas.iter());
        let mut counts = Vec::new();
        for (offset, length) in &buckets.spans {
            index += offset;
            for _ in 0..*length {
                count += deltas.next().expect("a delta for each bucket");
                counts.push((index, count as u64));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        counts
    }

    #[test]
    fn every_location_is_in_the_bucket_of_its_largest_value() {
        for precision in [Precision::One, Precision::Two, Precision::Three] {
            let schema = schema(precision);
            let first = Location { chunk: 0, offset: 1 };
            let last = precision.locate(MAX_VALUE);
            for unit in [Unit::One, Unit::Byte, Unit::Nanosecond, Unit::Millisecond] {
                for number in first.number()..=last.number() {
                    let location = Location::from_number(number);
                    if usize::from(location.offset) >= precision.chunk_length() {
                        continue;
                    }
                    let value = precision.highest_value(location) as f64 / unit.divisor();
                    let index = i32::from(indices(precision, unit)[place(location, precision)]);
                    // Powers of two are exact, other borders no value of ours lies on.
                    assert!(value <= bound(index, schema), "{value} in {index}");
                    assert!(value > bound(index - 1, schema), "{value} in {index}");
                }
            }
        }
    }

    #[test]
    fn a_power_of_two_is_the_largest_value_of_its_bucket() {
        for power in 0..63 {
            assert_eq!(index((1u64 << power) as f64, 5), 32 * power);
            assert_eq!(index((1u64 << power) as f64 / 1024.0, 3), 8 * (power - 10));
        }
    }

    fn counts() -> impl Strategy<Value = Counts> {
        let value = prop_oneof![0..5_000_u64, 0..=MAX_VALUE, Just(0), Just(MAX_VALUE)];
        let location = value.prop_map(|value| Precision::Two.locate(value));
        btree_map(location, 1..1_000_000_000_u64, 0..200)
            .prop_map(|counts| counts.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_sample_is_counted_once_and_near_its_value(counts in counts()) {
            let buckets = Buckets::new(&counts, Precision::Two, Unit::Nanosecond);
            let decoded = decoded(&buckets);
            prop_assert!(decoded.is_sorted_by_key(|(index, _)| *index));
            // Short gaps are filled, long ones are not.
            let filled: Vec<_> = decoded.iter().filter(|(_, count)| *count > 0).collect();
            prop_assert!(decoded.len() <= filled.len() * (1 + SHORT_GAP as usize));
            let mut expected = std::collections::BTreeMap::new();
            let mut zero = 0;
            for (location, count) in &counts {
                match Precision::Two.highest_value(*location) {
                    0 => zero += count,
                    value => *expected.entry(index(value as f64 / 1e3, 5)).or_default() += count,
                }
            }
            prop_assert_eq!(buckets.zero_count, zero);
            prop_assert_eq!(filled.into_iter().copied().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<(i32, u64)>>());
        }
    }
}
