//! One series: the counters and histograms of one label set.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram as Snapshot;

use crate::family::{FamilyId, Layout};
use crate::histogram::{add_counts, empty_snapshot};
use crate::label::LabelSet;
use crate::lane::{Lanes, Writer};
use crate::metric::HistogramMetric;

/// All that the events of one label set have fed.
pub struct Series {
    family: FamilyId,
    labels: LabelSet,
    lanes: Lanes,
    /// What [`Series::activity`] was when a sweep last saw it change, and when that was.
    seen_activity: AtomicU64,
    active_at_ms: AtomicU64,
}

impl Series {
    pub(crate) fn new(family: FamilyId, labels: LabelSet, layout: &Layout) -> Self {
        Self {
            family,
            labels,
            lanes: Lanes::new(layout.shape()),
            seen_activity: AtomicU64::new(0),
            active_at_ms: AtomicU64::new(0),
        }
    }

    /// The family that it belongs to.
    #[inline]
    pub fn family(&self) -> FamilyId {
        self.family
    }

    /// Its label values, in the family's order.
    #[inline]
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// Its numbers.
    #[inline]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The samples of the family's n-th histogram as a snapshot for quantiles and encoding.
    pub fn snapshot(&self, index: usize) -> Snapshot<u64> {
        let mut snapshot = empty_snapshot(self.lanes.precision());
        self.add_samples_to(&mut snapshot, index);
        snapshot
    }

    /// Adds the samples of the family's n-th histogram to a snapshot.
    pub fn add_samples_to(&self, snapshot: &mut Snapshot<u64>, index: usize) {
        add_counts(snapshot, self.lanes.precision(), &self.lanes.counts(index));
    }

    /// The number of samples of the family's n-th histogram.
    pub fn sample_count(&self, index: usize) -> u64 {
        self.lanes.counts(index).iter().map(|(_, count)| count).sum()
    }

    /// Records one sample into a histogram.
    #[inline]
    pub(crate) fn observe(writer: &impl Writer, metric: &HistogramMetric, value: u64) {
        let location = metric.precision.locate(value);
        let counted = writer.find(metric.index(), location);
        let cells = writer.cells();
        let scalars = metric.scalars(cells);
        writer.add_saturating(&scalars[HistogramMetric::SUM], value);
        writer.raise(&scalars[HistogramMetric::MAX], value);
        writer.raise(&scalars[HistogramMetric::MIN_COMPLEMENT], !value);
        metric.bounds.visit_covering(value, location, |bound| {
            writer.add(&cells[metric.covered_cell(bound)], 1);
        });
        writer.count(counted);
    }

    /// The sum of all samples.
    pub fn sum(&self, metric: &HistogramMetric) -> u64 {
        self.lanes.sum(metric.sum_cell())
    }

    /// The smallest sample, if there is any.
    pub fn min(&self, metric: &HistogramMetric) -> Option<u64> {
        // Samples are below 2^63, so the complement of one is never zero.
        match self.lanes.max(metric.min_complement_cell()) {
            0 => None,
            complement => Some(!complement),
        }
    }

    /// The largest sample, if there is any.
    pub fn max(&self, metric: &HistogramMetric) -> Option<u64> {
        self.min(metric).map(|_| self.lanes.max(metric.max_cell()))
    }

    /// The counts of a histogram's explicit buckets, not cumulated.
    pub fn buckets(&self, metric: &HistogramMetric) -> Vec<u64> {
        let covered: Vec<_> = (0..metric.bounds.count())
            .map(|bound| self.lanes.sum(metric.covered_cell(bound)))
            .collect();
        metric.bounds.buckets(&self.lanes.counts(metric.index()), |bound| covered[bound])
    }

    /// A number that grows with every event.
    fn activity(&self, layout: &Layout) -> u64 {
        let counted = layout.counter_cells().map(|cell| self.lanes.sum(cell));
        let sampled = (0..layout.histograms().len()).map(|index| self.sample_count(index));
        counted.chain(sampled).fold(0, u64::wrapping_add)
    }

    /// How long no event has come in, as far as calls of this function tell.
    pub(crate) fn idle_ms(&self, layout: &Layout, now_ms: u64) -> u64 {
        let activity = self.activity(layout);
        if self.seen_activity.swap(activity, Relaxed) != activity {
            self.active_at_ms.store(now_ms, Relaxed);
        }
        now_ms.saturating_sub(self.active_at_ms.load(Relaxed))
    }

    /// Whether events have come in since [`Self::idle_ms`] looked.
    pub(crate) fn changed_since_sweep(&self, layout: &Layout) -> bool {
        self.activity(layout) != self.seen_activity.load(Relaxed)
    }

    /// Adds all that another series of the same family holds.
    pub(crate) fn absorb(&self, other: &Series, layout: &Layout) {
        let shared = self.lanes.shared();
        let cells = shared.cells();
        for cell in layout.adding_cells() {
            shared.add_saturating(&cells[cell], other.lanes.sum(cell));
        }
        for cell in layout.raising_cells() {
            shared.raise(&cells[cell], other.lanes.max(cell));
        }
        for index in 0..layout.histograms().len() {
            for (location, count) in other.lanes.counts(index) {
                shared.add_samples(index, location, count);
            }
        }
    }

    /// Bytes allocated for the series, its reference counts and its place in the table included.
    pub fn memory_bytes(&self) -> usize {
        let table_entry = size_of::<(LabelSet, Arc<Series>)>() + self.labels.memory_bytes();
        let counts = 2 * size_of::<usize>();
        size_of::<Self>()
            + counts
            + self.labels.memory_bytes()
            + self.lanes.memory_bytes()
            + table_entry
    }
}
