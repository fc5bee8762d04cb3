//! Snapshots of several instances merge to what one instance would have counted, and nothing that
//! comes instead of a snapshot does harm.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io::Read;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use telemetry_common::label::{LabelSet, MAX_LABEL_BYTES, OVERFLOW_LABEL};
use telemetry_common::moment::Moment;
use telemetry_recording::histogram::MAX_VALUE;
use telemetry_recording::local::RecordOutcome;
use telemetry_recording::point::Point;
use telemetry_reports::cluster::merge::{Answer, Limits, Merged};
use telemetry_reports::cluster::node::State;
use telemetry_reports::cluster::report::{ClusterErrors, ClusterReport, usage};
use telemetry_reports::cluster::snapshot::{self, take};
use telemetry_reports::errors::Errors;
use telemetry_reports::report::Report;
use telemetry_reports::usage_window::UsageInWindow;
use telemetry_testing::{Given, NOW, Running, cases, measurement, moment, role, send, text};
use telemetry_windows::window::Window;

const CALLS: &str = "dspex.bridge.call_method";
const QUEUE: &str = "snakepit.pool.queue_time";
const BYTES: usize = 1 << 20;

struct Node(Running);

#[derive(Clone, Copy)]
struct Shape {
    digits: u8,
    series_limit: usize,
    last_bound: u64,
    role: &'static str,
}

const SHAPE: Shape = Shape { digits: 2, series_limit: 2_000, last_bound: 1_000_000, role: "calls" };

impl Node {
    fn start(shape: Shape) -> Self {
        let bounds = json!([1_000, 50_000, shape.last_bound]);
        Self(Running::start(json!({
            "families": [
                {
                    "name": CALLS,
                    "role": shape.role,
                    "labels": ["method", "python_class"],
                    "counters": [{"name": "calls", "help": "calls", "dimensions": [
                        {"name": "success", "values": ["true", "false"]},
                    ]}],
                    "histograms": [
                        {"name": "duration", "unit": "nanosecond", "bounds": bounds},
                        {"name": "size", "unit": "byte", "bounds": []},
                    ],
                    "digits": shape.digits,
                    "series_limit": shape.series_limit,
                    "usage": {"kind": "method", "counter": "calls", "labels": [1, 0]},
                },
                {
                    "name": QUEUE,
                    "role": role(QUEUE),
                    "labels": ["command"],
                    "counters": [],
                    "histograms": [{"name": "snakepit_pool_queue_time", "unit": "nanosecond", "bounds": []}],
                    "digits": shape.digits,
                    "series_limit": shape.series_limit,
                },
                {
                    "name": "dspex.session.created",
                    "role": "created_sessions",
                    "labels": [],
                    "counters": [{"name": "created", "dimensions": []}],
                    "histograms": [],
                    "digits": 2,
                    "series_limit": 1,
                },
            ],
            "plans": [
                {
                    "event": "call.stop",
                    "fields": [measurement(true), measurement(false), text(true), text(true),
                        {"flag": {"default": true}}],
                    "steps": [
                        {"feed": {
                            "family": CALLS,
                            "labels": [{"field": 2}, {"field": 3}],
                            "counts": [{"counter": "calls", "dimensions": [{"field": 4}]}],
                            "observes": [
                                {"histogram": "duration", "field": 0},
                                {"histogram": "size", "field": 1},
                            ],
                        }},
                    ],
                },
                {
                    "event": "queue",
                    "fields": [measurement(true), text(true)],
                    "steps": [
                        {"feed": {
                            "family": QUEUE,
                            "labels": [{"field": 1}],
                            "counts": [],
                            "observes": [{"histogram": "snakepit_pool_queue_time", "field": 0}],
                        }},
                        {"feed": {
                            "family": "dspex.session.created",
                            "labels": [],
                            "counts": [{"counter": "created", "dimensions": []}],
                            "observes": [],
                        }},
                    ],
                },
            ],
            "ref_limit": 0,
            "worker_limit": 0,
        })))
    }

    fn call(&self, method: &str, class: &str, duration: u64, size: Option<u64>, success: bool) {
        let outcome = send(
            self.0.plans[0],
            &[
                Given::Number(duration),
                size.map_or(Given::Absent, Given::Number),
                Given::Text(method),
                Given::Text(class),
                Given::Flag(success),
            ],
        );
        assert_eq!(outcome, RecordOutcome::Recorded);
    }

    fn wait(&self, command: &str, duration: u64) {
        let given = [Given::Number(duration), Given::Text(command)];
        assert_eq!(send(self.0.plans[1], &given), RecordOutcome::Recorded);
    }

    fn handle(&self, event: &Event) {
        match event {
            Event::Call { method, duration, size, success } => {
                self.call(&format!("m{method}"), "Class", *duration, *size, *success);
            }
            Event::Wait { command, duration } => self.wait(&format!("c{command}"), *duration),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        self.snapshot_of(Window::SinceStart, NOW)
    }

    fn snapshot_of(&self, window: Window, now: Moment) -> Vec<u8> {
        let limits = snapshot::Limits { series: 1_000, bytes: BYTES };
        take(&self.0.instance, window, now, limits).unwrap()
    }

    fn points(&self, family: &str) -> Vec<(LabelSet, Point)> {
        sorted(self.0.instance.read().points(family, Window::SinceStart, NOW))
    }
}

fn sorted(mut points: Vec<(LabelSet, Point)>) -> Vec<(LabelSet, Point)> {
    points.sort_by(|(left, _), (right, _)| left.cmp(right));
    points
}

fn merge(snapshots: &[Vec<u8>]) -> Merged {
    merge_with(snapshots, 1_000)
}

fn merge_with(snapshots: &[Vec<u8>], series: usize) -> Merged {
    let answers = snapshots.iter().enumerate();
    let answers = answers.map(|(at, bytes)| (format!("n{at}@host"), Answer::Snapshot(bytes)));
    Merged::new(answers, Limits { series, bytes: BYTES }, NOW)
}

fn states(merged: &Merged) -> Vec<State> {
    merged.nodes().iter().map(|node| node.state).collect()
}

#[derive(Clone, Debug)]
enum Event {
    Call { method: u8, duration: u64, size: Option<u64>, success: bool },
    Wait { command: u8, duration: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let number = || prop_oneof![0..2_000_u64, 0..10_000_000_u64, 0..=MAX_VALUE, Just(MAX_VALUE)];
    let call = (0..6_u8, number(), proptest::option::of(number()), any::<bool>()).prop_map(
        |(method, duration, size, success)| Event::Call { method, duration, size, success },
    );
    let wait =
        (0..3_u8, number()).prop_map(|(command, duration)| Event::Wait { command, duration });
    prop_oneof![3 => call, 1 => wait]
}

proptest! {
    #![proptest_config(cases(48))]

    /// Every cell and every histogram counter, hence every quantile of the report.
    #[test]
    fn snapshots_in_any_order_merge_to_what_one_instance_counts(
        events in vec((event(), any::<Index>()), 0..400),
        nodes in 1..5_usize,
        order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle(),
        digits in 1..=3_u8,
    ) {
        let shape = Shape { digits, ..SHAPE };
        let all = Node::start(shape);
        let each: Vec<_> = (0..nodes).map(|_| Node::start(shape)).collect();
        for (event, node) in &events {
            all.handle(event);
            each[node.index(nodes)].handle(event);
        }
        let order = order.into_iter().filter(|at| *at < nodes);
        let snapshots: Vec<_> = order.map(|at| each[at].snapshot()).collect();
        let merged = merge(&snapshots);
        prop_assert_eq!(states(&merged), vec![State::Merged; nodes]);
        for family in [CALLS, QUEUE, "dspex.session.created"] {
            prop_assert_eq!(sorted(merged.points(family).to_vec()), all.points(family));
        }
        let report = ClusterReport::new(&merged);
        prop_assert_eq!(report.report, Report::new(&all.0.instance, Window::SinceStart, NOW));
        prop_assert_eq!(
            usage(&merged, 10),
            UsageInWindow::new(&all.0.instance, 10, Window::SinceStart, NOW)
        );
        prop_assert_eq!(
            ClusterErrors::new(&merged).errors,
            Errors::new(&all.0.instance, Window::SinceStart, NOW)
        );
        let calls = events.iter().filter(|(event, _)| matches!(event, Event::Call { .. })).count();
        prop_assert_eq!(report.nodes.iter().map(|node| node.calls).sum::<u64>(), calls as u64);
    }

    /// Nothing is lost when there are more series than fit, at the node or in the merge.
    #[test]
    fn what_has_no_room_is_in_the_overflow_row(
        events in vec((event(), 0..3_usize), 1..200),
        sent in 1..4_usize,
        kept in 1..4_usize,
    ) {
        let each: Vec<_> = (0..3).map(|_| Node::start(SHAPE)).collect();
        let all = Node::start(SHAPE);
        for (event, node) in &events {
            all.handle(event);
            each[*node].handle(event);
        }
        let limits = snapshot::Limits { series: sent, bytes: BYTES };
        let take = |node: &Node| take(&node.0.instance, Window::SinceStart, NOW, limits).unwrap();
        let snapshots: Vec<_> = each.iter().map(take).collect();
        let merged = merge_with(&snapshots, kept);
        let [report, expected] = [ClusterReport::new(&merged).report,
            Report::new(&all.0.instance, Window::SinceStart, NOW)];
        let counts = |report: &Report| {
            let sum = |of: fn(&telemetry_reports::report::Operation) -> u64| {
                report.operations.iter().map(of).sum::<u64>()
            };
            (sum(|row| row.count), sum(|row| row.errors), report.pool.queue_wait_us.clone(),
                report.sessions.clone())
        };
        prop_assert_eq!(counts(&report), counts(&expected));
        prop_assert!(report.operations.len() <= kept + 1);
    }

    /// Whatever comes is refused or read, and what was merged before stays as it was.
    #[test]
    fn damaged_snapshots_do_no_harm(
        changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..8),
        long in any::<bool>(),
    ) {
        let good = Node::start(SHAPE);
        good.call("m", "Class", 1_000, None, true);
        let node = Node::start(SHAPE);
        for number in 0..if long { 300 } else { 3_u64 } {
            node.call(&format!("m{}", number % 17), "Class", number * 7_919, Some(number), true);
            node.wait("call", number << (number % 50));
        }
        let mut payload = payload(&node.snapshot());
        for (at, byte, how) in changes {
            if payload.is_empty() {
                break;
            }
            let at = at.index(payload.len());
            match how {
                0 => payload[at] = byte,
                1 => payload.insert(at, byte),
                2 => { payload.remove(at); }
                _ => payload.truncate(at),
            }
        }
        let merged = merge(&[good.snapshot(), packed(&payload)]);
        prop_assert_eq!(merged.nodes()[0].state, State::Merged);
        if merged.nodes()[1].state != State::Merged {
            prop_assert!(merged.nodes()[1].reason.is_some());
            prop_assert_eq!(sorted(merged.points(CALLS).to_vec()), good.points(CALLS));
            prop_assert_eq!(merged.points(QUEUE).len(), 0);
        }
        let report = ClusterReport::new(&merged);
        serde_json::from_str::<serde_json::Value>(&report.to_json().unwrap()).unwrap();
        ClusterErrors::new(&merged);
        usage(&merged, 3);
    }

    /// The same for the bytes as they come, envelope and compression included.
    #[test]
    fn any_bytes_are_refused_or_read(
        bytes in vec(any::<u8>(), 0..200),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let node = Node::start(SHAPE);
        for number in 0..100 {
            node.call(&format!("m{number}"), "Class", number * 7_919, Some(number), true);
        }
        let mut snapshot = node.snapshot();
        let at = at.index(snapshot.len());
        snapshot[at] = byte;
        let header = [&b"DSPX\0\x02"[..], &bytes].concat();
        let merged = merge(&[snapshot, header, bytes]);
        prop_assert_ne!(merged.nodes()[2].state, State::Merged);
        ClusterReport::new(&merged);
    }
}

/// The payload of a snapshot.
fn payload(snapshot: &[u8]) -> Vec<u8> {
    let (packed, body) = (snapshot[6], &snapshot[11..]);
    if packed == 0 {
        return body.to_vec();
    }
    let mut payload = Vec::new();
    flate2::read::ZlibDecoder::new(body).read_to_end(&mut payload).unwrap();
    payload
}

/// A payload in the envelope of a snapshot.
fn packed(payload: &[u8]) -> Vec<u8> {
    [b"DSPX\0\x02\0", &(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

#[test]
fn an_unchanged_payload_is_read() {
    // Else the tests above would try nothing.
    let node = Node::start(SHAPE);
    node.call("m", "Class", 1_000, None, true);
    let merged = merge(&[packed(&payload(&node.snapshot()))]);
    assert_eq!(states(&merged), [State::Merged]);
}

#[test]
fn a_window_is_merged_as_it_is_reported() {
    let all = Node::start(SHAPE);
    let each = [Node::start(SHAPE), Node::start(SHAPE)];
    for (at, method) in [(0, "early"), (10_000, "late"), (15_000, "late")] {
        for (number, node) in each.iter().chain([&all]).enumerate() {
            let times = if number == 2 { 2 } else { 1 };
            (0..times).for_each(|_| node.call(method, "Class", 1_000 + at, None, true));
            node.0.instance.tick(moment(at + 10_000));
        }
    }
    let now = moment(26_000);
    for window in [Window::Last(9_000), Window::Previous(9_000), Window::SinceStart] {
        let merged = merge(&each.each_ref().map(|node| node.snapshot_of(window, now)));
        let expected = Report::new(&all.0.instance, window, now);
        assert_eq!(ClusterReport::new(&merged).report, expected, "{window:?}");
    }
}

#[test]
fn the_merged_interval_reaches_from_the_first_start_to_the_last_end() {
    let node = Node::start(SHAPE);
    let early = node.snapshot_of(Window::SinceStart, Moment { ms: 5_000, unix_ms: 1_000_000 });
    let late = node.snapshot_of(Window::SinceStart, Moment { ms: 5_000, unix_ms: 1_003_000 });
    let interval = ClusterReport::new(&merge(&[late, early])).report.interval;
    assert_eq!(
        (interval.from_unix_ms, interval.to_unix_ms, interval.duration_ms),
        (995_000, 1_003_000, 8_000)
    );
}

#[test]
fn other_configurations_and_formats_are_named_and_left_out() {
    let first = Node::start(SHAPE);
    first.call("m", "Class", 1_000, None, true);
    let digits = Node::start(Shape { digits: 3, ..SHAPE });
    digits.call("m", "Class", 1_000, None, true);
    let bounds = Node::start(Shape { last_bound: 2_000_000, ..SHAPE });
    let limit = Node::start(Shape { series_limit: 7, ..SHAPE });
    limit.call("m", "Class", 1_000, None, true);
    let mut format = first.snapshot();
    format[5] = 1;
    let role = Node::start(Shape { role: "tools", ..SHAPE });
    let snapshots = [
        first.snapshot(),
        digits.snapshot(),
        bounds.snapshot(),
        format,
        limit.snapshot(),
        role.snapshot(),
    ];
    let merged = merge(&snapshots);
    assert_eq!(
        states(&merged),
        [
            State::Merged,
            State::OtherConfiguration,
            State::OtherConfiguration,
            State::OtherVersion,
            State::Merged,
            State::OtherConfiguration,
        ]
    );
    let reason = |at: usize| merged.nodes()[at].reason.clone().unwrap();
    assert!(reason(1).contains("significant digits of dspex.bridge.call_method are 3"));
    assert!(reason(2).contains("bucket bounds of duration are [1000, 50000, 2000000]"));
    assert!(reason(3).contains("format 1"), "{}", reason(3));
    assert!(reason(5).contains("roles of dspex.bridge.call_method are Some(Tools)"));
    assert_eq!(ClusterReport::new(&merged).report.operations[0].count, 2);
}

#[test]
fn a_snapshot_that_is_too_large_is_refused_where_it_is_made_and_where_it_comes() {
    let node = Node::start(SHAPE);
    for number in 0..500 {
        node.call(&format!("method-{number}"), "Class", 1_000, None, true);
    }
    let limits = snapshot::Limits { series: 1_000, bytes: 4_000 };
    let refused = take(&node.0.instance, Window::SinceStart, NOW, limits).unwrap_err();
    assert_eq!(refused.state, State::TooLarge);
    let answer = [("n".to_owned(), Answer::Snapshot(&node.snapshot()))];
    let merged = Merged::new(answer, Limits { series: 1_000, bytes: 4_000 }, NOW);
    assert_eq!(states(&merged), [State::TooLarge]);
}

#[test]
fn a_node_sends_its_busiest_series_and_the_others_as_one() {
    let node = Node::start(SHAPE);
    for (method, calls) in [("a", 1), ("b", 3), ("c", 5), ("d", 2), ("e", 4)] {
        (0..calls).for_each(|_| node.call(method, "Class", 1_000, None, true));
    }
    let rows = |series| {
        let limits = snapshot::Limits { series, bytes: BYTES };
        let sent = take(&node.0.instance, Window::SinceStart, NOW, limits).unwrap();
        let report = ClusterReport::new(&merge(&[sent])).report;
        let rows = report.operations.into_iter().map(|row| (row.method, row.count));
        rows.collect::<BTreeSet<_>>()
    };
    let expected = |rows: &[(&str, u64)]| {
        rows.iter().map(|(method, count)| ((*method).to_owned(), *count)).collect::<BTreeSet<_>>()
    };
    assert_eq!(rows(5), expected(&[("a", 1), ("b", 3), ("c", 5), ("d", 2), ("e", 4)]));
    assert_eq!(rows(2), expected(&[("c", 5), ("e", 4), (OVERFLOW_LABEL, 6)]));
}

#[test]
fn more_events_than_there_can_be_are_refused() {
    // No sum over nodes may overflow.
    let node = Node::start(SHAPE);
    node.wait("c", 1);
    let payload = payload(&node.snapshot());
    // The last family counts the same event once: one series with a point of one cell, of value 1.
    assert!(payload.ends_with(&[1, 3, 1, 0, 1, 0]));
    let cut = payload.len() - 6;
    let claim = [&payload[..cut], &[1, 11, 1, 0], &[0xFF; 8], &[0x7F, 0]].concat();
    let merged = merge(&[packed(&claim)]);
    assert_eq!(states(&merged), [State::Corrupt]);
    assert!(merged.nodes()[0].reason.as_ref().unwrap().contains("more events"));
}

/// A snapshot as nobody makes it: families of one counter, each counted up to there by one series.
fn made_up(names: impl Iterator<Item = String>, count: u64) -> Vec<u8> {
    made_up_of(names, json!([]), &["x".to_owned()], count)
}

/// A snapshot as nobody makes it: families of one counter with such dimensions, whose first cell has
/// counted up to there in each series.
fn made_up_of(
    names: impl Iterator<Item = String>,
    dimensions: Value,
    series: &[String],
    count: u64,
) -> Vec<u8> {
    let family = |name: String| {
        json!({
            "name": name, "labels": ["l"], "counters": [{"name": "c", "dimensions": dimensions}],
            "histograms": [], "digits": 2, "series_limit": 0,
            "usage": {"kind": "method", "counter": "c", "labels": [0]},
        })
    };
    let families: Vec<_> = names.map(family).collect();
    let head = json!({
        "interval": {"from_unix_ms": 0, "to_unix_ms": 0, "duration_ms": 0}, "workers": 0,
        "ongoing": {"spikes": [], "recent_spikes": [], "anomalies": []}, "families": families,
    });
    let (mut sections, mut point) = (Vec::new(), vec![1, 0]);
    put(&mut point, count);
    for _ in &families {
        put(&mut sections, series.len() as u64);
        for label in series {
            put_counted(&mut sections, label.as_bytes());
            put_counted(&mut sections, &point);
        }
    }
    with_head(&head, &sections)
}

/// A snapshot of this head and these families' series, none of which were folded.
fn with_head(head: &Value, sections: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    put_counted(&mut payload, head.to_string().as_bytes());
    payload.extend_from_slice(sections);
    put(&mut payload, 0);
    packed(&payload)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_counted(bytes: &mut Vec<u8>, counted: &[u8]) {
    put(bytes, counted.len() as u64);
    bytes.extend_from_slice(counted);
}

#[test]
fn impossible_times_and_numbers_of_workers_are_refused() {
    // From the first millisecond of the year 0 to the last of the year 9999.
    let [first, last] = [-62_167_219_200_000_i64, 253_402_300_799_999];
    let most = u64::from(u32::MAX);
    let state = |from: i64, to: i64, workers: u64| {
        let head = json!({
            "interval": {"from_unix_ms": from, "to_unix_ms": to, "duration_ms": 0},
            "workers": workers,
            "ongoing": {"spikes": [], "recent_spikes": [], "anomalies": []}, "families": [],
        });
        merge(&[with_head(&head, &[])]).nodes()[0].state
    };
    for (from, to, workers) in [(5, 5, 0), (first, last, most)] {
        assert_eq!(state(from, to, workers), State::Merged, "{from} {to} {workers}");
    }
    for (from, to, workers) in
        [(6, 5, 0), (last, first, 0), (first - 1, 5, 0), (5, last + 1, 0), (5, 5, most + 1)]
    {
        assert_eq!(state(from, to, workers), State::Corrupt, "{from} {to} {workers}");
    }
}

#[test]
fn merged_cells_are_bounded_over_all_families_and_lose_nothing() {
    const MOST_CELLS: usize = 16 << 20;
    // Two cells are in every point, so these have 8,192.
    let values = |count: usize| (0..count).map(|value| format!("v{value}")).collect::<Vec<_>>();
    let dimensions =
        json!([{"name": "d", "values": values(90)}, {"name": "e", "values": values(91)}]);
    let room = MOST_CELLS / (90 * 91 + 2);
    assert_eq!(room, 2_048);
    let series = values(room / 2 + 100);
    let names = || ["f".to_owned(), "g".to_owned()].into_iter();
    let snapshot = made_up_of(names(), dimensions, &series, 1);
    // What came once has its row when it comes again.
    let merged = merge_with(&[snapshot.clone(), snapshot], 10_000);
    assert_eq!(states(&merged), [State::Merged; 2]);
    let rows = ["f", "g"].map(|family| merged.points(family).len());
    // The overflow row, without which something would be lost, comes on top.
    assert_eq!(rows, [series.len(), room - series.len() + 1]);
    for family in ["f", "g"] {
        let events = merged.points(family).iter().map(|(_, point)| point.cell(0)).sum::<u64>();
        assert_eq!(events, 2 * series.len() as u64, "{family}");
    }
    assert!(merged.nodes().iter().all(|node| node.folded == 200));
}

#[test]
fn more_folded_series_than_a_node_can_have_are_refused() {
    let payload = payload(&made_up(["f".to_owned()].into_iter(), 1));
    let (none, before) = payload.split_last().unwrap();
    assert_eq!(*none, 0);
    let merged = |folded: u64| {
        let mut payload = before.to_vec();
        put(&mut payload, folded);
        merge(&[packed(&payload)])
    };
    let most = u64::from(u32::MAX);
    let accepted = merged(most);
    let node = &accepted.nodes()[0];
    assert_eq!((node.state, node.folded), (State::Merged, most));
    for folded in [most + 1, u64::MAX] {
        assert_eq!(states(&merged(folded)), [State::Corrupt], "{folded}");
    }
}

#[test]
fn a_label_that_is_longer_than_those_of_events_is_refused() {
    let merged = |length: usize| {
        let series = ["l".repeat(length)];
        merge(&[made_up_of(["f".to_owned()].into_iter(), json!([]), &series, 1)])
    };
    let longest = merged(MAX_LABEL_BYTES);
    assert_eq!(states(&longest), [State::Merged]);
    let (labels, _) = &longest.points("f")[0];
    assert_eq!(labels.values().map(str::len).collect::<Vec<_>>(), [MAX_LABEL_BYTES]);
    for length in [MAX_LABEL_BYTES + 1, 2 * MAX_LABEL_BYTES] {
        assert_eq!(states(&merged(length)), [State::Corrupt], "{length}");
    }
}

#[test]
fn families_and_their_events_are_bounded_together() {
    let names = |from: usize| (from..from + 1_100).map(|n| format!("f{n}"));
    let merged = merge(&[made_up(names(0), 1), made_up(names(0), 1), made_up(names(1_100), 1)]);
    assert_eq!(states(&merged), [State::Merged, State::Merged, State::Corrupt]);
    let merged = merge(&[made_up(names(0), 1 << 52)]);
    assert_eq!(states(&merged), [State::Corrupt]);
    let reason = merged.nodes()[0].reason.as_deref().unwrap();
    assert!(reason.contains("more events than there can be"), "{reason}");
    let twice = made_up(["f".to_owned(), "f".to_owned()].into_iter(), 1);
    assert_eq!(states(&merge(&[twice])), [State::Corrupt]);
}

#[test]
fn a_report_of_no_nodes_is_empty() {
    let absent = |state| Answer::None(state, Some("reason".to_owned()));
    let answers =
        [("a".to_owned(), absent(State::Timeout)), ("b".to_owned(), Answer::Snapshot(b""))];
    let merged = Merged::new(answers, Limits { series: 1, bytes: 1 }, moment(5));
    assert_eq!(states(&merged), [State::Timeout, State::Corrupt]);
    let report = ClusterReport::new(&merged).report;
    assert_eq!((report.operations.len(), report.interval.duration_ms), (0, 0));
}
