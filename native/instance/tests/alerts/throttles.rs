//! Throttles against a list of admissions.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_common::throttle::{SHARED_KEY, Throttle};

use crate::{Clock, KEY_LIMIT, START_MS, When, assert_bounded, when};
use telemetry_testing::cases;

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_throttle_admits_one_in_an_interval_and_tells_of_all_others(
        interval_ms in 0..60_u64,
        steps in vec((when(), prop_oneof![8 => (0..3_usize).prop_map(Some), 1 => Just(None)]), 1..200),
    ) {
        let throttle = Throttle::new(interval_ms, 3);
        let names = ["a", "b", SHARED_KEY];
        let mut flushed_ms = 0;
        let mut entries: [(Option<u64>, u64); 3] = Default::default();
        let mut clock = Clock(START_MS);
        for (when, step) in steps {
            let now_ms = clock.read(when);
            let due = |last: Option<u64>, now_ms| last.is_none_or(|last| last + interval_ms <= now_ms);
            if let Some(number) = step {
                let (last, suppressed) = &mut entries[number];
                let seen_ms = now_ms.max(flushed_ms).max(last.unwrap_or(0));
                let expected = due(*last, seen_ms).then(|| std::mem::take(suppressed));
                match expected {
                    Some(_) => *last = Some(seen_ms),
                    None => *suppressed += 1,
                }
                prop_assert_eq!(throttle.admit(names[number], now_ms), expected);
            } else {
                flushed_ms = flushed_ms.max(now_ms);
                let told = entries.iter_mut().zip(names).filter(|((last, suppressed), _)| {
                    *suppressed > 0 && due(*last, flushed_ms)
                });
                let told: Vec<(Arc<str>, u64)> = told
                    .map(|((last, suppressed), name)| {
                        *last = Some(flushed_ms);
                        (name.into(), std::mem::take(suppressed))
                    })
                    .collect();
                prop_assert_eq!(throttle.flush(now_ms), told);
            }
        }
    }

    #[test]
    fn keys_that_share_an_entry_are_admitted_no_more_often_and_none_is_lost(
        interval_ms in 1..60_u64,
        key_limit in 0..3_usize,
        steps in vec((when(), prop_oneof![8 => (0..5_usize).prop_map(Some), 1 => Just(None)]), 1..200),
    ) {
        let throttle = Throttle::new(interval_ms, key_limit);
        let mut clock = Clock(START_MS);
        let mut admitted: BTreeMap<String, u64> = BTreeMap::new();
        let (mut calls, mut told) = (0, 0);
        for (when, step) in steps {
            let now_ms = clock.read(When { lag: 0, ..when });
            let mut admissions = Vec::new();
            if let Some(number) = step {
                calls += 1;
                if let Some(suppressed) = throttle.admit(&number.to_string(), now_ms) {
                    told += suppressed + 1;
                    admissions.push(number.to_string());
                }
            } else {
                for (key, suppressed) in throttle.flush(now_ms) {
                    told += suppressed;
                    admissions.push(key.to_string());
                }
            }
            for key in admissions {
                let before = admitted.insert(key, now_ms);
                prop_assert!(before.is_none_or(|before| now_ms - before >= interval_ms));
            }
        }
        told += throttle.flush(clock.0 + interval_ms).iter().map(|told| told.1).sum::<u64>();
        prop_assert_eq!(told, calls);
        throttle.flush(clock.0 + 2 * interval_ms);
        prop_assert_eq!(throttle.flush(u64::MAX), []);
    }
}

#[test]
fn a_late_call_does_not_admit_earlier_than_the_last_flush() {
    let throttle = Throttle::new(10, 1);
    assert_eq!(throttle.admit("a", 2), Some(0));
    assert_eq!(throttle.flush(12), []);
    // Counts as a call at 12.
    assert_eq!(throttle.admit("a", 11), Some(0));
    assert_eq!(throttle.admit("a", 21), None);
    assert_eq!(throttle.admit("a", 22), Some(1));
    throttle.clear();
    assert_eq!((throttle.admit("a", 22), throttle.admit("b", 22)), (Some(0), Some(0)));
}

#[test]
fn keys_over_the_limit_share_one_entry() {
    for key_limit in 0..3_u64 {
        let throttle = Throttle::new(10, key_limit as usize);
        let admitted = (0..6).filter(|number| throttle.admit(&format!("{number}"), 1).is_some());
        assert_eq!(admitted.count() as u64, key_limit + 1);
    }
}

#[test]
fn a_million_throttled_keys_stay_within_bounds() {
    let throttle = Throttle::new(1_000, KEY_LIMIT);
    let admit = |number: usize| {
        throttle.admit(&format!("command-{number}"), number as u64);
        if number.is_multiple_of(10_000) {
            throttle.flush(number as u64);
        }
    };
    assert_bounded(KEY_LIMIT * 200, admit, || throttle.memory_bytes());
}
