//! The time of the VM.

use once_cell::sync::OnceCell;
use rustler::sys::{ErlNifTimeUnit, enif_monotonic_time, enif_time_offset};
use telemetry_common::moment::Moment;

const NANOSECONDS_PER_MILLISECOND: i64 = 1_000_000;

/// When the VM started, in nanoseconds of its monotonic clock, which is negative in general.
static START: OnceCell<i64> = OnceCell::new();

/// Says when the VM started. Later calls change nothing.
pub fn start(nanoseconds: i64) {
    START.get_or_init(|| nanoseconds);
}

/// Now, in milliseconds since the start of the VM and since 1970. Only scheduler threads, dirty ones
/// included, may ask: others would get nonsense.
pub fn now() -> Moment {
    let unit = ErlNifTimeUnit::ERL_NIF_NSEC;
    // SAFETY: the functions take no pointers. Called from a thread that may not ask, they return a
    // value that is no time.
    let (monotonic, offset) = unsafe { (enif_monotonic_time(unit), enif_time_offset(unit)) };
    Moment {
        ms: since_start_ms(monotonic),
        unix_ms: monotonic.saturating_add(offset) / NANOSECONDS_PER_MILLISECOND,
    }
}

/// Now, in milliseconds since the start of the VM, for those who may ask [`now`]: up to 10 ms ago, and
/// in a second as long as the machine's clock takes it to be. Costs a tenth of [`now`].
pub fn cache_ms() -> u64 {
    /// The router's time at the start of the VM.
    static OFFSET: OnceCell<i64> = OnceCell::new();
    let start = || router::exact_ns() as i64 - (ms() as i64) * NANOSECONDS_PER_MILLISECOND;
    let start = *OFFSET.get_or_init(start);
    let since_start = (router::recent_ns() as i64).saturating_sub(start);
    (since_start / NANOSECONDS_PER_MILLISECOND).max(0) as u64
}

/// Now, in milliseconds since the start of the VM, for those who may ask [`now`].
fn ms() -> u64 {
    // SAFETY: as in `now`.
    since_start_ms(unsafe { enif_monotonic_time(ErlNifTimeUnit::ERL_NIF_NSEC) })
}

fn since_start_ms(monotonic: i64) -> u64 {
    let since_start = monotonic.saturating_sub(*START.get().unwrap_or(&0));
    (since_start / NANOSECONDS_PER_MILLISECOND).max(0) as u64
}

/// The time of routers: nanoseconds of the machine's clock that never goes back. The VM's own time
/// costs 80 ns, half of a decision.
pub mod router {
    /// Exactly.
    pub fn exact_ns() -> u64 {
        #[cfg(target_os = "linux")]
        return read(libc::CLOCK_MONOTONIC);
        #[cfg(not(target_os = "linux"))]
        return elsewhere();
    }

    /// As of the last tick of the kernel, at most 10 ms ago. Costs a tenth.
    #[inline]
    pub fn recent_ns() -> u64 {
        #[cfg(target_os = "linux")]
        return read(libc::CLOCK_MONOTONIC_COARSE);
        #[cfg(not(target_os = "linux"))]
        return elsewhere();
    }

    #[cfg(target_os = "linux")]
    #[inline]
    fn read(clock: libc::clockid_t) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a valid timespec, which the function fills in; if the kernel knew
        // no such clock, it would stay as it is.
        unsafe { libc::clock_gettime(clock, &mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    #[cfg(not(target_os = "linux"))]
    fn elsewhere() -> u64 {
        use std::time::Instant;

        use once_cell::sync::Lazy;

        static START: Lazy<Instant> = Lazy::new(Instant::now);
        START.elapsed().as_nanos() as u64
    }
}
