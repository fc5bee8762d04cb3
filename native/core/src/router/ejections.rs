//! What is known of ejections without a look at workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Until when anybody is ejected, and how often that has changed: nearly always nobody is, and a
/// decision need not look.
///
/// Both are read on their own. Who has not heard of an ejection yet decides as it would have done a
/// moment before.
#[derive(Debug, Default)]
pub(crate) struct Ejections {
    until_ns: AtomicU64,
    epoch: AtomicU64,
}

impl Ejections {
    /// A worker is ejected.
    pub(crate) fn add(&self, until_ns: u64) {
        self.until_ns.fetch_max(until_ns, Relaxed);
        self.epoch.fetch_add(1, Relaxed);
    }

    /// Ejections were forgotten.
    pub(crate) fn clear(&self) {
        self.epoch.fetch_add(1, Relaxed);
    }

    /// Whether a worker may be ejected.
    #[inline]
    pub(crate) fn any(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns.load(Relaxed)
    }

    /// Changes with every ejection.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }
}
