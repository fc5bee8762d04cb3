//! Which keys have got another result, for those who remember results outside the store.
//!
//! Keys share `PLACES` places by hash. Who remembers a result reads the version of its place first and
//! the store afterwards; who stores one raises the version afterwards. So a remembered result whose
//! version still stands is the one that the store would give: had another been stored since it was
//! read, its version would be a later one, at the latest when storing it has returned.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(not(loom))]
const PLACES: usize = 4_096;
#[cfg(loom)]
const PLACES: usize = 1;

/// How often something was stored in each place, modulo 2^32.
///
/// A remembered result would be taken for the newest if its place were stored to exactly 2^32 times
/// between two looks at it, within the life of that result: hours, at the rate at which moka stores.
pub(super) struct Versions(Box<[AtomicU32]>);

/// The version of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version(u32);

impl Default for Versions {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Versions {
    /// Bytes allocated.
    pub(super) const BYTES: usize = PLACES * size_of::<u32>();

    /// The version of the place of a key with this hash, to be read before the store.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> Version {
        // Acquire pairs with the Release of `raise`: who reads a version finds in the store what was
        // stored before it was raised.
        Version(self.place(hash).load(Ordering::Acquire))
    }

    /// Something was stored for a key with this hash.
    pub(super) fn raise(&self, hash: u64) {
        self.place(hash).fetch_add(1, Ordering::Release);
    }

    #[inline]
    fn place(&self, hash: u64) -> &AtomicU32 {
        &self.0[(hash % PLACES as u64) as usize]
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::AtomicU64;
    use loom::{sync::Arc, thread};

    /// One stores 1, another remembers what it finds. Once storing has returned, nobody may take the
    /// old value that was remembered for the newest.
    #[test]
    fn what_was_remembered_is_not_taken_for_the_newest_after_another_was_stored() {
        loom::model(|| {
            let shared = Arc::new((Versions::default(), AtomicU64::new(0), AtomicU64::new(0)));
            let storing = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (versions, store, returned) = &*shared;
                    store.store(1, Ordering::Release);
                    versions.raise(7);
                    returned.store(1, Ordering::Release);
                })
            };
            let (versions, store, returned) = &*shared;
            let version = versions.get(7);
            let remembered = store.load(Ordering::Acquire);
            let least = returned.load(Ordering::Acquire);
            if versions.get(7) == version {
                assert!(remembered >= least, "the old value after the new one was stored");
            }
            storing.join().expect("no panic");
        });
    }
}
