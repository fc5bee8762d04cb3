//! What is known of a latency or of a share of failures.

use super::stamped::{HalfLife, Stamped, Tick};

/// How much of the way to a sample above it a latency goes, at least.
///
/// Finagle's goes all the way. Times that scatter then look like differences: of sixteen equal workers
/// whose times are exponentially distributed, some would be avoided for nothing, which the simulation
/// shows.
const UP: f32 = 1.0 / 16.0;
/// And to a sample below it.
const DOWN: f32 = 1.0 / 32.0;
/// How much a failure or a success says of the share of failures of a worker.
const WORKER_ERRORS: f32 = 1.0 / 16.0;
/// And of all workers.
const ALL_ERRORS: f32 = 1.0 / 128.0;

/// A latency in nanoseconds: an average that forgets with time and follows peaks faster than it
/// comes down from them.
#[derive(Debug, Default)]
pub(crate) struct Latency(Stamped);

impl Latency {
    /// What was known when it was last changed, and what is left of it now.
    #[inline]
    pub(crate) fn get(&self, now: Tick, half_life: HalfLife) -> Option<(f32, f32)> {
        let (latency, at) = self.0.get()?;
        Some((latency, half_life.left_after(now.since(at))))
    }

    /// What it is now where it returns to `usual` while nothing is heard.
    #[inline(always)]
    pub(crate) fn towards(&self, usual: f32, now: Tick, half_life: HalfLife) -> Option<f32> {
        let (latency, steps) = self.0.since(now)?;
        Some(usual + (latency - usual) * half_life.roughly_left_after(steps))
    }

    /// Adds a sample.
    pub(crate) fn observe(&self, sample: f32, now: Tick, half_life: HalfLife) {
        self.0.update(now, |old| match old {
            None => sample,
            Some((latency, steps)) => {
                let least = if sample > latency { UP } else { DOWN };
                let weight = least.max(1.0 - half_life.left_after(steps));
                latency + (sample - latency) * weight
            }
        });
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

/// The share of requests that fail, lately.
#[derive(Debug, Default)]
pub(crate) struct ErrorRate(Stamped);

impl ErrorRate {
    /// The share, 0 to 1.
    #[inline]
    pub(crate) fn get(&self, now: Tick, half_life: HalfLife) -> f32 {
        match self.0.get() {
            // No failure since long ago, as nearly always.
            Some((rate, _)) if rate < 1e-6 => 0.0,
            Some((rate, at)) => rate * half_life.left_after(now.since(at)),
            None => 0.0,
        }
    }

    /// Counts a request of a worker.
    pub(crate) fn observe(&self, failed: bool, now: Tick, half_life: HalfLife) {
        self.observe_weighed(failed, now, half_life, WORKER_ERRORS);
    }

    /// Counts a request of any worker.
    pub(crate) fn observe_of_all(&self, failed: bool, now: Tick, half_life: HalfLife) {
        self.observe_weighed(failed, now, half_life, ALL_ERRORS);
    }

    fn observe_weighed(&self, failed: bool, now: Tick, half_life: HalfLife, weight: f32) {
        self.0.update(now, |old| {
            let rate = old.map_or(0.0, |(rate, steps)| rate * half_life.left_after(steps));
            rate + (f32::from(u8::from(failed)) - rate) * weight
        });
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn half_life() -> HalfLife {
        HalfLife::from_ns(10 * SECOND)
    }

    #[test]
    fn a_peak_is_followed_faster_than_what_comes_after_it() {
        let (now, half_life, latency) = (Tick::at(SECOND), half_life(), Latency::default());
        latency.observe(10.0, now, half_life);
        latency.observe(110.0, now, half_life);
        assert_eq!(latency.get(now, half_life), Some((16.25, 1.0)));
        latency.observe(0.25, now, half_life);
        assert_eq!(latency.get(now, half_life), Some((15.75, 1.0)));
    }

    #[test]
    fn what_is_not_confirmed_returns_to_what_is_usual() {
        let (half_life, latency) = (half_life(), Latency::default());
        latency.observe(100.0, Tick::at(0), half_life);
        let later = Tick::at(10 * SECOND);
        let now = latency.towards(20.0, later, half_life).expect("a sample");
        assert!((now - 60.0).abs() < 0.1, "{now}");
        // A sample after a long silence counts for as much as all before.
        latency.observe(0.0, later, half_life);
        let (now, _) = latency.get(later, half_life).expect("a sample");
        assert!((now - 50.0).abs() < 0.1, "{now}");
    }

    #[test]
    fn failures_in_a_row_raise_the_rate_and_time_forgives() {
        let (now, half_life, errors) = (Tick::at(SECOND), half_life(), ErrorRate::default());
        for _ in 0..5 {
            errors.observe(true, now, half_life);
        }
        let rate = errors.get(now, half_life);
        assert!((rate - 0.276).abs() < 0.01, "{rate}");
        assert!(errors.get(Tick::at(31 * SECOND), half_life) < rate / 7.5);
        errors.observe(false, now, half_life);
        assert!(errors.get(now, half_life) < rate);
    }
}
