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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ejection_begins_another_epoch_and_the_longest_counts() {
        let ejections = Ejections::default();
        let mut epochs = vec![ejections.epoch()];
        assert!(!ejections.any(0));
        for until_ns in [100, 50] {
            ejections.add(until_ns);
            epochs.push(ejections.epoch());
        }
        assert_eq!((ejections.any(99), ejections.any(100)), (true, false));
        ejections.clear();
        epochs.push(ejections.epoch());
        assert!(epochs.is_sorted_by(|earlier, later| earlier < later), "{epochs:?}");
    }
}
