//! What is allocated, by the allocator's count and by the library's own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::{Calls, Crew, Given, Running, send, text};
use serde_json::{Value, json};
use telemetry_core::label::LabelSet;
use telemetry_core::series::Series;
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

/// Held by each test, because the allocator counts for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const LANES: usize = 2;
const SERIES: usize = 500;

/// Threads that have recorded before.
fn crew() -> Crew {
    assert_eq!(set_exclusive_lanes(LANES), LANES);
    let crew = Crew::new(LANES);
    let running = Arc::new(Calls::default().start());
    for thread in 0..crew.len() {
        let running = Arc::clone(&running);
        crew.run(thread, move || running.call("m", 1));
    }
    crew
}

/// A counter with these dimensions, and histograms with these bounds.
fn start(dimensions: &Value, bounds: &[&[u64]], digits: u8) -> Running {
    let histogram = |(at, bounds): (usize, &&[u64])| json!({"name": format!("histogram{at}"), "unit": "nanosecond", "bounds": bounds});
    let observe = |at| json!({"histogram": format!("histogram{at}"), "field": 0});
    let constants = dimensions.as_array().unwrap().iter().map(|_| json!({"constant": 0}));
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method"],
            "counters": [{"name": "total", "dimensions": dimensions}],
            "histograms": bounds.iter().enumerate().map(histogram).collect::<Vec<_>>(),
            "digits": digits,
            "series_limit": SERIES,
        }],
        "plans": [{
            "event": "call.stop",
            "fields": [common::measurement(true), text(true)],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 1}],
                "counts": [{"counter": "total", "dimensions": constants.collect::<Vec<_>>()}],
                "observes": (0..bounds.len()).map(observe).collect::<Vec<_>>(),
            }}],
        }],
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

/// Records into every series from every lane. Returns what one series took by its own account,
/// which is checked against the allocator's.
fn bytes_per_series(what: &str, start: impl FnOnce() -> Running) -> usize {
    // What is allocated once for all and stays.
    crew().end();
    let nothing = ALLOCATED.load(Relaxed);
    let running = start();
    let memory = |running: &Running| running.instance.info().memory_bytes;
    let (before, told_before) = (ALLOCATED.load(Relaxed), memory(&running));
    let plan = running.plans[0];
    let crew = crew();
    for thread in 0..crew.len() {
        crew.run(thread, move || {
            for series in 0..SERIES {
                let method = format!("method_{series}");
                for value in THREE_DECADES {
                    send(plan, &[Given::Number(*value), Given::Text(&method)]);
                }
            }
        });
    }
    // With the threads goes all that is theirs: caches are not part of series.
    crew.end();
    let counted = ALLOCATED.load(Relaxed) - before;
    let told = memory(&running) - told_before;
    let series = running.family("calls").series();
    let of_series: usize = series.iter().map(|series| series.memory_bytes()).sum();
    drop(series);
    println!("{what}: {} bytes allocated, {} told", counted / SERIES, told / SERIES);
    assert_eq!(of_series, told, "{what}: the series say something else than their instance");
    // The table may be half empty, and its free room is nobody's.
    let free_room = SERIES * size_of::<(LabelSet, Arc<Series>)>();
    let difference = told.abs_diff(counted);
    assert!(difference <= told / 20 + free_room, "{what}: {counted} allocated, {told} told");

    drop(running);
    let left = ALLOCATED.load(Relaxed).saturating_sub(nothing);
    // Not zero, because the test runner allocates too.
    assert!(left <= 1_024, "{what}: {left} bytes are left when the instance is gone");
    told / SERIES
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

#[test]
fn a_series_takes_what_it_says_and_no_more_than_promised() {
    let _alone = alone();
    let none = json!([]);
    let told = bytes_per_series("one counter", || start(&none, &[], 2));
    assert!(told <= 1_024, "{told} bytes for a series with counters only");
    let told = bytes_per_series("one histogram, 2 digits", || start(&none, &[BOUNDS], 2));
    assert!(told <= 16 * 1_024, "{told} bytes for a histogram series");
    for digits in [1, 3] {
        let what = format!("one histogram, {digits} digits");
        bytes_per_series(&what, || start(&none, &[BOUNDS], digits));
    }
    let booleans = json!(["true", "false"]);
    let dimensions = json!([
        {"name": "success", "values": booleans},
        {"name": "cached", "values": booleans},
    ]);
    bytes_per_series("two histograms", || start(&dimensions, &[BOUNDS, &[]], 2));
}

#[test]
fn label_sets_over_the_limit_leave_nothing_behind() {
    const LIMIT: usize = 100;
    const EVENTS: usize = 50_000;
    let _alone = alone();
    let crew = crew();
    let running = Arc::new(Calls { series_limit: LIMIT, ..Calls::default() }.start());
    let record = |from: usize, to: usize| {
        for thread in 0..crew.len() {
            let running = Arc::clone(&running);
            crew.run(thread, move || {
                for event in from..to {
                    running.call(&format!("method-{event}-of-{thread}"), 1_000);
                }
            });
        }
        ALLOCATED.load(Relaxed)
    };
    let first = record(0, EVENTS / 10);
    let last = record(EVENTS / 10, EVENTS);
    // Not exact, because the test runner allocates too.
    assert!(last.saturating_sub(first) <= 1_024, "{} bytes more", last - first);
    assert_eq!(running.total(), (LANES * EVENTS) as u64);
}
