//! Spikes, anomalies and throttles against naive models, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

#[path = "alerts/anomalies.rs"]
mod anomalies;
#[path = "alerts/spikes.rs"]
mod spikes;
#[path = "alerts/throttles.rs"]
mod throttles;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;
use telemetry_common::label::LabelSet;

/// Counts for each thread, so that tests may run at the same time.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to `System` as it came; counting touches no memory of the caller's,
// and thread-locals without destructor neither allocate nor go away.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        ALLOCATED.set(ALLOCATED.get().wrapping_add(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.set(ALLOCATED.get().wrapping_sub(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key(number: usize) -> LabelSet {
    LabelSet::new([format!("method-{number}").as_str(), "Class"])
}

/// When something happens: the clock goes on by `step`, and the caller read it `lag` ago.
#[derive(Clone, Copy, Debug)]
struct When {
    step: u64,
    lag: u64,
}

fn when() -> impl Strategy<Value = When> {
    let step = prop_oneof![4 => Just(0), 8 => 0..4_u64, 3 => 0..40_u64, 1 => 0..200_u64];
    let lag = prop_oneof![3 => Just(0), 1 => 0..4_u64];
    (step, lag).prop_map(|(step, lag)| When { step, lag })
}

/// A clock that starts late enough for any lag.
struct Clock(u64);

impl Clock {
    fn read(&mut self, when: When) -> u64 {
        self.0 += when.step;
        self.0 - when.lag
    }
}

const START_MS: u64 = 1_000;

const MANY: usize = 1_000_000;
const KEY_LIMIT: usize = 1_000;

/// Calls with a million numbers and checks that neither memory nor what is told of it goes beyond
/// the bound, and that they agree.
fn assert_bounded(bound: usize, call: impl Fn(usize), memory_bytes: impl Fn() -> usize) {
    let before = ALLOCATED.get();
    for number in 0..MANY {
        call(number);
        if number % (MANY / 10) == MANY / 20 {
            let allocated = ALLOCATED.get().wrapping_sub(before);
            let told = memory_bytes();
            assert!(allocated <= bound, "{allocated} bytes after {number}");
            assert!(
                allocated.abs_diff(told) <= allocated / 5,
                "{allocated} bytes allocated, {told} told"
            );
        }
    }
}
