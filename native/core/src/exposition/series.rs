//! The metrics of a family, read from its series.

use std::collections::BTreeMap;

use super::encoder::{Column, Encoder, Header, HistogramSample, MetricKind, Value};
use super::scalar::Kind;
use crate::family::{Family, OVERFLOW_LABEL};
use crate::histogram::Counts;
use crate::label::LabelSet;
use crate::metric::{Counter, HistogramMetric};
use crate::point::Point;
use crate::series::Series;

/// How many series are asked for before the first of them is read. All they have may be thousands of
/// cache lines.
const READ_AHEAD: usize = 4;

/// Appends all metrics of a family. A counter is there for every combination of its dimensions once
/// there is a series, so that rates can be taken of the first increment; a histogram is there once
/// it has a sample.
pub(crate) fn append_family<E: Encoder>(
    encoder: &E,
    family: &Family,
    created: bool,
    out: &mut Vec<Vec<u8>>,
) {
    let mut columns = Columns::new(encoder, family, created);
    let mut series = family.series();
    series.sort_unstable_by(|left, right| left.labels().cmp(right.labels()));
    for batch in series.chunks(READ_AHEAD) {
        Series::read_all_ahead(batch, family.layout());
        batch.iter().for_each(|series| columns.append(series, &[]));
    }
    if family.label_names().is_empty() && family.series_count() == 0 {
        // There is only one that it can ever have, and nothing is as good as zero.
        columns.append(&family.new_series(LabelSet::new([])), &[]);
    }
    if let Some(overflow) = family.existing_overflow() {
        columns.append(&overflow, &[(OVERFLOW_LABEL, "true")]);
    }
    columns.close(out);
}

/// The metrics of a family, each with what has been written of it.
struct Columns<'a, E: Encoder> {
    encoder: &'a E,
    family: &'a Family,
    created: bool,
    counters: Vec<CounterColumn<'a, E>>,
    histograms: Vec<(&'a HistogramMetric, Column<E>)>,
    /// What was read of the series at hand: its cells, and of one histogram after the other the counts
    /// and the explicit buckets.
    point: Point,
    counts: Counts,
    buckets: Vec<u64>,
}

impl<'a, E: Encoder> Columns<'a, E> {
    fn new(encoder: &'a E, family: &'a Family, created: bool) -> Self {
        let layout = family.layout();
        let counter = |counter| CounterColumn::new(encoder, counter);
        let histogram = |metric| (metric, histogram_column(encoder, metric));
        Self {
            encoder,
            family,
            created,
            counters: layout.counters().iter().map(counter).collect(),
            histograms: layout.histograms().iter().map(histogram).collect(),
            point: Point::new(layout),
            counts: Counts::new(),
            buckets: Vec::new(),
        }
    }

    /// Appends a series to all metrics, with these labels in the place of its own if there are any.
    fn append(&mut self, series: &Series, other_labels: &[(&str, &str)]) {
        let Self { encoder, family, point, .. } = self;
        let created_unix_ms = self.created.then(|| series.created_unix_ms());
        series.read_cells(family.layout(), point);
        let labels = |has: &dyn Fn(usize) -> bool| {
            let mut labels = Vec::new();
            for (name, value) in other_labels {
                encoder.label(name, value, &mut labels);
            }
            if other_labels.is_empty() {
                let pairs = family.label_names().iter().zip(series.labels().values());
                for (_, (name, value)) in pairs.enumerate().filter(|(place, _)| has(*place)) {
                    encoder.label(name, value, &mut labels);
                }
            }
            labels
        };
        let all_labels = labels(&|_| true);
        for column in &mut self.counters {
            if column.counter.drops_labels() {
                let labels = labels(&|place| column.counter.has_label(place));
                column.add(labels, point, created_unix_ms);
            } else {
                let values = column.counter.cells().map(|cell| point.cell(cell));
                column.append(*encoder, &all_labels, values, created_unix_ms);
            }
        }
        for (metric, column) in &mut self.histograms {
            let cell = |cell| point.cell(cell);
            if E::HAS_COUNTS {
                series.lanes().read_counts(metric.index(), &mut self.counts);
                let covered = |bound| cell(metric.covered_cell(bound));
                self.buckets = metric.bounds.buckets(&self.counts, covered);
            } else {
                series.read_buckets(metric, cell, &mut self.buckets);
            }
            if self.buckets.iter().all(|count| *count == 0) {
                continue;
            }
            let sample = HistogramSample {
                metric,
                counts: &self.counts,
                buckets: &self.buckets,
                sum: cell(metric.sum_cell()) as f64 / metric.unit.divisor(),
                exemplars: &series.exemplars(metric.index()),
                created_unix_ms,
            };
            encoder.histogram(&column.metric, &all_labels, &sample, &mut column.body);
        }
    }

    fn close(self, out: &mut Vec<Vec<u8>>) {
        for column in self.counters {
            column.close(self.encoder, out);
        }
        for (_, column) in self.histograms {
            column.close(self.encoder, out);
        }
    }
}

fn histogram_column<E: Encoder>(encoder: &E, metric: &HistogramMetric) -> Column<E> {
    let unit = metric.unit;
    let header = Header {
        name: &metric.name,
        help: &metric.help,
        kind: MetricKind::Histogram,
        unit: unit.base_unit().filter(|unit| metric.name.ends_with(unit)),
    };
    let bounds = metric.bounds.as_slice().iter().map(|bound| *bound as f64 / unit.divisor());
    let bounds: Vec<_> = bounds.chain([f64::INFINITY]).collect();
    Column::new(encoder, header, &bounds)
}

/// A counter of all series.
struct CounterColumn<'a, E: Encoder> {
    counter: &'a Counter,
    column: Column<E>,
    /// The labels of each combination of its dimensions.
    dimensions: Vec<Vec<u8>>,
    labels: Vec<u8>,
    /// Where it lacks labels of the series: what those that do not differ in others have together.
    sums: BTreeMap<Vec<u8>, Sum>,
}

struct Sum {
    values: Vec<u64>,
    created_unix_ms: Option<i64>,
}

impl<'a, E: Encoder> CounterColumn<'a, E> {
    fn new(encoder: &E, counter: &'a Counter) -> Self {
        let header = Header {
            name: &counter.name,
            help: &counter.help,
            kind: MetricKind::Scalar(Kind::Counter),
            unit: None,
        };
        let dimensions = (0..counter.cell_count()).map(|offset| {
            let mut labels = Vec::new();
            for (name, value) in counter.dimension_values(offset) {
                encoder.label(name, value, &mut labels);
            }
            labels
        });
        Self {
            counter,
            dimensions: dimensions.collect(),
            column: Column::new(encoder, header, &[]),
            labels: Vec::new(),
            sums: BTreeMap::new(),
        }
    }

    /// Appends the values of one set of labels, one for each combination of dimensions.
    fn append(
        &mut self,
        encoder: &E,
        labels: &[u8],
        values: impl Iterator<Item = u64>,
        created_unix_ms: Option<i64>,
    ) {
        let Column { metric, body } = &mut self.column;
        for (dimensions, value) in self.dimensions.iter().zip(values) {
            self.labels.clear();
            self.labels.extend_from_slice(labels);
            encoder.join(&mut self.labels, dimensions);
            encoder.counter(metric, &self.labels, Value::Integer(value), created_unix_ms, body);
        }
    }

    /// Adds the values of a series, to be appended when all are there.
    fn add(&mut self, labels: Vec<u8>, point: &Point, created_unix_ms: Option<i64>) {
        let sum = self
            .sums
            .entry(labels)
            .or_insert_with(|| Sum { values: vec![0; self.counter.cell_count()], created_unix_ms });
        sum.created_unix_ms = sum.created_unix_ms.min(created_unix_ms);
        for (sum, cell) in sum.values.iter_mut().zip(self.counter.cells()) {
            *sum = sum.saturating_add(point.cell(cell));
        }
    }

    fn close(mut self, encoder: &E, out: &mut Vec<Vec<u8>>) {
        for (labels, Sum { values, created_unix_ms }) in std::mem::take(&mut self.sums) {
            self.append(encoder, &labels, values.into_iter(), created_unix_ms);
        }
        self.column.close(encoder, out);
    }
}
