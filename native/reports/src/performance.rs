//! The performance report: method calls in a window, and how they changed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::{Calls, View};
use crate::source::Live;
use telemetry_common::moment::Moment;
use telemetry_instance::instance::Instance;
use telemetry_recording::family::Role;
use telemetry_recording::metric::NANOSECONDS_PER_MICROSECOND;
use telemetry_windows::window::{Interval, Window};

/// Method calls in a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Performance {
    /// The time that it covers.
    pub interval: Interval,
    /// The time that changes compare with, of the same length; absent where there is none.
    pub previous: Option<Interval>,
    /// Methods, those that took most time in total first.
    pub rows: Vec<PerformanceRow>,
}

/// Calls of one method of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerformanceRow {
    /// The method.
    pub method: String,
    /// The class, `unknown` where no event told.
    pub python_class: String,
    /// Completed calls, exceptions included.
    pub count: u64,
    /// Exceptions and calls that reported no success.
    pub errors: u64,
    /// Errors divided by completed calls.
    pub error_rate: f64,
    /// Calls per second of the interval.
    pub calls_per_second: f64,
    /// Time that the calls took in total, in microseconds.
    pub total_us: f64,
    /// Exact mean.
    pub avg_us: Option<f64>,
    /// Exact maximum.
    pub max_us: Option<f64>,
    /// Median, to the histogram's precision, as the other quantiles.
    pub p50_us: Option<f64>,
    /// 0.95 quantile.
    pub p95_us: Option<f64>,
    /// 0.99 quantile.
    pub p99_us: Option<f64>,
    /// Against the previous interval.
    pub change: Change,
}

/// How a method's calls changed from the previous interval to this one. Absent where either had none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// 0.5 is half as many again.
    pub calls_per_second: Option<f64>,
    /// The difference of the rates.
    pub error_rate: Option<f64>,
    /// 0.5 is half as long again.
    pub avg_us: Option<f64>,
    /// The same of the 0.95 quantile.
    pub p95_us: Option<f64>,
}

impl Performance {
    /// Reads an instance while it goes on recording.
    pub fn new(instance: &Instance, window: Window, now: Moment) -> Self {
        let reader = instance.read();
        let calls_in = |window| View(&Live::new(&reader, window, now)).merged_calls(Role::Calls, 2);
        let interval = reader.interval(window, now);
        let calls = calls_in(window);
        let before = window.before();
        let previous = before.map(|window| (window, reader.interval(window, now)));
        let previous = previous.filter(|(_, interval)| interval.duration_ms > 0);
        let earlier = previous.map(|(window, _)| calls_in(window)).unwrap_or_default();
        let previous = previous.map(|(_, interval)| interval);
        let rows = rows(calls, &interval);
        let earlier: BTreeMap<_, _> =
            previous.map(|interval| rows_by_key(earlier, &interval)).unwrap_or_default();
        let mut rows: Vec<_> = rows.collect();
        for row in &mut rows {
            let key = (row.method.clone(), row.python_class.clone());
            if let Some(earlier) = earlier.get(&key) {
                row.change = Change::between(earlier, row);
            }
        }
        rows.sort_by(|left, right| right.total_us.total_cmp(&left.total_us));
        Self { interval, previous, rows }
    }
}

fn rows_by_key(
    calls: BTreeMap<Vec<String>, Calls>,
    interval: &Interval,
) -> BTreeMap<(String, String), PerformanceRow> {
    rows(calls, interval).map(|row| ((row.method.clone(), row.python_class.clone()), row)).collect()
}

fn rows(
    calls: BTreeMap<Vec<String>, Calls>,
    interval: &Interval,
) -> impl Iterator<Item = PerformanceRow> {
    // Less than a millisecond counts as one.
    let seconds = interval.seconds().max(1e-3);
    calls.into_iter().filter_map(move |(labels, calls)| {
        let mut labels = labels.into_iter();
        let latency = calls.latency.distribution(NANOSECONDS_PER_MICROSECOND);
        Some(PerformanceRow {
            method: labels.next()?,
            python_class: labels.next()?,
            count: calls.count,
            errors: calls.errors,
            error_rate: calls.errors as f64 / calls.count as f64,
            calls_per_second: calls.count as f64 / seconds,
            total_us: calls.latency.sum() as f64 / NANOSECONDS_PER_MICROSECOND,
            avg_us: latency.mean,
            max_us: latency.max,
            p50_us: latency.p50,
            p95_us: latency.p95,
            p99_us: latency.p99,
            change: Change::default(),
        })
    })
}

impl Change {
    fn between(before: &PerformanceRow, now: &PerformanceRow) -> Self {
        let relative = |before: Option<f64>, now: Option<f64>| match (before, now) {
            (Some(before), Some(now)) if before > 0.0 => Some(now / before - 1.0),
            _ => None,
        };
        Self {
            calls_per_second: relative(Some(before.calls_per_second), Some(now.calls_per_second)),
            error_rate: Some(now.error_rate - before.error_rate),
            avg_us: relative(before.avg_us, now.avg_us),
            p95_us: relative(before.p95_us, now.p95_us),
        }
    }
}
