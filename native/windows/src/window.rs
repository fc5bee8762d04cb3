//! Windows: what was counted in the last minute, or in the one before.
//!
//! Time is cut into *slices*. A tick ends one: of every series with events since the last tick the
//! difference goes, encoded, into a ring, and a window is the merge of the slices that it covers.
//! Bounds of slices are multiples of the slice length, as far as ticks come on time.
//!
//! The ring keeps slices for as long as it was told to, in as many bytes as it was told to. When
//! they do not suffice, neighbours among the older slices merge, so that the past gets coarser
//! before it gets shorter; when that does not suffice either, the oldest slice goes.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_recording::layout::Layout;
use telemetry_recording::point::Point;

/// How time is cut, and how much of it is kept.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct WindowSpec {
    /// Length of a slice in milliseconds.
    pub slice_ms: u64,
    /// How long slices are kept, in milliseconds.
    pub history_ms: u64,
    /// How many bytes they may take.
    pub memory_limit: usize,
}

/// Which time a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All since the start or the last reset.
    SinceStart,
    /// This many milliseconds up to now. Reaches back to the bound of a slice, so it covers at least
    /// what was asked for and at most that slice more, which may be a merged one.
    Last(u64),
    /// As many milliseconds before the window `Last` of the same length.
    Previous(u64),
    /// From one time to another, each moved back to where a slice began.
    Between(u64, u64),
}

impl Window {
    /// The window of the same length before this one.
    pub fn before(self) -> Option<Self> {
        match self {
            Self::Last(ms) => Some(Self::Previous(ms)),
            Self::Between(from, to) => {
                Some(Self::Between(from.saturating_sub(to.saturating_sub(from)), from))
            }
            Self::SinceStart | Self::Previous(_) => None,
        }
    }
}

/// The time that a report covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Its start, in milliseconds since 1970, UTC.
    pub from_unix_ms: i64,
    /// Its end.
    pub to_unix_ms: i64,
    /// From start to end.
    pub duration_ms: u64,
}

impl Interval {
    /// The interval between two times of the clock that only counts up.
    pub fn new(from_ms: u64, to_ms: u64, now: Moment) -> Self {
        Self {
            from_unix_ms: now.unix_ms_at(from_ms),
            to_unix_ms: now.unix_ms_at(to_ms),
            duration_ms: to_ms.saturating_sub(from_ms),
        }
    }

    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        self.duration_ms as f64 / 1e3
    }
}

/// Points by series.
pub type Points = HashMap<LabelSet, Point, RandomState>;

/// Encoded points of one family.
#[derive(Default)]
struct Encoded {
    /// Labels, and where the point begins.
    entries: Vec<(LabelSet, u32)>,
    bytes: Vec<u8>,
}

impl Encoded {
    fn push(&mut self, labels: &LabelSet, point: &Point) {
        self.entries.push((labels.clone(), self.bytes.len() as u32));
        point.encode(&mut self.bytes);
    }

    fn add_to(&self, points: &mut Points, layout: &Layout) {
        let ends = self.entries.iter().skip(1).map(|(_, start)| *start as usize);
        let ends = ends.chain([self.bytes.len()]);
        for ((labels, start), end) in self.entries.iter().zip(ends) {
            let point = match points.get_mut(labels) {
                Some(point) => point,
                None => points.entry(labels.clone()).or_insert_with(|| Point::new(layout)),
            };
            point.add_encoded(&self.bytes[*start as usize..end], layout);
        }
    }

    fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// Labels are counted in full, although slices share them: the series that had them may go.
    fn memory_bytes(&self) -> usize {
        let labels = self.entries.iter().map(|(labels, _)| labels.memory_bytes());
        heap::sum([self.entries.heap_bytes(), self.bytes.heap_bytes(), heap::sum(labels)])
    }
}

struct Slice {
    from_ms: u64,
    to_ms: u64,
    /// By family, in the definition's order.
    families: Box<[Encoded]>,
    memory_bytes: usize,
}

impl Slice {
    fn new(from_ms: u64, to_ms: u64, mut families: Box<[Encoded]>) -> Self {
        families.iter_mut().for_each(Encoded::shrink);
        let encoded = heap::sum(families.iter().map(Encoded::memory_bytes));
        let memory_bytes = heap::sum([size_of::<Self>(), families.heap_bytes(), encoded]);
        Self { from_ms, to_ms, families, memory_bytes }
    }

    fn duration_ms(&self) -> u64 {
        self.to_ms - self.from_ms
    }

    /// Two neighbours as one.
    fn merge(&self, next: &Self, layouts: &[&Layout]) -> Self {
        let family = |(at, layout): (usize, &&Layout)| {
            let mut points = Points::default();
            self.families[at].add_to(&mut points, layout);
            next.families[at].add_to(&mut points, layout);
            let mut merged = Encoded::default();
            for (labels, mut point) in points {
                point.merge_counts();
                merged.push(&labels, &point);
            }
            merged
        };
        let families = layouts.iter().enumerate().map(family).collect();
        Self::new(self.from_ms, next.to_ms, families)
    }
}

/// What a tick collects: the points of the slice that ends.
pub struct Collector<'a> {
    pending: &'a mut [Encoded],
}

impl Collector<'_> {
    /// Adds what a series of the n-th family has counted in the slice.
    pub fn push(&mut self, family: usize, labels: &LabelSet, delta: &Point) {
        self.pending[family].push(labels, delta);
    }
}

/// The slices of an instance.
pub struct Windows {
    spec: WindowSpec,
    slices: VecDeque<Slice>,
    /// Where the slice that is under way began.
    from_ms: u64,
    /// Where everything began.
    start_ms: u64,
    /// Points of series that left during the slice that is under way.
    pending: Box<[Encoded]>,
    memory_bytes: usize,
    merged: u64,
    dropped: u64,
}

/// The state of the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowsInfo {
    /// Length of a slice in milliseconds.
    pub slice_ms: u64,
    /// How many slices there are.
    pub slices: usize,
    /// How far back they reach, in milliseconds.
    pub covered_ms: u64,
    /// Bytes that they take.
    pub memory_bytes: usize,
    /// Bytes that they may take.
    pub memory_limit: usize,
    /// How many slices were merged with a neighbour because of the limit.
    pub merged: u64,
    /// How many slices went before their time because of the limit.
    pub dropped: u64,
}

impl Windows {
    /// No slices yet, for a number of families.
    pub fn new(spec: WindowSpec, families: usize, now_ms: u64) -> Self {
        Self {
            spec,
            slices: VecDeque::new(),
            from_ms: now_ms,
            start_ms: now_ms,
            pending: pending(families),
            memory_bytes: 0,
            merged: 0,
            dropped: 0,
        }
    }

    /// Forgets all slices.
    pub fn clear(&mut self, now_ms: u64) {
        *self = Self::new(self.spec, self.pending.len(), now_ms);
    }

    /// How time is cut.
    pub fn spec(&self) -> &WindowSpec {
        &self.spec
    }

    /// Whether the slice that is under way is to end.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let slice_ms = self.spec.slice_ms;
        now_ms / slice_ms > self.from_ms / slice_ms
    }

    /// Takes points of the slice that is under way.
    pub fn collector(&mut self) -> Collector<'_> {
        Collector { pending: &mut self.pending }
    }

    /// Ends the slice that is under way, whose points have been collected.
    pub fn end_slice(&mut self, now_ms: u64, layouts: &[&Layout]) {
        let to_ms = now_ms.max(self.from_ms);
        let families = std::mem::replace(&mut self.pending, pending(layouts.len()));
        self.push(Slice::new(self.from_ms, to_ms, families));
        self.from_ms = to_ms;
        let oldest = to_ms.saturating_sub(self.spec.history_ms);
        while self.slices.front().is_some_and(|slice| slice.to_ms <= oldest) {
            self.pop_oldest();
        }
        while self.memory_bytes > self.spec.memory_limit && !self.slices.is_empty() {
            self.make_room(layouts);
        }
    }

    fn push(&mut self, slice: Slice) {
        self.memory_bytes += slice.memory_bytes;
        self.slices.push_back(slice);
    }

    fn pop_oldest(&mut self) {
        if let Some(slice) = self.slices.pop_front() {
            self.memory_bytes -= slice.memory_bytes;
        }
    }

    /// Merges the two older neighbours that are shortest together, or lets the oldest slice go.
    fn make_room(&mut self, layouts: &[&Layout]) {
        match self.shortest_pair() {
            Some(at) => {
                let merged = self.slices[at].merge(&self.slices[at + 1], layouts);
                self.memory_bytes -= self.slices[at].memory_bytes;
                self.memory_bytes -= self.slices[at + 1].memory_bytes;
                self.memory_bytes += merged.memory_bytes;
                self.slices[at] = merged;
                self.slices.remove(at + 1);
                self.merged += 1;
            }
            None => {
                self.pop_oldest();
                self.dropped += 1;
            }
        }
    }

    /// The two neighbours that are shortest together, the oldest of several. A merged slice covers
    /// at most a twelfth of the time that is kept, and the newest twelfth is never merged.
    fn shortest_pair(&self) -> Option<usize> {
        let longest = self.spec.history_ms / 12;
        let newest = self.from_ms.saturating_sub(longest);
        let length =
            |at: &usize| self.slices[*at].duration_ms() + self.slices[at + 1].duration_ms();
        (0..self.slices.len().saturating_sub(1))
            .take_while(|at| self.slices[at + 1].to_ms <= newest)
            .filter(|at| length(at) <= longest)
            .min_by_key(length)
    }

    /// The slices that a window covers and its bounds in time. The end of a window up to now is not
    /// in a slice yet.
    fn cover(&self, window: Window, now_ms: u64) -> (Range<usize>, u64, u64) {
        let now_ms = now_ms.max(self.from_ms);
        let ago = |back: u64| now_ms.saturating_sub(back);
        let slices = |from_ms: u64, to_ms: u64| {
            let to = self.slice_beginning_at(to_ms);
            self.slice_beginning_at(from_ms).min(to)..to
        };
        let time = |at: usize| self.slices.get(at).map_or(self.from_ms, |slice| slice.from_ms);
        match window {
            Window::SinceStart => (0..0, self.start_ms, now_ms),
            Window::Last(back) => {
                let from = self.slice_beginning_at(ago(back));
                (from..self.slices.len(), time(from), now_ms)
            }
            Window::Previous(back) => {
                let slices = slices(ago(back.saturating_mul(2)), ago(back));
                (slices.clone(), time(slices.start), time(slices.end))
            }
            Window::Between(from_ms, to_ms) => {
                let slices = slices(from_ms, to_ms);
                (slices.clone(), time(slices.start), time(slices.end))
            }
        }
    }

    /// The last slice that begins at or before a time, the first if there is none; one past the end
    /// is the slice that is under way.
    fn slice_beginning_at(&self, ms: u64) -> usize {
        if self.from_ms <= ms {
            return self.slices.len();
        }
        self.slices.partition_point(|slice| slice.from_ms <= ms).saturating_sub(1)
    }

    /// The time that a window covers.
    pub fn interval(&self, window: Window, now: Moment) -> Interval {
        let (_, from_ms, to_ms) = self.cover(window, now.ms);
        Interval::new(from_ms, to_ms, now)
    }

    /// The points of the n-th family in the slices that a window covers, and in what was collected
    /// of the slice that is under way if it reaches up to now. Their counts are not in order yet,
    /// since the caller may have more to add.
    pub fn points(&self, window: Window, family: usize, layout: &Layout, now_ms: u64) -> Points {
        let mut points = Points::default();
        let (slices, _, _) = self.cover(window, now_ms);
        for slice in self.slices.range(slices) {
            slice.families[family].add_to(&mut points, layout);
        }
        if let Window::Last(_) = window {
            self.pending[family].add_to(&mut points, layout);
        }
        points
    }

    /// The state.
    pub fn info(&self) -> WindowsInfo {
        let pending: usize = self.pending.iter().map(Encoded::memory_bytes).sum();
        let oldest = self.slices.front().map_or(self.from_ms, |slice| slice.from_ms);
        WindowsInfo {
            slice_ms: self.spec.slice_ms,
            slices: self.slices.len(),
            covered_ms: self.from_ms - oldest,
            memory_bytes: self.memory_bytes + pending,
            memory_limit: self.spec.memory_limit,
            merged: self.merged,
            dropped: self.dropped,
        }
    }
}

fn pending(families: usize) -> Box<[Encoded]> {
    (0..families).map(|_| Encoded::default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merging goes as far as it may, since there is never room enough.
    #[test]
    fn the_newest_twelfth_is_never_merged_and_no_slice_gets_longer_than_a_twelfth() {
        let (slice_ms, twelfth_ms) = (1_000, 10_000);
        let bytes = Slice::new(0, slice_ms, pending(0)).memory_bytes;
        let history_ms = 12 * twelfth_ms;
        let spec = WindowSpec { slice_ms, history_ms, memory_limit: 15 * bytes };
        let mut windows = Windows::new(spec, 0, 0);
        for now_ms in (slice_ms..2 * history_ms).step_by(slice_ms as usize) {
            windows.end_slice(now_ms, &[]);
            let is_new = |slice: &&Slice| slice.to_ms + twelfth_ms > now_ms;
            let newest = windows.slices.iter().filter(is_new);
            assert!(newest.clone().all(|slice| slice.duration_ms() == slice_ms), "{now_ms}");
            assert_eq!(newest.count() as u64, (now_ms.min(twelfth_ms)) / slice_ms);
            assert!(windows.slices.iter().all(|slice| slice.duration_ms() <= twelfth_ms));
        }
        let WindowsInfo { slices, covered_ms, merged, dropped, .. } = windows.info();
        assert_eq!(slices, 15);
        // Five older ones, of which each is a twelfth or on its way there.
        assert!((5 * twelfth_ms..=6 * twelfth_ms).contains(&covered_ms), "{covered_ms}");
        assert!(merged > 0 && dropped > 0, "{merged} {dropped}");
    }

    #[test]
    fn memory_of_points_and_their_labels_is_counted() {
        let labels = LabelSet::new(["123456"]);
        let points = || Encoded { entries: vec![(labels.clone(), 0)], bytes: vec![0; 5] };
        let bytes = size_of::<(LabelSet, u32)>() + labels.memory_bytes() + 5;
        assert_eq!(points().memory_bytes(), bytes);
        let slice = Slice::new(0, 1, [points(), points()].into());
        assert_eq!(slice.memory_bytes, size_of::<Slice>() + 2 * (size_of::<Encoded>() + bytes));
    }
}
