//! Results within a number of bytes.
//!
//! moka keeps them: it decides by TinyLFU what is worth its room, and gives the memory of a result
//! back once its time is over. Whether a result may still be used is decided here, by the time that the
//! caller gives, so moka's own clock decides about memory and nothing else.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::key::{Key, KeyRef, Prehashed};
use super::method::Method;
use super::stamps::{Place, Stamps, Started};
use super::versions::{Version, Versions};

/// What an entry takes beside its key and its result: allocations, the table, the lists and the
/// timer of moka, which `tests/cache_memory.rs` measures, and what whoever keeps the bytes elsewhere
/// takes for that.
pub const ENTRY_OVERHEAD_BYTES: usize = 640;

/// Bytes of a result, wherever whoever looks them up wants to have them.
pub trait Bytes: Any + Send + Sync {
    /// The bytes, always the same.
    fn bytes(&self) -> &[u8];
}

impl Bytes for Box<[u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A result that is kept.
pub struct Entry {
    key: Arc<Key>,
    result: Box<dyn Bytes>,
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
        self.result.bytes()
    }

    /// What it is kept in, if that is a `B`.
    #[inline]
    pub fn kept_in<B: Bytes>(&self) -> Option<&B> {
        (&*self.result as &dyn Any).downcast_ref()
    }

    #[inline]
    pub(super) fn is_of(&self, key: &KeyRef<'_>) -> bool {
        *key == self.key.key_ref()
    }

    #[inline]
    pub(super) fn is_usable(&self, stamps: &Stamps, now_ms: u64) -> bool {
        stamps.is_valid(self.started, &self.method.invalidated, &self.places)
            && self.is_alive(now_ms)
    }

    fn is_alive(&self, now_ms: u64) -> bool {
        now_ms < self.stored_ms.saturating_add(self.ttl_ms.min(self.method.ttl_ms()))
    }
}

/// A result that is to be kept.
pub(super) struct NewEntry {
    pub(super) key: Arc<Key>,
    pub(super) result: Box<dyn Bytes>,
    pub(super) method: Arc<Method>,
    pub(super) started: Started,
    pub(super) places: [Option<Place>; 3],
    pub(super) ttl_ms: u64,
}

/// Results by key.
pub(super) struct Store {
    entries: Cache<Arc<Key>, Arc<Entry>, Prehashed>,
    versions: Versions,
    max_bytes: u64,
}

impl Store {
    pub(super) fn new(max_bytes: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Arc<Key>, entry: &Arc<Entry>| entry.weight)
            .expire_after(Lives)
            .eviction_listener(|_: Arc<Arc<Key>>, entry: Arc<Entry>, cause| {
                let for_room = cause == RemovalCause::Size;
                entry.method.entry_went(u64::from(entry.weight), for_room);
            })
            .build_with_hasher(Prehashed::default());
        Self { entries, versions: Versions::default(), max_bytes }
    }

    /// What a key and a result would take.
    pub(super) fn weight(key: usize, result: usize) -> u64 {
        (key + result + ENTRY_OVERHEAD_BYTES) as u64
    }

    /// The result of a key, if it may be used.
    #[inline]
    pub(super) fn get(&self, key: &KeyRef<'_>, stamps: &Stamps, now_ms: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key)?;
        entry.is_usable(stamps, now_ms).then_some(entry)
    }

    /// The version of what is kept for a key, read before [`get`](Self::get).
    #[inline]
    pub(super) fn version(&self, hash: u64) -> Version {
        self.versions.get(hash)
    }

    /// Somebody has used a result without asking here.
    pub(super) fn read(&self, key: &KeyRef<'_>) {
        let _ = self.entries.get(key);
    }

    /// Keeps a result. When this returns, all results fit.
    pub(super) fn insert(&self, new: NewEntry, now_ms: u64) {
        let weight = Self::weight(new.key.len(), new.result.bytes().len());
        let Some(weight) = u32::try_from(weight).ok().filter(|_| weight <= self.max_bytes) else {
            return;
        };
        new.method.entry_came(u64::from(weight));
        let entry = Entry {
            key: Arc::clone(&new.key),
            result: new.result,
            method: new.method,
            started: new.started,
            places: new.places,
            stored_ms: now_ms,
            ttl_ms: new.ttl_ms,
            weight,
        };
        let hash = new.key.key_ref().hash();
        self.entries.insert(new.key, Arc::new(entry));
        self.versions.raise(hash);
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
            if !entry.is_usable(stamps, now_ms) {
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

impl Expiry<Arc<Key>, Arc<Entry>> for Lives {
    fn expire_after_create(
        &self,
        _: &Arc<Key>,
        entry: &Arc<Entry>,
        _: Instant,
    ) -> Option<Duration> {
        Some(Duration::from_millis(entry.ttl_ms))
    }

    fn expire_after_update(
        &self,
        _: &Arc<Key>,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Duration::from_millis(entry.ttl_ms))
    }
}
