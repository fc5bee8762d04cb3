//! A call counts once, whichever emitters report it, and gauges are set by the steps that say so.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use telemetry_exposition::{Format, Scrape, render};
use telemetry_recording::details::Details;
use telemetry_recording::local::RecordOutcome;
use telemetry_recording::plan::PlanId;
use telemetry_reports::errors::Errors;
use telemetry_reports::report::Report;
use telemetry_testing::{
    Given, Running, cases, counted, measurement, moment, role, send, send_with, text,
};
use telemetry_windows::window::Window;

/// The plans, in the definition's order.
#[derive(Clone, Copy)]
enum Event {
    CallStart,
    CallStop,
    Dispatched,
    ExecutionStart,
    ExecutionStop,
    /// A call of a bridge that may be made inside one of another.
    Inner,
    Tool,
    PoolTool,
    Worker,
    PoolWorker,
    Celsius,
}

/// A bridge and the pool below it, each of which counts under its own name, and a gauge.
fn start() -> Running {
    let feed = |source: &str, labels: Value, claimed: bool| {
        json!({"feed": {
            "family": "calls",
            "labels": [{"constant": source}, labels],
            "counts": [{"counter": "calls", "dimensions": []}],
            "observes": [],
            "claimed": claimed,
        }})
    };
    let failure = |unless: usize, claimed: bool| {
        json!({"failure": {"unless": unless, "labels": [{"field": 0}, {"constant": "C"}],
            "kind": {"constant": "unsuccessful"}, "otherwise": "unsuccessful", "claimed": claimed,
            "spikes": "spikes", "errors": ["dspex.bridge.error", "dspex.bridge.call_method.error"]}})
    };
    let family = |name: &str, labels: Value, dimensions: Value| {
        json!({"name": name, "role": role(name), "labels": labels, "histograms": [], "digits": 2, "series_limit": 100,
            "counters": [{"name": name, "dimensions": dimensions}]})
    };
    let kinds = json!([{"name": "kind", "values": ["unsuccessful"]}]);
    let execution = |phase: &str| json!({"execution": {"command": 0, "worker": 1, "phase": phase}});
    let method = json!({"field": 0});
    let owned = |kind: &str, key: &str, number: u8, takes: bool| json!({kind: {key: 0, "emitter": {"number": number, "takes": takes}}});
    let flag = json!({"flag": {"default": true}});
    let call = |duration: usize| json!({"labels": [{"field": 0}, {"constant": "C"}], "duration": duration});
    Running::start(json!({
        "families": [
            family("calls", json!(["source", "method"]), json!([])),
            family("spikes", json!(["method", "python_class"]), json!([])),
            family("dspex.bridge.error", json!(["reason"]), kinds.clone()),
            family("dspex.bridge.call_method.error",
                json!(["method", "python_class", "reason"]), kinds),
        ],
        "event_gauges": [{"name": "celsius", "labels": ["device"], "divisor": 10.0}],
        "event_gauge_limit": 1,
        "plans": [
            {"event": "call.start", "fields": [text(true)],
                "steps": [{"enter": {"operation": "call"}}]},
            {"event": "call.stop", "fields": [text(true), flag, measurement(false)],
                "call": call(2),
                "steps": [feed("bridge", method.clone(), false), failure(1, false),
                    {"leave": {"operation": "call"}}]},
            {"event": "dispatched", "fields": [text(true), text(true), "process"],
                "steps": [{"dispatched": {"process": 2, "worker": 1, "command": 0}}]},
            {"event": "execution.start", "fields": [text(true), text(false)],
                "claim": execution("begin"), "steps": [feed("started", method.clone(), true)]},
            {"event": "execution.stop", "fields": [text(true), text(false), flag],
                "claim": execution("end"),
                "steps": [feed("pool", method.clone(), true), failure(2, true)]},
            {"event": "inner", "fields": [text(true)], "claim": "call",
                "steps": [feed("inner", method.clone(), true)]},
            {"event": "tool", "fields": [text(true)], "claim": owned("tool", "name", 1, true),
                "steps": [feed("tool", method.clone(), true)]},
            {"event": "pool.tool", "fields": [text(true)], "claim": owned("tool", "name", 2, false),
                "steps": [feed("pool tool", method.clone(), true)]},
            {"event": "worker", "fields": [text(true)], "claim": owned("worker", "id", 1, false),
                "steps": [feed("worker", method.clone(), true)]},
            {"event": "pool.worker", "fields": [text(true)],
                "claim": owned("worker", "id", 2, false),
                "steps": [feed("pool worker", method.clone(), true)]},
            {"event": "temperature", "fields": [measurement(false), text(true)],
                "steps": [{"set": {"gauge": "celsius", "labels": [{"field": 1}],
                    "value": {"field": 0}}}]},
        ],
        "call_paths": {"transports": ["relay.*"], "worker_limit": 10},
        "call_log": {"failures": 3, "slowest": 2, "slowest_for_ms": 1_000, "messages": true},
        "ref_limit": 10,
        "worker_limit": 10,
    }))
}

fn plan(running: &Running, event: Event) -> PlanId {
    running.plans[event as usize]
}

/// Sends an event from a process.
fn from(running: &Running, process: u64, event: Event, given: &[Given<'_>]) {
    let outcome = send_with(plan(running, event), process, given, &Details::default());
    assert!(matches!(outcome, RecordOutcome::Recorded | RecordOutcome::Noted(_)), "{outcome:?}");
}

fn count(running: &Running, source: &str, method: &str) -> u64 {
    let family = running.family("calls");
    let counter = &family.layout().counters()[0];
    let series = family
        .series()
        .into_iter()
        .find(|series| telemetry_testing::labels(series) == [source, method]);
    series.map_or(0, |series| counted(&series, counter, &[]))
}

/// A process, and how it calls.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// The pool itself.
    Pool,
    /// A bridge whose commands are known.
    Relay,
    /// A bridge of its own.
    Bridge,
}

/// A call that goes on: its steps are taken one at a time, between those of others.
#[derive(Clone, Debug)]
struct Call {
    caller: Caller,
    process: u64,
    /// The process in which the pool executes; that of the caller itself if it is the same.
    executes: u64,
    step: usize,
}

impl Call {
    const STEPS: usize = 5;

    fn advance(&mut self, running: &Running) {
        let worker = format!("w{}", self.process);
        let command = match self.caller {
            Caller::Relay => "relay.call",
            Caller::Pool | Caller::Bridge => "predict",
        };
        let execution = [Given::Text(command), Given::Text(&worker), Given::Flag(true)];
        let is_bridge = matches!(self.caller, Caller::Bridge);
        let method = [Given::Text("search"), Given::Flag(true), Given::Absent];
        match self.step {
            0 if is_bridge => from(running, self.process, Event::CallStart, &method),
            1 => {
                let request = [execution[0], execution[1], Given::Process(self.process)];
                from(running, self.executes, Event::Dispatched, &request);
            }
            2 => from(running, self.executes, Event::ExecutionStart, &execution),
            3 => from(running, self.executes, Event::ExecutionStop, &execution),
            4 if is_bridge => from(running, self.process, Event::CallStop, &method),
            _ => {}
        }
        self.step += 1;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_call_counts_once_however_calls_of_all_paths_are_interleaved(
        callers in vec((prop_oneof![Just(Caller::Pool), Just(Caller::Relay), Just(Caller::Bridge)],
            any::<bool>()), 1..8),
        order in vec(any::<proptest::sample::Index>(), 0..400),
    ) {
        let running = start();
        let mut calls: Vec<_> = callers.iter().enumerate().map(|(number, (caller, apart))| {
            let process = number as u64 + 1;
            let executes = if *apart { process + 100 } else { process };
            Call { caller: *caller, process, executes, step: 0 }
        }).collect();
        let (mut direct, mut bridged) = (0, 0);
        let mut finish = |call: &mut Call| {
            match call.caller {
                Caller::Pool => direct += 1,
                Caller::Bridge => bridged += 1,
                Caller::Relay => {}
            }
            call.step = 0;
        };
        for index in order {
            let call = index.get_mut(&mut calls);
            call.advance(&running);
            if call.step == Call::STEPS {
                finish(call);
            }
        }
        for call in &mut calls {
            while call.step > 0 {
                call.advance(&running);
                if call.step == Call::STEPS {
                    finish(call);
                }
            }
        }
        prop_assert_eq!(count(&running, "pool", "predict"), direct);
        prop_assert_eq!(count(&running, "started", "predict"), direct);
        prop_assert_eq!(count(&running, "pool", "relay.call"), 0);
        prop_assert_eq!(count(&running, "bridge", "search"), bridged);
    }
}

#[test]
fn a_call_of_one_bridge_inside_a_call_of_another_is_the_same_call() {
    let running = start();
    let method = [Given::Text("search"), Given::Flag(true), Given::Absent];
    from(&running, 1, Event::Inner, &method);
    from(&running, 1, Event::CallStart, &method);
    from(&running, 1, Event::Inner, &method);
    from(&running, 2, Event::Inner, &method);
    from(&running, 1, Event::CallStop, &method);
    from(&running, 1, Event::Inner, &method);
    assert_eq!((count(&running, "inner", "search"), count(&running, "bridge", "search")), (3, 1));
}

#[test]
fn a_call_is_over_though_its_end_is_rejected() {
    let running = start();
    let execution = [Given::Text("predict"), Given::Text("w"), Given::Flag(true)];
    let method = [Given::Text("search"), Given::Flag(true), Given::Absent];
    from(&running, 1, Event::CallStart, &method);
    from(&running, 1, Event::ExecutionStop, &execution);
    assert_eq!(count(&running, "pool", "predict"), 0);
    let nothing = [Given::Absent; 3];
    let outcome = send_with(plan(&running, Event::CallStop), 1, &nothing, &Details::default());
    assert!(matches!(outcome, RecordOutcome::Rejected(_)));
    from(&running, 1, Event::ExecutionStop, &execution);
    assert_eq!(count(&running, "pool", "predict"), 1);
}

#[test]
fn a_bridge_takes_a_tool_and_the_first_to_tell_of_a_worker_keeps_it() {
    let running = start();
    let mine = [Given::Text("mine")];
    let other = [Given::Text("other")];
    for (event, given) in [
        (Event::PoolTool, &mine),
        (Event::Tool, &mine),
        (Event::PoolTool, &mine),
        (Event::PoolTool, &other),
        (Event::PoolWorker, &mine),
        (Event::Worker, &mine),
        (Event::PoolWorker, &mine),
        (Event::Worker, &other),
        (Event::PoolWorker, &other),
    ] {
        from(&running, 1, event, given);
    }
    let counts = [("tool", "mine"), ("pool tool", "mine"), ("pool tool", "other")];
    assert_eq!(counts.map(|(source, name)| count(&running, source, name)), [1, 1, 1]);
    let counts = [
        ("pool worker", "mine"),
        ("worker", "mine"),
        ("worker", "other"),
        ("pool worker", "other"),
    ];
    assert_eq!(counts.map(|(source, name)| count(&running, source, name)), [2, 0, 1, 0]);
}

#[test]
fn a_failure_counts_where_its_call_does() {
    let running = start();
    let failed = [Given::Text("predict"), Given::Text("w"), Given::Flag(false)];
    let call = [Given::Text("search"), Given::Flag(false), Given::Number(5_000)];
    from(&running, 1, Event::CallStart, &call);
    from(&running, 1, Event::ExecutionStart, &failed);
    from(&running, 1, Event::ExecutionStop, &failed);
    running.time.store(7, std::sync::atomic::Ordering::Relaxed);
    let details = Details {
        message: b"no such thing",
        worker_id: b"w",
        correlation_id: b"c-1",
        ..Details::default()
    };
    send_with(plan(&running, Event::CallStop), 1, &call, &details);
    let errors = Errors::new(&running.instance, Window::SinceStart, moment(8));
    assert_eq!((errors.errors, errors.by_method.len()), (1, 1));
    let method = &errors.by_method[0];
    assert_eq!((&*method.method, &*method.reasons[0].reason), ("search", "unsuccessful"));
    let [failure] = &errors.last_failures[..] else { panic!("one failure") };
    assert_eq!(
        (&*failure.method, failure.at_unix_ms, failure.duration_us),
        ("search", 1_000_007, Some(5.0))
    );
    assert_eq!(failure.message.as_deref(), Some("no such thing"));
    assert_eq!(
        (failure.worker_id.as_deref(), failure.correlation_id.as_deref()),
        (Some("w"), Some("c-1"))
    );
    assert_eq!((failure.session_id.as_deref(), failure.trace_id.as_deref()), (None, None));
}

/// A bridge and a pool whose executions tell the router how workers do.
fn start_with_router() -> Running {
    let family = |name: &str, labels: Value, dimensions: Value| {
        json!({"name": name, "role": role(name), "labels": labels, "histograms": [], "digits": 2, "series_limit": 100,
            "counters": [{"name": name, "dimensions": dimensions}]})
    };
    let kinds = json!([{"name": "kind", "values": ["unsuccessful"]}]);
    let success = json!({"flag": {"default": true}});
    let is_internal = json!({"flag": {"default": false}});
    Running::start(json!({
        "families": [
            family("spikes", json!(["method", "python_class"]), json!([])),
            family("dspex.bridge.error", json!(["reason"]), kinds),
        ],
        "plans": [
            {"event": "call.start", "fields": [text(true)],
                "steps": [{"enter": {"operation": "call"}}]},
            {"event": "execution.stop",
                "fields": [text(true), text(true), success, measurement(true), is_internal],
                "claim": {"execution": {"command": 0, "worker": 1, "phase": "end"}},
                "steps": [
                    {"failure": {"unless": 2, "labels": [{"field": 0}, {"constant": "C"}],
                        "kind": {"constant": "unsuccessful"}, "otherwise": "unsuccessful",
                        "claimed": true, "spikes": "spikes", "errors": ["dspex.bridge.error"]}},
                    {"completion": {"unless": 4, "command": 0, "worker": 1, "duration": 3,
                        "success": 2}},
                ]},
            {"event": "call.stop",
                "fields": [text(true), text(true), success, measurement(true)],
                "steps": [
                    {"completion": {"command": 0, "worker": 1, "duration": 3, "success": 2}},
                    {"leave": {"operation": "call"}},
                ]},
        ],
        "ref_limit": 0,
        "worker_limit": 10,
        "router": {
            "choices": 2, "half_life_ms": 5_000, "error_penalty": 10.0, "exploration": 0,
            "slow_start_ms": 0,
            "ejection": {"failures": null, "error_rate": 1.0, "base_ms": 0, "longest_ms": 0,
                "share": 0.0},
            "command_limit": 8, "sticky_limit": 8, "worker_limit": 10, "metrics_limit": 8,
        },
    }))
}

#[test]
fn the_router_learns_of_executions_and_of_no_failure_that_is_the_callers() {
    let running = start_with_router();
    running.instance.put_workers(["w"].into_iter(), 1);
    let executed = |process: u64, is_internal: bool, success: bool, is_callers_fault: bool| {
        let given = [
            Given::Text("predict"),
            Given::Text("w"),
            Given::Flag(success),
            Given::Number(5_000),
            Given::Flag(is_internal),
        ];
        let details = Details { is_callers_fault, ..Details::default() };
        send_with(running.plans[1], process, &given, &details);
        let [worker] = &running.instance.router().explain("predict", 1).candidates[..] else {
            panic!("one worker")
        };
        let errors = Errors::new(&running.instance, Window::SinceStart, moment(1)).errors;
        (worker.successes, worker.failures, errors)
    };
    assert_eq!(executed(2, false, true, false), (1, 0, 0));
    assert_eq!(executed(2, false, false, false), (1, 1, 1));
    assert_eq!(executed(2, false, false, true), (1, 1, 2), "the caller's fault");
    assert_eq!(executed(2, true, false, false), (1, 1, 3), "none that the router asked for");
    // The failure is one of the bridge's call, which counts it.
    send_with(running.plans[0], 1, &[Given::Text("search")], &Details::default());
    assert_eq!(executed(1, false, false, false), (1, 2, 3), "carries a call");
}

#[test]
fn the_router_learns_once_of_a_call_whose_end_names_the_worker() {
    let running = start_with_router();
    running.instance.put_workers(["w"].into_iter(), 1);
    let worker = [Given::Text("search"), Given::Text("w"), Given::Flag(true), Given::Number(5_000)];
    let enter = || _ = send(running.plans[0], &[Given::Text("search")]);
    let execute = || _ = send(running.plans[1], &[&worker[..], &[Given::Flag(false)]].concat());
    let end = || _ = send(running.plans[2], &worker);
    let learned = || running.instance.router().explain("search", 1).candidates[0].successes;
    // The execution comes first, and nobody knows yet that the bridge names workers.
    enter();
    execute();
    assert_eq!(learned(), 1);
    end();
    assert_eq!(learned(), 1);
    enter();
    execute();
    assert_eq!(learned(), 1);
    end();
    assert_eq!(learned(), 2);
    enter();
    end();
    assert_eq!(learned(), 3, "carried by no execution");
}

#[test]
fn the_router_learns_of_calls_where_there_is_no_pool_of_which_events_tell() {
    let running = start_with_router();
    running.instance.put_workers(["w"].into_iter(), 1);
    running.instance.tick(moment(10_000));
    let worker = [Given::Text("search"), Given::Text("w"), Given::Flag(true), Given::Number(5_000)];
    send(running.plans[2], &worker);
    let candidates = running.instance.router().explain("search", 1).candidates;
    assert_eq!(candidates[0].successes, 1);
}

#[test]
fn the_slowest_calls_are_in_the_report() {
    let running = start();
    for (method, duration) in [("a", 5_000), ("b", 9_000), ("c", 7_000), ("d", 1_000)] {
        let call = [Given::Text(method), Given::Flag(true), Given::Number(duration)];
        from(&running, 1, Event::CallStop, &call);
    }
    let slowest = |now| {
        let report = Report::new(&running.instance, Window::SinceStart, moment(now));
        report.slowest.into_iter().map(|call| (call.method, call.failed)).collect::<Vec<_>>()
    };
    assert_eq!(slowest(1), [("b".to_owned(), false), ("c".to_owned(), false)]);
    running.instance.tick(moment(1_000));
    assert_eq!(slowest(1_001), []);
}

#[test]
fn what_is_known_of_single_calls_is_forgotten_with_a_reset() {
    let running = start();
    let call = [Given::Text("search"), Given::Flag(false), Given::Number(5_000)];
    from(&running, 1, Event::CallStop, &call);
    running.instance.reset(moment(1));
    let errors = Errors::new(&running.instance, Window::SinceStart, moment(2));
    assert!(errors.last_failures.is_empty() && errors.by_method.is_empty());
}

#[test]
fn a_level_is_the_last_value_in_its_unit() {
    let running = start();
    let celsius = plan(&running, Event::Celsius);
    for (value, device) in [(405, "a"), (415, "a"), (1, "b")] {
        send(celsius, &[Given::Number(value), Given::Text(device)]);
    }
    send(celsius, &[Given::Absent, Given::Text("a")]);
    let scrape = Scrape { format: Format::Text, created: false, scalars: Vec::new() };
    let mut out = Vec::new();
    render(&running.instance, &scrape, &mut out);
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("celsius")).collect();
    assert_eq!(lines, ["celsius{device=\"a\"} 41.5"]);
    running.instance.reset(moment(1));
    let mut out = Vec::new();
    render(&running.instance, &scrape, &mut out);
    assert!(!String::from_utf8(out).unwrap().contains("celsius{"));
}
