//! What a series takes, beside what the allocator counted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{Crew, Given, Running, send, text};
use serde_json::json;
use telemetry_core::thread_number::set_exclusive_lanes;

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to `System` as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SERIES: usize = 200;
const LANES: usize = 2;

/// A family with one counter and, with bounds, a histogram.
fn start(histogram: Option<&[u64]>) -> Running {
    let histograms: Vec<_> = histogram
        .map(|bounds| json!({"name": "duration", "unit": "nanosecond", "bounds": bounds}))
        .into_iter()
        .collect();
    let observes: Vec<_> =
        histogram.map(|_| json!({"histogram": "duration", "field": 0})).into_iter().collect();
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method"],
            "counters": [{"name": "total", "dimensions": []}],
            "histograms": histograms,
            "digits": 2,
            "series_limit": SERIES,
        }],
        "plans": [{
            "event": "call.stop",
            "fields": [common::measurement(true), text(true)],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 1}],
                "counts": [{"counter": "total", "dimensions": []}],
                "observes": observes,
            }}],
        }],
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

/// Records into every series from each thread of the crew; returns what one series takes by the
/// allocator's count and by its own.
fn bytes_per_series(crew: &Crew, running: &Running, values: &'static [u64]) -> (usize, usize) {
    let plan = running.plans[0];
    let before = ALLOCATED.load(Relaxed);
    for thread in 0..crew.len() {
        crew.run(thread, move || {
            for series in 0..SERIES {
                let method = format!("method_{series}");
                for value in values {
                    send(plan, &[Given::Number(*value), Given::Text(&method)]);
                }
            }
        });
    }
    // The caches of the threads hold references, not series; their tables are not the series'.
    let caches = crew.len() * SERIES.next_power_of_two().max(256) * 2 * 64;
    let counted = ALLOCATED.load(Relaxed) - before;
    let told: usize =
        running.family("calls").series().iter().map(|series| series.memory_bytes()).sum();
    println!("allocator {counted}, caches at most {caches}, told {told}");
    assert!(counted < told + caches + told / 10, "more is allocated than told");
    assert!(counted > told - told / 20, "less is allocated than told");
    (counted.saturating_sub(caches / 2) / SERIES, told / SERIES)
}

/// Three decades, 1 ms to 1 s in nanoseconds, every power of two touched.
const THREE_DECADES: &[u64] = &[
    1_000_000,
    2_000_000,
    4_000_000,
    8_000_000,
    16_000_000,
    32_000_000,
    64_000_000,
    128_000_000,
    256_000_000,
    512_000_000,
    1_000_000_000,
];

const BOUNDS: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// One test, because the allocator counts for the whole process.
#[test]
fn a_series_takes_what_it_says_and_no_more_than_promised() {
    assert_eq!(set_exclusive_lanes(LANES), LANES);
    let crew = Crew::new(LANES);

    let counters = start(None);
    let (counted, told) = bytes_per_series(&crew, &counters, &[1]);
    println!("counters only: {counted} bytes counted, {told} told");
    assert!(told <= 1_024, "{told} bytes for a series with counters only");

    let histograms = start(Some(BOUNDS));
    let (counted, told) = bytes_per_series(&crew, &histograms, THREE_DECADES);
    println!("histogram over three decades: {counted} bytes counted, {told} told");
    assert!(told <= 16 * 1_024, "{told} bytes for a histogram series");

    // Stopping gives all of it back.
    let before_stop = ALLOCATED.load(Relaxed);
    histograms.instance.stop();
    let freed = before_stop - ALLOCATED.load(Relaxed);
    assert!(freed >= SERIES * told, "only {freed} bytes were freed");
}
