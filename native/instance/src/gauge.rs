//! Gauges of which an instance knows the value.

use serde::Deserialize;

use telemetry_common::scalar::{Sample, Scalar};

/// How many workers are alive, as a definition declares the metric.
#[derive(Clone, Debug, Deserialize)]
pub struct Gauge {
    /// The metric's name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub help: String,
}

impl Gauge {
    /// The metric with its value.
    pub fn scalar(&self, workers: usize) -> Scalar {
        Scalar::gauge(&self.name, &self.help, vec![Sample::new(&[], workers as f64)])
    }
}
