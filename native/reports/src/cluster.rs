//! One report over several nodes: each sends a [`snapshot`], and [`merge`] adds them up.
//!
//! What is merged are points, cell by cell and counter by counter, and the reports read the sum as
//! they read an instance. So a quantile of the merged report is the one that a single histogram
//! would have, fed with everything.

mod configuration;
mod envelope;
mod head;
pub mod merge;
pub mod node;
pub mod report;
pub mod snapshot;

/// The version of what nodes send each other. It changes with whatever a node of the version before
/// could not read or would read differently.
pub const FORMAT: u16 = 2;

/// Most samples, and most events, that a snapshot may claim, so that no sum over all nodes overflows:
/// at a million per second they take 142 years.
const MAX_EVENTS: u64 = 1 << 52;
