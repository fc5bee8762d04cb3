//! Why events are rejected, and that a rejected event changes nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use proptest::prelude::*;
use serde_json::json;
use telemetry_recording::field::Reject;
use telemetry_recording::local::RecordOutcome;
use telemetry_testing::{Given, Running, counted, send};

/// One plan that has a field of every kind: a duration in microseconds, an optional size from the
/// metadata, a method, an optional reference, success, cached (false by default) and a kind.
fn start() -> Running {
    let flag = |default: Option<bool>| json!({"flag": {"default": default}});
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method"],
            "counters": [{"name": "total", "dimensions": [
                {"name": "success", "values": ["true", "false"]},
                {"name": "kind", "values": ["error", "other"]},
            ]}],
            "histograms": [
                {"name": "duration", "unit": "nanosecond", "bounds": [1_000]},
                {"name": "size", "unit": "byte", "bounds": [10]},
            ],
            "digits": 2,
            "series_limit": 10,
        }],
        "plans": [{
            "event": "call.stop",
            "fields": [
                {"measurement": {
                    "scale": {"numerator": 1_000, "denominator": 1},
                    "required": true,
                    "metadata": false,
                }},
                {"measurement": {
                    "scale": {"numerator": 1, "denominator": 1},
                    "required": false,
                    "metadata": true,
                }},
                telemetry_testing::text(true),
                flag(None),
                {"choice": {"values": ["error", "other"]}},
            ],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 2}],
                "counts": [{"counter": "total", "dimensions": [{"field": 3}, {"field": 4}]}],
                "observes": [
                    {"histogram": "duration", "field": 0},
                    {"histogram": "size", "field": 1},
                ],
            }}],
        }],
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

const GOOD: [Given<'static>; 5] = [
    Given::Number(5),
    Given::Number(7),
    Given::Text("ask"),
    Given::Flag(true),
    Given::Text("error"),
];

fn with(at: usize, given: Given<'static>) -> [Given<'static>; 5] {
    let mut event = GOOD;
    event[at] = given;
    event
}

fn rejections(running: &Running) -> Vec<(&'static str, u64)> {
    let info = running.instance.info();
    info.rejected.iter().map(|rejected| (rejected.reason, rejected.count)).collect()
}

#[test]
fn each_defect_is_counted_under_its_reason() {
    for (event, reason) in [
        (with(0, Given::Absent), Reject::MissingMeasurement),
        (with(0, Given::Text("5")), Reject::InvalidMeasurement),
        (with(0, Given::Negative), Reject::NegativeMeasurement),
        (with(0, Given::Number(u64::MAX)), Reject::OversizedMeasurement),
        // Fits as microseconds, but not as nanoseconds.
        (with(0, Given::Number(i64::MAX as u64)), Reject::OversizedMeasurement),
        (with(1, Given::Negative), Reject::NegativeMeasurement),
        (with(2, Given::Absent), Reject::MissingMetadata),
        (with(2, Given::Number(1)), Reject::InvalidMetadata),
        (with(3, Given::Absent), Reject::MissingMetadata),
        (with(3, Given::Text("true")), Reject::InvalidMetadata),
        (with(4, Given::Absent), Reject::MissingMetadata),
    ] {
        let running = start();
        assert_eq!(send(running.plans[0], &event), RecordOutcome::Rejected(reason), "{event:?}");
        assert_eq!(rejections(&running), [(reason.name(), 1)]);
        assert_eq!(running.family("calls").series_count(), 0, "{event:?} left a series");
    }
}

#[test]
fn the_largest_measurement_is_one_below_two_to_the_63rd_in_stored_units() {
    let running = start();
    let most = i64::MAX as u64;
    for (event, outcome) in [
        (with(1, Given::Number(most)), RecordOutcome::Recorded),
        (with(1, Given::Number(most + 1)), RecordOutcome::Rejected(Reject::OversizedMeasurement)),
        (with(0, Given::Number(most / 1_000)), RecordOutcome::Recorded),
        (
            with(0, Given::Number(most / 1_000 + 1)),
            RecordOutcome::Rejected(Reject::OversizedMeasurement),
        ),
    ] {
        assert_eq!(send(running.plans[0], &event), outcome, "{event:?}");
    }
}

#[test]
fn an_absent_optional_measurement_is_skipped() {
    let running = start();
    assert_eq!(send(running.plans[0], &with(1, Given::Absent)), RecordOutcome::Recorded);
    let series = &running.family("calls").series()[0];
    assert_eq!((series.sample_count(0), series.sample_count(1)), (1, 0));
}

#[test]
fn an_unknown_word_counts_as_the_last() {
    let running = start();
    send(running.plans[0], &with(4, Given::Text("whatever")));
    let family = running.family("calls");
    let series = &family.series()[0];
    assert_eq!(counted(series, &family.layout().counters()[0], &["true", "other"]), 1);
}

#[test]
fn a_reset_forgets_rejections() {
    let running = start();
    send(running.plans[0], &with(0, Given::Negative));
    running.instance.reset(telemetry_testing::NOW);
    assert_eq!(rejections(&running), []);
}

/// The bad field is the last one that is looked at, and every kind of step comes after it.
#[test]
fn a_rejected_event_leaves_nothing_of_itself_anywhere() {
    let running = Running::start(json!({
        "families": [{
            "name": "workers",
            "labels": ["python_class"],
            "counters": [{"name": "total", "dimensions": [
                {"name": "kind", "values": ["error", "other"]},
            ]}],
            "histograms": [{"name": "startup", "unit": "nanosecond", "bounds": []}],
            "digits": 2,
            "series_limit": 10,
        }],
        "plans": [{
            "event": "spawned",
            "fields": [
                telemetry_testing::measurement(true),
                telemetry_testing::text(true),
                telemetry_testing::text(true),
                {"choice": {"values": ["error", "other"]}},
            ],
            "steps": [
                {"bind": {"reference": 1, "class": 2}},
                {"worker_up": {"id": 1}},
                {"feed": {
                    "family": "workers",
                    "labels": [{"field": 2}],
                    "counts": [{"counter": "total", "dimensions": [{"field": 3}]}],
                    "observes": [{"histogram": "startup", "field": 0}],
                }},
            ],
        }],
        "ref_limit": 10,
        "worker_limit": 10,
    }));
    let state = || {
        let info = running.instance.info();
        let counts: Vec<_> = running
            .family("workers")
            .series()
            .iter()
            .map(|series| (telemetry_testing::labels(series), series.sample_count(0)))
            .collect();
        (info.refs, info.workers, info.memory_bytes, counts)
    };
    let event = |worker: &'static str, class: &'static str, kind| {
        [Given::Number(1), Given::Text(worker), Given::Text(class), kind]
    };
    let empty = state();
    let bad = event("w1", "A", Given::Flag(true));
    assert_eq!(send(running.plans[0], &bad), RecordOutcome::Rejected(Reject::InvalidMetadata));
    assert_eq!(state(), empty);

    let good = event("w1", "A", Given::Text("error"));
    assert_eq!(send(running.plans[0], &good), RecordOutcome::Recorded);
    let before = state();
    assert_eq!((before.0, before.1, before.3.len()), (1, 1, 1));
    for bad in [event("w1", "B", Given::Absent), event("w2", "A", Given::Number(1))] {
        assert!(matches!(send(running.plans[0], &bad), RecordOutcome::Rejected(_)));
        assert_eq!(state(), before);
    }
    let rejected: u64 = rejections(&running).iter().map(|(_, count)| count).sum();
    assert_eq!(rejected, 3);
}

fn given() -> impl Strategy<Value = Given<'static>> {
    prop_oneof![
        Just(Given::Absent),
        Just(Given::Negative),
        any::<u64>().prop_map(Given::Number),
        (0..1_000u64).prop_map(Given::Number),
        Just(Given::Text("ask")),
        Just(Given::Text("error")),
        any::<bool>().prop_map(Given::Flag),
        Just(Given::Bytes(b"\xFF")),
    ]
}

proptest! {
    #![proptest_config(telemetry_testing::cases(64))]

    #[test]
    fn an_event_counts_wholly_or_as_one_rejection(
        events in prop::collection::vec(prop::array::uniform5(given()), 1..100)
    ) {
        let running = start();
        let mut recorded = 0;
        for event in &events {
            if send(running.plans[0], event) == RecordOutcome::Recorded {
                recorded += 1;
            }
        }
        let rejected: u64 = rejections(&running).iter().map(|(_, count)| count).sum();
        prop_assert_eq!(recorded + rejected, events.len() as u64);

        let family = running.family("calls");
        let total = &family.layout().counters()[0];
        let counted: u64 = family
            .series()
            .iter()
            .flat_map(|series| total.cells().map(|cell| series.lanes().sum(cell)))
            .sum();
        let samples: u64 = family.series().iter().map(|series| series.sample_count(0)).sum();
        prop_assert_eq!((counted, samples), (recorded, recorded));
    }
}
