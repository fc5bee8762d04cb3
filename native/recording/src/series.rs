//! One series: the counters and histograms of one label set.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use telemetry_common::lock::lock;

use hdrhistogram::Histogram as Snapshot;

use crate::baseline::Baseline;
use crate::bounds::BucketReader;
use crate::exemplar::{Exemplar, Exemplars, Place};
use crate::export_baseline::ExportBaseline;
use crate::histogram::{add_counts, empty_snapshot};
use crate::lane::{Lanes, Writer, mark_of};
use crate::layout::Layout;
use crate::metric::HistogramMetric;
use crate::point::{Point, total};
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::LabelSet;
use telemetry_common::prefetch;

/// All that the events of one label set have fed.
pub struct Series {
    labels: LabelSet,
    lanes: Lanes,
    /// What had been counted when the last slice of time ended.
    baseline: Mutex<Baseline>,
    /// How many uses have been told; see [`Self::take_uses`].
    uses_told: AtomicU64,
    /// What [`Series::events`] was when a sweep last saw it change, and when that was.
    seen_events: AtomicU64,
    active_at_ms: AtomicU64,
    /// A time in milliseconds since 1970 at which it had counted nothing.
    created_unix_ms: AtomicI64,
    exemplars: Exemplars,
    exported: ExportBaseline,
    /// The latest numbers of measures that keep them: of all threads, since only together they know it.
    last_values: Box<[AtomicU64]>,
}

impl Series {
    pub(crate) fn new(labels: LabelSet, layout: &Layout, created_unix_ms: i64) -> Self {
        Self {
            labels,
            lanes: Lanes::new(layout.shape()),
            baseline: Mutex::default(),
            uses_told: AtomicU64::new(0),
            seen_events: AtomicU64::new(0),
            active_at_ms: AtomicU64::new(0),
            created_unix_ms: AtomicI64::new(created_unix_ms),
            exemplars: Exemplars::default(),
            exported: ExportBaseline::default(),
            last_values: (0..layout.last_value_count()).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// How many series are worth touching before the first of them is read.
    pub const BATCH: usize = 16;

    /// Asks for all that [`Self::take_delta`] is going to read of some series, one step of the way
    /// to it at a time for all of them.
    pub fn read_ahead(batch: &[Arc<Self>], layout: &Layout) {
        Self::prefetch_cells(batch, |series| series.baseline().prefetch_cells());
        let marks = |series: &Self| series.lanes.marks(layout.marks_cell());
        let histograms = 0..layout.histogram_count();
        for series in batch {
            let marks = marks(series);
            let baseline = series.baseline();
            for histogram in histograms.clone() {
                series.lanes.prefetch_rows(histogram, marks);
                baseline.prefetch_lines(series.lanes.precision(), histogram, marks);
            }
        }
        for series in batch {
            let marks = marks(series);
            histograms.clone().for_each(|at| series.lanes.prefetch_lines(at, marks));
        }
    }

    /// Asks for all that [`Self::read_cells`] and what reads counts are going to read of some series.
    pub fn read_all_ahead(batch: &[Arc<Self>], layout: &Layout) {
        Self::prefetch_cells(batch, |_| ());
        let histograms = 0..layout.histogram_count();
        for series in batch {
            histograms.clone().for_each(|at| series.lanes.prefetch_touched_rows(at));
        }
        for series in batch {
            histograms.clone().for_each(|at| series.lanes.prefetch_touched_lines(at));
        }
    }

    /// Asks for the series themselves and, when they have come, for labels, cells and what `also` does.
    fn prefetch_cells(batch: &[Arc<Self>], also: impl Fn(&Self)) {
        batch.iter().for_each(|series| prefetch::all(&**series));
        for series in batch {
            series.lanes.prefetch_lanes();
            also(series);
            prefetch::line(&series.labels);
        }
        batch.iter().for_each(|series| series.lanes.prefetch_own());
        batch.iter().for_each(|series| series.lanes.prefetch_cells());
    }

    /// Its label values, in the family's order.
    #[inline]
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// The latest numbers of measures that keep them.
    #[inline]
    pub(crate) fn last_values(&self) -> &[AtomicU64] {
        &self.last_values
    }

    /// Its numbers.
    #[inline]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// When it had counted nothing, in milliseconds since 1970: at most a tick before its first event.
    pub fn created_unix_ms(&self) -> i64 {
        self.created_unix_ms.load(Relaxed)
    }

    /// Keeps an exemplar of a histogram for the bucket that its value belongs to.
    pub(crate) fn keep_exemplar(&self, metric: &HistogramMetric, exemplar: Exemplar) {
        let bucket = metric.bounds.bucket(exemplar.value);
        self.exemplars.keep(Place { histogram: metric.index(), bucket }, exemplar);
    }

    /// The exemplars of the family's n-th histogram by explicit bucket; the last ones may be missing.
    pub fn exemplars(&self, index: usize) -> Vec<Option<Exemplar>> {
        self.exemplars.of(index)
    }

    /// All that it has counted.
    pub fn point(&self, layout: &Layout) -> Point {
        let mut point = Point::new(layout);
        point.read(&self.lanes, layout);
        point
    }

    /// Replaces a point by all that it has counted.
    pub fn read(&self, layout: &Layout, point: &mut Point) {
        point.read(&self.lanes, layout);
    }

    /// Replaces a point by what it has counted since the last call. `false` says that there was
    /// nothing, and `point` is not to be used.
    pub fn take_exported(&self, layout: &Layout, point: &mut Point) -> bool {
        self.exported.take(&self.lanes, layout, point)
    }

    /// Replaces the cells of a point by all that it has counted, without largest and smallest samples.
    pub fn read_cells(&self, layout: &Layout, point: &mut Point) {
        point.read_event_cells(&self.lanes, layout);
        point.read_other_cells(&self.lanes, layout);
    }

    /// Puts what it has counted since the last call into `delta`, and starts the next slice of time.
    /// `false` says that there was nothing, and `delta` is not to be used. To be read, a delta has to
    /// be finished; see [`Point::finish`].
    pub fn take_delta(&self, layout: &Layout, delta: &mut Point) -> bool {
        self.delta(layout, delta, true)
    }

    /// As [`Self::take_delta`], but the slice of time goes on.
    pub fn peek_delta(&self, layout: &Layout, delta: &mut Point) -> bool {
        self.delta(layout, delta, false)
    }

    fn delta(&self, layout: &Layout, delta: &mut Point, take: bool) -> bool {
        let mut baseline = self.baseline();
        if !baseline.differs_from(delta.read_event_cells(&self.lanes, layout)) {
            return false;
        }
        delta.read_other_cells(&self.lanes, layout);
        baseline.subtract_from(delta.cells_mut(), layout);
        let marks = layout.marks_cell();
        let marks = if take { self.lanes.take_marks(marks) } else { self.lanes.marks(marks) };
        let precision = self.lanes.precision();
        delta.read_each_histogram(|index, changes| {
            self.lanes.read_changes(index, marks, baseline.chunks(precision, index), changes);
        });
        if take {
            baseline.advance(delta, layout);
        }
        for (ever, slice) in layout.raising_cells() {
            let largest = if take { self.lanes.take_max(slice) } else { self.lanes.max(slice) };
            delta.cells_mut()[ever] = largest;
        }
        true
    }

    /// How often the cells of a counter were incremented since the last call. One caller at a time.
    pub fn take_uses(&self, cells: impl Iterator<Item = usize>) -> u64 {
        let uses = cells.map(|cell| self.lanes.sum(cell)).sum::<u64>();
        uses - self.uses_told.swap(uses, Relaxed).min(uses)
    }

    /// The samples of the family's n-th histogram as a snapshot for quantiles and encoding.
    pub fn snapshot(&self, index: usize) -> Snapshot<u64> {
        let mut snapshot = empty_snapshot(self.lanes.precision());
        add_counts(&mut snapshot, self.lanes.precision(), &self.lanes.counts(index));
        snapshot
    }

    /// The number of samples of the family's n-th histogram.
    pub fn sample_count(&self, index: usize) -> u64 {
        total(&self.lanes.counts(index))
    }

    /// Records one sample into a histogram. Returns the mark of its counter, which has to be set
    /// afterwards; see [`Writer::mark`].
    #[inline]
    #[must_use]
    pub(crate) fn observe(writer: &impl Writer, metric: &HistogramMetric, value: u64) -> u64 {
        let location = metric.precision.locate(value);
        let counted = writer.find(metric.index(), location);
        let cells = writer.cells();
        let [sum, max, min_complement, slice_max, slice_min_complement] = metric.scalars(cells);
        writer.add_saturating(sum, value);
        writer.raise(slice_max, max, value);
        writer.raise(slice_min_complement, min_complement, !value);
        metric.bounds.visit_covering(value, location, |bound| {
            writer.add(&cells[metric.covered_cell(bound)], 1);
        });
        writer.count(counted);
        mark_of(metric.precision, metric.index(), location)
    }

    /// The counts of a histogram's explicit buckets, not cumulated.
    pub fn buckets(&self, metric: &HistogramMetric) -> Vec<u64> {
        let mut buckets = Vec::new();
        self.read_buckets(metric, |cell| self.lanes.sum(cell), &mut buckets);
        buckets
    }

    /// Appends what [`Self::buckets`] returns, given the cells. Returns the number of samples.
    pub fn read_buckets(
        &self,
        metric: &HistogramMetric,
        cell: impl Fn(usize) -> u64,
        buckets: &mut Vec<u64>,
    ) -> u64 {
        let covered = |bound| cell(metric.covered_cell(bound));
        let mut reader = BucketReader::new(&metric.bounds, metric.precision, covered, buckets);
        self.lanes.read_chunks(metric.index(), &mut reader);
        reader.finish()
    }

    /// A number that grows with every event.
    fn events(&self, layout: &Layout) -> u64 {
        (0..layout.event_cell_count()).map(|cell| self.lanes.sum(cell)).fold(0, u64::wrapping_add)
    }

    /// How long no event has come in, as far as calls of this function tell.
    pub fn idle_ms(&self, layout: &Layout, now_ms: u64) -> u64 {
        let events = self.events(layout);
        if self.seen_events.swap(events, Relaxed) != events {
            self.active_at_ms.store(now_ms, Relaxed);
        }
        now_ms.saturating_sub(self.active_at_ms.load(Relaxed))
    }

    /// Whether events have come in since [`Self::idle_ms`] looked.
    pub fn changed_since_sweep(&self, layout: &Layout) -> bool {
        self.events(layout) != self.seen_events.load(Relaxed)
    }

    /// Adds all that another series of the same family holds. Nothing writes to that one any more.
    pub fn absorb(&self, other: &Series, layout: &Layout) {
        let shared = self.lanes.shared();
        let cells = shared.cells();
        // First, so that whoever looks meanwhile does not take the old counts for new ones.
        self.baseline().absorb(&other.baseline(), layout);
        self.uses_told.fetch_add(other.uses_told.load(Relaxed), Relaxed);
        self.created_unix_ms.fetch_min(other.created_unix_ms(), Relaxed);
        self.exemplars.absorb(&other.exemplars);
        self.exported.absorb(&other.exported, layout);
        let point = other.point(layout);
        for (ever, slice) in layout.raising_cells() {
            shared.raise(&cells[slice], &cells[ever], other.lanes.max(slice));
        }
        let precision = self.lanes.precision();
        for histogram in 0..layout.histogram_count() {
            for &(location, count) in point.counts(histogram) {
                shared.add_samples(histogram, location, count);
                let mark = mark_of(precision, histogram, location);
                shared.mark(&cells[layout.marks_cell()], mark);
            }
        }
        for measure in layout.measures() {
            measure.inherit(self, other);
        }
        for (at, (cell, meaning)) in cells.iter().zip(layout.cells()).enumerate() {
            shared.merge(cell, *meaning, point.cell(at));
        }
    }

    fn baseline(&self) -> MutexGuard<'_, Baseline> {
        lock(&self.baseline)
    }

    /// Bytes allocated for the series, its reference counts and its place in the table included.
    pub fn memory_bytes(&self) -> usize {
        heap::sum([
            heap::shared(self),
            heap::entries::<(LabelSet, Arc<Series>)>(1),
            self.labels.memory_bytes(),
            self.lanes.memory_bytes(),
            self.baseline().memory_bytes(),
            self.exemplars.memory_bytes(),
            self.exported.memory_bytes(),
            self.last_values.heap_bytes(),
        ])
    }
}

#[cfg(test)]
pub(crate) mod tests;
