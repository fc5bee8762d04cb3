//! What each recording thread keeps to itself: its number and caches in front of the
//! shared tables, whose locks would be contended cache lines.
//!
//! A cache entry holds a reference to its series, so a series that leaves its table must leave the
//! caches too, those of sleeping threads included. [`drop_caches`] does that: it enters every
//! thread's state in turn, takes its caches away and drops them outside. Since a thread keeps its
//! state entered for the whole of a recording, after `drop_caches` nobody writes to a series that
//! had been taken out of its table before, and no cache keeps it alive.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use once_cell::sync::Lazy;

use crate::exclusive::Exclusive;
use crate::family::Family;
use crate::field::{Fields, Inputs, Reject};
use crate::label::{self, LabelSet, MAX_LABEL_BYTES, UNKNOWN};
use crate::plan::{Plan, PlanId};
use crate::refs::Refs;
use crate::series::Series;
use crate::thread_number::ThreadNumber;

static PLANS: Lazy<DashMap<PlanId, Arc<Plan>, RandomState>> = Lazy::new(DashMap::default);
static THREADS: Lazy<Mutex<Vec<Arc<Exclusive<Caches>>>>> = Lazy::new(Mutex::default);

thread_local! {
    static LOCAL: Local = Local::new();
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was recorded.
    Recorded,
    /// It was counted as rejected.
    Rejected(Reject),
    /// The plan's instance has stopped; nothing was counted.
    Stopped,
}

/// Records one event by the plan with this id. `decode` stores the fields that the plan asks for, or
/// says why the event is rejected; it must not record events itself.
#[inline]
pub fn record<'a>(
    id: PlanId,
    decode: impl FnOnce(&Inputs, &mut Fields<'a>) -> Result<(), Reject>,
) -> Outcome {
    LOCAL.with(|local| {
        local.caches.with(|caches| {
            let Some(plan) = caches.plans.get(id) else {
                return Outcome::Stopped;
            };
            // Every field is checked before the first is recorded: an event counts wholly or not.
            let mut fields = Fields::new();
            if let Err(reason) = decode(plan.inputs(), &mut fields) {
                plan.reject(reason);
                return Outcome::Rejected(reason);
            }
            plan.record(&fields, &local.number, &mut caches.series);
            Outcome::Recorded
        })
    })
}

/// Makes a plan known to [`record`].
pub(crate) fn publish(plan: &Arc<Plan>) {
    PLANS.insert(plan.id(), Arc::clone(plan));
}

/// Makes plans unknown to [`record`]; when it returns, nothing is being recorded by them.
pub(crate) fn withdraw<'a>(plans: impl Iterator<Item = &'a Arc<Plan>>) {
    for plan in plans {
        PLANS.remove(&plan.id());
    }
    drop_caches();
}

/// Empties the caches of all threads and waits for what they are recording. Not to be called
/// while recording.
pub(crate) fn drop_caches() {
    let states = threads().clone();
    for state in states {
        let caches = state.with(std::mem::take);
        drop(caches);
    }
}

fn threads() -> MutexGuard<'static, Vec<Arc<Exclusive<Caches>>>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Local {
    number: ThreadNumber,
    caches: Arc<Exclusive<Caches>>,
}

impl Local {
    fn new() -> Self {
        let caches = Arc::new(Exclusive::new(Caches::default()));
        threads().push(Arc::clone(&caches));
        Self { number: ThreadNumber::take(), caches }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        threads().retain(|caches| !Arc::ptr_eq(caches, &self.caches));
    }
}

#[derive(Default)]
struct Caches {
    plans: PlanCache,
    series: SeriesCache,
}

/// Plans by the low bits of their id.
#[derive(Default)]
struct PlanCache {
    entries: Vec<Option<(PlanId, Arc<Plan>)>>,
}

impl PlanCache {
    const ENTRIES: usize = 64;

    #[inline]
    fn get(&mut self, id: PlanId) -> Option<&Plan> {
        let at = id.get() as usize % Self::ENTRIES;
        if !matches!(self.entries.get(at), Some(Some((cached, _))) if *cached == id) {
            self.fetch(id, at)?;
        }
        self.entries[at].as_ref().map(|(_, plan)| &**plan)
    }

    #[cold]
    fn fetch(&mut self, id: PlanId, at: usize) -> Option<()> {
        let plan = Arc::clone(&*PLANS.get(&id)?);
        self.entries.resize(Self::ENTRIES, None);
        self.entries[at] = Some((id, plan));
        Some(())
    }
}

/// A series that was found: in the cache, or the overflow series, which is never cached because
/// a label set may get a slot of its own later.
pub(crate) enum Cached {
    /// At a place in the cache; see [`SeriesCache::get`].
    Here(usize),
    /// The limit is reached.
    Overflow(Arc<Series>),
}

/// Label values, of which `value` gives one at a time: in an array they would have to be written
/// and read again on the hot path.
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

struct Entry {
    hash: u64,
    series: Arc<Series>,
    /// For a lookup by reference: the labels as they came, and the epoch of the references.
    joined: Option<Box<(LabelSet, u64)>>,
}

/// Series by the hash of their labels: a table of pairs of entries, in which a newcomer takes the
/// free place or the one that its hash points at. It starts small and doubles while entries push
/// each other out.
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
    pub(crate) fn series<'a, 'l>(
        &'a mut self,
        family: &Family,
        labels: Labels<'l, impl Fn(usize) -> &'l [u8]>,
    ) -> Cached {
        let hash = self.hash(family, &labels);
        let found = self.find(hash, |entry| {
            entry.series.family() == family.id()
                && entry.joined.is_none()
                && entry.series.labels().equals_each(labels.count, &labels.value)
        });
        match found {
            Some(at) => Cached::Here(at),
            None => self.fetch(family, &labels.collect(), hash),
        }
    }

    /// The series of label values of which the one at `index` is a reference whose class is meant.
    #[inline]
    pub(crate) fn joined_series<'a, 'l>(
        &'a mut self,
        family: &Family,
        labels: Labels<'l, impl Fn(usize) -> &'l [u8]>,
        index: usize,
        refs: &Refs,
    ) -> Cached {
        let epoch = refs.epoch();
        // Rotated, so that a reference that reads like a class has another hash.
        let hash = self.hash(family, &labels).rotate_left(32);
        let found = self.find(hash, |entry| {
            entry.series.family() == family.id()
                && entry.joined.as_ref().is_some_and(|joined| {
                    joined.1 == epoch && joined.0.equals_each(labels.count, &labels.value)
                })
        });
        match found {
            Some(at) => Cached::Here(at),
            None => self.fetch_joined(family, &labels.collect(), index, refs, hash, epoch),
        }
    }

    /// The series at a place that a lookup has just given.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&Arc<Series>> {
        self.entries.get(at)?.as_ref().map(|entry| &entry.series)
    }

    #[cold]
    fn fetch(&mut self, family: &Family, labels: &[&[u8]], hash: u64) -> Cached {
        let normal: Vec<_> = labels.iter().map(|label| label::normalise(label)).collect();
        let key = LabelSet::new(normal.iter().map(|label| &**label));
        let Some(series) = family.get_or_create(&key) else {
            return Cached::Overflow(family.overflow_for_event());
        };
        // An entry is found by the labels as they are in the series. Labels that had to be changed
        // come this way every time.
        let hash = if key.equals(labels) {
            hash
        } else {
            self.hash(family, &Labels::new(normal.len(), |index| normal[index].as_bytes()))
        };
        let at = self.insert(Entry { hash, series, joined: None });
        Cached::Here(at)
    }

    #[cold]
    fn fetch_joined(
        &mut self,
        family: &Family,
        labels: &[&[u8]],
        index: usize,
        refs: &Refs,
        hash: u64,
        epoch: u64,
    ) -> Cached {
        let class = refs.class_of(&label::normalise(labels[index]));
        let class_bytes = class.as_ref().map_or(UNKNOWN, |class| class.as_bytes());
        let mut resolved = labels.to_vec();
        resolved[index] = class_bytes;
        let resolved = Labels::new(resolved.len(), |index| resolved[index]);
        let raw = as_they_came(labels);
        let series = match self.series(family, resolved) {
            Cached::Overflow(series) => return Cached::Overflow(series),
            Cached::Here(place) => place,
        };
        // What is not known of a reference is not remembered: it may be told any time.
        let at = match raw {
            Some(raw) if class.is_some() => match self.get(series).map(Arc::clone) {
                Some(series) => {
                    self.insert(Entry { hash, series, joined: Some(Box::new((raw, epoch))) })
                }
                None => series,
            },
            _ => series,
        };
        Cached::Here(at)
    }

    #[inline]
    fn hash<'l>(&self, family: &Family, labels: &Labels<'l, impl Fn(usize) -> &'l [u8]>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for index in 0..labels.count {
            hasher.write((labels.value)(index));
        }
        // Families differ by a multiple of an odd number, which moves all bits above the lowest set.
        hasher.finish() ^ family.id().get().wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[inline]
    fn find(&self, hash: u64, is_it: impl Fn(&Entry) -> bool) -> Option<usize> {
        let first = self.place(hash)?;
        [first, first ^ 1].into_iter().find(
            |&at| matches!(&self.entries[at], Some(entry) if entry.hash == hash && is_it(entry)),
        )
    }

    #[inline]
    fn place(&self, hash: u64) -> Option<usize> {
        let mask = self.entries.len().checked_sub(1)?;
        Some(hash as usize & mask)
    }

    /// Puts an entry in and returns its place.
    fn insert(&mut self, entry: Entry) -> usize {
        if self.pushed_out >= self.entries.len() / 2 && self.entries.len() < Self::MOST_ENTRIES {
            self.grow();
        }
        let first = self.place(entry.hash).unwrap_or(0);
        let same = |at: &usize| matches!(&self.entries[*at], Some(old) if old.hash == entry.hash);
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
        self.pushed_out = 0;
        for entry in old.into_iter().flatten() {
            self.insert(entry);
        }
        self.pushed_out = 0;
    }
}

/// Labels as they came, if they are fit to be compared with: short and valid.
fn as_they_came(labels: &[&[u8]]) -> Option<LabelSet> {
    let texts: Option<Vec<_>> = labels
        .iter()
        .map(|label| str::from_utf8(label).ok().filter(|text| text.len() <= MAX_LABEL_BYTES))
        .collect();
    texts.map(LabelSet::new)
}
