//! How many calls took how long, over time.

use serde::Serialize;

use telemetry_recording::histogram::Precision;
use telemetry_recording::metric::NANOSECONDS_PER_MICROSECOND;
use telemetry_windows::quantiles::Samples;

/// The upper bounds of the rows in nanoseconds, inclusive: six for each power of ten from a microsecond
/// to a thousand seconds.
const STEPS: [u64; 6] = [10, 15, 20, 30, 50, 70];
const DECADES: u32 = 9;

/// There are at least as many rows, so that latencies that are all alike do not fill the map.
const LEAST_ROWS: usize = 12;

fn bounds() -> Vec<u64> {
    let decade = |power: u32| STEPS.map(|step| step * 10_u64.pow(power + 2));
    (0..DECADES).flat_map(decade).chain([10_u64.pow(DECADES + 3)]).collect()
}

/// Calls by when they ended and how long they took. A sample belongs to the row in which the upper end
/// of its histogram bucket lies, as quantiles do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heatmap {
    /// The bounds of the rows in microseconds, lowest first, one more than there are rows. There is no
    /// last bound where nothing bounds the last row.
    pub bounds_us: Vec<Option<f64>>,
    /// For each slot the calls of each row, the fastest first.
    pub counts: Vec<Vec<u64>>,
}

/// The calls of a slot by all rows that there can be.
#[derive(Clone, Debug)]
pub(super) struct Column([u64; ROWS]);

/// One more than there are bounds.
const ROWS: usize = STEPS.len() * DECADES as usize + 2;

impl Column {
    /// The samples of a slot.
    pub(super) fn new(samples: &Samples, precision: Precision) -> Self {
        let bounds = bounds();
        let mut rows = [0; ROWS];
        let max = samples.max().unwrap_or(u64::MAX);
        for (location, count) in samples.counts() {
            let value = precision.highest_value(*location).min(max);
            rows[bounds.partition_point(|bound| *bound < value)] += count;
        }
        Self(rows)
    }
}

impl Default for Column {
    fn default() -> Self {
        Self([0; ROWS])
    }
}

impl Heatmap {
    /// The columns of all slots. Most rows that are empty beyond the fastest and the slowest are left out.
    pub(super) fn new(columns: &[Column]) -> Self {
        let bounds = bounds();
        let used = |row: &usize| columns.iter().any(|column| column.0[*row] > 0);
        let first = (0..ROWS).find(used);
        let last = (0..ROWS).rev().find(used);
        let (Some(first), Some(last)) = (first, last) else {
            return Self { bounds_us: Vec::new(), counts: vec![Vec::new(); columns.len()] };
        };
        let missing = LEAST_ROWS.saturating_sub(last - first + 1);
        let first = first.saturating_sub(missing / 2);
        let last = last.max(first + LEAST_ROWS - 1).min(ROWS - 1);
        let us = |bound: u64| bound as f64 / NANOSECONDS_PER_MICROSECOND;
        let lower = first.checked_sub(1).map_or(0, |row| bounds[row]);
        let upper = (first..=last).map(|row| bounds.get(row).copied().map(us));
        Self {
            bounds_us: [Some(us(lower))].into_iter().chain(upper).collect(),
            counts: columns.iter().map(|column| column.0[first..=last].to_vec()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_from_a_microsecond_to_a_thousand_seconds() {
        let bounds = bounds();
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((bounds[0], bounds[1], bounds[6]), (1_000, 1_500, 10_000));
        assert_eq!(bounds.last(), Some(&1_000_000_000_000));
        assert_eq!(bounds.len() + 1, ROWS);
    }
}
