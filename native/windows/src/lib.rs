//! Windows over time, quantiles, and what exports have told.
#![warn(missing_docs)]

pub mod exporter;
pub mod quantiles;
pub mod window;
