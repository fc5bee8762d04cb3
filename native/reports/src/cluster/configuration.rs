//! Whether families of two nodes can be added up, and whether a family from elsewhere may be made at
//! all.

use std::fmt::Debug;

use super::node::{Refusal, State};
use telemetry_recording::family::{Family, FamilySpec};

/// More than any instance has, and few enough to be made without asking what they cost.
pub(super) const MAX_FAMILIES: usize = 2_048;
const MAX_METRICS: usize = 64;
const MAX_MEASURES: usize = 128;
const MAX_CELLS: usize = 8_192;

/// Makes the families that a snapshot has points of; they hold no series.
pub(super) fn families(specs: &[FamilySpec]) -> Result<Vec<Family>, Refusal> {
    let refused = |what: &str| Refusal::corrupt(&format!("its snapshot {what}"));
    if specs.len() > MAX_FAMILIES {
        return Err(refused("has too many families"));
    }
    let mut names: Vec<_> = specs.iter().map(|spec| &spec.name).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(refused("has a family twice"));
    }
    specs
        .iter()
        .map(|spec| {
            if cell_count(spec).is_none() {
                return Err(refused("has a family with impossible metrics"));
            }
            Family::new(spec.clone()).map_err(|error| refused(&format!("is not allowed: {error}")))
        })
        .collect()
}

/// An upper bound of the cells that counters and histograms of a series take, `None` if they are too many or a dimension has no
/// values.
fn cell_count(spec: &FamilySpec) -> Option<usize> {
    if spec.counters.len() > MAX_METRICS || spec.histograms.len() > MAX_METRICS {
        return None;
    }
    // Of their cells a definition has to name each, so they cost whoever sends it the more.
    if spec.measures.len() > MAX_MEASURES {
        return None;
    }
    let mut cells = 0_usize;
    for counter in &spec.counters {
        let sizes = counter.dimensions.iter().map(|dimension| dimension.values.len());
        let mut product = 1_usize;
        for size in sizes {
            product =
                product.checked_mul(size).filter(|product| (1..=MAX_CELLS).contains(product))?;
        }
        cells += product;
    }
    cells += spec.histograms.iter().map(|histogram| 8 + histogram.bounds.len()).sum::<usize>();
    (cells <= MAX_CELLS).then_some(cells)
}

/// Says why points of two families of the same name do not add up; nothing if they do.
pub(super) fn check(merged: &FamilySpec, other: &FamilySpec) -> Result<(), Refusal> {
    let name = &merged.name;
    differ(name, "significant digits", &merged.digits, &other.digits)?;
    differ(name, "labels", &merged.labels, &other.labels)?;
    let histograms = |spec: &FamilySpec| {
        spec.histograms.iter().map(|metric| (metric.name.clone(), metric.unit)).collect::<Vec<_>>()
    };
    differ(name, "histograms", &histograms(merged), &histograms(other))?;
    for (merged, other) in merged.histograms.iter().zip(&other.histograms) {
        differ(&merged.name, "bucket bounds", &merged.bounds, &other.bounds)?;
    }
    let counters = |spec: &FamilySpec| {
        let dimension = |dimension: &telemetry_recording::metric::Dimension| {
            (dimension.name.clone(), dimension.values.clone())
        };
        let counter = |counter: &telemetry_recording::metric::CounterSpec| {
            (counter.name.clone(), counter.dimensions.iter().map(dimension).collect::<Vec<_>>())
        };
        spec.counters.iter().map(counter).collect::<Vec<_>>()
    };
    differ(name, "counters", &counters(merged), &counters(other))?;
    differ(name, "roles", &merged.role, &other.role)?;
    differ(name, "usage", &merged.usage, &other.usage)?;
    differ(name, "definitions", &merged.measures, &other.measures)
}

fn differ<T: PartialEq + Debug>(
    of: &str,
    what: &str,
    merged: &T,
    other: &T,
) -> Result<(), Refusal> {
    if merged == other {
        return Ok(());
    }
    let reason = format!(
        "the {what} of {of} are {other:?} there and {merged:?} in what was merged before: numbers add \
         up only where they are the same"
    );
    Err(Refusal { state: State::OtherConfiguration, reason })
}
