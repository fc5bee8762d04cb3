//! Numbers as events give them, and sums of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Serialize, Serializer};

/// A number that an event gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Integer(i64),
    /// Any other number; finite.
    Float(f64),
}

impl Number {
    /// The number, to 53 bits.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// The sum of numbers: of integers exact, and so are those that only lack fractions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Total {
    /// Of integers.
    Integer(i64),
    /// With fractions.
    Float(f64),
}

impl Total {
    /// The sum of what integers and what others add up to.
    pub(crate) fn new(integers: i64, floats: f64) -> Self {
        if floats == 0.0 {
            return Self::Integer(integers);
        }
        Self::Float((integers as f64 + floats).clamp(f64::MIN, f64::MAX))
    }

    /// A number that is no sum: without a fraction it is an integer, as far as that is exact.
    pub(crate) fn of(value: f64) -> Self {
        const EXACT: f64 = (1_u64 << 53) as f64;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            Self::Integer(value as i64)
        } else {
            Self::Float(value)
        }
    }

    /// The sum, to 53 bits.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

impl Serialize for Total {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Integer(value) => serializer.serialize_i64(value),
            Self::Float(value) => serializer.serialize_f64(value),
        }
    }
}

/// A word that orders numbers as they are, and is never zero for a finite one, so that zero means none
/// and larger wins.
pub(crate) fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

/// The number of an ordered word.
pub(crate) fn from_ordered(word: u64) -> f64 {
    f64::from_bits(if word >> 63 == 0 { !word } else { word & !(1 << 63) })
}

/// The latest of some numbers, which any thread may replace at any time.
pub(crate) struct Latest<'a>(pub(crate) &'a AtomicU64);

impl Latest<'_> {
    /// A word of zeros is none; no number is kept as one.
    const NONE: u64 = f64::NAN.to_bits();

    #[inline]
    pub(crate) fn replace(&self, value: f64) {
        self.0.store(value.to_bits() ^ Self::NONE, Relaxed);
    }

    pub(crate) fn get(&self) -> Option<f64> {
        match self.0.load(Relaxed) {
            0 => None,
            word => Some(f64::from_bits(word ^ Self::NONE)),
        }
    }

    /// Takes over what another had, if it has none.
    pub fn inherit(&self, other: &Latest<'_>) {
        let _ = self.0.compare_exchange(0, other.0.load(Relaxed), Relaxed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finite() -> impl Strategy<Value = f64> {
        let special = [0.0, -0.0, f64::MIN, f64::MAX, f64::MIN_POSITIVE, -1.0, 1.0];
        prop_oneof![
            proptest::num::f64::NORMAL
                | proptest::num::f64::SUBNORMAL
                | proptest::num::f64::NEGATIVE,
            proptest::sample::select(special.to_vec())
        ]
        .prop_filter("finite", |value| value.is_finite())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn ordered_words_are_in_the_order_of_their_numbers(left in finite(), right in finite()) {
            prop_assert!(ordered(left) != 0 && !ordered(left) != 0);
            prop_assert_eq!(from_ordered(ordered(left)).to_bits(), left.to_bits());
            if left < right {
                prop_assert!(ordered(left) < ordered(right));
            }
        }

        #[test]
        fn the_latest_is_what_was_put_last(value in finite()) {
            let cell = AtomicU64::new(0);
            prop_assert_eq!(Latest(&cell).get(), None);
            Latest(&cell).replace(value);
            prop_assert_eq!(Latest(&cell).get(), Some(value));
            Latest(&cell).inherit(&Latest(&AtomicU64::new(7)));
            prop_assert_eq!(Latest(&cell).get(), Some(value));
        }
    }
}
