//! Results that a thread has found lately, so that finding them again touches nothing that threads write
//! to together.
//!
//! A lookup in moka takes the time, reads the clock, and tells what was read through a channel that all
//! threads share; every so often it does what the others have put off. That costs more than all the rest
//! of a hit. So each thread remembers where some results are. It does not keep them: a result that
//! moka lets go of is gone, but for the few words by which it was remembered.
//!
//! What is remembered is used only if it is what the store would give (see `versions.rs`)
//! and only if it is still valid, which is decided here as it is there. So a hit here is a hit
//! there.
//!
//! moka has to know what is read often. It is told the first 15 hits, and of the rest one in
//! eight: its sketch counts up to 15 and halves its counts now and then, so more would not tell it
//! more.

use std::sync::{Arc, Weak};

use super::Cache;
use super::key::KeyRef;
use super::method::HitLane;
use super::store::Entry;
use super::versions::Version;

/// Sets of two places: 2,048 results, in 64 KiB.
const SETS: usize = 1_024;

/// How many hits of a remembered result moka is told.
const TOLD: u32 = 15;

/// Of the others, it is told one in so many.
const ONE_IN: u32 = 8;

/// What a thread remembers of one cache.
pub struct Front {
    sets: Box<[[Slot; 2]]>,
    lane: HitLane,
}

#[derive(Default)]
struct Slot {
    hash: u64,
    version: Version,
    hits: u32,
    entry: Weak<Entry>,
}

impl Default for Front {
    fn default() -> Self {
        let sets = (0..SETS).map(|_| Default::default()).collect();
        Self { sets, lane: HitLane::default() }
    }
}

impl Front {
    /// The same as [`Cache::get`].
    #[inline]
    pub fn get(&mut self, cache: &Cache, key: KeyRef<'_>, now_ms: u64) -> Option<Arc<Entry>> {
        let version = cache.store.version(key.hash());
        // Not the bits that places have in common.
        let set = &mut self.sets[(key.hash() >> 32) as usize % SETS];
        for slot in set {
            if slot.hash != key.hash() || slot.version != version {
                continue;
            }
            let Some(entry) = slot.entry.upgrade() else { continue };
            if entry.is_of(&key) && entry.is_usable(&cache.stamps, now_ms) {
                slot.hits = slot.hits.wrapping_add(1);
                if slot.hits <= TOLD || slot.hits.is_multiple_of(ONE_IN) {
                    cache.store.read(&key);
                }
                entry.method.hit(self.lane);
                return Some(entry);
            }
        }
        self.find(cache, key, version, now_ms)
    }

    #[cold]
    fn find(
        &mut self,
        cache: &Cache,
        key: KeyRef<'_>,
        version: Version,
        now_ms: u64,
    ) -> Option<Arc<Entry>> {
        let entry = cache.store.get(&key, &cache.stamps, now_ms)?;
        let [first, second] = &mut self.sets[(key.hash() >> 32) as usize % SETS];
        if first.hash != key.hash() {
            std::mem::swap(first, second);
        }
        *first = Slot { hash: key.hash(), version, hits: 0, entry: Arc::downgrade(&entry) };
        entry.method.hit(self.lane);
        Some(entry)
    }
}
