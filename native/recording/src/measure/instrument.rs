//! A measure's place among the numbers of a series, and how a number gets there.

use std::ops::Range;

use super::limits::Limits;
use super::number::{Latest, Number, from_ordered, ordered};
use super::scale::Scale;
use super::spec::{Bound, MeasureKind, MeasureSpec};
use crate::error::DefinitionError;
use crate::histogram::{Counts, Location, Precision};
use crate::lane::{Writer, mark_of};
use crate::point::Point;
use crate::series::Series;

/// A measure with its place among the numbers of a series.
#[derive(Debug)]
pub struct Measure {
    /// The metric's name.
    pub name: String,
    /// What it is, for people.
    pub help: String,
    pub(crate) instrument: Instrument,
}

/// What a measure is exposed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposed {
    /// A number that only grows.
    Counter,
    /// A number.
    Gauge,
    /// Buckets.
    Histogram,
    /// Quantiles.
    Summary,
}

/// Where a measure's numbers are.
#[derive(Debug)]
pub(crate) enum Instrument {
    /// In one cell.
    Counter { cell: usize },
    /// In three cells: how many there were, and the two of a total.
    Sum { first_cell: usize, monotonic: bool },
    /// In a place of the series.
    LastValue { place: usize },
    /// In the two cells of a total and one for each bucket, not cumulated.
    Distribution { first_cell: usize, limits: Limits },
    /// In seven cells and two histograms, of numbers from zero on and of those below.
    Summary { first_cell: usize, scale: Scale, histograms: [usize; 2] },
}

/// The room that measures take in a series.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offsets {
    pub(crate) cells: usize,
    pub(crate) histograms: usize,
    pub(crate) last_values: usize,
}

/// The two cells of a total, from the first of them on.
pub(crate) const INTEGERS: usize = 0;
pub(crate) const FLOATS: usize = 1;
pub(crate) const TOTAL_CELLS: usize = 2;

/// The others of a sum.
pub(crate) const SUM_COUNT: usize = TOTAL_CELLS;

/// The others of a summary: how many were no integers, and the largest number and the complement of the
/// smallest as ordered words, both once more for the slice of time that is under way.
pub(crate) const FLOAT_COUNT: usize = TOTAL_CELLS;
pub(crate) const MAX: usize = TOTAL_CELLS + 1;
pub(crate) const MIN_COMPLEMENT: usize = TOTAL_CELLS + 2;
const SLICE_MAX: usize = TOTAL_CELLS + 3;
const SLICE_MIN_COMPLEMENT: usize = TOTAL_CELLS + 4;
const SUMMARY_CELLS: usize = TOTAL_CELLS + 5;

/// The two cells of a total.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TotalCells {
    pub(crate) integers: usize,
    pub(crate) floats: usize,
}

impl Measure {
    /// A measure behind those that take `room`, which grows by what it takes.
    pub(crate) fn new(
        spec: MeasureSpec,
        room: &mut Offsets,
        precision: Precision,
    ) -> Result<Self, DefinitionError> {
        let MeasureSpec { name, help, kind } = spec;
        let first_cell = room.cells;
        let instrument = match kind {
            MeasureKind::Counter => {
                room.cells += 1;
                Instrument::Counter { cell: first_cell }
            }
            MeasureKind::Sum { monotonic } => {
                room.cells += TOTAL_CELLS + 1;
                Instrument::Sum { first_cell, monotonic }
            }
            MeasureKind::LastValue => {
                room.last_values += 1;
                Instrument::LastValue { place: room.last_values - 1 }
            }
            MeasureKind::Distribution { bounds } => {
                let limits = Limits::new(&name, bounds)?;
                room.cells += TOTAL_CELLS + limits.bucket_count();
                Instrument::Distribution { first_cell, limits }
            }
            MeasureKind::Summary { fraction_bits } => {
                let scale = Scale::new(&name, fraction_bits, precision)?;
                room.cells += SUMMARY_CELLS;
                room.histograms += 2;
                let histograms = [room.histograms - 2, room.histograms - 1];
                Instrument::Summary { first_cell, scale, histograms }
            }
        };
        Ok(Self { name, help, instrument })
    }

    /// What it was made from, but for its exposition.
    pub fn configuration(&self) -> MeasureSpec {
        let kind = match &self.instrument {
            Instrument::Counter { .. } => MeasureKind::Counter,
            Instrument::Sum { monotonic, .. } => MeasureKind::Sum { monotonic: *monotonic },
            Instrument::LastValue { .. } => MeasureKind::LastValue,
            Instrument::Distribution { limits, .. } => {
                MeasureKind::Distribution { bounds: limits.bounds().to_vec() }
            }
            Instrument::Summary { scale, .. } => {
                MeasureKind::Summary { fraction_bits: scale.fraction_bits }
            }
        };
        MeasureSpec { name: self.name.clone(), help: String::new(), kind }
    }

    /// What it is exposed as.
    pub fn exposed(&self) -> Exposed {
        match &self.instrument {
            Instrument::Counter { .. } | Instrument::Sum { monotonic: true, .. } => {
                Exposed::Counter
            }
            Instrument::Sum { .. } | Instrument::LastValue { .. } => Exposed::Gauge,
            Instrument::Distribution { .. } => Exposed::Histogram,
            Instrument::Summary { .. } => Exposed::Summary,
        }
    }

    /// The upper bounds of its buckets, if it has any.
    pub fn bounds(&self) -> &[Bound] {
        match &self.instrument {
            Instrument::Distribution { limits, .. } => limits.bounds(),
            _ => &[],
        }
    }

    /// Whether what it has of two times makes what it has of both.
    pub fn adds_up(&self) -> bool {
        !matches!(self.instrument, Instrument::LastValue { .. })
    }

    /// Where the total of its numbers is, if it keeps one.
    pub(crate) fn total(&self) -> Option<TotalCells> {
        match &self.instrument {
            Instrument::Counter { .. } | Instrument::LastValue { .. } => None,
            Instrument::Sum { first_cell, .. }
            | Instrument::Distribution { first_cell, .. }
            | Instrument::Summary { first_cell, .. } => {
                Some(TotalCells { integers: first_cell + INTEGERS, floats: first_cell + FLOATS })
            }
        }
    }

    /// The cells that count its numbers. None of those of a summary, which are in its histograms.
    pub fn count_cells(&self) -> Range<usize> {
        match &self.instrument {
            Instrument::Counter { cell } => *cell..cell + 1,
            Instrument::Sum { first_cell, .. } => {
                let count = first_cell + SUM_COUNT;
                count..count + 1
            }
            Instrument::Distribution { first_cell, limits } => {
                let first = first_cell + TOTAL_CELLS;
                first..first + limits.bucket_count()
            }
            Instrument::LastValue { .. } | Instrument::Summary { .. } => 0..0,
        }
    }

    /// Whether any number is counted.
    pub(crate) fn has_numbers(&self, point: &Point) -> bool {
        match &self.instrument {
            Instrument::Summary { histograms, .. } => {
                histograms.iter().any(|histogram| !point.counts(*histogram).is_empty())
            }
            _ => self.count_cells().any(|cell| point.cell(cell) > 0),
        }
    }

    /// The cells of the largest number and of the smallest one's complement, each with that of the slice.
    pub(crate) fn raising_cells(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let pairs = match &self.instrument {
            Instrument::Summary { first_cell, .. } => Some(
                [(MAX, SLICE_MAX), (MIN_COMPLEMENT, SLICE_MIN_COMPLEMENT)]
                    .map(|(ever, slice)| (first_cell + ever, first_cell + slice)),
            ),
            _ => None,
        };
        pairs.into_iter().flatten()
    }

    /// Makes the largest and the smallest number agree with the counts of its histograms: a number that
    /// is being recorded may have reached one and not the other.
    pub(crate) fn settle(&self, cells: &mut [u64], counts: &[Counts]) {
        let Instrument::Summary { first_cell, scale, histograms } = &self.instrument else {
            return;
        };
        let [positive, negative] = histograms.map(|histogram| &*counts[histogram]);
        let place = |is_negative| move |(at, _): &(Location, u64)| (is_negative, *at);
        let largest = positive.last().map(place(false)).or(negative.first().map(place(true)));
        let smallest = negative.last().map(place(true)).or(positive.first().map(place(false)));
        let [max, min_complement] = match (largest, smallest) {
            (Some(largest), Some(smallest)) => {
                let max = scale.within(largest, from_ordered(cells[first_cell + MAX]));
                let min = from_ordered(!cells[first_cell + MIN_COMPLEMENT]);
                [ordered(max), !ordered(scale.within(smallest, min))]
            }
            _ => [0, 0],
        };
        cells[first_cell + MAX] = max;
        cells[first_cell + MIN_COMPLEMENT] = min_complement;
    }

    /// Records a number in a lane of a series. Returns the mark of its histogram counter, if it has one,
    /// which has to be set afterwards; see [`Writer::mark`].
    #[inline]
    #[must_use]
    pub(crate) fn record(
        &self,
        writer: &impl Writer,
        // Not its parts: most measures need no look at it, which may be far from the lane.
        series: &Series,
        number: Number,
    ) -> u64 {
        let cells = writer.cells();
        match &self.instrument {
            Instrument::Counter { cell } => writer.add(&cells[*cell], 1),
            Instrument::Sum { first_cell, .. } => {
                add(writer, *first_cell, number);
                writer.add(&cells[first_cell + SUM_COUNT], 1);
            }
            Instrument::LastValue { place } => {
                Latest(&series.last_values()[*place]).replace(number.as_f64());
            }
            Instrument::Distribution { first_cell, limits } => {
                add(writer, *first_cell, number);
                let bucket = first_cell + TOTAL_CELLS + limits.bucket(number);
                writer.add(&cells[bucket], 1);
            }
            Instrument::Summary { first_cell, scale, histograms } => {
                return summarise(writer, *first_cell, *scale, histograms, number);
            }
        }
        0
    }

    /// Takes over the latest number of another series of the family, if this one has none.
    pub fn inherit(&self, series: &Series, other: &Series) {
        if let Instrument::LastValue { place } = &self.instrument {
            let [latest, before] = [series, other].map(|series| &series.last_values()[*place]);
            Latest(latest).inherit(&Latest(before));
        }
    }

    /// Bytes allocated beside the measure itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.instrument {
            Instrument::Distribution { limits, .. } => limits.memory_bytes(),
            _ => 0,
        }
    }
}

/// Adds to the total whose cells begin at `first_cell`.
#[inline]
fn add(writer: &impl Writer, first_cell: usize, number: Number) {
    let cells = writer.cells();
    match number {
        Number::Integer(value) => writer.add_signed(&cells[first_cell + INTEGERS], value),
        Number::Float(value) => writer.add_float(&cells[first_cell + FLOATS], value),
    }
}

/// Records a number of a summary. On its own, so that the other kinds stay small where they are inlined.
#[inline(never)]
fn summarise(
    writer: &impl Writer,
    first_cell: usize,
    scale: Scale,
    histograms: &[usize; 2],
    number: Number,
) -> u64 {
    let (is_negative, location) = scale.locate(number);
    let histogram = histograms[usize::from(is_negative)];
    let counted = writer.find(histogram, location);
    add(writer, first_cell, number);
    let Some(cells) = writer.cells()[first_cell..].first_chunk::<SUMMARY_CELLS>() else {
        unreachable!("the layout has room for every summary")
    };
    if let Number::Float(_) = number {
        writer.add(&cells[FLOAT_COUNT], 1);
    }
    let word = ordered(number.as_f64());
    writer.raise(&cells[SLICE_MAX], &cells[MAX], word);
    writer.raise(&cells[SLICE_MIN_COMPLEMENT], &cells[MIN_COMPLEMENT], !word);
    writer.count(counted);
    mark_of(scale.precision, histogram, location)
}
