//! What can be wrong with a definition.

use thiserror::Error;

/// Why a definition was refused. Every message names the offender and what is allowed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DefinitionError {
    /// Slices of time without length.
    #[error("a slice of time must last at least 1 ms, got slice_ms 0")]
    SliceLength,
    /// Precision outside what the live counters support.
    #[error("significant digits must be 1, 2 or 3, got {0}")]
    Precision(u8),
    /// Bucket bounds that are not strictly increasing.
    #[error("bucket bounds of {metric} must be strictly increasing, got {bounds:?}")]
    Bounds {
        /// The metric with the bounds.
        metric: String,
        /// The bounds as given, in stored units.
        bounds: Vec<u64>,
    },
    /// More bounds than a bucket number can address.
    #[error("{metric} has {given} bucket bounds, at most {allowed} are allowed")]
    TooManyBounds {
        /// The metric with the bounds.
        metric: String,
        /// How many were given.
        given: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// More histograms than the counters of a series can be numbered for; a summary takes two.
    #[error(
        "the metrics of one event and one list of tags need {given} histograms, at most {allowed} are allowed"
    )]
    TooManyHistograms {
        /// How many are needed.
        given: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// Bounds of a distribution that are not strictly increasing, or not finite.
    #[error("bucket bounds of {metric} must be strictly increasing numbers, got {bounds:?}")]
    Limits {
        /// The metric with the bounds.
        metric: String,
        /// The bounds as given.
        bounds: Vec<String>,
    },
    /// A summary in too small a unit.
    #[error("{metric} has {given} bits of fraction, at most {allowed} are allowed")]
    FractionBits {
        /// The metric.
        metric: String,
        /// How many were given.
        given: u32,
        /// How many are allowed.
        allowed: u32,
    },
    /// More tags than the metrics of an event have room for.
    #[error("metrics of {event} have {given} tags, at most {allowed} are allowed")]
    TooManyTags {
        /// The event.
        event: String,
        /// How many were given.
        given: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// More positional fields than the hot path has room for.
    #[error("{event} has {given} fields, at most {allowed} are allowed")]
    TooManyFields {
        /// The event of the plan.
        event: String,
        /// How many were given.
        given: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// A step whose labels do not fit its family.
    #[error("{event} gives {given} labels to {family}, which has {expected} (at most {allowed})")]
    Labels {
        /// The event of the plan.
        event: String,
        /// The family that the step feeds.
        family: String,
        /// How many labels the step gives.
        given: usize,
        /// How many labels the family has.
        expected: usize,
        /// How many a family may have.
        allowed: usize,
    },
    /// A plan that names something which does not exist.
    #[error("{event} refers to {what}, which is not defined")]
    Unknown {
        /// The event of the plan.
        event: String,
        /// What was named.
        what: String,
    },
}
