//! Positional fields: what a handler passes for an event, checked as it is decoded.

use std::num::NonZeroU64;

use serde::Deserialize;

use crate::histogram::MAX_VALUE;
use telemetry_common::label::{self, UNKNOWN};

/// Most positional fields that an event may have.
pub const MAX_FIELDS: usize = 9;

/// The place of a field that is always there.
pub(crate) const ALWAYS: usize = MAX_FIELDS;

/// How a measurement gets into the unit in which it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Scale {
    /// What it is multiplied by first.
    pub numerator: u64,
    /// What it is divided by then; the rest is dropped.
    pub denominator: NonZeroU64,
}

impl Scale {
    /// The value in the stored unit.
    ///
    /// # Errors
    ///
    /// [`Reject::OversizedMeasurement`] if that is more than [`MAX_VALUE`].
    #[inline]
    pub fn apply(&self, value: u64) -> Result<u64, Reject> {
        let denominator = self.denominator.get();
        let scaled = if self.numerator == denominator {
            value
        } else {
            let scaled = u128::from(value) * u128::from(self.numerator) / u128::from(denominator);
            u64::try_from(scaled).map_err(|_| Reject::OversizedMeasurement)?
        };
        if scaled > MAX_VALUE {
            return Err(Reject::OversizedMeasurement);
        }
        Ok(scaled)
    }
}

impl Scale {
    /// The value in the stored unit, rounded.
    ///
    /// # Errors
    ///
    /// [`Reject::NegativeMeasurement`] or [`Reject::OversizedMeasurement`].
    pub fn apply_float(&self, value: f64) -> Result<u64, Reject> {
        let scaled = (value * self.numerator as f64 / self.denominator.get() as f64).round();
        if value < 0.0 {
            Err(Reject::NegativeMeasurement)
        } else if scaled < MAX_VALUE as f64 {
            Ok(scaled as u64)
        } else {
            Err(Reject::OversizedMeasurement)
        }
    }
}

/// What a positional field must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// A non-negative integer, stored as value × numerator / denominator.
    Measurement {
        /// How it gets into the stored unit.
        scale: Scale,
        /// Whether an event without it is rejected.
        required: bool,
        /// Whether it comes from the metadata (matters to the reason of a rejection only).
        metadata: bool,
        /// Whether it may be a float.
        #[serde(default)]
        float: bool,
    },
    /// Text for a label, a reference or an id.
    Text {
        /// Whether an event without it is rejected.
        required: bool,
    },
    /// `true` or `false`.
    Flag {
        /// What absence means; without it an event that lacks the field is rejected.
        default: Option<bool>,
    },
    /// One of a few words.
    Choice {
        /// The words; anything else counts as the last of them.
        values: Vec<String>,
    },
    /// A process, as a number. Anything else counts as absent.
    Process,
}

/// Why an event was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reject {
    /// A required measurement is not there.
    MissingMeasurement,
    /// A measurement is not an integer.
    InvalidMeasurement,
    /// A measurement is below zero.
    NegativeMeasurement,
    /// A measurement is above 2^63 - 1 in stored units.
    OversizedMeasurement,
    /// A required metadata key is not there.
    MissingMetadata,
    /// A metadata value has the wrong type.
    InvalidMetadata,
}

impl Reject {
    /// All reasons.
    pub const ALL: [Reject; 6] = [
        Self::MissingMeasurement,
        Self::InvalidMeasurement,
        Self::NegativeMeasurement,
        Self::OversizedMeasurement,
        Self::MissingMetadata,
        Self::InvalidMetadata,
    ];

    /// The reason as a label value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingMeasurement => "missing_measurement",
            Self::InvalidMeasurement => "invalid_measurement",
            Self::NegativeMeasurement => "negative_measurement",
            Self::OversizedMeasurement => "oversized_measurement",
            Self::MissingMetadata => "missing_metadata",
            Self::InvalidMetadata => "invalid_metadata",
        }
    }
}

/// The positional fields of a plan, sorted by kind: one short loop for each is faster than one loop
/// that has to tell the kinds apart.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Measurements.
    pub measurements: Box<[MeasurementInput]>,
    /// Texts. Those that make others unneeded come first.
    pub texts: Box<[TextInput]>,
    /// Flags.
    pub flags: Box<[FlagInput]>,
    /// Choices.
    pub choices: Box<[ChoiceInput]>,
    /// Positions of processes.
    pub processes: Box<[usize]>,
}

/// A measurement among the positional fields.
#[derive(Debug)]
pub struct MeasurementInput {
    /// Its position.
    pub at: usize,
    /// How it gets into the stored unit.
    pub scale: Scale,
    /// What it is rejected for if it is not there.
    pub absent: Result<(), Reject>,
    /// Whether it may be a float.
    pub float: bool,
}

/// A text among the positional fields.
#[derive(Debug)]
pub struct TextInput {
    /// Its position.
    pub at: usize,
    /// What it is rejected for if it is not there.
    pub absent: Result<(), Reject>,
    /// A text that makes this one unneeded if it is there.
    pub unless: Option<usize>,
}

/// A flag among the positional fields.
#[derive(Debug)]
pub struct FlagInput {
    /// Its position.
    pub at: usize,
    /// What it is if it is not there, or what it is rejected for.
    pub absent: Result<bool, Reject>,
    /// Whether its text is a label.
    pub is_label: bool,
}

/// A choice among the positional fields. It has to be there.
#[derive(Debug)]
pub struct ChoiceInput {
    /// Its position.
    pub at: usize,
    /// The words; anything else counts as the last of them.
    pub words: Vec<String>,
}

impl Inputs {
    /// Sorts fields by kind. `unless` gives pairs of texts, of which the second makes the first
    /// unneeded if it is there; `labels` are the fields that stand in labels.
    pub(crate) fn new(fields: &[FieldKind], unless: &[(usize, usize)], labels: &[usize]) -> Self {
        let needed =
            |required: &bool| if *required { Err(Reject::MissingMetadata) } else { Ok(()) };
        let mut inputs = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, kind) in fields.iter().enumerate() {
            match kind {
                FieldKind::Measurement { scale, required, metadata, float } => {
                    let absent = match (required, metadata) {
                        (false, _) => Ok(()),
                        (true, true) => Err(Reject::MissingMetadata),
                        (true, false) => Err(Reject::MissingMeasurement),
                    };
                    inputs.0.push(MeasurementInput {
                        at,
                        scale: scale.clone(),
                        absent,
                        float: *float,
                    });
                }
                FieldKind::Text { required } => {
                    let unless = unless.iter().find(|(unneeded, _)| *unneeded == at);
                    let unless = unless.map(|(_, there)| *there);
                    inputs.1.push(TextInput { at, absent: needed(required), unless });
                }
                FieldKind::Flag { default } => {
                    let absent = default.ok_or(Reject::MissingMetadata);
                    inputs.2.push(FlagInput { at, absent, is_label: labels.contains(&at) });
                }
                FieldKind::Choice { values } => {
                    inputs.3.push(ChoiceInput { at, words: values.clone() });
                }
                FieldKind::Process => inputs.4.push(at),
            }
        }
        inputs.1.sort_by_key(|text| text.unless.is_some());
        let (measurements, texts, flags, choices, processes) = inputs;
        Self {
            measurements: measurements.into(),
            texts: texts.into(),
            flags: flags.into(),
            choices: choices.into(),
            processes: processes.into(),
        }
    }
}

/// The decoded fields of one event.
///
/// Numbers and texts lie in arrays of their own rather than in one of enums: a value that is
/// written as two words and read as one wide one stalls the processor.
pub struct Fields<'a> {
    /// And one more, which always is: what needs no field needs that.
    given: [bool; MAX_FIELDS + 1],
    numbers: [u64; MAX_FIELDS],
    texts: [&'a [u8]; MAX_FIELDS],
}

impl<'a> Fields<'a> {
    /// No fields.
    #[inline]
    pub(crate) fn new() -> Self {
        let mut given = [false; MAX_FIELDS + 1];
        given[ALWAYS] = true;
        Self { given, numbers: [0; MAX_FIELDS], texts: [UNKNOWN; MAX_FIELDS] }
    }

    /// A measurement.
    ///
    /// # Errors
    ///
    /// [`Reject::OversizedMeasurement`] if it does not fit in the stored unit.
    #[inline]
    pub fn set_number(&mut self, at: usize, value: u64, scale: &Scale) -> Result<(), Reject> {
        self.numbers[at] = scale.apply(value)?;
        self.given[at] = true;
        Ok(())
    }

    /// A measurement that is a float.
    ///
    /// # Errors
    ///
    /// [`Reject::NegativeMeasurement`] if it is below zero, [`Reject::OversizedMeasurement`] if it does not fit
    /// in the stored unit.
    #[cold]
    pub fn set_float(&mut self, at: usize, value: f64, scale: &Scale) -> Result<(), Reject> {
        self.numbers[at] = scale.apply_float(value)?;
        self.given[at] = true;
        Ok(())
    }

    /// Text, any bytes, of which those beyond the limit of labels do not count.
    #[inline]
    pub fn set_text(&mut self, at: usize, text: &'a [u8]) {
        self.texts[at] = label::cut(text);
        self.given[at] = true;
    }

    /// A flag: choice 0 for `true`, 1 for `false`, and the text of the same if it is a label.
    #[inline]
    pub fn set_flag(&mut self, input: &FlagInput, flag: bool) {
        self.numbers[input.at] = u64::from(!flag);
        if input.is_label {
            self.texts[input.at] = if flag { b"true" } else { b"false" };
        }
    }

    /// The word of a choice that a text names, the last one if it names none.
    pub fn set_choice(&mut self, at: usize, text: &[u8], words: &[String]) {
        let named = words.iter().position(|word| word.as_bytes() == text);
        self.numbers[at] = named.unwrap_or(words.len().saturating_sub(1)) as u64;
    }

    /// A process.
    pub fn set_process(&mut self, at: usize, process: u64) {
        self.numbers[at] = process;
        self.given[at] = true;
    }

    /// A measurement in its stored unit, or a process.
    #[inline]
    pub fn number(&self, at: usize) -> Option<u64> {
        self.given[at].then(|| self.numbers[at])
    }

    /// The index of a flag or choice.
    #[inline]
    pub fn choice(&self, at: usize) -> usize {
        self.numbers[at] as usize
    }

    /// A text or flag as a label value, `unknown` if it is not there. It is no longer than labels may be.
    #[inline]
    pub fn text(&self, at: usize) -> &'a [u8] {
        self.texts[at]
    }

    /// Whether a field is there.
    #[inline]
    pub fn is_given(&self, at: usize) -> bool {
        self.given[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(value: u64, numerator: u64, denominator: u64) -> Result<u64, Reject> {
        let denominator = NonZeroU64::new(denominator).expect("not zero");
        Scale { numerator, denominator }.apply(value)
    }

    #[test]
    fn scaling_refuses_what_does_not_fit() {
        assert_eq!(scale(MAX_VALUE, 1, 1), Ok(MAX_VALUE));
        assert_eq!(scale(MAX_VALUE + 1, 1, 1), Err(Reject::OversizedMeasurement));
        assert_eq!(scale(5, 1_000, 1), Ok(5_000));
        assert_eq!(scale(5_500, 1, 1_000), Ok(5));
        assert_eq!(scale(u64::MAX, 1_000, 1), Err(Reject::OversizedMeasurement));
        assert_eq!(scale(u64::MAX, 1, 4), Ok(u64::MAX / 4));
    }

    #[test]
    fn floats_are_scaled_before_they_are_rounded() {
        let milli = Scale { numerator: 1_000, denominator: NonZeroU64::MIN };
        assert_eq!(milli.apply_float(45.5), Ok(45_500));
        assert_eq!(milli.apply_float(0.000_6), Ok(1));
        assert_eq!(milli.apply_float(-0.0), Ok(0));
        assert_eq!(milli.apply_float(-0.000_1), Err(Reject::NegativeMeasurement));
        assert_eq!(milli.apply_float(1e300), Err(Reject::OversizedMeasurement));
        assert_eq!(milli.apply_float(f64::NAN), Err(Reject::OversizedMeasurement));
        assert_eq!(milli.apply_float(MAX_VALUE as f64), Err(Reject::OversizedMeasurement));
    }

    #[test]
    fn a_text_is_cut_before_anything_is_done_with_it() {
        let long = vec![b'a'; 1 << 20];
        let mut fields = Fields::new();
        fields.set_text(0, &long);
        assert_eq!(fields.text(0).len(), label::MAX_LABEL_BYTES);
    }

    #[test]
    fn an_unknown_word_counts_as_the_last() {
        let words = ["error".to_owned(), "other".to_owned()];
        let mut fields = Fields::new();
        fields.set_choice(0, b"error", &words);
        fields.set_choice(1, b"whatever", &words);
        assert_eq!((fields.choice(0), fields.choice(1)), (0, 1));
    }
}
