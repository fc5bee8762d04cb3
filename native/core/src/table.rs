//! What tables of keys have in common.

use std::collections::HashMap;
use std::mem::size_of;

use serde::Serializer;

use crate::label::LabelSet;

/// Writes a key as the list of its values.
pub(crate) fn serialize_key<S: Serializer>(
    key: &LabelSet,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(key.values())
}

/// Bytes of a map's own table: an entry and a control byte for each place. There are a power of two
/// places, of which an eighth stays free. The map's capacity leaves out places of removed entries;
/// the power of two makes up for that unless most of them are such.
pub(crate) fn table_bytes<Key, Value, State>(map: &HashMap<Key, Value, State>) -> usize {
    match map.capacity() {
        0 => 0,
        capacity => (capacity + capacity / 7).next_power_of_two() * (size_of::<(Key, Value)>() + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_power_of_two_places() {
        for (entries, places) in [(0, 0), (1, 4), (7, 8), (8, 16), (14, 16), (448, 512)] {
            let map: HashMap<u32, u32> = (0..entries).map(|number| (number, number)).collect();
            assert_eq!(table_bytes(&map), places * 9, "{entries}");
        }
    }
}
