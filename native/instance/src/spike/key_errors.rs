//! The errors of one key, its spike, and what is held back of its spikes.

use std::collections::VecDeque;
use std::mem::take;
use std::num::NonZeroU64;

use super::cause::{CauseId, Causes, Counters};
use super::{CurrentSpike, ErrorSpike, SpikeOver, SpikeRepeats, SpikeSpec};
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::LabelSet;

/// The errors of a key in the window, and its spike.
#[derive(Default)]
pub(super) struct KeyErrors {
    /// Oldest first, at most as many as the threshold, at least one. Totals of calls never go down
    /// from one to the next, and are known from the first that is known on.
    newest: VecDeque<Error>,
    causes: Causes,
    spike: Option<Spike>,
    /// When a spike was last signalled.
    signalled_ms: Option<u64>,
    /// How many spikes started since and were not signalled, the one that is on included.
    repeats: u64,
}

struct Error {
    at_ms: u64,
    /// How many calls had been completed, this one included, if that is known.
    calls: Option<NonZeroU64>,
    cause: CauseId,
}

struct Spike {
    total: u64,
    first_ms: u64,
    counters: Counters,
    /// When an error last came with which those kept were at least half the percentage of calls.
    confirmed_ms: u64,
    /// Whether it was not signalled because it came too soon after one that was.
    is_repeat: bool,
}

/// A spike that is over.
pub(super) struct Ended {
    pub(super) over: SpikeOver,
    /// Whether it was not signalled, and so is not to be now.
    pub(super) is_repeat: bool,
}

impl KeyErrors {
    /// Records an error. Returns the spike that is over, and whether one starts: inside, what is to be
    /// signalled of it.
    pub(super) fn record(
        &mut self,
        spec: &SpikeSpec,
        key: &LabelSet,
        (kind, reason): (&str, &str),
        calls: Option<u64>,
        now_ms: u64,
    ) -> (Option<Ended>, Option<Option<ErrorSpike>>) {
        let now_ms = self.not_before_newest(now_ms);
        let ended = self.end_spike(spec, key, now_ms);
        // More than the threshold are needed neither to tell whether a spike starts nor whether it
        // is over.
        while self.newest.len() == spec.threshold
            || self.newest.front().is_some_and(|oldest| !spec.in_window(oldest.at_ms, now_ms))
        {
            self.drop_oldest();
        }
        let cause = self.causes.hold(kind, reason);
        self.push(Error { at_ms: now_ms, calls: calls.and_then(NonZeroU64::new), cause });
        let are_half_the_percentage = self.reach_half_percents(spec.percent);
        if let Some(spike) = &mut self.spike {
            spike.total += 1;
            if are_half_the_percentage {
                spike.confirmed_ms = now_ms;
            }
            spike.counters.add(cause, &mut self.causes);
            return (ended, None);
        }
        let starts =
            self.newest.len() == spec.threshold && self.reach_half_percents(2 * spec.percent);
        (ended, starts.then(|| self.start_spike(spec, key, now_ms)))
    }

    fn push(&mut self, error: Error) {
        if self.newest.back().is_some_and(|last| last.calls > error.calls) {
            // Another series counts now, so that differences to what was counted before say nothing.
            self.newest.iter_mut().for_each(|earlier| earlier.calls = None);
        }
        self.newest.push_back(error);
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.newest.pop_front() {
            self.causes.release(oldest.cause);
        }
    }

    /// Whether the errors that are kept are at least so many halves of a percent of the calls that
    /// were completed from the oldest of them on. They are if it is not known.
    fn reach_half_percents(&self, half_percents: u64) -> bool {
        let ends = [self.newest.front(), self.newest.back()];
        let [Some(oldest), Some(newest)] = ends.map(|error| error?.calls) else {
            return true;
        };
        let calls = newest.get().saturating_sub(oldest.get()).saturating_add(1);
        200 * self.newest.len() as u64 >= half_percents.saturating_mul(calls)
    }

    fn start_spike(&mut self, spec: &SpikeSpec, key: &LabelSet, now_ms: u64) -> Option<ErrorSpike> {
        let is_repeat = self.holds_back(spec, now_ms);
        let first_ms = self.newest.front().map_or(now_ms, |oldest| oldest.at_ms);
        let total = self.newest.len() as u64;
        let mut counters = Counters::default();
        for error in &self.newest {
            counters.add(error.cause, &mut self.causes);
        }
        self.spike = Some(Spike { total, first_ms, counters, confirmed_ms: now_ms, is_repeat });
        if is_repeat {
            self.repeats += 1;
            return None;
        }
        self.signalled_ms = Some(now_ms);
        Some(ErrorSpike {
            key: key.clone(),
            error_count: total,
            causes: self.causes.tally(self.newest.iter().map(|error| error.cause)),
            first_ms,
            last_ms: now_ms,
            repeats: take(&mut self.repeats),
        })
    }

    /// Ends the spike if there is one and it is over.
    pub(super) fn end_spike(
        &mut self,
        spec: &SpikeSpec,
        key: &LabelSet,
        now_ms: u64,
    ) -> Option<Ended> {
        let deciding_ms = self.deciding_ms(spec)?;
        if spec.in_window(deciding_ms, now_ms) {
            return None;
        }
        let Spike { total, first_ms, counters, is_repeat, .. } = self.spike.take()?;
        let over_ms = deciding_ms.saturating_add(spec.window_ms);
        let causes = counters.most_frequent(&self.causes);
        counters.release(&mut self.causes);
        let over = SpikeOver {
            key: key.clone(),
            total,
            first_ms,
            last_ms: self.newest_ms(),
            over_ms,
            duration_ms: over_ms.saturating_sub(first_ms),
            causes,
            repeats: 0,
        };
        Some(Ended { over, is_repeat })
    }

    /// The spike that is on, if it started as a repeat and those are no longer held back: what lasts
    /// is signalled.
    pub(super) fn promote(
        &mut self,
        spec: &SpikeSpec,
        key: &LabelSet,
        now_ms: u64,
    ) -> Option<ErrorSpike> {
        if self.holds_back(spec, now_ms) {
            return None;
        }
        let last_ms = self.newest_ms();
        let spike = self.spike.as_mut().filter(|spike| spike.is_repeat)?;
        spike.is_repeat = false;
        self.signalled_ms = Some(now_ms);
        Some(ErrorSpike {
            key: key.clone(),
            error_count: spike.total,
            causes: spike.counters.most_frequent(&self.causes),
            first_ms: spike.first_ms,
            last_ms,
            repeats: take(&mut self.repeats) - 1,
        })
    }

    /// The repeats of which no spike will tell, since they are no longer held back.
    pub(super) fn take_repeats(
        &mut self,
        spec: &SpikeSpec,
        key: &LabelSet,
        now_ms: u64,
    ) -> Option<SpikeRepeats> {
        if self.holds_back(spec, now_ms) {
            return None;
        }
        let repeats = take(&mut self.repeats);
        (repeats > 0).then(|| SpikeRepeats { key: key.clone(), repeats })
    }

    /// Whether a spike that starts now is held back as a repeat.
    pub(super) fn holds_back(&self, spec: &SpikeSpec, now_ms: u64) -> bool {
        self.signalled_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < spec.repeat_ms)
    }

    pub(super) fn has_repeats(&self) -> bool {
        self.repeats > 0
    }

    /// Whether there is neither a spike nor a repeat to tell of.
    pub(super) fn is_idle(&self) -> bool {
        self.spike.is_none() && !self.has_repeats()
    }

    pub(super) fn current_spike(
        &self,
        spec: &SpikeSpec,
        key: &LabelSet,
        now_ms: u64,
    ) -> Option<CurrentSpike> {
        let spike = self.spike.as_ref()?;
        let is_on = spec.in_window(self.deciding_ms(spec)?, now_ms);
        let in_window = self.newest.iter().filter(|error| spec.in_window(error.at_ms, now_ms));
        is_on.then(|| CurrentSpike {
            key: key.clone(),
            error_count: in_window.count() as u64,
            total: spike.total,
            first_ms: spike.first_ms,
            last_ms: self.newest_ms(),
            causes: spike.counters.most_frequent(&self.causes),
            repeats: self.repeats - u64::from(spike.is_repeat),
        })
    }

    /// When the error came that has to be in the window for the spike to go on: the one with which
    /// half the threshold is there, or an older one that was the last to confirm the share of calls.
    fn deciding_ms(&self, spec: &SpikeSpec) -> Option<u64> {
        let spike = self.spike.as_ref()?;
        let place = self.newest.len().checked_sub(spec.threshold.div_ceil(2))?;
        self.newest.get(place).map(|error| error.at_ms.min(spike.confirmed_ms))
    }

    /// Whether no error is in the window.
    pub(super) fn are_past(&self, spec: &SpikeSpec, now_ms: u64) -> bool {
        !self.newest.back().is_some_and(|newest| spec.in_window(newest.at_ms, now_ms))
    }

    /// The time, which is not before that of the newest error.
    pub(super) fn not_before_newest(&self, now_ms: u64) -> u64 {
        now_ms.max(self.newest_ms())
    }

    fn newest_ms(&self) -> u64 {
        self.newest.back().map_or(0, |newest| newest.at_ms)
    }

    /// Bytes allocated for errors and causes.
    pub(super) fn memory_bytes(&self) -> usize {
        let spike = self.spike.as_ref().map_or(0, |spike| spike.counters.memory_bytes());
        heap::sum([self.newest.heap_bytes(), self.causes.memory_bytes(), spike])
    }
}
