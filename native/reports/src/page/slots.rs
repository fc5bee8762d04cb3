//! The last hour, cut into at most [`MOST_SLOTS`] parts.

use telemetry_common::moment::Moment;
use telemetry_windows::window::{Window, WindowSpec};

/// How many slots there are at most.
pub const MOST_SLOTS: u64 = 60;

const HOUR_MS: u64 = 3_600_000;

/// How far back the history reaches when there is so much, in milliseconds.
pub(super) fn span_ms(spec: &WindowSpec) -> u64 {
    spec.history_ms.clamp(1, HOUR_MS)
}

/// The windows of the slots, in order, of which the last reaches up to now. Together they cover each
/// slice once.
///
/// A slot is as many slices long as it takes, and slots begin at multiples of their length, so that
/// one that has ended shows the same for ever. Slices begin when a tick comes, a little after a
/// multiple, and a window is moved back to where a slice began; so slots are cut in the middle of the
/// first slice that is to be in them.
pub(super) fn slots(spec: &WindowSpec, now: Moment) -> Vec<Window> {
    let slice_ms = spec.slice_ms.max(1);
    let span_ms = span_ms(spec);
    let slot_ms = span_ms.div_ceil(MOST_SLOTS).next_multiple_of(slice_ms);
    let count = span_ms.div_ceil(slot_ms).min(MOST_SLOTS);
    let last = now.ms / slot_ms;
    let cut = |slot: u64| slot * slot_ms + slice_ms / 2;
    let first = (last + 1).saturating_sub(count);
    let ended = (first..last).map(|slot| Window::Between(cut(slot), cut(slot + 1)));
    ended.chain([Window::Last(now.ms.saturating_sub(cut(last)))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment { ms, unix_ms: 0 }
    }

    fn spec(slice_ms: u64, history_ms: u64) -> WindowSpec {
        WindowSpec { slice_ms, history_ms, memory_limit: 1 << 20 }
    }

    #[test]
    fn slots_are_at_most_sixty_and_leave_no_gap() {
        for (slice_ms, history_ms) in [
            (10_000, 3_600_000),
            (10, 10),
            (10, 120),
            (7_000, 3_600_000),
            (3_600_000, 3_600_000),
            (3_600_000, 604_800_000),
            (10, 604_800_000),
            (90_000, 100_000),
        ] {
            for now_ms in [0, 1, 59_999, 3_600_000, 36_004_321] {
                let slots = slots(&spec(slice_ms, history_ms), at(now_ms));
                assert!((1..=60).contains(&slots.len()), "{slots:?}");
                let mut next = None;
                for slot in &slots[..slots.len() - 1] {
                    let Window::Between(from, to) = *slot else { panic!("{slot:?}") };
                    assert!(from < to && next.is_none_or(|next| next == from), "{slots:?}");
                    next = Some(to);
                }
                let Some(Window::Last(back)) = slots.last() else { panic!("{slots:?}") };
                if let Some(next) = next {
                    assert_eq!(now_ms.saturating_sub(*back), next.min(now_ms));
                }
            }
        }
    }

    #[test]
    fn an_hour_of_slices_of_ten_seconds_is_sixty_slots_of_a_minute() {
        let slots = slots(&spec(10_000, 3_600_000), at(7_234_000));
        assert_eq!(slots.len(), 60);
        assert_eq!(slots[0], Window::Between(3_665_000, 3_725_000));
        assert_eq!(slots[59], Window::Last(29_000));
    }
}
