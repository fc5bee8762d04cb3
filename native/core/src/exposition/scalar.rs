//! Counters and gauges that belong to no series.

use serde::Deserialize;

use super::encoder::{Encoder, Header, MetricKind, Value};
use crate::gauge::Gauge;
use crate::instance::Instance;

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

    pub(crate) fn gauge(gauge: &Gauge, instance: &Instance) -> Self {
        Self::new(&gauge.name, &gauge.help, Kind::Gauge).with(&[], gauge.value(instance))
    }

    pub(crate) fn write<E: Encoder>(&self, encoder: &E, out: &mut Vec<u8>) {
        self.write_since(encoder, None, out);
    }

    /// Writes it, with the time since when it counts if that is known.
    pub(crate) fn write_since<E: Encoder>(
        &self,
        encoder: &E,
        created_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) {
        let kind = MetricKind::Scalar(self.kind);
        let header = Header { name: &self.name, help: &self.help, kind, stored_unit: None };
        encoder.metric(header, &[], out, |metric, out| {
            for sample in &self.samples {
                let mut labels = Vec::new();
                for [name, value] in &sample.labels {
                    encoder.label(name, value, &mut labels);
                }
                let value = Value::Float(sample.value);
                match self.kind {
                    Kind::Counter => {
                        encoder.counter(metric, &labels, value, created_unix_ms, out);
                    }
                    Kind::Gauge => encoder.gauge(metric, &labels, value, out),
                }
            }
        });
    }
}
