//! Where the labels of a series come from.

use std::sync::Arc;

use crate::field::{Fields, MAX_FIELDS};
use crate::series_cache::{JoinedLabel, Labels};
use telemetry_common::label::{self, LabelSet, MAX_LABELS, UNKNOWN};
use telemetry_common::refs::Refs;

/// Tables in which labels are looked up.
pub struct Lookups {
    /// Classes of references.
    pub classes: Arc<Refs>,
    /// Pools of workers.
    pub pools: Arc<Refs>,
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
pub struct LabelSlots {
    pub(crate) count: usize,
    /// For each label the field that it comes from or, from [`MAX_FIELDS`] on, the constant.
    pub(crate) slots: [u8; MAX_LABELS],
    /// Labels that are always the same.
    pub(crate) constants: Box<[Box<str>]>,
    pub(crate) join: Option<Join>,
}

impl LabelSlots {
    /// The labels of an event as series are found by them in a thread's cache, with one more at their end if there is
    /// one.
    #[inline]
    pub(super) fn labels<'a>(
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
    pub(super) fn needed_join(&self, fields: &Fields<'_>) -> Option<&Join> {
        self.join.as_ref().filter(|join| join.is_needed(fields))
    }

    /// The label values of an event as they are in a series.
    pub fn resolve(&self, fields: &Fields<'_>, lookups: &Lookups) -> LabelSet {
        let join = self.needed_join(fields);
        let value = |label: usize| match (join, usize::from(self.slots[label])) {
            (Some(join), _) if join.label == label => {
                let (known, otherwise) = join.looked_up(fields, lookups);
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
    fn looked_up<'a>(&self, fields: &Fields<'a>, lookups: &'a Lookups) -> (&'a Refs, &'a [u8]) {
        match self.known {
            Known::Classes => (&lookups.classes, UNKNOWN),
            Known::Pools => (&lookups.pools, fields.text(self.given)),
        }
    }

    /// The table, and the label as it is looked up there.
    #[inline]
    pub(super) fn joined<'a>(
        &self,
        fields: &Fields<'a>,
        lookups: &'a Lookups,
    ) -> (&'a Refs, JoinedLabel<'a>) {
        let (refs, otherwise) = self.looked_up(fields, lookups);
        (refs, JoinedLabel { index: self.label, otherwise })
    }

    /// Whether what is known counts rather than what the event itself says.
    #[inline]
    fn is_needed(&self, fields: &Fields<'_>) -> bool {
        let is_given = self.known == Known::Classes && fields.is_given(self.given);
        !is_given && fields.is_given(self.reference)
    }
}
