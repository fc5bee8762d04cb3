//! A number with the time at which it was right, in one atomic word.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A time in steps of 2^16 ns, about 66 us.
///
/// It has as many bits as a word has room for beside a number: 40, which wrap after 834 days. A number
/// seems young again only to who reads it as long after it was stored, give or take an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick(u64);

impl Tick {
    const SHIFT: u32 = 16;
    const BITS: u32 = 40;
    const MASK: u64 = (1 << Self::BITS) - 1;
    /// How many steps a time may seem to lie ahead: 73 minutes. All other differences are ages.
    const AHEAD: u64 = 1 << 26;

    #[inline]
    pub(crate) fn at(ns: u64) -> Self {
        Self((ns >> Self::SHIFT) & Self::MASK)
    }

    /// Steps since an earlier time. Threads read their clocks at slightly different moments, so what
    /// seems to lie ahead is taken for now.
    #[inline(always)]
    pub(crate) fn since(self, earlier: Self) -> f32 {
        let steps = self.0.wrapping_sub(earlier.0).wrapping_add(Self::AHEAD) & Self::MASK;
        // Signed, as the processor converts nothing else at once.
        (steps as i64 - Self::AHEAD as i64).max(0) as f32
    }
}

/// Nanoseconds in a step.
const STEP: f32 = (1u64 << Tick::SHIFT) as f32;

/// How fast something is forgotten: what is left of it after some time is a power of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfLife {
    per_step: f32,
}

impl HalfLife {
    pub(crate) fn from_ns(ns: u64) -> Self {
        Self { per_step: STEP / ns.max(1) as f32 }
    }

    /// Of what fades with a mean life of so many nanoseconds, of at least one step.
    #[inline]
    pub(crate) fn of_mean_life(ns: f32) -> Self {
        Self { per_step: std::f32::consts::LOG2_E * STEP / ns.max(STEP) }
    }

    /// A part of the way to another.
    #[inline]
    pub(crate) fn towards(self, other: Self, part: f32) -> Self {
        Self { per_step: self.per_step + (other.per_step - self.per_step) * part }
    }

    /// The bits of a number that `from_bits` takes.
    #[inline]
    pub(crate) fn to_bits(self) -> u32 {
        self.per_step.to_bits()
    }

    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self { per_step: f32::from_bits(bits) }
    }

    /// The share that is left after so many steps.
    #[inline(always)]
    pub(crate) fn left_after(self, steps: f32) -> f32 {
        power_of_half(steps * self.per_step)
    }

    /// The same on a straight line between one halving and the next, so up to 6 % more. For what is only
    /// compared: the decision waits for it, and it takes half as long.
    #[inline(always)]
    pub(crate) fn roughly_left_after(self, steps: f32) -> f32 {
        line_through_powers_of_half(steps * self.per_step)
    }
}

/// More half lives leave nothing, and no normal number.
const MOST: f32 = 126.0;

/// 2^-x for x >= 0, off by at most 2 in 10,000: several for every decision, and the mathematical
/// library takes its time over them. Has no branch, as there would be no telling which one is taken.
#[inline(always)]
fn power_of_half(x: f32) -> f32 {
    /// A number of this size has its units in its last bits, so adding it rounds.
    const ROUND: f32 = (3 << 22) as f32;
    let x = if x < MOST { x } else { MOST };
    let rounded = x + ROUND;
    // 2^-x = 2^-whole * 2^rest with -1/2 <= rest <= 1/2.
    let rest = (rounded - ROUND) - x;
    let power = f32::from_bits((127 - (rounded.to_bits() & 0x7F)) << 23);
    power * (1.0 + rest * (0.693_283 + rest * (0.242_211 + rest * 0.055_007)))
}

/// The same for whole x, and a straight line in between.
#[inline(always)]
fn line_through_powers_of_half(x: f32) -> f32 {
    /// A number of this size has 1,024ths in its last bits.
    const ROUND: f32 = (3 << 12) as f32;
    let x = if x < MOST { x } else { MOST };
    let parts = (x + ROUND).to_bits() & 0x1_FFFF;
    // From one exponent to the next the bits of a number are a straight line.
    f32::from_bits(1.0f32.to_bits() - (parts << 13))
}

/// A number and the time of its last change, which change together. All operations are relaxed: the
/// number is an estimate, and nothing else is read on its word.
///
/// The number has 16 bits after the first one, so what is kept is off by at most 1 in 131,072. A 128th of
/// the way to the next sample, the least that anybody goes, is lost where the sample is less than a tenth
/// of a percent away; and where 262,144 are counted, one more is lost.
#[derive(Debug, Default)]
pub(crate) struct Stamped(AtomicU64);

impl Stamped {
    /// The number and its time, unless nothing was stored yet.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<(f32, Tick)> {
        unpack(self.0.load(Relaxed))
    }

    /// The number and the steps since it was stored, unless nothing was stored yet.
    #[inline(always)]
    pub(crate) fn since(&self, now: Tick) -> Option<(f32, f32)> {
        self.get().map(|(number, stored)| (number, now.since(stored)))
    }

    /// Stores a number, whatever others store meanwhile.
    #[inline]
    pub(crate) fn set(&self, number: f32, now: Tick) {
        self.0.store(pack(number, now), Relaxed);
    }

    /// Replaces the number by what `next` makes of it and of the steps since it was stored.
    #[inline]
    pub(crate) fn update(&self, now: Tick, next: impl Fn(Option<(f32, f32)>) -> f32) {
        let mut word = self.0.load(Relaxed);
        loop {
            let old = unpack(word).map(|(number, stored)| (number, now.since(stored)));
            match self.0.compare_exchange_weak(word, pack(next(old), now), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(changed) => word = changed,
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.0.store(EMPTY, Relaxed);
    }
}

const EMPTY: u64 = 0;

/// The last bits of a number, which are not kept. Its sign is not either: it has none.
const CUT: u32 = Tick::BITS - u32::BITS - 1;

#[inline]
fn pack(number: f32, at: Tick) -> u64 {
    /// Half of what is cut off, so that numbers are rounded to the nearest.
    const HALF: u32 = 1 << (CUT - 1);
    // Positive zero at time zero would be taken for nothing.
    let bits = (number.max(f32::MIN_POSITIVE).to_bits() + HALF) >> CUT;
    u64::from(bits) << Tick::BITS | at.0
}

#[inline(always)]
fn unpack(word: u64) -> Option<(f32, Tick)> {
    let number = ((word >> Tick::BITS) as u32) << CUT;
    (word != EMPTY).then(|| (f32::from_bits(number), Tick(word & Tick::MASK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_half_are_near_the_true_ones() {
        for step in 0..10_000 {
            let x = step as f32 / 100.0;
            let error = power_of_half(x) - (-x).exp2();
            assert!(error.abs() <= 7e-4, "{x}: {error}");
        }
        assert!((power_of_half(1.0) - 0.5).abs() < 1e-6);
        assert_eq!(power_of_half(0.0), 1.0);
        assert!(power_of_half(f32::INFINITY) < 1e-37);
    }

    #[test]
    fn the_line_goes_through_the_powers_of_half_and_is_at_most_6_percent_above_them_in_between() {
        for whole in 0..=126 {
            assert_eq!(line_through_powers_of_half(whole as f32), (-whole as f32).exp2());
        }
        for part in 0..1_000 {
            let x = part as f32 / 100.0;
            let above = line_through_powers_of_half(x) / (-x).exp2() - 1.0;
            assert!((-0.001..0.063).contains(&above), "{x}: {above}");
        }
        assert!(line_through_powers_of_half(f32::INFINITY) < 1e-37);
    }

    #[test]
    fn half_is_left_after_a_half_life_and_an_eth_after_a_mean_life() {
        let steps = Tick::at(10_000_000_000).since(Tick::at(0));
        assert!((HalfLife::from_ns(10_000_000_000).left_after(steps) - 0.5).abs() < 1e-3);
        assert!((HalfLife::of_mean_life(10e9).left_after(steps) - (-1.0f32).exp()).abs() < 1e-3);
    }

    #[test]
    fn a_number_keeps_its_time_and_a_clock_that_is_behind_means_now() {
        let number = Stamped::default();
        assert_eq!(number.get(), None);
        let late = Tick::at(1 << 40);
        number.update(late, |old| {
            assert_eq!(old, None);
            2.5
        });
        assert_eq!(number.get(), Some((2.5, late)));
        number.update(Tick::at(1 << 39), |old| {
            assert_eq!(old, Some((2.5, 0.0)));
            0.0
        });
        assert!(number.get().is_some_and(|(number, _)| number < 1e-30));
        number.clear();
        assert_eq!(number.get(), None);
    }

    #[test]
    fn a_number_is_kept_to_one_in_131072_whatever_the_time() {
        for power in 0..48 {
            for number in [1.0f32, 1.234_567, 1.999_99, 3.0e-7, 8_191.5, 9.87e12] {
                let (stamped, now) = (Stamped::default(), Tick::at((1 << power) - 1));
                stamped.set(number, now);
                let (kept, at) = stamped.get().expect("a number");
                assert_eq!(at, now);
                assert!((kept / number - 1.0).abs() <= 1.0 / 131_072.0, "{number}: {kept}");
            }
        }
        assert!(Stamped::default().get().is_none());
    }

    /// From times that are near zero, near where the bits of a time end, and anywhere.
    #[test]
    fn an_age_is_right_whatever_the_time_and_however_old_a_number_is() {
        const YEAR: u64 = 365 * 24 * 3_600 * 1_000_000_000;
        let starts = [0, 1 << 16, 1 << 47, (1 << 56) - (1 << 40), 3 << 55, u64::MAX - 3 * YEAR];
        for start in starts {
            let stored = Tick::at(start);
            let powers = (0..63).map(|power| 1u64 << power).filter(|ns| *ns <= 2 * YEAR);
            for ns in powers.chain([YEAR, 2 * YEAR]) {
                let steps = ((start + ns) >> 16) - (start >> 16);
                let since = Tick::at(start + ns).since(stored);
                assert!(
                    (since - steps as f32).abs() <= 1e-6 * steps as f32,
                    "{start} {ns} {since}"
                );
                // And a clock that is behind means now.
                if ns < 1 << 41 {
                    assert_eq!(stored.since(Tick::at(start + ns)), 0.0);
                }
            }
        }
    }
}
