//! Notes: for what an event that was recorded has to be given once more, with all that it says.

/// What was noted of an event. Mostly nothing, so recording need not look at what only few events are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notes(u8);

impl Notes {
    /// There is nothing more to do.
    pub const NONE: Self = Self(0);
    /// Its sample should be an exemplar.
    pub const EXEMPLARY: Self = Self(1);
    /// A call failed, and is to be logged.
    pub const FAILED: Self = Self(2);
    /// It is one of the slowest calls.
    pub const SLOW: Self = Self(4);
    /// The router is to be told that a worker did not answer a request.
    pub const COMPLETED: Self = Self(8);

    /// Both notes.
    #[must_use]
    #[inline]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has all of another.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The number that stands for the notes outside of Rust.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl From<u8> for Notes {
    fn from(number: u8) -> Self {
        Self(number)
    }
}
