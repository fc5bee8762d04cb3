//! The report: what the catalogue's families say about operations, sessions and the pool.
//!
//! Durations are in microseconds. A family that the definition lacks counts as empty.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::source::{Live, Source};
use crate::summaries::{self, SummaryRow};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_instance::call_log::LoggedCall;
use telemetry_instance::instance::Instance;
use telemetry_instance::spike::Cause;
use telemetry_recording::family::{Family, Role, with_role};
use telemetry_recording::metric::{HistogramMetric, NANOSECONDS_PER_MICROSECOND};
use telemetry_recording::point::Point;
use telemetry_windows::quantiles::{Distribution, Samples};
use telemetry_windows::window::{Interval, Window};

/// Counts by the value of a label.
pub type CountBy = BTreeMap<String, u64>;

/// Everything at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The time that it covers. What is alive in the pool is told as it is now.
    pub interval: Interval,
    /// Method calls, those that took most time in total first.
    pub operations: Vec<Operation>,
    /// Created instances, by class.
    pub instances: Vec<InstanceRow>,
    /// Tool calls, by tool.
    pub tools: Vec<Tool>,
    /// Sessions.
    pub sessions: Sessions,
    /// Session variables.
    pub variables: Variables,
    /// The worker pool.
    pub pool: Pool,
    /// The slowest calls, the slowest first.
    pub slowest: Vec<LoggedCall>,
    /// Summaries among the metrics of other definitions.
    pub summaries: Vec<SummaryRow>,
}

macro_rules! latency_row {
    ($(#[$doc:meta])* $name:ident { $($(#[$label_doc:meta])* $label:ident),+ }
        $(also { $($(#[$more_doc:meta])* $more:ident: $type:ty),+ })?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct $name {
            $($(#[$label_doc])* pub $label: String,)+
            /// Completed calls, exceptions included.
            pub count: u64,
            /// Exceptions and calls that reported no success.
            pub errors: u64,
            /// Errors divided by completed calls.
            pub error_rate: f64,
            /// Exact mean.
            pub mean_us: Option<f64>,
            /// Exact minimum.
            pub min_us: Option<f64>,
            /// Exact maximum.
            pub max_us: Option<f64>,
            /// Median, to the histogram's precision, as the other quantiles.
            pub p50_us: Option<f64>,
            /// 0.9 quantile.
            pub p90_us: Option<f64>,
            /// 0.95 quantile.
            pub p95_us: Option<f64>,
            /// 0.99 quantile.
            pub p99_us: Option<f64>,
            /// 0.999 quantile.
            pub p999_us: Option<f64>,
            $($($(#[$more_doc])* pub $more: $type,)+)?
        }

        impl $name {
            pub(crate) fn from_calls(labels: Vec<String>, calls: &Calls) -> Option<Self> {
                let mut labels = labels.into_iter();
                let latency = calls.latency.distribution(NANOSECONDS_PER_MICROSECOND);
                Some(Self {
                    $($label: labels.next()?,)+
                    count: calls.count,
                    errors: calls.errors,
                    error_rate: calls.errors as f64 / calls.count as f64,
                    mean_us: latency.mean,
                    min_us: latency.min,
                    max_us: latency.max,
                    p50_us: latency.p50,
                    p90_us: latency.p90,
                    p95_us: latency.p95,
                    p99_us: latency.p99,
                    p999_us: latency.p999,
                    $($($more: Default::default(),)+)?
                })
            }
        }
    };
}

latency_row! {
    /// Calls of one method of one class.
    Operation {
        /// The method.
        method,
        /// The class, `unknown` where no event told.
        python_class
    } also {
        /// Why calls failed, the most frequent reason first.
        reasons: Vec<Cause>,
        /// The time inside Python in microseconds, where Python has measured it.
        python_us: Option<Distribution>,
        /// The mean of the calls less the mean inside Python: what bridge, queue and serialisation cost. Where Python has
        /// not measured all calls, an estimate.
        overhead_us: Option<f64>
    }
}

latency_row! {
    /// Creations of instances of one class.
    InstanceRow {
        /// The class.
        python_class
    }
}

latency_row! {
    /// Calls of one tool.
    Tool {
        /// The tool.
        tool_name
    }
}

/// Sessions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sessions {
    /// How many were created.
    pub created: u64,
    /// How many expired, by reason.
    pub expired: CountBy,
    /// How long they lived, in milliseconds.
    pub lifetime_ms: Distribution,
    /// How many operations they made.
    pub operations: Distribution,
}

/// Session variables.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variables {
    /// How many were set, by type.
    pub set: CountBy,
    /// How many reads found a value.
    pub get_found: u64,
    /// How many reads found none.
    pub get_missed: u64,
    /// Sizes of values set, in bytes.
    pub set_size_bytes: Distribution,
    /// Sizes of values read, in bytes.
    pub get_size_bytes: Distribution,
}

/// The worker pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pool {
    /// Workers that are alive.
    pub size: u64,
    /// Workers that were started.
    pub spawned: u64,
    /// Workers that died, by reason.
    pub died: CountBy,
    /// How long workers took to start, in microseconds.
    pub startup_us: Distribution,
    /// How long dead workers had lived, in milliseconds.
    pub lifetime_ms: Distribution,
    /// How long requests waited for a worker, in microseconds.
    pub queue_wait_us: Distribution,
    /// The same by command.
    pub queue_wait_us_by_command: BTreeMap<String, Distribution>,
}

/// Completed calls of one row: every series that shares the row's labels, merged.
pub(crate) struct Calls {
    pub(crate) count: u64,
    pub(crate) errors: u64,
    pub(crate) latency: Samples,
}

impl Report {
    /// Reads an instance while it goes on recording.
    pub fn new(instance: &Instance, window: Window, now: Moment) -> Self {
        let reader = instance.read();
        let source = Live::new(&reader, window, now);
        let slowest = instance.call_log().slowest(&source.interval());
        Self { slowest, ..Self::of(&source) }
    }

    /// What a source says. It has no single calls.
    pub(crate) fn of(source: &dyn Source) -> Self {
        let view = View(source);
        Self {
            interval: source.interval(),
            operations: view.operations(),
            instances: view.calls(Role::Instances, 1, InstanceRow::from_calls),
            tools: view.calls(Role::Tools, 1, Tool::from_calls),
            sessions: view.sessions(),
            variables: view.variables(),
            pool: view.pool(),
            slowest: Vec::new(),
            summaries: summaries::rows(source),
        }
    }

    /// The report as JSON text.
    ///
    /// # Errors
    ///
    /// None that a report can cause: all keys are text and all numbers finite.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// A source as reports look at it.
pub(crate) struct View<'a>(pub(crate) &'a dyn Source);

impl View<'_> {
    pub(crate) fn family(&self, role: Role) -> Option<&Arc<Family>> {
        with_role(self.0.families(), role)
    }

    pub(crate) fn points(&self, role: Role) -> Cow<'_, [(LabelSet, Point)]> {
        self.family(role).map_or(Cow::Borrowed(&[]), |family| self.0.points(family.name()))
    }

    /// Method calls, with why they failed and what Python measured of them.
    fn operations(&self) -> Vec<Operation> {
        let mut operations = self.calls(Role::Calls, 2, Operation::from_calls);
        self.explain(&mut operations);
        operations
    }

    /// Adds to method calls why they failed and what Python measured of them.
    pub(crate) fn explain(&self, operations: &mut [Operation]) {
        let mut reasons = self.reasons();
        let mut python = self.python_times();
        for row in operations {
            let key = vec![row.method.clone(), row.python_class.clone()];
            row.reasons = reasons.remove(&key).unwrap_or_default();
            row.python_us = python.remove(&key);
            let inside = row.python_us.as_ref().and_then(|inside| inside.mean);
            row.overhead_us =
                row.mean_us.zip(inside).map(|(mean, inside)| (mean - inside).max(0.0));
        }
    }

    /// The time that calls spent inside Python, in microseconds, by the labels of the method.
    pub(crate) fn python_times(&self) -> BTreeMap<Vec<String>, Distribution> {
        let Some(metric) =
            self.family(Role::PythonTimes).and_then(|family| family.layout().histograms().first())
        else {
            return BTreeMap::new();
        };
        let time = |(labels, point): &(LabelSet, Point)| {
            let mut samples = Samples::new(metric);
            samples.add(point, metric);
            let labels = labels.values().map(str::to_owned).collect();
            (labels, samples.distribution(NANOSECONDS_PER_MICROSECOND))
        };
        let mut times: BTreeMap<_, _> = self.points(Role::PythonTimes).iter().map(time).collect();
        times.retain(|_, time| time.count > 0);
        times
    }

    /// One row for each combination of the first `labels` labels of a family of calls, the most
    /// time first.
    pub(crate) fn calls<Row>(
        &self,
        family: Role,
        labels: usize,
        row: fn(Vec<String>, &Calls) -> Option<Row>,
    ) -> Vec<Row> {
        let mut calls: Vec<_> = self.merged_calls(family, labels).into_iter().collect();
        calls.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.latency.sum()));
        calls.into_iter().filter_map(|(labels, calls)| row(labels, &calls)).collect()
    }

    /// Completed calls by the first `labels` labels of their family.
    pub(crate) fn merged_calls(&self, family: Role, labels: usize) -> BTreeMap<Vec<String>, Calls> {
        let mut rows: BTreeMap<Vec<String>, Calls> = BTreeMap::new();
        let Some(metric) =
            self.family(family).and_then(|family| family.layout().histograms().first())
        else {
            return rows;
        };
        for (set, point) in self.points(family).iter() {
            let (count, errors) = self.completions(family, point);
            if count == 0 {
                // Only started so far.
                continue;
            }
            let key = set.values().take(labels).map(str::to_owned).collect();
            let calls = rows.entry(key).or_insert_with(|| Calls::new(metric));
            calls.count += count;
            calls.errors += errors;
            calls.latency.add(point, metric);
        }
        rows
    }

    /// Completed calls and errors of a series, by the family's first counter.
    fn completions(&self, family: Role, point: &Point) -> (u64, u64) {
        let counters = self.family(family).map(|family| family.layout().counters());
        let Some(counter) = counters.and_then(<[_]>::first) else {
            return (0, 0);
        };
        (point.sum(counter.cells()), point.sum(counter.cells_where("success", "false")))
    }

    pub(crate) fn sessions(&self) -> Sessions {
        let created = self.total(Role::CreatedSessions);
        let expired = self.counts(Role::ExpiredSessions);
        Sessions {
            created,
            expired,
            lifetime_ms: self.distribution(Role::ExpiredSessions, 0, None, 1.0),
            operations: self.distribution(Role::ExpiredSessions, 1, None, 1.0),
        }
    }

    fn variables(&self) -> Variables {
        let size = |op| self.distribution(Role::VariableSizes, 0, Some(op), 1.0);
        let get = self.counts(Role::ReadVariables);
        let get = |found: &str| get.get(found).copied().unwrap_or(0);
        Variables {
            set: self.counts(Role::SetVariables),
            get_found: get("true"),
            get_missed: get("false"),
            set_size_bytes: size("set"),
            get_size_bytes: size("get"),
        }
    }

    pub(crate) fn pool(&self) -> Pool {
        Pool {
            size: self.0.workers(),
            spawned: self.total(Role::StartedWorkers),
            died: self.counts(Role::DeadWorkers),
            startup_us: self.distribution(Role::WorkerTimes, 0, None, NANOSECONDS_PER_MICROSECOND),
            lifetime_ms: self.distribution(Role::WorkerTimes, 1, None, 1.0),
            queue_wait_us: self.distribution(
                Role::QueueWaits,
                0,
                None,
                NANOSECONDS_PER_MICROSECOND,
            ),
            queue_wait_us_by_command: self.distributions_by_first_label(Role::QueueWaits),
        }
    }

    /// All that a family's first counter counted.
    fn total(&self, family: Role) -> u64 {
        self.counts(family).values().sum()
    }

    /// What a family's first counter counted, by the first label.
    pub(crate) fn counts(&self, family: Role) -> CountBy {
        let mut counts = CountBy::new();
        let counters = self.family(family).map(|family| family.layout().counters());
        let Some(counter) = counters.and_then(<[_]>::first) else {
            return counts;
        };
        for (labels, point) in self.points(family).iter() {
            let label = labels.values().next().unwrap_or_default();
            *counts.entry(label.to_owned()).or_default() += point.sum(counter.cells());
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// What a family's first counter counted, by its first dimension.
    pub(crate) fn counts_by_dimension(&self, family: Role) -> CountBy {
        let mut counts = CountBy::new();
        let counters = self.family(family).map(|family| family.layout().counters());
        let Some((counter, dimension)) = counters
            .and_then(<[_]>::first)
            .and_then(|counter| Some((counter, counter.dimensions.first()?)))
        else {
            return counts;
        };
        let points = self.points(family);
        for value in &dimension.values {
            let cells = || counter.cells_where(&dimension.name, value);
            counts.insert(value.clone(), points.iter().map(|(_, point)| point.sum(cells())).sum());
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// Statistics of a histogram over the series with this first label, or over all.
    fn distribution(
        &self,
        family: Role,
        histogram: usize,
        label: Option<&str>,
        divisor: f64,
    ) -> Distribution {
        let samples = self.samples(family, histogram, label);
        samples.map_or(Distribution::EMPTY, |samples| samples.distribution(divisor))
    }

    /// The samples of a histogram over the series with this first label, or over all.
    pub(crate) fn samples(
        &self,
        family: Role,
        histogram: usize,
        label: Option<&str>,
    ) -> Option<Samples> {
        let metric = self.family(family)?.layout().histograms().get(histogram)?;
        let mut samples = Samples::new(metric);
        for (labels, point) in self.points(family).iter() {
            if label.is_none() || labels.values().next() == label {
                samples.add(point, metric);
            }
        }
        Some(samples)
    }

    /// Statistics in microseconds of a family's first histogram, for each series.
    fn distributions_by_first_label(&self, family: Role) -> BTreeMap<String, Distribution> {
        let Some(metric) =
            self.family(family).and_then(|family| family.layout().histograms().first())
        else {
            return BTreeMap::new();
        };
        let row = |(labels, point): &(LabelSet, Point)| {
            let label = labels.values().next()?.to_owned();
            let mut samples = Samples::new(metric);
            samples.add(point, metric);
            Some((label, samples.distribution(NANOSECONDS_PER_MICROSECOND)))
        };
        self.points(family).iter().filter_map(row).collect()
    }
}

impl Calls {
    fn new(metric: &HistogramMetric) -> Self {
        Self { count: 0, errors: 0, latency: Samples::new(metric) }
    }

    /// All calls of several rows.
    pub(crate) fn sum_of(rows: &[&Self], metric: &HistogramMetric) -> Self {
        Self {
            count: rows.iter().map(|calls| calls.count).sum(),
            errors: rows.iter().map(|calls| calls.errors).sum(),
            latency: Samples::sum_of(rows.iter().map(|calls| &calls.latency), metric),
        }
    }
}
