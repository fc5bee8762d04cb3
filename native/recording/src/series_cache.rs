//! A thread's cache from labels to series.
//!
//! An entry is one cache line and has all that a hit needs: the key, and the way to the thread's
//! own lane of the series. Labels of at most `EXACT_BYTES` are compared as the two overlapping
//! words that cover them; longer ones stand in the key as a digest, and are compared in full with
//! the labels of the series once the digest agrees.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::family::Family;
use crate::lane::ExclusiveLane;
use crate::series::Series;
use telemetry_common::heap::HeapBytes;
use telemetry_common::label::{self, LabelSet, MAX_LABEL_BYTES};
use telemetry_common::refs::Refs;
use telemetry_common::thread_number::ThreadNumber;

/// Longest label that a key holds exactly.
const EXACT_BYTES: usize = 16;

/// How many labels a key holds exactly.
const EXACT_LABELS: usize = 2;

/// The first and the last word of a label; see [`words`].
type Words = (u64, u64);

/// A series that was found: in the cache, or the overflow series, which is never cached because a
/// label set may get a slot of its own later.
pub(crate) enum Found {
    /// At a place in the cache; see [`SeriesCache::get`].
    Here(usize),
    /// The limit is reached.
    Overflow(Arc<Series>),
}

/// Label values, of which `value` gives one at a time: in an array they would have to be written
/// and read again on the hot path. They are cut already (see [`label::cut`]): all bytes are hashed.
pub(crate) struct Labels<'l, F: Fn(usize) -> &'l [u8]> {
    count: usize,
    value: F,
}

impl<'l, F: Fn(usize) -> &'l [u8]> Labels<'l, F> {
    #[inline]
    pub(crate) fn new(count: usize, value: F) -> Self {
        Self { count, value }
    }

    fn collect(&self) -> Vec<&'l [u8]> {
        (0..self.count).map(&self.value).collect()
    }
}

/// A label in whose place a reference stands.
#[derive(Clone, Copy)]
pub(crate) struct JoinedLabel<'l> {
    /// Which one.
    pub(crate) index: usize,
    /// What it is if nothing is known of the reference.
    pub(crate) otherwise: &'l [u8],
}

/// What an entry is found by. It has a name for each word, so that a key that has just been made stays in registers: one
/// that is written to memory word by word and read from there in wider pieces stalls the processor.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    /// The family, the lengths of the first labels, whether the lookup is by reference, and
    /// whether a digest stands for some label.
    tag: u64,
    first: Words,
    second: Words,
}

impl Key {
    const BY_REFERENCE: u64 = 1 << 63;
    const DIGEST: u64 = 1 << 62;
    /// Lengths of up to [`EXACT_BYTES`] take five bits each, above the 32 of the family.
    const LENGTH_SHIFTS: [u32; EXACT_LABELS] = [32, 37];

    fn is_digest(&self) -> bool {
        self.tag & Self::DIGEST != 0
    }
}

/// The two words that, with its length, tell a label of at most [`EXACT_BYTES`] from all others.
#[inline]
fn words(label: &[u8]) -> Option<Words> {
    #[inline]
    fn ends<const WORD: usize>(label: &[u8]) -> Option<(&[u8; WORD], &[u8; WORD])> {
        Some((label.first_chunk()?, label.last_chunk()?))
    }
    match label.len() {
        0 => Some((0, 0)),
        // First, middle and last are all bytes of up to three.
        length @ 1..4 => Some((
            u64::from_le_bytes([label[0], label[length / 2], label[length - 1], 0, 0, 0, 0, 0]),
            0,
        )),
        4..8 => ends::<4>(label).map(|(first, last)| {
            (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)))
        }),
        8..=EXACT_BYTES => ends::<8>(label)
            .map(|(first, last)| (u64::from_le_bytes(*first), u64::from_le_bytes(*last))),
        _ => None,
    }
}

#[repr(align(64))]
struct Entry {
    key: Key,
    series: Arc<Series>,
    /// The thread's own lane of the series.
    lane: Option<Arc<ExclusiveLane>>,
    /// For a lookup by reference.
    joined: Option<Box<Joined>>,
}

/// What was known when a series was found by reference.
struct Joined {
    /// The labels as they came, with the reference in the place of the class.
    labels: LabelSet,
    /// The epoch of the references.
    epoch: u64,
}

impl Entry {
    fn new(
        key: Key,
        series: Arc<Series>,
        joined: Option<Box<Joined>>,
        number: &ThreadNumber,
    ) -> Self {
        let lane = series.lanes().exclusive(number).map(Arc::clone);
        Self { key, series, lane, joined }
    }
}

/// A table of pairs of entries, in which a newcomer takes the free place or the one that its hash
/// points at. It starts small and doubles while entries push each other out.
#[derive(Default)]
pub(crate) struct SeriesCache {
    hasher: RandomState,
    entries: Vec<Option<Entry>>,
    pushed_out: usize,
}

impl SeriesCache {
    const FIRST_ENTRIES: usize = 256;
    const MOST_ENTRIES: usize = 16_384;

    /// The series of label values as they came.
    #[inline]
    pub(crate) fn series<'l>(
        &mut self,
        family: &Family,
        labels: Labels<'l, impl Fn(usize) -> &'l [u8]>,
        number: &ThreadNumber,
    ) -> Found {
        match self.find_series(family, &labels) {
            Some(at) => Found::Here(at),
            None => self.fetch(family, &labels.collect(), number),
        }
    }

    /// The series of label values of which one is a reference, where what it refers to is meant.
    #[inline]
    pub(crate) fn joined_series<'l>(
        &mut self,
        family: &Family,
        labels: Labels<'l, impl Fn(usize) -> &'l [u8]>,
        at: JoinedLabel<'l>,
        refs: &Refs,
        number: &ThreadNumber,
    ) -> Found {
        match self.find_joined(family, &labels, refs.epoch()) {
            Some(at) => Found::Here(at),
            None => self.fetch_joined(family, &labels.collect(), at, refs, number),
        }
    }

    /// The series of label values, of which one is a reference if `refs` are given, unless it has to be fetched.
    pub(crate) fn cached<'l>(
        &self,
        family: &Family,
        labels: &Labels<'l, impl Fn(usize) -> &'l [u8]>,
        refs: Option<&Refs>,
    ) -> Option<&Arc<Series>> {
        let found = match refs {
            None => self.find_series(family, labels),
            Some(refs) => self.find_joined(family, labels, refs.epoch()),
        };
        self.get(found?).map(|(series, _)| series)
    }

    #[inline]
    fn find_series<'l>(
        &self,
        family: &Family,
        labels: &Labels<'l, impl Fn(usize) -> &'l [u8]>,
    ) -> Option<usize> {
        let key = self.key(family, labels, 0);
        self.find(&key, |entry| {
            !key.is_digest() || entry.series.labels().equals_each(labels.count, &labels.value)
        })
    }

    #[inline]
    fn find_joined<'l>(
        &self,
        family: &Family,
        labels: &Labels<'l, impl Fn(usize) -> &'l [u8]>,
        epoch: u64,
    ) -> Option<usize> {
        let key = self.key(family, labels, Key::BY_REFERENCE);
        self.find(&key, |entry| {
            entry.joined.as_ref().is_some_and(|joined| {
                joined.epoch == epoch
                    && (!key.is_digest() || joined.labels.equals_each(labels.count, &labels.value))
            })
        })
    }

    /// The series at a place that a lookup has just given, and the thread's own lane of it.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<(&Arc<Series>, Option<&ExclusiveLane>)> {
        let entry = self.entries.get(at)?.as_ref()?;
        Some((&entry.series, entry.lane.as_deref()))
    }

    #[cold]
    fn fetch(&mut self, family: &Family, labels: &[&[u8]], number: &ThreadNumber) -> Found {
        let normal: Vec<_> = labels.iter().map(|label| label::normalise(label)).collect();
        let set = LabelSet::new(normal.iter().map(|label| &**label));
        let Some(series) = family.get_or_create(&set) else {
            return Found::Overflow(family.overflow_for_event());
        };
        // An entry is found by the labels as they are in the series. Labels that had to be changed
        // come this way every time.
        let labels = Labels::new(normal.len(), |index| normal[index].as_bytes());
        let key = self.key(family, &labels, 0);
        Found::Here(self.insert(Entry::new(key, series, None, number)))
    }

    #[cold]
    fn fetch_joined(
        &mut self,
        family: &Family,
        labels: &[&[u8]],
        at: JoinedLabel<'_>,
        refs: &Refs,
        number: &ThreadNumber,
    ) -> Found {
        // Before the class: if that changes meanwhile, the entry is old from the start.
        let epoch = refs.epoch();
        let class = refs.class_of(&label::normalise(labels[at.index]));
        let mut resolved = labels.to_vec();
        resolved[at.index] = class.as_ref().map_or(at.otherwise, |class| class.as_bytes());
        let resolved = Labels::new(resolved.len(), |index| resolved[index]);
        let place = match self.series(family, resolved, number) {
            Found::Overflow(series) => return Found::Overflow(series),
            Found::Here(place) => place,
        };
        // What is not known of a reference is not remembered: it may be told any time.
        let raw = as_they_came(labels).filter(|_| class.is_some());
        let (Some(raw), Some((series, _))) = (raw, self.get(place)) else {
            return Found::Here(place);
        };
        let series = Arc::clone(series);
        let labels = Labels::new(labels.len(), |index| labels[index]);
        let key = self.key(family, &labels, Key::BY_REFERENCE);
        let joined = Some(Box::new(Joined { labels: raw, epoch }));
        Found::Here(self.insert(Entry::new(key, series, joined, number)))
    }

    #[inline]
    fn key<'l>(
        &self,
        family: &Family,
        labels: &Labels<'l, impl Fn(usize) -> &'l [u8]>,
        flags: u64,
    ) -> Key {
        // Ids count up from zero: a process does not start four billion families.
        let tag = family.id().get() & 0xFFFF_FFFF | flags;
        let exactly = |index| match labels.count {
            count if index < count => {
                let label = (labels.value)(index);
                Some((words(label)?, (label.len() as u64) << Key::LENGTH_SHIFTS[index]))
            }
            _ => Some(((0, 0), 0)),
        };
        match (exactly(0), exactly(1)) {
            (Some((first, length)), Some((second, other))) if labels.count <= EXACT_LABELS => {
                Key { tag: tag | length | other, first, second }
            }
            (first, second) => {
                let of = |label: Option<(Words, u64)>| label.unwrap_or_default();
                let ((first, length), (second, other)) = (of(first), of(second));
                let exact = Key { tag: tag | length | other, first, second };
                self.digest(exact, labels)
            }
        }
    }

    /// A key where not all labels are held exactly.
    #[inline(never)]
    fn digest<'l>(&self, exact: Key, labels: &Labels<'l, impl Fn(usize) -> &'l [u8]>) -> Key {
        let mut key = Key { tag: exact.tag | Key::DIGEST, ..exact };
        for index in 0..labels.count {
            let label = (labels.value)(index);
            debug_assert!(label.len() <= MAX_LABEL_BYTES, "{} bytes were not cut", label.len());
            if index < EXACT_LABELS && label.len() <= EXACT_BYTES {
                continue;
            }
            let mut hasher = self.hasher.build_hasher();
            hasher.write(label);
            let words = if index == 0 { &mut key.first } else { &mut key.second };
            words.0 = words.0.rotate_left(7) ^ hasher.finish();
            words.1 ^= label.len() as u64;
        }
        key
    }

    #[inline]
    fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for word in [key.tag, key.first.0, key.first.1, key.second.0, key.second.1] {
            hasher.write_u64(word);
        }
        hasher.finish()
    }

    #[inline]
    fn find(&self, key: &Key, is_it: impl Fn(&Entry) -> bool) -> Option<usize> {
        let first = self.place(key)?;
        [first, first ^ 1].into_iter().find(
            |&at| matches!(&self.entries[at], Some(entry) if entry.key == *key && is_it(entry)),
        )
    }

    /// Bytes of the table.
    pub(crate) fn table_bytes(&self) -> usize {
        self.entries.heap_bytes()
    }

    #[inline]
    fn place(&self, key: &Key) -> Option<usize> {
        let mask = self.entries.len().checked_sub(1)?;
        Some(self.hash(key) as usize & mask)
    }

    /// Puts an entry in and returns its place.
    fn insert(&mut self, entry: Entry) -> usize {
        if self.pushed_out >= self.entries.len() / 2 && self.entries.len() < Self::MOST_ENTRIES {
            self.grow();
        }
        let first = self.place(&entry.key).unwrap_or(0);
        let same = |at: &usize| matches!(&self.entries[*at], Some(old) if old.key == entry.key);
        let free = |at: &usize| self.entries[*at].is_none();
        let pair = [first, first ^ 1];
        let at = pair.into_iter().find(same).or_else(|| pair.into_iter().find(free));
        if at.is_none() {
            self.pushed_out += 1;
        }
        let at = at.unwrap_or(first);
        self.entries[at] = Some(entry);
        at
    }

    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(Self::FIRST_ENTRIES);
        let mut larger = Vec::with_capacity(size);
        larger.resize_with(size, || None);
        let old = std::mem::replace(&mut self.entries, larger);
        for entry in old.into_iter().flatten() {
            self.insert(entry);
        }
        self.pushed_out = 0;
    }
}

/// Labels as they came, if they are fit to be compared with: valid.
fn as_they_came(labels: &[&[u8]]) -> Option<LabelSet> {
    let texts: Option<Vec<_>> = labels.iter().map(|label| str::from_utf8(label).ok()).collect();
    texts.map(LabelSet::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_cache_line() {
        assert_eq!(size_of::<Option<Entry>>(), 64);
    }

    #[test]
    fn words_and_length_tell_short_labels_apart() {
        // All labels over a two-letter alphabet up to nine bytes, and neighbours of the limits.
        let mut seen = std::collections::HashMap::new();
        for length in 0..=9usize {
            for bits in 0..1u32 << length {
                let label: Vec<u8> =
                    (0..length).map(|at| if bits >> at & 1 == 1 { b'b' } else { b'a' }).collect();
                let twin = seen.insert((length, words(&label)), label.clone());
                assert_eq!(twin, None, "{label:?}");
            }
        }
        for length in 9..=EXACT_BYTES {
            let label = vec![b'a'; length];
            for at in 0..length {
                let mut other = label.clone();
                other[at] = b'b';
                assert_ne!(words(&label), words(&other));
            }
        }
        assert_eq!(words(&[b'a'; EXACT_BYTES + 1]), None);
    }

    #[test]
    fn memory_of_the_table_is_counted() {
        let mut cache = SeriesCache::default();
        assert_eq!(cache.table_bytes(), 0);
        cache.grow();
        assert_eq!(cache.table_bytes(), SeriesCache::FIRST_ENTRIES * 64);
    }
}
