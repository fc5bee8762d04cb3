//! Events that feed measures, and what a scrape has of them in each format.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod common;

use common::Running;
use prost::Message;
use serde_json::json;
use telemetry_core::exposition::message::{MetricFamily, MetricType};
use telemetry_core::exposition::{Format, Scrape, render};
use telemetry_core::local::observe;
use telemetry_core::measure::Number;
use telemetry_core::observation::{
    Given, Observation, Observed, Refusal, Tag, TagSource, ValueSource,
};

/// An event with one number and one tag.
struct Event<'a> {
    value: Given,
    tag: Tag<'a>,
    is_final: bool,
}

impl<'a> Observation<'a> for Event<'a> {
    fn tag(&self, _source: &TagSource) -> Tag<'a> {
        self.tag
    }

    fn value(&self, source: &ValueSource) -> Given {
        match source {
            ValueSource::One => Given::Number(Number::Integer(1)),
            _ => self.value,
        }
    }

    fn is_final(&self) -> bool {
        self.is_final
    }
}

fn start() -> Running {
    let measure = |name: &str, kind| json!({"name": name, "help": "h", "kind": kind, "bare": true});
    let source = || json!({"value": {"measurement": "v"}});
    Running::start(json!({
        "families": [{
            "name": "metrics of e", "labels": ["t"], "counters": [], "histograms": [],
            "digits": 2, "series_limit": 10,
            "measures": [
                measure("q", json!({"summary": {"fraction_bits": 16}})),
                measure("d", json!({"distribution": {"bounds": [{"value": 1.0, "text": "1"}]}})),
                measure("s", json!({"sum": {"monotonic": true}})),
            ],
        }, {
            "name": "metrics of e (2)", "labels": [], "counters": [], "histograms": [],
            "digits": 2, "series_limit": 10,
            "measures": [measure("c", json!("counter"))],
        }],
        "plans": [],
        "observations": [{
            "event": "e",
            "groups": [
                {"family": "metrics of e (2)", "tags": [], "measures": [{"value": "one"}]},
                {"family": "metrics of e", "tags": [{"metadata": "t"}],
                 "measures": [source(), source(), source()]},
            ],
        }],
        "ref_limit": 1,
        "worker_limit": 1,
    }))
}

fn send(running: &Running, value: Given, tag: Tag<'_>, is_final: bool) -> Observed {
    observe(running.plans[0], &Event { value, tag, is_final })
}

fn rendered(running: &Running, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    render(&running.instance, &Scrape { format, created: false, scalars: vec![] }, &mut out);
    out
}

fn count(running: &Running, line: &str) -> usize {
    let text = String::from_utf8(rendered(running, Format::Text)).unwrap();
    text.lines().filter(|candidate| *candidate == line).count()
}

#[test]
fn an_event_with_a_tag_that_is_no_text_is_recorded_the_second_time_and_once() {
    let running = start();
    let one = Given::Number(Number::Integer(1));
    assert_eq!(send(&running, one, Tag::Other, false), Observed::Untold);
    // Not even in the group that needs no tag.
    assert_eq!(count(&running, "c 1"), 0);
    assert_eq!(send(&running, one, Tag::Text(b"1.5"), true), Observed::Recorded);
    assert_eq!((count(&running, "c 1"), count(&running, "s{t=\"1.5\"} 1")), (1, 1));
    // Without a text for the tag the others get theirs.
    assert_eq!(send(&running, one, Tag::Other, true), Observed::Recorded);
    assert_eq!((count(&running, "c 2"), count(&running, "s{t=\"1.5\"} 1")), (1, 1));
    let refused = running.instance.info().metrics_rejected;
    let refused: Vec<_> = refused.iter().map(|one| (&*one.metric, one.reason, one.count)).collect();
    assert_eq!(
        refused,
        [("q", "invalid_tag", 1), ("d", "invalid_tag", 1), ("s", "invalid_tag", 1)]
    );
    running.instance.stop();
    assert_eq!(send(&running, one, Tag::Text(b"1.5"), true), Observed::Stopped);
}

#[test]
fn what_is_refused_is_counted_and_what_is_dropped_is_not() {
    let running = start();
    let given = Tag::Text(b"t");
    send(&running, Given::Dropped, given, false);
    send(&running, Given::Dropped, Tag::Refused(Refusal::MissingTag), false);
    assert!(running.instance.info().metrics_rejected.is_empty());
    send(&running, Given::Refused(Refusal::Raised), given, false);
    send(&running, Given::Number(Number::Float(1.0)), Tag::Refused(Refusal::MissingTag), false);
    let refused = running.instance.info().metrics_rejected;
    let counts = refused.iter().filter(|one| one.metric == "d").map(|one| (one.reason, one.count));
    assert_eq!(counts.collect::<Vec<_>>(), [("missing_tag", 1), ("raised", 1)]);
    assert_eq!(count(&running, "c 4"), 1);
    // No series came into being.
    assert_eq!(running.family("metrics of e").series_count(), 0);
}

#[test]
fn protobuf_has_summaries_and_counters_by_their_whole_names() {
    let running = start();
    for value in 1..=100 {
        send(&running, Given::Number(Number::Integer(value)), Tag::Text(b"t"), false);
    }
    let bytes = rendered(&running, Format::Protobuf);
    let mut rest = &bytes[..];
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    let family = |name: &str| families.iter().find(|family| family.name() == name).unwrap();
    assert_eq!(family("c").r#type(), MetricType::Counter);
    assert_eq!(family("c").metric[0].counter.as_ref().unwrap().value(), 100.0);
    assert_eq!(family("q").r#type(), MetricType::Summary);
    let summary = family("q").metric[0].summary.as_ref().unwrap();
    assert_eq!((summary.sample_count(), summary.sample_sum()), (100, 5_050.0));
    let quantile = |at: usize| (summary.quantile[at].quantile(), summary.quantile[at].value());
    assert_eq!((quantile(0), quantile(3)), ((0.5, 50.0), (0.99, 99.0)));
    let histogram = family("d").metric[0].histogram.as_ref().unwrap();
    let buckets = histogram.bucket.iter().map(|one| (one.upper_bound(), one.cumulative_count()));
    assert_eq!(buckets.collect::<Vec<_>>(), [(1.0, 1), (f64::INFINITY, 100)]);
    assert_eq!(histogram.schema, None);
}
