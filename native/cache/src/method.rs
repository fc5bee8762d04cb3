//! A method whose calls go through the cache.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use telemetry_common::lock::lock;

use telemetry_common::heap;
use telemetry_common::label::LabelSet;

use super::observed::Observed;
use super::stamps::Stamp;

/// How many counters of hits a method has.
const HIT_LANES: usize = 8;

/// Which counter of hits a thread increments. Threads get them in turn, so that no cache line moves
/// between the first few.
#[derive(Clone, Copy)]
pub(super) struct HitLane(usize);

impl HitLane {
    /// One that nobody has in particular.
    pub(super) const SHARED: Self = Self(HIT_LANES - 1);
}

impl Default for HitLane {
    fn default() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self(NEXT.fetch_add(1, Relaxed) % HIT_LANES)
    }
}

/// A counter that has a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// What is known of a method and its class, and of their results in the cache.
pub struct Method {
    labels: LabelSet,
    is_tracked: bool,
    is_declared: AtomicBool,
    hits: [Padded; HIT_LANES],
    ttl_ms: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    evicted: AtomicU64,
    too_large: AtomicU64,
    pub(super) invalidated: Stamp,
    observed: Mutex<Told>,
}

/// What was observed, and how many of the hits have been told to it.
struct Told {
    observed: Observed,
    hits: u64,
}

impl Method {
    pub(super) fn new(labels: LabelSet, is_tracked: bool, ghost_keys: usize) -> Self {
        let observed = Observed::new(ghost_keys);
        Self {
            labels,
            is_tracked,
            is_declared: AtomicBool::new(false),
            hits: Default::default(),
            ttl_ms: AtomicU64::new(u64::MAX),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            invalidated: Stamp::default(),
            observed: Mutex::new(Told { observed, hits: 0 }),
        }
    }

    /// Method and class.
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// Whether it is followed on its own, or stands for all for which there was no room.
    pub fn is_tracked(&self) -> bool {
        self.is_tracked
    }

    #[inline]
    pub(super) fn hit(&self, lane: HitLane) {
        self.hits[lane.0].0.fetch_add(1, Relaxed);
    }

    pub(super) fn refuse_large(&self, is_large: bool) {
        self.too_large.fetch_add(u64::from(is_large), Relaxed);
    }

    /// Whether the last call was declared cacheable.
    pub fn is_declared(&self) -> bool {
        self.is_declared.load(Relaxed)
    }

    pub(super) fn declare(&self, is_declared: bool) {
        if self.is_declared() != is_declared {
            self.is_declared.store(is_declared, Relaxed);
        }
    }

    /// Forgets what was observed.
    pub(super) fn clear(&self) {
        self.observed(|observed| *observed = Observed::new(1));
        self.too_large.store(0, Relaxed);
    }

    /// What was observed, up to now.
    pub(super) fn observed<R>(&self, use_it: impl FnOnce(&mut Observed) -> R) -> R {
        let mut told: MutexGuard<'_, Told> = lock(&self.observed);
        let hits = self.hits.iter().map(|lane| lane.0.load(Relaxed)).sum::<u64>();
        let new = hits - told.hits;
        told.observed.answered(new);
        told.hits = hits;
        use_it(&mut told.observed)
    }

    /// How long a result lives from when it was stored, whatever was thought then.
    #[inline]
    pub(super) fn ttl_ms(&self) -> u64 {
        self.ttl_ms.load(Relaxed)
    }

    pub(super) fn set_ttl_ms(&self, ttl_ms: u64) {
        self.ttl_ms.store(ttl_ms, Relaxed);
    }

    pub(super) fn entry_came(&self, bytes: u64) {
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn entry_went(&self, bytes: u64, for_room: bool) {
        self.entries.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        self.evicted.fetch_add(u64::from(for_room), Relaxed);
    }

    /// Results that are kept.
    pub fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Results that went because there was no room for them.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Results that were too large.
    pub fn too_large(&self) -> u64 {
        self.too_large.load(Relaxed)
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        let observed = self.observed(|observed| observed.memory_bytes());
        heap::sum([size_of::<Self>(), self.labels.memory_bytes(), observed])
    }
}

#[cfg(test)]
mod tests {
    use super::super::ghosts::Result;
    use super::super::observed::Computed;
    use super::super::rule::tests::rule;
    use super::*;

    #[test]
    fn memory_of_labels_and_of_what_was_observed_is_counted() {
        let method = Method::new(LabelSet::new(["predict", "C"]), true, 10);
        // Twelve bytes of labels in two words, after two counts.
        assert_eq!(method.memory_bytes(), size_of::<Method>() + 32);
        let call = Computed { key: 1, result: Result::Unseen, duration_ns: None };
        method.observed(|observed| observed.computed(call, 0, &rule()));
        let observed = method.observed(|observed| observed.memory_bytes());
        assert!(observed > 1);
        assert_eq!(method.memory_bytes(), size_of::<Method>() + 32 + observed);
    }
}
