//! How the numbers of a summary become values of a histogram, and back.

use super::number::Number;
use crate::error::DefinitionError;
use crate::histogram::{Location, MAX_VALUE, Precision};

/// Most bits of fraction that a summary keeps.
pub(crate) const MAX_FRACTION_BITS: u32 = 40;

/// How numbers become values of a histogram, which are integers from zero on: in units of a power of
/// two, by which no number loses a digit that the histogram keeps, unless it is very small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(super) fraction_bits: u32,
    pub(super) precision: Precision,
}

impl Scale {
    pub(super) fn new(
        metric: &str,
        fraction_bits: u32,
        precision: Precision,
    ) -> Result<Self, DefinitionError> {
        if fraction_bits > MAX_FRACTION_BITS {
            return Err(DefinitionError::FractionBits {
                metric: metric.to_owned(),
                given: fraction_bits,
                allowed: MAX_FRACTION_BITS,
            });
        }
        Ok(Self { fraction_bits, precision })
    }

    pub(super) fn unit(self) -> f64 {
        (1_u64 << self.fraction_bits) as f64
    }

    /// Whether a number is below zero, and where it is counted. What is too large for the histogram is
    /// counted with the largest.
    #[inline]
    pub(super) fn locate(self, number: Number) -> (bool, Location) {
        let (is_negative, value) = match number {
            Number::Integer(value) => {
                let scaled = u128::from(value.unsigned_abs()) << self.fraction_bits;
                (value < 0, u64::try_from(scaled).unwrap_or(MAX_VALUE))
            }
            Number::Float(value) => (value < 0.0, (value.abs() * self.unit()) as u64),
        };
        (is_negative, self.precision.locate(value.min(MAX_VALUE)))
    }

    /// A number that is counted at a place, moved there if it is not. What is not finite is none.
    pub(super) fn within(self, (is_negative, location): (bool, Location), number: f64) -> f64 {
        let bound = |value: u64| value as f64 / self.unit();
        let lowest = bound(self.precision.lowest_value(location));
        let highest = if location == self.precision.locate(MAX_VALUE) {
            f64::MAX
        } else {
            // Fractions of a unit are not counted.
            bound(self.precision.highest_value(location) + 1)
        };
        let (least, most) = if is_negative { (-highest, -lowest) } else { (lowest, highest) };
        if number.is_finite() {
            number.clamp(least, most)
        } else {
            self.highest(is_negative, location, false)
        }
    }

    /// The largest number that is counted at a location; with `whole`, the largest integer.
    pub(crate) fn highest(self, is_negative: bool, location: Location, whole: bool) -> f64 {
        if location == self.precision.locate(MAX_VALUE) {
            // There is what was too large too, so it may be as large as the largest.
            return if is_negative { f64::MIN } else { f64::MAX };
        }
        let (value, sign) = if is_negative {
            (self.precision.lowest_value(location), -1.0)
        } else {
            (self.precision.highest_value(location), 1.0)
        };
        let number = sign * value as f64 / self.unit();
        if whole { number.floor() } else { number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_summary_counts_is_within_its_precision() {
        for fraction_bits in [0, 16, 30, 40] {
            let scale = Scale::new("m", fraction_bits, Precision::Two).expect("valid");
            for value in [1.0, 3.7, 127.0, 1_000.25, 123_456.789] {
                for number in [value, -value] {
                    let (is_negative, location) = scale.locate(Number::Float(number));
                    let highest = scale.highest(is_negative, location, false);
                    let coarse = if fraction_bits == 0 { 1.0 } else { 0.0 };
                    assert!(highest >= number - coarse, "{highest} for {number}");
                    assert!((highest - number).abs() <= value / 100.0 + coarse, "{highest}");
                }
                let whole = value.floor();
                let (_, location) = scale.locate(Number::Integer(whole as i64));
                if whole < 128.0 {
                    assert_eq!(scale.highest(false, location, true), whole);
                }
            }
        }
    }
}
