//! How many bytes values have on the heap.
//!
//! Every `memory_bytes` lists its parts: what its containers allocate, and what the entries of these own.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use dashmap::DashMap;

/// A container or a pointer that allocates.
pub trait HeapBytes {
    /// Bytes of its own allocation. What its entries own is not included.
    fn heap_bytes(&self) -> usize;
}

/// The sum of parts.
pub fn sum(parts: impl IntoIterator<Item = usize>) -> usize {
    parts.into_iter().sum()
}

/// Bytes of this many entries. Free room is not included.
pub fn entries<Entry>(count: usize) -> usize {
    count * size_of::<Entry>()
}

/// Bytes of a hash table with this capacity: an entry and a control byte for each place. The number of
/// places is a power of two, and an eighth of them stays free.
pub(crate) fn table<Entry>(capacity: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    let places = (capacity + capacity / 7).next_power_of_two();
    sum([entries::<Entry>(places), places])
}

/// Bytes of an `Arc` with this value: two reference counts and the value, each padded to the alignment.
pub fn shared<T: ?Sized>(value: &T) -> usize {
    let align = align_of_val(value).max(align_of::<usize>());
    let counts = entries::<usize>(2).next_multiple_of(align);
    sum([counts, size_of_val(value).next_multiple_of(align)])
}

impl<T: ?Sized> HeapBytes for Arc<T> {
    fn heap_bytes(&self) -> usize {
        shared(&**self)
    }
}

impl<T: ?Sized> HeapBytes for Box<T> {
    fn heap_bytes(&self) -> usize {
        size_of_val(&**self)
    }
}

impl HeapBytes for String {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl<T> HeapBytes for Vec<T> {
    fn heap_bytes(&self) -> usize {
        entries::<T>(self.capacity())
    }
}

impl<T> HeapBytes for VecDeque<T> {
    fn heap_bytes(&self) -> usize {
        entries::<T>(self.capacity())
    }
}

impl<Key, Value, Hasher> HeapBytes for HashMap<Key, Value, Hasher> {
    fn heap_bytes(&self) -> usize {
        table::<(Key, Value)>(self.capacity())
    }
}

/// Free places and control bytes are not included: the capacity is that of many tables together, which
/// does not say how many places each has.
impl<Key: Eq + Hash, Value, Hasher: BuildHasher + Clone> HeapBytes for DashMap<Key, Value, Hasher> {
    fn heap_bytes(&self) -> usize {
        entries::<(Key, Value)>(self.capacity())
    }
}

impl<T: HeapBytes> HeapBytes for Option<T> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::heap_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added() {
        assert_eq!([sum([]), sum([3, 4, 5])], [0, 12]);
    }

    #[test]
    fn entries_have_their_size() {
        let mut deque = VecDeque::with_capacity(5);
        deque.push_back(1_u32);
        assert_eq!([entries::<u64>(0), entries::<u64>(3)], [0, 24]);
        assert_eq!([Vec::<u16>::with_capacity(7).heap_bytes(), deque.heap_bytes()], [14, 20]);
        let boxed: Box<[u16]> = [1, 2, 3].into();
        assert_eq!([boxed.heap_bytes(), Some(boxed).heap_bytes()], [6; 2]);
        assert_eq!(None::<String>.heap_bytes(), 0);
    }

    #[test]
    fn texts_have_their_bytes_and_free_room_if_there_is_any() {
        assert_eq!(
            [Box::<str>::from("é").heap_bytes(), String::with_capacity(9).heap_bytes()],
            [2, 9]
        );
    }

    #[test]
    fn what_is_shared_has_two_counts_and_whole_words() {
        #[repr(align(64))]
        struct Aligned(#[expect(dead_code, reason = "it has a size")] [u8; 65]);
        let texts = ["", "a", "12345678", "123456789"];
        assert_eq!(texts.map(|text| Arc::<str>::from(text).heap_bytes()), [16, 24, 24, 32]);
        assert_eq!([Arc::new(1_u8).heap_bytes(), Arc::new([1_u64; 3]).heap_bytes()], [24, 40]);
        // A line for the counts.
        assert_eq!([shared(&Aligned([0; 65])), shared(&1_u128)], [64 + 128, 16 + 16]);
    }

    #[test]
    fn tables_have_an_entry_and_a_byte_for_each_place() {
        for (capacity, places) in [(0, 0), (3, 4), (7, 8), (14, 16), (448, 512)] {
            assert_eq!(table::<u32>(capacity), places * 5, "{capacity}");
        }
        let map = HashMap::<u32, u32>::with_capacity(14);
        assert_eq!([HashMap::<u8, u8>::new().heap_bytes(), map.heap_bytes()], [0, 16 * 9]);
        let sharded = DashMap::<u32, u32>::with_capacity(1_000);
        assert_eq!(sharded.heap_bytes(), sharded.capacity() * 8);
    }
}
