//! What tables of keys have in common.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};

use foldhash::fast::RandomState;
use serde::Serializer;

use crate::heap::{self, HeapBytes};
use crate::label::LabelSet;

/// A map that knows how much memory its table takes.
///
/// The capacity that a map tells of leaves out places of removed entries, so it is right only when
/// the map has just grown. It never shrinks: the most that it ever told is right.
pub struct KeyMap<Key, Value> {
    map: HashMap<Key, Value, RandomState>,
    capacity: usize,
}

impl<Key, Value> Default for KeyMap<Key, Value> {
    fn default() -> Self {
        Self { map: HashMap::default(), capacity: 0 }
    }
}

impl<Key: Eq + Hash, Value> KeyMap<Key, Value> {
    /// Inserts by the one way in which the map grows.
    pub fn insert(&mut self, key: Key, value: Value) {
        self.map.insert(key, value);
        self.capacity = self.capacity.max(self.map.capacity());
    }
}

impl<Key, Value> HeapBytes for KeyMap<Key, Value> {
    fn heap_bytes(&self) -> usize {
        heap::table::<(Key, Value)>(self.capacity)
    }
}

impl<Key, Value> Deref for KeyMap<Key, Value> {
    type Target = HashMap<Key, Value, RandomState>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

impl<Key, Value> DerefMut for KeyMap<Key, Value> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.map
    }
}

/// Writes a key as the list of its values.
pub fn serialize_key<S: Serializer>(key: &LabelSet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(key.values())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_places_when_entries_are_removed() {
        for (entries, places) in [(0, 0), (1, 4), (7, 8), (8, 16), (14, 16), (448, 512)] {
            let mut map = KeyMap::default();
            (0..entries).for_each(|number: u32| map.insert(number, number));
            assert_eq!(map.heap_bytes(), places * 9, "{entries}");
            map.retain(|number, _| *number == 0);
            map.insert(0, 0);
            assert_eq!(map.heap_bytes(), places.max(4) * 9, "{entries}");
        }
    }
}
