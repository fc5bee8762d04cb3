//! The measures of one family that an event feeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::spec::{GroupSpec, TagSource, ValueSource};
use super::{Given, Observation, Refusal, Tag};
use crate::error::DefinitionError;
use crate::family::Family;
use crate::lane::Writer;
use crate::series::Series;
use crate::series_cache::{Found, Labels, SeriesCache};
use telemetry_common::label::{self, MAX_TAGS};
use telemetry_common::thread_number::ThreadNumber;

/// The measures of one family that an event feeds.
pub struct Group {
    pub(crate) family: Arc<Family>,
    tags: Box<[TagSource]>,
    /// By measure.
    values: Box<[ValueSource]>,
    /// By measure.
    refused: Box<[Refused]>,
}

/// How often a measure got nothing, by reason.
#[derive(Default)]
struct Refused([AtomicU64; Refusal::ALL.len()]);

impl Group {
    pub(crate) fn new(
        event: &str,
        spec: GroupSpec,
        families: &[Arc<Family>],
    ) -> Result<Self, DefinitionError> {
        let unknown = |what| DefinitionError::Unknown { event: event.to_owned(), what };
        let family = families.iter().find(|family| family.name() == spec.family);
        let family = family.ok_or_else(|| unknown(format!("family {}", spec.family)))?;
        let (given, expected) = (spec.tags.len(), family.label_names().len());
        if given != expected || given > MAX_TAGS {
            let (event, allowed) = (event.to_owned(), MAX_TAGS);
            return Err(DefinitionError::TooManyTags { event, given, allowed });
        }
        if spec.measures.len() != family.layout().measures().len() {
            return Err(unknown(format!("a measure of {}", spec.family)));
        }
        Ok(Self {
            family: Arc::clone(family),
            tags: spec.tags.into(),
            refused: spec.measures.iter().map(|_| Refused::default()).collect(),
            values: spec.measures.into_iter().map(|measure| measure.value).collect(),
        })
    }

    /// Whether any measure wants the event and any of its tags is no text.
    pub(crate) fn is_untold<'a>(&self, event: &impl Observation<'a>) -> bool {
        self.tags.iter().any(|tag| event.tag(tag) == Tag::Other) && self.is_wanted(event)
    }

    fn is_wanted<'a>(&self, event: &impl Observation<'a>) -> bool {
        self.values.iter().any(|source| matches!(event.value(source), Given::Number(_)))
    }

    /// Gives each measure its number. Without a text for each tag nothing is recorded, and with
    /// `false` nothing is counted either: the event may come once more. `first_overflow` is called for the first event over the limit.
    #[inline]
    pub(crate) fn observe<'a>(
        &self,
        event: &impl Observation<'a>,
        number: &ThreadNumber,
        cache: &mut SeriesCache,
        first_overflow: impl FnOnce(&Family),
    ) -> bool {
        let mut texts = [&[][..]; MAX_TAGS];
        for (text, source) in texts.iter_mut().zip(&self.tags) {
            match event.tag(source) {
                Tag::Text(given) => *text = label::cut(given),
                Tag::Other if event.is_final() => {
                    self.refuse_all(event, Refusal::InvalidTag);
                    return true;
                }
                Tag::Other => return !self.is_wanted(event) && self.refuse_each(event),
                Tag::Refused(reason) => {
                    self.refuse_all(event, reason);
                    return true;
                }
            }
        }
        if !self.is_wanted(event) {
            return self.refuse_each(event);
        }
        let labels = Labels::new(self.tags.len(), |index| texts[index]);
        match cache.series(&self.family, labels, number) {
            Found::Here(place) => match cache.get(place) {
                Some((series, Some(lane))) => self.write(event, series, &series.lanes().own(lane)),
                Some((series, None)) => self.write(event, series, &series.lanes().shared()),
                None => {}
            },
            Found::Overflow(series) => {
                self.write(event, &series, &series.lanes().shared());
                if self.family.is_first_overflow() {
                    first_overflow(&self.family);
                }
            }
        }
        true
    }

    #[inline]
    fn write<'a>(&self, event: &impl Observation<'a>, series: &Series, writer: &impl Writer) {
        let layout = self.family.layout();
        let mut marks = 0;
        for (index, (measure, source)) in layout.measures().iter().zip(&self.values).enumerate() {
            match event.value(source) {
                Given::Number(number) => marks |= measure.record(writer, series, number),
                Given::Dropped => {}
                Given::Refused(reason) => self.refuse(index, reason),
            }
        }
        let cells = writer.cells();
        if marks != 0 {
            writer.mark(&cells[layout.marks_cell()], marks);
        }
        writer.finish(&cells[layout.events_cell()]);
    }

    #[cold]
    fn refuse(&self, measure: usize, reason: Refusal) {
        self.refused[measure].0[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts why no measure got a number.
    #[cold]
    fn refuse_each<'a>(&self, event: &impl Observation<'a>) -> bool {
        for (index, source) in self.values.iter().enumerate() {
            if let Given::Refused(reason) = event.value(source) {
                self.refuse(index, reason);
            }
        }
        true
    }

    /// Counts that no measure got its number for the same reason, unless there was none.
    #[cold]
    fn refuse_all<'a>(&self, event: &impl Observation<'a>, reason: Refusal) {
        for (index, source) in self.values.iter().enumerate() {
            match event.value(source) {
                Given::Number(_) => self.refuse(index, reason),
                Given::Refused(reason) => self.refuse(index, reason),
                Given::Dropped => {}
            }
        }
    }

    /// The names of measures that got nothing, and how often, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, Refusal, u64)> {
        let measures = self.family.layout().measures().iter().zip(&self.refused);
        measures.flat_map(|(measure, refused)| {
            Refusal::ALL.into_iter().map(move |reason| {
                (&*measure.name, reason, refused.0[reason as usize].load(Relaxed))
            })
        })
    }

    /// Forgets what was refused.
    pub fn clear(&self) {
        self.refused
            .iter()
            .flat_map(|refused| &refused.0)
            .for_each(|count| count.store(0, Relaxed));
    }
}
