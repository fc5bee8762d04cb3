//! The names that occur most, in bounded memory.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005, "Efficient Computation of Frequent and Top-k
//! Elements in Data Streams"), weighted, with declared names that are never given up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::heap::{self, HeapBytes};

/// A name and what is known of its count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub name: Arc<str>,
    /// The most that the name can have been counted.
    pub count: u64,
    /// By how much `count` can be too high; 0 where it is exact.
    pub error: u64,
    /// The part of `count` that was restored. All of a snapshot will be: it has 0 here.
    #[serde(skip)]
    pub before: u64,
    /// When the name was first counted since it has an entry, in Unix milliseconds; 0 if never.
    pub first_unix_ms: u64,
    /// When it was last counted.
    pub last_unix_ms: u64,
    /// Whether the name is declared.
    pub declared: bool,
}

impl Entry {
    /// Whether the name was counted since it has an entry. Only a declared name may not have been.
    pub fn is_used(&self) -> bool {
        self.count > self.error
    }

    /// The part of `count` that was not restored.
    pub fn since_start(&self) -> u64 {
        self.count.saturating_sub(self.before)
    }

    fn add(&mut self, weight: u64, at_unix_ms: u64) {
        let first = if self.is_used() { self.first_unix_ms } else { at_unix_ms };
        self.first_unix_ms = first.min(at_unix_ms);
        self.last_unix_ms = self.last_unix_ms.max(at_unix_ms);
        self.count = self.count.saturating_add(weight);
    }
}

/// All of a [`SpaceSaving`], for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The sum of all weights.
    pub total: u64,
    /// See [`SpaceSaving::floor`].
    pub floor: u64,
    /// All entries.
    pub entries: Vec<Entry>,
}

/// Counts names, exactly while no more than `capacity` of them are known, and the frequent ones
/// nearly so beyond that.
///
/// A newcomer that finds no room takes the place of the name with the smallest count. It may have
/// been counted and given up before, at most [`floor`](Self::floor) times: it starts there, and
/// that is its error. Hence, whatever is added and declared:
///
/// - the true count of a name with an entry is within `count - error ..= count`;
/// - that of a name without one is at most the floor;
/// - no error exceeds the floor, and the floor is at most `total / capacity`: `capacity` times the
///   floor, plus whatever counts exceed the floor by, is never more than the total;
/// - so every name that makes up more than `total / capacity` has an entry;
/// - the counts add up to the total as long as nothing was declared.
///
/// The third and the fourth hold for the smallest capacity that a restored summary ever had.
///
/// Declared names have entries that are never given up and take no room from the others. One that
/// is declared before anything was given up is exact for ever.
pub struct SpaceSaving {
    capacity: usize,
    total: u64,
    before: u64,
    floor: u64,
    slots: Vec<Slot>,
    ids: HashMap<Arc<str>, usize, RandomState>,
    /// A binary min-heap by count of the slots that can be given up.
    heap: Vec<usize>,
    text_bytes: usize,
}

struct Slot {
    entry: Entry,
    /// Where the heap has this slot; meaningless for a declared name.
    place: usize,
}

impl SpaceSaving {
    /// An empty summary of at most `capacity` names besides the declared ones; at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            total: 0,
            before: 0,
            floor: 0,
            slots: Vec::new(),
            ids: HashMap::default(),
            heap: Vec::new(),
            text_bytes: 0,
        }
    }

    /// Counts a name, in O(log capacity). A weight of 0 changes nothing.
    pub fn add(&mut self, name: &str, weight: u64, at_unix_ms: u64) {
        if weight == 0 {
            return;
        }
        self.total = self.total.saturating_add(weight);
        if let Some(&id) = self.ids.get(name) {
            self.slots[id].entry.add(weight, at_unix_ms);
            if !self.slots[id].entry.declared {
                self.sink(self.slots[id].place);
            }
            return;
        }
        self.give_up_all_but(self.capacity - 1);
        let mut entry = self.unused(name);
        entry.add(weight, at_unix_ms);
        self.insert(entry);
    }

    /// Makes these the declared names and says whether that changed anything. No more than
    /// `capacity` of them survive a restart: see [`restore`](Self::restore).
    ///
    /// A name keeps its numbers if it has an entry. Names that are no longer declared become
    /// ordinary ones if they were used, and are forgotten otherwise.
    pub fn declare(&mut self, names: &BTreeSet<&str>) -> bool {
        let undeclared = self.undeclare_all_but(names);
        let mut changed = undeclared;
        for name in names {
            match self.ids.get(*name) {
                Some(&id) if self.slots[id].entry.declared => continue,
                Some(&id) => {
                    self.take_from_heap(self.slots[id].place);
                    self.slots[id].entry.declared = true;
                }
                None => {
                    let entry = Entry { declared: true, ..self.unused(name) };
                    self.insert(entry);
                }
            }
            changed = true;
        }
        self.give_up_all_but(self.capacity);
        changed
    }

    /// Forgets all counts. Declared names stay declared.
    pub fn clear(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        *self = Self::new(self.capacity);
        for slot in slots.into_iter().filter(|slot| slot.entry.declared) {
            let entry = Entry { declared: true, ..self.unused(&slot.entry.name) };
            self.insert(entry);
        }
    }

    /// All of it, the entries in no particular order.
    pub fn keep(&self) -> Kept {
        let entries = self.entries().map(|entry| Entry { before: 0, ..entry.clone() }).collect();
        Kept { total: self.total, floor: self.floor, entries }
    }

    /// Replaces everything, declarations included, by what was kept. Should that have more
    /// declared names than `capacity`, then none stays declared.
    pub fn restore(&mut self, kept: Kept) {
        *self = Self::new(self.capacity);
        (self.total, self.before, self.floor) = (kept.total, kept.total, kept.floor);
        let declared = kept.entries.iter().filter(|entry| entry.declared).count();
        let declarable = declared <= self.capacity;
        for entry in kept.entries {
            let entry =
                Entry { before: entry.count, declared: entry.declared && declarable, ..entry };
            if (entry.declared || entry.is_used()) && !self.ids.contains_key(&entry.name) {
                self.insert(entry);
            }
        }
        self.give_up_all_but(self.capacity);
    }

    /// What is known of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.ids.get(name).map(|&id| &self.slots[id].entry)
    }

    /// All names with an entry, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().map(|slot| &slot.entry)
    }

    /// How many names have an entry, declared ones included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no name has an entry.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many names it has room for besides the declared ones.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The exact sum of all weights.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The part of the total that was restored.
    pub fn before(&self) -> u64 {
        self.before
    }

    /// The largest count that was given up, which is the most that a name without an entry can
    /// have, and the largest error. While it is 0, every count is exact.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Bytes allocated for names and entries.
    pub fn memory_bytes(&self) -> usize {
        heap::sum([
            self.text_bytes,
            self.slots.heap_bytes(),
            self.heap.heap_bytes(),
            self.ids.heap_bytes(),
        ])
    }

    /// An entry for a name that has none, before it is counted.
    fn unused(&self, name: &str) -> Entry {
        Entry {
            name: name.into(),
            count: self.floor,
            error: self.floor,
            before: 0,
            first_unix_ms: 0,
            last_unix_ms: 0,
            declared: false,
        }
    }

    fn undeclare_all_but(&mut self, names: &BTreeSet<&str>) -> bool {
        let mut changed = false;
        // From the end, because a slot that is removed is filled with the last.
        for id in (0..self.slots.len()).rev() {
            let entry = &mut self.slots[id].entry;
            if !entry.declared || names.contains(&*entry.name) {
                continue;
            }
            changed = true;
            if entry.is_used() {
                entry.declared = false;
                self.put_into_heap(id);
            } else {
                // Its count is a floor of the past, so the present one covers it.
                self.remove(id);
            }
        }
        changed
    }

    /// Gives the smallest counts up until no more than `room` names are ordinary.
    fn give_up_all_but(&mut self, room: usize) {
        while self.heap.len() > room {
            let smallest = self.heap[0];
            self.floor = self.floor.max(self.slots[smallest].entry.count);
            self.take_from_heap(0);
            self.remove(smallest);
        }
    }

    fn insert(&mut self, entry: Entry) {
        let id = self.slots.len();
        self.text_bytes += entry.name.heap_bytes();
        self.ids.insert(Arc::clone(&entry.name), id);
        let ordinary = !entry.declared;
        self.slots.push(Slot { entry, place: 0 });
        if ordinary {
            self.put_into_heap(id);
        }
    }

    /// Removes a slot that is not in the heap; the last slot gets its id.
    fn remove(&mut self, id: usize) {
        let gone = self.slots.swap_remove(id);
        self.text_bytes -= gone.entry.name.heap_bytes();
        self.ids.remove(&gone.entry.name);
        if let Some(moved) = self.slots.get(id) {
            if let Some(known) = self.ids.get_mut(&moved.entry.name) {
                *known = id;
            }
            if !moved.entry.declared {
                self.heap[moved.place] = id;
            }
        }
    }

    fn put_into_heap(&mut self, id: usize) {
        self.heap.push(id);
        self.rise(self.heap.len() - 1);
    }

    fn take_from_heap(&mut self, place: usize) {
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            // If it rises, its former parent is here, which stays.
            self.rise(place);
            self.sink(place);
        }
    }

    /// Moves what is at `place` towards the root until its parent counts no more than it does.
    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.count_at(place) < self.count_at((place - 1) / 2) {
            self.heap.swap(place, (place - 1) / 2);
            self.note_place(place);
            place = (place - 1) / 2;
        }
        self.note_place(place);
    }

    /// Moves what is at `place` away from the root until its children count no less than it does.
    fn sink(&mut self, mut place: usize) {
        while let Some(child) = self.smaller_child(place)
            && self.count_at(child) < self.count_at(place)
        {
            self.heap.swap(place, child);
            self.note_place(place);
            place = child;
        }
        self.note_place(place);
    }

    fn smaller_child(&self, place: usize) -> Option<usize> {
        let children = 2 * place + 1..self.heap.len().min(2 * place + 3);
        children.min_by_key(|&child| self.count_at(child))
    }

    fn count_at(&self, place: usize) -> u64 {
        self.slots[self.heap[place]].entry.count
    }

    fn note_place(&mut self, place: usize) {
        self.slots[self.heap[place]].place = place;
    }
}

#[cfg(test)]
mod tests;
