//! How much a worker has to do.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::stamped::{HalfLife, Stamped, Tick};

/// Requests in flight: those by ticket, which are counted, and those whose end nobody tells, which
/// are presumed.
///
/// A presumed request fades with the expected latency as its mean life. The sum over the requests of
/// a worker is then arrivals per second times latency, which by Little's law is how many are in
/// flight on average; and whatever happens to callers, it returns to zero.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Load {
    tickets: AtomicU32,
    /// How fast what is presumed fades, as bits.
    life: AtomicU32,
    presumed: Stamped,
}

/// Where fading gets lost: less than this is nothing.
const NOTHING: f32 = 0.01;
/// How much a request says of how fast those of its worker fade.
const PART: f32 = 1.0 / 8.0;

impl Load {
    /// A request by ticket begins.
    #[inline]
    pub(crate) fn begin(&self) {
        self.tickets.fetch_add(1, Relaxed);
    }

    /// A request by ticket is over.
    #[inline]
    pub(crate) fn end(&self) {
        self.tickets.fetch_sub(1, Relaxed);
    }

    /// Requests by ticket that are in flight.
    #[inline]
    pub(crate) fn tickets(&self) -> u32 {
        self.tickets.load(Relaxed)
    }

    /// A request begins whose end may never be told, and which is expected to take so long. Of two
    /// that begin at the same moment one may go unnoticed: what is presumed is an estimate, and an
    /// atomic instruction would hold up what comes after it until the worker's cache line is here.
    /// `before` is what was presumed just now.
    #[inline]
    pub(crate) fn presume(&self, now: Tick, latency: f32, before: f32) {
        let life = self.life();
        self.presumed.set(before + 1.0, now);
        // Requests of several kinds fade with a mean of their rates, of which two that do this at once may
        // lose one's part. If there are no others to speak of, the rate is this one's.
        let part = if before < 1.0 { 1.0 } else { PART };
        let life = life.towards(HalfLife::of_mean_life(latency), part);
        self.life.store(life.to_bits(), Relaxed);
    }

    /// A request is over that was not by ticket. `false` if none was presumed.
    pub(crate) fn end_presumed(&self, now: Tick) -> bool {
        let any = self.presumed(now) > 0.0;
        if any {
            let life = self.life();
            self.presumed.update(now, |old| (faded(old, life) - 1.0).max(0.0));
        }
        any
    }

    /// Presumed requests.
    #[inline(always)]
    pub(crate) fn presumed(&self, now: Tick) -> f32 {
        let left = faded(self.presumed.since(now), self.life());
        if left > NOTHING { left } else { 0.0 }
    }

    /// All requests that are in flight.
    #[inline]
    pub(crate) fn in_flight(&self, now: Tick) -> f32 {
        self.tickets() as f32 + self.presumed(now)
    }

    #[inline(always)]
    fn life(&self) -> HalfLife {
        HalfLife::from_bits(self.life.load(Relaxed))
    }
}

/// What is left of a number that was stored some steps ago.
#[inline(always)]
fn faded(old: Option<(f32, f32)>, life: HalfLife) -> f32 {
    let (number, steps) = old.unwrap_or_default();
    number * life.left_after(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn tickets_are_counted_and_the_rest_fades() {
        let load = Load::default();
        load.begin();
        for _ in 0..10 {
            load.presume(Tick::at(0), 1e9, load.presumed(Tick::at(0)));
        }
        assert!((load.in_flight(Tick::at(0)) - 11.0).abs() < 0.01);
        assert!((load.presumed(Tick::at(SECOND)) - 3.68).abs() < 0.01);
        assert_eq!(load.in_flight(Tick::at(10 * SECOND)), 1.0);
        load.end();
        assert_eq!(load.tickets(), 0);
    }

    #[test]
    fn steady_requests_are_rate_times_latency() {
        let load = Load::default();
        // 200 a second, of 50 ms each.
        for number in 0..1_000 {
            let now = Tick::at(number * SECOND / 200);
            load.presume(now, 50e6, load.presumed(now));
        }
        let in_flight = load.presumed(Tick::at(5 * SECOND));
        assert!((9.0..11.0).contains(&in_flight), "{in_flight}");
    }

    /// The rate at which what is presumed fades is that of a single request that is alone, and a mean of all if
    /// there are others.
    #[test]
    fn one_request_beside_another_changes_only_a_part_of_the_rate() {
        let fades_to = |before: f32| {
            let load = Load::default();
            load.presume(Tick::at(0), 1e9, 0.0);
            load.presume(Tick::at(0), 1e12, before);
            load.presumed(Tick::at(SECOND)) / (before + 1.0)
        };
        // Alone, it is nearly all there after a second.
        assert!(fades_to(0.0) > 0.99, "{}", fades_to(0.0));
        assert!(fades_to(0.9) > 0.99, "{}", fades_to(0.9));
        assert!(fades_to(1.0) < 0.5, "{}", fades_to(1.0));
    }

    #[test]
    fn what_is_over_is_no_longer_presumed_and_never_less_than_nothing() {
        let load = Load::default();
        load.presume(Tick::at(0), 1e9, 0.0);
        assert!(load.end_presumed(Tick::at(0)));
        assert!(!load.end_presumed(Tick::at(0)));
        assert_eq!(load.presumed(Tick::at(0)), 0.0);
    }
}
