//! Series, histograms and reports behind `dspex_telemetry`.
//!
//! The crate knows nothing of the BEAM. An [`instance::Instance`] compiles a definition into plans;
//! [`local::record`] follows a plan for one event, from any thread, without blocking and without
//! allocating once the series exists; reports and snapshots read while recording goes on.
#![warn(missing_docs)]

pub mod alert;
pub mod anomaly;
mod baseline;
pub mod bounds;
pub mod cache;
pub mod call_log;
pub mod call_path;
pub mod cluster;
mod compile;
mod departed;
pub mod encoding;
pub mod error;
pub mod errors;
pub mod exclusive;
pub mod exemplar;
mod exported;
mod exporter;
pub mod exposition;
pub mod family;
pub mod field;
pub mod gauge;
pub mod histogram;
pub mod id_set;
pub mod info;
pub mod instance;
pub mod label;
pub mod lane;
pub mod level;
pub mod local;
pub mod measure;
pub mod metric;
pub mod notes;
pub mod observation;
pub mod owner;
pub mod page;
pub mod performance;
pub mod plan;
pub mod plan_spec;
pub mod point;
mod prefetch;
pub mod quantiles;
pub mod reader;
pub mod reasons;
pub mod refs;
pub mod report;
pub mod router;
pub mod series;
mod series_cache;
pub mod signal;
mod source;
pub mod space_saving;
pub mod spike;
pub mod summaries;
pub mod surroundings;
mod table;
pub mod thread_number;
pub mod throttle;
pub mod usage;
pub mod usage_file;
pub mod usage_window;
pub mod window;
