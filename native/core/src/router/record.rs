//! What was counted of workers that have left, under the names that it is told under.

use std::collections::{HashMap, VecDeque};
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;

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
#[derive(Debug)]
pub(crate) struct Records {
    limit: usize,
    departed_limit: usize,
    of_present: usize,
    by_id: HashMap<Arc<str>, Arc<Record>, RandomState>,
    /// Those of `by_id` that have left, the longest gone first.
    departed: VecDeque<Arc<str>>,
    others: Arc<Record>,
}

impl Records {
    /// So many workers that are there have records of their own, and at most as many that have left.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            departed_limit: limit.min(DEPARTED),
            of_present: 0,
            by_id: HashMap::default(),
            departed: VecDeque::new(),
            others: Arc::default(),
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
            && let Some(record) = self.by_id.remove(&oldest)
        {
            self.others.add(record.counts());
        }
    }

    /// A worker that has left has counted some more.
    pub(crate) fn add(&self, id: &str, record: &Arc<Record>, counts: Counts) {
        let known = self.by_id.get(id).is_some_and(|known| Arc::ptr_eq(known, record));
        if known { record } else { &self.others }.add(counts);
    }

    /// Whether a worker is told of together with others.
    pub(crate) fn is_of_others(&self, record: &Arc<Record>) -> bool {
        Arc::ptr_eq(record, &self.others)
    }

    pub(crate) fn others(&self) -> Counts {
        self.others.counts()
    }

    /// Those that have left, the longest gone first.
    pub(crate) fn departed(&self) -> impl Iterator<Item = (&Arc<str>, Counts)> {
        let known = |id| self.by_id.get_key_value(id);
        self.departed.iter().filter_map(known).map(|(id, record)| (id, record.counts()))
    }

    /// Everything that is recorded.
    pub(crate) fn total(&self) -> Counts {
        let mut total = self.others();
        self.by_id.values().for_each(|record| total += record.counts());
        total
    }

    /// Forgets what was counted and who has left.
    pub(crate) fn clear(&mut self) {
        for id in self.departed.drain(..) {
            self.by_id.remove(&id);
        }
        self.by_id.values().chain([&self.others]).for_each(|record| record.clear());
    }

    /// Bytes allocated for records and their entries in the tables, and for ids of those that have left:
    /// who is there has its own.
    pub(crate) fn memory_bytes(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        let entry = size_of::<(Arc<str>, Arc<Record>)>() + counts + size_of::<Record>();
        let departed = self.departed.iter().map(|id| size_of::<Arc<str>>() + counts + id.len());
        self.by_id.len() * entry + departed.sum::<usize>()
    }
}
