//! Gauges: values that are looked up when they are asked for.

use serde::Deserialize;

use crate::instance::Instance;

/// A gauge as a definition declares it.
#[derive(Clone, Debug, Deserialize)]
pub struct Gauge {
    /// The metric's name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub help: String,
    /// What it tells.
    pub of: Quantity,
}

/// Something that an instance knows the present value of.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// How many workers are alive.
    Workers,
}

impl Gauge {
    /// Its value now.
    pub fn value(&self, instance: &Instance) -> f64 {
        match self.of {
            Quantity::Workers => instance.workers().len() as f64,
        }
    }
}
