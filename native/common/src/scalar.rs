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
    /// Whether a reset of the instance leaves it as it is.
    #[serde(default)]
    pub survives_reset: bool,
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

/// A scalar as a definition declares it.
#[derive(Clone, Debug, Deserialize)]
pub struct ScalarSpec<Quantity> {
    /// The metric's name; that of a counter ends in `_total`.
    pub name: String,
    /// What it is, for people.
    pub help: String,
    /// Counter or gauge.
    pub kind: Kind,
    /// Whether a reset of the instance leaves it as it is.
    #[serde(default)]
    pub survives_reset: bool,
    /// What its values are.
    pub of: Quantity,
}

impl<Quantity> ScalarSpec<Quantity> {
    /// The metric with its values.
    pub fn with(&self, samples: Vec<Sample>) -> Scalar {
        Scalar {
            name: self.name.clone(),
            help: self.help.clone(),
            kind: self.kind,
            survives_reset: self.survives_reset,
            samples,
        }
    }
}

impl Scalar {
    /// A gauge.
    pub fn gauge(name: &str, help: &str, samples: Vec<Sample>) -> Self {
        Self {
            name: name.to_owned(),
            help: help.to_owned(),
            kind: Kind::Gauge,
            survives_reset: false,
            samples,
        }
    }
}

impl Sample {
    /// A value with names and values of labels.
    pub fn new(labels: &[(&str, &str)], value: f64) -> Self {
        let pair = |(name, value): &(&str, &str)| [(*name).to_owned(), (*value).to_owned()];
        Self { labels: labels.iter().map(pair).collect(), value }
    }
}
