//! A window holds exactly the events of the slices that it covers, whoever records meanwhile.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::iter::zip;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_common::thread_number::{ThreadNumber, set_exclusive_lanes};
use telemetry_instance::instance::{Definition, Instance};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::histogram::MAX_VALUE;
use telemetry_recording::metric::HistogramMetric;
use telemetry_recording::plan::PlanId;
use telemetry_recording::point::Point;
use telemetry_testing::{Calls, Crew, Given, Running, RunningCalls, cases, send, text};
use telemetry_windows::quantiles::Samples;
use telemetry_windows::window::{Interval, Window, WindowsInfo};

/// Two of them share a lane, two have cells of their own but no histogram counters, and four have
/// both.
const THREADS: usize = 8;
const EXCLUSIVE_LANES: usize = 6;

const SLICE_MS: u64 = 10;
const HISTORY_MS: u64 = 120;

/// Held by each test, so that its threads get the lowest numbers.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    set_exclusive_lanes(EXCLUSIVE_LANES);
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A moment whose calendar is ahead of the other clock by as much as calendars are.
fn at(ms: u64) -> Moment {
    Moment { ms, unix_ms: ms as i64 + 1_750_000_000_000 }
}

/// With counters and two histograms, with a histogram only, and without labels.
const FAMILIES: [&str; 3] = ["calls", "sizes", "all"];

/// Which field feeds each histogram, by family.
const OBSERVES: [&[usize]; 3] = [&[0, 1], &[1], &[0]];

/// Which families each plan feeds.
const FEEDS: [&[usize]; 3] = [&[0], &[1], &[2, 0]];

fn bounds(family: usize) -> Vec<u64> {
    [vec![1_000, 1_000_000], vec![0, 5, 1_001], vec![7]][family].clone()
}

fn start() -> Running {
    let digits = [2, 1, 3];
    let family = |index: usize| {
        let histogram = |at: usize| json!({"name": format!("{}{at}", FAMILIES[index]), "unit": "one", "bounds": bounds(index)});
        let histograms: Vec<_> = (0..OBSERVES[index].len()).map(histogram).collect();
        let success = json!({"name": "success", "values": ["true", "false"]});
        let counters = [
            json!([{"name": "total", "dimensions": [success]}]),
            json!([]),
            json!([{"name": "total", "dimensions": []}]),
        ];
        json!({
            "name": FAMILIES[index],
            "labels": if index == 2 { json!([]) } else { json!(["method"]) },
            "counters": counters[index],
            "histograms": histograms,
            "digits": digits[index],
            "series_limit": 100,
        })
    };
    let feed = |index: usize| {
        let observe = |(at, field): (usize, &usize)| json!({"histogram": format!("{}{at}", FAMILIES[index]), "field": field});
        let counts = [
            json!([{"counter": "total", "dimensions": [{"field": 3}]}]),
            json!([]),
            json!([{"counter": "total", "dimensions": []}]),
        ];
        json!({"feed": {
            "family": FAMILIES[index],
            "labels": if index == 2 { json!([]) } else { json!([{"field": 2}]) },
            "counts": counts[index],
            "observes": OBSERVES[index].iter().enumerate().map(observe).collect::<Vec<_>>(),
        }})
    };
    let plan = |families: &[usize]| {
        json!({
            "event": "event",
            "fields": [
                telemetry_testing::measurement(true),
                telemetry_testing::measurement(false),
                text(true),
                {"flag": {"default": null}},
            ],
            "steps": families.iter().copied().map(feed).collect::<Vec<_>>(),
        })
    };
    Running::start(json!({
        "families": (0..FAMILIES.len()).map(family).collect::<Vec<_>>(),
        "plans": FEEDS.map(plan),
        "ref_limit": 0,
        "worker_limit": 0,
        "windows": windows(HISTORY_MS, 64 << 20),
    }))
}

fn windows(history_ms: u64, memory_limit: usize) -> Value {
    json!({"slice_ms": SLICE_MS, "history_ms": history_ms, "memory_limit": memory_limit})
}

#[derive(Clone, Debug)]
struct Event {
    plan: usize,
    /// The second one may be absent.
    numbers: (u64, Option<u64>),
    method: u8,
    success: bool,
}

impl Event {
    fn send(&self, plans: &[PlanId]) {
        let given = [
            Given::Number(self.numbers.0),
            self.numbers.1.map_or(Given::Absent, Given::Number),
            Given::Text(&self.method()),
            Given::Flag(self.success),
        ];
        send(plans[self.plan], &given);
    }

    fn method(&self) -> String {
        format!("m{}", self.method)
    }
}

fn event() -> impl Strategy<Value = Event> {
    let number = prop_oneof![
        4 => 0..3_000_u64,
        2 => 0..=MAX_VALUE,
        2 => (0..63_u32).prop_map(|bit| 1 << bit),
        1 => Just(0),
        1 => Just(MAX_VALUE),
    ];
    let numbers = (number.clone(), option::weighted(0.7, number));
    (0..FEEDS.len(), numbers, 0..4_u8, any::<bool>())
        .prop_map(|(plan, numbers, method, success)| Event { plan, numbers, method, success })
}

#[derive(Clone, Debug)]
enum Step {
    Events(usize, Vec<Event>),
    Pass(u64),
    Tick,
    TickAtBound,
    Report(u64),
    Retire(u64),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![
        4 => 0..=2 * HISTORY_MS,
        2 => (0..=HISTORY_MS / SLICE_MS).prop_map(|slices| slices * SLICE_MS),
        1 => Just(u64::MAX),
    ];
    prop_oneof![
        8 => (0..THREADS, vec(event(), 1..8)).prop_map(|(thread, events)| Step::Events(thread, events)),
        2 => prop_oneof![4 => 0..2 * SLICE_MS, 1 => Just(5 * SLICE_MS), 1 => 0..2 * HISTORY_MS].prop_map(Step::Pass),
        2 => Just(Step::Tick),
        8 => Just(Step::TickAtBound),
        6 => length.prop_map(Step::Report),
        1 => prop_oneof![Just(0), 1..3 * SLICE_MS].prop_map(Step::Retire),
        1 => prop_oneof![9 => Just(Step::Tick), 1 => Just(Step::Reset)],
    ]
}

/// An event as one family knows it.
#[derive(Clone, Debug)]
struct Known {
    family: usize,
    labels: Vec<String>,
    success: bool,
    /// By histogram: the sample and what the sum of its series grew by, which may be less.
    samples: Vec<Option<(u64, u64)>>,
}

#[derive(Default)]
struct Alive {
    events: Vec<Known>,
    sums: [u64; 2],
    /// How many events there were at the last sweep that saw another number than the one before.
    seen: usize,
    active_at: u64,
}

struct Kept {
    time: Range<u64>,
    events: Vec<Known>,
}

/// All events, with the slices that they fall into.
#[derive(Default)]
struct Model {
    slices: Vec<Kept>,
    from: u64,
    start: u64,
    current: Vec<Known>,
    alive: BTreeMap<(usize, Vec<String>), Alive>,
}

impl Model {
    fn record(&mut self, event: &Event) {
        for &family in FEEDS[event.plan] {
            let labels = if family == 2 { vec![] } else { vec![event.method()] };
            let alive = self.alive.entry((family, labels.clone())).or_default();
            let mut sums = alive.sums.iter_mut();
            let mut sample = |field: &usize| {
                let sum = sums.next().unwrap();
                let value = if *field == 0 { Some(event.numbers.0) } else { event.numbers.1 };
                value.map(|value| {
                    let before = *sum;
                    *sum = before.saturating_add(value);
                    (value, *sum - before)
                })
            };
            let samples = OBSERVES[family].iter().map(&mut sample).collect();
            let known = Known { family, labels, success: event.success, samples };
            alive.events.push(known.clone());
            self.current.push(known);
        }
    }

    fn tick(&mut self, now: u64) {
        if now / SLICE_MS > self.from / SLICE_MS {
            let events = std::mem::take(&mut self.current);
            self.slices.push(Kept { time: self.from..now, events });
            self.from = now;
            self.slices.retain(|slice| slice.time.end + HISTORY_MS > now.max(HISTORY_MS));
        }
    }

    fn retire(&mut self, now: u64, timeout: u64) -> usize {
        let before = self.alive.len();
        self.alive.retain(|(family, _), alive| {
            if *family == 2 {
                return true;
            }
            if alive.seen != alive.events.len() {
                alive.seen = alive.events.len();
                alive.active_at = now;
            }
            now - alive.active_at < timeout
        });
        before - self.alive.len()
    }

    fn reset(&mut self, now: u64) {
        *self = Self { from: now, start: now, ..Self::default() };
    }

    /// The last bound of a slice that is not after a time; the oldest if all are.
    fn bound(&self, ms: u64) -> u64 {
        let bounds = || self.slices.iter().map(|slice| slice.time.start).chain([self.from]);
        bounds().filter(|bound| *bound <= ms).max().unwrap_or_else(|| bounds().min().unwrap())
    }

    fn window(&self, window: Window, now: u64) -> (Range<u64>, Vec<&Known>) {
        let between = |from: u64, to: u64| {
            let inside = move |slice: &&Kept| slice.time.start >= from && slice.time.end <= to;
            self.slices.iter().filter(inside).flat_map(|slice| &slice.events)
        };
        let back = |length: u64| self.bound(now.saturating_sub(length));
        match window {
            Window::SinceStart => {
                let events = self.alive.values().flat_map(|alive| &alive.events);
                (self.start..now, events.collect())
            }
            Window::Last(length) => {
                let from = back(length);
                (from..now, between(from, self.from).chain(&self.current).collect())
            }
            Window::Previous(length) => {
                let (from, to) = (back(length.saturating_mul(2)), back(length));
                (from..to, between(from, to).collect())
            }
            Window::Between(from, to) => {
                let to = self.bound(to);
                let from = self.bound(from).min(to);
                (from..to, between(from, to).collect())
            }
        }
    }
}

type Found = BTreeMap<Vec<String>, Point>;

fn found(instance: &Instance, family: &str, window: Window, now: u64) -> (Interval, Found) {
    let reader = instance.read();
    let points = reader.points(family, window, at(now)).into_iter();
    let labels = |labels: LabelSet| labels.values().map(str::to_owned).collect();
    let points = points.map(|(set, point)| (labels(set), point)).collect();
    (reader.interval(window, at(now)), points)
}

fn check(running: &Running, model: &Model, window: Window, now: u64) {
    let (time, events) = model.window(window, now);
    for (index, name) in FAMILIES.iter().enumerate() {
        let (interval, points) = found(&running.instance, name, window, now);
        let told = Interval::new(time.start, time.end, at(now));
        assert_eq!(interval, told);
        assert_eq!(told.from_unix_ms, at(time.start).unix_ms);
        let mut expected: BTreeMap<Vec<String>, Vec<&Known>> = BTreeMap::new();
        for event in events.iter().filter(|event| event.family == index) {
            expected.entry(event.labels.clone()).or_default().push(event);
        }
        let labels: Vec<_> = expected.keys().collect();
        assert_eq!(points.keys().collect::<Vec<_>>(), labels, "{name} in {window:?}");
        for (point, events) in zip(points.values(), expected.values()) {
            check_point(running, index, point, events);
        }
    }
}

fn check_point(running: &Running, family: usize, point: &Point, events: &[&Known]) {
    let layout = running.family(FAMILIES[family]).layout();
    let count = |success: bool| events.iter().filter(|event| event.success == success).count();
    if let Some(counter) = layout.counters().first() {
        let cells = |value| point.sum(counter.cells_where("success", value));
        let (all, failed) = (point.sum(counter.cells()), cells("false"));
        assert_eq!(all, events.len() as u64);
        if family == 0 {
            assert_eq!((cells("true"), failed), (count(true) as u64, count(false) as u64));
        }
    }
    for (at, metric) in layout.histograms().iter().enumerate() {
        let fed = events.iter().filter_map(|event| event.samples[at]);
        let samples: Vec<_> = fed.clone().map(|(value, _)| value).collect();
        let sum = fed.map(|(_, added)| added).fold(0, u64::saturating_add);
        assert_eq!(point.cell(metric.sum_cell()), sum);
        assert_eq!(point.sample_count(at), samples.len() as u64);
        assert_eq!(point.min(metric), samples.iter().copied().min());
        assert_eq!(point.max(metric), samples.iter().copied().max());
        let mut buckets = vec![0; bounds(family).len() + 1];
        for sample in &samples {
            buckets[bounds(family).partition_point(|bound| bound < sample)] += 1;
        }
        let covered = |bound| point.cell(metric.covered_cell(bound));
        assert_eq!(metric.bounds.buckets(point.counts(at), covered), buckets);
        check_quantiles(metric, point, &samples);
    }
}

/// Against a histogram of the `hdrhistogram` crate that recorded the samples itself.
fn check_quantiles(metric: &HistogramMetric, point: &Point, samples: &[u64]) {
    let mut oracle = Histogram::<u64>::new(metric.precision.digits()).unwrap();
    oracle.auto(true);
    samples.iter().for_each(|sample| oracle.record(*sample).unwrap());
    let recorded = oracle.iter_recorded();
    let recorded: Vec<_> = recorded
        .map(|step| (metric.precision.locate(step.value_iterated_to()), step.count_at_value()))
        .collect();
    assert_eq!(point.counts(metric.index()), recorded);
    let mut merged = Samples::new(metric);
    merged.add(point, metric);
    for quantile in [0.5, 0.999] {
        let expected = samples.iter().max().map(|max| oracle.value_at_quantile(quantile).min(*max));
        assert_eq!(merged.quantile(quantile), expected);
    }
}

/// How a window and the one before it relate to each other and to what was asked for.
fn check_relations(running: &Running, model: &Model, length: u64, now: u64) {
    let (last, _) = found(&running.instance, "calls", Window::Last(length), now);
    let reaches = |oldest: &Kept| oldest.time.start.saturating_add(length) <= now;
    if model.slices.first().is_some_and(reaches) {
        assert!(last.duration_ms >= length);
        if model.slices.iter().all(|slice| slice.time.end - slice.time.start <= SLICE_MS) {
            let slice = SLICE_MS.max(now - model.from + 1);
            assert!(last.duration_ms < length + slice, "{last:?} for {length} ms");
        }
    }
    let (previous, _) = found(&running.instance, "calls", Window::Previous(length), now);
    assert_eq!(previous.to_unix_ms, last.from_unix_ms);
    let twice = length.saturating_mul(2);
    for name in FAMILIES {
        let layout = running.family(name).layout();
        let total = |window: Window| {
            let (_, points) = found(&running.instance, name, window, now);
            let counters = layout.counters().iter().flat_map(|counter| counter.cells());
            let cells: Vec<_> = counters.collect();
            let count = |point: &Point| {
                let samples = (0..layout.histograms().len()).map(|at| point.sample_count(at));
                point.sum(cells.iter().copied()) + samples.sum::<u64>()
            };
            points.values().map(count).sum::<u64>()
        };
        let both = total(Window::Previous(length)) + total(Window::Last(length));
        assert_eq!(both, total(Window::Last(twice)));
    }
}

fn check_info(running: &Running, model: &Model) {
    let info = running.instance.info().windows;
    let covered_ms = model.slices.first().map_or(0, |oldest| model.from - oldest.time.start);
    assert_eq!((info.slices, info.covered_ms), (model.slices.len(), covered_ms));
    assert_eq!((info.slice_ms, info.merged, info.dropped), (SLICE_MS, 0, 0));
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_window_holds_the_events_of_its_slices(steps in vec(step(), 1..80)) {
        let _alone = alone();
        let crew = Crew::new(THREADS);
        let running = start();
        let mut model = Model::default();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Events(thread, events) => {
                    events.iter().for_each(|event| model.record(event));
                    let plans = running.plans.clone();
                    crew.run(thread, move || events.iter().for_each(|event| event.send(&plans)));
                }
                Step::Pass(ms) => now += ms,
                Step::Tick | Step::TickAtBound => {
                    if let Step::TickAtBound = step {
                        now = (now / SLICE_MS + 1) * SLICE_MS;
                    }
                    running.instance.tick(at(now));
                    model.tick(now);
                    check_info(&running, &model);
                }
                Step::Report(length) => {
                    check(&running, &model, Window::SinceStart, now);
                    check(&running, &model, Window::Last(length), now);
                    check(&running, &model, Window::Previous(length), now);
                    let from = now.saturating_sub(length);
                    let to = now.saturating_sub(length / 3);
                    check(&running, &model, Window::Between(from, to), now);
                    check_relations(&running, &model, length, now);
                }
                Step::Retire(timeout) => {
                    let retired = running.instance.retire_idle(at(now), timeout);
                    prop_assert_eq!(retired, model.retire(now, timeout));
                }
                Step::Reset => {
                    running.instance.reset(at(now));
                    model.reset(now);
                }
            }
        }
        for window in [Window::SinceStart, Window::Last(u64::MAX), Window::Last(HISTORY_MS / 2)] {
            check(&running, &model, window, now);
        }
        crew.end();
    }
}

#[test]
fn slices_without_length_are_refused() {
    let definition = json!({
        "families": [], "plans": [], "ref_limit": 0, "worker_limit": 0,
        "windows": {"slice_ms": 0, "history_ms": 1, "memory_limit": 1},
        "alerts": telemetry_testing::alerts(), "usage_capacity": 1,
    });
    let definition: Definition = serde_json::from_value(definition).unwrap();
    let started = Instance::start(definition, Arc::new(|| at(0)));
    assert_eq!(started.map(|_| ()), Err(DefinitionError::SliceLength));
}

/// Twenty methods in slices of 10 ms, ticked on time.
struct Regular {
    running: RunningCalls,
    now: u64,
    /// By slice, oldest first: its end and how many events it had.
    events: Vec<(u64, u64)>,
}

impl Regular {
    const METHODS: u64 = 20;

    fn start(history_ms: u64, memory_limit: usize) -> Self {
        let running = Calls::default().start_with(windows(history_ms, memory_limit));
        Self { running, now: 0, events: Vec::new() }
    }

    /// Records the events of a slice, no two slices alike, and ends it.
    fn slice(&mut self) -> WindowsInfo {
        let number = self.events.len() as u64;
        let events = Self::METHODS * (2 + number % 3);
        for event in 0..events {
            let method = format!("m{}", event % Self::METHODS);
            self.running.call(&method, (number * 7_919 + event * 104_729) % 10_000_000);
        }
        self.now += SLICE_MS;
        self.events.push((self.now, events));
        self.running.instance.tick(at(self.now));
        self.running.instance.info().windows
    }

    /// Checks that a window up to now has all events since its begin. Returns its length.
    fn check(&self, length: u64) -> u64 {
        let (interval, points) =
            found(&self.running.instance, "calls", Window::Last(length), self.now);
        let from = self.now - interval.duration_ms;
        let expected: u64 =
            self.events.iter().filter(|(end, _)| *end > from).map(|(_, events)| events).sum();
        let layout = self.running.calls().layout();
        for point in points.values() {
            assert_eq!(point.sum(layout.counters()[0].cells()), point.sample_count(0));
        }
        let total: u64 = points.values().map(|point| point.sample_count(0)).sum();
        assert_eq!(total, expected, "in the last {length} ms");
        interval.duration_ms
    }
}

#[test]
fn slices_go_when_their_time_is_over() {
    let _alone = alone();
    let mut regular = Regular::start(HISTORY_MS, 64 << 20);
    for number in 1..=50 {
        let info = regular.slice();
        let slices = number.min(HISTORY_MS / SLICE_MS);
        assert_eq!((info.slices as u64, info.covered_ms), (slices, slices * SLICE_MS));
        assert_eq!((info.merged, info.dropped), (0, 0));
        assert_eq!(regular.check(u64::MAX), slices * SLICE_MS);
        assert_eq!(regular.check(3 * SLICE_MS), slices.min(3) * SLICE_MS);
    }
    // As long as nobody ticks, nothing goes; then all that is too old goes at once.
    regular.now += 10 * HISTORY_MS;
    assert_eq!(regular.check(u64::MAX), 11 * HISTORY_MS);
    let info = regular.slice();
    assert_eq!((info.slices, info.covered_ms), (1, 10 * HISTORY_MS + SLICE_MS));
}

/// With as long a history as merging needs: a twelfth of it is 20 slices.
const LONG_HISTORY_MS: u64 = 240 * SLICE_MS;

/// How many bytes the whole history takes without a limit.
fn unlimited() -> usize {
    let mut regular = Regular::start(LONG_HISTORY_MS, 64 << 20);
    (0..240).map(|_| regular.slice().memory_bytes).max().unwrap()
}

#[test]
fn under_a_limit_old_slices_merge_and_no_event_is_lost() {
    let _alone = alone();
    let limit = unlimited() / 2;
    let mut regular = Regular::start(LONG_HISTORY_MS, limit);
    let mut last = 0;
    for number in 1..=260 {
        let info = regular.slice();
        assert_eq!(info.memory_limit, limit);
        assert!(info.memory_bytes <= limit, "{} of {limit} bytes", info.memory_bytes);
        assert_eq!(info.dropped, 0);
        assert!(info.merged >= last);
        last = info.merged;
        let covered = number.min(240) * SLICE_MS;
        // A merged slice goes when all of it is too old, and is a twelfth of the history at most.
        assert!((covered..=covered + LONG_HISTORY_MS / 12).contains(&info.covered_ms), "{info:?}");
        assert!(regular.check(LONG_HISTORY_MS) >= covered);
        for slices in [1, 7, 19] {
            assert_eq!(regular.check(slices * SLICE_MS), slices.min(number) * SLICE_MS);
        }
        for slices in [25, 100, 200] {
            let length = regular.check(slices * SLICE_MS);
            assert!(length < slices * SLICE_MS + LONG_HISTORY_MS / 12 + SLICE_MS);
        }
    }
    assert!(last >= 100, "{last} slices merged");
}

#[test]
fn when_merging_does_not_suffice_the_oldest_slices_go() {
    let _alone = alone();
    let limit = unlimited() / 12;
    let mut regular = Regular::start(LONG_HISTORY_MS, limit);
    let mut info = regular.slice();
    for _ in 0..300 {
        info = regular.slice();
        assert!(info.memory_bytes <= limit && info.slices > 0, "{info:?}");
        assert_eq!(regular.check(u64::MAX), info.covered_ms);
    }
    assert!(info.dropped > 0 && info.covered_ms < LONG_HISTORY_MS, "{info:?}");

    let mut nothing = Regular::start(LONG_HISTORY_MS, 1);
    for number in 1..=5 {
        let info = nothing.slice();
        assert_eq!((info.slices, info.memory_bytes, info.covered_ms), (0, 0, 0));
        assert_eq!(info.dropped, number);
        assert_eq!(nothing.check(u64::MAX), 0);
    }
}

#[test]
fn an_idle_series_costs_a_slice_nothing() {
    let _alone = alone();
    const SERIES: usize = 20_000;
    let running =
        Calls { series_limit: SERIES, ..Calls::default() }.start_with(windows(HISTORY_MS, 1 << 30));
    let bytes = |now: u64| {
        let before = running.instance.info().windows.memory_bytes;
        running.instance.tick(at(now));
        running.instance.info().windows.memory_bytes - before
    };
    let empty = bytes(SLICE_MS);
    for series in 0..SERIES {
        running.call(&format!("m{series}"), 5);
    }
    assert!(bytes(2 * SLICE_MS) >= 20 * SERIES);
    assert_eq!(bytes(3 * SLICE_MS), empty);
    running.call("m7", 5);
    let one = bytes(4 * SLICE_MS);
    assert!(one > empty && one < empty + 100, "{one} bytes for one series, {empty} for none");
    let (_, points) = found(&running.instance, "calls", Window::Last(2 * SLICE_MS), 4 * SLICE_MS);
    assert_eq!(points.into_keys().collect::<Vec<_>>(), [["m7"]]);
}

/// What a producer has sent, counted before and after each event.
#[derive(Default)]
struct Progress {
    begun: AtomicU64,
    done: AtomicU64,
}

fn sum_of(progress: &[Progress], count: fn(&Progress) -> &AtomicU64) -> u64 {
    progress.iter().map(|progress| count(progress).load(SeqCst)).sum()
}

/// Says when its thread ends, by a failed assertion too.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Producers at full speed, while one thread ends slices, and perhaps retires series, and another
/// reports. Every event is in exactly one slice.
fn race(producers: usize, retire: bool) {
    const METHODS: u64 = 10;
    const TICKS: u64 = 80;
    const REPORTS: u64 = 3;
    const EVENTS: u64 = 10_000;
    let bound = 500_003;
    let running =
        Calls { bounds: vec![bound], ..Calls::default() }.start_with(windows(u64::MAX, 1 << 30));
    let layout = running.calls().layout();
    let metric = &layout.histograms()[0];
    let value = |producer: u64, event: u64| (event * 7_919 + producer) % 1_000_000;
    let progress: Vec<_> = (0..producers).map(|_| Progress::default()).collect();
    let [now, ticked, reported] = [(); 3].map(|()| AtomicU64::new(0));
    let [done, ended] = [(); 2].map(|()| AtomicBool::new(false));
    std::thread::scope(|scope| {
        let producing: Vec<_> = (0..producers as u64)
            .map(|producer| {
                let (running, progress) = (&running, &progress[producer as usize]);
                let (ticked, reported, ended) = (&ticked, &reported, &ended);
                scope.spawn(move || {
                    let methods: Vec<_> = (0..METHODS).map(|method| format!("m{method}")).collect();
                    for event in 0.. {
                        if event % 64 == 0 {
                            let raced = ticked.load(SeqCst) >= TICKS
                                && reported.load(SeqCst) >= REPORTS
                                && event >= EVENTS;
                            if raced || ended.load(SeqCst) {
                                break;
                            }
                            // Or a sweep, which has to wait for every thread, would find no gap.
                            std::thread::yield_now();
                        }
                        progress.begun.store(event + 1, SeqCst);
                        let method = &methods[(event / 3 % METHODS) as usize];
                        running.call(method, value(producer, event));
                        progress.done.store(event + 1, SeqCst);
                    }
                })
            })
            .collect();
        let ticking = scope.spawn(|| {
            let _ending = Ending(&ended);
            while !done.load(SeqCst) {
                if ticked.load(SeqCst) >= 2 * TICKS {
                    // With ever more slices, reports would take ever longer.
                    std::thread::yield_now();
                    continue;
                }
                running.instance.tick(at(now.fetch_add(SLICE_MS, SeqCst) + SLICE_MS));
                if retire {
                    running.instance.retire_idle(at(now.load(SeqCst)), 0);
                }
                ticked.fetch_add(1, SeqCst);
            }
        });
        let reporting = scope.spawn(|| {
            let _ending = Ending(&ended);
            while !done.load(SeqCst) {
                let at_least = sum_of(&progress, |progress| &progress.done);
                let time = now.load(SeqCst);
                for window in [
                    Window::Last(u64::MAX),
                    Window::Last(5 * SLICE_MS),
                    Window::Previous(5 * SLICE_MS),
                    Window::SinceStart,
                ] {
                    let (_, points) = found(&running.instance, "calls", window, time);
                    let seen: u64 = points.values().map(|point| point.sample_count(0)).sum();
                    let counter = &layout.counters()[0];
                    let counted: u64 =
                        points.values().map(|point| point.sum(counter.cells())).sum();
                    let at_most = sum_of(&progress, |progress| &progress.begun);
                    assert!(seen.max(counted) <= at_most, "{seen} and {counted} of {at_most}");
                    if window == Window::Last(u64::MAX) {
                        assert!(
                            seen.min(counted) >= at_least,
                            "{seen} and {counted} of {at_least}"
                        );
                    }
                }
                reported.fetch_add(1, SeqCst);
            }
        });
        let produced: Vec<_> = producing.into_iter().map(|thread| thread.join()).collect();
        done.store(true, SeqCst);
        produced.into_iter().for_each(|result| result.unwrap());
        ticking.join().unwrap();
        reporting.join().unwrap()
    });

    let mut expected: BTreeMap<Vec<String>, Vec<u64>> = BTreeMap::new();
    for producer in 0..producers as u64 {
        for event in 0..progress[producer as usize].done.load(SeqCst) {
            let method = format!("m{}", event / 3 % METHODS);
            expected.entry(vec![method]).or_default().push(value(producer, event));
        }
    }
    // Once with the last slice still under way, once without.
    for end in [false, true] {
        let now = now.load(SeqCst) + SLICE_MS;
        if end {
            running.instance.tick(at(now));
        }
        let (_, points) = found(&running.instance, "calls", Window::Last(u64::MAX), now);
        let labels: Vec<_> = expected.keys().collect();
        assert_eq!(points.keys().collect::<Vec<_>>(), labels);
        for (point, samples) in zip(points.values(), expected.values()) {
            let count = samples.len() as u64;
            assert_eq!(point.sum(layout.counters()[0].cells()), count);
            assert_eq!(point.cell(metric.sum_cell()), samples.iter().sum::<u64>());
            assert_eq!(point.max(metric), samples.iter().copied().max());
            assert_eq!(point.min(metric), samples.iter().copied().min());
            let covered = |bound| point.cell(metric.covered_cell(bound));
            let low = samples.iter().filter(|sample| **sample <= bound).count() as u64;
            assert_eq!(metric.bounds.buckets(point.counts(0), covered), [low, count - low]);
            check_quantiles(metric, point, samples);
        }
    }
    let info = running.instance.info().windows;
    assert_eq!((info.merged, info.dropped), (0, 0));
}

#[test]
fn two_producers_lose_no_event_between_slices() {
    let _alone = alone();
    for retire in [false, true] {
        race(2, retire);
    }
}

/// Two have cells of their own but no histogram counters, two share a lane.
#[test]
fn producers_that_share_a_lane_lose_no_event_between_slices() {
    let _alone = alone();
    let others: Vec<_> = (0..EXCLUSIVE_LANES - 2).map(|_| ThreadNumber::take()).collect();
    for retire in [false, true] {
        race(4, retire);
    }
    drop(others);
}
