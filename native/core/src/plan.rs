//! Plans: what an event feeds, prepared once and followed for every event.
//!
//! A plan describes the positional fields that the handler passes and the steps that use them.
//! An event is recorded wholly or not at all: every field is checked before the first step.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::call_log::{Call as LoggedCall, Details};
use crate::call_path::{Operation, Path, Phase};
use crate::error::DefinitionError;
use crate::exemplar::Exemplar;
use crate::family::Family;
use crate::field::{Fields, Inputs, MAX_FIELDS, Reject};
use crate::label::{self, LabelSet, MAX_LABELS, UNKNOWN};
use crate::lane::Writer;
use crate::metric::HistogramMetric;
use crate::notes::Notes;
use crate::observation::{Group, Observation, ObservationSpec, Observed};
use crate::owner::Emitter;
use crate::plan_spec::ValueSource;
use crate::refs::Refs;
use crate::router::Outcome;
use crate::series::Series;
use crate::series_cache::{Found, JoinedLabel, Labels, SeriesCache};
use crate::signal::{Overflow, QueueWait, Signal};
use crate::spike::SpikeChange;
use crate::surroundings::Surroundings;
use crate::thread_number::ThreadNumber;
use crate::window::Moment;

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

/// Most dimensions of a counter that an event chooses.
pub(crate) const MAX_DIMENSIONS: usize = 2;

pub(crate) struct Count {
    /// The counter's cell where all fields are choice 0.
    pub(crate) first_cell: usize,
    /// Field and stride of the dimensions that are not constant; the others have stride 0.
    pub(crate) dimensions: [(usize, usize); MAX_DIMENSIONS],
}

impl Count {
    /// One cell whatever the fields say.
    pub(crate) fn always(cell: usize) -> Self {
        Self { first_cell: cell, dimensions: [(0, 0); MAX_DIMENSIONS] }
    }
}

pub(crate) struct Observe {
    pub(crate) field: usize,
    /// A copy of the family's, one step nearer.
    pub(crate) metric: HistogramMetric,
    /// Whether exemplars of it are kept.
    pub(crate) exemplars: bool,
}

/// A label that may have to be looked up by a reference or a worker.
pub(crate) struct Join {
    pub(crate) label: usize,
    pub(crate) reference: usize,
    /// The field with what the event itself says.
    pub(crate) given: usize,
    pub(crate) known: Known,
}

/// What is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The class of a reference, where the event gives none.
    Classes,
    /// The pool of a worker. It wins over what the event says.
    Pools,
}

/// Where the labels of a series come from.
pub(crate) struct LabelSlots {
    pub(crate) count: usize,
    /// For each label the field that it comes from or, from [`MAX_FIELDS`] on, the constant.
    pub(crate) slots: [u8; MAX_LABELS],
    /// Labels that are always the same.
    pub(crate) constants: Box<[Box<str>]>,
    pub(crate) join: Option<Join>,
}

/// Flags of which any that is set makes a step not apply. The second is there only with the first.
#[derive(Clone, Copy)]
pub(crate) struct Unless(pub(crate) [Option<usize>; 2]);

pub(crate) struct Feed {
    pub(crate) unless: Unless,
    pub(crate) claimed: bool,
    pub(crate) family: Arc<Family>,
    pub(crate) labels: LabelSlots,
    pub(crate) counts: Box<[Count]>,
    pub(crate) observes: Box<[Observe]>,
    /// Whether an event is a use of what the family's labels name.
    pub(crate) is_use: bool,
}

/// An error of a key.
pub(crate) struct Failure {
    pub(crate) unless: Unless,
    pub(crate) claimed: bool,
    pub(crate) key: LabelSlots,
    pub(crate) kind: Word,
    pub(crate) reason: Option<usize>,
    /// The reason where the event gives none.
    pub(crate) otherwise: Box<str>,
    /// Where spikes are counted.
    pub(crate) spikes: (Arc<Family>, usize),
    pub(crate) errors: Box<[ErrorCount]>,
    /// Where completed calls are counted.
    pub(crate) calls: Option<Calls>,
}

/// The cells of a family that count completed calls.
pub(crate) struct Calls {
    pub(crate) family: Arc<Family>,
    pub(crate) cells: Range<usize>,
}

impl Calls {
    /// How many calls of a series were completed.
    fn total(&self, series: &Series) -> u64 {
        self.cells.clone().map(|cell| series.lanes().sum(cell)).sum()
    }
}

/// Where errors are counted by kind, under labels of which the last is the reason.
pub(crate) struct ErrorCount {
    pub(crate) family: Arc<Family>,
    /// The labels before it: those of the key, or none.
    pub(crate) labels: LabelSlots,
    /// Each kind with its cell.
    pub(crate) cells: Box<[(String, usize)]>,
}

/// The call that an event ends.
pub(crate) struct Call {
    pub(crate) key: LabelSlots,
    pub(crate) duration: usize,
    pub(crate) unless: Unless,
}

/// When the claimed steps are done.
pub(crate) enum Claim {
    Execution { command: usize, worker: usize, phase: Option<Phase> },
    Call,
    Tool { name: usize, emitter: Emitter },
    Worker { id: usize, emitter: Emitter },
}

/// What a claim says of an event.
struct Admitted {
    /// Whether the claimed steps are done.
    counts: bool,
    /// Whose call it carries, if it is an execution.
    path: Path,
}

/// The kind of an error.
pub(crate) enum Word {
    Always(Box<str>),
    /// A text field.
    Text(usize),
    /// A choice field and its words.
    Choice(usize, Box<[String]>),
}

/// A wait for a worker that may be too long.
pub(crate) struct Wait {
    pub(crate) field: usize,
    /// In the stored unit.
    pub(crate) above: u64,
    pub(crate) worker: usize,
    pub(crate) command: usize,
}

/// A request that a worker is done with.
pub(crate) struct Completion {
    pub(crate) unless: Unless,
    pub(crate) command: usize,
    pub(crate) worker: usize,
    pub(crate) duration: usize,
    pub(crate) failed_unless: Unless,
}

/// A level to set.
pub(crate) struct Set {
    pub(crate) level: usize,
    pub(crate) labels: LabelSlots,
    pub(crate) value: ValueSource,
}

pub(crate) enum Step {
    Feed(Feed),
    Failure(Failure),
    Wait(Wait),
    Bind { reference: usize, class: usize },
    Completion(Completion),
    Queued { field: usize, worker: usize },
    Lives { reference: usize, worker: usize },
    Set(Set),
    WorkerUp { id: usize },
    WorkerDown { id: usize },
    InPool { worker: usize, pool: usize, except: Box<[Box<[u8]>]> },
    Enter { operation: Operation, when: Option<(usize, usize)> },
    Leave { operation: Operation },
    Dispatched { process: usize, worker: usize, command: usize },
}

/// What a plan is compiled to.
#[derive(Default)]
pub(crate) struct Compiled {
    pub(crate) event: String,
    pub(crate) inputs: Inputs,
    pub(crate) steps: Box<[Step]>,
    pub(crate) claim: Option<Claim>,
    pub(crate) call: Option<Call>,
    pub(crate) exemplar_labels: Box<[Arc<str>]>,
    /// Measures of other definitions than the catalogue's; a plan has steps or groups.
    pub(crate) groups: Box<[Group]>,
}

/// A compiled plan.
pub struct Plan {
    id: PlanId,
    compiled: Compiled,
    surroundings: Arc<Surroundings>,
    rejected: [AtomicU64; Reject::ALL.len()],
}

impl Plan {
    pub(crate) fn new(compiled: Compiled, surroundings: Arc<Surroundings>) -> Self {
        Self { id: PlanId::next(), compiled, surroundings, rejected: Default::default() }
    }

    /// Compiles what an event feeds of measures.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if it has too many tags or refers to something that is not there.
    pub fn of_measures(
        spec: ObservationSpec,
        families: &[Arc<Family>],
        surroundings: Arc<Surroundings>,
    ) -> Result<Self, DefinitionError> {
        let groups = spec.groups.into_iter();
        let groups = groups.map(|group| Group::new(&spec.event, group, families));
        let groups = groups.collect::<Result<_, _>>()?;
        let compiled = Compiled { event: spec.event, groups, ..Compiled::default() };
        Ok(Self::new(compiled, surroundings))
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

    /// Does of an event that was rejected what no fault of it can undo: a call that ends is over, whatever else is said
    /// of it.
    #[cold]
    pub(crate) fn leave(&self, process: impl Fn() -> u64) {
        for step in &self.compiled.steps {
            if let Step::Leave { operation } = step {
                self.surroundings.call_paths.leave(&process, *operation);
            }
        }
    }

    /// Forgets what was rejected.
    pub(crate) fn clear(&self) {
        for count in &self.rejected {
            count.store(0, Relaxed);
        }
        self.compiled.groups.iter().for_each(Group::clear);
    }

    /// The measures that it feeds, by family.
    pub(crate) fn groups(&self) -> &[Group] {
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
            if !group.observe(event, number, cache, |family| self.signal_overflow(family)) {
                return Observed::Untold;
            }
        }
        Observed::Recorded
    }

    #[cold]
    fn signal_overflow(&self, family: &Family) {
        let Surroundings { signals, clock, .. } = &*self.surroundings;
        let overflow = Overflow { event: family.name().to_owned(), limit: family.series_limit() };
        signals.send(clock(), Signal::Overflow(overflow));
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
        let mut notes = Notes::NONE;
        let admitted = match &self.compiled.claim {
            None => Admitted { counts: true, path: Path::Direct },
            Some(claim) => self.admit(claim, fields, &process),
        };
        for step in &self.compiled.steps {
            match step {
                Step::Feed(feed) => {
                    if (admitted.counts || !feed.claimed) && self.feed(feed, fields, number, cache)
                    {
                        notes = notes.with(Notes::EXEMPLARY);
                    }
                }
                Step::Failure(failure) => {
                    if (admitted.counts || !failure.claimed)
                        && !failure.unless.is_set(fields)
                        && self.failed(failure, fields, number, cache)
                    {
                        notes = notes.with(Notes::FAILED);
                    }
                }
                Step::Wait(wait) => self.wait(wait, fields),
                Step::Bind { reference, class } => self.bind(fields, *reference, *class),
                Step::Completion(completion) => {
                    // Most emitters do not tell which worker it was.
                    if fields.is_given(completion.worker)
                        && self.completion(completion, fields, admitted.path, &process)
                    {
                        notes = notes.with(Notes::COMPLETED);
                    }
                }
                Step::Queued { field, worker } => self.queued(fields, *field, *worker),
                Step::Lives { reference, worker } => self.lives(fields, *reference, *worker),
                Step::Set(set) => self.set(set, fields),
                Step::WorkerUp { id } => self.worker_up(fields, *id),
                Step::WorkerDown { id } => {
                    self.surroundings.worker_down(&label::normalise(fields.text(*id)));
                }
                Step::InPool { worker, pool, except } => {
                    self.in_pool(fields, *worker, *pool, except);
                }
                Step::Enter { operation, when } => {
                    let paths = &self.surroundings.call_paths;
                    if paths.follows() && when.is_none_or(|(at, index)| fields.choice(at) == index)
                    {
                        paths.enter(process(), *operation);
                    }
                }
                Step::Leave { operation } => {
                    self.surroundings.call_paths.leave(&process, *operation);
                }
                Step::Dispatched { process: of, worker, command } => {
                    let process = fields.number(*of).unwrap_or_else(&process);
                    let worker = label::normalise(fields.text(*worker));
                    let command = label::cut(fields.text(*command));
                    self.surroundings.call_paths.dispatched(process, &worker, command);
                }
            }
        }
        if let Some(call) = &self.compiled.call
            && admitted.counts
            && let Some(duration) = fields.number(call.duration)
            && self.surroundings.call_log.is_slow(duration)
            && !call.unless.is_set(fields)
        {
            notes = notes.with(Notes::SLOW);
        }
        notes
    }

    #[cold]
    fn admit(&self, claim: &Claim, fields: &Fields<'_>, process: &impl Fn() -> u64) -> Admitted {
        let Surroundings { call_paths, tool_owners, worker_owners, .. } = &*self.surroundings;
        let counts = match claim {
            Claim::Execution { command, worker, phase } => {
                let given =
                    fields.is_given(*worker).then(|| label::normalise(fields.text(*worker)));
                let command = label::cut(fields.text(*command));
                let path = call_paths.of_execution(process(), given.as_deref(), command, *phase);
                return Admitted { counts: path == Path::Direct, path };
            }
            Claim::Call => !call_paths.is_inside(process()),
            Claim::Tool { name, emitter } => {
                tool_owners.admit(&label::normalise(fields.text(*name)), *emitter)
            }
            Claim::Worker { id, emitter } => {
                call_paths.hear_of_pool();
                worker_owners.admit(&label::normalise(fields.text(*id)), *emitter)
            }
        };
        Admitted { counts, path: Path::Direct }
    }

    /// Tells the router of a request that was answered. `true` says that it was not, and that the router is to be told
    /// when it is known why.
    #[cold]
    fn completion(
        &self,
        completion: &Completion,
        fields: &Fields<'_>,
        path: Path,
        process: &impl Fn() -> u64,
    ) -> bool {
        let paths = &self.surroundings.call_paths;
        let is_told = match &self.compiled.claim {
            Some(Claim::Execution { .. }) => paths.completes(path),
            _ => !paths.follows() || paths.call_completes(process()),
        };
        if completion.unless.is_set(fields) || !is_told {
            return false;
        }
        if !completion.failed_unless.is_set(fields) {
            return true;
        }
        self.completed(completion, fields, Outcome::Success);
        false
    }

    #[cold]
    fn completed(&self, completion: &Completion, fields: &Fields<'_>, outcome: Outcome) {
        let Some(duration) = fields.number(completion.duration) else {
            return;
        };
        self.surroundings.router.completed(
            &label::normalise(fields.text(completion.command)),
            &label::normalise(fields.text(completion.worker)),
            outcome,
            duration,
            self.surroundings.router_now(),
        );
    }

    #[cold]
    fn queued(&self, fields: &Fields<'_>, field: usize, worker: usize) {
        if let Some(wait) = fields.number(field).filter(|_| fields.is_given(worker)) {
            let now = self.surroundings.router_now();
            self.surroundings.router.waited(&label::normalise(fields.text(worker)), wait, now);
        }
    }

    #[cold]
    fn lives(&self, fields: &Fields<'_>, reference: usize, worker: usize) {
        if fields.is_given(reference) && fields.is_given(worker) {
            let Surroundings { router, cache, .. } = &*self.surroundings;
            let worker = label::normalise(fields.text(worker));
            router.bind(fields.text(reference), &worker);
            if let Some(cache) = cache {
                cache.bind_worker(&label::normalise(fields.text(reference)), &worker);
            }
        }
    }

    #[cold]
    fn set(&self, set: &Set, fields: &Fields<'_>) {
        let value = match set.value {
            ValueSource::Field(field) => fields.number(field),
            ValueSource::Constant(value) => Some(value),
        };
        if let Some(value) = value {
            let Surroundings { levels, refs, pools, workers, .. } = &*self.surroundings;
            let labels = set.labels.resolve(fields, refs, pools);
            levels.set(set.level, labels, value, |worker| workers.contains(worker));
        }
    }

    #[cold]
    fn worker_up(&self, fields: &Fields<'_>, id: usize) {
        let Surroundings { workers, router, call_paths, levels, .. } = &*self.surroundings;
        if !fields.is_given(id) {
            return;
        }
        call_paths.hear_of_pool();
        let id = label::normalise(fields.text(id));
        workers.insert(&id);
        levels.welcome_worker(&id);
        router.add_worker(&id, self.surroundings.router_now());
    }

    #[cold]
    fn in_pool(&self, fields: &Fields<'_>, worker: usize, pool: usize, except: &[Box<[u8]>]) {
        let name = fields.text(pool);
        if fields.is_given(worker)
            && fields.is_given(pool)
            && except.iter().all(|other| **other != *name)
        {
            let worker = label::normalise(fields.text(worker));
            self.surroundings.pools.bind(&worker, &label::normalise(name));
        }
    }

    /// Does what [`Self::record`] has noted of an event, whose fields are given once more, with what else it says.
    #[cold]
    pub(crate) fn keep(&self, notes: Notes, fields: &Fields<'_>, details: &Details<'_>) {
        let mut failed = None;
        for step in &self.compiled.steps {
            match step {
                Step::Feed(feed) if notes.has(Notes::EXEMPLARY) => {
                    self.keep_exemplar(feed, fields, details);
                }
                Step::Failure(failure)
                    if notes.has(Notes::FAILED) && !failure.unless.is_set(fields) =>
                {
                    failed = Some(failure.why(fields));
                }
                Step::Completion(completion) if notes.has(Notes::COMPLETED) => {
                    let outcome =
                        if details.is_callers_fault { Outcome::Unknown } else { Outcome::Failure };
                    self.completed(completion, fields, outcome);
                }
                _ => {}
            }
        }
        if let Some(call) = &self.compiled.call {
            self.log(call, fields, details, failed.as_ref(), notes.has(Notes::SLOW));
        }
    }

    /// Keeps a call that failed or was slow.
    fn log(
        &self,
        call: &Call,
        fields: &Fields<'_>,
        details: &Details<'_>,
        failed: Option<&(Cow<'_, str>, Cow<'_, str>)>,
        is_slow: bool,
    ) {
        let Surroundings { clock, refs, pools, call_log, .. } = &*self.surroundings;
        if failed.is_none() && !is_slow {
            return;
        }
        let key = call.key.resolve(fields, refs, pools);
        let mut labels = key.values();
        let now = clock();
        let call = LoggedCall {
            method: labels.next().unwrap_or_default(),
            python_class: labels.next().unwrap_or_default(),
            duration_ns: fields.number(call.duration),
            failure: failed.map(|(kind, reason)| (&**kind, &**reason)),
            at_ms: now.ms,
            at_unix_ms: now.unix_ms,
        };
        if failed.is_some() {
            call_log.keep_failure(&call, details);
        }
        if is_slow {
            call_log.keep_slow(&call, details);
        }
    }

    fn keep_exemplar(&self, feed: &Feed, fields: &Fields<'_>, details: &Details<'_>) {
        let Surroundings { clock, refs, pools, .. } = &*self.surroundings;
        if !feed.observes.iter().any(|observe| observe.exemplars) || feed.unless.is_set(fields) {
            return;
        }
        let Some(series) = feed.family.get(&feed.labels.resolve(fields, refs, pools)) else {
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

    #[cold]
    fn bind(&self, fields: &Fields<'_>, reference: usize, class: usize) {
        if fields.is_given(reference) && fields.is_given(class) {
            let reference = label::normalise(fields.text(reference));
            let class = label::normalise(fields.text(class));
            self.surroundings.refs.bind(&reference, &class);
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
                let (refs, at) = self.joined(join, fields);
                cache.joined_series(family, labels, at, refs, number)
            }
        }
    }

    #[inline]
    fn joined<'a>(&'a self, join: &Join, fields: &Fields<'a>) -> (&'a Refs, JoinedLabel<'a>) {
        let Surroundings { refs, pools, .. } = &*self.surroundings;
        let (refs, otherwise) = join.looked_up(fields, refs, pools);
        (refs, JoinedLabel { index: join.label, otherwise })
    }

    /// What else has to be done for an event that went to the overflow series.
    #[cold]
    fn overflowed(&self, feed: &Feed, fields: &Fields<'_>) {
        let Surroundings { usage, clock, refs, pools, .. } = &*self.surroundings;
        if feed.family.is_first_overflow() {
            self.signal_overflow(&feed.family);
        }
        // Of a series it would be read now and then; here the name is lost unless it is told at once.
        if feed.is_use
            && let Some(names) = feed.family.usage()
        {
            let name = names.name(&feed.labels.resolve(fields, refs, pools));
            usage.add(names.kind(), &name, 1, clock().unix_ms_u64());
        }
    }

    /// Counts an error and looks for a spike. Says whether the call is to be logged.
    fn failed(
        &self,
        failure: &Failure,
        fields: &Fields<'_>,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
    ) -> bool {
        let Surroundings { spikes, clock, refs, pools, call_log, .. } = &*self.surroundings;
        let (kind, reason) = failure.why(fields);
        for errors in &failure.errors {
            let labels = (&errors.labels, Some(reason.as_bytes()));
            let series = self.series(&errors.family, labels, fields, number, cache);
            errors.count(&kind, series, cache);
        }
        let now = clock();
        // Mostly the event has just been counted in a series that has the key as its labels.
        let counted = failure
            .calls
            .as_ref()
            .and_then(|calls| self.cached_series(&calls.family, &failure.key, fields, cache));
        let resolved;
        let key = match counted {
            Some(series) => series.labels(),
            None => {
                resolved = failure.key.resolve(fields, refs, pools);
                &resolved
            }
        };
        let total = || {
            let calls = failure.calls.as_ref()?;
            match counted {
                Some(series) => Some(calls.total(series)),
                None => Some(calls.total(&*calls.family.get(key)?)),
            }
        };
        let change = spikes.record(key, &kind, &reason, now.ms, total);
        if change != SpikeChange::default() {
            self.spike_changed(failure, change, key, now);
        }
        self.compiled.call.is_some() && call_log.takes_failure(now.ms)
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
        cache.cached(family, &labels, join.map(|join| self.joined(join, fields).0))
    }

    #[cold]
    fn spike_changed(&self, failure: &Failure, change: SpikeChange, key: &LabelSet, now: Moment) {
        let signals = &self.surroundings.signals;
        if let Some(over) = change.over {
            signals.send(now, Signal::ErrorSpikeOver(over));
        }
        if change.started {
            let (family, cell) = &failure.spikes;
            let series = family.get_or_create(key).unwrap_or_else(|| family.overflow_for_event());
            count_at(&series.lanes().shared(), *cell);
        }
        if let Some(spike) = change.spike {
            signals.send(now, Signal::ErrorSpike(spike));
        }
    }

    #[inline]
    fn wait(&self, wait: &Wait, fields: &Fields<'_>) {
        if let Some(waited) = fields.number(wait.field).filter(|waited| *waited > wait.above) {
            self.waited(wait, waited, fields);
        }
    }

    #[cold]
    fn waited(&self, wait: &Wait, waited: u64, fields: &Fields<'_>) {
        let Surroundings { signals, queue_waits, clock, .. } = &*self.surroundings;
        let command = label::normalise(fields.text(wait.command));
        let now = clock();
        if let Some(suppressed) = queue_waits.admit(&command, now.ms) {
            let worker_id = label::normalise(fields.text(wait.worker)).into_owned();
            let command = command.into_owned();
            let wait_us = waited as f64 / 1e3;
            let wait = QueueWait { worker_id, command, wait_us, suppressed };
            signals.send(now, Signal::QueueWait(wait));
        }
    }
}

impl ErrorCount {
    fn count(&self, kind: &str, series: Found, cache: &SeriesCache) {
        let cell = self.cells.iter().find(|(other, _)| other == kind).or(self.cells.last());
        let Some(&(_, cell)) = cell else {
            return;
        };
        match series {
            Found::Here(place) => match cache.get(place) {
                Some((series, Some(lane))) => count_at(&series.lanes().own(lane), cell),
                Some((series, None)) => count_at(&series.lanes().shared(), cell),
                None => {}
            },
            Found::Overflow(series) => count_at(&series.lanes().shared(), cell),
        }
    }
}

#[inline]
fn count_at(writer: &impl Writer, cell: usize) {
    writer.finish(&writer.cells()[cell]);
}

impl Unless {
    #[inline]
    fn is_set(self, fields: &Fields<'_>) -> bool {
        let [flag, other] = self.0;
        flag.is_some_and(|flag| {
            fields.choice(flag) == 0 || other.is_some_and(|other| fields.choice(other) == 0)
        })
    }
}

impl Failure {
    /// Its kind and its reason.
    fn why<'f>(&'f self, fields: &Fields<'f>) -> (Cow<'f, str>, Cow<'f, str>) {
        let reason = match self.reason.filter(|reason| fields.is_given(*reason)) {
            Some(reason) => label::normalise(fields.text(reason)),
            None => Cow::Borrowed(&*self.otherwise),
        };
        (self.kind.resolve(fields), reason)
    }
}

impl Word {
    fn resolve<'f>(&'f self, fields: &Fields<'f>) -> Cow<'f, str> {
        match self {
            Self::Always(word) => Cow::Borrowed(word),
            Self::Text(field) => label::normalise(fields.text(*field)),
            Self::Choice(field, words) => {
                Cow::Borrowed(words.get(fields.choice(*field)).map_or("", String::as_str))
            }
        }
    }
}

impl LabelSlots {
    /// The labels of an event as series are found by them in a thread's cache, with one more at their end if there is
    /// one.
    #[inline]
    fn labels<'a>(
        &'a self,
        join: Option<&Join>,
        last: Option<&'a [u8]>,
        fields: &Fields<'a>,
    ) -> Labels<'a, impl Fn(usize) -> &'a [u8]> {
        let Self { count, constants, .. } = self;
        let mut slots = self.slots;
        if let Some(join) = join {
            slots[join.label] = join.reference as u8;
        }
        Labels::new(count + usize::from(last.is_some()), move |index| match last {
            Some(last) if index == *count => last,
            _ => match usize::from(slots[index]) {
                field if field < MAX_FIELDS => fields.text(field),
                constant => constants[constant - MAX_FIELDS].as_bytes(),
            },
        })
    }

    #[inline]
    fn needed_join(&self, fields: &Fields<'_>) -> Option<&Join> {
        self.join.as_ref().filter(|join| join.is_needed(fields))
    }

    /// The label values of an event as they are in a series.
    fn resolve(&self, fields: &Fields<'_>, refs: &Refs, pools: &Refs) -> LabelSet {
        let join = self.needed_join(fields);
        let value = |label: usize| match (join, usize::from(self.slots[label])) {
            (Some(join), _) if join.label == label => {
                let (known, otherwise) = join.looked_up(fields, refs, pools);
                let class = known.class_of(&label::normalise(fields.text(join.reference)));
                let class = class.as_ref().map_or(otherwise, |class| class.as_bytes());
                label::normalise(class).into_owned()
            }
            (_, field) if field < MAX_FIELDS => label::normalise(fields.text(field)).into_owned(),
            (_, constant) => (*self.constants[constant - MAX_FIELDS]).to_owned(),
        };
        let values: Vec<_> = (0..self.count).map(value).collect();
        LabelSet::new(values.iter().map(String::as_str))
    }
}

impl Join {
    /// Where the label is looked up, and what it is if nothing is found there.
    #[inline]
    fn looked_up<'a>(
        &self,
        fields: &Fields<'a>,
        refs: &'a Refs,
        pools: &'a Refs,
    ) -> (&'a Refs, &'a [u8]) {
        match self.known {
            Known::Classes => (refs, UNKNOWN),
            Known::Pools => (pools, fields.text(self.given)),
        }
    }

    /// Whether what is known counts rather than what the event itself says.
    #[inline]
    fn is_needed(&self, fields: &Fields<'_>) -> bool {
        let is_given = self.known == Known::Classes && fields.is_given(self.given);
        !is_given && fields.is_given(self.reference)
    }
}

impl Feed {
    /// Says whether the event should be an exemplar: whether its sample is the first of its range of
    /// values since a slice of time began.
    #[inline]
    fn write(&self, writer: &impl Writer, fields: &Fields<'_>) -> bool {
        let (mut marks, mut exemplary) = (0, 0);
        for observe in &self.observes {
            if let Some(value) = fields.number(observe.field) {
                let mark = Series::observe(writer, &observe.metric, value);
                marks |= mark;
                exemplary |= if observe.exemplars { mark } else { 0 };
            }
        }
        if marks != 0 {
            let marks_cell = &writer.cells()[self.family.layout().marks_cell()];
            exemplary &= !writer.mark(marks_cell, marks);
        }
        for count in &self.counts {
            let step = |(field, stride): (usize, usize)| fields.choice(field) * stride;
            let cell = count.first_cell + count.dimensions.map(step).iter().sum::<usize>();
            count_at(writer, cell);
        }
        exemplary != 0
    }
}
