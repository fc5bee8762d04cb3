//! Results within a number of bytes.
//!
//! moka keeps them: it decides by TinyLFU what is worth its room, and gives the memory of a result
//! back once its time is over. Whether a result may still be used is decided here, by the time that the
//! caller gives, so moka's own clock decides about memory and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::key::{Key, KeyRef, Prehashed};
use super::method::Method;
use super::stamps::{Place, Stamps, Started};

/// What an entry takes beside its key and its result: allocations, the table, the lists and the
/// timer of moka. `tests/memory.rs` measures it.
pub const ENTRY_OVERHEAD_BYTES: usize = 512;

/// A result that is kept.
pub struct Entry {
    result: Box<[u8]>,
    pub(super) method: Arc<Method>,
    started: Started,
    places: [Option<Place>; 3],
    stored_ms: u64,
    /// The longest that it lives; the method's may have become shorter.
    ttl_ms: u64,
    weight: u32,
}

impl Entry {
    /// The result.
    pub fn result(&self) -> &[u8] {
        &self.result
    }

    fn is_alive(&self, now_ms: u64) -> bool {
        now_ms < self.stored_ms.saturating_add(self.ttl_ms.min(self.method.ttl_ms()))
    }
}

/// A result that is to be kept.
pub(super) struct NewEntry<'a> {
    pub(super) result: &'a [u8],
    pub(super) method: Arc<Method>,
    pub(super) started: Started,
    pub(super) places: [Option<Place>; 3],
    pub(super) ttl_ms: u64,
}

/// Results by key.
pub(super) struct Store {
    entries: Cache<Key, Arc<Entry>, Prehashed>,
    max_bytes: u64,
}

impl Store {
    pub(super) fn new(max_bytes: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Key, entry: &Arc<Entry>| entry.weight)
            .expire_after(Lives)
            .eviction_listener(|_: Arc<Key>, entry: Arc<Entry>, cause| {
                let for_room = cause == RemovalCause::Size;
                entry.method.entry_went(u64::from(entry.weight), for_room);
            })
            .build_with_hasher(Prehashed::default());
        Self { entries, max_bytes }
    }

    /// What a key and a result would take.
    pub(super) fn weight(key: usize, result: usize) -> u64 {
        (key + result + ENTRY_OVERHEAD_BYTES) as u64
    }

    /// The result of a key, if it may be used.
    #[inline]
    pub(super) fn get(&self, key: &KeyRef<'_>, stamps: &Stamps, now_ms: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key)?;
        let valid = stamps.is_valid(entry.started, &entry.method.invalidated, &entry.places);
        (valid && entry.is_alive(now_ms)).then_some(entry)
    }

    /// Keeps a result. When this returns, all results fit.
    pub(super) fn insert(&self, key: Key, new: NewEntry<'_>, now_ms: u64) {
        let weight = Self::weight(key.len(), new.result.len());
        let Some(weight) = u32::try_from(weight).ok().filter(|_| weight <= self.max_bytes) else {
            return;
        };
        new.method.entry_came(u64::from(weight));
        let entry = Entry {
            result: new.result.into(),
            method: new.method,
            started: new.started,
            places: new.places,
            stored_ms: now_ms,
            ttl_ms: new.ttl_ms,
            weight,
        };
        self.entries.insert(key, Arc::new(entry));
        // Otherwise moka would first collect some tens of insertions, which may be large.
        self.entries.run_pending_tasks();
    }

    /// Forgets a key.
    pub(super) fn remove(&self, key: &KeyRef<'_>) {
        self.entries.invalidate(key);
    }

    /// Gives the memory of results back that may not be used any more.
    pub(super) fn sweep(&self, stamps: &Stamps, now_ms: u64) {
        for (key, entry) in self.entries.iter() {
            let valid = stamps.is_valid(entry.started, &entry.method.invalidated, &entry.places);
            if !valid || !entry.is_alive(now_ms) {
                self.entries.invalidate(&key.key_ref());
            }
        }
        self.entries.run_pending_tasks();
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.entries.invalidate_all();
        self.entries.run_pending_tasks();
    }

    /// Does what moka has put off.
    pub(super) fn settle(&self) {
        self.entries.run_pending_tasks();
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.entry_count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entries.weighted_size()
    }
}

/// When moka gives the memory of a result back.
struct Lives;

impl Expiry<Key, Arc<Entry>> for Lives {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(Duration::from_millis(entry.ttl_ms))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Duration::from_millis(entry.ttl_ms))
    }
}
