//! The range in which a key's next p95 is expected.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Standard deviation of normally distributed values divided by their median absolute deviation.
const DEVIATION_PER_MAD: f64 = 1.4826;

/// The least deviation that is taken for a standard one, as a share of the median.
const LEAST_DEVIATION: f64 = 0.1;

/// A side of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Slower than usual.
    Above,
    /// Faster than usual.
    Below,
}

#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) median: f64,
    pub(super) mad: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
}

impl Range {
    /// The range that follows from earlier values, of which there must be one at least.
    pub(super) fn of(values: &VecDeque<f32>, deviations: f64, scratch: &mut Vec<f64>) -> Self {
        scratch.clear();
        scratch.extend(values.iter().map(|&value| f64::from(value)));
        let median = median_of(scratch);
        for value in scratch.iter_mut() {
            *value = (*value - median).abs();
        }
        let mad = median_of(scratch);
        let spread = deviations * (DEVIATION_PER_MAD * mad).max(LEAST_DEVIATION * median);
        Self { median, mad, lower: (median - spread).max(0.0), upper: median + spread }
    }

    /// To which side a value is outside; the bounds are inside.
    pub(super) fn direction(&self, value: u64) -> Option<Direction> {
        let value = value as f64;
        if value > self.upper {
            Some(Direction::Above)
        } else if value < self.lower {
            Some(Direction::Below)
        } else {
            None
        }
    }
}

/// The median; of an even number of values the mean of the two in the middle, of none 0.
fn median_of(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let is_odd = !values.len().is_multiple_of(2);
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if is_odd {
        return upper;
    }
    let lower = below.iter().copied().max_by(f64::total_cmp).unwrap_or(upper);
    f64::midpoint(lower, upper)
}
