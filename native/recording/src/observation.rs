//! Observations: one event and all measures that it feeds.
//!
//! Where the catalogue's plans take an event wholly or not at all, each measure stands for itself here:
//! one that lacks its number, or the tags of its group, is counted as such and keeps no other from its own.

mod group;
mod spec;

pub use group::Group;
pub use spec::{GroupSpec, Key, MeasuredSpec, ObservationSpec, TagSource, ValueSource};

use crate::measure::Number;

/// What an event gives, as its caller knows it.
pub trait Observation<'a> {
    /// A tag.
    fn tag(&self, source: &TagSource) -> Tag<'a>;

    /// The number of a measure.
    fn value(&self, source: &ValueSource) -> Given;

    /// Whether tags that are no text will not be given as text if the event is sent once more.
    fn is_final(&self) -> bool;
}

/// A tag of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag<'a> {
    /// Text, any bytes.
    Text(&'a [u8]),
    /// It is there, and no text.
    Other,
    /// It cannot be had, and why.
    Refused(Refusal),
}

/// What an event gives to a measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given {
    /// A number.
    Number(Number),
    /// Nothing, as the measure wants none of this event.
    Dropped,
    /// Nothing, though it should have.
    Refused(Refusal),
}

/// Why a measure got nothing of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The measurement is not there, or nil.
    MissingMeasurement,
    /// The measurement is no number.
    InvalidMeasurement,
    /// The measurement is an integer of more than 64 bits.
    OversizedMeasurement,
    /// A tag is not there.
    MissingTag,
    /// A tag cannot be written as text.
    InvalidTag,
    /// A function of the metric raised.
    Raised,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::MissingMeasurement,
        Self::InvalidMeasurement,
        Self::OversizedMeasurement,
        Self::MissingTag,
        Self::InvalidTag,
        Self::Raised,
    ];

    /// The reason as a label value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingMeasurement => "missing_measurement",
            Self::InvalidMeasurement => "invalid_measurement",
            Self::OversizedMeasurement => "oversized_measurement",
            Self::MissingTag => "missing_tag",
            Self::InvalidTag => "invalid_tag",
            Self::Raised => "raised",
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Each measure has got what there was for it.
    Recorded,
    /// Nothing was recorded: a tag is no text. It may be sent once more with all tags as text.
    Untold,
    /// The plan's instance has stopped; nothing was recorded.
    Stopped,
}
