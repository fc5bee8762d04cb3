//! What an instance makes of events beside metrics: signals, errors, usage and the performance
//! report, against a model that keeps every event.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use telemetry_instance::signal::{Described, QueueWait, SuppressedWaits};
use telemetry_instance::spike::Cause;
use telemetry_recording::family::UsageKind;
use telemetry_reports::errors::Errors;
use telemetry_reports::performance::Performance;
use telemetry_reports::usage_window::UsageInWindow;
use telemetry_testing::{Given, Running, cases, measurement, moment, role, send, text};
use telemetry_windows::window::Window;

const THRESHOLD: usize = 3;
const SPIKE_WINDOW_MS: u64 = 1_000;
const SLICE_MS: u64 = 500;

/// The part of the catalogue that monitors look at.
fn start(series_limit: usize, anomalies: &Value) -> Running {
    let booleans = json!(["true", "false"]);
    let class = json!({"class_of": {"reference": 1, "class": 4}});
    let feed = |unless: Value, family: &str, labels: Value, counts: Value, observes: Value| {
        json!({"feed": {"unless": unless, "family": family, "labels": labels, "counts": counts,
            "observes": observes}})
    };
    let family = |name: &str, labels: Value, counters: Value, histograms: Value, usage: Value| {
        json!({"name": name, "role": role(name), "labels": labels, "counters": counters, "histograms": histograms,
            "digits": 2, "series_limit": series_limit, "usage": usage})
    };
    let counter = |name: &str, dimensions: Value| json!([{"name": name, "dimensions": dimensions}]);
    let labels = json!([{"field": 2}, class]);
    let failure = |unless: Value, kind: Value, reason: Value, otherwise: &str| {
        json!({"failure": {"unless": unless, "labels": labels, "kind": kind, "reason": reason,
            "otherwise": otherwise,
            "spikes": "spikes", "errors": ["dspex.bridge.error", "dspex.bridge.call_method.error"]}})
    };
    let kinds = ["error", "exit", "other"];
    let calls = |success: Value| {
        let count = json!([{"counter": "total", "dimensions": [success]}]);
        let observe = json!([{"histogram": "duration", "field": 0}]);
        feed(json!(null), "dspex.bridge.call_method", labels.clone(), count, observe)
    };
    let histogram = |name: &str| json!([{"name": name, "unit": "nanosecond", "bounds": [1_000]}]);
    let all_kinds = json!([{"name": "kind", "values": ["error", "exit", "other", "unsuccessful"]}]);
    let mut alerts = telemetry_testing::alerts();
    alerts["spikes"] =
        json!({"threshold": THRESHOLD, "window_ms": SPIKE_WINDOW_MS, "key_limit": 100});
    alerts["anomalies"] = anomalies.clone();
    Running::start(json!({
        "families": [
            family("dspex.bridge.call_method", json!(["method", "python_class"]),
                counter("total", json!([{"name": "success", "values": booleans}])),
                histogram("duration"),
                json!({"kind": "method", "counter": "total", "labels": [1, 0]})),
            family("dspex.bridge.error", json!(["reason"]),
                counter("error_total", all_kinds.clone()), json!([]), json!(null)),
            family("dspex.bridge.call_method.error", json!(["method", "python_class", "reason"]),
                counter("method_error_total", all_kinds), json!([]), json!(null)),
            family("spikes", json!(["method", "python_class"]),
                counter("spike_total", json!([])), json!([]), json!(null)),
            family("waits", json!(["command"]), json!([]), histogram("wait"), json!(null)),
        ],
        "plans": [
            {
                "event": "stop",
                "fields": [measurement(true), text(false), text(true),
                    {"flag": {"default": null}}, text(false)],
                "steps": [
                    calls(json!({"field": 3})),
                    failure(json!(3), json!({"constant": "unsuccessful"}), json!(null), "unsuccessful"),
                ],
            },
            {
                "event": "exception",
                "fields": [measurement(true), text(false), text(true),
                    {"choice": {"values": kinds}}, text(false), text(false)],
                "steps": [
                    calls(json!({"constant": 1})),
                    failure(json!(null), json!({"field": 3}), json!(5), "unknown"),
                ],
            },
            {
                "event": "wait",
                "fields": [measurement(true), text(false), text(true)],
                "steps": [
                    feed(json!(null), "waits", json!([{"field": 2}]), json!([]),
                        json!([{"histogram": "wait", "field": 0}])),
                    {"wait": {"field": 0, "above": 5_000, "worker": 1, "command": 2}},
                ],
            },
            {
                "event": "create",
                "fields": [text(true), text(true)],
                "steps": [{"bind": {"reference": 0, "class": 1}}],
            },
        ],
        "ref_limit": 10,
        "worker_limit": 1,
        "windows": {"slice_ms": SLICE_MS, "history_ms": 60_000, "memory_limit": 1 << 20},
        "alerts": alerts,
    }))
}

/// A method call that has ended.
#[derive(Clone, Debug)]
struct Call {
    duration: u64,
    method: String,
    class: Option<String>,
    /// Whether the class is told by a reference that is bound to it.
    by_reference: bool,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Success,
    Unsuccessful,
    Raised { kind: String, reason: Option<String> },
}

impl Call {
    fn send(&self, running: &Running) {
        let class = self.class.as_deref();
        let reference = class.map(|class| format!("a reference of class {class}"));
        let reference = reference.as_deref().filter(|_| self.by_reference);
        if let (Some(reference), Some(class)) = (reference, class) {
            send(running.plans[3], &[reference, class].map(Given::Text));
        }
        let class = class.filter(|_| !self.by_reference);
        let [reference, class] =
            [reference, class].map(|text| text.map_or(Given::Absent, Given::Text));
        let (duration, method) = (Given::Number(self.duration), Given::Text(&self.method));
        match &self.outcome {
            Outcome::Raised { kind, reason } => {
                let reason = reason.as_deref().map_or(Given::Absent, Given::Text);
                let given = [duration, reference, method, Given::Text(kind), class, reason];
                send(running.plans[1], &given);
            }
            outcome => {
                let success = Given::Flag(*outcome == Outcome::Success);
                let given = [duration, reference, method, success, class];
                send(running.plans[0], &given);
            }
        }
    }

    fn key(&self) -> (String, String) {
        (self.method.clone(), self.class.clone().unwrap_or_else(|| "unknown".to_owned()))
    }

    fn cause(&self) -> Option<(String, String)> {
        match &self.outcome {
            Outcome::Success => None,
            Outcome::Unsuccessful => Some(("unsuccessful".to_owned(), "unsuccessful".to_owned())),
            Outcome::Raised { kind, reason } => {
                let known = ["error", "exit"].contains(&kind.as_str());
                let kind = if known { kind } else { "other" };
                Some((kind.to_owned(), reason.clone().unwrap_or_else(|| "unknown".to_owned())))
            }
        }
    }
}

fn call() -> impl Strategy<Value = Call> {
    let word = |words: &'static [&'static str]| proptest::sample::select(words);
    let outcome = prop_oneof![
        Just(Outcome::Success),
        Just(Outcome::Unsuccessful),
        (word(&["error", "exit", "odd"]), proptest::option::of(word(&["timeout", "killed"])))
            .prop_map(|(kind, reason)| Outcome::Raised {
                kind: kind.to_owned(),
                reason: reason.map(str::to_owned),
            }),
    ];
    let class = proptest::option::of(word(&["A", "B"]));
    let by_reference = any::<bool>();
    (0..1_000_000_u64, word(&["add", "search"]), class, by_reference, outcome).prop_map(
        |(duration, method, class, by_reference, outcome)| Call {
            duration,
            method: method.to_owned(),
            class: class.map(str::to_owned),
            by_reference,
            outcome,
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Call(Call),
    Pass(u64),
    Tick,
    Report,
    Reports,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => call().prop_map(Step::Call),
        3 => (0..700_u64).prop_map(Step::Pass),
        2 => Just(Step::Tick),
        1 => Just(Step::Report),
        1 => Just(Step::Reports),
    ]
}

/// What the signals should say of one key, by the definition alone.
#[derive(Default)]
struct Errorful {
    times: Vec<u64>,
    spike_from: Option<usize>,
}

/// A spike starts or is over: the key, the number of errors, and the time of the last of them.
type Told = (bool, (String, String), u64, u64);

impl Errorful {
    fn in_window(&self, now: u64) -> usize {
        self.times.iter().filter(|time| **time + SPIKE_WINDOW_MS > now).count()
    }

    /// Ends the spike if it is over by now.
    fn settle(&mut self, key: &(String, String), now: u64, told: &mut Vec<Told>) {
        if let Some(from) = self.spike_from
            && self.in_window(now) < THRESHOLD.div_ceil(2)
        {
            let errors = &self.times[from..];
            told.push((false, key.clone(), errors.len() as u64, *errors.last().unwrap()));
            self.spike_from = None;
        }
    }

    fn add(&mut self, key: &(String, String), now: u64, told: &mut Vec<Told>) {
        self.settle(key, now, told);
        self.times.push(now);
        if self.spike_from.is_none() && self.in_window(now) >= THRESHOLD {
            self.spike_from = Some(self.times.len() - THRESHOLD);
            told.push((true, key.clone(), THRESHOLD as u64, now));
        }
    }
}

fn told(running: &Running) -> Vec<Told> {
    let signals = running.instance.signals();
    let told = signals.try_iter().map(|sent| match sent.describe() {
        Described::ErrorSpike(spike) => {
            let key = (spike.method, spike.python_class);
            (true, key, spike.error_count, (spike.last_unix_ms - 1_000_000) as u64)
        }
        Described::ErrorSpikeOver(over) => {
            let key = (over.method, over.python_class);
            (false, key, over.total, (over.last_unix_ms - 1_000_000) as u64)
        }
        other => panic!("unexpected {other:?}"),
    });
    told.collect()
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn every_spike_is_told_once_and_ended_once_and_reports_agree(steps in vec(step(), 1..120)) {
        let running = start(100, &json!(null));
        let mut now = 0;
        let mut calls: Vec<(u64, Call)> = Vec::new();
        let mut keys: BTreeMap<(String, String), Errorful> = BTreeMap::new();
        let mut expected = Vec::new();
        for step in steps {
            match step {
                Step::Call(call) => {
                    call.send(&running);
                    if call.cause().is_some() {
                        let key = call.key();
                        keys.entry(key.clone()).or_default().add(&key, now, &mut expected);
                    }
                    calls.push((now, call));
                }
                Step::Pass(ms) => {
                    now += ms;
                    running.time.store(now, Relaxed);
                }
                Step::Tick => {
                    running.instance.tick(moment(now));
                    let mut over = Vec::new();
                    keys.iter_mut().for_each(|(key, errors)| errors.settle(key, now, &mut over));
                    expected.extend(over);
                }
                Step::Report => check_errors(&running, &calls, &keys, now)?,
                Step::Reports => check_performance_and_usage(&running, &calls, now)?,
            }
        }
        let spikes = expected.iter().filter(|(started, ..)| *started).count() as u64;
        let mut told = told(&running);
        // Spikes that end at the same tick come in no particular order.
        told.sort();
        expected.sort();
        prop_assert_eq!(told, expected);
        let family = running.family("spikes");
        let cell = family.layout().counters()[0].cell(0);
        let counted: u64 = family.series().iter().map(|series| series.lanes().sum(cell)).sum();
        prop_assert_eq!(counted, spikes);
    }
}

/// Of each call that fails its method's calls are looked at, whether the thread has them at hand or not.
#[test]
fn errors_are_a_spike_only_if_enough_of_the_methods_calls_fail() {
    let labels = json!([{"field": 0}, {"constant": "C"}]);
    let counters = |name: &str| json!([{"name": name, "dimensions": []}]);
    let family = |name: &str| {
        json!({"name": name, "labels": ["method", "python_class"], "counters": counters(name),
            "histograms": [], "digits": 2, "series_limit": 10})
    };
    let failure = json!({"failure": {"unless": 1, "labels": labels, "otherwise": "unknown",
        "kind": {"constant": "error"}, "spikes": "spikes", "calls": "calls"}});
    let feed = json!({"feed": {"family": "calls", "labels": labels, "observes": [],
        "counts": [{"counter": "calls", "dimensions": []}]}});
    let success = json!({"flag": {"default": null}});
    let plan =
        |steps: Value| json!({"event": "stop", "fields": [text(true), success], "steps": steps});
    let mut alerts = telemetry_testing::alerts();
    alerts["spikes"] = json!({"threshold": 3, "window_ms": 1_000, "percent": 50, "key_limit": 10});
    let running = Running::start(json!({
        "families": [family("calls"), family("spikes")],
        // By the second the calls are counted after the error, as if the cache had lost them.
        "plans": [plan(json!([feed, failure])), plan(json!([failure, feed]))],
        "ref_limit": 0,
        "worker_limit": 0,
        "alerts": alerts,
    }));
    let started = || {
        let family = running.family("spikes");
        let cell = family.layout().counters()[0].cell(0);
        family.series().iter().map(|series| series.lanes().sum(cell)).sum::<u64>()
    };
    for plan in 0..2 {
        let call = |success| {
            let method = if plan == 0 { "counted first" } else { "counted last" };
            send(running.plans[plan], &[Given::Text(method), Given::Flag(success)]);
        };
        let before = started();
        for _ in 0..3 {
            (0..10).for_each(|_| call(true));
            call(false);
        }
        assert_eq!(started(), before, "three of 23 calls");
        (0..3).for_each(|_| call(false));
        assert_eq!(started(), before + 1, "the last three");
    }
}

fn check_errors(
    running: &Running,
    calls: &[(u64, Call)],
    keys: &BTreeMap<(String, String), Errorful>,
    now: u64,
) -> Result<(), TestCaseError> {
    let report = Errors::new(&running.instance, Window::SinceStart, moment(now));
    let mut by_kind: BTreeMap<String, u64> = BTreeMap::new();
    let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
    for (kind, reason) in calls.iter().filter_map(|(_, call)| call.cause()) {
        *by_kind.entry(kind).or_default() += 1;
        *by_reason.entry(reason).or_default() += 1;
    }
    prop_assert_eq!(report.errors, by_kind.values().sum::<u64>());
    prop_assert_eq!(report.by_kind, by_kind);
    prop_assert_eq!(report.by_reason, by_reason);
    let mut by_method: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
    for (_, call) in calls {
        if let Some(cause) = call.cause() {
            *by_method.entry(call.key()).or_default().entry(cause).or_default() += 1;
        }
    }
    prop_assert!(report.by_method.is_sorted_by_key(|method| std::cmp::Reverse(method.errors)));
    let mut reported = BTreeMap::new();
    for method in report.by_method {
        let rank = |cause: &Cause| {
            (std::cmp::Reverse(cause.count), cause.kind.clone(), cause.reason.clone())
        };
        prop_assert!(method.reasons.is_sorted_by_key(rank));
        prop_assert_eq!(method.errors, method.reasons.iter().map(|cause| cause.count).sum::<u64>());
        let reasons = method.reasons.into_iter();
        let reasons: BTreeMap<_, _> =
            reasons.map(|cause| ((cause.kind, cause.reason), cause.count)).collect();
        reported.insert((method.method, method.python_class), reasons);
    }
    prop_assert_eq!(reported, by_method);
    let ongoing = keys.iter().filter(|(_, errors)| {
        errors.spike_from.is_some() && errors.in_window(now) >= THRESHOLD.div_ceil(2)
    });
    let ongoing: Vec<_> = ongoing
        .map(|(key, errors)| {
            (key.clone(), (errors.times.len() - errors.spike_from.unwrap()) as u64)
        })
        .collect();
    let mut spikes: Vec<_> = report
        .spikes
        .into_iter()
        .map(|spike| ((spike.method, spike.python_class), spike.total))
        .collect();
    spikes.sort();
    prop_assert_eq!(spikes, ongoing);
    Ok(())
}

fn check_performance_and_usage(
    running: &Running,
    calls: &[(u64, Call)],
    now: u64,
) -> Result<(), TestCaseError> {
    let mut used: BTreeMap<String, u64> = BTreeMap::new();
    for (_, call) in calls {
        let (method, class) = call.key();
        *used.entry(format!("{class}.{method}")).or_default() += 1;
    }
    let names = |used: Vec<(String, u64)>| used.into_iter().collect::<BTreeMap<_, _>>();
    let methods = running.instance.usage(moment(now)).report(100).kinds.methods;
    prop_assert_eq!(methods.total, calls.len() as u64);
    let told = methods.most_used.into_iter().map(|used| (used.name, used.count)).collect();
    prop_assert_eq!(&names(told), &used);
    let window = UsageInWindow::new(&running.instance, 100, Window::SinceStart, moment(now));
    let told = window.kinds.methods.most_used.into_iter().map(|used| (used.name, used.count));
    prop_assert_eq!(&names(told.collect()), &used);

    let window = Window::Last(SLICE_MS);
    let performance = Performance::new(&running.instance, window, moment(now));
    let from = performance.interval.from_unix_ms - 1_000_000;
    // A call at the very bound may be on either side of it.
    let inside = |time: u64, bound: bool| time as i64 > from - i64::from(bound);
    let mut least: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut most = least.clone();
    for (time, call) in calls {
        *least.entry(call.key()).or_default() += u64::from(inside(*time, false));
        *most.entry(call.key()).or_default() += u64::from(inside(*time, true));
    }
    for row in performance.rows {
        let key = (row.method, row.python_class);
        prop_assert!((least[&key]..=most[&key]).contains(&row.count), "{:?} {}", key, row.count);
        prop_assert!(row.max_us.unwrap() <= 1_000.0);
        prop_assert_eq!(row.error_rate, row.errors as f64 / row.count as f64);
    }
    Ok(())
}

#[test]
fn the_performance_report_compares_with_the_window_before() {
    let running = start(100, &json!(null));
    let send_calls = |count: u64, duration: u64, failed: u64| {
        for number in 0..count {
            let outcome = if number < failed { Outcome::Unsuccessful } else { Outcome::Success };
            let class = Some("A".to_owned());
            Call { duration, method: "m".to_owned(), class, by_reference: false, outcome }
                .send(&running);
        }
    };
    send_calls(10, 1_000_000, 1);
    running.instance.tick(moment(SLICE_MS));
    send_calls(20, 2_000_000, 6);
    let now = moment(2 * SLICE_MS);
    let report = Performance::new(&running.instance, Window::Last(SLICE_MS), now);
    assert_eq!(report.interval.duration_ms, SLICE_MS);
    let previous = report.previous.unwrap();
    assert_eq!((previous.duration_ms, previous.to_unix_ms), (SLICE_MS, 1_000_500));
    let [row] = &report.rows[..] else { panic!("{report:?}") };
    assert_eq!((row.count, row.errors, row.error_rate), (20, 6, 0.3));
    assert_eq!((row.calls_per_second, row.total_us, row.avg_us), (40.0, 40_000.0, Some(2_000.0)));
    assert_eq!(row.change.calls_per_second, Some(1.0));
    assert_eq!(row.change.avg_us, Some(1.0));
    assert!((row.change.error_rate.unwrap() - 0.2).abs() < 1e-9);
    assert!((row.change.p95_us.unwrap() - 1.0).abs() < 0.02);
}

#[test]
fn a_latency_that_leaves_its_range_is_told_when_slices_end() {
    let anomalies = json!(["dspex.bridge.call_method", {
        "deviations": 5.0, "min_samples": 5, "min_history": 3, "history": 10, "key_limit": 10}]);
    let running = start(100, &anomalies);
    let signals = running.instance.signals();
    let mut now = 0;
    let mut slice = |duration: u64| {
        for _ in 0..5 {
            let class = Some("A".to_owned());
            let outcome = Outcome::Success;
            Call { duration, method: "m".to_owned(), class, by_reference: false, outcome }
                .send(&running);
        }
        now += SLICE_MS;
        running.instance.tick(moment(now));
        signals.try_iter().map(|sent| sent.describe()).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        assert_eq!(slice(1_000_000), []);
    }
    let [Described::LatencyAnomaly(started)] = &slice(5_000_000)[..] else { panic!("not told") };
    assert_eq!((&*started.method, &*started.python_class, started.count), ("m", "A", 5));
    assert!((started.p95_us - 5_000.0).abs() < 1.0 && (started.median_us - 1_000.0).abs() < 10.0);
    let ongoing = Errors::new(&running.instance, Window::SinceStart, moment(50_000)).anomalies;
    assert_eq!(ongoing.iter().map(|anomaly| &*anomaly.method).collect::<Vec<_>>(), ["m"]);
    assert_eq!(slice(5_000_000), []);
    let [Described::LatencyAnomaly(over)] = &slice(1_000_000)[..] else { panic!("not told") };
    assert_eq!((over.duration_ms, over.started_unix_ms), (2 * SLICE_MS, 1_002_000));
}

#[test]
fn the_class_of_a_failed_call_may_come_from_its_reference() {
    let running = start(100, &json!(null));
    send(running.plans[3], &[Given::Text("ref-1"), Given::Text("Index")]);
    for _ in 0..THRESHOLD {
        let success = Given::Flag(false);
        let given =
            [Given::Number(1), Given::Text("ref-1"), Given::Text("m"), success, Given::Absent];
        send(running.plans[0], &given);
    }
    assert_eq!(told(&running), [(true, ("m".into(), "Index".into()), THRESHOLD as u64, 0)]);
}

#[test]
fn long_waits_are_told_once_a_second_with_the_number_suppressed() {
    let running = start(100, &json!(null));
    let wait = |at: u64, nanoseconds: u64, worker: &str| {
        running.time.store(at, Relaxed);
        let given = [Given::Number(nanoseconds), Given::Text(worker), Given::Text("run")];
        send(running.plans[2], &given);
    };
    wait(0, 5_000, "w0");
    wait(1, 5_001, "w1");
    wait(2, 9_000, "w2");
    wait(1_001, 6_000, "w3");
    wait(1_002, 7_000, "w4");
    running.instance.tick(moment(2_001));
    let told: Vec<_> = running.instance.signals().try_iter().map(|sent| sent.describe()).collect();
    let wait = |worker: &str, wait_us: f64, suppressed: u64| {
        let (worker_id, command) = (worker.to_owned(), "run".to_owned());
        Described::QueueWait(QueueWait { worker_id, command, wait_us, suppressed })
    };
    let command = "run".to_owned();
    let rest = Described::QueueWaitsSuppressed(SuppressedWaits { command, suppressed: 1 });
    assert_eq!(told, [wait("w1", 5.001, 0), wait("w3", 6.0, 1), rest]);
}

#[test]
fn names_over_the_series_limit_and_of_removed_series_are_used_too() {
    let running = start(2, &json!(null));
    let call = |number: usize| {
        let (class, outcome) = (Some("A".to_owned()), Outcome::Success);
        Call { duration: 1, method: format!("m{number}"), class, by_reference: false, outcome }
            .send(&running);
    };
    let mut now = 0;
    for round in 0..3 {
        (0..50).for_each(call);
        now += SLICE_MS;
        running.instance.tick(moment(now));
        running.instance.retire_idle(moment(now), 0);
        if round == 1 {
            // Since the last tick.
            (0..50).for_each(call);
            running.instance.reset(moment(now));
        }
    }
    let overflowed: Vec<_> = running.instance.signals().try_iter().collect();
    // Before the reset and after it.
    assert_eq!(overflowed.len(), 2);
    running.instance.stop();
    let methods = running.instance.usage(moment(now)).report(100).kinds.methods;
    assert_eq!((methods.total, methods.names), (200, 50));
    assert!(methods.most_used.iter().all(|used| used.count == 4), "{:?}", methods.most_used);
    assert_eq!(running.instance.declare(UsageKind::Tool, &["t"]), Ok(()));
}

#[test]
fn what_comes_in_during_resets_is_used_too() {
    const THREADS: u64 = 4;
    const RESETS: u64 = 40;
    // Half of the names have series, which each reset removes.
    let running = start(3, &json!(null));
    let done = AtomicBool::new(false);
    let sent: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = 0;
                    // Once at least, however late the thread begins.
                    loop {
                        for number in 0..6 {
                            let (method, class) = (format!("m{number}"), Some("A".to_owned()));
                            let outcome = Outcome::Success;
                            Call { duration: 1, method, class, by_reference: false, outcome }
                                .send(&running);
                            sent += 1;
                        }
                        if done.load(Relaxed) {
                            return sent;
                        }
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        for round in 0..RESETS {
            running.instance.reset(moment(round));
            if round % 8 == 0 {
                running.instance.retire_idle(moment(round), 0);
                running.instance.usage(moment(round));
            }
        }
        done.store(true, Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let methods = running.instance.usage(moment(RESETS)).report(100).kinds.methods;
    assert_eq!((methods.total, methods.names), (sent, 6));
    assert!(methods.most_used.iter().all(|used| used.count == sent / 6), "{methods:?}");
}
