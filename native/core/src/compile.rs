//! The compiler of plans: names become places, and what does not fit is refused.

use std::sync::Arc;

use crate::error::DefinitionError;
use crate::family::{Family, Usage};
use crate::field::{FieldKind, Inputs, MAX_FIELDS};
use crate::label::MAX_LABELS;
use crate::level::Levels;
use crate::metric::Counter;
use crate::plan::{
    Call, Calls, Claim, Compiled, Completion, Count, ErrorCount, Failure, Feed, Join, Known,
    LabelSlots, MAX_DIMENSIONS, Observe, Plan, Set, Step, Unless, Wait, Word,
};
use crate::plan_spec::{
    CallSpec, ClaimSpec, CountSpec, DimensionSource, FailureSpec, FeedSpec, LabelSource,
    ObserveSpec, PlanSpec, SetSpec, StepSpec, ValueSource, WordSource,
};
use crate::surroundings::Surroundings;

impl Plan {
    /// Compiles a plan against the families that it feeds.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if it has too many fields or refers to something that is not there.
    pub fn compile(
        spec: PlanSpec,
        families: &[Arc<Family>],
        surroundings: Arc<Surroundings>,
    ) -> Result<Self, DefinitionError> {
        if spec.fields.len() > MAX_FIELDS {
            return Err(DefinitionError::TooManyFields {
                event: spec.event,
                given: spec.fields.len(),
                allowed: MAX_FIELDS,
            });
        }
        let exemplar = spec.exemplar.as_ref();
        let exemplar_field = exemplar.map(|exemplar| exemplar.field);
        let exemplar_labels = exemplar.into_iter().flat_map(|exemplar| &exemplar.labels);
        let compiler = Compiler {
            event: &spec.event,
            fields: &spec.fields,
            families,
            levels: &surroundings.levels,
            exemplar: exemplar_field,
        };
        exemplar_field.map(|field| compiler.field(field)).transpose()?;
        let steps = spec.steps.iter().map(|step| compiler.step(step)).collect::<Result<_, _>>()?;
        let claim = spec.claim.as_ref().map(|claim| compiler.claim(claim)).transpose()?;
        let call = spec.call.as_ref().map(|call| compiler.call(call)).transpose()?;
        let compiled = Compiled {
            inputs: Inputs::new(&spec.fields, &unneeded(&spec.steps), &label_fields(&spec.steps)),
            steps,
            claim,
            call,
            exemplar_labels: exemplar_labels.map(|name| name.as_str().into()).collect(),
            event: spec.event,
            groups: Box::default(),
        };
        Ok(Self::new(compiled, surroundings))
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
        StepSpec::Feed(feed) => &feed.labels[..],
        StepSpec::Failure(failure) => &failure.labels,
        StepSpec::Set(set) => &set.labels,
        _ => &[],
    })
}

/// What a step is compiled against.
struct Compiler<'a> {
    event: &'a str,
    fields: &'a [FieldKind],
    families: &'a [Arc<Family>],
    levels: &'a Levels,
    /// The field of which exemplars are kept.
    exemplar: Option<usize>,
}

impl<'a> Compiler<'a> {
    fn step(&self, spec: &StepSpec) -> Result<Step, DefinitionError> {
        Ok(match spec {
            StepSpec::Feed(spec) => Step::Feed(self.feed(spec)?),
            StepSpec::Failure(spec) => Step::Failure(self.failure(spec)?),
            StepSpec::Wait { field, above, worker, command } => Step::Wait(Wait {
                field: self.field(*field)?,
                above: *above,
                worker: self.field(*worker)?,
                command: self.field(*command)?,
            }),
            StepSpec::Bind { reference, class } => {
                Step::Bind { reference: self.field(*reference)?, class: self.field(*class)? }
            }
            StepSpec::Completion(spec) => Step::Completion(Completion {
                unless: self.unless([spec.unless, None])?,
                command: self.field(spec.command)?,
                worker: self.field(spec.worker)?,
                duration: self.field(spec.duration)?,
                failed_unless: self.unless([spec.success, None])?,
            }),
            StepSpec::Queued { field, worker } => {
                Step::Queued { field: self.field(*field)?, worker: self.field(*worker)? }
            }
            StepSpec::Lives { reference, worker } => {
                Step::Lives { reference: self.field(*reference)?, worker: self.field(*worker)? }
            }
            StepSpec::Set(spec) => Step::Set(self.set(spec)?),
            StepSpec::WorkerUp { id } => Step::WorkerUp { id: self.field(*id)? },
            StepSpec::InPool { worker, pool, except } => Step::InPool {
                worker: self.field(*worker)?,
                pool: self.field(*pool)?,
                except: except.iter().map(|name| name.as_bytes().into()).collect(),
            },
            StepSpec::Enter { operation, when } => {
                if let Some((field, _)) = when {
                    self.field(*field)?;
                }
                Step::Enter { operation: *operation, when: *when }
            }
            StepSpec::Leave { operation } => Step::Leave { operation: *operation },
            StepSpec::Dispatched { process, worker, command } => Step::Dispatched {
                process: self.field(*process)?,
                worker: self.field(*worker)?,
                command: self.field(*command)?,
            },
            StepSpec::WorkerDown { id } => Step::WorkerDown { id: self.field(*id)? },
        })
    }

    fn feed(&self, spec: &FeedSpec) -> Result<Feed, DefinitionError> {
        let family = self.family(&spec.family)?;
        let counts = spec.counts.iter().map(|count| self.count(family, count));
        let mut counts = counts.collect::<Result<Vec<_>, _>>()?;
        if counts.is_empty() {
            // So that every event is counted somewhere.
            counts.push(Count::always(family.layout().events_cell()));
        }
        let observes = spec.observes.iter().map(|observe| self.observe(family, observe));
        let is_use =
            |names: &Usage| spec.counts.iter().any(|count| count.counter == names.counter());
        Ok(Feed {
            unless: self.unless([spec.unless, spec.or_unless])?,
            claimed: spec.claimed,
            labels: self.labels_of(family, &spec.labels)?,
            counts: counts.into(),
            observes: observes.collect::<Result<_, _>>()?,
            is_use: family.usage().is_some_and(is_use),
            family: Arc::clone(family),
        })
    }

    fn failure(&self, spec: &FailureSpec) -> Result<Failure, DefinitionError> {
        let (spikes, counter) = self.first_counter(&spec.spikes)?;
        let calls = spec.calls.as_ref().map(|calls| self.calls(calls, spikes)).transpose()?;
        let errors = spec.errors.iter().map(|family| self.errors(family, spikes, &spec.labels));
        Ok(Failure {
            unless: self.unless([spec.unless, spec.or_unless])?,
            claimed: spec.claimed,
            key: self.labels_of(spikes, &spec.labels)?,
            kind: self.word(&spec.kind)?,
            reason: spec.reason.map(|reason| self.field(reason)).transpose()?,
            otherwise: spec.otherwise.as_str().into(),
            spikes: (Arc::clone(spikes), counter.cell(0)),
            calls,
            errors: errors.collect::<Result<_, _>>()?,
        })
    }

    /// A counter of errors by kind, the last label of whose family is the reason. The others, if there are any, are
    /// those of spikes.
    fn errors(
        &self,
        name: &str,
        spikes: &Family,
        key: &[LabelSource],
    ) -> Result<ErrorCount, DefinitionError> {
        let (family, counter) = self.first_counter(name)?;
        if counter.dimensions.len() != 1 {
            return Err(self.unknown(format!("a counter by kind of {name}")));
        }
        let labels = match family.label_names().len() {
            1 => self.labels(name, 0, &[])?,
            count if count == spikes.label_names().len() + 1 => self.labels_of(spikes, key)?,
            _ => return Err(self.unknown(format!("the labels of {name}"))),
        };
        let kinds = counter.dimensions.iter().flat_map(|dimension| &dimension.values);
        Ok(ErrorCount {
            family: Arc::clone(family),
            labels,
            cells: kinds.zip(counter.cells()).map(|(kind, cell)| (kind.clone(), cell)).collect(),
        })
    }

    fn claim(&self, spec: &ClaimSpec) -> Result<Claim, DefinitionError> {
        Ok(match *spec {
            ClaimSpec::Execution { command, worker, phase } => Claim::Execution {
                command: self.field(command)?,
                worker: self.field(worker)?,
                phase,
            },
            ClaimSpec::Call => Claim::Call,
            ClaimSpec::Tool { name, emitter } => Claim::Tool { name: self.field(name)?, emitter },
            ClaimSpec::Worker { id, emitter } => Claim::Worker { id: self.field(id)?, emitter },
        })
    }

    fn call(&self, spec: &CallSpec) -> Result<Call, DefinitionError> {
        Ok(Call {
            key: self.labels("the call", 2, &spec.labels)?,
            duration: self.field(spec.duration)?,
            unless: self.unless([spec.unless, None])?,
        })
    }

    /// Where the calls are counted whose spikes are counted there.
    fn calls(&self, name: &str, spikes: &Family) -> Result<Calls, DefinitionError> {
        let (family, counter) = self.first_counter(name)?;
        if family.label_names() != spikes.label_names() {
            return Err(self.unknown(format!("calls by the labels of {} in {name}", spikes.name())));
        }
        let first = counter.cell(0);
        Ok(Calls { family: Arc::clone(family), cells: first..first + counter.cell_count() })
    }

    fn first_counter(&self, name: &str) -> Result<(&'a Arc<Family>, &'a Counter), DefinitionError> {
        let family = self.family(name)?;
        let counter = family.layout().counters().first();
        Ok((family, counter.ok_or_else(|| self.unknown(format!("a counter of {name}")))?))
    }

    fn family(&self, name: &str) -> Result<&'a Arc<Family>, DefinitionError> {
        let family = self.families.iter().find(|candidate| candidate.name() == name);
        family.ok_or_else(|| self.unknown(format!("family {name}")))
    }

    fn set(&self, spec: &SetSpec) -> Result<Set, DefinitionError> {
        let found = self.levels.find(&spec.level);
        let (level, labels) = found.ok_or_else(|| self.unknown(format!("level {}", spec.level)))?;
        if let ValueSource::Field(field) = spec.value {
            self.field(field)?;
        }
        Ok(Set {
            level,
            labels: self.labels(&spec.level, labels, &spec.labels)?,
            value: spec.value,
        })
    }

    fn unless(&self, flags: [Option<usize>; 2]) -> Result<Unless, DefinitionError> {
        for flag in flags.into_iter().flatten() {
            if !matches!(self.fields.get(flag), Some(FieldKind::Flag { .. })) {
                return Err(self.unknown(format!("flag {flag}")));
            }
        }
        Ok(Unless(flags))
    }

    fn word(&self, source: &WordSource) -> Result<Word, DefinitionError> {
        Ok(match source {
            WordSource::Constant(word) => Word::Always(word.as_str().into()),
            WordSource::Field(field) => match &self.fields[self.field(*field)?] {
                FieldKind::Choice { values } => Word::Choice(*field, values.as_slice().into()),
                FieldKind::Text { .. } => Word::Text(*field),
                _ => return Err(self.unknown(format!("a word in field {field}"))),
            },
        })
    }

    fn labels_of(
        &self,
        family: &Family,
        sources: &[LabelSource],
    ) -> Result<LabelSlots, DefinitionError> {
        self.labels(family.name(), family.label_names().len(), sources)
    }

    fn labels(
        &self,
        family: &str,
        expected: usize,
        sources: &[LabelSource],
    ) -> Result<LabelSlots, DefinitionError> {
        if sources.len() != expected || expected > MAX_LABELS {
            return Err(DefinitionError::Labels {
                event: self.event.to_owned(),
                family: family.to_owned(),
                given: sources.len(),
                expected,
                allowed: MAX_LABELS,
            });
        }
        let mut slots = [0; MAX_LABELS];
        let mut constants: Vec<Box<str>> = Vec::new();
        let mut join = None;
        for (label, source) in sources.iter().enumerate() {
            let slot = match source {
                LabelSource::Field(field) => self.field(*field)?,
                LabelSource::Constant(value) => {
                    constants.push(value.as_str().into());
                    MAX_FIELDS + constants.len() - 1
                }
                LabelSource::ClassOf { reference, class } => {
                    let (reference, class) = (self.field(*reference)?, self.field(*class)?);
                    join = Some(Join { label, reference, given: class, known: Known::Classes });
                    class
                }
                LabelSource::PoolOf { worker, pool } => {
                    let (worker, pool) = (self.field(*worker)?, self.field(*pool)?);
                    join =
                        Some(Join { label, reference: worker, given: pool, known: Known::Pools });
                    pool
                }
            };
            slots[label] = slot as u8;
        }
        Ok(LabelSlots { count: sources.len(), slots, constants: constants.into(), join })
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
        let exemplars = self.exemplar == Some(spec.field);
        Ok(Observe { field: self.field(spec.field)?, metric, exemplars })
    }

    /// A field, which has to be there.
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
