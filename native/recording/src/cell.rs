//! Cells: the numbers of a series, each a word, and how several make one.

/// What the words of a cell mean, and so how those of lanes, of slices and of nodes make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A count, or a sum of natural numbers, which stops at the largest value.
    Natural,
    /// A sum of integers in two's complement, which stops at the smallest and largest value.
    Integer,
    /// A sum of finite numbers as the bits of an `f64`, which stops at the smallest and largest value.
    Float,
    /// The largest of some words.
    Largest,
}

impl Cell {
    /// The word that stands for both.
    #[inline]
    pub(crate) fn merge(self, one: u64, other: u64) -> u64 {
        match self {
            Self::Natural => one.saturating_add(other),
            Self::Integer => plus_signed(one, other as i64),
            Self::Float => plus_float(one, f64::from_bits(other)),
            Self::Largest => one.max(other),
        }
    }

    /// The word that, merged with the one before, makes the one now. The largest of all time stays.
    #[inline]
    pub fn since(self, now: u64, before: u64) -> u64 {
        match self {
            Self::Natural => now.saturating_sub(before),
            Self::Integer => (now as i64).saturating_sub(before as i64) as u64,
            Self::Float => plus_float(now, -f64::from_bits(before)),
            Self::Largest => now,
        }
    }

    /// Whether a series may have this word.
    pub fn may_be(self, word: u64) -> bool {
        self != Self::Float || f64::from_bits(word).is_finite()
    }
}

/// A sum in two's complement and an integer.
#[inline]
pub(crate) fn plus_signed(sum: u64, amount: i64) -> u64 {
    (sum as i64).saturating_add(amount) as u64
}

/// A sum as the bits of an `f64` and a number.
#[inline]
pub(crate) fn plus_float(sum: u64, amount: f64) -> u64 {
    (f64::from_bits(sum) + amount).clamp(f64::MIN, f64::MAX).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Cell; 4] = [Cell::Natural, Cell::Integer, Cell::Float, Cell::Largest];

    #[test]
    fn what_came_since_and_what_was_before_make_what_there_is() {
        let float = f64::to_bits;
        let words = [
            (Cell::Natural, 3, 10),
            (Cell::Integer, 7, -4_i64 as u64),
            (Cell::Integer, -4_i64 as u64, 7),
            (Cell::Float, float(2.5), float(-0.75)),
            (Cell::Float, float(-2.5), float(-2.5)),
            (Cell::Largest, 5, 9),
        ];
        for (cell, before, now) in words {
            assert_eq!(cell.merge(before, cell.since(now, before)), now, "{cell:?}");
        }
    }

    #[test]
    fn sums_stop_at_their_ends() {
        let (least, most) = (i64::MIN as u64, i64::MAX as u64);
        assert_eq!(Cell::Natural.merge(u64::MAX, 1), u64::MAX);
        assert_eq!(Cell::Natural.since(1, 2), 0);
        assert_eq!((Cell::Integer.merge(most, 1), Cell::Integer.since(least, 1)), (most, least));
        let [least, most] = [f64::MIN, f64::MAX].map(f64::to_bits);
        assert_eq!((Cell::Float.merge(most, most), Cell::Float.since(least, most)), (most, least));
    }

    #[test]
    fn no_sum_is_infinite() {
        for word in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(f64::to_bits) {
            for cell in ALL {
                assert_eq!(cell.may_be(word), cell != Cell::Float, "{cell:?}");
            }
        }
        assert!(Cell::Float.may_be(f64::MAX.to_bits()));
    }
}
