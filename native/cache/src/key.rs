//! What a result is found by.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use equivalent::Equivalent;
use foldhash::quality::RandomState;

/// The bytes that stand for a call, and their hash.
///
/// Two calls are the same where the bytes are: a table compares them all, so what would follow from
/// two that have the same hash is that one search takes longer. The hash is seeded anew for every
/// cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    hash: u64,
    bytes: &'a [u8],
}

/// A [`KeyRef`] with bytes of its own.
#[derive(PartialEq, Eq)]
pub struct Key {
    hash: u64,
    bytes: Box<[u8]>,
}

/// Makes keys of one cache.
#[derive(Default)]
pub struct Hashing(RandomState);

impl Hashing {
    /// The key with these bytes.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> KeyRef<'a> {
        KeyRef { hash: self.hash(bytes), bytes }
    }

    /// The hash of other bytes.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

impl KeyRef<'_> {
    /// The hash of the bytes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// A key that lives on.
    pub fn to_key(self) -> Key {
        Key { hash: self.hash, bytes: self.bytes.into() }
    }
}

impl Key {
    /// The same key, borrowed.
    pub fn key_ref(&self) -> KeyRef<'_> {
        KeyRef { hash: self.hash, bytes: &self.bytes }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.key_ref()
    }
}

impl Equivalent<Arc<Key>> for KeyRef<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        *self == key.key_ref()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({} bytes, {:x})", self.bytes.len(), self.hash)
    }
}

/// For tables of keys: takes the hash that the key has.
#[derive(Clone, Copy, Default)]
pub struct Prehashed(u64);

impl BuildHasher for Prehashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
