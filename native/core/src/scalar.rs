//! Counters and gauges that belong to no series.

use serde::Deserialize;

/// What becomes of a scalar's value in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A counter or gauge with all its samples.
#[derive(Clone, Debug, Deserialize)]
pub struct Scalar {
    /// The metric's name; that of a counter ends in `_total`.
    pub name: String,
    /// What it is, for people.
    pub help: String,
    /// Counter or gauge.
    pub kind: Kind,
    /// Its values. Without any it is not exposed.
    pub samples: Vec<Sample>,
}

/// A value of a scalar.
#[derive(Clone, Debug, Deserialize)]
pub struct Sample {
    /// Names and values of its labels.
    pub labels: Vec<[String; 2]>,
    /// The value.
    pub value: f64,
}

impl Scalar {
    pub(crate) fn new(name: &str, help: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), kind, samples: Vec::new() }
    }

    /// Adds a sample.
    pub(crate) fn with(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        let pair = |(name, value): &(&str, &str)| [(*name).to_owned(), (*value).to_owned()];
        self.samples.push(Sample { labels: labels.iter().map(pair).collect(), value });
        self
    }
}
