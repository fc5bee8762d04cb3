//! Metrics of other definitions over time and over nodes: windows, deltas and merged snapshots say what an
//! exact model of the same events says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};
use telemetry_common::label::LabelSet;
use telemetry_exposition::otlp::message::metric::Data;
use telemetry_exposition::otlp::message::{ExportMetricsServiceRequest, Metric, number};
use telemetry_exposition::otlp::{Export, HistogramKind, Temporality, export};
use telemetry_recording::family::Family;
use telemetry_recording::measure::{Number, Reading};
use telemetry_recording::observation::{Given, Tag};
use telemetry_recording::point::Point;
use telemetry_reports::cluster::merge::{Answer, Limits, Merged};
use telemetry_reports::cluster::node::State;
use telemetry_reports::cluster::report::ClusterReport;
use telemetry_reports::cluster::snapshot;
use telemetry_reports::report::Report;
use telemetry_testing::measured::{distribution, measure, send, start_with};
use telemetry_testing::{Running, cases, moment};
use telemetry_windows::window::Window;

const FAMILY: &str = "metrics of e";
const SLICE_MS: u64 = 10_000;
const BOUNDS: [f64; 2] = [0.5, 10.0];
const LIMITS: Limits = Limits { series: 100, bytes: 1 << 20 };

fn all_kinds() -> Vec<Value> {
    vec![
        measure("c", json!("counter")),
        measure("s", json!({"sum": {"monotonic": true}})),
        measure("g", json!({"sum": {"monotonic": false}})),
        measure("l", json!("last_value")),
        measure("d", distribution(&BOUNDS)),
        measure("q", json!({"summary": {"fraction_bits": 20}})),
    ]
}

fn start() -> Running {
    start_with(&["t"], all_kinds())
}

/// Numbers whose sums are exact in any order.
fn a_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        (-1_000..100_000_i64).prop_map(Number::Integer),
        (-1_000..100_000).prop_map(|eighths| Number::Float(f64::from(eighths) / 8.0)),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Event(u8, Number),
    EndSlice,
    Export,
    Retire,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..3_u8, a_number()).prop_map(|(tag, number)| Act::Event(tag, number)),
        2 => Just(Act::EndSlice),
        1 => Just(Act::Export),
        1 => Just(Act::Retire),
    ]
}

fn tag(tag: u8) -> String {
    format!("t{tag}")
}

fn record(running: &Running, at: u8, number: Number) {
    send(running, Given::Number(number), Tag::Text(tag(at).as_bytes()), false);
}

/// What events of one tag amount to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    numbers: Vec<f64>,
}

impl Totals {
    fn sum(&self) -> f64 {
        self.numbers.iter().sum()
    }

    fn buckets(&self) -> Vec<u64> {
        let mut buckets = vec![0; BOUNDS.len() + 1];
        for number in &self.numbers {
            buckets[BOUNDS.partition_point(|bound| bound < number)] += 1;
        }
        buckets
    }
}

fn totals<'e>(events: impl Iterator<Item = &'e (u64, u8, Number)>) -> BTreeMap<String, Totals> {
    let mut totals = BTreeMap::<_, Totals>::new();
    for (_, at, number) in events {
        totals.entry(tag(*at)).or_default().numbers.push(number.as_f64());
    }
    totals
}

fn reading(family: &Family, point: &Point, name: &str) -> Option<Reading> {
    let measure = family.layout().measures().iter().find(|measure| measure.name == name).unwrap();
    measure.read(point)
}

/// Compares what each series has of each measure with the model.
fn check(family: &Family, points: &[(LabelSet, Point)], model: &BTreeMap<String, Totals>) {
    let points: BTreeMap<String, &Point> = points
        .iter()
        .map(|(labels, point)| (labels.values().next().unwrap().to_owned(), point))
        .filter(|(_, point)| reading(family, point, "c").is_some())
        .collect();
    assert_eq!(points.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
    for (tag, totals) in model {
        let read = |name| reading(family, points[tag], name).unwrap();
        assert_eq!(read("c"), Reading::Count(totals.numbers.len() as u64));
        for name in ["s", "g"] {
            let Reading::Sum(sum) = read(name) else { panic!("{name}") };
            assert_eq!(sum.as_f64(), totals.sum(), "{name} of {tag}");
        }
        let Reading::Distribution(buckets) = read("d") else { panic!() };
        assert_eq!((buckets.counts, buckets.sum.as_f64()), (totals.buckets(), totals.sum()));
        let Reading::Summary(summary) = read("q") else { panic!() };
        let mut numbers = totals.numbers.clone();
        numbers.sort_by(f64::total_cmp);
        assert_eq!((summary.count, summary.sum.as_f64()), (numbers.len() as u64, totals.sum()));
        assert_eq!((summary.min, summary.max), (numbers[0], numbers[numbers.len() - 1]));
        let median = numbers[numbers.len().div_ceil(2) - 1];
        let error = (summary.quantiles[0] - median).abs();
        assert!(error <= median.abs() / 100.0 + 1e-5, "{} for {median}", summary.quantiles[0]);
        assert_eq!(reading(family, points[tag], "l"), None);
    }
}

fn request(running: &Running, temporality: Temporality, now_ms: u64) -> Vec<Metric> {
    let wanted = Export {
        temporality,
        histogram: HistogramKind::Exponential,
        max_buckets: 160,
        resource: vec![],
        scope: String::new(),
        version: String::new(),
        scalars: vec![],
    };
    let mut bytes = Vec::new();
    export(&running.instance, &wanted, moment(now_ms), &mut bytes);
    let mut request = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
    request.resource_metrics.remove(0).scope_metrics.remove(0).metrics
}

/// What requests tell of each tag, added up.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    count: f64,
    sum: f64,
    buckets: Vec<u64>,
    bucket_sum: f64,
}

fn value(point: &Option<number::Value>) -> f64 {
    match point {
        Some(number::Value::Int(value)) => *value as f64,
        Some(number::Value::Double(value)) => *value,
        None => panic!("no value"),
    }
}

fn tag_of(attributes: &[telemetry_exposition::otlp::message::KeyValue]) -> String {
    use telemetry_exposition::otlp::message::any_value;
    match attributes[0].value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::String(tag) => tag.clone(),
        other => panic!("{other:?}"),
    }
}

fn add_told(told: &mut BTreeMap<String, Told>, metrics: &[Metric]) {
    for metric in metrics {
        match (&*metric.name, metric.data.as_ref().unwrap()) {
            ("c", Data::Sum(sum)) => {
                for point in &sum.data_points {
                    told.entry(tag_of(&point.attributes)).or_default().count += value(&point.value);
                }
            }
            ("s", Data::Sum(sum)) => {
                for point in &sum.data_points {
                    told.entry(tag_of(&point.attributes)).or_default().sum += value(&point.value);
                }
            }
            ("d", Data::Histogram(histogram)) => {
                for point in &histogram.data_points {
                    let told = told.entry(tag_of(&point.attributes)).or_default();
                    told.buckets.resize(point.bucket_counts.len(), 0);
                    for (sum, count) in told.buckets.iter_mut().zip(&point.bucket_counts) {
                        *sum += count;
                    }
                    assert_eq!(point.count, point.bucket_counts.iter().sum::<u64>());
                    told.bucket_sum += point.sum.unwrap();
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn windows_and_deltas_add_up_to_all_events_though_series_go(acts in vec(act(), 1..120)) {
        let running = start();
        let mut events = Vec::new();
        let mut slice = 0;
        let mut told = BTreeMap::new();
        let mut retired_at = None;
        // Some way into the slice.
        let now = |slice: u64| slice * SLICE_MS + 1;
        for act in acts {
            match act {
                Act::Event(at, number) => {
                    record(&running, at, number);
                    events.push((slice, at, number));
                }
                Act::EndSlice => {
                    slice += 1;
                    running.instance.end_slice(moment(slice * SLICE_MS));
                }
                Act::Export => {
                    add_told(&mut told, &request(&running, Temporality::Delta, now(slice)));
                }
                Act::Retire => {
                    running.instance.retire_idle(moment(now(slice)), 0);
                    retired_at = Some(events.len());
                }
            }
        }
        let family = running.family(FAMILY);
        for back in 0..=slice {
            let window = Window::Last(back * SLICE_MS);
            let reader = running.instance.read();
            let points = reader.points(FAMILY, window, moment(now(slice)));
            let covered = events.iter().filter(|(at, ..)| at + back >= slice);
            check(family, &points, &totals(covered));
        }
        // Since the start there is what the series have that are left.
        let reader = running.instance.read();
        let points = reader.points(FAMILY, Window::SinceStart, moment(now(slice)));
        check(family, &points, &totals(events[retired_at.unwrap_or(0)..].iter()));
        drop(reader);

        let last = request(&running, Temporality::Delta, now(slice));
        add_told(&mut told, &last);
        let model = totals(events.iter()).into_iter().map(|(tag, totals)| {
            let (count, sum) = (totals.numbers.len() as f64, totals.sum());
            (tag, Told { count, sum, buckets: totals.buckets(), bucket_sum: sum })
        });
        prop_assert_eq!(told, model.collect::<BTreeMap<_, _>>());
        // Gauges and summaries are told as they stand, whether anything has come in or not.
        let standing = totals(events[retired_at.unwrap_or(0)..].iter());
        for metric in last {
            match (&*metric.name, metric.data.unwrap()) {
                ("g" | "l", Data::Gauge(gauge)) => {
                    prop_assert_eq!(gauge.data_points.len(), standing.len());
                    for point in gauge.data_points {
                        let totals = &standing[&tag_of(&point.attributes)];
                        let latest = *totals.numbers.last().unwrap();
                        let expected = if metric.name == "g" { totals.sum() } else { latest };
                        prop_assert_eq!(value(&point.value), expected);
                    }
                }
                ("q", Data::Summary(summary)) => {
                    for point in summary.data_points {
                        let totals = &standing[&tag_of(&point.attributes)];
                        prop_assert_eq!(point.count, totals.numbers.len() as u64);
                        prop_assert_eq!(point.sum, totals.sum());
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn snapshots_merge_to_what_one_node_would_have(
        events in vec((0..3_u8, a_number(), 0..3_usize), 0..100),
    ) {
        let nodes = [(); 3].map(|()| start());
        for (at, number, node) in &events {
            record(&nodes[*node], *at, *number);
        }
        let limits = snapshot::Limits { series: LIMITS.series, bytes: LIMITS.bytes };
        let window = Window::Last(SLICE_MS);
        let snapshots = nodes
            .each_ref()
            .map(|node| snapshot::take(&node.instance, window, moment(1), limits).unwrap());
        let answers = snapshots.iter().map(|bytes| (String::new(), Answer::Snapshot(bytes)));
        let merged = Merged::new(answers, LIMITS, moment(1));
        prop_assert!(merged.nodes().iter().all(|node| node.state == State::Merged));
        let events: Vec<_> = events.into_iter().map(|(at, number, _)| (0, at, number)).collect();
        let model = totals(events.iter());
        check(nodes[0].family(FAMILY), merged.points(FAMILY), &model);
        let report = ClusterReport::new(&merged).report;
        let rows = report.summaries.iter().map(|row| (&*row.name, &*row.labels["t"], row.count));
        let expected = model.iter().map(|(tag, totals)| ("q", &**tag, totals.numbers.len() as u64));
        prop_assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_report_has_the_summaries_of_its_window() {
    let running = start();
    record(&running, 0, Number::Integer(3));
    running.instance.end_slice(moment(SLICE_MS));
    running.instance.end_slice(moment(2 * SLICE_MS));
    record(&running, 1, Number::Integer(5));
    record(&running, 1, Number::Float(-0.5));
    let rows = |window| {
        let report = Report::new(&running.instance, window, moment(2 * SLICE_MS + 1));
        let row = |row: &telemetry_reports::summaries::SummaryRow| {
            (row.labels["t"].clone(), row.count, row.min, row.max)
        };
        report.summaries.iter().map(row).collect::<Vec<_>>()
    };
    let (first, second) = (("t0".to_owned(), 1, 3.0, 3.0), ("t1".to_owned(), 2, -0.5, 5.0));
    assert_eq!(rows(Window::Last(SLICE_MS)), vec![second.clone()]);
    assert_eq!(rows(Window::Previous(SLICE_MS)), vec![first.clone()]);
    assert_eq!(rows(Window::SinceStart), [first, second]);
}

/// A series is told to have counted since its start, deltas since the export before.
#[test]
fn start_times_are_those_of_what_is_told() {
    let running = start();
    running.instance.tick(moment(1_000));
    record(&running, 0, Number::Integer(3));
    let times = |metrics: &[Metric]| -> BTreeMap<String, u64> {
        let of = |metric: &Metric| match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => Some(sum.data_points[0].start_time_unix_nano),
            Data::Histogram(histogram) => Some(histogram.data_points[0].start_time_unix_nano),
            Data::Summary(summary) => Some(summary.data_points[0].start_time_unix_nano),
            _ => None,
        };
        let own = |metric: &&Metric| metric.name.len() == 1;
        let times = metrics.iter().filter(own);
        times.filter_map(|metric| Some((metric.name.clone(), of(metric)?))).collect()
    };
    let nanoseconds = |ms| moment(ms).unix_ms_u64() * 1_000_000;
    let all = |[c, d, q, s]: [u64; 4]| {
        let times = [("c", c), ("d", d), ("q", q), ("s", s)];
        times.map(|(name, ms)| (name.to_owned(), nanoseconds(ms))).into()
    };
    assert_eq!(times(&request(&running, Temporality::Cumulative, 2_000)), all([1_000; 4]));
    request(&running, Temporality::Delta, 3_000);
    record(&running, 0, Number::Integer(4));
    // A summary has no deltas.
    let told = all([3_000, 3_000, 1_000, 3_000]);
    assert_eq!(times(&request(&running, Temporality::Delta, 4_000)), told);
}

/// While a release is rolled out nodes have different definitions. What they share is merged.
#[test]
fn other_definitions_of_an_event_are_left_out_and_named() {
    let (here, there) = (start(), start_with(&["t"], all_kinds().split_off(1)));
    record(&here, 0, Number::Integer(3));
    record(&there, 0, Number::Integer(4));
    let limits = snapshot::Limits { series: LIMITS.series, bytes: LIMITS.bytes };
    let [first, second] = [&here, &there]
        .map(|node| snapshot::take(&node.instance, Window::SinceStart, moment(1), limits).unwrap());
    let answers = [
        ("here".to_owned(), Answer::Snapshot(&first)),
        ("there".to_owned(), Answer::Snapshot(&second)),
    ];
    let merged = Merged::new(answers, LIMITS, moment(1));
    let [here, there] = merged.nodes() else { panic!() };
    assert_eq!((here.state, there.state), (State::Merged, State::Merged));
    assert_eq!(here.reason, None);
    let reason = there.reason.as_deref().unwrap();
    assert!(
        reason.starts_with("without the metrics of e: the definitions of metrics of e are"),
        "{reason}"
    );
    assert_eq!(ClusterReport::new(&merged).report.summaries[0].count, 1);
}

#[test]
fn a_distribution_of_negative_numbers_has_no_sum_over_otlp() {
    let running = start_with(
        &[],
        vec![measure("below", distribution(&[-1.0])), measure("above", distribution(&[1.0]))],
    );
    send(&running, Given::Number(Number::Float(2.0)), Tag::Text(b""), false);
    let metrics = request(&running, Temporality::Cumulative, 1);
    let sum = |name: &str| {
        let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
        let Some(Data::Histogram(histogram)) = &metric.data else { panic!() };
        histogram.data_points[0].sum
    };
    assert_eq!((sum("below"), sum("above")), (None, Some(2.0)));
}
