//! What was counted of workers that have left, under the names that it is told under.

use std::collections::{HashMap, VecDeque};
use std::ops::{AddAssign, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;

use telemetry_common::heap::{self, HeapBytes};

use super::reason::Reason;

/// How many workers that have left have a record of their own.
const DEPARTED: usize = 1_000;

/// Numbers that never go down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By reason, in the order of [`Reason::ALL`].
    pub(crate) decisions: [u64; Reason::ALL.len()],
    pub(crate) ejections: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (sum, count) in self.decisions.iter_mut().zip(other.decisions) {
            *sum += count;
        }
        self.ejections += other.ejections;
    }
}

impl Sub for Counts {
    type Output = Self;

    /// Of what was counted earlier or elsewhere, which is no more.
    fn sub(mut self, other: Self) -> Self {
        for (count, other) in self.decisions.iter_mut().zip(other.decisions) {
            *count = count.saturating_sub(other);
        }
        self.ejections = self.ejections.saturating_sub(other.ejections);
        self
    }
}

/// What workers have counted that have left, and that had the same id or have no record of their own.
/// It is changed and read under the lock of [`Records`] only.
#[derive(Debug, Default)]
pub(crate) struct Record {
    decisions: [AtomicU64; Reason::ALL.len()],
    ejections: AtomicU64,
}

impl Record {
    pub(crate) fn add(&self, counts: Counts) {
        for (sum, count) in self.decisions.iter().zip(counts.decisions) {
            sum.fetch_add(count, Relaxed);
        }
        self.ejections.fetch_add(counts.ejections, Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            decisions: std::array::from_fn(|at| self.decisions[at].load(Relaxed)),
            ejections: self.ejections.load(Relaxed),
        }
    }

    fn clear(&self) {
        self.decisions.iter().chain([&self.ejections]).for_each(|count| count.store(0, Relaxed));
    }
}

/// The records of those that have metrics of their own, present or not, and one for all others. Who has
/// come with a record of its own keeps it, so nothing that is told under a name goes down.
///
/// Whoever adds up how much all names go up, as `increase` of Prometheus does, gets every decision once:
///
/// - A name that is dropped takes along what was told under it. Only what was not is added to that of
///   others: it would be counted again otherwise.
/// - Once a name was dropped, one that is told for the first time may be that name again, and who saw it
///   then takes what it begins with for what goes on. So it begins with zero: what was counted before is
///   told under that of others.
///
/// This holds for the one who asks most often. Others may miss what was counted between two of their own
/// questions under a name that was dropped in between.
#[derive(Debug)]
pub(crate) struct Records {
    limit: usize,
    departed_limit: usize,
    of_present: usize,
    by_id: HashMap<Arc<str>, Arc<Record>, RandomState>,
    /// Of those of `by_id` that were ever told of.
    told: HashMap<Arc<str>, Told, RandomState>,
    /// Those of `by_id` that have left, the longest gone first.
    departed: VecDeque<Arc<str>>,
    others: Arc<Record>,
    /// What was told under names that are dropped.
    dropped: Counts,
    /// Whether any is dropped that was told.
    any_dropped: bool,
}

/// What has been told of a worker with a name of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// All that had been counted when it was last told of.
    counts: Counts,
    /// What of that is told under the name of others.
    elsewhere: Counts,
}

impl Records {
    /// So many workers that are there have records of their own, and at most as many that have left.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            departed_limit: limit.min(DEPARTED),
            of_present: 0,
            by_id: HashMap::default(),
            told: HashMap::default(),
            departed: VecDeque::new(),
            others: Arc::default(),
            dropped: Counts::default(),
            any_dropped: false,
        }
    }

    /// That of a worker that comes: the one which it had before, if that is still known.
    pub(crate) fn join(&mut self, id: &Arc<str>) -> Arc<Record> {
        if self.of_present >= self.limit {
            return Arc::clone(&self.others);
        }
        self.of_present += 1;
        if let Some(record) = self.by_id.get(id) {
            self.departed.retain(|departed| departed != id);
            return Arc::clone(record);
        }
        let record = Arc::<Record>::default();
        self.by_id.insert(Arc::clone(id), Arc::clone(&record));
        record
    }

    /// A worker that had this record leaves, having counted so much.
    pub(crate) fn leave(&mut self, id: &Arc<str>, record: &Arc<Record>, counts: Counts) {
        record.add(counts);
        if Arc::ptr_eq(record, &self.others) {
            return;
        }
        self.of_present -= 1;
        self.departed.push_back(Arc::clone(id));
        if self.departed.len() > self.departed_limit
            && let Some(oldest) = self.departed.pop_front()
        {
            self.drop_name(&oldest);
        }
    }

    fn drop_name(&mut self, id: &Arc<str>) {
        let told = self.told.remove(id);
        self.any_dropped |= told.is_some();
        let told = told.unwrap_or_default();
        self.dropped += told.counts - told.elsewhere;
        if let Some(record) = self.by_id.remove(id) {
            self.others.add(record.counts() - told.counts);
        }
    }

    /// A worker that has left has counted some more.
    pub(crate) fn add(&self, id: &str, record: &Arc<Record>, counts: Counts) {
        let known = self.by_id.get(id).is_some_and(|known| Arc::ptr_eq(known, record));
        if known { record } else { &self.others }.add(counts);
    }

    /// What is told of a worker that has counted `live` since it came; `None` if it is told of together
    /// with others.
    pub(crate) fn tell(
        &mut self,
        id: &Arc<str>,
        record: &Arc<Record>,
        live: Counts,
    ) -> Option<Counts> {
        if Arc::ptr_eq(record, &self.others) {
            return None;
        }
        let mut counts = record.counts();
        counts += live;
        let told = self.told.entry(Arc::clone(id)).or_insert_with(|| {
            let elsewhere = if self.any_dropped { counts } else { Counts::default() };
            self.others.add(elsewhere);
            Told { counts, elsewhere }
        });
        told.counts = counts;
        Some(counts - told.elsewhere)
    }

    /// What is told of those that have left, the longest gone first.
    pub(crate) fn tell_departed(&mut self) -> Vec<(Arc<str>, Counts)> {
        let known = |id| self.by_id.get_key_value(id);
        let clone = |(id, record)| (Arc::clone(id), Arc::clone(record));
        let departed: Vec<_> = self.departed.iter().filter_map(known).map(clone).collect();
        let tell =
            |(id, record)| Some((Arc::clone(&id), self.tell(&id, &record, Counts::default())?));
        departed.into_iter().filter_map(tell).collect()
    }

    /// What is told of all others together, to be asked after what is told of each: some of that may be
    /// told here.
    pub(crate) fn others(&self) -> Counts {
        self.others.counts()
    }

    /// Whether there are others, or the next that comes or leaves may become one. Their counts are told
    /// before they have any, so that it is seen from where they go up.
    pub(crate) fn any_others(&self) -> bool {
        let may_be = self.limit > 0
            && (self.of_present >= self.limit || self.departed.len() >= self.departed_limit);
        may_be || self.any_dropped || self.others() != Counts::default()
    }

    /// Everything that was counted, where those that are there have counted `live` since they came.
    pub(crate) fn total(&self, live: Counts) -> Counts {
        let mut total = live;
        total += self.others();
        total += self.dropped;
        self.by_id.values().for_each(|record| total += record.counts());
        let mut twice = Counts::default();
        self.told.values().for_each(|told| twice += told.elsewhere);
        total - twice
    }

    /// Forgets what was counted and who has left.
    pub(crate) fn clear(&mut self) {
        for id in self.departed.drain(..) {
            self.by_id.remove(&id);
            self.told.remove(&id);
        }
        self.by_id.values().chain([&self.others]).for_each(|record| record.clear());
        self.told.values_mut().for_each(|told| *told = Told::default());
        self.dropped = Counts::default();
    }

    /// Bytes allocated for records and their entries in the tables, and for ids of those that have left:
    /// who is there has its own.
    pub(crate) fn memory_bytes(&self) -> usize {
        heap::sum([
            heap::entries::<(Arc<str>, Arc<Record>)>(self.by_id.len()),
            heap::sum(self.by_id.values().map(HeapBytes::heap_bytes)),
            heap::entries::<(Arc<str>, Told)>(self.told.len()),
            heap::entries::<Arc<str>>(self.departed.len()),
            heap::sum(self.departed.iter().map(HeapBytes::heap_bytes)),
        ])
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn memory_of_those_who_are_there_were_told_of_and_have_left_is_counted() {
        let mut records = Records::new(10);
        assert_eq!(records.memory_bytes(), 0);
        let ids = ["w1", "w2", "w3"].map(Arc::from);
        let of_ids = ids.each_ref().map(|id| records.join(id));
        let all = 3 * (size_of::<(Arc<str>, Arc<Record>)>() + 16 + size_of::<Record>());
        assert_eq!(records.memory_bytes(), all);
        let mut tell = |at: usize| records.tell(&ids[at], &of_ids[at], Counts::default());
        assert!(tell(0).is_some() && tell(1).is_some());
        let told = 2 * size_of::<(Arc<str>, Told)>();
        assert_eq!(records.memory_bytes(), all + told);
        records.leave(&ids[0], &of_ids[0], Counts::default());
        // A word of text, after two counts.
        assert_eq!(records.memory_bytes(), all + told + size_of::<Arc<str>>() + 24);
    }
}
