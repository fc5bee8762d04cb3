//! Events that feed measures, and what a scrape has of them in each format.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use prost::Message;
use serde_json::json;
use telemetry_exposition::message::{MetricFamily, MetricType};
use telemetry_exposition::{Format, Scrape, render};
use telemetry_recording::family::Family;
use telemetry_recording::measure::{Number, Total};
use telemetry_recording::observation::{Given, Observed, Refusal, Tag};
use telemetry_reports::report::Report;
use telemetry_testing::measured::{distribution, measure, send, start_with};
use telemetry_testing::{Running, moment};
use telemetry_windows::window::Window;

fn start() -> Running {
    let source = || json!({"value": {"measurement": "v"}});
    Running::start(json!({
        "families": [{
            "name": "metrics of e", "labels": ["t"], "counters": [], "histograms": [],
            "digits": 2, "series_limit": 10,
            "measures": [
                measure("q", json!({"summary": {"fraction_bits": 16}})),
                measure("d", distribution(&[1.0])),
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
    running.instance.reset(moment(1));
    assert!(running.instance.info().metrics_rejected.is_empty());
}

#[test]
fn protobuf_has_summaries_and_counters_by_their_whole_names() {
    let running = start();
    for value in 1..=100 {
        send(&running, Given::Number(Number::Integer(value)), Tag::Text(b"t"), false);
    }
    let text = ["d_bucket{t=\"t\",le=\"+Inf\"} 100", "d_sum{t=\"t\"} 5050", "d_count{t=\"t\"} 100"];
    assert_eq!(text.map(|line| count(&running, line)), [1; 3]);
    let bytes = rendered(&running, Format::Protobuf);
    let mut rest = &bytes[..];
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    let family = |name: &str| families.iter().find(|family| family.name() == name).unwrap();
    assert!(families.iter().all(|family| family.name() != "dspex_telemetry_samples_left_out"));
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

fn send_number(running: &Running, number: f64) {
    send(running, Given::Number(Number::Float(number)), Tag::Text(b""), false);
}

#[test]
fn a_sum_is_a_counter_if_it_only_grows_and_a_gauge_otherwise() {
    let sum = |name: &str, monotonic: bool| measure(name, json!({"sum": {"monotonic": monotonic}}));
    let running = start_with(&[], vec![sum("up", true), sum("any", false)]);
    send_number(&running, 2.5);
    let bytes = rendered(&running, Format::Protobuf);
    let mut rest = &bytes[..];
    let mut read = || MetricFamily::decode_length_delimited(&mut rest).unwrap();
    let [first, second] = [read(), read()];
    let (up, any) = if first.name() == "up" { (first, second) } else { (second, first) };
    assert_eq!((up.r#type(), any.r#type()), (MetricType::Counter, MetricType::Gauge));
    assert_eq!(up.metric[0].counter.as_ref().unwrap().value(), 2.5);
    assert_eq!(any.metric[0].gauge.as_ref().unwrap().value(), 2.5);
}

#[test]
fn sums_of_huge_numbers_stay_finite() {
    let summary = measure("q", json!({"summary": {"fraction_bits": 16}}));
    let sum = measure("s", json!({"sum": {"monotonic": true}}));
    let running = start_with(&[], vec![summary, sum]);
    send_number(&running, 1e308);
    send_number(&running, 1e308);
    let report = Report::new(&running.instance, Window::SinceStart, moment(1));
    assert_eq!(report.summaries[0].sum, Total::Float(f64::MAX));
    assert!(report.summaries[0].mean.is_finite());
    // And come down again.
    send_number(&running, -1e308);
    let report = Report::new(&running.instance, Window::SinceStart, moment(1));
    assert_eq!(report.summaries[0].sum, Total::Float(f64::MAX - 1e308));
    assert!(!String::from_utf8(rendered(&running, Format::Text)).unwrap().contains("Inf\n"));
}

#[test]
fn more_summaries_than_a_series_can_hold_are_refused() {
    let summaries = |count: usize| -> Vec<_> {
        (0..count)
            .map(|n| measure(&format!("q{n}"), json!({"summary": {"fraction_bits": 0}})))
            .collect()
    };
    let family = |count| {
        serde_json::from_value(json!({
            "name": "f", "labels": [], "counters": [], "histograms": [], "digits": 2,
            "series_limit": 10, "measures": summaries(count),
        }))
        .unwrap()
    };
    let refused = Family::new(family(600)).err().unwrap().to_string();
    let allowed = refused.split(' ').rev().find_map(|word| word.parse::<usize>().ok()).unwrap();
    assert!(refused.contains("1200 histograms"), "{refused}");
    // A summary takes two.
    let running = start_with(&[], summaries(allowed / 2));
    for n in 0..30 {
        send_number(&running, f64::from(1 << n));
    }
    let report = Report::new(&running.instance, Window::SinceStart, moment(1));
    assert_eq!(report.summaries.len(), allowed / 2);
    assert!(report.summaries.iter().all(|row| row.count == 30));
    assert!(Family::new(family(allowed / 2 + 1)).is_err());
}

/// OpenMetrics wants a sum where no number is below zero, and a bound of zero says that none need be.
#[test]
fn a_distribution_has_a_sum_in_openmetrics_unless_a_bound_is_negative() {
    let bounds = [("below", -1.0), ("zero", 0.0), ("above", 1.0)];
    let measures = bounds.map(|(name, first)| measure(name, distribution(&[first])));
    let running = start_with(&[], measures.into());
    send_number(&running, 2.0);
    let text = String::from_utf8(rendered(&running, Format::OpenMetrics)).unwrap();
    let has_sum = |name: &str| text.lines().any(|line| line.starts_with(&format!("{name}_sum 2")));
    assert_eq!(bounds.map(|(name, _)| has_sum(name)), [false, true, true]);
}
