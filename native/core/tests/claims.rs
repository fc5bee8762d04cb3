//! What several sources tell of counts once, and levels are set by the steps that say so.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{Given, Running, counted, measurement, send, text};
use serde_json::{Value, json};
use telemetry_core::exposition::{Format, Scrape, render};
use telemetry_core::local::Outcome;

/// Calls that two sources count, the first of which takes them, and a level.
fn start() -> Running {
    let feed = |source: u8, takes: bool| {
        json!({"feed": {
            "family": "calls",
            "labels": [{"constant": source.to_string()}],
            "counts": [{"counter": "calls", "dimensions": []}],
            "observes": [],
            "unless": 0,
            "or_unless": 1,
            "claim": {"group": "calls", "source": source, "takes": takes},
        }})
    };
    let flag = json!({"flag": {"default": false}});
    let plan =
        |event: &str, step: Value| json!({"event": event, "fields": [flag, flag], "steps": [step]});
    let temperature = json!({"set": {
        "level": "celsius",
        "labels": [{"field": 1}],
        "value": {"field": 0},
    }});
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["source"],
            "counters": [{"name": "calls", "dimensions": []}],
            "histograms": [],
            "digits": 2,
            "series_limit": 10,
        }],
        "levels": [{"name": "celsius", "labels": ["device"], "divisor": 10.0}],
        "level_limit": 1,
        "plans": [
            plan("bridge", feed(1, true)),
            plan("pool", feed(2, false)),
            {
                "event": "temperature",
                "fields": [measurement(false), text(true)],
                "steps": [temperature],
            },
        ],
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

fn told(running: &Running, plan: usize, flags: [bool; 2]) {
    let flags = flags.map(Given::Flag);
    assert_eq!(send(running.plans[plan], &flags), Outcome::Recorded);
}

/// How many calls each source has counted.
fn counts(running: &Running) -> [u64; 2] {
    let family = running.family("calls");
    let counter = &family.layout().counters()[0];
    ["1", "2"].map(|source| {
        let series = family.series().into_iter().find(|series| common::labels(series) == [source]);
        series.map_or(0, |series| counted(&series, counter, &[]))
    })
}

#[test]
fn the_pool_counts_until_the_bridge_does() {
    let running = start();
    told(&running, 1, [false; 2]);
    told(&running, 1, [false; 2]);
    told(&running, 0, [false; 2]);
    told(&running, 1, [false; 2]);
    told(&running, 0, [false; 2]);
    assert_eq!(counts(&running), [2, 2]);
}

#[test]
fn a_step_that_does_not_apply_claims_nothing() {
    let running = start();
    told(&running, 0, [true, false]);
    told(&running, 0, [false, true]);
    told(&running, 1, [false; 2]);
    assert_eq!(counts(&running), [0, 1]);
}

#[test]
fn a_level_is_the_last_value_in_its_unit() {
    let running = start();
    for (value, device) in [(405, "a"), (415, "a"), (1, "b")] {
        send(running.plans[2], &[Given::Number(value), Given::Text(device)]);
    }
    send(running.plans[2], &[Given::Absent, Given::Text("a")]);
    let scrape = Scrape { format: Format::Text, created: false, scalars: Vec::new() };
    let mut out = Vec::new();
    render(&running.instance, &scrape, &mut out);
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("celsius")).collect();
    assert_eq!(lines, ["celsius{device=\"a\"} 41.5"]);
    running.instance.reset(common::moment(1));
    let mut out = Vec::new();
    render(&running.instance, &scrape, &mut out);
    assert!(!String::from_utf8(out).unwrap().contains("celsius{"));
}
