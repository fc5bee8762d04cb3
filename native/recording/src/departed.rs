//! What series had counted that have retired, for counters that lack a label.
//!
//! Such a counter sums the series that differ only in that label. When one of them retires the sum would go
//! down, which whoever watches it takes for a counter that begins again at what is left: it would be
//! counted twice. So what a series had counted stays until the last one of its sum retires, with which
//! the sum ends as every counter of a retired series does.

use std::collections::{BTreeMap, BTreeSet};

use crate::metric::Counter;
use crate::series::Series;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::LabelSet;

/// The counter by its place among those of the family, and the labels that it keeps. There are at most as
/// many for each counter as there are series.
type Key = (usize, LabelSet);

/// What the series of a family had counted that have retired.
#[derive(Debug, Default)]
pub struct Departed {
    sums: BTreeMap<Key, Sum>,
}

/// What several series have counted together.
#[derive(Clone, Debug)]
pub struct Sum {
    /// By combination of the counter's dimensions.
    pub values: Box<[u64]>,
    /// Since when, in milliseconds since 1970.
    pub created_unix_ms: i64,
}

impl Sum {
    /// Of one series.
    pub fn new(values: &[u64], created_unix_ms: i64) -> Self {
        Self { values: values.into(), created_unix_ms }
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &Self) {
        self.created_unix_ms = self.created_unix_ms.min(other.created_unix_ms);
        for (sum, value) in self.values.iter_mut().zip(&other.values) {
            *sum = sum.saturating_add(*value);
        }
    }
}

impl Departed {
    /// Keeps what a series has counted, which nobody writes to any more.
    pub fn add(&mut self, counters: &[Counter], series: &Series) {
        for (place, counter) in dropping(counters) {
            let values: Box<[u64]> = counter.cells().map(|cell| series.lanes().sum(cell)).collect();
            let sum = Sum { values, created_unix_ms: series.created_unix_ms() };
            let all = self.sums.entry((place, kept(counter, series.labels())));
            all.and_modify(|all| all.add(&sum)).or_insert(sum);
        }
    }

    /// Forgets sums that none of these series belongs to.
    pub fn retain(&mut self, counters: &[Counter], series: &[std::sync::Arc<Series>]) {
        if self.sums.is_empty() {
            return;
        }
        let of_series = |(place, counter)| {
            series.iter().map(move |series| (place, kept(counter, series.labels())))
        };
        let living: BTreeSet<Key> = dropping(counters).flat_map(of_series).collect();
        self.sums.retain(|key, _| living.contains(key));
    }

    /// The sums of a counter by the labels that it keeps.
    pub fn of(&self, counter: usize) -> impl Iterator<Item = (&LabelSet, &Sum)> {
        let of_counter = self.sums.iter().filter(move |((place, _), _)| *place == counter);
        of_counter.map(|((_, labels), sum)| (labels, sum))
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.sums.clear();
    }

    /// Bytes allocated, but for free room in nodes.
    pub(crate) fn memory_bytes(&self) -> usize {
        heap::sum([
            heap::entries::<(Key, Sum)>(self.sums.len()),
            heap::sum(self.sums.keys().map(|(_, labels)| labels.memory_bytes())),
            heap::sum(self.sums.values().map(|sum| sum.values.heap_bytes())),
        ])
    }
}

fn dropping(counters: &[Counter]) -> impl Iterator<Item = (usize, &Counter)> {
    counters.iter().enumerate().filter(|(_, counter)| counter.drops_labels())
}

/// The labels that a counter keeps.
fn kept(counter: &Counter, labels: &LabelSet) -> LabelSet {
    let values = labels.values().enumerate();
    LabelSet::new(values.filter(|(place, _)| counter.has_label(*place)).map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_sums_and_their_labels_is_counted() {
        let labels = LabelSet::new(["123456"]);
        let sum = |place| ((place, labels.clone()), Sum::new(&[1, 2, 3], 0));
        let departed = Departed { sums: BTreeMap::from([sum(0), sum(1)]) };
        let one = size_of::<(Key, Sum)>() + labels.memory_bytes() + 3 * size_of::<u64>();
        assert_eq!(departed.memory_bytes(), 2 * one);
    }
}
