//! The live page has the numbers of the report, and its history has every call once, in the slot of
//! its time.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use hdrhistogram::Histogram;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use telemetry_instance::call_log::LoggedCall;
use telemetry_recording::details::Details;
use telemetry_recording::field::Inputs;
use telemetry_recording::local;
use telemetry_recording::notes::Notes;
use telemetry_reports::page::{
    MOST_CALLS, MOST_REASONS, MOST_ROWS, MOST_SLOTS, MethodRow, Page, PageSpec, Series, SharedMemo,
};
use telemetry_reports::report::{Operation, Report};
use telemetry_testing::{Given, Running, cases, measurement, moment, role, send, send_with, text};
use telemetry_windows::window::Window;

const SLICE_MS: u64 = 100;
const HISTORY_MS: u64 = 6_000;

/// How many single calls the instance keeps of each sort: more than the page shows.
const KEPT_CALLS: usize = MOST_CALLS + 5;

/// An instance with what its page has shown.
struct Shown {
    running: Running,
    memo: SharedMemo,
}

impl std::ops::Deref for Shown {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

fn start(memory_limit: usize) -> Shown {
    let success = json!([{"name": "success", "values": ["true", "false"]}]);
    let histogram = |name: &str| json!([{"name": name, "unit": "nanosecond", "bounds": [1_000]}]);
    let feed = |family: &str, labels: Value, counts: Value, histogram: &str| {
        json!({"feed": {"family": family, "labels": labels, "counts": counts,
            "observes": [{"histogram": histogram, "field": 0}]}})
    };
    let count = json!([{"counter": "total", "dimensions": [{"field": 3}]}]);
    let method = json!([{"field": 1}, {"field": 2}]);
    let counter = |name: &str, labels: Value, dimensions: Value| {
        json!({"name": name, "role": role(name), "labels": labels, "counters": [{"name": name, "dimensions": dimensions}],
            "histograms": [], "digits": 2, "series_limit": 1_000})
    };
    let kinds = json!([{"name": "kind", "values": ["exit", "error"]}]);
    let failure = json!({"failure": {"unless": 3, "labels": method, "kind": {"constant": "error"},
        "reason": 4, "otherwise": "unsuccessful", "spikes": "spikes",
        "errors": ["dspex.bridge.error", "dspex.bridge.call_method.error"]}});
    let running = Running::start(json!({
        "families": [
            {"name": "dspex.bridge.call_method", "role": "calls", "labels": ["method", "python_class"],
                "counters": [{"name": "total", "dimensions": success}],
                "histograms": histogram("duration"), "digits": 2, "series_limit": 1_000},
            {"name": "snakepit.pool.queue_time", "role": "queue_waits", "labels": ["command"], "counters": [],
                "histograms": histogram("snakepit_pool_queue_time"), "digits": 2,
                "series_limit": 1_000},
            {"name": "dspex.bridge.call_method.python", "role": "python_times", "labels": ["method", "python_class"],
                "counters": [], "histograms": histogram("python"), "digits": 2,
                "series_limit": 1_000},
            counter("spikes", json!(["method", "python_class"]), json!([])),
            counter("dspex.bridge.error", json!(["reason"]), kinds.clone()),
            counter("dspex.bridge.call_method.error", json!(["method", "python_class", "reason"]), kinds),
        ],
        "plans": [
            {"event": "stop",
                "fields": [measurement(true), text(true), text(true), {"flag": {"default": null}},
                    text(false)],
                "call": {"labels": method, "duration": 0},
                "steps": [feed("dspex.bridge.call_method", method.clone(), count, "duration"),
                    failure]},
            {"event": "wait", "fields": [measurement(true), text(true)],
                "steps": [feed("snakepit.pool.queue_time", json!([{"field": 1}]), json!([]),
                    "snakepit_pool_queue_time")]},
            {"event": "inside", "fields": [measurement(true), text(true), text(true)],
                "steps": [feed("dspex.bridge.call_method.python", method, json!([]), "python")]},
        ],
        "call_log": {"failures": KEPT_CALLS, "slowest": KEPT_CALLS, "slowest_for_ms": 3_600_000,
            "messages": true},
        "ref_limit": 0,
        "worker_limit": 10,
        "windows": {"slice_ms": SLICE_MS, "history_ms": HISTORY_MS, "memory_limit": memory_limit},
    }));
    Shown { running, memo: SharedMemo::default() }
}

fn page(running: &Shown, methods: usize, window: Window, now: u64) -> Page {
    let spec = PageSpec { instance: "Test".to_owned(), attached: true, methods };
    Page::new(&running.instance, &running.memo, &spec, window, moment(now))
}

#[derive(Clone, Copy, Debug)]
struct Call {
    at_ms: u64,
    ns: u64,
    method: usize,
    success: bool,
    /// Why it failed, if it did.
    reason: usize,
    /// What Python measured of it, if it did.
    python_ns: Option<u64>,
}

const METHODS: [&str; 4] = ["add", "search", "<script>", "rank"];

const REASONS: [&str; 5] =
    ["ValueError", "<b>", "timeout", "JSONDecodeError", "\" \\ \u{202E}\u{0}"];

fn call(running: &Running, call: &Call) {
    let method = METHODS[call.method];
    let (duration, reason) = (Given::Number(call.ns), Given::Text(REASONS[call.reason]));
    let success = Given::Flag(call.success);
    let given = [duration, Given::Text(method), Given::Text("C"), success, reason];
    let message = REASONS[call.reason].as_bytes();
    let details = Details { message, worker_id: b"w", trace_id: b"t", ..Details::default() };
    send_with(running.plans[0], 0, &given, &details);
    send(running.plans[1], &[Given::Number(call.ns), Given::Text(method)]);
    if let Some(ns) = call.python_ns {
        send(running.plans[2], &[Given::Number(ns), Given::Text(method), Given::Text("C")]);
    }
}

/// Calls with the time since the one before.
fn calls() -> impl Strategy<Value = Vec<(u64, Call)>> {
    let pause = prop_oneof![5 => 0..30_u64, 2 => 0..400_u64, 1 => 0..3_000_u64];
    let ns = prop_oneof![0..2_000_u64, 0..5_000_000_000_u64, Just(2_000_000_000_000)];
    let python_ns = prop_oneof![Just(None), (0..5_000_000_u64).prop_map(Some)];
    let call = (ns, 0..METHODS.len(), any::<bool>(), 0..REASONS.len(), python_ns).prop_map(
        |(ns, method, success, reason, python_ns)| Call {
            at_ms: 0,
            ns,
            method,
            success,
            reason,
            python_ns,
        },
    );
    vec((pause, call), 0..300)
}

/// Plays calls with a tick every few milliseconds, and returns them with their times, and the time.
fn play(running: &Shown, calls: Vec<(u64, Call)>) -> (Vec<Call>, u64) {
    let mut now = 0;
    let mut played = Vec::new();
    for (pause, mut next) in calls {
        for _ in 0..pause {
            now += 1;
            if now % 7 == 0 {
                running.instance.tick(moment(now));
            }
        }
        next.at_ms = now;
        running.time.store(now, Relaxed);
        call(running, &next);
        played.push(next);
        // What is kept of the past must not be wrong later. Ask for other methods now and then.
        if played.len() % 5 == 0 {
            page(running, 1 + played.len() % 3, Window::Last(300), now);
        }
    }
    (played, now)
}

/// What a series has to have in a slot.
fn check_slot<'a>(
    series: &Series,
    slot: usize,
    calls: impl Iterator<Item = &'a Call>,
) -> Result<(), TestCaseError> {
    let mut oracle = Histogram::<u64>::new(2).unwrap();
    oracle.auto(true);
    let (mut count, mut errors) = (0, 0);
    for call in calls {
        oracle.record(call.ns).unwrap();
        count += 1;
        errors += u64::from(!call.success);
    }
    prop_assert_eq!((series.count[slot], series.errors[slot]), (count, errors));
    for (quantile, values) in
        [(0.5, &series.p50_us), (0.95, &series.p95_us), (0.99, &series.p99_us)]
    {
        let bucket_end = oracle.value_at_quantile(quantile);
        match values[slot] {
            None => prop_assert_eq!(count, 0),
            // The library knows the exact maximum of a slot and tells no more than that.
            Some(us) => {
                let ns = (us * 1e3).round() as u64;
                prop_assert!(ns <= bucket_end && oracle.equivalent(ns, bucket_end));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn every_call_of_the_history_is_in_the_slot_of_its_time_once(calls in calls()) {
        let running = start(1 << 20);
        let (calls, now) = play(&running, calls);
        let page = page(&running, 2, Window::SinceStart, now);
        let slots = &page.history.slots;
        prop_assert!(slots.len() as u64 <= MOST_SLOTS);
        let mut next = None;
        for (number, slot) in slots.iter().enumerate() {
            let (from, to) = (slot.from_unix_ms - 1_000_000, slot.to_unix_ms - 1_000_000);
            prop_assert!(next.is_none_or(|next| next == from));
            next = Some(to);
            // Calls at the time of a tick come after it; those of now are in the last.
            let last = number + 1 == slots.len();
            let within = |call: &&Call| {
                let at = call.at_ms as i64;
                from <= at && (at < to || last)
            };
            check_slot(&page.history.all, number, calls.iter().filter(within))?;
            for row in &page.methods.rows {
                let own = |call: &&Call| METHODS[call.method] == row.operation.method;
                check_slot(&row.series, number, calls.iter().filter(within).filter(own))?;
            }
            let column = &page.history.heatmap.counts[number];
            prop_assert_eq!(column.iter().sum::<u64>(), page.history.all.count[number]);
            prop_assert_eq!(page.history.queue.count[number], page.history.all.count[number]);
            prop_assert_eq!(page.history.queue.p95_us[number], page.history.all.p95_us[number]);
            let bounds = &page.history.heatmap.bounds_us;
            for (row, count) in column.iter().enumerate() {
                let above = bounds[row].unwrap() * 1e3;
                let upper = bounds[row + 1].map_or(f64::INFINITY, |us| us * 1e3);
                // A sample is in the row of its histogram bucket's end, which is 1 % above at most.
                let surely = |call: &&Call| {
                    let ns = call.ns as f64;
                    (row == 0 || ns > above) && ns * 1.01 <= upper
                };
                let perhaps = |call: &&Call| {
                    let ns = call.ns as f64;
                    (row == 0 || ns * 1.01 >= above) && ns <= upper
                };
                let all = || calls.iter().filter(within);
                prop_assert!(all().filter(surely).count() as u64 <= *count);
                prop_assert!(all().filter(perhaps).count() as u64 >= *count);
            }
        }
        prop_assert_eq!(next, Some(now as i64));
    }

    /// However the slices were merged, no call is there twice, and none that is kept is missing.
    #[test]
    fn merged_slices_are_one_slot_and_lose_nothing(calls in calls()) {
        let running = start(6_000);
        let (calls, now) = play(&running, calls);
        let page = page(&running, 4, Window::SinceStart, now);
        let begin = page.history.slots.first().map_or(0, |slot| slot.from_unix_ms - 1_000_000);
        let kept = calls.iter().filter(|call| call.at_ms as i64 >= begin).count() as u64;
        prop_assert_eq!(page.history.all.count.iter().sum::<u64>(), kept);
        for pair in page.history.slots.windows(2) {
            prop_assert_eq!(pair[0].to_unix_ms, pair[1].from_unix_ms);
        }
    }

    #[test]
    fn rows_and_rest_are_the_reports_and_make_up_the_whole(calls in calls(), methods in 0..5_usize) {
        let running = start(1 << 20);
        let (_, now) = play(&running, calls);
        for window in [Window::SinceStart, Window::Last(1_000)] {
            let page = page(&running, methods, window, now);
            let report = Report::new(&running.instance, window, moment(now));
            prop_assert_eq!(page.interval, report.interval);
            prop_assert_eq!(page.methods.total, report.operations.len());
            prop_assert_eq!(page.methods.rows.len(), methods.min(report.operations.len()));
            for row in &page.methods.rows {
                prop_assert!(report_row(&report, row).is_some());
            }
            let counts: Vec<_> = page.methods.rows.iter().map(|row| row.operation.count).collect();
            prop_assert!(counts.is_sorted_by(|left, right| left >= right));
            let rest = page.methods.rest.as_ref();
            let least = counts.last().copied().unwrap_or(u64::MAX);
            let others: BTreeMap<_, _> = report.operations.iter()
                .filter(|operation| page.methods.rows.iter().all(|row| report_row(&report, row) != Some(*operation)))
                .map(|operation| (&operation.method, (operation.count, operation.errors)))
                .collect();
            prop_assert!(others.values().all(|(count, _)| *count <= least));
            prop_assert_eq!(rest.map_or(0, |rest| rest.methods), others.len());
            let sum = |of: fn(&(u64, u64)) -> u64| others.values().map(of).sum::<u64>();
            prop_assert_eq!(rest.map_or(0, |rest| rest.count), sum(|(count, _)| *count));
            prop_assert_eq!(rest.map_or(0, |rest| rest.errors), sum(|(_, errors)| *errors));
            let all: u64 = report.operations.iter().map(|operation| operation.count).sum();
            prop_assert_eq!(page.methods.all.map_or(0, |all| all.count), all);
            prop_assert_eq!(page.pool.queue_wait_us, report.pool.queue_wait_us);
        }
    }
}

/// The row of the report that a row of the page is made of.
fn report_row<'a>(report: &'a Report, row: &MethodRow) -> Option<&'a Operation> {
    let is_shown = |operation: &&Operation| {
        let reasons = operation.reasons.iter().take(MOST_REASONS).cloned().collect();
        row.operation == Operation { reasons, ..(*operation).clone() }
    };
    report.operations.iter().find(is_shown)
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_row_says_why_its_calls_failed_and_what_python_measured(calls in calls()) {
        let running = start(1 << 20);
        let (calls, now) = play(&running, calls);
        let page = page(&running, METHODS.len(), Window::SinceStart, now);
        for MethodRow { operation, .. } in &page.methods.rows {
            let own: Vec<_> =
                calls.iter().filter(|call| METHODS[call.method] == operation.method).collect();
            let mut counts = [0; REASONS.len()];
            own.iter().filter(|call| !call.success).for_each(|call| counts[call.reason] += 1);
            let mut expected: Vec<_> = counts.into_iter().zip(REASONS).collect();
            expected.retain(|(count, _)| *count > 0);
            expected.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
            expected.truncate(MOST_REASONS);
            let reasons: Vec<_> =
                operation.reasons.iter().map(|cause| (cause.count, cause.reason.as_str())).collect();
            prop_assert_eq!(reasons, expected);
            prop_assert!(operation.reasons.iter().all(|cause| cause.kind == "error"));
            let inside: Vec<_> = own.iter().filter_map(|call| call.python_ns).collect();
            let mean = |ns: &[u64]| ns.iter().sum::<u64>() as f64 / ns.len() as f64 / 1e3;
            let expected = (!inside.is_empty()).then(|| mean(&inside));
            let near = |one: f64, other: f64| (one - other).abs() <= 1e-6 * one.abs().max(1.0);
            let python = operation.python_us.as_ref().and_then(|python| python.mean);
            prop_assert_eq!(python.is_some(), expected.is_some());
            let whole = mean(&own.iter().map(|call| call.ns).collect::<Vec<_>>());
            prop_assert_eq!(operation.overhead_us.is_some(), expected.is_some());
            if let (Some(python), Some(expected)) = (python, expected) {
                prop_assert!(near(python, expected));
                prop_assert!(near(operation.overhead_us.unwrap(), (whole - expected).max(0.0)));
            }
        }
    }

    #[test]
    fn single_calls_are_the_last_that_failed_and_the_slowest(calls in calls()) {
        let running = start(1 << 20);
        let (calls, now) = play(&running, calls);
        let failed: Vec<_> = calls.iter().rev().filter(|call| !call.success).collect();
        let mut slow: Vec<_> = calls.iter().filter(|call| call.ns > 0).collect();
        slow.sort_by_key(|call| std::cmp::Reverse(call.ns));
        for window in [Window::SinceStart, Window::Last(1_000)] {
            let page = page(&running, 1, window, now);
            let is_within = |call: &&&Call| {
                let at = moment(call.at_ms).unix_ms;
                (page.interval.from_unix_ms..=page.interval.to_unix_ms).contains(&at)
            };
            for (shown, kept) in [(&page.errors.last_failures, &failed), (&page.slowest, &slow)] {
                let kept: Vec<_> = kept.iter().take(KEPT_CALLS).filter(is_within).collect();
                prop_assert_eq!(shown.total, kept.len());
                prop_assert_eq!(shown.rows.len(), kept.len().min(MOST_CALLS));
                for (row, call) in shown.rows.iter().zip(kept) {
                    check_call(row, call)?;
                }
            }
        }
    }
}

/// What is kept of a call.
fn check_call(row: &LoggedCall, call: &Call) -> Result<(), TestCaseError> {
    let failed = !call.success;
    prop_assert_eq!(row.at_unix_ms, moment(call.at_ms).unix_ms);
    prop_assert_eq!((&*row.method, &*row.python_class), (METHODS[call.method], "C"));
    prop_assert_eq!(row.duration_us, Some(call.ns as f64 / 1e3));
    prop_assert_eq!(row.failed, failed);
    prop_assert_eq!(row.reason.as_deref(), failed.then_some(REASONS[call.reason]));
    prop_assert_eq!(row.kind.as_deref(), failed.then_some("error"));
    prop_assert_eq!(row.message.as_deref(), Some(REASONS[call.reason]));
    prop_assert_eq!((row.worker_id.as_deref(), row.trace_id.as_deref()), (Some("w"), Some("t")));
    prop_assert_eq!((&row.session_id, &row.correlation_id), (&None, &None));
    Ok(())
}

/// What is in the page however many names there are.
#[test]
fn lists_are_cut_and_say_how_long_they_are() {
    let running = start(64 << 20);
    let (mut now, mut reasons) = (0, 0);
    while now < HISTORY_MS {
        for name in 0..400 {
            let method = format!("method with a name of usual length {name}");
            let method = Given::Text(&method);
            let duration = Given::Number(1_000 + now * 1_000 * (1 + name % 7));
            // Each call fails for another reason, and all its texts are as long as they may be.
            reasons += 1;
            let reason = format!("{reasons:0>256}");
            let long = [b'i'; 1_000];
            let details = Details {
                message: &long,
                worker_id: &long,
                session_id: &long,
                trace_id: &long,
                correlation_id: &long,
                ..Details::default()
            };
            let (class, reason) = (Given::Text("C"), Given::Text(&reason));
            let failed = [duration, method, class, Given::Flag(false), reason];
            send_with(running.plans[0], 0, &failed, &details);
            send(running.plans[1], &[duration, method]);
            send(running.plans[2], &[duration, method, Given::Text("C")]);
        }
        now += SLICE_MS;
        running.instance.tick(moment(now));
    }
    let page = page(&running, 25, Window::SinceStart, now);
    assert_eq!((page.methods.rows.len(), page.methods.total), (25, 400));
    assert_eq!(page.methods.rest.as_ref().unwrap().methods, 375);
    assert_eq!((page.pool.commands.rows.len(), page.pool.commands.total), (MOST_ROWS, 400));
    let failures = &page.errors.last_failures;
    assert_eq!((failures.rows.len(), failures.total), (MOST_CALLS, KEPT_CALLS));
    assert_eq!((page.slowest.rows.len(), page.slowest.total), (MOST_CALLS, KEPT_CALLS));
    assert!(page.methods.rows.iter().all(|row| row.operation.reasons.len() <= MOST_REASONS));
    assert!(page.methods.rows.iter().all(|row| row.operation.python_us.is_some()));
    let json = page.to_json().unwrap();
    assert!(json.len() < 350_000, "{}", json.len());
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["methods"]["rows"][0]["series"]["count"].as_array().unwrap().len(), 60);
    assert_eq!(value["cache"], Value::Null);
}

/// The end of its histogram bucket lies beyond the bound.
#[test]
fn a_call_as_long_as_the_bound_of_a_row_is_in_that_row() {
    let running = start(1 << 20);
    let ns = 1_500_000;
    let exactly = Call { at_ms: 0, ns, method: 0, success: true, reason: 0, python_ns: None };
    call(&running, &exactly);
    running.instance.tick(moment(SLICE_MS));
    let heatmap = page(&running, 1, Window::SinceStart, SLICE_MS).history.heatmap;
    let bound = heatmap.bounds_us.iter().position(|us| *us == Some(1_500.0)).unwrap();
    let row = heatmap.counts.iter().map(|slot| slot[bound - 1]).sum::<u64>();
    assert_eq!(row, 1, "{heatmap:?}");
}

#[test]
fn a_call_is_kept_for_what_was_noted_of_it() {
    let (failed, slow) = (Notes::FAILED, Notes::SLOW);
    for (notes, failures, slowest) in [
        (Notes::EXEMPLARY, 0, 0),
        (Notes::COMPLETED, 0, 0),
        (failed, 1, 0),
        (slow, 0, 1),
        (failed.with(slow), 1, 1),
    ] {
        let running = start(1 << 20);
        let texts = ["add", "C", "timeout"].map(Given::Text);
        let [method, class, reason] = texts;
        let given = [Given::Number(5_000), method, class, Given::Flag(false), reason];
        send(running.plans[0], &given);
        let decode =
            |inputs: &Inputs, fields: &mut _| telemetry_testing::decode(&given, inputs, fields);
        local::keep(running.plans[0], notes, decode, &Details::default());
        let page = page(&running, 1, Window::SinceStart, 1);
        let kept = (page.errors.last_failures.total, page.slowest.total);
        assert_eq!(kept, (failures, slowest), "{notes:?}");
    }
}

#[test]
fn what_was_before_a_reset_is_forgotten() {
    let running = start(1 << 20);
    let slow = Call { at_ms: 0, ns: 5_000, method: 0, success: false, reason: 0, python_ns: None };
    for now in (0..1_000).step_by(50) {
        running.time.store(now, Relaxed);
        call(&running, &slow);
        running.instance.tick(moment(now));
    }
    assert_eq!(
        page(&running, 1, Window::SinceStart, 1_000).history.all.count.iter().sum::<u64>(),
        20
    );
    running.instance.reset(moment(1_000));
    running.time.store(1_050, Relaxed);
    call(&running, &slow);
    running.instance.tick(moment(1_100));
    let page = page(&running, 1, Window::SinceStart, 1_150);
    assert_eq!(page.history.all.count.iter().sum::<u64>(), 1);
    assert_eq!((page.errors.last_failures.total, page.slowest.total), (1, 1));
}
