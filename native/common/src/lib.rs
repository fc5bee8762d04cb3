//! What the crates above share: labels and tables by label, moments, scalars, and what threads keep.
#![warn(missing_docs)]

pub mod exclusive;
pub mod heap;
pub mod id_set;
pub mod label;
pub mod lock;
pub mod moment;
pub mod prefetch;
pub mod refs;
pub mod scalar;
pub mod space_saving;
pub mod table;
pub mod thread_number;
pub mod threads;
pub mod throttle;
