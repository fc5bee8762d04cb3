//! Spikes that are over, with their repeats.

use std::collections::VecDeque;

use telemetry_common::heap::{self, HeapBytes};

use super::SpikeOver;
use super::cause::merge;
use super::key_errors::Ended;

/// How many ended spikes are remembered.
pub const RECENT_SPIKES: usize = 100;

/// The spikes that ended last, the latest first.
#[derive(Default)]
pub(super) struct Recent(VecDeque<SpikeOver>);

impl Recent {
    /// Keeps a spike, and returns it if it is to be signalled.
    pub(super) fn keep(&mut self, ended: Ended) -> Option<SpikeOver> {
        let Ended { over, is_repeat } = ended;
        if is_repeat {
            self.keep_repeat(over);
            return None;
        }
        self.push(over.clone());
        Some(over)
    }

    /// Adds a repeat to the spike that it repeats, which is the last one of its key. That may be
    /// gone, where many keys have spikes: then the repeat stands for it.
    fn keep_repeat(&mut self, repeat: SpikeOver) {
        let place = self.0.iter().position(|over| over.key == repeat.key);
        let group = match place.and_then(|place| self.0.remove(place)) {
            Some(first) => SpikeOver {
                total: first.total + repeat.total,
                last_ms: repeat.last_ms,
                over_ms: repeat.over_ms,
                duration_ms: repeat.over_ms.saturating_sub(first.first_ms),
                causes: merge(first.causes, repeat.causes),
                repeats: first.repeats + 1,
                ..first
            },
            None => repeat,
        };
        self.push(group);
    }

    fn push(&mut self, over: SpikeOver) {
        self.0.truncate(RECENT_SPIKES - 1);
        self.0.push_front(over);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SpikeOver> {
        self.0.iter()
    }

    /// Bytes allocated for the spikes.
    pub(super) fn memory_bytes(&self) -> usize {
        let causes = self.0.iter().flat_map(|over| &over.causes);
        heap::sum([
            self.0.heap_bytes(),
            heap::sum(self.0.iter().map(|over| over.key.memory_bytes())),
            heap::sum(self.0.iter().map(|over| over.causes.heap_bytes())),
            heap::sum(
                causes.flat_map(|cause| [&cause.kind, &cause.reason]).map(HeapBytes::heap_bytes),
            ),
        ])
    }
}
