//! Measures as a definition declares them.

use serde::{Deserialize, Serialize};

/// A measure as a definition declares it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct MeasureSpec {
    /// The metric's name.
    pub name: String,
    /// What it is, for people.
    pub help: String,
    /// What is kept of its numbers.
    pub kind: MeasureKind,
}

/// What a measure keeps of its numbers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasureKind {
    /// How many events there were.
    Counter,
    /// What they add up to.
    Sum {
        /// Whether it is exposed as a counter, because it only grows.
        monotonic: bool,
    },
    /// The latest.
    LastValue,
    /// How many are at or below each of some bounds.
    Distribution {
        /// The bounds, strictly increasing.
        bounds: Vec<Bound>,
    },
    /// Quantiles.
    Summary {
        /// Numbers are kept in units of two to the power of minus this many.
        fraction_bits: u32,
    },
}

/// The upper bound of a bucket, inclusive.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Bound {
    /// The bound.
    pub value: f64,
    /// How it is written in Prometheus' text format.
    pub text: String,
}
