//! Usage in a window, read from the counters of series.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::Serialize;

use crate::source::{Live, Source};
use telemetry_common::moment::Moment;
use telemetry_instance::instance::Instance;
use telemetry_instance::usage::ByKind;
use telemetry_recording::family::UsageKind;
use telemetry_windows::window::{Interval, Window};

/// What was used how often in a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsageInWindow {
    /// The time that it covers.
    pub interval: Interval,
    /// All uses of all kinds.
    pub total: u64,
    /// The same by kind, with names.
    pub kinds: ByKind<KindInWindow>,
}

/// What was used how often in a window, of one kind. Names over the limit of series are one,
/// [`telemetry_common::label::OVERFLOW_LABEL`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindInWindow {
    /// All uses.
    pub total: u64,
    /// How many names were used.
    pub names: usize,
    /// The names that were used most, those of equal count by name.
    pub most_used: Vec<UsedInWindow>,
}

/// A name that was used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsedInWindow {
    /// The name.
    pub name: String,
    /// How often.
    pub count: u64,
}

impl UsageInWindow {
    /// Reads an instance while it goes on recording. `top` is how many names there are of each kind.
    pub fn new(instance: &Instance, top: usize, window: Window, now: Moment) -> Self {
        let reader = instance.read();
        Self::of(&Live::new(&reader, window, now), top)
    }

    /// What a source says.
    pub(crate) fn of(source: &dyn Source, top: usize) -> Self {
        let kinds = ByKind::new(|kind| of_kind(source, kind, top));
        let total = kinds.iter().map(|kind| kind.total).sum();
        Self { interval: source.interval(), total, kinds }
    }
}

fn of_kind(source: &dyn Source, kind: UsageKind, top: usize) -> KindInWindow {
    let mut counts: HashMap<String, u64, RandomState> = HashMap::default();
    for family in source.families() {
        let of_kind = family.usage_counter().filter(|(usage, _)| usage.kind() == kind);
        let Some((usage, counter)) = of_kind else {
            continue;
        };
        for (labels, point) in source.points(family.name()).iter() {
            let count = point.sum(counter.cells());
            if count > 0 {
                *counts.entry(usage.name(labels)).or_default() += count;
            }
        }
    }
    let total = counts.values().sum();
    let names = counts.len();
    let used = counts.into_iter().map(|(name, count)| UsedInWindow { name, count });
    let mut most_used: Vec<_> = used.collect();
    most_used.sort_by(|left, right| {
        right.count.cmp(&left.count).then_with(|| left.name.cmp(&right.name))
    });
    most_used.truncate(top);
    KindInWindow { total, names, most_used }
}
