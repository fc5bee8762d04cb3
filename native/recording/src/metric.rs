//! Metrics: what a family of series holds, and in which cells.

use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

use crate::bounds::Bounds;
use crate::error::DefinitionError;
use crate::histogram::Precision;

/// Durations are stored in nanoseconds and told in microseconds.
pub const NANOSECONDS_PER_MICROSECOND: f64 = 1e3;

/// The unit in which a histogram's samples are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Time, stored in nanoseconds and reported in microseconds.
    Nanosecond,
    /// Time, stored in milliseconds and exposed in seconds.
    Millisecond,
    /// Sizes.
    Byte,
    /// Plain numbers.
    One,
}

impl Unit {
    /// How many stored units make one of those in which the metric is exposed.
    pub fn divisor(self) -> f64 {
        match self {
            Self::Nanosecond | Self::Millisecond => 1e3,
            Self::Byte | Self::One => 1.0,
        }
    }
}

/// A small enumerated dimension that lives inside a series as one counter for each value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Dimension {
    /// The label's name.
    pub name: String,
    /// All values that it can take.
    pub values: Vec<String>,
}

/// A counter as a definition declares it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CounterSpec {
    /// The metric's name.
    pub name: String,
    /// What it counts, for people.
    #[serde(default)]
    pub help: String,
    /// Its dimensions; the first varies slowest.
    pub dimensions: Vec<Dimension>,
    /// Places of the family's labels that it does not have when it is exposed.
    #[serde(default)]
    pub dropped_labels: Vec<usize>,
}

/// A histogram as a definition declares it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HistogramSpec {
    /// The metric's name.
    pub name: String,
    /// What it measures, for people.
    #[serde(default)]
    pub help: String,
    /// The unit of stored samples.
    pub unit: Unit,
    /// Inclusive upper bounds of explicit buckets, in stored units.
    pub bounds: Vec<u64>,
}

/// A counter with its place among the cells of a series.
#[derive(Debug)]
pub struct Counter {
    /// The metric's name.
    pub name: String,
    /// What it counts, for people.
    pub help: String,
    /// Its dimensions; the first varies slowest.
    pub dimensions: Vec<Dimension>,
    dropped_labels: Vec<usize>,
    first_cell: usize,
}

impl Counter {
    pub(crate) fn new(spec: CounterSpec, first_cell: usize) -> Self {
        let CounterSpec { name, help, dimensions, dropped_labels } = spec;
        Self { name, help, dimensions, dropped_labels, first_cell }
    }

    /// What it was made from, but for its exposition.
    pub fn configuration(&self) -> CounterSpec {
        let (name, dimensions) = (self.name.clone(), self.dimensions.clone());
        CounterSpec { name, help: String::new(), dimensions, dropped_labels: Vec::new() }
    }

    /// Whether it has the family's label at this place when it is exposed.
    pub fn has_label(&self, place: usize) -> bool {
        !self.dropped_labels.contains(&place)
    }

    /// Whether it lacks any of the family's labels when it is exposed, so that several series add up
    /// to one.
    pub fn drops_labels(&self) -> bool {
        !self.dropped_labels.is_empty()
    }

    /// The names and values of the dimensions for one combination, given as an offset below
    /// [`Self::cell_count`].
    pub fn dimension_values(&self, offset: usize) -> Vec<(&str, &str)> {
        let mut values: Vec<_> = self.last_dimension_first(offset).collect();
        values.reverse();
        values
    }

    fn last_dimension_first(&self, offset: usize) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = offset;
        self.dimensions.iter().rev().map(move |dimension| {
            let index = rest % dimension.values.len();
            rest /= dimension.values.len();
            (&*dimension.name, &*dimension.values[index])
        })
    }

    /// How many cells it takes: the product of its dimensions' sizes.
    pub fn cell_count(&self) -> usize {
        self.dimensions.iter().map(|dimension| dimension.values.len()).product()
    }

    /// The cell for one combination, given as an offset below [`Self::cell_count`].
    #[inline]
    pub fn cell(&self, offset: usize) -> usize {
        self.first_cell + offset
    }

    /// All cells of the counter.
    pub fn cells(&self) -> impl Iterator<Item = usize> {
        self.first_cell..self.first_cell + self.cell_count()
    }

    /// The cells for which dimension `name` has value `value`; all where there is no such dimension.
    pub fn cells_where<'a>(
        &'a self,
        name: &'a str,
        value: &'a str,
    ) -> impl Iterator<Item = usize> + 'a {
        (0..self.cell_count())
            .filter(move |&offset| {
                self.last_dimension_first(offset)
                    .all(|(dimension, given)| dimension != name || given == value)
            })
            .map(|offset| self.cell(offset))
    }
}

/// A histogram with its place among the cells of a series.
///
/// Beside its HDR counters a histogram has scalars: the sum, the largest sample, the smallest sample
/// (as its complement, so that zero means none and larger wins), both once more for the slice of
/// time that is under way, and, for each explicit bound, what [`crate::bounds`] needs beside the
/// HDR counts.
#[derive(Clone, Debug)]
pub struct HistogramMetric {
    /// The metric's name.
    pub name: String,
    /// What it measures, for people.
    pub help: String,
    /// The unit of stored samples.
    pub unit: Unit,
    /// Precision of the HDR counters.
    pub precision: Precision,
    /// Bounds of the explicit buckets.
    pub bounds: Bounds,
    /// Its place among the family's histograms.
    index: usize,
    first_scalar: usize,
    first_covered: usize,
}

impl HistogramMetric {
    pub(crate) const SUM: usize = 0;
    pub(crate) const MAX: usize = 1;
    pub(crate) const MIN_COMPLEMENT: usize = 2;
    pub(crate) const SLICE_MAX: usize = 3;
    pub(crate) const SLICE_MIN_COMPLEMENT: usize = 4;
    pub(crate) const SCALARS: usize = 5;

    pub(crate) fn new(
        spec: HistogramSpec,
        precision: Precision,
        index: usize,
        first_scalar: usize,
    ) -> Result<Self, DefinitionError> {
        let bounds = Bounds::new(&spec.name, &spec.bounds, precision)?;
        let HistogramSpec { name, help, unit, .. } = spec;
        Ok(Self { name, help, unit, precision, bounds, index, first_scalar, first_covered: 0 })
    }

    /// What it was made from, but for its exposition.
    pub fn configuration(&self) -> HistogramSpec {
        let (name, bounds) = (self.name.clone(), self.bounds.as_slice().to_vec());
        HistogramSpec { name, help: String::new(), unit: self.unit, bounds }
    }

    /// Says where the cells of its bounds are, which is behind the scalars of all histograms: what
    /// every sample of an event writes to lies in as few cache lines as possible.
    pub(crate) fn place_covered(&mut self, first_covered: usize) {
        self.first_covered = first_covered;
    }

    /// The cells of the scalars.
    #[inline]
    pub(crate) fn scalars<'a>(&self, cells: &'a [AtomicU64]) -> &'a [AtomicU64; Self::SCALARS] {
        cells[self.first_scalar..]
            .first_chunk()
            .unwrap_or_else(|| unreachable!("the layout has room for every histogram"))
    }

    /// Its place among the family's histograms.
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The cell of the sum.
    pub fn sum_cell(&self) -> usize {
        self.first_scalar + Self::SUM
    }

    /// The cell of the largest sample.
    pub fn max_cell(&self) -> usize {
        self.first_scalar + Self::MAX
    }

    /// The cell of the smallest sample's complement.
    pub fn min_complement_cell(&self) -> usize {
        self.first_scalar + Self::MIN_COMPLEMENT
    }

    /// The cells of the largest sample and of the smallest one's complement, each with that of the slice.
    pub(crate) fn raising_cells(&self) -> [(usize, usize); 2] {
        [(Self::MAX, Self::SLICE_MAX), (Self::MIN_COMPLEMENT, Self::SLICE_MIN_COMPLEMENT)]
            .map(|(ever, slice)| (self.first_scalar + ever, self.first_scalar + slice))
    }

    /// The cell that counts the samples in a bound's HDR bucket that are at or below the bound.
    #[inline]
    pub fn covered_cell(&self, bound: usize) -> usize {
        self.first_covered + bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_where_selects_by_dimension() {
        let dimension = |name: &str| Dimension {
            name: name.to_owned(),
            values: vec!["true".to_owned(), "false".to_owned()],
        };
        let spec = CounterSpec {
            name: "calls".to_owned(),
            help: String::new(),
            dimensions: vec![dimension("success"), dimension("cached")],
            dropped_labels: vec![],
        };
        let counter = Counter::new(spec, 10);
        let cells = |name, value| counter.cells_where(name, value).collect::<Vec<_>>();
        assert_eq!(cells("success", "true"), [10, 11]);
        assert_eq!(cells("success", "false"), [12, 13]);
        assert_eq!(cells("cached", "false"), [11, 13]);
        assert_eq!(cells("absent", "x"), [10, 11, 12, 13]);
        assert_eq!(counter.dimension_values(2), [("success", "false"), ("cached", "true")]);
    }
}
