//! Plans: what an event feeds and does, prepared once and followed for every event.
//!
//! A plan describes the positional fields that the handler passes and the steps that use them.
//! An event is recorded wholly or not at all: every field is checked before the first step.

mod failure;
mod feed;
mod labels;
mod skip_if;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::details::Details;
use crate::effect::{Claim, Effect, Event, Listener, Resumed};
use crate::error::DefinitionError;
use crate::exemplar::Exemplar;
use crate::family::Family;
#[cfg(doc)]
use crate::field::ALWAYS;
use crate::field::{Fields, Inputs, Reject};
use crate::notes::Notes;
use crate::observation::{Group, Observation, ObservationSpec, Observed};
use crate::series::Series;
use crate::series_cache::{Found, SeriesCache};
use telemetry_common::moment::Clock;
use telemetry_common::thread_number::ThreadNumber;

pub(crate) use failure::{Calls, ErrorCount, Failure, KindSource};
pub use feed::count_at;
pub(crate) use feed::{Count, Feed, MAX_DIMENSIONS, Observe};
pub(crate) use labels::{Join, Known};
pub use labels::{LabelSlots, Lookups};
pub use skip_if::SkipIf;

/// Process-wide identity of a plan; never used twice. What a handler holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanId(u64);

impl PlanId {
    fn next() -> Self {
        // High up, because the number also is the id of a handler among those of other libraries.
        static NEXT: AtomicU64 = AtomicU64::new(0xD5_0000_0000);
        Self(NEXT.fetch_add(1, Relaxed))
    }

    /// The number that stands for the plan outside of Rust.
    #[inline]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for PlanId {
    #[inline]
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// What the plans of an instance share beside its families.
pub struct Context {
    /// Tables in which labels are looked up.
    pub lookups: Arc<Lookups>,
    /// The time.
    pub clock: Clock,
    /// Who is told of events without room.
    pub listener: Box<dyn Listener>,
}

pub(crate) enum Step {
    Feed(Feed),
    Failure(Failure),
    Effect {
        /// Fields without which it does not take place, or [`ALWAYS`].
        needs: [usize; 2],
        claimed: bool,
        effect: Box<dyn Effect>,
    },
}

/// What a plan is compiled to: steps over positional fields, or groups of measures over the event's maps.
#[derive(Default)]
pub(crate) struct Compiled {
    pub(crate) event: String,
    pub(crate) inputs: Inputs,
    pub(crate) steps: Box<[Step]>,
    pub(crate) claim: Option<Box<dyn Claim>>,
    pub(crate) exemplar_labels: Box<[Arc<str>]>,
    pub(crate) groups: Box<[Group]>,
}

/// A compiled plan.
pub struct Plan {
    id: PlanId,
    compiled: Compiled,
    context: Arc<Context>,
    rejected: [AtomicU64; Reject::ALL.len()],
}

impl Plan {
    pub(crate) fn new(compiled: Compiled, context: Arc<Context>) -> Self {
        Self { id: PlanId::next(), compiled, context, rejected: Default::default() }
    }

    /// Compiles what an event feeds of measures.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if it has too many tags or refers to something that is not there.
    pub fn of_measures(
        spec: ObservationSpec,
        families: &[Arc<Family>],
        context: Arc<Context>,
    ) -> Result<Self, DefinitionError> {
        let groups = spec.groups.into_iter();
        let groups = groups.map(|group| Group::new(&spec.event, group, families));
        let groups = groups.collect::<Result<_, _>>()?;
        let compiled = Compiled { event: spec.event, groups, ..Compiled::default() };
        Ok(Self::new(compiled, context))
    }

    /// Its identity.
    #[inline]
    pub fn id(&self) -> PlanId {
        self.id
    }

    /// The event's name, its segments joined by dots.
    pub fn event(&self) -> &str {
        &self.compiled.event
    }

    /// What the positional fields must be.
    #[inline]
    pub fn inputs(&self) -> &Inputs {
        &self.compiled.inputs
    }

    /// How many events were rejected for a reason.
    pub fn rejected(&self, reason: Reject) -> u64 {
        self.rejected[reason as usize].load(Relaxed)
    }

    /// Counts an event that could not be decoded.
    pub fn reject(&self, reason: Reject) {
        self.rejected[reason as usize].fetch_add(1, Relaxed);
    }

    /// Does of an event that was rejected what no fault of it can undo.
    #[cold]
    pub(crate) fn unwind(&self, process: impl Fn() -> u64) {
        for step in &self.compiled.steps {
            if let Step::Effect { effect, .. } = step {
                effect.reject(&process);
            }
        }
    }

    /// Forgets what was rejected.
    pub fn clear(&self) {
        for count in &self.rejected {
            count.store(0, Relaxed);
        }
        self.compiled.groups.iter().for_each(Group::clear);
    }

    /// The measures that it feeds, by family.
    pub fn groups(&self) -> &[Group] {
        &self.compiled.groups
    }

    /// Gives an event to its measures.
    #[inline]
    pub(crate) fn observe<'a>(
        &self,
        event: &impl Observation<'a>,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
    ) -> Observed {
        // Before anything is recorded: the event may come once more.
        let can_wait = self.compiled.groups.len() > 1 && !event.is_final();
        if can_wait && self.compiled.groups.iter().any(|group| group.is_untold(event)) {
            return Observed::Untold;
        }
        for group in &self.compiled.groups {
            if !group
                .observe(event, number, cache, |family| self.context.listener.overflowed(family))
            {
                return Observed::Untold;
            }
        }
        Observed::Recorded
    }

    /// Records one event whose fields were accepted, emitted by a process. Says for what the event has to be given
    /// once more; see [`Self::keep`].
    #[inline]
    pub(crate) fn record(
        &self,
        fields: &Fields<'_>,
        process: impl Fn() -> u64,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
    ) -> Notes {
        let mut event = Event::new(fields, &process);
        let mut notes = Notes::NONE;
        let mut counts = true;
        if let Some(claim) = &self.compiled.claim {
            let admitted = claim.admit(&event);
            counts = admitted.counts;
            event.path = admitted.path;
        }
        for step in &self.compiled.steps {
            match step {
                Step::Feed(feed) => {
                    if (counts || !feed.claimed) && self.feed(feed, fields, number, cache) {
                        notes = notes.with(Notes::EXEMPLARY);
                    }
                }
                Step::Failure(failure) => {
                    if (counts || !failure.claimed)
                        && !failure.unless.is_set(fields)
                        && self.failed(failure, fields, number, cache)
                    {
                        notes = notes.with(Notes::FAILED);
                    }
                }
                Step::Effect { needs, claimed, effect } => {
                    if (counts || !claimed)
                        && fields.is_given(needs[0])
                        && fields.is_given(needs[1])
                    {
                        notes = notes.with(effect.happen(&event));
                    }
                }
            }
        }
        notes
    }

    /// Does what [`Self::record`] has noted of an event, whose fields are given once more, with what else it says.
    #[cold]
    pub(crate) fn keep(&self, notes: Notes, fields: &Fields<'_>, details: &Details<'_>) {
        let failed = self.compiled.steps.iter().find_map(|step| match step {
            Step::Failure(failure)
                if notes.has(Notes::FAILED) && !failure.unless.is_set(fields) =>
            {
                Some(failure.why(fields))
            }
            _ => None,
        });
        let failure = failed.as_ref().map(|(kind, reason)| (&**kind, &**reason));
        let resumed = Resumed { notes, fields, details, failure };
        for step in &self.compiled.steps {
            match step {
                Step::Feed(feed) if notes.has(Notes::EXEMPLARY) => {
                    self.keep_exemplar(feed, fields, details);
                }
                Step::Effect { effect, .. } => effect.resume(&resumed),
                _ => {}
            }
        }
    }

    fn keep_exemplar(&self, feed: &Feed, fields: &Fields<'_>, details: &Details<'_>) {
        let Context { lookups, clock, .. } = &*self.context;
        if !feed.observes.iter().any(|observe| observe.exemplars) || feed.unless.is_set(fields) {
            return;
        }
        let Some(series) = feed.family.get(&feed.labels.resolve(fields, lookups)) else {
            return;
        };
        for observe in feed.observes.iter().filter(|observe| observe.exemplars) {
            let labels = self.compiled.exemplar_labels.iter();
            let labels = labels.map(|name| (name, details.exemplar_label(name)));
            let exemplar = fields
                .number(observe.field)
                .and_then(|value| Exemplar::new(value, clock().unix_ms, labels));
            if let Some(exemplar) = exemplar {
                series.keep_exemplar(&observe.metric, exemplar);
            }
        }
    }

    #[inline]
    fn feed(
        &self,
        feed: &Feed,
        fields: &Fields<'_>,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
    ) -> bool {
        if feed.unless.is_set(fields) {
            return false;
        }
        let series = self.series(&feed.family, (&feed.labels, None), fields, number, cache);
        match series {
            Found::Here(place) => match cache.get(place) {
                Some((series, Some(lane))) => feed.write(&series.lanes().own(lane), fields),
                Some((series, None)) => feed.write(&series.lanes().shared(), fields),
                None => false,
            },
            Found::Overflow(series) => {
                feed.write(&series.lanes().shared(), fields);
                self.overflowed(feed, fields);
                // Its labels are lost, so it would not be found again.
                false
            }
        }
    }

    /// The series of an event's labels, with one more at their end if there is one.
    #[inline]
    fn series<'a>(
        &'a self,
        family: &Family,
        (slots, last): (&'a LabelSlots, Option<&'a [u8]>),
        fields: &Fields<'a>,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
    ) -> Found {
        let join = slots.needed_join(fields);
        let labels = slots.labels(join, last, fields);
        match join {
            None => cache.series(family, labels, number),
            Some(join) => {
                let (refs, at) = join.joined(fields, &self.context.lookups);
                cache.joined_series(family, labels, at, refs, number)
            }
        }
    }

    /// What else has to be done for an event that went to the overflow series.
    #[cold]
    fn overflowed(&self, feed: &Feed, fields: &Fields<'_>) {
        let Context { lookups, listener, .. } = &*self.context;
        if feed.family.is_first_overflow() {
            listener.overflowed(&feed.family);
        }
        if feed.is_use
            && let Some(usage) = feed.family.usage()
        {
            listener.used(usage, &feed.labels.resolve(fields, lookups));
        }
    }

    /// Counts an error and tells of it. Says whether the call is to be logged.
    fn failed(
        &self,
        failure: &Failure,
        fields: &Fields<'_>,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
    ) -> bool {
        let (kind, reason) = failure.why(fields);
        for errors in &failure.errors {
            let labels = (&errors.labels, Some(reason.as_bytes()));
            let series = self.series(&errors.family, labels, fields, number, cache);
            errors.count(&kind, series, cache);
        }
        // Mostly the event has just been counted in a series that has the key as its labels.
        let counted = failure
            .calls
            .as_ref()
            .and_then(|calls| self.cached_series(&calls.family, &failure.key, fields, cache));
        let resolved;
        let key = match counted {
            Some(series) => series.labels(),
            None => {
                resolved = failure.key.resolve(fields, &self.context.lookups);
                &resolved
            }
        };
        let mut total = || {
            let calls = failure.calls.as_ref()?;
            match counted {
                Some(series) => Some(calls.total(series)),
                None => Some(calls.total(&*calls.family.get(key)?)),
            }
        };
        failure.alarm.failed(key, &kind, &reason, &mut total)
    }

    /// The series of an event's labels if the thread has it at hand.
    fn cached_series<'a, 'c>(
        &'a self,
        family: &Family,
        slots: &'a LabelSlots,
        fields: &Fields<'a>,
        cache: &'c SeriesCache,
    ) -> Option<&'c Arc<Series>> {
        let join = slots.needed_join(fields);
        let labels = slots.labels(join, None, fields);
        cache.cached(family, &labels, join.map(|join| join.joined(fields, &self.context.lookups).0))
    }
}
