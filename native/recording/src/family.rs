//! A family: series that share label names and metrics, bounded in number.

mod spec;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use telemetry_common::lock::lock;

use crate::departed::Departed;
use crate::error::DefinitionError;
use crate::layout::Layout;
use crate::measure::Measure;
use crate::metric::{Counter, HistogramMetric};
use crate::point::Point;
use crate::series::Series;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use telemetry_common::heap;
use telemetry_common::label::{LabelSet, MAX_LABELS, MAX_TAGS, OVERFLOW_LABEL};

pub use spec::{FamilySpec, Role, UsageKind, UsageSource};

/// Process-wide identity of a family; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FamilyId(u64);

impl FamilyId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }

    /// The number, for hashing.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Series with the same label names and metrics.
pub struct Family {
    id: FamilyId,
    name: String,
    label_names: Vec<String>,
    layout: Layout,
    series_limit: usize,
    role: Option<Role>,
    usage: Option<UsageSource>,
    table: DashMap<LabelSet, Arc<Series>, RandomState>,
    /// How many series are in the table or about to be: taken before inserting, so that the limit
    /// holds whatever threads do at once.
    slots_taken: AtomicUsize,
    overflow: RwLock<Option<Arc<Series>>>,
    departed: Mutex<Departed>,
    overflow_total: AtomicU64,
    overflow_signalled: AtomicBool,
    /// The time as it was told last, in milliseconds since 1970: no series that is created from now
    /// on has counted anything then.
    told_unix_ms: AtomicI64,
    /// What had been told at the start or the last reset.
    begun_unix_ms: AtomicI64,
}

/// The family that has this role.
pub fn with_role(families: &[Arc<Family>], role: Role) -> Option<&Arc<Family>> {
    families.iter().find(|family| family.role == Some(role))
}

impl Family {
    /// An empty family.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if it has too many labels, or a histogram's precision or bounds are not
    /// allowed.
    pub fn new(spec: FamilySpec) -> Result<Self, DefinitionError> {
        let most = if spec.measures.is_empty() { MAX_LABELS } else { MAX_TAGS };
        if spec.labels.len() > most {
            return Err(DefinitionError::Labels {
                event: spec.name.clone(),
                family: spec.name,
                given: spec.labels.len(),
                expected: spec.labels.len(),
                allowed: most,
            });
        }
        Ok(Self {
            id: FamilyId::next(),
            layout: Layout::new(spec.counters, spec.histograms, spec.measures, spec.digits)?,
            name: spec.name,
            label_names: spec.labels,
            series_limit: spec.series_limit,
            role: spec.role,
            usage: spec.usage,
            overflow_signalled: AtomicBool::new(false),
            table: DashMap::with_hasher(RandomState::default()),
            slots_taken: AtomicUsize::new(0),
            overflow: RwLock::new(None),
            departed: Mutex::default(),
            overflow_total: AtomicU64::new(0),
            told_unix_ms: AtomicI64::new(0),
            begun_unix_ms: AtomicI64::new(0),
        })
    }

    /// What it was made from, as far as numbers depend on it: without its limit, and without what only
    /// an exposition needs.
    pub fn configuration(&self) -> FamilySpec {
        FamilySpec {
            name: self.name.clone(),
            labels: self.label_names.clone(),
            counters: self.layout.counters().iter().map(Counter::configuration).collect(),
            histograms: self
                .layout
                .histograms()
                .iter()
                .map(HistogramMetric::configuration)
                .collect(),
            digits: self.layout.shape().precision.digits(),
            series_limit: 0,
            role: self.role,
            usage: self.usage.clone(),
            measures: self.layout.measures().iter().map(Measure::configuration).collect(),
        }
    }

    /// Its identity.
    #[inline]
    pub fn id(&self) -> FamilyId {
        self.id
    }

    /// What reports ask it for.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// The event or span whose series these are.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the labels, in the order of label values.
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// Its metrics and their cells.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many series it may have.
    pub fn series_limit(&self) -> usize {
        self.series_limit
    }

    /// How many series it has, the overflow series not counted.
    pub fn series_count(&self) -> usize {
        self.slots_taken.load(Relaxed)
    }

    /// How many events went to the overflow series.
    pub fn overflow_total(&self) -> u64 {
        self.overflow_total.load(Relaxed)
    }

    /// The series of a label set; a new one if there is room. `None` says that there is not, and
    /// the event belongs to [`Self::overflow_for_event`].
    pub fn get_or_create(&self, labels: &LabelSet) -> Option<Arc<Series>> {
        if let Some(series) = self.table.get(labels) {
            return Some(Arc::clone(&series));
        }
        match self.table.entry(labels.clone()) {
            Entry::Occupied(entry) => Some(Arc::clone(entry.get())),
            Entry::Vacant(entry) => {
                let take = |taken| (taken < self.series_limit).then_some(taken + 1);
                self.slots_taken.fetch_update(Relaxed, Relaxed, take).ok()?;
                let series = Arc::new(self.new_series(labels.clone()));
                entry.insert(Arc::clone(&series));
                Some(series)
            }
        }
    }

    /// A series that is not in the table.
    pub fn new_series(&self, labels: LabelSet) -> Series {
        // The one without labels is exposed as zero from the beginning.
        let since =
            if self.label_names.is_empty() { &self.begun_unix_ms } else { &self.told_unix_ms };
        Series::new(labels, &self.layout, since.load(Relaxed))
    }

    /// Tells the time at which it starts, or starts anew.
    pub fn begin(&self, unix_ms: i64) {
        self.tell_time(unix_ms);
        self.begun_unix_ms.store(self.told_unix_ms(), Relaxed);
    }

    /// Tells the time, by which series know when they were created.
    pub fn tell_time(&self, unix_ms: i64) {
        self.told_unix_ms.fetch_max(unix_ms, Relaxed);
    }

    /// The latest time that it was told, before which all of its series were created.
    pub fn told_unix_ms(&self) -> i64 {
        self.told_unix_ms.load(Relaxed)
    }

    /// Of what its series count uses.
    pub fn usage(&self) -> Option<&UsageSource> {
        self.usage.as_ref()
    }

    /// Of what its series count uses, and the counter that does.
    pub fn usage_counter(&self) -> Option<(&UsageSource, &Counter)> {
        let usage = self.usage()?;
        let mut counters = self.layout.counters().iter();
        Some((usage, counters.find(|counter| counter.name == usage.counter())?))
    }

    /// Whether this is asked for the first time since the start or a reset.
    pub(crate) fn is_first_overflow(&self) -> bool {
        !self.overflow_signalled.load(Relaxed) && !self.overflow_signalled.swap(true, Relaxed)
    }

    /// The overflow series, for one event that counts as overflowed.
    pub fn overflow_for_event(&self) -> Arc<Series> {
        self.overflow_total.fetch_add(1, Relaxed);
        self.overflow_series()
    }

    /// The labels of the overflow series.
    pub fn overflow_labels(&self) -> LabelSet {
        LabelSet::new(self.label_names.iter().map(|_| OVERFLOW_LABEL))
    }

    fn overflow_series(&self) -> Arc<Series> {
        if let Some(series) = self.existing_overflow() {
            return series;
        }
        let mut overflow = self.overflow.write().unwrap_or_else(PoisonError::into_inner);
        let series =
            overflow.get_or_insert_with(|| Arc::new(self.new_series(self.overflow_labels())));
        Arc::clone(series)
    }

    /// The overflow series, if any event went there.
    pub fn existing_overflow(&self) -> Option<Arc<Series>> {
        self.overflow.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The series of a label set, if there is one.
    pub fn get(&self, labels: &LabelSet) -> Option<Arc<Series>> {
        self.table.get(labels).map(|series| Arc::clone(&series))
    }

    /// All series but the overflow series. Eventually consistent: one that is created during the
    /// call may be missing.
    pub fn series(&self) -> Vec<Arc<Series>> {
        // Only references are copied under a shard's lock, so that recording hardly ever waits.
        self.table.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// All series, the overflow series last.
    pub fn series_with_overflow(&self) -> Vec<Arc<Series>> {
        let mut all = self.series();
        all.extend(self.existing_overflow());
        all
    }

    /// Forgets all series and returns those that had names. Events may go to them until the caller
    /// drops the thread-local caches.
    pub fn clear(&self) -> Vec<Arc<Series>> {
        let mut removed = Vec::new();
        self.table.retain(|_, series| {
            self.slots_taken.fetch_sub(1, Relaxed);
            removed.push(Arc::clone(series));
            false
        });
        *self.overflow.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.departed().clear();
        self.overflow_total.store(0, Relaxed);
        self.overflow_signalled.store(false, Relaxed);
        removed
    }

    /// Removes series without an event for `timeout_ms` and gives their slots back; returns how
    /// many. No event is lost: what arrives while a series leaves goes to its successor. `removed`
    /// is given each one, `on_retire` each one that leaves for good, with room for what is to be read
    /// from it. When `drop_caches` returns, no thread may have a way to a series that is not in the table.
    pub fn retire_idle(
        &self,
        now_ms: u64,
        timeout_ms: u64,
        drop_caches: impl FnOnce(),
        mut removed: impl FnMut(&Series),
        mut on_retire: impl FnMut(&Series, &mut Point),
    ) -> usize {
        // Without labels there is one series, whose slot nobody else can take.
        if self.label_names.is_empty() {
            return 0;
        }
        let mut retired = self.series();
        retired.retain(|series| {
            series.idle_ms(&self.layout, now_ms) >= timeout_ms && self.remove(series)
        });
        if retired.is_empty() {
            return 0;
        }
        drop_caches();
        // From here no thread can reach the retired series, so what they hold is final.
        let mut delta = Point::new(&self.layout);
        for series in &retired {
            removed(series);
            if series.changed_since_sweep(&self.layout) {
                self.successor(series.labels()).absorb(series, &self.layout);
            } else {
                self.departed().add(self.layout.counters(), series);
                on_retire(series, &mut delta);
            }
        }
        self.departed().retain(self.layout.counters(), &self.series());
        retired.len()
    }

    /// The series that takes over what one has counted that was removed too early. It may be one more than
    /// there is room for, if others have taken the slot meanwhile: under the labels of the overflow
    /// series all of that would be told a second time.
    fn successor(&self, labels: &LabelSet) -> Arc<Series> {
        let new = || {
            self.slots_taken.fetch_add(1, Relaxed);
            Arc::new(self.new_series(labels.clone()))
        };
        Arc::clone(&self.table.entry(labels.clone()).or_insert_with(new))
    }

    /// What series have counted that have retired.
    pub fn departed(&self) -> MutexGuard<'_, Departed> {
        lock(&self.departed)
    }

    /// Takes a series out of the table, if it is still there, and gives its slot back at once: its
    /// labels may come in again any time.
    fn remove(&self, series: &Arc<Series>) -> bool {
        let removed =
            self.table.remove_if(series.labels(), |_, current| Arc::ptr_eq(current, series));
        if removed.is_some() {
            self.slots_taken.fetch_sub(1, Relaxed);
        }
        removed.is_some()
    }

    /// Bytes allocated by the family and its series.
    pub fn memory_bytes(&self) -> usize {
        let series = self.series_with_overflow();
        let series = heap::sum(series.iter().map(|series| series.memory_bytes()));
        heap::sum([self.memory_bytes_beside_series(), series])
    }

    /// Bytes allocated by the family, without its series.
    pub fn memory_bytes_beside_series(&self) -> usize {
        heap::sum([size_of::<Self>(), self.layout.memory_bytes(), self.departed().memory_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Writer;

    fn record(family: &Family, series: &Series) {
        let shared = series.lanes().shared();
        shared.finish(&shared.cells()[family.layout().events_cell()]);
    }

    /// An event comes to a series while it is removed, and an event of another takes its slot.
    #[test]
    fn what_a_series_has_counted_goes_to_one_of_its_labels_even_if_its_slot_is_taken() {
        let family = Family::new(FamilySpec {
            name: "family".into(),
            labels: vec!["label".into()],
            counters: vec![],
            histograms: vec![],
            digits: 2,
            series_limit: 1,
            role: None,
            usage: None,
            measures: vec![],
        })
        .expect("valid");
        let [known, other] = ["known", "other"].map(|label| LabelSet::new([label]));
        let events = |labels| {
            let series = family.get(labels).expect("a series");
            series.lanes().sum(family.layout().events_cell())
        };
        let series = family.get_or_create(&known).expect("a slot");
        (0..5).for_each(|_| record(&family, &series));
        family.retire_idle(0, 1, || (), |_| (), |_, _| ());
        let meanwhile = |removed: &Series| {
            record(&family, removed);
            record(&family, &family.get_or_create(&other).expect("the slot"));
        };
        let on_retire = |_: &Series, _: &mut Point| panic!("it has a successor");
        assert_eq!(family.retire_idle(1, 1, || (), meanwhile, on_retire), 1);
        assert_eq!((events(&known), events(&other), family.series_count()), (6, 1, 2));
        assert!(family.existing_overflow().is_none());
        assert!(family.get_or_create(&LabelSet::new(["third"])).is_none());
        // It gives the slot back that it did not find free.
        for now_ms in 2..4 {
            family.retire_idle(now_ms, 1, || (), |_| (), |_, _| ());
        }
        assert_eq!((family.series_count(), family.series().len()), (0, 0));
    }
}
