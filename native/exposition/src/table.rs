//! The numbers of a family, read from its series, and its metrics, written from them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::encoder::{Bound, Encoder, Header, HistogramSample, MetricKind, Value};
use super::measured::{self, Measured};
use telemetry_common::label::{LabelSet, OVERFLOW_LABEL};
use telemetry_common::scalar::Kind;
use telemetry_recording::departed::Sum;
use telemetry_recording::exemplar::Exemplar;
use telemetry_recording::family::Family;
use telemetry_recording::histogram::{Counts, Location};
use telemetry_recording::metric::{Counter, HistogramMetric};
use telemetry_recording::point::{Point, total};
use telemetry_recording::series::Series;
use telemetry_windows::exporter::Left;

/// How many series are asked for before the first of them is read. All they have may be thousands of
/// cache lines.
const READ_AHEAD: usize = 4;

/// After how many such batches a scrape gives way to other threads: a fraction of a millisecond.
const GIVE_WAY_BATCHES: usize = 16;

/// What the series of a family have counted. A counter is there for every combination of its
/// dimensions once there is a series, so that rates can be taken of the first increment; a histogram
/// is there once it has a sample.
pub(crate) struct FamilyTable<'a, E> {
    encoder: &'a E,
    family: &'a Family,
    rows: Vec<Row>,
    /// The encoded labels of all rows.
    labels: Vec<u8>,
    /// The cells of counters of all rows.
    counters: Vec<u64>,
    /// For each histogram the rows that have samples.
    histograms: Vec<HistogramTable<'a>>,
    /// What each row has of each measure.
    measured: Vec<Option<Measured>>,
    series_memory_bytes: usize,
    /// Whether what is read is all that has been counted, so that series that have retired count in sums.
    is_cumulative: bool,
    /// Where labels are encoded.
    scratch: Vec<u8>,
}

struct Row {
    /// `None` for the overflow series.
    values: Option<LabelSet>,
    labels: Range<usize>,
    created_unix_ms: i64,
}

struct HistogramTable<'a> {
    metric: &'a HistogramMetric,
    samples: Vec<Sample>,
    /// The explicit buckets of all samples.
    buckets: Vec<u64>,
    /// The HDR counts of all samples, if the encoder makes use of them.
    counts: Counts,
}

struct Sample {
    row: usize,
    sum: u64,
    /// Where its counts end.
    counts_end: usize,
    extremes: Option<(u64, u64)>,
    exemplars: Vec<Option<Exemplar>>,
}

/// What is read of series.
pub(crate) enum Reading {
    /// All that they have counted, without the smallest and largest samples.
    Counts,
    /// All that they have counted, since then if there is only one series.
    Points { since_unix_ms: i64 },
    /// What they have counted since the last export, which was then. Series that have counted nothing
    /// are left out.
    Deltas { left: Left, since_unix_ms: i64 },
}

impl<'a, E: Encoder> FamilyTable<'a, E> {
    /// Reads a family. Series are in the order of their labels, the overflow series last.
    pub(crate) fn read(encoder: &'a E, family: &'a Family, mut reading: Reading) -> Self {
        let histogram = |metric| HistogramTable {
            metric,
            samples: Vec::new(),
            buckets: Vec::new(),
            counts: Counts::new(),
        };
        let mut table = Self {
            encoder,
            family,
            rows: Vec::new(),
            labels: Vec::new(),
            counters: Vec::new(),
            histograms: family.layout().histograms().iter().map(histogram).collect(),
            measured: Vec::new(),
            series_memory_bytes: 0,
            is_cumulative: !matches!(reading, Reading::Deltas { .. }),
            scratch: Vec::new(),
        };
        let mut series = family.series();
        series.sort_unstable_by(|left, right| left.labels().cmp(right.labels()));
        let mut point = Point::new(family.layout());
        for (number, batch) in series.chunks(READ_AHEAD).enumerate() {
            if number % GIVE_WAY_BATCHES == 0 {
                // Where every core is busy, those who record go first.
                std::thread::yield_now();
            }
            Series::read_all_ahead(batch, family.layout());
            for series in batch {
                table.add(series, Some(series.labels()), &mut reading, &mut point);
                table.series_memory_bytes += series.memory_bytes();
            }
        }
        if family.label_names().is_empty() && series.is_empty() {
            // There is only one that it can ever have, and nothing is as good as zero.
            let series = family.new_series(LabelSet::new([]));
            table.add(&series, Some(series.labels()), &mut reading, &mut point);
        }
        if let Some(overflow) = family.existing_overflow() {
            table.add(&overflow, None, &mut reading, &mut point);
            table.series_memory_bytes += overflow.memory_bytes();
        }
        table.add_left(reading);
        table
    }

    pub(crate) fn series_memory_bytes(&self) -> usize {
        self.series_memory_bytes
    }

    fn add(
        &mut self,
        series: &Series,
        values: Option<&LabelSet>,
        reading: &mut Reading,
        point: &mut Point,
    ) {
        let layout = self.family.layout();
        let mut created_unix_ms = series.created_unix_ms();
        match reading {
            Reading::Counts => {
                if layout.histogram_count() > self.histograms.len() {
                    // Summaries are read from points.
                    series.read(layout, point);
                } else {
                    series.read_cells(layout, point);
                }
                self.add_measured(Some(series), point, created_unix_ms);
                return self.add_row(values, created_unix_ms, point, From::Series(series));
            }
            Reading::Points { since_unix_ms } => {
                series.read(layout, point);
                if self.family.label_names().is_empty() {
                    created_unix_ms = *since_unix_ms;
                }
            }
            Reading::Deltas { left, since_unix_ms } => {
                let any = series.take_exported(layout, point);
                if !any {
                    *point = Point::new(layout);
                }
                let any_left = match values {
                    Some(labels) => left.add_to(labels, point, layout),
                    None => left.add_rest_to(point, layout),
                };
                if any_left {
                    created_unix_ms = *since_unix_ms;
                } else if !any && !layout.measures().iter().any(measured::is_told_whole) {
                    return;
                }
                created_unix_ms = created_unix_ms.max(*since_unix_ms);
            }
        }
        self.add_measured(Some(series), point, created_unix_ms);
        self.add_row(values, created_unix_ms, point, From::Point(Some(series)));
    }

    /// Adds what is left of series that are gone.
    fn add_left(&mut self, reading: Reading) {
        let Reading::Deltas { mut left, since_unix_ms } = reading else {
            return;
        };
        let layout = self.family.layout();
        let mut point = Point::new(layout);
        if left.add_rest_to(&mut point, layout) {
            self.add_measured(None, &point, since_unix_ms);
            self.add_row(None, since_unix_ms, &point, From::Point(None));
        }
        for (labels, point) in left.into_series(layout) {
            self.add_measured(None, &point, since_unix_ms);
            self.add_row(Some(&labels), since_unix_ms, &point, From::Point(None));
        }
    }

    fn add_row(
        &mut self,
        values: Option<&LabelSet>,
        created_unix_ms: i64,
        point: &Point,
        from: From<'_>,
    ) {
        let layout = self.family.layout();
        for counter in layout.counters() {
            self.counters.extend(counter.cells().map(|cell| point.cell(cell)));
        }
        for table in &mut self.histograms {
            table.add::<E>(self.rows.len(), created_unix_ms, point, &from);
        }
        self.push_row(values, created_unix_ms);
    }

    /// Adds what a row has of measures: in a point, and in its series what is told as it stands.
    fn add_measured(&mut self, series: Option<&Series>, point: &Point, created_unix_ms: i64) {
        let layout = self.family.layout();
        let mut whole = None;
        for measure in layout.measures() {
            let told = if self.is_cumulative || !measured::is_told_whole(measure) {
                let last = || measure.last(series?);
                (measure.read(point).or_else(last), created_unix_ms)
            } else if let Some(series) = series {
                let whole = whole.get_or_insert_with(|| series.point(layout));
                (measure.read(whole).or_else(|| measure.last(series)), series.created_unix_ms())
            } else {
                (None, created_unix_ms)
            };
            let (reading, created_unix_ms) = told;
            self.measured.push(reading.map(|reading| Measured { reading, created_unix_ms }));
        }
    }

    fn push_row(&mut self, values: Option<&LabelSet>, created_unix_ms: i64) {
        let first_label = self.labels.len();
        let mut labels = std::mem::take(&mut self.scratch);
        labels.clear();
        self.append_labels(values, |_| true, &mut labels);
        self.labels.extend_from_slice(&labels);
        self.scratch = labels;
        self.rows.push(Row {
            values: values.cloned(),
            labels: first_label..self.labels.len(),
            created_unix_ms,
        });
    }

    /// Appends the labels of a series whose places are wanted.
    fn append_labels(
        &self,
        values: Option<&LabelSet>,
        is_wanted: impl Fn(usize) -> bool,
        labels: &mut Vec<u8>,
    ) {
        let Some(values) = values else {
            return self.encoder.label(OVERFLOW_LABEL, "true", labels);
        };
        let pairs = self.family.label_names().iter().zip(values.values());
        for (_, (name, value)) in pairs.enumerate().filter(|(place, _)| is_wanted(*place)) {
            self.encoder.label(name, value, labels);
        }
    }

    /// Writes all metrics of the family.
    pub(crate) fn write(&self, created: bool, out: &mut Vec<u8>) {
        let mut first_cell = 0;
        for (place, counter) in self.family.layout().counters().iter().enumerate() {
            self.write_counter(place, counter, first_cell, created, out);
            first_cell += counter.cell_count();
        }
        for table in &self.histograms {
            self.write_histogram(table, created, out);
        }
        let measures = self.family.layout().measures();
        for (place, measure) in measures.iter().enumerate() {
            let measured = self.measured.chunks_exact(measures.len()).map(|row| &row[place]);
            let rows = self.rows.iter().zip(measured);
            let all = rows.filter_map(|(row, measured)| {
                Some((&self.labels[row.labels.clone()], measured.as_ref()?))
            });
            measured::write(self.encoder, measure, all, created, out);
        }
    }

    /// Writes the counter at a place, whose cells are those of a row from `first_cell` on.
    fn write_counter(
        &self,
        place: usize,
        counter: &Counter,
        first_cell: usize,
        created: bool,
        out: &mut Vec<u8>,
    ) {
        let kind = MetricKind::Scalar(Kind::Counter);
        let header = Header { name: &counter.name, help: &counter.help, kind, stored_unit: None };
        let dimensions: Vec<Vec<u8>> = (0..counter.cell_count())
            .map(|offset| {
                let mut labels = Vec::new();
                for (name, value) in counter.dimension_values(offset) {
                    self.encoder.label(name, value, &mut labels);
                }
                labels
            })
            .collect();
        let mut all_labels = Vec::new();
        self.encoder.metric(header, &[], out, |metric, out| {
            let mut write = |labels: &[u8], values: &[u64], created_unix_ms: i64| {
                let created_unix_ms = created.then_some(created_unix_ms);
                for (dimensions, value) in dimensions.iter().zip(values) {
                    all_labels.clear();
                    all_labels.extend_from_slice(labels);
                    self.encoder.join(&mut all_labels, dimensions);
                    let value = Value::Integer(*value);
                    self.encoder.counter(metric, &all_labels, value, created_unix_ms, out);
                }
            };
            if counter.drops_labels() {
                for (labels, sum) in self.sums(place, counter, first_cell) {
                    write(&labels, &sum.values, sum.created_unix_ms);
                }
            } else {
                for (row, values) in self.rows.iter().zip(self.values(counter, first_cell)) {
                    write(&self.labels[row.labels.clone()], values, row.created_unix_ms);
                }
            }
        });
    }

    /// The cells of a counter, row by row.
    fn values(&self, counter: &Counter, first_cell: usize) -> impl Iterator<Item = &[u64]> {
        let counters = self.family.layout().counters();
        let cells_of_row = counters.iter().map(Counter::cell_count).sum();
        let cells = first_cell..first_cell + counter.cell_count();
        self.counters.chunks_exact(cells_of_row).map(move |row| &row[cells.clone()])
    }

    /// What the rows have together that differ only in labels that a counter lacks, and what series had
    /// counted that have retired, where others go on with their sum.
    fn sums(&self, place: usize, counter: &Counter, first_cell: usize) -> BTreeMap<Vec<u8>, Sum> {
        let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
        for (row, values) in self.rows.iter().zip(self.values(counter, first_cell)) {
            let mut labels = Vec::new();
            self.append_labels(row.values.as_ref(), |place| counter.has_label(place), &mut labels);
            let sum = Sum::new(values, row.created_unix_ms);
            sums.entry(labels).and_modify(|all| all.add(&sum)).or_insert(sum);
        }
        if self.is_cumulative {
            for (values, sum) in self.family.departed().of(place) {
                let mut labels = Vec::new();
                let names = self.family.label_names().iter().enumerate();
                let kept = names.filter(|(place, _)| counter.has_label(*place));
                for ((_, name), value) in kept.zip(values.values()) {
                    self.encoder.label(name, value, &mut labels);
                }
                sums.entry(labels).and_modify(|all| all.add(sum));
            }
        }
        sums
    }

    fn write_histogram(&self, table: &HistogramTable<'_>, created: bool, out: &mut Vec<u8>) {
        let metric = table.metric;
        let unit = metric.unit;
        let kind = MetricKind::Histogram;
        let header =
            Header { name: &metric.name, help: &metric.help, kind, stored_unit: Some(unit) };
        let bounds = metric.bounds.as_slice().iter().map(|bound| *bound as f64 / unit.divisor());
        let bounds: Vec<_> = bounds.chain([f64::INFINITY]).map(Bound::from).collect();
        self.encoder.metric(header, &bounds, out, |encoded, out| {
            let mut counts_start = 0;
            let buckets = table.buckets.chunks_exact(bounds.len());
            for (number, (sample, buckets)) in table.samples.iter().zip(buckets).enumerate() {
                if number % (GIVE_WAY_BATCHES * READ_AHEAD) == 0 {
                    std::thread::yield_now();
                }
                let row = &self.rows[sample.row];
                let counts = &table.counts[counts_start..sample.counts_end];
                counts_start = sample.counts_end;
                let sample = HistogramSample {
                    metric,
                    counts,
                    buckets,
                    sum: sample.sum,
                    extremes: sample.extremes,
                    exemplars: &sample.exemplars,
                    created_unix_ms: created.then_some(row.created_unix_ms),
                };
                self.encoder.histogram(encoded, &self.labels[row.labels.clone()], &sample, out);
            }
        });
    }
}

/// Where the histograms of a row are read from.
enum From<'a> {
    /// The series, whose cells stand in the point.
    Series(&'a Series),
    /// The point, and exemplars from the series, if it still exists.
    Point(Option<&'a Series>),
}

impl HistogramTable<'_> {
    /// Adds the samples of a row, whose cells stand in `point`.
    fn add<E: Encoder>(
        &mut self,
        row: usize,
        created_unix_ms: i64,
        point: &Point,
        from: &From<'_>,
    ) {
        let first_bucket = self.buckets.len();
        let index = self.metric.index();
        let (count, series, extremes) = match from {
            From::Series(series) => (self.add_counts_of::<E>(series, point), Some(*series), None),
            From::Point(series) => {
                let extremes = point.min(self.metric).zip(point.max(self.metric));
                (self.add_counts(point.counts(index), point), *series, extremes)
            }
        };
        if count == 0 {
            self.buckets.truncate(first_bucket);
            return;
        }
        let mut exemplars = series.map_or_else(Vec::new, |series| series.exemplars(index));
        if let From::Point(_) = from {
            for exemplar in &mut exemplars {
                // Others have been told, with the samples that they stand for.
                exemplar.take_if(|exemplar| exemplar.unix_ms < created_unix_ms);
            }
        }
        self.samples.push(Sample {
            row,
            sum: point.cell(self.metric.sum_cell()),
            counts_end: self.counts.len(),
            extremes,
            exemplars,
        });
    }

    /// Adds counts and buckets, the former if the encoder makes use of them. Returns how many samples
    /// there are.
    fn add_counts_of<E: Encoder>(&mut self, series: &Series, point: &Point) -> u64 {
        if E::HAS_COUNTS {
            self.add_counts(&series.lanes().counts(self.metric.index()), point)
        } else {
            series.read_buckets(self.metric, |cell| point.cell(cell), &mut self.buckets)
        }
    }

    fn add_counts(&mut self, counts: &[(Location, u64)], point: &Point) -> u64 {
        let covered = |bound| point.cell(self.metric.covered_cell(bound));
        self.buckets.append(&mut self.metric.bounds.buckets(counts, covered));
        self.counts.extend_from_slice(counts);
        total(counts)
    }
}
