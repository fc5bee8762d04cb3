//! Whether a worker may be given requests: failures, ejection, and the slow start after it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::estimate::ErrorRate;
use super::spec::EjectionSpec;
use super::stamped::{HalfLife, Tick};

const NS_PER_MS: u64 = 1_000_000;

/// How a worker fares.
///
/// Numbers are changed one by one: who ejects holds the router's lock, and everybody else reads one
/// number or counts failures, where being off by one in a race does no harm.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Health {
    errors: ErrorRate,
    /// When requests may come again, in nanoseconds; 0 if it was never ejected.
    ejected_until: AtomicU64,
    /// Since when it has been coming up, in nanoseconds.
    started: AtomicU64,
    /// How long the last ejection was, in nanoseconds; 0 if that is forgiven.
    last_ejection: AtomicU64,
    /// Failures since the last success.
    in_a_row: AtomicU32,
    ejections: AtomicU32,
}

impl Health {
    /// What decisions read: the first three.
    #[cfg(not(loom))]
    pub(crate) const READ_BYTES: usize = 24;

    pub(crate) fn new(started: u64) -> Self {
        Self {
            errors: ErrorRate::default(),
            in_a_row: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            last_ejection: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            started: AtomicU64::new(started),
        }
    }

    #[inline]
    pub(crate) fn error_rate(&self, now: Tick, half_life: HalfLife) -> f32 {
        self.errors.get(now, half_life)
    }

    #[inline]
    pub(crate) fn is_ejected(&self, now_ns: u64) -> bool {
        self.ejected_until.load(Relaxed) > now_ns
    }

    /// Until when it is ejected, in nanoseconds.
    pub(crate) fn ejected_until(&self, now_ns: u64) -> Option<u64> {
        Some(self.ejected_until.load(Relaxed)).filter(|until| *until > now_ns)
    }

    pub(crate) fn ejections(&self) -> u64 {
        u64::from(self.ejections.load(Relaxed))
    }

    /// How often it was ejected since it was last asked.
    pub(crate) fn take_ejections(&self) -> u64 {
        u64::from(self.ejections.swap(0, Relaxed))
    }

    /// How far it has come up, 0 to 1.
    #[inline]
    pub(crate) fn warmth(&self, now_ns: u64, slow_start_ns: u64) -> f32 {
        let age = now_ns.saturating_sub(self.started.load(Relaxed));
        if age >= slow_start_ns { 1.0 } else { age as f32 / slow_start_ns as f32 }
    }

    pub(crate) fn succeeded(&self, now: Tick, half_life: HalfLife) {
        self.errors.observe(false, now, half_life);
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
    }

    pub(crate) fn failed(&self, now: Tick, half_life: HalfLife) {
        self.errors.observe(true, now, half_life);
        self.in_a_row.fetch_add(1, Relaxed);
    }

    /// Whether it has failed often enough to be ejected, and so much more often than all workers
    /// together that it is the worker and not what is asked of it.
    pub(crate) fn is_outlier(&self, spec: &EjectionSpec, rate: f32, rate_of_all: f32) -> bool {
        /// How much above the rate of all its own has to be.
        const APART: f32 = 0.2;
        let Some(failures) = spec.failures else {
            return false;
        };
        let in_a_row = self.in_a_row.load(Relaxed);
        // One that was ejected lately has to show that it is well, unless hardly any is.
        if self.last_ejection.load(Relaxed) != 0 && in_a_row > 0 && rate_of_all < APART {
            return true;
        }
        (in_a_row >= failures || rate >= spec.error_rate) && rate >= rate_of_all + APART
    }

    /// Ejects it: the first time for the base time, and for twice as long as before if it has not
    /// been well for that long since.
    /// Returns until when.
    pub(crate) fn eject(&self, now_ns: u64, spec: &EjectionSpec, slow_start_ns: u64) -> u64 {
        let (base, longest) = (spec.base_ms * NS_PER_MS, spec.longest_ms * NS_PER_MS);
        let time = match self.last_ejection.load(Relaxed) {
            0 => base,
            last => last.saturating_mul(2),
        };
        let time = time.min(longest);
        let until = now_ns.saturating_add(time);
        self.last_ejection.store(time, Relaxed);
        self.ejected_until.store(until, Relaxed);
        // What it comes back with: nothing, and slowly.
        self.started.store(if slow_start_ns > 0 { until } else { 0 }, Relaxed);
        self.in_a_row.store(0, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        until
    }

    /// Forgives its ejections once it has been back for as long as the last one took.
    pub(crate) fn forgive(&self, now_ns: u64) {
        let last = self.last_ejection.load(Relaxed);
        let well_since = self.ejected_until.load(Relaxed);
        if last != 0 && now_ns.saturating_sub(well_since) >= last {
            self.last_ejection.store(0, Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        self.errors.clear();
        for number in [&self.ejected_until, &self.last_ejection] {
            number.store(0, Relaxed);
        }
        for number in [&self.in_a_row, &self.ejections] {
            number.store(0, Relaxed);
        }
        self.started.store(0, Relaxed);
    }
}
