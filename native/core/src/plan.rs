//! Plans: what an event feeds, prepared once and followed for every event.
//!
//! A plan describes the positional fields that the handler passes and the steps that use them.
//! An event is recorded wholly or not at all: every field is checked before the first step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Deserialize;

use crate::error::DefinitionError;
use crate::family::Family;
use crate::field::{FieldKind, Fields, Inputs, MAX_FIELDS, Reject};
use crate::id_set::IdSet;
use crate::label::{self, MAX_LABELS};
use crate::lane::Writer;
use crate::metric::HistogramMetric;
use crate::refs::Refs;
use crate::series::Series;
use crate::series_cache::{Found, Labels, SeriesCache};
use crate::thread_number::ThreadNumber;

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

/// Where a label's value comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// A text or flag field.
    Field(usize),
    /// Always the same.
    Constant(String),
    /// The class field where it is there, else the class of the reference, else `unknown`.
    ClassOf {
        /// The field with the reference.
        reference: usize,
        /// The field with the class.
        class: usize,
    },
}

/// Where the index into a dimension comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DimensionSource {
    /// A flag (`true` is index 0, `false` is 1) or choice field.
    Field(usize),
    /// Always the same index.
    Constant(usize),
}

/// A counter that a step increments.
#[derive(Clone, Debug, Deserialize)]
pub struct CountSpec {
    /// Name of the counter in the step's family.
    pub counter: String,
    /// One source for each of its dimensions.
    pub dimensions: Vec<DimensionSource>,
}

/// A histogram that a step records into.
#[derive(Clone, Debug, Deserialize)]
pub struct ObserveSpec {
    /// Name of the histogram in the step's family.
    pub histogram: String,
    /// The field with the value; an absent optional one is skipped.
    pub field: usize,
}

/// One thing that an event does.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSpec {
    /// Feeds the metrics of one series.
    Feed {
        /// Name of the family.
        family: String,
        /// One source for each of its labels.
        labels: Vec<LabelSource>,
        /// The counters to increment.
        counts: Vec<CountSpec>,
        /// The histograms to record into.
        observes: Vec<ObserveSpec>,
    },
    /// Remembers the class of a reference, if the event carries one.
    Bind {
        /// The field with the reference.
        reference: usize,
        /// The field with the class.
        class: usize,
    },
    /// Adds an id to the set of workers.
    WorkerUp {
        /// The field with the id.
        id: usize,
    },
    /// Takes an id out of the set of workers.
    WorkerDown {
        /// The field with the id.
        id: usize,
    },
}

/// A plan as a definition declares it.
#[derive(Clone, Debug, Deserialize)]
pub struct PlanSpec {
    /// The event's name, its segments joined by dots.
    pub event: String,
    /// The positional fields.
    pub fields: Vec<FieldKind>,
    /// What the event does.
    pub steps: Vec<StepSpec>,
}

/// Most dimensions of a counter that an event chooses.
const MAX_DIMENSIONS: usize = 2;

struct Count {
    /// The counter's cell where all fields are choice 0.
    first_cell: usize,
    /// Field and stride of the dimensions that are not constant; the others have stride 0.
    dimensions: [(usize, usize); MAX_DIMENSIONS],
}

impl Count {
    /// One cell whatever the fields say.
    fn always(cell: usize) -> Self {
        Self { first_cell: cell, dimensions: [(0, 0); MAX_DIMENSIONS] }
    }
}

struct Observe {
    field: usize,
    /// A copy of the family's, one step nearer.
    metric: HistogramMetric,
}

/// A label that may have to be looked up by reference.
struct Join {
    label: usize,
    reference: usize,
    class: usize,
}

struct Feed {
    family: Arc<Family>,
    label_count: usize,
    /// For each label the field that it comes from or, from [`MAX_FIELDS`] on, the constant.
    slots: [u8; MAX_LABELS],
    /// Labels that are always the same.
    constants: Box<[Box<str>]>,
    join: Option<Join>,
    counts: Box<[Count]>,
    observes: Box<[Observe]>,
}

enum Step {
    Feed(Feed),
    Bind { reference: usize, class: usize },
    WorkerUp { id: usize },
    WorkerDown { id: usize },
}

/// What the steps of a plan may use beside the families.
#[derive(Clone)]
pub struct Surroundings {
    /// Classes of references.
    pub refs: Arc<Refs>,
    /// The workers that are alive.
    pub workers: Arc<IdSet>,
}

/// A compiled plan.
pub struct Plan {
    id: PlanId,
    event: String,
    inputs: Inputs,
    steps: Box<[Step]>,
    surroundings: Surroundings,
    rejected: [AtomicU64; Reject::ALL.len()],
}

impl Plan {
    /// Compiles a plan against the families that it feeds.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if it has too many fields or refers to something that is not there.
    pub fn new(
        spec: PlanSpec,
        families: &[Arc<Family>],
        surroundings: Surroundings,
    ) -> Result<Self, DefinitionError> {
        if spec.fields.len() > MAX_FIELDS {
            return Err(DefinitionError::TooManyFields {
                event: spec.event,
                given: spec.fields.len(),
                allowed: MAX_FIELDS,
            });
        }
        let compiler = Compiler { event: &spec.event, fields: &spec.fields, families };
        let steps = spec.steps.iter().map(|step| compiler.step(step)).collect::<Result<_, _>>()?;
        Ok(Self {
            id: PlanId::next(),
            steps,
            event: spec.event,
            inputs: Inputs::new(&spec.fields, &unneeded(&spec.steps), &label_fields(&spec.steps)),
            surroundings,
            rejected: Default::default(),
        })
    }

    /// Its identity.
    #[inline]
    pub fn id(&self) -> PlanId {
        self.id
    }

    /// The event's name, its segments joined by dots.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// What the positional fields must be.
    #[inline]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// How many events were rejected for a reason.
    pub fn rejected(&self, reason: Reject) -> u64 {
        self.rejected[reason as usize].load(Relaxed)
    }

    /// Counts an event that could not be decoded.
    pub fn reject(&self, reason: Reject) {
        self.rejected[reason as usize].fetch_add(1, Relaxed);
    }

    /// Forgets what was rejected.
    pub(crate) fn clear(&self) {
        for count in &self.rejected {
            count.store(0, Relaxed);
        }
    }

    /// Records one event whose fields were accepted.
    #[inline]
    pub(crate) fn record(
        &self,
        fields: &Fields<'_>,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
    ) {
        for step in &self.steps {
            match step {
                Step::Feed(feed) => self.feed(feed, fields, number, cache),
                Step::Bind { reference, class } => self.bind(fields, *reference, *class),
                Step::WorkerUp { id } => {
                    self.surroundings.workers.insert(&label::normalise(fields.text(*id)));
                }
                Step::WorkerDown { id } => {
                    self.surroundings.workers.remove(&label::normalise(fields.text(*id)));
                }
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
    ) {
        let join = feed.join.as_ref().filter(|join| join.is_needed(fields));
        let mut slots = feed.slots;
        if let Some(join) = join {
            slots[join.label] = join.reference as u8;
        }
        let labels = Labels::new(feed.label_count, |index| match usize::from(slots[index]) {
            field if field < MAX_FIELDS => fields.text(field),
            constant => feed.constants[constant - MAX_FIELDS].as_bytes(),
        });
        let series = match join {
            None => cache.series(&feed.family, labels, number),
            Some(join) => {
                let refs = &*self.surroundings.refs;
                cache.joined_series(&feed.family, labels, join.label, refs, number)
            }
        };
        match series {
            Found::Here(place) => match cache.get(place) {
                Some((series, Some(lane))) => feed.write(&series.lanes().own(lane), fields),
                Some((series, None)) => feed.write(&series.lanes().shared(), fields),
                None => {}
            },
            Found::Overflow(series) => feed.write(&series.lanes().shared(), fields),
        }
    }
}

impl Join {
    /// Whether the event gives a reference and no class.
    #[inline]
    fn is_needed(&self, fields: &Fields<'_>) -> bool {
        !fields.is_given(self.class) && fields.is_given(self.reference)
    }
}

impl Feed {
    #[inline]
    fn write(&self, writer: &impl Writer, fields: &Fields<'_>) {
        for observe in &self.observes {
            if let Some(value) = fields.number(observe.field) {
                Series::observe(writer, &observe.metric, value);
            }
        }
        for count in &self.counts {
            let step = |(field, stride): (usize, usize)| fields.choice(field) * stride;
            let cell = count.first_cell + count.dimensions.map(step).iter().sum::<usize>();
            writer.finish(&writer.cells()[cell]);
        }
    }
}

/// References that need not be looked at where the class is given, with the field of the class. One
/// that is bound to its class is always needed.
fn unneeded(steps: &[StepSpec]) -> Vec<(usize, usize)> {
    let bound = steps.iter().any(|step| matches!(step, StepSpec::Bind { .. }));
    let pairs = label_sources(steps).filter_map(|label| match label {
        LabelSource::ClassOf { reference, class } if !bound => Some((*reference, *class)),
        _ => None,
    });
    pairs.collect()
}

/// The fields whose text is a label.
fn label_fields(steps: &[StepSpec]) -> Vec<usize> {
    let fields = label_sources(steps).filter_map(|label| match label {
        LabelSource::Field(field) => Some(*field),
        _ => None,
    });
    fields.collect()
}

fn label_sources(steps: &[StepSpec]) -> impl Iterator<Item = &LabelSource> {
    steps.iter().flat_map(|step| match step {
        StepSpec::Feed { labels, .. } => &labels[..],
        _ => &[],
    })
}

struct Compiler<'a> {
    event: &'a str,
    fields: &'a [FieldKind],
    families: &'a [Arc<Family>],
}

impl Compiler<'_> {
    fn step(&self, spec: &StepSpec) -> Result<Step, DefinitionError> {
        Ok(match spec {
            StepSpec::Feed { family, labels, counts, observes } => {
                Step::Feed(self.feed(family, labels, counts, observes)?)
            }
            StepSpec::Bind { reference, class } => {
                Step::Bind { reference: self.field(*reference)?, class: self.field(*class)? }
            }
            StepSpec::WorkerUp { id } => Step::WorkerUp { id: self.field(*id)? },
            StepSpec::WorkerDown { id } => Step::WorkerDown { id: self.field(*id)? },
        })
    }

    fn feed(
        &self,
        family: &str,
        labels: &[LabelSource],
        counts: &[CountSpec],
        observes: &[ObserveSpec],
    ) -> Result<Feed, DefinitionError> {
        let family = self
            .families
            .iter()
            .find(|candidate| candidate.name() == family)
            .ok_or_else(|| self.unknown(format!("family {family}")))?;
        if labels.len() != family.label_names().len() {
            return Err(DefinitionError::Labels {
                event: self.event.to_owned(),
                family: family.name().to_owned(),
                given: labels.len(),
                expected: family.label_names().len(),
                allowed: MAX_LABELS,
            });
        }
        let mut slots = [0; MAX_LABELS];
        let mut constants = Vec::new();
        let mut join = None;
        for (label, source) in labels.iter().enumerate() {
            let slot = match source {
                LabelSource::Field(field) => self.field(*field)?,
                LabelSource::Constant(value) => {
                    constants.push(value.as_str().into());
                    MAX_FIELDS + constants.len() - 1
                }
                LabelSource::ClassOf { reference, class } => {
                    let (reference, class) = (self.field(*reference)?, self.field(*class)?);
                    join = Some(Join { label, reference, class });
                    class
                }
            };
            slots[label] = slot as u8;
        }
        let mut counted =
            counts.iter().map(|count| self.count(family, count)).collect::<Result<Vec<_>, _>>()?;
        if counted.is_empty() {
            // So that every event is counted somewhere.
            counted.push(Count::always(family.layout().events_cell()));
        }
        let observes = observes.iter().map(|observe| self.observe(family, observe));
        Ok(Feed {
            family: Arc::clone(family),
            label_count: labels.len(),
            slots,
            constants: constants.into(),
            join,
            counts: counted.into(),
            observes: observes.collect::<Result<_, _>>()?,
        })
    }

    fn count(&self, family: &Family, spec: &CountSpec) -> Result<Count, DefinitionError> {
        let counter = family
            .layout()
            .counters()
            .iter()
            .find(|counter| counter.name == spec.counter)
            .ok_or_else(|| self.unknown(format!("counter {}", spec.counter)))?;
        if counter.dimensions.len() != spec.dimensions.len() {
            return Err(self.unknown(format!("a dimension of {}", spec.counter)));
        }
        let mut stride = counter.cell_count();
        let mut first_cell = counter.cell(0);
        let mut dimensions = Vec::new();
        for (dimension, source) in counter.dimensions.iter().zip(&spec.dimensions) {
            stride /= dimension.values.len();
            let choices = match source {
                DimensionSource::Constant(index) => index + 1,
                DimensionSource::Field(field) => match &self.fields[self.field(*field)?] {
                    FieldKind::Choice { values } => values.len(),
                    FieldKind::Flag { .. } => 2,
                    _ => usize::MAX,
                },
            };
            // Checked here so that the hot path never leaves the counter's cells.
            if choices > dimension.values.len() {
                return Err(self.unknown(format!("a value of {}", dimension.name)));
            }
            match source {
                DimensionSource::Constant(index) => first_cell += index * stride,
                DimensionSource::Field(field) => dimensions.push((*field, stride)),
            }
        }
        let mut chosen = [(0, 0); MAX_DIMENSIONS];
        if dimensions.len() > MAX_DIMENSIONS {
            return Err(self.unknown(format!("a third dimension of {}", spec.counter)));
        }
        chosen[..dimensions.len()].copy_from_slice(&dimensions);
        Ok(Count { first_cell, dimensions: chosen })
    }

    fn observe(&self, family: &Family, spec: &ObserveSpec) -> Result<Observe, DefinitionError> {
        let mut histograms = family.layout().histograms().iter();
        let metric = histograms
            .find(|metric| metric.name == spec.histogram)
            .ok_or_else(|| self.unknown(format!("histogram {}", spec.histogram)))?
            .clone();
        Ok(Observe { field: self.field(spec.field)?, metric })
    }

    fn field(&self, index: usize) -> Result<usize, DefinitionError> {
        if index < self.fields.len() {
            Ok(index)
        } else {
            Err(self.unknown(format!("field {index}")))
        }
    }

    fn unknown(&self, what: String) -> DefinitionError {
        DefinitionError::Unknown { event: self.event.to_owned(), what }
    }
}
