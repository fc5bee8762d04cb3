//! Histograms agree with the `hdrhistogram` crate, bucket for bucket.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Barrier;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_common::thread_number::set_exclusive_lanes;
use telemetry_recording::encoding;
use telemetry_recording::histogram::MAX_VALUE;
use telemetry_testing::{Calls, RunningCalls, cases};
use telemetry_windows::quantiles::Samples;

const DIGITS: std::ops::RangeInclusive<u8> = 1..=3;

/// Uniform, log-uniform, small, and around every power of two.
fn value() -> impl Strategy<Value = u64> {
    let log_uniform =
        (0..63_u32, any::<u64>()).prop_map(|(bits, random)| random >> (63 - bits) >> 1);
    let boundary = (0..63_u32, 0..3_u64).prop_map(|(bits, off)| (1_u64 << bits) + off - 1);
    let largest = MAX_VALUE - 2..=MAX_VALUE;
    prop_oneof![
        1 => 0..=MAX_VALUE,
        4 => log_uniform,
        3 => boundary,
        1 => 0..5_000_u64,
        1 => largest,
    ]
}

/// Fewer than `most` values, in the whole range or in any shorter one.
fn values(most: usize) -> impl Strategy<Value = Vec<u64>> {
    let limit = prop_oneof![1 => Just(u64::MAX), 3 => value().prop_map(|value| value + 1)];
    (limit, vec(value(), 1..most)).prop_map(|(limit, mut values)| {
        values.iter_mut().for_each(|value| *value %= limit);
        values
    })
}

/// Records the values from three threads at once, of which two have lanes of their own.
fn record(running: &RunningCalls, values: &[u64]) {
    set_exclusive_lanes(2);
    const THREADS: usize = 3;
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                // The first event gives the thread its number; none ends before all have one.
                running.call("warm", 0);
                barrier.wait();
                values.iter().skip(thread).step_by(THREADS).for_each(|&value| {
                    running.call("m", value);
                });
            });
        }
    });
}

fn oracle(digits: u8, values: &[u64]) -> Histogram<u64> {
    let mut histogram = Histogram::new(digits).unwrap();
    values.iter().for_each(|&value| histogram.record(value).unwrap());
    histogram
}

fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn every_bucket_counts_what_the_hdrhistogram_crate_counts(values in values(300)) {
        for digits in DIGITS {
            let running = Calls { digits, ..Calls::default() }.start();
            record(&running, &values);
            let (series, index) = running.find("m").unwrap();
            let expected = oracle(digits, &values);
            prop_assert_eq!(buckets(&series.snapshot(index)), buckets(&expected));
            prop_assert_eq!(series.snapshot(index), expected);
            prop_assert_eq!(running.count(&series), values.len() as u64);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_hdrhistogram_crate_but_never_above_the_maximum(
        values in values(200),
        others in values(100),
        quantiles in vec(0.0..=1.0, 1..20),
    ) {
        for digits in DIGITS {
            let running = Calls { digits, ..Calls::default() }.start();
            values.iter().for_each(|&value| { running.call("a", value); });
            others.iter().for_each(|&value| { running.call("b", value); });
            let metric = &running.calls().layout().histograms()[0];
            let mut samples = Samples::new(metric);
            for method in ["a", "b"] {
                let (series, _) = running.find(method).unwrap();
                samples.add(&series.point(running.calls().layout()), metric);
            }
            let all = [&values[..], &others].concat();
            let max = *all.iter().max().unwrap();
            let oracle = oracle(digits, &all);
            for quantile in quantiles.iter().copied().chain([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]) {
                let expected = oracle.value_at_quantile(quantile).min(max);
                prop_assert_eq!(samples.quantile(quantile), Some(expected), "{}", quantile);
            }
            prop_assert_eq!(samples.quantile(1.0), Some(max));
        }
    }

    #[test]
    fn encodings_are_read_back_by_the_hdrhistogram_crate_as_the_same_histogram(
        values in values(100),
    ) {
        for digits in DIGITS {
            let running = Calls { digits, ..Calls::default() }.start();
            values.iter().for_each(|&value| { running.call("m", value); });
            let (series, index) = running.find("m").unwrap();
            let encoded = encoding::encode(&series, index).unwrap();
            let expected = oracle(digits, &values);
            for bytes in [encoded.v2, encoded.v2_compressed] {
                let read: Histogram<u64> =
                    Deserializer::new().deserialize(&mut Cursor::new(bytes)).unwrap();
                prop_assert_eq!(buckets(&read), buckets(&expected));
                prop_assert_eq!((read.min(), read.max()), (expected.min(), expected.max()));
            }
        }
    }
}

#[test]
fn no_quantile_is_above_the_largest_sample() {
    for digits in DIGITS {
        let running = Calls { digits, ..Calls::default() }.start();
        running.call("m", 1_000_001);
        let metric = &running.calls().layout().histograms()[0];
        let mut samples = Samples::new(metric);
        let (series, _) = running.find("m").unwrap();
        samples.add(&series.point(running.calls().layout()), metric);
        for quantile in [0.5, 0.9, 1.0] {
            assert_eq!(samples.quantile(quantile), Some(1_000_001));
        }
    }
}

/// The ends of the range, and the values around every power of two, each on its own: a random
/// choice could miss one.
#[test]
fn every_boundary_falls_into_the_bucket_of_the_hdrhistogram_crate() {
    let boundaries = (0..63).flat_map(|bits| {
        let power = 1_u64 << bits;
        [power - 1, power, power + 1, power + power / 2]
    });
    let values: BTreeSet<_> = boundaries.chain([MAX_VALUE - 1, MAX_VALUE]).collect();
    for digits in DIGITS {
        let running = Calls { digits, ..Calls::default() }.start();
        for &value in &values {
            running.call(&value.to_string(), value);
            let (series, index) = running.find(&value.to_string()).unwrap();
            assert_eq!(
                buckets(&series.snapshot(index)),
                buckets(&oracle(digits, &[value])),
                "{value} at {digits} digits"
            );
        }
    }
}
