//! What a scrape says is what was recorded, in all three formats, whatever labels hold.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;
use serde_json::{Value, json};
use telemetry_common::label::LabelSet;
use telemetry_common::scalar::{Kind, Sample, Scalar};
use telemetry_exposition::message::{Metric, MetricFamily, MetricType};
use telemetry_exposition::{Format, Scrape, render};
use telemetry_recording::details::Details;
use telemetry_recording::field::Inputs;
use telemetry_recording::local::{self, RecordOutcome};
use telemetry_recording::notes::Notes;
use telemetry_recording::plan::PlanId;
use telemetry_testing::{Given, Running, cases, measurement, moment, send, text};

/// Upper bounds in nanoseconds; 0.5, 1,000 and 2,500,000 microseconds.
const BOUNDS: [u64; 3] = [500, 1_000_000, 2_500_000_000];

/// Calls by class and method, of which one counter lacks the class; and a family without labels.
fn start(series_limit: usize) -> Running {
    let flag = json!({"flag": {"default": true}});
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method", "class"],
            "counters": [
                {"name": "calls_total", "help": "Calls.",
                    "dimensions": [{"name": "success", "values": ["true", "false"]}]},
                {"name": "methods_total", "help": "Calls by \"method\".\n\\", "dimensions": [],
                    "dropped_labels": [1]},
            ],
            "histograms": [
                {"name": "duration", "help": "Durations.", "unit": "nanosecond", "bounds": BOUNDS},
                {"name": "size_bytes", "unit": "byte", "bounds": [1]},
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
        "gauges": [{"name": "pool_size", "help": "Workers."}],
        "plans": [{
            "event": "call.stop",
            "fields": [measurement(true), text(true), text(true), flag, measurement(false)],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 1}, {"field": 2}],
                "counts": [
                    {"counter": "calls_total", "dimensions": [{"field": 3}]},
                    {"counter": "methods_total", "dimensions": []},
                ],
                "observes": [
                    {"histogram": "duration", "field": 0},
                    {"histogram": "size_bytes", "field": 4},
                ],
            }}],
            "exemplar": {"field": 0, "labels": ["trace_id", "session_id"]},
        }, {
            "event": "quiet",
            "fields": [],
            "steps": [{"feed": {"family": "quiet", "labels": [], "observes": [],
                "counts": [{"counter": "quiet_total", "dimensions": []}]}}],
        }, {
            "event": "unless.stop",
            "fields": [measurement(true), text(true), text(true), flag, measurement(false)],
            "steps": [{"feed": {
                "unless": 3,
                "family": "calls",
                "labels": [{"field": 1}, {"field": 2}],
                "counts": [],
                "observes": [{"histogram": "duration", "field": 0}],
            }}],
            "exemplar": {"field": 0, "labels": ["trace_id", "session_id"]},
        }],
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

#[derive(Clone, Debug)]
struct Call {
    method: String,
    class: String,
    duration: u64,
    success: bool,
}

fn fields(call: &Call) -> [Given<'_>; 5] {
    let (method, class) = (Given::Text(&call.method), Given::Text(&call.class));
    [Given::Number(call.duration), method, class, Given::Flag(call.success), Given::Absent]
}

fn call(method: &str, duration: u64) -> Call {
    Call { method: method.to_owned(), class: "A".to_owned(), duration, success: true }
}

fn record(running: &Running, call: &Call) -> RecordOutcome {
    send(running.plans[0], &fields(call))
}

fn scrape(running: &Running, format: Format) -> Vec<u8> {
    scrape_with(running, format, false, Vec::new())
}

fn scrape_with(running: &Running, format: Format, created: bool, scalars: Vec<Scalar>) -> Vec<u8> {
    let mut out = Vec::new();
    render(&running.instance, &Scrape { format, created, scalars }, &mut out);
    out
}

type Labels = BTreeMap<String, String>;

/// The value of a sample by its name and labels.
type Samples = BTreeMap<(String, Labels), f64>;

/// Samples of a text, read by the grammar of both text formats.
fn read_text(bytes: &[u8]) -> Samples {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.ends_with('\n'));
    let mut samples = Samples::new();
    for line in text.split_terminator('\n').filter(|line| !line.starts_with('#')) {
        let (name, mut labels, rest) = match line.split_once('{') {
            Some((name, rest)) if !name.contains(' ') => {
                let (labels, rest) = read_labels(rest);
                (name, labels, rest)
            }
            _ => {
                let (name, rest) = line.split_once(' ').unwrap();
                (name, Labels::new(), rest)
            }
        };
        let value = rest.trim_start().split(" # ").next().unwrap();
        if let Some(bound) = labels.get_mut("le") {
            *bound = number(bound).to_string();
        }
        let before = samples.insert((name.to_owned(), labels), number(value));
        assert_eq!(before, None, "twice: {line}");
    }
    samples
}

fn number(text: &str) -> f64 {
    if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap() }
}

/// The labels in front of a closing brace, and what follows it.
fn read_labels(mut rest: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return (labels, rest);
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
        let (name, quoted) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("escaped {other}"),
                }),
                (_, other) => value.push(other),
            }
        };
        assert_eq!(labels.insert(name.to_owned(), value), None, "{name} twice");
        rest = &quoted[end..];
    }
}

fn families(mut bytes: &[u8]) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    families
}

fn labels_of(metric: &Metric) -> Labels {
    let pair = |pair: &telemetry_exposition::message::LabelPair| {
        (pair.name().to_owned(), pair.value().to_owned())
    };
    metric.label.iter().map(pair).collect()
}

/// Samples of protobuf messages under the names that they have in text.
fn read_protobuf(bytes: &[u8]) -> Samples {
    let mut samples = Samples::new();
    for family in families(bytes) {
        for metric in &family.metric {
            let labels = labels_of(metric);
            let mut put = |suffix: &str, labels: Labels, value| {
                let name = format!("{}{suffix}", family.name());
                assert_eq!(samples.insert((name, labels), value), None, "twice");
            };
            match family.r#type() {
                MetricType::Counter => put("", labels, metric.counter.as_ref().unwrap().value()),
                MetricType::Gauge => put("", labels, metric.gauge.as_ref().unwrap().value()),
                MetricType::Summary => unreachable!("the catalogue has none"),
                MetricType::Histogram => {
                    let histogram = metric.histogram.as_ref().unwrap();
                    for bucket in &histogram.bucket {
                        let mut labels = labels.clone();
                        labels.insert("le".to_owned(), bucket.upper_bound().to_string());
                        put("_bucket", labels, bucket.cumulative_count() as f64);
                    }
                    put("_sum", labels.clone(), histogram.sample_sum());
                    put("_count", labels, histogram.sample_count() as f64);
                    let native: i64 = (1..=histogram.positive_delta.len())
                        .map(|buckets| histogram.positive_delta[..buckets].iter().sum::<i64>())
                        .sum();
                    assert_eq!(native as u64 + histogram.zero_count(), histogram.sample_count());
                }
            }
        }
    }
    samples
}

fn read(format: Format, bytes: &[u8]) -> Samples {
    match format {
        Format::Text | Format::OpenMetrics => read_text(bytes),
        Format::Protobuf => read_protobuf(bytes),
    }
}

const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf];

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What a scrape of these calls has to say of them.
fn expected(calls: &[Call]) -> Samples {
    let mut samples = Samples::new();
    for call in calls {
        let mut add = |name: &str, labels: Labels, value: f64| {
            *samples.entry((name.to_owned(), labels)).or_default() += value;
        };
        let by_class = labels([("method", &call.method), ("class", &call.class)]);
        for success in [true, false] {
            let mut labels = by_class.clone();
            labels.insert("success".to_owned(), success.to_string());
            add("calls_total", labels, f64::from(u8::from(call.success == success)));
        }
        add("methods_total", labels([("method", &call.method)]), 1.0);
        for bound in BOUNDS.map(|bound| bound as f64 / 1e3).into_iter().chain([f64::INFINITY]) {
            let mut labels = by_class.clone();
            labels.insert("le".to_owned(), bound.to_string());
            let is_inside = call.duration as f64 / 1e3 <= bound;
            add("duration_bucket", labels, f64::from(u8::from(is_inside)));
        }
        add("duration_count", by_class.clone(), 1.0);
        // Added in nanoseconds: sums of microseconds would be rounded.
        add("duration_sum", by_class, call.duration as f64);
    }
    for ((name, _), value) in &mut samples {
        if name == "duration_sum" {
            *value /= 1e3;
        }
    }
    samples.insert(("quiet_total".to_owned(), Labels::new()), 0.0);
    samples.insert(("pool_size".to_owned(), Labels::new()), 0.0);
    samples
}

fn without_own(mut samples: Samples) -> Samples {
    samples.retain(|(name, _), _| !name.starts_with("dspex_telemetry_"));
    samples
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => select(vec!["a", "b", "\"", "\\", "\n", "\\n", "\0", "le=\"1\"}", "\u{1F600}", "",
            "<script>", "a,b=\"c\"", " # {x=\"y\"} 1", "otel_metric_overflow", "\r\n", "\u{2028}"])
            .prop_map(str::to_owned),
        1 => any::<String>().prop_filter("short enough to be kept whole", |text| text.len() < 200),
    ]
}

fn a_call() -> impl Strategy<Value = Call> {
    let near = BOUNDS.map(|bound| bound - 1..=bound + 1);
    let duration =
        prop_oneof![near[0].clone(), near[1].clone(), near[2].clone(), 0..10_000_000_u64];
    (name(), name(), duration, any::<bool>()).prop_map(|(method, class, duration, success)| Call {
        method,
        class,
        duration,
        success,
    })
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn a_scrape_says_what_was_recorded(calls in vec(a_call(), 0..40)) {
        let running = start(1_000);
        for call in &calls {
            record(&running, call);
        }
        for format in FORMATS {
            let bytes = scrape(&running, format);
            prop_assert_eq!(without_own(read(format, &bytes)), expected(&calls), "{:?}", format);
            prop_assert_eq!(&scrape(&running, format), &bytes, "another order");
        }
    }
}

#[test]
fn the_overflow_series_has_one_label_in_the_place_of_its_own() {
    let running = start(1);
    for method in ["first", "second", "third"] {
        record(&running, &call(method, 7));
    }
    for format in FORMATS {
        let samples = read(format, &scrape(&running, format));
        let overflow = |more: &[(&str, &str)]| {
            let mut all = labels([("otel_metric_overflow", "true")]);
            all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            all
        };
        let value = |name: &str, labels: Labels| samples[&(name.to_owned(), labels)];
        assert_eq!(value("calls_total", overflow(&[("success", "true")])), 2.0);
        assert_eq!(value("methods_total", overflow(&[])), 2.0);
        assert_eq!(value("duration_count", overflow(&[])), 2.0);
        let of_family = labels([("event", "calls")]);
        assert_eq!(value("dspex_telemetry_overflow_total", of_family.clone()), 2.0);
        assert_eq!(value("dspex_telemetry_series", of_family), 1.0);
    }
}

#[test]
fn metrics_are_announced_as_each_format_demands() {
    let running = start(10);
    record(&running, &call("m", 1_000_000));
    let scalar = Scalar {
        name: "of_the_caller_bytes".to_owned(),
        help: "Given.".to_owned(),
        kind: Kind::Gauge,
        survives_reset: true,
        samples: vec![Sample { labels: vec![["a".to_owned(), "b".to_owned()]], value: 1.5e9 }],
    };
    let announced = |format| {
        let bytes = scrape_with(&running, format, false, vec![scalar.clone()]);
        String::from_utf8(bytes).unwrap()
    };
    let text = announced(Format::Text);
    for line in [
        "# HELP calls_total Calls.\n# TYPE calls_total counter\n",
        "# HELP methods_total Calls by \"method\".\\n\\\\\n# TYPE methods_total counter\n",
        "# TYPE duration histogram\n",
        "duration_bucket{method=\"m\",class=\"A\",le=\"0.5\"} 0\n",
        "duration_bucket{method=\"m\",class=\"A\",le=\"1000\"} 1\n",
        "duration_bucket{method=\"m\",class=\"A\",le=\"2.5e+06\"} 1\n",
        "duration_sum{method=\"m\",class=\"A\"} 1000\n",
        "# HELP pool_size Workers.\n# TYPE pool_size gauge\npool_size 0\n",
        "of_the_caller_bytes{a=\"b\"} 1.5e+09\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    for absent in ["# UNIT", "# EOF", "_created", "size_bytes_count", " # {"] {
        assert!(!text.contains(absent), "{absent} is in {text}");
    }
    let text = announced(Format::OpenMetrics);
    for line in [
        "# HELP calls Calls.\n# TYPE calls counter\ncalls_total{",
        "# HELP methods Calls by \\\"method\\\".\\n\\\\\n# TYPE methods counter\nmethods_total{",
        "duration_bucket{method=\"m\",class=\"A\",le=\"1000.0\"} 1\n",
        "duration_bucket{method=\"m\",class=\"A\",le=\"2.5e+06\"} 1\n",
        "# TYPE of_the_caller_bytes gauge\n# UNIT of_the_caller_bytes bytes\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(text.ends_with("} 1.5e+09\n# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
}

#[test]
fn an_empty_instance_can_be_scraped() {
    for format in FORMATS {
        let samples = read(format, &scrape(&start(10), format));
        assert_eq!(without_own(samples), expected(&[]));
    }
}

/// The times are those of ticks and resets, since which nothing had been counted.
#[test]
fn created_times_are_before_the_first_event() {
    let running = start(10);
    running.instance.tick(moment(5_000));
    record(&running, &call("m", 1));
    running.instance.tick(moment(9_000));
    record(&running, &call("m", 1));
    record(&running, &call("n", 1));
    let created = |format| scrape_with(&running, format, true, Vec::new());
    let text = String::from_utf8(created(Format::OpenMetrics)).unwrap();
    let of = |method: &str, seconds: &str| {
        for line in [
            format!(
                "calls_created{{method=\"{method}\",class=\"A\",success=\"true\"}} {seconds}\n"
            ),
            format!("duration_created{{method=\"{method}\",class=\"A\"}} {seconds}\n"),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    };
    of("m", "1005.000");
    of("n", "1009.000");
    assert_eq!(read_text(&created(Format::Text)), read_text(&scrape(&running, Format::Text)));
    let families = families(&created(Format::Protobuf));
    let calls = families.iter().find(|family| family.name() == "calls_total").unwrap();
    let times: Vec<_> = calls
        .metric
        .iter()
        .map(|metric| metric.counter.as_ref().unwrap().created_timestamp.unwrap().seconds)
        .collect();
    assert_eq!(times, [1_005, 1_005, 1_009, 1_009]);
    running.instance.reset(moment(20_000));
    record(&running, &call("m", 1));
    let text = String::from_utf8(created(Format::OpenMetrics)).unwrap();
    assert!(text.contains("methods_created{method=\"m\"} 1020.000\n"), "{text}");
}

/// It is the start or the last reset, before its first event and after.
#[test]
fn a_counter_without_labels_is_created_once() {
    let running = start(10);
    let created = || {
        let text = scrape_with(&running, Format::OpenMetrics, true, Vec::new());
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("quiet_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let start = created();
    for ms in [1, 1_000, 50_000] {
        running.instance.tick(moment(ms));
        assert_eq!(created(), start);
    }
    send(running.plans[1], &[]);
    assert_eq!(created(), ["quiet_total 1", &start[1]]);
    running.instance.reset(moment(60_000));
    running.instance.tick(moment(70_000));
    let at_reset = ["quiet_total 0", "quiet_created 1060.000"];
    assert_eq!(created(), at_reset);
    send(running.plans[1], &[]);
    assert_eq!(created(), ["quiet_total 1", at_reset[1]]);
}

const EXEMPLARY: RecordOutcome = RecordOutcome::Noted(Notes::EXEMPLARY);

fn keep(running: &Running, notes: Notes, call: &Call, labels: &[&[u8]]) {
    keep_fields(running.plans[0], notes, &fields(call), labels);
}

fn keep_fields(plan: PlanId, notes: Notes, given: &[Given<'_>], labels: &[&[u8]]) {
    let [trace_id, session_id] = labels else { panic!("two labels") };
    let details = Details { trace_id, session_id, ..Details::default() };
    let decode = |inputs: &Inputs, fields: &mut _| telemetry_testing::decode(given, inputs, fields);
    local::keep(plan, notes, decode, &details);
}

#[test]
fn a_sample_is_exemplary_if_it_is_the_first_in_its_range_of_a_slice() {
    let running = start(1);
    let outcome = |duration| record(&running, &call("m", duration));
    assert_eq!(outcome(1_000_000), EXEMPLARY);
    assert_eq!(outcome(1_000_000), RecordOutcome::Recorded);
    assert_eq!(outcome(1_000_500), RecordOutcome::Recorded);
    assert_eq!(outcome(2_000_000), EXEMPLARY);
    running.instance.end_slice(moment(1));
    assert_eq!(outcome(1_000_000), EXEMPLARY);
    // It could not be found again.
    assert_eq!(record(&running, &call("over the limit", 1)), RecordOutcome::Recorded);
}

#[test]
fn exemplars_stand_behind_their_buckets() {
    let running = start(10);
    let slow = call("m", 1_500_000);
    let slower = call("m", 9_000_000_000);
    for call in [&slow, &slower] {
        assert_eq!(record(&running, call), EXEMPLARY);
    }
    running.time.store(234, Relaxed);
    keep(&running, Notes::EXEMPLARY, &slow, &[b"", b"s-\"1\""]);
    keep(&running, Notes::EXEMPLARY, &slower, &[b"trace", b""]);
    // Not of a series that is not there, nor of an event that is noted for something else.
    keep(&running, Notes::EXEMPLARY, &call("other", 1), &[b"", b"s"]);
    keep(&running, Notes::SLOW, &slower, &[b"another trace", b""]);
    let text = String::from_utf8(scrape(&running, Format::OpenMetrics)).unwrap();
    let of_m = "duration_bucket{method=\"m\",class=\"A\",le=";
    for line in [
        format!("{of_m}\"1000.0\"}} 0\n"),
        format!("{of_m}\"2.5e+06\"}} 1 # {{session_id=\"s-\\\"1\\\"\"}} 1500 1000.234\n"),
        format!("{of_m}\"+Inf\"}} 2 # {{trace_id=\"trace\"}} 9e+06 1000.234\n"),
    ] {
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    assert_eq!(text.matches(" # {").count(), 2);
    let families = families(&scrape(&running, Format::Protobuf));
    let durations = families.iter().find(|family| family.name() == "duration").unwrap();
    let histogram = durations.metric[0].histogram.as_ref().unwrap();
    let of_bucket: Vec<_> = histogram
        .bucket
        .iter()
        .map(|bucket| bucket.exemplar.as_ref().map(|exemplar| exemplar.value()))
        .collect();
    assert_eq!(of_bucket, [None, None, Some(1_500.0), Some(9e6)]);
    running.instance.reset(moment(1_000));
    record(&running, &slow);
    let text = String::from_utf8(scrape(&running, Format::OpenMetrics)).unwrap();
    assert!(!text.contains(" # {"), "{text}");
}

/// `a_total` and any other metric `a` would be two of one name in OpenMetrics.
#[test]
fn a_counter_is_of_unknown_type_beside_any_metric_of_the_rest_of_its_name() {
    let counter = |name: &str| json!({"name": name, "dimensions": []});
    let histogram = json!({"name": "of_histogram", "unit": "one", "bounds": [1]});
    let family = |name: &str, fields: Value| {
        let mut family = json!({"name": name, "labels": [], "counters": [], "histograms": [],
            "digits": 2, "series_limit": 1});
        let fields = fields.as_object().unwrap().clone();
        family.as_object_mut().unwrap().extend(fields);
        family
    };
    let names =
        ["of_gauge_total", "of_event_gauge_total", "of_histogram_total", "of_measure_total"];
    let counters = names.iter().chain(&["of_nothing_total"]).map(|name| counter(name));
    let measure = json!({"name": "of_measure", "help": "", "kind": "counter"});
    let running = Running::start(json!({
        "families": [
            family("counters", json!({"counters": counters.collect::<Vec<_>>()})),
            family("histograms", json!({"histograms": [histogram]})),
            family("measures", json!({"measures": [measure]})),
        ],
        "gauges": [{"name": "of_gauge"}],
        "event_gauges": [{"name": "of_event_gauge", "labels": [], "divisor": 1.0}],
        "event_gauge_limit": 1,
        "plans": [],
        "ref_limit": 0,
        "worker_limit": 0,
    }));
    let counters = running.family("counters");
    counters.get_or_create(&LabelSet::new([])).unwrap();
    let text = String::from_utf8(scrape(&running, Format::OpenMetrics)).unwrap();
    let types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE of_")).collect();
    let unknown = names.map(|name| format!("# TYPE {name} unknown"));
    for line in unknown.iter().map(String::as_str).chain(["# TYPE of_nothing counter"]) {
        assert!(types.contains(&line), "{line} is not in {types:?}");
    }
}

#[test]
fn an_exemplar_stands_only_where_its_sample_was_counted() {
    let running = start(10);
    let texts = ["m", "A"].map(Given::Text);
    let success = Given::Flag(true);
    let given = [Given::Number(1_500_000), texts[0], texts[1], success, Given::Number(7)];
    let exemplars = |plan: usize| {
        keep_fields(running.plans[plan], Notes::EXEMPLARY, &given, &[b"trace", b""]);
        let text = String::from_utf8(scrape(&running, Format::OpenMetrics)).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(" # {"));
        lines.map(|(sample, _)| sample.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(send(running.plans[0], &given), EXEMPLARY);
    // What takes durations of failures only.
    assert_eq!(exemplars(2), [""; 0]);
    // Sizes have none.
    assert_eq!(exemplars(0), ["duration_bucket{method=\"m\",class=\"A\",le=\"2.5e+06\"} 1"]);
}

#[test]
fn no_number_goes_down_while_events_come_in() {
    const EVENTS: u64 = 40_000;
    let running = start(8);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let running = &running;
                scope.spawn(move || {
                    for event in 0..EVENTS {
                        let method = format!("m{}", event % 10);
                        let duration = (event * 7_919 + producer) % 3_000_000_000;
                        record(running, &call(&method, duration));
                    }
                })
            })
            .collect();
        let scraper = scope.spawn(|| {
            let mut before = Samples::new();
            let mut scrapes = 0;
            for format in FORMATS.into_iter().cycle() {
                let last = done.load(Relaxed);
                let samples = without_own(read(format, &scrape(&running, format)));
                for (sample, value) in &before {
                    assert!(samples[sample] >= *value, "{sample:?} fell from {value}");
                }
                for ((name, labels), count) in &samples {
                    if name == "duration_count" {
                        let mut labels = labels.clone();
                        labels.insert("le".to_owned(), "inf".to_owned());
                        assert_eq!(samples[&("duration_bucket".to_owned(), labels)], *count);
                    }
                }
                running.instance.end_slice(moment(scrapes));
                (before, scrapes) = (samples, scrapes + 1);
                if last {
                    return before;
                }
            }
            unreachable!()
        });
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        done.store(true, Relaxed);
        let samples = scraper.join().unwrap();
        let calls = samples.iter().filter(|((name, _), _)| name == "calls_total");
        assert_eq!(calls.map(|(_, value)| value).sum::<f64>(), (2 * EVENTS) as f64);
    });
}
