//! The number of series is bounded, whatever labels come in, and no event is lost to the bound.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Barrier;

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_common::label::OVERFLOW_LABEL;
use telemetry_common::thread_number::set_exclusive_lanes;
use telemetry_recording::local::RecordOutcome;
use telemetry_testing::{Calls, RunningCalls, cases, labels};

/// What went to the overflow series, which must be what the family counted as overflowed.
fn overflow_count(running: &RunningCalls) -> u64 {
    let family = running.calls();
    let count = family.existing_overflow().map_or(0, |series| running.count(&series));
    assert_eq!(family.overflow_total(), count);
    count
}

proptest! {
    #![proptest_config(cases(50))]

    #[test]
    fn the_first_label_sets_get_a_series_and_the_rest_goes_to_the_overflow_series(
        limit in 0..20_usize,
        methods in vec(0..40_u32, 0..300),
    ) {
        let running = Calls { series_limit: limit, ..Calls::default() }.start();
        let mut with_series: Vec<(u32, u64)> = Vec::new();
        let mut over = 0;
        for &method in &methods {
            prop_assert_eq!(running.call(&format!("m{method}"), 1), RecordOutcome::Recorded);
            if let Some((_, count)) = with_series.iter_mut().find(|(known, _)| *known == method) {
                *count += 1;
            } else if with_series.len() < limit {
                with_series.push((method, 1));
            } else {
                over += 1;
            }
        }
        prop_assert_eq!(running.calls().series_count(), with_series.len());
        prop_assert_eq!(running.calls().series().len(), with_series.len());
        for (method, count) in with_series {
            prop_assert_eq!(running.count_of(&format!("m{method}")), count);
        }
        prop_assert_eq!(overflow_count(&running), over);
        prop_assert_eq!(running.calls().existing_overflow().is_some(), over > 0);
    }
}

#[test]
fn the_overflow_series_is_marked_in_every_label() {
    let running = Calls { series_limit: 0, ..Calls::default() }.start();
    running.call("m", 1);
    let overflow = running.calls().existing_overflow().unwrap();
    assert_eq!(labels(&overflow), [OVERFLOW_LABEL]);
    assert_eq!(OVERFLOW_LABEL, "otel_metric_overflow");
}

#[test]
fn racing_threads_never_exceed_the_limit_and_lose_no_event() {
    const THREADS: u64 = 8;
    const LIMIT: usize = 100;
    const EVENTS: u64 = 3_000;
    set_exclusive_lanes(2);
    let running = Calls { series_limit: LIMIT, ..Calls::default() }.start();
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (running, barrier) = (&running, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for event in 0..EVENTS {
                    // Some labels are every thread's, in the same order, and some are its own.
                    let method = match event % 3 {
                        0 => format!("own-{thread}-{event}"),
                        _ => format!("all-{}", event / 4),
                    };
                    assert_eq!(running.call(&method, event), RecordOutcome::Recorded);
                    let series = running.calls().series_count();
                    assert!(series <= LIMIT, "{series} series");
                }
            });
        }
    });
    assert_eq!(running.calls().series_count(), LIMIT);
    assert_eq!(running.calls().series().len(), LIMIT);
    assert_eq!(running.total(), THREADS * EVENTS);
    assert!(overflow_count(&running) > 0);
}

#[test]
fn a_million_label_sets_take_no_more_memory_than_half_a_million() {
    const HALF: u64 = 500_000;
    const LIMIT: usize = 200;
    let running = Calls { series_limit: LIMIT, ..Calls::default() }.start();
    let mut memory = Vec::new();
    for half in 0..2 {
        for event in 0..HALF {
            running.call(&format!("method-{}", half * HALF + event), event % 1_000);
        }
        memory.push(running.instance.info().memory_bytes);
    }
    assert_eq!(memory[0], memory[1]);
    assert_eq!(running.calls().series_count(), LIMIT);
    assert_eq!(running.total(), 2 * HALF);
    assert_eq!(overflow_count(&running), 2 * HALF - LIMIT as u64);
}
