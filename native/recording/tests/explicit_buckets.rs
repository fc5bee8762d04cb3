//! Explicit buckets are exact: a value equal to a bound is inside it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use telemetry_recording::bounds::{Bounds, MAX_BOUNDS};
use telemetry_recording::histogram::{MAX_VALUE, Precision};
use telemetry_testing::{Calls, cases};

const PRECISIONS: [Precision; 3] = [Precision::One, Precision::Two, Precision::Three];

/// Anywhere, near zero, around powers of two, and above every value.
fn bound() -> impl Strategy<Value = u64> {
    let power = (0..64_u32, 0..3_u64).prop_map(|(bits, off)| (1_u64 << bits) + off - 1);
    let log_uniform = (1..=64_u32, any::<u64>()).prop_map(|(bits, random)| random >> (64 - bits));
    prop_oneof![
        3 => log_uniform,
        3 => power,
        2 => 0..20_u64,
        1 => MAX_VALUE - 3..=MAX_VALUE + 3,
        1 => Just(u64::MAX),
    ]
}

/// Bounds that lie within one power of two.
fn crowd() -> impl Strategy<Value = Vec<u64>> {
    (0..63_u32, vec(any::<u64>(), 0..100)).prop_map(|(bits, offsets)| {
        let power = 1_u64 << bits;
        offsets.into_iter().map(|offset| power + offset % power).collect()
    })
}

fn bounds() -> impl Strategy<Value = Vec<u64>> {
    let mixed = (crowd(), vec(bound(), 0..30)).prop_map(|(crowd, others)| [crowd, others].concat());
    let bounds = prop_oneof![
        1 => Just(Vec::new()),
        3 => vec(bound(), 1..30),
        3 => mixed,
        1 => vec(any::<u64>(), MAX_BOUNDS),
    ];
    bounds.prop_map(|bounds| BTreeSet::from_iter(bounds).into_iter().collect())
}

/// Values on, just below and just above the bounds, and elsewhere.
fn values(bounds: &[u64]) -> impl Strategy<Value = Vec<u64>> + use<> {
    let mut near: Vec<_> = bounds
        .iter()
        .flat_map(|&bound| [bound.saturating_sub(1), bound, bound.saturating_add(1)])
        .map(|value| value.min(MAX_VALUE))
        .collect();
    near.push(0);
    let elsewhere = bound().prop_map(|value| value.min(MAX_VALUE));
    vec(prop_oneof![4 => select(near), 1 => elsewhere], 1..200)
}

fn bounds_and_values() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    bounds().prop_flat_map(|bounds| {
        let values = values(&bounds);
        (Just(bounds), values)
    })
}

/// The oracle.
fn first_bucket_that_holds(value: u64, bounds: &[u64]) -> usize {
    bounds.iter().position(|&bound| value <= bound).unwrap_or(bounds.len())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_bucket_is_the_first_whose_bound_is_not_below_the_value(
        (bounds, values) in bounds_and_values(),
    ) {
        for precision in PRECISIONS {
            let buckets = Bounds::new("m", &bounds, precision).unwrap();
            for &value in &values {
                let location = precision.locate(value);
                let mut covered = vec![0; bounds.len()];
                buckets.visit_covering(value, location, |bound| covered[bound] += 1);
                let mut expected = vec![0; bounds.len() + 1];
                expected[first_bucket_that_holds(value, &bounds)] = 1;
                prop_assert_eq!(
                    buckets.buckets(&[(location, 1)], |bound| covered[bound]),
                    expected,
                    "{} with {:?}", value, precision
                );
            }
        }
    }

    #[test]
    fn a_series_counts_every_sample_in_its_bucket((bounds, values) in bounds_and_values()) {
        for precision in PRECISIONS {
            let digits = precision.digits();
            let running = Calls { digits, bounds: bounds.clone(), ..Calls::default() }.start();
            let mut expected = vec![0; bounds.len() + 1];
            for &value in &values {
                running.call("m", value);
                expected[first_bucket_that_holds(value, &bounds)] += 1;
            }
            let (series, index) = running.find("m").unwrap();
            let metric = &running.calls().layout().histograms()[index];
            prop_assert_eq!(series.buckets(metric), expected);
        }
    }
}
