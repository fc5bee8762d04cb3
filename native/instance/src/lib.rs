//! Instances: families, plans and effects of one definition, from start to stop, and the alerts among them.
#![warn(missing_docs)]

pub mod alert;
pub mod anomaly;
pub mod call_log;
pub mod call_path;
pub mod effects;
pub mod event_gauge;
pub mod gauge;
pub mod info;
pub mod instance;
pub mod owner;
pub mod reader;
pub mod router_time;
pub mod signal;
pub mod spike;
pub mod usage;
pub mod usage_file;
