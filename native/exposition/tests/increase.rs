//! What scrapes say of counters goes up by what was recorded, whatever series come and go.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use telemetry_exposition::{Format, Scrape, render};
use telemetry_recording::local::RecordOutcome;
use telemetry_testing::{Given, Running, cases, measurement, moment, send, text};

const TIMEOUT_MS: u64 = 1_000;

/// Calls by method and class, of which two counters lack one of them each.
fn start(series_limit: usize) -> Running {
    let flag = json!({"flag": {"default": true}});
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method", "class"],
            "counters": [
                {"name": "calls_total", "dimensions": [{"name": "success", "values": ["true", "false"]}]},
                {"name": "methods_total", "dimensions": [{"name": "success", "values": ["true", "false"]}],
                    "dropped_labels": [1]},
                {"name": "classes_total", "dimensions": [], "dropped_labels": [0]},
            ],
            "histograms": [],
            "digits": 2,
            "series_limit": series_limit,
        }],
        "plans": [{
            "event": "call.stop",
            "fields": [measurement(true), text(true), text(true), flag],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 1}, {"field": 2}],
                "counts": [
                    {"counter": "calls_total", "dimensions": [{"field": 3}]},
                    {"counter": "methods_total", "dimensions": [{"field": 3}]},
                    {"counter": "classes_total", "dimensions": []},
                ],
                "observes": [],
            }}],
        }],
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

fn call(running: &Running, method: usize, class: usize, success: bool) {
    let (method, class) = (format!("m{method}"), format!("c{class}"));
    let given = [Given::Number(1), Given::Text(&method), Given::Text(&class), Given::Flag(success)];
    assert_eq!(send(running.plans[0], &given), RecordOutcome::Recorded);
}

/// The samples of the counters and since when they count, by name and labels.
fn scrape(running: &Running) -> BTreeMap<String, f64> {
    let wanted = Scrape { format: Format::OpenMetrics, created: true, scalars: Vec::new() };
    let mut out = Vec::new();
    render(&running.instance, &wanted, &mut out);
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().filter(|line| {
        ["calls_", "methods_", "classes_"].iter().any(|name| line.starts_with(name))
    });
    let samples = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}

/// What `increase` of Prometheus makes of scrapes, by name and over all series.
///
/// A sample that is less than the one before says that the counter began again at zero, and so does a series
/// that was missing in a scrape, as its `_created` says. A series counts from zero where it begins, as
/// `_created` says too.
#[derive(Default)]
struct Increase {
    last: BTreeMap<String, f64>,
    by_name: BTreeMap<String, f64>,
}

impl Increase {
    fn scrape(&mut self, running: &Running) {
        let samples = scrape(running);
        for (series, value) in &samples {
            let name = series.split_once('{').unwrap().0;
            let before = self.last.get(series);
            if name.ends_with("_created") {
                assert!(before.is_none_or(|before| before == value), "{series} {before:?} {value}");
                continue;
            }
            let from = before.filter(|before| *before <= value).unwrap_or(&0.0);
            *self.by_name.entry(name.to_owned()).or_default() += value - from;
        }
        self.last = samples;
    }

    fn of(&self, name: &str) -> f64 {
        self.by_name.get(name).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Call {
        method: usize,
        class: usize,
        success: bool,
        times: u32,
    },
    /// Sweeps once or twice, after a time of which two are enough to be idle for.
    Sweep {
        times: usize,
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3usize, 0..3usize, any::<bool>(), 1..5u32).prop_map(|(method, class, success, times)| {
            Step::Call { method, class, success, times }
        }),
        2 => (1..3usize, 500..1_100u64).prop_map(|(times, ms)| Step::Sweep { times, ms }),
    ]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn counters_go_up_by_what_was_recorded_though_series_retire(
        limit in 1..10usize,
        steps in vec(step(), 1..60),
    ) {
        let (running, mut scrapes) = (start(limit), Increase::default());
        let (mut now_ms, mut calls) = (0, 0.0);
        for step in steps {
            match step {
                Step::Call { method, class, success, times } => {
                    (0..times).for_each(|_| call(&running, method, class, success));
                    calls += f64::from(times);
                }
                Step::Sweep { times, ms } => for _ in 0..times {
                    now_ms += ms;
                    running.instance.retire_idle(moment(now_ms), TIMEOUT_MS);
                },
            }
            scrapes.scrape(&running);
            for name in ["calls_total", "methods_total", "classes_total"] {
                prop_assert_eq!(scrapes.of(name), calls, "{} after {:?}", name, step);
            }
        }
    }
}

#[test]
fn a_sum_ends_with_its_last_series_and_takes_no_memory_then() {
    let running = start(10);
    let total =
        |class| scrape(&running).get(&format!("classes_total{{class=\"{class}\"}}")).copied();
    let memory = || running.family("calls").memory_bytes();
    let nothing = memory();
    call(&running, 0, 0, true);
    call(&running, 1, 0, true);
    call(&running, 1, 0, true);
    running.instance.retire_idle(moment(1), TIMEOUT_MS);
    call(&running, 0, 0, true);
    running.instance.retire_idle(moment(TIMEOUT_MS), TIMEOUT_MS);
    assert_eq!(running.instance.retire_idle(moment(TIMEOUT_MS + 1), TIMEOUT_MS), 1);
    assert_eq!((running.family("calls").series_count(), total("c0")), (1, Some(4.0)));
    assert_eq!(running.instance.retire_idle(moment(3 * TIMEOUT_MS), TIMEOUT_MS), 1);
    assert_eq!((total("c0"), memory()), (None, nothing));
    call(&running, 1, 0, true);
    assert_eq!(total("c0"), Some(1.0));
    // A reset forgets what has retired too.
    call(&running, 0, 0, true);
    running.instance.retire_idle(moment(4 * TIMEOUT_MS), TIMEOUT_MS);
    call(&running, 0, 0, true);
    running.instance.retire_idle(moment(5 * TIMEOUT_MS), TIMEOUT_MS);
    assert_eq!(total("c0"), Some(3.0));
    running.instance.reset(moment(5 * TIMEOUT_MS));
    call(&running, 1, 0, true);
    assert_eq!(total("c0"), Some(1.0));
}
