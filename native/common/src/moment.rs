//! Moments: the time, as callers tell it.

/// A moment, on the clock that only counts up and on the calendar's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds on a clock that never goes back.
    pub ms: u64,
    /// Milliseconds since 1970, UTC.
    pub unix_ms: i64,
}

impl Moment {
    /// The calendar's time as a number that is not negative; before 1970 it is zero.
    pub fn unix_ms_u64(&self) -> u64 {
        self.unix_ms.max(0) as u64
    }

    /// Nanoseconds on the clock that never goes back, as far as it is that precise.
    pub fn ns(&self) -> u64 {
        self.ms.saturating_mul(1_000_000)
    }

    /// What the calendar said when the other clock said `ms`.
    pub fn unix_ms_at(&self, ms: u64) -> i64 {
        self.unix_ms.saturating_add(ms as i64).saturating_sub(self.ms as i64)
    }
}

/// Tells the time. Asked only when something out of the ordinary happens, such as an error.
pub type Clock = std::sync::Arc<dyn Fn() -> Moment + Send + Sync>;
