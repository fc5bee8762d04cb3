//! What each recording thread keeps to itself: its number and caches in front of the
//! shared tables, whose locks would be contended cache lines.
//!
//! A cache entry holds a reference to its series, so a series that leaves its table must leave the
//! caches too, those of sleeping threads included. `drop_caches` does that: it enters every
//! thread's state in turn, takes its caches away and drops them outside. Since a thread keeps its
//! state entered for the whole of a recording, after `drop_caches` nobody writes to a series that
//! had been taken out of its table before, and no cache keeps it alive.

use std::sync::Arc;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use once_cell::sync::Lazy;

use crate::details::Details;
use crate::field::{Fields, Inputs, Reject};
use crate::notes::Notes;
use crate::observation::{Observation, Observed};
use crate::plan::{Plan, PlanId};
use crate::series_cache::SeriesCache;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::thread_number::ThreadNumber;
use telemetry_common::threads::{OfThread, Threads};

static PLANS: Lazy<DashMap<PlanId, Arc<Plan>, RandomState>> = Lazy::new(DashMap::default);
static THREADS: Threads<Caches> = Threads::new();

thread_local! {
    static LOCAL: Local = Local::new();
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// It was recorded.
    Recorded,
    /// It was recorded, and has to be given once more; see [`keep`].
    Noted(Notes),
    /// It was counted as rejected.
    Rejected(Reject),
    /// The plan's instance has stopped; nothing was counted.
    Stopped,
}

/// Records one event by the plan with this id. `process` says which process emits it, as a number that no other living
/// process has. `decode` stores the fields that the plan asks for, or says why the event is rejected; it must not record
/// events itself.
#[inline]
pub fn record<'a>(
    id: PlanId,
    process: impl Fn() -> u64,
    decode: impl FnOnce(&Inputs, &mut Fields<'a>) -> Result<(), Reject>,
) -> RecordOutcome {
    LOCAL.with(|local| {
        local.caches.with(|caches| {
            let Some(plan) = caches.plans.get(id) else {
                return RecordOutcome::Stopped;
            };
            // Every field is checked before the first is recorded: an event counts wholly or not.
            let mut fields = Fields::new();
            if let Err(reason) = decode(plan.inputs(), &mut fields) {
                plan.reject(reason);
                plan.unwind(process);
                return RecordOutcome::Rejected(reason);
            }
            let notes = plan.record(&fields, process, &local.number, &mut caches.series);
            if notes.is_none() { RecordOutcome::Recorded } else { RecordOutcome::Noted(notes) }
        })
    })
}

/// Gives one event to the measures of the plan with this id. `event` must not record events itself.
#[inline]
pub fn observe<'a>(id: PlanId, event: &impl Observation<'a>) -> Observed {
    LOCAL.with(|local| {
        local.caches.with(|caches| match caches.plans.get(id) {
            Some(plan) => plan.observe(event, &local.number, &mut caches.series),
            None => Observed::Stopped,
        })
    })
}

/// Does what [`record`] has noted of an event, given once more with what else it says. Where that belongs to a series or
/// an instance that is gone by now, nothing happens.
pub fn keep<'a>(
    id: PlanId,
    notes: Notes,
    decode: impl FnOnce(&Inputs, &mut Fields<'a>) -> Result<(), Reject>,
    details: &Details<'a>,
) {
    // Entered as for recording: whoever removes series or stops the instance waits.
    LOCAL.with(|local| {
        local.caches.with(|caches| {
            let Some(plan) = caches.plans.get(id) else {
                return;
            };
            let mut fields = Fields::new();
            if decode(plan.inputs(), &mut fields).is_ok() {
                plan.keep(notes, &fields, details);
            }
        });
    });
}

/// Makes a plan known to [`record`].
pub fn publish(plan: &Arc<Plan>) {
    PLANS.insert(plan.id(), Arc::clone(plan));
}

/// Makes plans unknown to [`record`]; when it returns, nothing is being recorded by them.
pub fn withdraw<'a>(plans: impl Iterator<Item = &'a Arc<Plan>>) {
    for plan in plans {
        PLANS.remove(&plan.id());
    }
    drop_caches();
}

/// Empties the caches of all threads and waits for what they are recording. Not to be called
/// while recording.
pub fn drop_caches() {
    THREADS.take_all();
}

/// Bytes of the tables in which threads that record keep plans and series. All instances share them, so
/// they are part of no instance's memory. That of a thread doubles while series push each other out of it.
pub fn table_bytes() -> usize {
    THREADS.all().iter().map(|caches| caches.with(|caches| caches.table_bytes())).sum()
}

struct Local {
    number: ThreadNumber,
    caches: OfThread<Caches>,
}

impl Local {
    fn new() -> Self {
        Self { caches: THREADS.join(), number: ThreadNumber::take() }
    }
}

#[derive(Default)]
struct Caches {
    plans: PlanCache,
    series: SeriesCache,
}

impl Caches {
    fn table_bytes(&self) -> usize {
        heap::sum([self.plans.entries.heap_bytes(), self.series.table_bytes()])
    }
}

/// Plans by the low bits of their id.
#[derive(Default)]
struct PlanCache {
    entries: Vec<Option<(PlanId, Arc<Plan>)>>,
}

impl PlanCache {
    const ENTRIES: usize = 256;

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
