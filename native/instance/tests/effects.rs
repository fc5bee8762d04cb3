//! Effects take place with the fields that they need, and without one of them not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use serde_json::{Value, json};
use telemetry_recording::details::Details;
use telemetry_testing::{Given, Running, measurement, send, send_with, text};

/// A name, the fields of an event, its step, what is given for the fields, and those that the step needs.
type Case<'a> = (&'a str, Value, Value, &'a [Given<'a>], &'a [usize]);

/// Each event has a first field that nothing needs and that is never there, so that no effect takes it for its own.
fn start(steps: &[(Value, Value)]) -> Running {
    let plan =
        |(fields, step): &(Value, Value)| json!({"event": "e", "fields": fields, "steps": [step]});
    Running::start(json!({
        "families": [],
        "plans": steps.iter().map(plan).collect::<Vec<_>>(),
        "ref_limit": 10,
        "worker_limit": 10,
        "router": {
            "choices": 2, "half_life_ms": 5_000, "error_penalty": 10.0, "exploration": 0, "slow_start_ms": 0,
            "ejection": {"failures": null, "error_rate": 1.0, "base_ms": 0, "longest_ms": 0, "share": 0.0},
            "command_limit": 8, "sticky_limit": 8, "worker_limit": 8, "metrics_limit": 8,
        },
    }))
}

/// All that effects can change here, as text.
fn state(running: &Running) -> String {
    let instance = &running.instance;
    let info = instance.info();
    let router = instance.router();
    format!(
        "{} {} {} {:?} {:?}",
        info.refs,
        info.workers,
        instance.workers().contains("w"),
        router.report(1),
        router.explain("command", 1),
    )
}

#[test]
fn an_effect_takes_place_with_all_that_it_needs_and_not_without() {
    let two = || json!([text(false), text(false), text(false)]);
    let waited = || json!([text(false), measurement(false), text(false)]);
    let completed = || json!([text(false), text(true), text(false), measurement(true)]);
    let (w, n) = (Given::Text("w"), Given::Number(7_000_000));
    let cases: [Case<'_>; 5] = [
        (
            "worker_up",
            two(),
            json!({"worker_up": {"id": 2}}),
            &[Given::Absent, Given::Absent, w],
            &[2],
        ),
        (
            "lives",
            two(),
            json!({"lives": {"reference": 1, "worker": 2}}),
            &[Given::Absent, Given::Text("r"), w],
            &[1, 2],
        ),
        (
            "bind",
            two(),
            json!({"bind": {"reference": 1, "class": 2}}),
            &[Given::Absent, Given::Text("r"), w],
            &[1, 2],
        ),
        (
            "queued",
            waited(),
            json!({"queued": {"field": 1, "worker": 2}}),
            &[Given::Absent, n, w],
            &[1, 2],
        ),
        (
            "completion",
            completed(),
            json!({"completion": {"command": 1, "worker": 2, "duration": 3}}),
            &[Given::Absent, Given::Text("command"), w, n],
            &[2],
        ),
    ];
    for (name, fields, step, given, needed) in cases {
        let known = (json!([text(true)]), json!({"worker_up": {"id": 0}}));
        let running = start(&[known, (fields, step)]);
        if name != "worker_up" {
            send(running.plans[0], &[w]);
        }
        let before = state(&running);
        for &without in needed {
            let mut given = given.to_vec();
            given[without] = Given::Absent;
            send_with(running.plans[1], 0, &given, &Details::default());
            assert_eq!(state(&running), before, "{name} without {without}");
        }
        send_with(running.plans[1], 0, given, &Details::default());
        assert_ne!(state(&running), before, "{name}");
    }
}

#[test]
fn a_step_that_is_not_known_or_says_what_is_not_there_is_refused() {
    let refused = |step: Value| {
        let definition = serde_json::from_value(json!({
            "families": [], "ref_limit": 1, "worker_limit": 1, "usage_capacity": 1,
            "plans": [{"event": "e", "fields": [text(true)], "steps": [step]}],
            "windows": {"slice_ms": 1, "history_ms": 1, "memory_limit": 1},
            "alerts": telemetry_testing::alerts(),
        }))
        .unwrap();
        let clock = std::sync::Arc::new(|| telemetry_testing::NOW);
        telemetry_instance::instance::Instance::start(definition, clock).err().unwrap().to_string()
    };
    for (step, named) in [
        (json!({"worker_upp": {"id": 0}}), "step worker_upp"),
        (json!({"worker_up": {"id": 1}}), "field 1"),
        (json!({"worker_up": {"ids": 0}}), "worker_up: missing field `id`"),
        (json!({"set": {"gauge": "g", "labels": [], "value": {"constant": 1}}}), "gauge g"),
        (json!({"completion": {"command": 0, "worker": 0, "duration": 0, "success": 0}}), "flag 0"),
    ] {
        let error = refused(step);
        assert!(error.contains(named), "{error}");
    }
}
