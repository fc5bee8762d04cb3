//! What an OTLP request says is what was recorded: all of it each time, or as deltas that add up to it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use serde_json::json;
use telemetry_cache::call::{Call, CallOutcome, Target};
use telemetry_common::moment::Moment;
use telemetry_common::scalar::{Kind, Sample, Scalar};
use telemetry_exposition::otlp::message::metric::Data;
use telemetry_exposition::otlp::message::{
    AggregationTemporality, ExponentialHistogramDataPoint, ExportMetricsServiceRequest,
    HistogramDataPoint, KeyValue, Metric, NumberDataPoint, any_value, exemplar, number,
};
use telemetry_exposition::otlp::{Attribute, Export, HistogramKind, Temporality, export};
use telemetry_recording::details::Details;
use telemetry_recording::local;
use telemetry_recording::notes::Notes;
use telemetry_router::{Memory, Request, Router};
use telemetry_testing::{Given, Running, cases, measurement, moment, send, text};

/// In nanoseconds; the first two lie in the same HDR bucket.
const BOUNDS: [u64; 4] = [1_000_000, 1_000_001, 2_500_000, 1_000_000_000];

fn start(series_limit: usize) -> Running {
    let flag = json!({"flag": {"default": true}});
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method", "class"],
            "counters": [
                {"name": "calls_total", "help": "Calls.",
                    "dimensions": [{"name": "success", "values": ["true", "false"]}]},
                {"name": "classes_total", "dimensions": [], "dropped_labels": [0]},
            ],
            "histograms": [
                {"name": "duration", "help": "Durations.", "unit": "nanosecond", "bounds": BOUNDS},
            ],
            "digits": 2,
            "series_limit": series_limit,
        }, {
            "name": "quiet",
            "labels": [],
            "counters": [{"name": "quiet_total", "dimensions": []}],
            "histograms": [{"name": "quiet_seconds", "unit": "millisecond", "bounds": [1_500]}],
            "digits": 2,
            "series_limit": 1,
        }],
        "gauges": [{"name": "pool_size", "help": "Workers.", "of": "workers"}],
        "plans": [{
            "event": "call.stop",
            "fields": [measurement(true), text(true), text(true), flag],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 1}, {"field": 2}],
                "counts": [
                    {"counter": "calls_total", "dimensions": [{"field": 3}]},
                    {"counter": "classes_total", "dimensions": []},
                ],
                "observes": [{"histogram": "duration", "field": 0}],
            }}],
            "exemplar": {"field": 0, "labels": ["trace_id", "span_id", "session_id"]},
        }],
        "ref_limit": 0,
        "worker_limit": 0,
        "exports_deltas": true,
        "router": {
            "choices": 2, "half_life_ms": 5_000, "error_penalty": 10.0, "exploration": 0,
            "slow_start_ms": 0,
            "ejection": {"failures": 5, "error_rate": 0.5, "base_ms": 10_000, "longest_ms": 60_000, "share": 0.5},
            "command_limit": 8, "sticky_limit": 8, "worker_limit": 16, "metrics_limit": 8,
        },
    }))
}

fn call(running: &Running, method: &str, duration: u64) {
    let (class, success) = (Given::Text("A"), Given::Flag(!duration.is_multiple_of(3)));
    send(running.plans[0], &[Given::Number(duration), Given::Text(method), class, success]);
}

fn wanted(temporality: Temporality, histogram: HistogramKind) -> Export {
    Export {
        temporality,
        histogram,
        max_buckets: 160,
        resource: vec![
            ("service.name".to_owned(), Attribute::String("test".to_owned())),
            ("shard".to_owned(), Attribute::Int(7)),
        ],
        scope: "dspex_telemetry".to_owned(),
        version: "1.2.3".to_owned(),
        scalars: Vec::new(),
    }
}

type Labels = Vec<(String, String)>;

fn labels(attributes: &[KeyValue]) -> Labels {
    let pair = |pair: &KeyValue| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::String(value) => (pair.key.clone(), value.clone()),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(pair).collect()
}

/// The metrics of a request, which has one scope of one resource.
struct Exported {
    metrics: Vec<Metric>,
    points: u64,
}

impl Exported {
    fn new(running: &Running, export_of: &Export, at_ms: u64) -> Self {
        Self::at(running, export_of, moment(at_ms))
    }

    fn at(running: &Running, export_of: &Export, now: Moment) -> Self {
        let mut bytes = Vec::new();
        let points = export(&running.instance, export_of, now, &mut bytes);
        let request = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
        let [of_resource] = &*request.resource_metrics else { panic!() };
        let attributes = &of_resource.resource.as_ref().unwrap().attributes;
        assert_eq!(attributes.len(), 2);
        assert_eq!(labels(&attributes[..1]), [("service.name".to_owned(), "test".to_owned())]);
        let [of_scope] = &*of_resource.scope_metrics else { panic!() };
        let scope = of_scope.scope.as_ref().unwrap();
        assert_eq!((&*scope.name, &*scope.version), ("dspex_telemetry", "1.2.3"));
        Self { metrics: of_scope.metrics.clone(), points }
    }

    fn cumulative(running: &Running) -> Self {
        Self::new(running, &wanted(Temporality::Cumulative, HistogramKind::Exponential), 0)
    }

    fn delta(running: &Running, at_ms: u64) -> Self {
        Self::new(running, &wanted(Temporality::Delta, HistogramKind::Exponential), at_ms)
    }

    fn data(&self, name: &str) -> Option<&Data> {
        let found = self.metrics.iter().find(|metric| metric.name == name);
        found.map(|metric| metric.data.as_ref().unwrap())
    }

    fn sums(&self, name: &str) -> Vec<&NumberDataPoint> {
        match self.data(name) {
            Some(Data::Sum(sum)) => {
                assert!(sum.is_monotonic);
                sum.data_points.iter().collect()
            }
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn exponential(&self) -> Vec<&ExponentialHistogramDataPoint> {
        match self.data("duration") {
            Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.iter().collect(),
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn explicit(&self) -> Vec<&HistogramDataPoint> {
        match self.data("duration") {
            Some(Data::Histogram(histogram)) => histogram.data_points.iter().collect(),
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }
}

fn value(point: &NumberDataPoint) -> f64 {
    match point.value.unwrap() {
        number::Value::Int(value) => value as f64,
        number::Value::Double(value) => value,
    }
}

/// All that can be added up: counters, and of histograms count, sum and buckets by their upper end in
/// thousandths of an octave.
type Totals = BTreeMap<(String, Labels), f64>;

fn add_to(totals: &mut Totals, exported: &Exported) {
    let mut add = |name: &str, labels: &Labels, more: f64| {
        *totals.entry((name.to_owned(), labels.clone())).or_default() += more;
    };
    for name in ["calls_total", "classes_total", "quiet_total"] {
        for point in exported.sums(name) {
            add(name, &labels(&point.attributes), value(point));
        }
    }
    for metric in exported.metrics.iter().filter(|metric| metric.name == "duration") {
        match metric.data.as_ref().unwrap() {
            Data::ExponentialHistogram(histogram) => {
                for point in &histogram.data_points {
                    let labels = labels(&point.attributes);
                    add("count", &labels, point.count as f64);
                    add("sum", &labels, (point.sum.unwrap() * 1e3).round());
                    let counts = &point.positive.as_ref().unwrap().bucket_counts;
                    let counted = counts.iter().sum::<u64>() + point.zero_count;
                    assert_eq!(counted, point.count);
                    // At the scale that all have at least.
                    for (place, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0)
                    {
                        let index = point.positive.as_ref().unwrap().offset + place as i32;
                        let index = index >> point.scale;
                        add(&format!("octave {index}"), &labels, *count as f64);
                    }
                }
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let labels = labels(&point.attributes);
                    assert_eq!(point.explicit_bounds, BOUNDS.map(|bound| bound as f64 / 1e3));
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                    for (place, count) in point.bucket_counts.iter().enumerate() {
                        add(&format!("bucket {place}"), &labels, *count as f64);
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }
    totals.retain(|_, total| *total != 0.0);
}

fn totals_of<'a>(exports: impl IntoIterator<Item = &'a Exported>) -> Totals {
    let mut totals = Totals::new();
    exports.into_iter().for_each(|exported| add_to(&mut totals, exported));
    totals
}

#[derive(Clone, Debug)]
enum Step {
    Call { method: u8, duration: u64 },
    Export,
    Retire,
}

fn step() -> impl Strategy<Value = Step> {
    let near = BOUNDS.map(|bound| (bound - 2..bound + 3).boxed());
    let duration = near
        .into_iter()
        .fold((0..5_000_000_000_u64).boxed(), |all, near| prop_oneof![4 => all, 1 => near].boxed());
    prop_oneof![
        12 => (0..6_u8, duration).prop_map(|(method, duration)| Step::Call { method, duration }),
        2 => Just(Step::Export),
        1 => Just(Step::Retire),
    ]
}

proptest! {
    #![proptest_config(cases(192))]

    /// Series that are removed, come back, or find no room, and those that go when as many as may be
    /// have gone before, are in it.
    #[test]
    fn deltas_add_up_to_all_that_was_recorded(
        steps in vec(step(), 0..120),
        limit in 1..9_usize,
        explicit in any::<bool>(),
    ) {
        let histogram = if explicit { HistogramKind::Explicit } else { HistogramKind::Exponential };
        let running = start(limit);
        let reference = start(1_000);
        let mut deltas = Vec::new();
        let mut now = 1;
        for step in steps {
            now += 1;
            match step {
                Step::Call { method, duration } => {
                    for running in [&running, &reference] {
                        call(running, &format!("m{method}"), duration);
                    }
                }
                Step::Export => {
                    deltas.push(Exported::new(&running, &wanted(Temporality::Delta, histogram), now));
                }
                Step::Retire => {
                    running.instance.retire_idle(moment(now), 0);
                    now += 1;
                    running.instance.retire_idle(moment(now), 0);
                }
            }
        }
        deltas.push(Exported::new(&running, &wanted(Temporality::Delta, histogram), now + 1));
        // What found no room has lost its name, and nothing else.
        let without_method = |totals: Totals| {
            let mut sums = Totals::new();
            for ((name, labels), total) in totals {
                let others = ["method", "class", "otel_metric_overflow"];
                let kept = labels.into_iter().filter(|(name, _)| !others.contains(&&**name));
                *sums.entry((name, kept.collect())).or_default() += total;
            }
            sums
        };
        let all = Exported::new(&reference, &wanted(Temporality::Cumulative, histogram), 0);
        prop_assert_eq!(without_method(totals_of(&deltas)), without_method(totals_of([&all])));
        if limit >= 6 {
            prop_assert_eq!(totals_of(&deltas), totals_of([&all]));
        }
        // Intervals follow on one another, and no series is twice in one.
        for exported in &deltas {
            let mut seen = Vec::new();
            for point in exported.sums("calls_total") {
                prop_assert!(point.start_time_unix_nano <= point.time_unix_nano);
                let labels = labels(&point.attributes);
                prop_assert!(!seen.contains(&labels), "{:?} twice", labels);
                seen.push(labels);
            }
        }
    }
}

#[test]
fn deltas_add_up_while_events_come_in_and_series_go() {
    const EVENTS: u64 = 60_000;
    for histogram in [HistogramKind::Exponential, HistogramKind::Explicit] {
        let running = start(3);
        let done = AtomicBool::new(false);
        let wanted = wanted(Temporality::Delta, histogram);
        let deltas = std::thread::scope(|scope| {
            let producers: Vec<_> = (0..2_u64)
                .map(|producer| {
                    let running = &running;
                    scope.spawn(move || {
                        for event in 0..EVENTS {
                            let method = format!("m{}", event / 1_000 % 5);
                            call(running, &method, 999_998 + (event + producer) % 5);
                        }
                    })
                })
                .collect();
            let exporter = scope.spawn(|| {
                let mut deltas = Totals::new();
                for now in 1.. {
                    let last = done.load(Relaxed);
                    running.instance.retire_idle(moment(now), 1);
                    add_to(&mut deltas, &Exported::new(&running, &wanted, now));
                    if last {
                        return deltas;
                    }
                }
                unreachable!()
            });
            producers.into_iter().for_each(|producer| producer.join().unwrap());
            done.store(true, Relaxed);
            exporter.join().unwrap()
        });
        let sum = |wanted: &str| -> f64 {
            deltas.iter().filter(|((name, _), _)| name == wanted).map(|(_, total)| total).sum()
        };
        let events = (2 * EVENTS) as f64;
        assert_eq!(sum("calls_total"), events);
        assert_eq!(sum("classes_total"), events);
        if histogram == HistogramKind::Exponential {
            assert_eq!(sum("count"), events);
            assert_eq!(sum("sum"), events * 1e6);
        } else {
            // 999,998 to 1,000,000; 1,000,001; 1,000,002
            let fifths = [3.0, 1.0, 1.0, 0.0, 0.0].map(|fifths| fifths * events / 5.0);
            assert_eq!([0, 1, 2, 3, 4].map(|place| sum(&format!("bucket {place}"))), fifths);
        }
    }
}

#[test]
fn of_series_that_are_gone_as_many_are_told_by_name_as_there_may_be() {
    let running = start(2);
    let call_and_go = |methods: [&str; 2], now: u64| {
        methods.iter().for_each(|method| call(&running, method, 1));
        running.instance.retire_idle(moment(now), 0);
        running.instance.retire_idle(moment(now + 1), 0);
        assert!(running.family("calls").series().is_empty());
    };
    let told = |now: u64| {
        let mut told = BTreeMap::new();
        for point in Exported::delta(&running, now).sums("calls_total") {
            let labels = labels(&point.attributes);
            let method = labels.into_iter().find(|(name, _)| name == "method");
            let method = method.map_or("overflow".to_owned(), |(_, method)| method);
            *told.entry(method).or_default() += value(point) as u64;
        }
        told.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    let named = |counts: &[(&str, u64)]| {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>()
    };
    call_and_go(["a", "b"], 10);
    call_and_go(["c", "d"], 20);
    // One that is known is told as itself, though there is no room.
    call_and_go(["b", "e"], 30);
    assert_eq!(told(40), named(&[("a", 1), ("b", 2), ("overflow", 3)]));
    // What has been told makes room.
    call_and_go(["c", "d"], 50);
    assert_eq!(told(60), named(&[("c", 1), ("d", 1)]));
    assert_eq!(told(70), []);
}

#[test]
fn a_cumulative_request_says_what_was_recorded() {
    let running = start(10);
    let durations = [0, 1, 999_999, 1_000_000, 1_000_001, 7_654_321, 9_000_000_000];
    durations.iter().for_each(|duration| call(&running, "m", *duration));
    let exponential = Exported::cumulative(&running);
    let attributes = labels(&exponential.exponential()[0].attributes);
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(attributes, [of("method", "m"), of("class", "A")]);
    let point = exponential.exponential()[0];
    assert_eq!((point.count, point.zero_count), (7, 1));
    assert_eq!(point.sum, Some(durations.iter().sum::<u64>() as f64 / 1e3));
    assert_eq!((point.min, point.max), (Some(0.0), Some(9e6)));
    let buckets = point.positive.as_ref().unwrap();
    assert!(buckets.bucket_counts.len() <= 160);
    let counted = |temporality: i32| {
        assert_eq!(temporality, i32::from(AggregationTemporality::Cumulative));
    };
    match exponential.data("duration").unwrap() {
        Data::ExponentialHistogram(histogram) => counted(histogram.aggregation_temporality),
        other => panic!("{other:?}"),
    }
    match exponential.data("calls_total").unwrap() {
        Data::Sum(sum) => counted(sum.aggregation_temporality),
        other => panic!("{other:?}"),
    }
    let calls: Vec<_> = exponential
        .sums("calls_total")
        .into_iter()
        .map(|point| (labels(&point.attributes)[2].clone(), value(point)))
        .collect();
    let failed = durations.iter().filter(|duration| duration.is_multiple_of(3)).count() as f64;
    assert_eq!(calls, [(of("success", "true"), 7.0 - failed), (of("success", "false"), failed)]);
    assert_eq!(labels(&exponential.sums("classes_total")[0].attributes), [of("class", "A")]);
    match exponential.data("pool_size").unwrap() {
        Data::Gauge(gauge) => assert_eq!(value(&gauge.data_points[0]), 0.0),
        other => panic!("{other:?}"),
    }

    let wanted = wanted(Temporality::Cumulative, HistogramKind::Explicit);
    let explicit = Exported::new(&running, &wanted, 0);
    let point = explicit.explicit()[0];
    assert_eq!(point.bucket_counts, [4, 1, 0, 1, 1]);
    assert_eq!((point.min, point.max), (Some(0.0), Some(9e6)));

    let units: BTreeMap<_, _> = exponential
        .metrics
        .iter()
        .map(|metric| (&*metric.name, (&*metric.unit, &*metric.description)))
        .collect();
    assert_eq!(units["duration"], ("us", "Durations."));
    assert_eq!(units["calls_total"], ("", "Calls."));
    assert_eq!(units["dspex_telemetry_memory_bytes"].0, "By");
    let points = exponential.metrics.iter().map(|metric| match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => sum.data_points.len(),
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
    });
    assert_eq!(points.sum::<usize>() as u64, exponential.points);
}

#[test]
fn a_quantile_of_exponential_buckets_is_within_a_bucket_of_the_reports() {
    let running = start(10);
    for n in 1..=10_000_u64 {
        call(&running, "m", n * n * 37);
    }
    let exported = Exported::cumulative(&running);
    let point = exported.exponential()[0];
    let base = f64::from(point.scale).exp2().recip().exp2();
    let (series, index) = running.instance.find_histogram("duration", &[b"m", b"A"]).unwrap();
    let snapshot = series.snapshot(index);
    let buckets = point.positive.as_ref().unwrap();
    for quantile in [0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
        let rank = (quantile * point.count as f64).ceil() as u64;
        let mut below = point.zero_count;
        let place = buckets.bucket_counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        let upper = base.powi(buckets.offset + place.unwrap() as i32 + 1);
        let told = snapshot.value_at_quantile(quantile) as f64 / 1e3;
        let error = upper / told;
        assert!(error >= 1.0 - 1e-9 && error <= base, "{quantile}: {upper} against {told}");
    }
}

/// Milliseconds of the tests' calendar.
fn nanoseconds(ms: u64) -> u64 {
    (ms + 1_000_000) * 1_000_000
}

#[test]
fn everything_counts_since_the_start_or_the_last_reset() {
    let running = start(10);
    let starts = |exported: &Exported| {
        let sums = ["calls_total", "quiet_total", "dspex_telemetry_overflow_total"];
        let of_sums = sums.map(|name| exported.sums(name)[0].start_time_unix_nano);
        (of_sums, exported.exponential()[0].start_time_unix_nano)
    };
    call(&running, "m", 5);
    running.instance.tick(moment(2_000));
    assert_eq!(starts(&Exported::cumulative(&running)), ([nanoseconds(0); 3], nanoseconds(0)));
    running.instance.reset(moment(7_000));
    call(&running, "m", 5);
    let exported = Exported::new(
        &running,
        &wanted(Temporality::Cumulative, HistogramKind::Exponential),
        8_000,
    );
    assert_eq!(starts(&exported), ([nanoseconds(7_000); 3], nanoseconds(7_000)));
    assert_eq!(exported.exponential()[0].time_unix_nano, nanoseconds(8_000));
    // What a reset does not touch.
    let dropped = exported.sums("dspex_telemetry_signals_dropped_total")[0];
    assert_eq!(dropped.start_time_unix_nano, nanoseconds(0));
}

#[test]
fn intervals_of_deltas_follow_on_one_another() {
    let running = start(10);
    let mut intervals = Vec::new();
    for at in [1_000, 2_500, 2_600] {
        call(&running, "m", 5);
        let exported = Exported::delta(&running, at);
        let point = exported.exponential()[0];
        intervals.push((point.start_time_unix_nano, point.time_unix_nano));
        assert_eq!(point.count, 1);
        match exported.data("duration").unwrap() {
            Data::ExponentialHistogram(histogram) => {
                assert_eq!(
                    histogram.aggregation_temporality,
                    i32::from(AggregationTemporality::Delta)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let at = [0, 1_000, 2_500, 2_600].map(nanoseconds);
    assert_eq!(intervals, [(at[0], at[1]), (at[1], at[2]), (at[2], at[3])]);
    // Nothing new is nothing told.
    let exported = Exported::delta(&running, 3_000);
    assert_eq!((exported.sums("calls_total").len(), exported.exponential().len()), (0, 0));
    // What was counted before a reset and not exported is forgotten with all else.
    call(&running, "m", 5);
    running.instance.reset(moment(4_000));
    call(&running, "m", 6);
    let exported = Exported::delta(&running, 5_000);
    let point = exported.exponential()[0];
    assert_eq!((point.count, point.start_time_unix_nano), (1, nanoseconds(4_000)));
    // The clock was set back.
    call(&running, "m", 7);
    let exported = Exported::delta(&running, 4_500);
    let point = exported.exponential()[0];
    let interval = (point.start_time_unix_nano, point.time_unix_nano);
    assert_eq!(interval, (nanoseconds(5_000), nanoseconds(5_000)));
}

#[test]
fn the_extremes_of_a_delta_are_exact_or_within_their_bucket() {
    let running = start(10);
    call(&running, "m", 1_000_003);
    call(&running, "m", 50_000_007);
    let extremes = |at| {
        let exported = Exported::delta(&running, at);
        let point = exported.exponential()[0];
        (point.min.unwrap() * 1e3, point.max.unwrap() * 1e3)
    };
    assert_eq!(extremes(1), (1_000_003.0, 50_000_007.0));
    call(&running, "m", 90_000_001);
    let (min, max) = extremes(2);
    assert_eq!(max, 90_000_001.0);
    assert!((min / 90_000_001.0 - 1.0).abs() < 0.01, "{min}");
    call(&running, "m", 20_000_000);
    let (min, max) = extremes(3);
    assert!((min / 20_000_000.0 - 1.0).abs() < 0.01 && (max / 20_000_000.0 - 1.0).abs() < 0.01);
}

#[test]
fn exemplars_lead_to_their_traces() {
    let running = start(10);
    let keep = |duration, labels: &[&[u8]]| {
        let given = [Given::Number(duration), Given::Text("m"), Given::Text("A"), Given::Absent];
        call(&running, "m", duration);
        let [trace_id, span_id, session_id] = labels else { panic!("three labels") };
        let details = Details { trace_id, span_id, session_id, ..Details::default() };
        local::keep(
            running.plans[0],
            Notes::EXEMPLARY,
            |inputs, fields| telemetry_testing::decode(&given, inputs, fields),
            &details,
        );
    };
    running.time.store(10, Relaxed);
    keep(1_500_000, &[b"0102030405060708090a0b0c0d0e0fff", b"00000000000000FE", b"s-1"]);
    keep(9_000_000_000, &[b"not hexadecimal", b"0102", b""]);
    let exported = Exported::delta(&running, 20);
    let [first, second] = &*exported.exponential()[0].exemplars else { panic!() };
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(first.trace_id, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255]);
    assert_eq!(first.span_id, [0, 0, 0, 0, 0, 0, 0, 254]);
    assert_eq!(labels(&first.filtered_attributes), [of("session_id", "s-1")]);
    assert_eq!(first.value, Some(exemplar::Value::Double(1_500.0)));
    assert_eq!(first.time_unix_nano, nanoseconds(10));
    assert!(second.trace_id.is_empty() && second.span_id.is_empty());
    let unusable = [of("trace_id", "not hexadecimal"), of("span_id", "0102")];
    assert_eq!(labels(&second.filtered_attributes), unusable);
    // The next delta has other samples.
    call(&running, "m", 1_500_000);
    assert!(Exported::delta(&running, 30).exponential()[0].exemplars.is_empty());
    assert_eq!(Exported::cumulative(&running).exponential()[0].exemplars.len(), 2);
}

#[test]
fn low_memory_tells_of_the_instance_itself_since_the_start() {
    let running = start(1);
    let wanted = wanted(Temporality::LowMemory, HistogramKind::Exponential);
    for at in 1..=2 {
        call(&running, "a", 5);
        call(&running, "b", 5);
        let exported = Exported::new(&running, &wanted, at);
        let points = exported.exponential();
        assert_eq!([points[0].count, points[1].count], [1, 1]);
        let overflow = exported.sums("dspex_telemetry_overflow_total")[0];
        assert_eq!(value(overflow), at as f64);
        assert_eq!(overflow.start_time_unix_nano, nanoseconds(0));
    }
}

fn route(router: &Router, times: usize) {
    for _ in 0..times {
        let mut memory = Memory::new(fastrand::Rng::with_seed(1), 0);
        let request = Request { command: b"c", key: None };
        router.route(request, 0, &mut memory, |_, _| ()).unwrap();
    }
}

#[test]
fn deltas_of_the_instance_itself_add_up_though_workers_leave_and_resets_come() {
    let running = start(10);
    let router = running.instance.router();
    let mut told = 0.0;
    let mut at = 0;
    let mut export_deltas = || {
        at += 1;
        let exported = Exported::delta(&running, at);
        told += exported.sums("dspex_router_decisions_total").into_iter().map(value).sum::<f64>();
        told
    };
    router.add_worker("w0", 0);
    route(router, 5);
    assert_eq!(export_deltas(), 5.0);
    assert_eq!(export_deltas(), 5.0);
    route(router, 2);
    router.remove_worker("w0");
    router.add_worker("w1", 0);
    route(router, 4);
    assert_eq!(export_deltas(), 11.0);
    // One that leaves comes back.
    router.remove_worker("w1");
    router.add_worker("w1", 0);
    route(router, 1);
    assert_eq!(export_deltas(), 12.0);
    // And some leave for more than have metrics of their own, whatever was told of them before.
    for worker in 2..50 {
        router.put_workers([&*format!("w{worker}")].into_iter(), 0);
        route(router, 3);
        if worker % 5 == 0 {
            assert_eq!(export_deltas(), f64::from(12 + 3 * (worker - 1)));
        }
    }
    assert_eq!(export_deltas(), 156.0);
    running.instance.reset(moment(50));
    route(router, 30);
    assert_eq!(export_deltas(), 186.0);
}

/// What is not named as kept is zero after a reset, or its deltas would be wrong.
#[test]
fn resets_start_counters_again_but_for_those_that_are_known_to_go_on() {
    let running = start(1);
    call(&running, "a", 5);
    call(&running, "b", 5);
    send(running.plans[0], &[Given::Negative, Given::Absent, Given::Absent, Given::Absent]);
    running.instance.router().add_worker("w0", 0);
    route(running.instance.router(), 3);
    running.instance.end_slice(moment(1));
    running.instance.reset(moment(10));
    for metric in Exported::cumulative(&running).metrics {
        if let Some(Data::Sum(sum)) = metric.data {
            for point in sum.data_points.iter().filter(|p| p.start_time_unix_nano > nanoseconds(0))
            {
                assert_eq!(value(point), 0.0, "{}", metric.name);
            }
        }
    }
}

#[test]
fn what_the_caller_gives_comes_with_it() {
    let running = start(10);
    let scalar = |value| Scalar {
        name: "given_total".to_owned(),
        help: "Given.".to_owned(),
        kind: Kind::Counter,
        survives_reset: true,
        samples: vec![Sample { labels: vec![["a".to_owned(), "b".to_owned()]], value }],
    };
    let mut wanted = wanted(Temporality::Delta, HistogramKind::Exponential);
    for (at, (total, delta)) in [(3.0, Some(3.0)), (3.0, None), (7.0, Some(4.0))].iter().enumerate()
    {
        wanted.scalars = vec![scalar(*total)];
        let exported = Exported::new(&running, &wanted, at as u64 + 1);
        let points = exported.sums("given_total");
        assert_eq!(points.first().map(|point| value(point)), *delta);
    }
    running.instance.reset(moment(10));
    wanted.scalars = vec![scalar(9.0)];
    let exported = Exported::new(&running, &wanted, 11);
    assert_eq!(value(exported.sums("given_total")[0]), 2.0, "the caller's go on over a reset");
}

#[test]
fn nothing_is_told_of_a_time_before_it_began_to_be_counted() {
    // Meanwhile the clock was set back.
    let before = Moment { ms: 11_000, unix_ms: 19_000_000 };
    let after = Moment { ms: 10_000, unix_ms: 20_000_000 };
    for begin in [
        |running: &Running, now| running.instance.reset(now),
        |running: &Running, now| running.instance.tick(now),
    ] {
        let running = start(10);
        begin(&running, after);
        call(&running, "m", 5);
        let wanted = wanted(Temporality::Cumulative, HistogramKind::Exponential);
        let exported = Exported::at(&running, &wanted, before);
        let [point] = *exported.sums("classes_total") else { panic!() };
        assert_eq!(point.start_time_unix_nano, 20_000_000_000_000);
        assert_eq!(point.time_unix_nano, 20_000_000_000_000);
    }
}

fn start_with_cache(method_limit: usize) -> Running {
    let metrics = ["joined", "misses", "too_large"]
        .map(|of| json!({"name": of, "help": "", "kind": "counter", "of": of}));
    Running::start(json!({
        "families": [], "plans": [], "ref_limit": 0, "worker_limit": 0, "exports_deltas": true,
        "cache": {
            "cacheable": [{"method": "embed", "class": null}],
            "rule": {
                "min_calls": 0, "min_hit_rate": -1.0, "ttl_ms": 1_000, "calls_for_ttl": 1,
                "max_ttl_factor": 1.0,
            },
            "max_bytes": 1_000, "max_result_bytes": 10, "max_key_bytes": 1_000, "ghost_keys": 1,
            "method_limit": method_limit, "waiter_limit": 0, "error_ttl_ms": 0, "ref_limit": 0,
            "metrics": metrics,
        },
    }))
}

/// What a request says of calls that have joined another, of misses and of results that were too large.
fn told_of_cache(running: &Running, at_ms: u64) -> [f64; 3] {
    let exported = Exported::delta(running, at_ms);
    ["joined", "misses", "too_large"]
        .map(|name| exported.sums(name).into_iter().map(value).sum::<f64>())
}

fn cache_call(running: &Running) -> Call {
    let cache = running.instance.cache().unwrap();
    cache.call(cache.key(b"k"), Target { method: "embed", ..Target::default() }, false)
}

#[test]
fn a_reset_forgets_all_that_the_cache_counts_of_methods_over_the_limit() {
    let running = start_with_cache(0);
    let cache = running.instance.cache().unwrap();
    let first = cache_call(&running);
    for _ in 0..5 {
        cache.waited(&first, 1, 0);
        cache.computed(&first, CallOutcome::Value(&[0; 100]), None, 0);
    }
    assert_eq!(told_of_cache(&running, 1), [5.0, 5.0, 5.0]);
    running.instance.reset(moment(2));
    cache.computed(&cache_call(&running), CallOutcome::Value(&[0; 1]), None, 0);
    assert_eq!(told_of_cache(&running, 3), [0.0, 1.0, 0.0]);
}

#[test]
fn misses_are_told_once_while_calls_join() {
    let running = start_with_cache(10);
    let cache = running.instance.cache().unwrap();
    let first = cache_call(&running);
    for _ in 0..1_000 {
        cache.computed(&first, CallOutcome::Value(&[0; 100]), None, 0);
    }
    let done = AtomicBool::new(false);
    let mut misses = 0.0;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let call = cache_call(&running);
                while !done.load(Relaxed) {
                    cache.waited(&call, 1, 0);
                }
            });
        }
        for at in 1..2_000 {
            let [_, more, _] = told_of_cache(&running, at);
            misses += more;
        }
        done.store(true, Relaxed);
    });
    assert_eq!(misses, 1_000.0);
}
