//! How calls, errors and waits came about over the last hour.
//!
//! To read an hour of slices takes as long as a report over it, and a page asks every few seconds. What a
//! slot shows stays as it is once the slot has ended, so it is kept, for the methods that were asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use telemetry_common::lock::lock;

use serde::Serialize;

use super::heatmap::{Column, Heatmap};
use super::slots::{slots, span_ms};
use crate::report::{Calls, View};
use crate::source::Live;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::moment::Moment;
use telemetry_instance::reader::Reader;
use telemetry_recording::family::{Role, with_role};
use telemetry_recording::metric::{HistogramMetric, NANOSECONDS_PER_MICROSECOND};
use telemetry_windows::quantiles::Samples;
use telemetry_windows::window::{Interval, Window};

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
    fn push(&mut self, numbers: Numbers) {
        let [p50, p95, p99] = numbers.quantiles_us;
        self.count.push(numbers.count);
        self.errors.push(numbers.errors);
        self.p50_us.push(p50);
        self.p95_us.push(p95);
        self.p99_us.push(p99);
    }
}

/// What a slot shows of calls or of waits.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    count: u64,
    errors: u64,
    quantiles_us: [Option<f64>; 3],
}

impl Numbers {
    fn of_samples(count: u64, errors: u64, samples: &Samples) -> Self {
        let quantiles = samples.quantiles([0.5, 0.95, 0.99]);
        let us = |ns: u64| ns as f64 / NANOSECONDS_PER_MICROSECOND;
        Self { count, errors, quantiles_us: quantiles.map(|value| value.map(us)) }
    }

    fn of_calls(calls: &Calls) -> Self {
        Self::of_samples(calls.count, calls.errors, &calls.latency)
    }
}

/// What a slot shows.
#[derive(Debug)]
struct Slot {
    all: Numbers,
    queue: Numbers,
    latency: Column,
    /// Of the methods that are kept, in their order.
    methods: Box<[Numbers]>,
}

/// Slots that have ended, by when they begin and end on the clock that never goes back: one of which a
/// slice was merged with one of another, or whose last slice ended late, has other bounds.
#[derive(Default)]
pub(super) struct Memo {
    /// The labels of the methods that are kept, in order.
    methods: Vec<Vec<String>>,
    slots: BTreeMap<(u64, u64), Slot>,
}

/// What an instance's page has shown of the past, for whoever renders it, one at a time.
#[derive(Default)]
pub struct SharedMemo(Mutex<Memo>);

impl SharedMemo {
    /// Whoever takes it may have a view already, and must not take one while holding it.
    pub(super) fn with<T>(&self, read: impl FnOnce(&mut Memo) -> T) -> T {
        read(&mut lock(&self.0))
    }
}

impl Memo {
    /// Sees to it that these methods are kept. Two that look at different windows want different ones,
    /// so others stay as long as there are no more than twice as many as asked for.
    fn keep(&mut self, methods: &[&[String]]) {
        if methods.iter().all(|labels| self.place(labels).is_some()) {
            return;
        }
        let asked = methods.iter().map(|labels| labels.to_vec());
        let mut kept: BTreeSet<_> = asked.clone().chain(self.methods.drain(..)).collect();
        if kept.len() > 2 * methods.len() {
            kept = asked.collect();
        }
        *self = Self { methods: kept.into_iter().collect(), slots: BTreeMap::new() };
    }

    fn place(&self, labels: &[String]) -> Option<usize> {
        self.methods.binary_search_by(|kept| kept.as_slice().cmp(labels)).ok()
    }

    /// Reads the slot at which the view looks.
    fn read(&self, view: &View<'_>, metric: Option<&HistogramMetric>) -> Slot {
        let calls = view.merged_calls(Role::Calls, 2);
        let mut methods = vec![Numbers::default(); self.methods.len()].into_boxed_slice();
        for (labels, calls) in &calls {
            if let Some(place) = self.place(labels) {
                methods[place] = Numbers::of_calls(calls);
            }
        }
        let sum = metric.map(|metric| {
            let sum = Calls::sum_of(&calls.values().collect::<Vec<_>>(), metric);
            (Numbers::of_calls(&sum), Column::new(&sum.latency, metric.precision))
        });
        let (all, latency) = sum.unwrap_or_default();
        let waits = view.samples(Role::QueueWaits, 0, None);
        let queue = waits.map(|waits| Numbers::of_samples(waits.count(), 0, &waits));
        Slot { all, queue: queue.unwrap_or_default(), latency, methods }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        heap::sum([
            self.methods.heap_bytes(),
            heap::sum(self.methods.iter().map(HeapBytes::heap_bytes)),
            heap::sum(self.methods.iter().flatten().map(HeapBytes::heap_bytes)),
            heap::entries::<Slot>(self.slots.len()),
            heap::sum(self.slots.values().map(|slot| slot.methods.heap_bytes())),
        ])
    }
}

/// The history of all calls, and that of these methods, by their labels.
pub(super) fn read(
    reader: Reader<'_>,
    now: Moment,
    methods: &[&[String]],
    memo: &mut Memo,
) -> (History, Vec<Series>) {
    memo.keep(methods);
    let places: Vec<_> = methods.iter().map(|labels| memo.place(labels)).collect();
    let mut series = vec![Series::default(); methods.len()];
    let spec = *reader.windows().spec();
    let mut history = History {
        span_ms: span_ms(&spec),
        slots: Vec::new(),
        all: Series::default(),
        heatmap: Heatmap::default(),
        queue: QueueHistory::default(),
    };
    let family = with_role(reader.instance().families(), Role::Calls).cloned();
    let metric = family.as_ref().and_then(|family| family.layout().histograms().first());
    let mut before = std::mem::take(&mut memo.slots);
    let mut columns = Vec::new();
    for window in slots(&spec, now) {
        let interval = reader.interval(window, now);
        let under_way = matches!(window, Window::Last(_));
        // The last may have calls already, even if it has only begun.
        if interval.duration_ms == 0 && !under_way {
            continue;
        }
        let bounds = bounds_ms(&interval, now);
        let slot = match before.remove(&bounds).filter(|_| !under_way) {
            Some(slot) => slot,
            None => {
                // Where every core is busy, those who record go first.
                std::thread::yield_now();
                memo.read(&View(&Live::new(&reader, window, now)), metric)
            }
        };
        history.slots.push(interval);
        history.all.push(slot.all);
        history.queue.count.push(slot.queue.count);
        history.queue.p50_us.push(slot.queue.quantiles_us[0]);
        history.queue.p95_us.push(slot.queue.quantiles_us[1]);
        columns.push(slot.latency.clone());
        for (series, place) in series.iter_mut().zip(&places) {
            series.push(place.map_or_else(Numbers::default, |place| slot.methods[place]));
        }
        if !under_way {
            memo.slots.insert(bounds, slot);
        }
    }
    history.heatmap = Heatmap::new(&columns);
    (history, series)
}

/// An interval on the clock that never goes back.
fn bounds_ms(interval: &Interval, now: Moment) -> (u64, u64) {
    let ms = |unix_ms: i64| now.ms.saturating_sub((now.unix_ms - unix_ms).max(0) as u64);
    (ms(interval.from_unix_ms), ms(interval.to_unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_twice_as_many_methods_stay_as_are_asked_for() {
        let mut memo = Memo::default();
        let mut kept_after = |asked: &str| {
            let labels: Vec<_> = asked.chars().map(|name| vec![name.to_string()]).collect();
            memo.keep(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>());
            memo.methods.concat().concat()
        };
        assert_eq!(kept_after("ba"), "ab");
        assert_eq!(kept_after("cd"), "abcd");
        // They are all there.
        assert_eq!(kept_after("da"), "abcd");
        // Those that went, and those that are not looked at any more, do not pile up.
        assert_eq!(kept_after("de"), "de");
        assert_eq!(kept_after("f"), "f");
    }

    #[test]
    fn memory_of_labels_and_slots_is_counted() {
        let slot = || Slot {
            all: Numbers::default(),
            queue: Numbers::default(),
            latency: Column::default(),
            methods: [Numbers::default(); 3].into(),
        };
        let memo = Memo {
            methods: vec![vec!["a".to_owned(), "bcd".to_owned()]],
            slots: BTreeMap::from([((0, 1), slot()), ((1, 2), slot())]),
        };
        let labels = size_of::<Vec<String>>() + 2 * size_of::<String>() + "abcd".len();
        let slot = size_of::<Slot>() + 3 * size_of::<Numbers>();
        assert_eq!(memo.memory_bytes(), labels + 2 * slot);
    }
}
