//! Exemplars: for the buckets of a histogram one sample each that can be looked up elsewhere, by the
//! session or trace that it belongs to.
//!
//! Events carry what identifies them only for this purpose, so the hot path does not look at it. It
//! notices when a sample is the first one in its range of values since a slice of time began, which
//! the marks that ticks go by tell anyway (see [`crate::lane`]), and only then asks for the rest of
//! the event. So a series takes at most 64 exemplars in a slice from each recording thread, and the
//! one in a bucket is at most about a slice older than the newest sample there.

use std::sync::{Arc, Mutex};

use once_cell::race::OnceBox;

use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label;
use telemetry_common::lock::lock;

/// Most characters of an exemplar's label names and values together, as OpenMetrics 1.0 demands.
pub const MAX_CHARACTERS: usize = 128;

/// A sample with what it can be found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The sample, in stored units.
    pub value: u64,
    /// When it was recorded, in milliseconds since 1970.
    pub unix_ms: i64,
    labels: Box<[(Arc<str>, Box<str>)]>,
}

impl Exemplar {
    /// An exemplar with those labels for which there is room, the first ones first; empty values do
    /// not count. A value that would have to be cut is left out, since it would find nothing. `None`
    /// without any label.
    pub fn new<'l>(
        value: u64,
        unix_ms: i64,
        labels: impl IntoIterator<Item = (&'l Arc<str>, &'l [u8])>,
    ) -> Option<Self> {
        let mut room = MAX_CHARACTERS;
        let mut kept = Vec::new();
        for (name, value) in labels {
            if value.is_empty() || value.len() > label::MAX_LABEL_BYTES {
                continue;
            }
            let value = label::normalise(value);
            let characters = name.chars().count() + value.chars().count();
            if let Some(left) = room.checked_sub(characters) {
                room = left;
                kept.push((Arc::clone(name), Box::from(&*value)));
            }
        }
        let labels = kept.into_boxed_slice();
        (!labels.is_empty()).then_some(Self { value, unix_ms, labels })
    }

    /// Names and values of its labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&**name, &**value))
    }

    fn memory_bytes(&self) -> usize {
        let values = self.labels.iter().map(|(_, value)| value.heap_bytes());
        heap::sum([self.labels.heap_bytes(), heap::sum(values)])
    }
}

/// Which bucket of which histogram of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) histogram: usize,
    pub(crate) bucket: usize,
}

type Kept = Vec<(Place, Exemplar)>;

/// The exemplars of a series: one for each bucket, the latest.
#[derive(Default)]
pub(crate) struct Exemplars(OnceBox<Mutex<Kept>>);

impl Exemplars {
    pub(crate) fn keep(&self, place: Place, exemplar: Exemplar) {
        let mut kept = lock(self.0.get_or_init(Box::default));
        match kept.iter_mut().find(|(other, _)| *other == place) {
            Some((_, old)) => *old = exemplar,
            None => kept.push((place, exemplar)),
        }
    }

    /// The exemplars of a histogram by bucket; not all buckets need be there.
    pub(crate) fn of(&self, histogram: usize) -> Vec<Option<Exemplar>> {
        let mut buckets = Vec::new();
        let Some(kept) = self.0.get() else {
            return buckets;
        };
        for (place, exemplar) in lock(kept).iter().filter(|(at, _)| at.histogram == histogram) {
            if buckets.len() <= place.bucket {
                buckets.resize(place.bucket + 1, None);
            }
            buckets[place.bucket] = Some(exemplar.clone());
        }
        buckets
    }

    /// Takes over what another series has, where there is nothing yet.
    pub fn absorb(&self, other: &Self) {
        let Some(others) = other.0.get() else {
            return;
        };
        let others = std::mem::take(&mut *lock(others));
        let mut kept = lock(self.0.get_or_init(Box::default));
        for (place, exemplar) in others {
            if !kept.iter().any(|(at, _)| *at == place) {
                kept.push((place, exemplar));
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.get().map_or(0, |kept| {
            let kept = lock(kept);
            let exemplars = kept.iter().map(|(_, exemplar)| exemplar.memory_bytes());
            heap::sum([size_of::<Mutex<Kept>>(), kept.heap_bytes(), heap::sum(exemplars)])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(labels: &[(&str, &[u8])]) -> Option<Exemplar> {
        let names: Vec<Arc<str>> = labels.iter().map(|(name, _)| Arc::from(*name)).collect();
        Exemplar::new(1, 2, names.iter().zip(labels.iter().map(|(_, value)| *value)))
    }

    fn kept(labels: &[(&str, &[u8])]) -> Vec<(String, String)> {
        let exemplar = exemplar(labels).expect("some label fits");
        exemplar.labels().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn labels_beyond_the_limit_are_left_out_whole() {
        let long = "é".repeat(MAX_CHARACTERS - "trace_id".len());
        let both: [(&str, &[u8]); 2] = [("trace_id", long.as_bytes()), ("session_id", b"s")];
        assert_eq!(kept(&both), [("trace_id".to_owned(), long.clone())]);
        let longer = format!("{long}x");
        let both: [(&str, &[u8]); 2] = [("trace_id", longer.as_bytes()), ("session_id", b"s")];
        assert_eq!(kept(&both), [("session_id".to_owned(), "s".to_owned())]);
    }

    #[test]
    fn without_labels_there_is_no_exemplar() {
        assert_eq!(exemplar(&[]), None);
        assert_eq!(exemplar(&[("session_id", b"")]), None);
        assert_eq!(exemplar(&[("session_id", &[b'x'; 1_000])]), None);
    }

    #[test]
    fn memory_of_exemplars_and_their_labels_is_counted() {
        let exemplars = Exemplars::default();
        assert_eq!(exemplars.memory_bytes(), 0);
        let name = Arc::from("session_id");
        let text = [b's'; 100];
        for bucket in 0..8 {
            let exemplar = Exemplar::new(1, 0, [(&name, &text[..])]).expect("has a label");
            exemplars.keep(Place { histogram: 0, bucket }, exemplar);
        }
        let labels = size_of::<(Arc<str>, Box<str>)>() + size_of_val(&text);
        let expected = size_of::<Mutex<Kept>>() + 8 * (size_of::<(Place, Exemplar)>() + labels);
        assert_eq!(exemplars.memory_bytes(), expected);
    }

    #[test]
    fn the_latest_of_a_bucket_is_kept() {
        let exemplars = Exemplars::default();
        let sample = |value: u64| {
            let name = Arc::from("session_id");
            Exemplar::new(value, 0, [(&name, &b"s"[..])]).expect("has a label")
        };
        exemplars.keep(Place { histogram: 0, bucket: 1 }, sample(1));
        exemplars.keep(Place { histogram: 0, bucket: 1 }, sample(2));
        exemplars.keep(Place { histogram: 1, bucket: 0 }, sample(3));
        assert_eq!(exemplars.of(0), [None, Some(sample(2))]);
        assert_eq!(exemplars.of(1), [Some(sample(3))]);
        let successor = Exemplars::default();
        successor.keep(Place { histogram: 1, bucket: 0 }, sample(4));
        successor.absorb(&exemplars);
        assert_eq!(successor.of(0), [None, Some(sample(2))]);
        assert_eq!(successor.of(1), [Some(sample(4))]);
    }
}
