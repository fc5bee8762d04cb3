//! Measures: what metrics of other people's definitions hold in a series.
//!
//! The catalogue's counters and histograms count events and sizes, which are natural numbers. A measure
//! takes any number, in any unit: it may be negative, and a fraction.

mod instrument;
mod limits;
mod number;
mod reading;
mod scale;
mod spec;

pub(crate) use instrument::Offsets;
pub use instrument::{Exposed, Measure};
pub use number::{Number, Total};
pub use reading::{Buckets, QUANTILES, Reading, Summary};
pub use spec::{Bound, MeasureKind, MeasureSpec};
