//! Reports over an instance or over the merged snapshots of a cluster.
#![warn(missing_docs)]

pub mod cluster;
pub mod errors;
pub mod page;
pub mod performance;
pub mod reasons;
pub mod report;
pub mod source;
pub mod summaries;
pub mod usage_window;
