//! The time of a router.

use std::sync::OnceLock;

use telemetry_common::moment::Clock;

/// Tells the time of a router, in nanoseconds. It may be some milliseconds old: deciding asks for it
/// every time.
pub type RouterClock = fn() -> u64;

/// The time of a router: that of its own clock once it is published, before that the instance's.
pub struct RouterTime {
    instance: Clock,
    own: OnceLock<RouterClock>,
}

impl RouterTime {
    pub(crate) fn new(instance: Clock) -> Self {
        Self { instance, own: OnceLock::new() }
    }

    /// Gives the router a clock of its own, unless it has one.
    pub(crate) fn set(&self, clock: RouterClock) {
        let _ = self.own.set(clock);
    }

    pub(crate) fn now(&self) -> u64 {
        self.own.get().map_or_else(|| (self.instance)().ns(), |clock| clock())
    }
}
