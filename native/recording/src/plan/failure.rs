//! Errors: counted by reason, and told on.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::feed::count_at;
use super::labels::LabelSlots;
use super::skip_if::SkipIf;
use crate::effect::Alarm;
use crate::family::Family;
use crate::field::Fields;
use crate::series::Series;
use crate::series_cache::{Found, SeriesCache};
use telemetry_common::label;

/// An error of a key.
pub(crate) struct Failure {
    pub(crate) unless: SkipIf,
    pub(crate) claimed: bool,
    pub(crate) key: LabelSlots,
    pub(crate) kind: KindSource,
    pub(crate) reason: Option<usize>,
    /// The reason where the event gives none.
    pub(crate) otherwise: Box<str>,
    pub(crate) alarm: Box<dyn Alarm>,
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
    pub(super) fn total(&self, series: &Series) -> u64 {
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

/// The kind of an error.
pub(crate) enum KindSource {
    Always(Box<str>),
    /// A text field.
    Text(usize),
    /// A choice field and its words.
    Choice(usize, Box<[String]>),
}

impl ErrorCount {
    pub(super) fn count(&self, kind: &str, series: Found, cache: &SeriesCache) {
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

impl Failure {
    /// Its kind and its reason.
    pub(super) fn why<'f>(&'f self, fields: &Fields<'f>) -> (Cow<'f, str>, Cow<'f, str>) {
        let reason = match self.reason.filter(|reason| fields.is_given(*reason)) {
            Some(reason) => label::normalise(fields.text(reason)),
            None => Cow::Borrowed(&*self.otherwise),
        };
        (self.kind.resolve(fields), reason)
    }
}

impl KindSource {
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
