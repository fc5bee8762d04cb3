//! Recording: plans, series, lanes and histograms, from an event to the numbers that it leaves.
#![warn(missing_docs)]

pub mod baseline;
pub mod bounds;
pub mod cell;
pub mod compile;
pub mod departed;
pub mod details;
pub mod effect;
pub mod encoding;
pub mod error;
pub mod exemplar;
pub mod export_baseline;
pub mod family;
pub mod field;
pub mod histogram;
pub mod lane;
pub mod layout;
pub mod local;
pub mod measure;
pub mod metric;
pub mod notes;
pub mod observation;
pub mod plan;
pub mod plan_spec;
pub mod point;
pub mod series;
pub mod series_cache;
