//! The compiler of plans: names become places, and what does not fit is refused.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde_json::Value;

use crate::effect::{Alarm, Claim, Effect};
use crate::error::DefinitionError;
use crate::family::{Family, UsageSource};
use crate::field::{ALWAYS, FieldKind, Inputs, MAX_FIELDS};
use crate::metric::Counter;
use crate::plan::{
    Calls, Compiled, Context, Count, ErrorCount, Failure, Feed, Join, KindSource, Known,
    LabelSlots, Lookups, MAX_DIMENSIONS, Observe, Plan, SkipIf, Step,
};
use crate::plan_spec::{
    CALL, CountSpec, DimensionSource, FailureSpec, FeedSpec, LabelSource, ObserveSpec, PlanSpec,
    StepSpec, WordSource,
};
use telemetry_common::label::MAX_LABELS;

/// Makes effects from what a definition says of them.
pub trait Effects {
    /// A step by its name.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if there is none of that name, or it refers to something that is not there.
    fn effect(
        &self,
        name: &str,
        spec: Value,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError>;

    /// A claim.
    ///
    /// # Errors
    ///
    /// As [`Self::effect`].
    fn claim(
        &self,
        spec: Value,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Claim>, DefinitionError>;

    /// Who is told of errors. Spikes of them are counted in this cell of the family with their key as labels;
    /// `logs` says whether the plan has calls that may be logged.
    fn alarm(&self, spikes: (Arc<Family>, usize), logs: bool) -> Box<dyn Alarm>;
}

impl Plan {
    /// Compiles a plan against the families that it feeds.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if it has too many fields or refers to something that is not there.
    pub fn compile(
        spec: PlanSpec,
        families: &[Arc<Family>],
        effects: &dyn Effects,
        context: Arc<Context>,
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
            lookups: &context.lookups,
            exemplar: exemplar_field,
            logs: spec.call.is_some(),
            sources: RefCell::default(),
            keeps_references: Cell::new(false),
        };
        exemplar_field.map(|field| compiler.field(field)).transpose()?;
        let steps = spec.steps.into_iter().map(|step| compiler.step(step, effects));
        let mut steps: Vec<_> = steps.collect::<Result<_, _>>()?;
        // After all others, which find out whether it failed.
        if let Some(call) = spec.call {
            steps.push(Step::of(effects.effect(CALL, call, &compiler)?, true));
        }
        let claim = spec.claim.map(|claim| effects.claim(claim, &compiler)).transpose()?;
        let inputs = Inputs::new(&spec.fields, &compiler.unneeded(), &compiler.label_fields());
        let compiled = Compiled {
            inputs,
            steps: steps.into(),
            claim,
            exemplar_labels: exemplar_labels.map(|name| name.as_str().into()).collect(),
            event: spec.event.clone(),
            groups: Box::default(),
        };
        Ok(Self::new(compiled, context))
    }
}

impl Step {
    fn of(effect: Box<dyn Effect>, claimed: bool) -> Self {
        let needs = effect.needs().map(|field| field.unwrap_or(ALWAYS));
        Self::Effect { needs, claimed, effect }
    }
}

/// What a step is compiled against.
pub struct Compiler<'a> {
    event: &'a str,
    fields: &'a [FieldKind],
    families: &'a [Arc<Family>],
    lookups: &'a Arc<Lookups>,
    /// The field of which exemplars are kept.
    exemplar: Option<usize>,
    /// Whether calls may be logged.
    logs: bool,
    /// Where labels come from, as far as steps have been compiled.
    sources: RefCell<Vec<LabelSource>>,
    keeps_references: Cell<bool>,
}

impl<'a> Compiler<'a> {
    fn step(&self, spec: StepSpec, effects: &dyn Effects) -> Result<Step, DefinitionError> {
        Ok(match spec {
            StepSpec::Feed(spec) => Step::Feed(self.feed(&spec)?),
            StepSpec::Failure(spec) => Step::Failure(self.failure(&spec, effects)?),
            StepSpec::Effect { name, spec } => Step::of(effects.effect(&name, spec, self)?, false),
        })
    }

    /// Tables in which labels are looked up.
    pub fn lookups(&self) -> &Arc<Lookups> {
        self.lookups
    }

    /// Says that a reference is needed even where the class is given.
    pub fn keep_references(&self) {
        self.keeps_references.set(true);
    }

    /// References that need not be looked at where the class is given, with the field of the class. One
    /// that is bound to its class is always needed.
    fn unneeded(&self) -> Vec<(usize, usize)> {
        let bound = self.keeps_references.get();
        let sources = self.sources.borrow();
        let pairs = sources.iter().filter_map(|label| match label {
            LabelSource::ClassOf { reference, class } if !bound => Some((*reference, *class)),
            _ => None,
        });
        pairs.collect()
    }

    /// The fields whose text is a label.
    fn label_fields(&self) -> Vec<usize> {
        let sources = self.sources.borrow();
        let fields = sources.iter().filter_map(|label| match label {
            LabelSource::Field(field) => Some(*field),
            _ => None,
        });
        fields.collect()
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
            |names: &UsageSource| spec.counts.iter().any(|count| count.counter == names.counter());
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

    fn failure(
        &self,
        spec: &FailureSpec,
        effects: &dyn Effects,
    ) -> Result<Failure, DefinitionError> {
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
            alarm: effects.alarm((Arc::clone(spikes), counter.cell(0)), self.logs),
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

    /// Flags, which have to be there, of which any that is set makes a step not apply.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if there is no such flag.
    pub fn unless(&self, flags: [Option<usize>; 2]) -> Result<SkipIf, DefinitionError> {
        for flag in flags.into_iter().flatten() {
            if !matches!(self.fields.get(flag), Some(FieldKind::Flag { .. })) {
                return Err(self.unknown(format!("flag {flag}")));
            }
        }
        Ok(SkipIf(flags))
    }

    fn word(&self, source: &WordSource) -> Result<KindSource, DefinitionError> {
        Ok(match source {
            WordSource::Constant(word) => KindSource::Always(word.as_str().into()),
            WordSource::Field(field) => match &self.fields[self.field(*field)?] {
                FieldKind::Choice { values } => {
                    KindSource::Choice(*field, values.as_slice().into())
                }
                FieldKind::Text { .. } => KindSource::Text(*field),
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

    /// Where so many labels of something come from.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if there are more or fewer, or no such fields.
    pub fn labels(
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
        self.sources.borrow_mut().extend_from_slice(sources);
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
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if there is none.
    pub fn field(&self, index: usize) -> Result<usize, DefinitionError> {
        if index < self.fields.len() {
            Ok(index)
        } else {
            Err(self.unknown(format!("field {index}")))
        }
    }

    /// Fields, which all have to be there.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if one is not.
    pub fn fields(&self, indices: impl IntoIterator<Item = usize>) -> Result<(), DefinitionError> {
        indices.into_iter().try_for_each(|index| self.field(index).map(drop))
    }

    /// Says that the plan refers to something that is not there.
    pub fn unknown(&self, what: String) -> DefinitionError {
        DefinitionError::Unknown { event: self.event.to_owned(), what }
    }
}
