//! What a measure has of a series.

use super::instrument::{
    FLOAT_COUNT, FLOATS, INTEGERS, Instrument, MAX, MIN_COMPLEMENT, Measure, SUM_COUNT, Scale,
    TOTAL_CELLS,
};
use super::number::{Latest, Total, from_ordered};
use crate::histogram::Counts;
use crate::point;
use crate::series::Series;

/// The quantiles of a summary.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// What a measure has of a series in which it has anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// How many events.
    Count(u64),
    /// What they add up to.
    Sum(Total),
    /// The latest number.
    Last(Total),
    /// Buckets.
    Distribution(Buckets),
    /// Quantiles.
    Summary(Summary),
}

/// How many numbers are in each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Not cumulated, the one above all bounds last.
    pub counts: Vec<u64>,
    /// What the numbers add up to.
    pub sum: Total,
}

/// Statistics of numbers, of which there is at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Their exact sum.
    pub sum: Total,
    /// Exact minimum.
    pub min: f64,
    /// Exact maximum.
    pub max: f64,
    /// The values of [`QUANTILES`], to the histogram's precision.
    pub quantiles: [f64; QUANTILES.len()],
}

impl Measure {
    /// What it has of a series; `None` if no number has come in.
    pub fn read(&self, series: &Series) -> Option<Reading> {
        let lanes = series.lanes();
        let total = |first: usize| {
            let integers = lanes.values(first + INTEGERS).map(|word| i128::from(word as i64));
            let floats = lanes.values(first + FLOATS).map(f64::from_bits);
            Total::new(integers.sum(), floats.sum())
        };
        match &self.instrument {
            Instrument::Counter { cell } => {
                Some(lanes.sum(*cell)).filter(|count| *count > 0).map(Reading::Count)
            }
            Instrument::Sum { first_cell, .. } => {
                let is_there = lanes.sum(first_cell + SUM_COUNT) > 0;
                is_there.then(|| Reading::Sum(total(*first_cell)))
            }
            Instrument::LastValue { place } => {
                let latest = Latest(&series.last_values()[*place]).get()?;
                Some(Reading::Last(Total::of(latest)))
            }
            Instrument::Distribution { first_cell, limits } => {
                let first = first_cell + TOTAL_CELLS;
                let cells = first..first + limits.bucket_count();
                let counts: Vec<_> = cells.map(|cell| lanes.sum(cell)).collect();
                let is_there = counts.iter().any(|count| *count > 0);
                is_there.then(|| Reading::Distribution(Buckets { counts, sum: total(*first_cell) }))
            }
            Instrument::Summary { first_cell, scale, histograms } => {
                let counts = histograms.map(|histogram| lanes.counts(histogram));
                let count = counts.iter().map(|counts| point::total(counts)).sum();
                if count == 0 {
                    return None;
                }
                let whole = lanes.sum(first_cell + FLOAT_COUNT) == 0;
                let quantiles = quantiles(&counts, count, *scale, whole);
                // A number in flight may be counted before it is the smallest or the largest.
                let or = |end: f64, quantile: usize| {
                    if end.is_finite() { end } else { quantiles[quantile] }
                };
                let max = or(from_ordered(lanes.max(first_cell + MAX)), QUANTILES.len() - 1);
                let min = or(from_ordered(!lanes.max(first_cell + MIN_COMPLEMENT)), 0);
                Some(Reading::Summary(Summary {
                    count,
                    sum: total(*first_cell),
                    quantiles: quantiles.map(|value| value.max(min).min(max.max(min))),
                    min,
                    max,
                }))
            }
        }
    }
}

/// The values of [`QUANTILES`]: the upper end of what is counted where each lies.
fn quantiles(
    [positive, negative]: &[Counts; 2],
    count: u64,
    scale: Scale,
    whole: bool,
) -> [f64; QUANTILES.len()] {
    let negative = negative.iter().rev().map(|(at, count)| (true, *at, *count));
    let positive = positive.iter().map(|(at, count)| (false, *at, *count));
    let mut counts = negative.chain(positive);
    let (mut seen, mut value) = (0, 0.0);
    QUANTILES.map(|quantile| {
        let target = ((quantile * count as f64).ceil() as u64).clamp(1, count);
        while seen < target {
            let Some((is_negative, location, more)) = counts.next() else { break };
            seen += more;
            value = scale.highest(is_negative, location, whole);
        }
        value
    })
}
