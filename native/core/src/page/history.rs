//! How calls, errors and waits came about over the last hour.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::Serialize;

use super::CALLS;
use super::heatmap::Heatmap;
use super::slots::{slots, span_ms};
use crate::quantiles::Samples;
use crate::report::{Calls, NANOSECONDS_PER_MICROSECOND, QUEUE_WAIT, View};
use crate::window::{Interval, Window};

/// The last hour, or less where less is kept. Slots are in order of time; one that has no time of its
/// own, since its slices were merged with others or it was before the start, is left out.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// How long it is once so much time has passed: an hour, or as long as slices are kept.
    pub span_ms: u64,
    /// What each slot covers.
    pub slots: Vec<Interval>,
    /// All method calls.
    pub all: Series,
    /// How many of them took how long.
    pub heatmap: Heatmap,
    /// Waits for a worker.
    pub queue: QueueHistory,
}

/// A number for each slot. What there is no sample of is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// Completed calls, exceptions included.
    pub count: Vec<u64>,
    /// Exceptions and calls that reported no success.
    pub errors: Vec<u64>,
    /// Median, in microseconds as the others.
    pub p50_us: Vec<Option<f64>>,
    /// 0.95 quantile.
    pub p95_us: Vec<Option<f64>>,
    /// 0.99 quantile.
    pub p99_us: Vec<Option<f64>>,
}

/// How long requests waited for a worker, for each slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueHistory {
    /// Waits.
    pub count: Vec<u64>,
    /// Median, in microseconds as the other.
    pub p50_us: Vec<Option<f64>>,
    /// 0.95 quantile.
    pub p95_us: Vec<Option<f64>>,
}

impl History {
    /// Where it begins, in milliseconds since 1970, UTC.
    pub(super) fn begins_unix_ms(&self) -> i64 {
        self.slots.first().map_or(i64::MAX, |slot| slot.from_unix_ms)
    }
}

impl Series {
    fn push(&mut self, calls: Option<&Calls>) {
        self.count.push(calls.map_or(0, |calls| calls.count));
        self.errors.push(calls.map_or(0, |calls| calls.errors));
        let [p50, p95, p99] = quantiles(calls.map(|calls| &calls.latency), [0.5, 0.95, 0.99]);
        self.p50_us.push(p50);
        self.p95_us.push(p95);
        self.p99_us.push(p99);
    }
}

fn quantiles<const N: usize>(samples: Option<&Samples>, quantiles: [f64; N]) -> [Option<f64>; N] {
    let values = samples.map_or([None; N], |samples| samples.quantiles(quantiles));
    values.map(|value| value.map(|ns| ns as f64 / NANOSECONDS_PER_MICROSECOND))
}

/// The history of all calls, and that of these methods, by their labels. The view's window does not
/// matter.
pub(super) fn read(mut view: View<'_>, methods: &[&[String]]) -> (History, Vec<Series>) {
    let numbers = methods.iter().enumerate().map(|(number, labels)| (*labels, number));
    let numbers: HashMap<&[String], usize, RandomState> = numbers.collect();
    let mut series = vec![Series::default(); methods.len()];
    let spec = *view.reader.windows().spec();
    let mut history = History {
        span_ms: span_ms(&spec),
        slots: Vec::new(),
        all: Series::default(),
        heatmap: Heatmap { bounds_us: Vec::new(), counts: Vec::new() },
        queue: QueueHistory::default(),
    };
    let family = view.reader.instance().family(CALLS).cloned();
    let metric = family.as_ref().and_then(|family| family.layout().histograms().first());
    let mut latencies = Vec::new();
    for window in slots(&spec, view.now) {
        // Where every core is busy, those who record go first.
        std::thread::yield_now();
        let interval = view.reader.interval(window, view.now);
        // The last may have calls already, even if it has only begun.
        if interval.duration_ms == 0 && !matches!(window, Window::Last(_)) {
            continue;
        }
        history.slots.push(interval);
        view.window = window;
        let calls = view.merged_calls(CALLS, 2);
        let mut of_methods = vec![None; methods.len()];
        for (labels, calls) in &calls {
            if let Some(number) = numbers.get(labels.as_slice()) {
                of_methods[*number] = Some(calls);
            }
        }
        series.iter_mut().zip(of_methods).for_each(|(series, calls)| series.push(calls));
        if let Some(metric) = metric {
            let sum = Calls::sum_of(&calls.values().collect::<Vec<_>>(), metric);
            history.all.push(Some(&sum));
            latencies.push(sum.latency);
        }
        let waits = view.samples(QUEUE_WAIT, None);
        history.queue.count.push(waits.as_ref().map_or(0, Samples::count));
        let [p50, p95] = quantiles(waits.as_ref(), [0.5, 0.95]);
        history.queue.p50_us.push(p50);
        history.queue.p95_us.push(p95);
    }
    if let Some(metric) = metric {
        history.heatmap = Heatmap::new(&latencies, metric.precision);
    }
    (history, series)
}
