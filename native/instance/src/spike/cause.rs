//! Causes of errors: interned for each key, and counted within bounds.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::normalise;

/// Most causes that are told of.
const MAX_CAUSES: usize = 8;

/// Most causes that a key knows at a time.
const KNOWN_CAUSES: usize = 32;

/// Most causes of a spike that are counted.
const COUNTED_CAUSES: usize = 16;

/// Kind and reason of the causes for which there was no room.
const OTHER_TEXT: &str = "other";

/// How often errors had a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What was raised, such as `error` or `exit`.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// How many errors.
    pub count: u64,
}

impl Cause {
    /// What causes are listed by: the most frequent first, equal ones by their text.
    pub fn rank(&self) -> (Reverse<u64>, &str, &str) {
        (Reverse(self.count), &self.kind, &self.reason)
    }
}

/// The causes of both, as far as they are told of: the most frequent first.
pub(super) fn merge(mut causes: Vec<Cause>, more: Vec<Cause>) -> Vec<Cause> {
    for cause in more {
        let is_same = |known: &&mut Cause| known.kind == cause.kind && known.reason == cause.reason;
        match causes.iter_mut().find(is_same) {
            Some(known) => known.count += cause.count,
            None => causes.push(cause),
        }
    }
    causes.sort_by(|one, other| one.rank().cmp(&other.rank()));
    causes.truncate(MAX_CAUSES);
    causes
}

/// The place of a cause among those that its key knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CauseId(u8);

const OTHER: CauseId = CauseId(KNOWN_CAUSES as u8);

/// The causes that a key knows. One that is no longer in use stays known until its place is
/// needed, so that a cause which comes back allocates nothing.
#[derive(Default)]
pub(super) struct Causes(Vec<KnownCause>);

struct KnownCause {
    kind: Box<str>,
    reason: Box<str>,
    /// How many errors in the window and counters have this cause.
    uses: u32,
}

impl Causes {
    /// The id of a cause, which is in use once more.
    pub(super) fn hold(&mut self, kind: &str, reason: &str) -> CauseId {
        let (kind, reason) = (normalise(kind.as_bytes()), normalise(reason.as_bytes()));
        let id = self.id_of(&kind, &reason);
        self.hold_again(id);
        id
    }

    fn id_of(&mut self, kind: &str, reason: &str) -> CauseId {
        if (kind, reason) == (OTHER_TEXT, OTHER_TEXT) {
            return OTHER;
        }
        let is_same = |known: &KnownCause| *known.kind == *kind && *known.reason == *reason;
        if let Some(place) = self.0.iter().position(is_same) {
            return CauseId(place as u8);
        }
        let new = || KnownCause { kind: kind.into(), reason: reason.into(), uses: 0 };
        if self.0.len() < KNOWN_CAUSES {
            self.0.push(new());
            return CauseId((self.0.len() - 1) as u8);
        }
        match self.0.iter().position(|known| known.uses == 0) {
            Some(place) => {
                self.0[place] = new();
                CauseId(place as u8)
            }
            None => OTHER,
        }
    }

    fn hold_again(&mut self, id: CauseId) {
        if let Some(known) = self.0.get_mut(usize::from(id.0)) {
            known.uses += 1;
        }
    }

    /// Takes back one use of a cause.
    pub(super) fn release(&mut self, id: CauseId) {
        if let Some(known) = self.0.get_mut(usize::from(id.0)) {
            known.uses = known.uses.saturating_sub(1);
        }
    }

    /// Counts these causes exactly and gives the most frequent ones.
    pub(super) fn tally(&self, ids: impl Iterator<Item = CauseId>) -> Vec<Cause> {
        let mut counts = [0; KNOWN_CAUSES + 1];
        for id in ids {
            counts[usize::from(id.0)] += 1;
        }
        let counts = counts.into_iter().enumerate();
        self.most_frequent(counts.map(|(place, count)| (CauseId(place as u8), count)))
    }

    /// The causes with the highest counts, in descending order; equal ones by their text.
    fn most_frequent(&self, counts: impl Iterator<Item = (CauseId, u64)>) -> Vec<Cause> {
        let with_text = |(id, count)| (Reverse(count), self.text(id));
        let mut causes: Vec<_> = counts.filter(|&(_, count)| count > 0).map(with_text).collect();
        causes.sort_unstable();
        causes.truncate(MAX_CAUSES);
        let cause = |(Reverse(count), (kind, reason)): (_, (&str, &str))| Cause {
            kind: kind.to_owned(),
            reason: reason.to_owned(),
            count,
        };
        causes.into_iter().map(cause).collect()
    }

    fn text(&self, id: CauseId) -> (&str, &str) {
        let known = self.0.get(usize::from(id.0));
        known.map_or((OTHER_TEXT, OTHER_TEXT), |known| (&*known.kind, &*known.reason))
    }

    /// Bytes allocated for the causes.
    pub(super) fn memory_bytes(&self) -> usize {
        let texts = self.0.iter().flat_map(|known| [&known.kind, &known.reason]);
        heap::sum([self.0.heap_bytes(), heap::sum(texts.map(HeapBytes::heap_bytes))])
    }
}

/// How often the causes of a spike occurred, by the Space-Saving algorithm (Metwally, Agrawal and
/// El Abbadi, "Efficient computation of frequent and top-k elements in data streams", ICDT 2005).
///
/// Up to [`COUNTED_CAUSES`] causes are counted exactly. A further one takes the counter with the
/// lowest count and its count, so that a cause with more than a 16th of all errors is always
/// counted, never too low and at most a 16th of all errors too high.
pub(super) struct Counters(Vec<(CauseId, u64)>);

impl Default for Counters {
    fn default() -> Self {
        Self(Vec::with_capacity(COUNTED_CAUSES))
    }
}

impl Counters {
    /// Counts an error with this cause.
    pub(super) fn add(&mut self, cause: CauseId, causes: &mut Causes) {
        if let Some((_, count)) = self.0.iter_mut().find(|(counted, _)| *counted == cause) {
            *count += 1;
        } else if self.0.len() < COUNTED_CAUSES {
            causes.hold_again(cause);
            self.0.push((cause, 1));
        } else if let Some((counted, count)) = self.0.iter_mut().min_by_key(|(_, count)| *count) {
            causes.hold_again(cause);
            causes.release(*counted);
            *counted = cause;
            *count += 1;
        }
    }

    /// The most frequent causes.
    pub(super) fn most_frequent(&self, causes: &Causes) -> Vec<Cause> {
        causes.most_frequent(self.0.iter().copied())
    }

    /// Takes back the use of all counted causes.
    pub(super) fn release(self, causes: &mut Causes) {
        self.0.into_iter().for_each(|(cause, _)| causes.release(cause));
    }

    /// Bytes allocated for the counters.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}
