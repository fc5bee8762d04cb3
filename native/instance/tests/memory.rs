//! What is allocated, by the allocator's count and by the library's own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use std::sync::Arc;

use serde_json::{Value, json};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_common::refs::Refs;
use telemetry_common::thread_number::set_exclusive_lanes;
use telemetry_instance::anomaly::{Anomalies, AnomalySpec};
use telemetry_instance::signal::{Overflow, Sent, Signal, Signals};
use telemetry_instance::spike::{SpikeSpec, Spikes};
use telemetry_instance::usage::Usage;
use telemetry_recording::family::UsageKind;
use telemetry_recording::family::{Family, FamilySpec};
use telemetry_recording::local;
use telemetry_recording::series::Series;
use telemetry_router::{EjectionSpec, Memory, Outcome, Request, Router, RouterSpec, published};
use telemetry_testing::allocator::{Counting, allocated};
use telemetry_testing::{Calls, Crew, Given, Running, send, text};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LANES: usize = 2;
const SERIES: usize = 500;

/// Threads that have recorded before.
fn crew() -> Crew {
    assert_eq!(set_exclusive_lanes(LANES), LANES);
    let crew = Crew::new(LANES);
    let running = Arc::new(Calls::default().start());
    for thread in 0..crew.size() {
        let running = Arc::clone(&running);
        crew.run(thread, move || running.call("m", 1));
    }
    crew
}

/// A counter with these dimensions, and histograms with these bounds.
fn start(dimensions: &Value, bounds: &[&[u64]], digits: u8) -> Running {
    let histogram = |(at, bounds): (usize, &&[u64])| json!({"name": format!("histogram{at}"), "unit": "nanosecond", "bounds": bounds});
    let observe = |at| json!({"histogram": format!("histogram{at}"), "field": 0});
    let constants = dimensions.as_array().unwrap().iter().map(|_| json!({"constant": 0}));
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method"],
            "counters": [{"name": "total", "dimensions": dimensions}],
            "histograms": bounds.iter().enumerate().map(histogram).collect::<Vec<_>>(),
            "digits": digits,
            "series_limit": SERIES,
        }],
        "plans": [{
            "event": "call.stop",
            "fields": [telemetry_testing::measurement(true), text(true)],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 1}],
                "counts": [{"counter": "total", "dimensions": constants.collect::<Vec<_>>()}],
                "observes": (0..bounds.len()).map(observe).collect::<Vec<_>>(),
            }}],
        }],
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

/// Records into every series from every lane. Returns what one series took by its own account,
/// which is checked against the allocator's.
fn bytes_per_series(what: &str, start: impl FnOnce() -> Running) -> usize {
    // What is allocated once for all and stays.
    crew().end();
    let nothing = allocated();
    let running = start();
    let memory = |running: &Running| running.instance.info().memory_bytes;
    let (before, told_before) = (allocated(), memory(&running));
    let plan = running.plans[0];
    let crew = crew();
    for thread in 0..crew.size() {
        crew.run(thread, move || {
            for series in 0..SERIES {
                let method = format!("method_{series}");
                for value in THREE_DECADES {
                    send(plan, &[Given::Number(*value), Given::Text(&method)]);
                }
            }
        });
    }
    // With the threads goes all that is theirs: caches are not part of series.
    crew.end();
    let counted = allocated() - before;
    let told = memory(&running) - told_before;
    let series = running.family("calls").series();
    let of_series: usize = series.iter().map(|series| series.memory_bytes()).sum();
    drop(series);
    println!("{what}: {} bytes allocated, {} told", counted / SERIES, told / SERIES);
    assert_eq!(of_series, told, "{what}: the series say something else than their instance");
    // The table may be half empty, and its free room is nobody's.
    let free_room = SERIES * size_of::<(LabelSet, Arc<Series>)>();
    let difference = told.abs_diff(counted);
    assert!(difference <= told / 20 + free_room, "{what}: {counted} allocated, {told} told");

    drop(running);
    let left = allocated().saturating_sub(nothing);
    assert!(left <= 1_024, "{what}: {left} bytes are left when the instance is gone");
    told / SERIES
}

/// Three decades, 1 ms to 1 s in nanoseconds, every power of two touched.
const THREE_DECADES: &[u64] = &[
    1_000_000,
    2_000_000,
    4_000_000,
    8_000_000,
    16_000_000,
    32_000_000,
    64_000_000,
    128_000_000,
    256_000_000,
    512_000_000,
    1_000_000_000,
];

const BOUNDS: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    60_000_000_000,
];

fn a_series_takes_what_it_says_and_no_more_than_promised() {
    let none = json!([]);
    let told = bytes_per_series("one counter", || start(&none, &[], 2));
    assert!(told <= 1_024, "{told} bytes for a series with counters only");
    let told = bytes_per_series("one histogram, 2 digits", || start(&none, &[BOUNDS], 2));
    assert!(told <= 16 * 1_024, "{told} bytes for a histogram series");
    for digits in [1, 3] {
        let what = format!("one histogram, {digits} digits");
        bytes_per_series(&what, || start(&none, &[BOUNDS], digits));
    }
    let booleans = json!(["true", "false"]);
    let dimensions = json!([
        {"name": "success", "values": booleans},
        {"name": "cached", "values": booleans},
    ]);
    bytes_per_series("two histograms", || start(&dimensions, &[BOUNDS, &[]], 2));
}

fn label_sets_over_the_limit_leave_nothing_behind() {
    const LIMIT: usize = 100;
    const EVENTS: usize = 50_000;
    let crew = crew();
    let running = Arc::new(Calls { series_limit: LIMIT, ..Calls::default() }.start());
    let record = |from: usize, to: usize| {
        for thread in 0..crew.size() {
            let running = Arc::clone(&running);
            crew.run(thread, move || {
                for event in from..to {
                    running.call(&format!("method-{event}-of-{thread}"), 1_000);
                }
            });
        }
        allocated()
    };
    let first = record(0, EVENTS / 10);
    let last = record(EVENTS / 10, EVENTS);
    assert!(last.saturating_sub(first) <= 1_024, "{} bytes more", last - first);
    assert_eq!(running.total(), (LANES * EVENTS) as u64);
    // Now, and not at some moment of what comes next.
    crew.end();
}

/// The catalogue's `call_method` family: three histograms, of which the first spans two decades.
fn calls_with_sizes(series_limit: usize, memory_limit: usize) -> Running {
    let histogram =
        |name: &str, bounds: &[u64]| json!({"name": name, "unit": "byte", "bounds": bounds});
    let booleans = json!(["true", "false"]);
    Running::start(json!({
        "families": [{
            "name": "calls",
            "labels": ["method", "python_class"],
            "counters": [
                {"name": "total", "dimensions": [
                    {"name": "success", "values": booleans},
                    {"name": "cached", "values": booleans},
                ]},
                {"name": "exceptions", "dimensions": [
                    {"name": "kind", "values": ["error", "exit", "throw", "other"]},
                ]},
                {"name": "starts", "dimensions": []},
            ],
            "histograms": [
                histogram("duration", BOUNDS),
                histogram("args_size", &[64, 256, 1_024, 4_096]),
                histogram("result_size", &[64, 256, 1_024, 4_096]),
            ],
            "digits": 2,
            "series_limit": series_limit,
        }],
        "plans": [{
            "event": "call.stop",
            "fields": [
                telemetry_testing::measurement(true), telemetry_testing::measurement(true), telemetry_testing::measurement(true),
                text(true), text(true), {"flag": {"default": null}},
            ],
            "steps": [{"feed": {
                "family": "calls",
                "labels": [{"field": 3}, {"field": 4}],
                "counts": [
                    {"counter": "total", "dimensions": [{"field": 5}, {"constant": 1}]},
                    {"counter": "starts", "dimensions": []},
                ],
                "observes": [
                    {"histogram": "duration", "field": 0},
                    {"histogram": "args_size", "field": 1},
                    {"histogram": "result_size", "field": 2},
                ],
            }}],
        }],
        "ref_limit": 0,
        "worker_limit": 0,
        "windows": {"slice_ms": 10_000, "history_ms": 3_600_000, "memory_limit": memory_limit},
    }))
}

/// An hour of ten-second slices in which 25 series have 50 events each, under a limit that stands to
/// them as 64 MiB do to 2,000 series. It holds by the allocator's count too.
fn an_hour_of_windows_stays_within_its_limit() {
    const SERIES: usize = 25;
    const LIMIT: usize = (64 << 20) / 80;
    const EVENTS: u64 = 50;
    const SLICES: u64 = 360;
    crew().end();
    let running = calls_with_sizes(SERIES, LIMIT);
    let names: Vec<_> = (0..SERIES)
        .map(|series| (format!("method_{}", series % 100), format!("Class{}", series / 100)))
        .collect();
    let mut random = 1_u64;
    let mut slice = |running: &Running| {
        for (method, class) in &names {
            for _ in 0..EVENTS {
                // Two decades from 1 ms, evenly on a logarithmic scale as far as it matters here.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let power = (random >> 60) % 7;
                let duration = (1_000_000 << power) + (random >> 20) % (1_000_000 << power);
                let given = [
                    Given::Number(duration),
                    Given::Number(100 + (random >> 30) % 400),
                    Given::Number(50 + (random >> 40) % 2_000),
                    Given::Text(method),
                    Given::Text(class),
                    Given::Flag(!(random >> 50).is_multiple_of(100)),
                ];
                send(running.plans[0], &given);
            }
        }
    };
    let told = |running: &Running| {
        let info = running.instance.info();
        (info.memory_bytes - info.windows.memory_bytes, info.windows)
    };
    slice(&running);
    // What is allocated beside series, slices and the tables of threads. A table that has no room for a
    // third series in one place doubles sooner or later.
    let beside = allocated() - told(&running).0 - local::table_bytes();
    let (mut slices_before, mut merged) = (0, 0);
    for number in 1..=SLICES {
        slice(&running);
        running.instance.tick(telemetry_testing::moment(number * 10_000));
        let now = allocated();
        let (series, windows) = told(&running);
        let allocated = now.saturating_sub(beside + series + local::table_bytes());
        let told = windows.memory_bytes;
        assert_eq!(windows.memory_limit, LIMIT);
        assert!(told <= LIMIT && allocated <= LIMIT, "{allocated} allocated: {windows:?}");
        // Labels are told in full, although slices share them with the series.
        let difference = told.abs_diff(allocated);
        assert!(difference <= told / 10 + 4_096, "{allocated} allocated: {windows:?}");
        if windows.merged == 0 {
            slices_before = windows.slices;
        }
        merged = windows.merged;
    }
    println!(
        "{slices_before} slices before the first merge, {merged} merged: {:?}",
        told(&running).1
    );
    assert!(merged > 100, "the limit was not reached");
}

/// A thread that records into one series, and then into many.
fn threads_take_what_they_say_for_their_tables() {
    const SERIES: usize = 10_000;
    crew().end();
    let running = Arc::new(Calls { series_limit: SERIES, ..Calls::default() }.start());
    let before = local::table_bytes();
    let crew = Crew::new(1);
    for (count, least) in [(1, 256), (SERIES, 16_384)] {
        let calling = Arc::clone(&running);
        crew.run(0, move || {
            // The table doubles only while series push each other out of it.
            for call in 0..10 * count {
                calling.call(&format!("method_{}", call % count), 1);
            }
        });
        let told = local::table_bytes() - before;
        println!("{told} bytes of a thread's tables with {count} series");
        // Entries of one cache line each, and those of plans.
        assert!((64 * least..64 * least + 8_192).contains(&told), "{told} with {count} series");
    }
    let told = local::table_bytes() - before;
    let full = allocated();
    running.instance.reset(telemetry_testing::moment(1));
    assert_eq!(local::table_bytes(), before, "a reset empties the tables");
    let freed = full - allocated();
    assert!(freed >= told, "{freed} bytes freed, {told} told");
    crew.end();
}

/// Families with many bounds against one with none: what all have in common is in no difference.
fn a_family_takes_what_it_says_before_it_has_series() {
    let taken = |histograms: usize, measures: usize| {
        let bounds = || 1..=200_u64;
        let histogram = |at| {
            let bounds = bounds().map(|bound| bound * 1_000).collect::<Vec<_>>();
            json!({"name": format!("h{at}"), "unit": "byte", "bounds": bounds})
        };
        let measure = |at| {
            let bound = |bound: u64| json!({"value": bound as f64, "text": bound.to_string()});
            let bounds = bounds().map(bound).collect::<Vec<_>>();
            let kind = json!({"distribution": {"bounds": bounds}});
            json!({"name": format!("m{at}"), "help": "", "kind": kind})
        };
        let spec: FamilySpec = serde_json::from_value(json!({
            "name": "f", "labels": [], "counters": [], "digits": 2, "series_limit": 0,
            "histograms": (0..histograms).map(histogram).collect::<Vec<_>>(),
            "measures": (0..measures).map(measure).collect::<Vec<_>>(),
        }))
        .unwrap();
        let before = allocated();
        let family = Family::new(spec.clone()).unwrap();
        (allocated() - before, family.memory_bytes())
    };
    let (least, told_least) = taken(0, 0);
    for (histograms, measures) in [(1, 0), (8, 0), (0, 1), (0, 8)] {
        let (counted, told) = taken(histograms, measures);
        let (counted, told) = (counted - least, told - told_least);
        println!("{histograms} histograms, {measures} measures: {counted} bytes, {told} told");
        // Their names.
        let names = 16 * (histograms + measures);
        assert!((told..=told + names).contains(&counted), "{counted} allocated, {told} told");
    }
}

/// A label set of which no byte is lost to alignment.
fn aligned(number: usize) -> LabelSet {
    LabelSet::new([format!("method_{number:04}").as_str(), "ClassName"])
}

/// Keys with a history, of which some have an anomaly.
fn anomalies_take_what_they_say() {
    const KEYS: usize = 1_000;
    const HISTORY: u64 = 100;
    let before = allocated();
    let anomalies = Anomalies::new(AnomalySpec::default());
    for number in 0..KEYS {
        let key = aligned(number);
        (0..HISTORY).for_each(|slice| drop(anomalies.observe(&key, slice, 50, 1_000)));
        if number.is_multiple_of(2) {
            anomalies.observe(&key, HISTORY, 50, 9_000);
        }
    }
    let (counted, told) = (allocated() - before, anomalies.memory_bytes());
    println!("{KEYS} keys, half of them with an anomaly: {counted} bytes, {told} told");
    assert_eq!(anomalies.current().len(), KEYS / 2);
    // The table ends with some control bytes more.
    assert!((told..=told + 64).contains(&counted), "{counted} allocated, {told} told");
}

/// Keys whose errors have many causes, with a spike, and spikes that are over.
fn spikes_and_causes_take_what_they_say() {
    const KEYS: usize = 1_000;
    const THRESHOLD: usize = 20;
    let spec = SpikeSpec {
        threshold: THRESHOLD,
        window_ms: 1_000,
        percent: 0,
        repeat_ms: 0,
        key_limit: KEYS,
    };
    for ended in [false, true] {
        let before = allocated();
        let spikes = Spikes::new(spec.clone());
        for number in 0..KEYS {
            let key = aligned(number);
            for error in 0..THRESHOLD {
                let reason = format!("a reason that is not that short, {error:02}");
                drop(spikes.record(&key, "error", &reason, 0, || None));
            }
        }
        let over = if ended { spikes.sweep(10_000).over.len() } else { 0 };
        let (counted, told) = (allocated() - before, spikes.memory_bytes());
        println!("{KEYS} keys with a spike, {over} over: {counted} bytes, {told} told");
        assert_eq!(over, if ended { KEYS } else { 0 });
        assert!((told..=told + 64).contains(&counted), "{counted} allocated, {told} told");
    }
}

/// Most keys that a router of the tests keeps.
const KEYS: usize = 100_000;

/// What steps and claims remember beside series: a thousand of each, with long names.
fn what_steps_remember_takes_what_it_says() {
    const COUNT: usize = 1_000;
    let step = |step: Value| json!({"steps": [step]});
    let claim = |claim: Value| json!({"steps": [], "claim": claim});
    let parts = [
        ("workers", step(json!({"worker_up": {"id": 0}}))),
        ("pools", step(json!({"in_pool": {"worker": 0, "pool": 1, "except": []}}))),
        ("references", step(json!({"bind": {"reference": 0, "class": 1}}))),
        ("callers", step(json!({"enter": {"operation": "call"}}))),
        ("requests", step(json!({"dispatched": {"process": 2, "worker": 0, "command": 1}}))),
        ("tools", claim(json!({"tool": {"name": 0, "emitter": {"number": 1, "takes": false}}}))),
        (
            "owned workers",
            claim(json!({"worker": {"id": 0, "emitter": {"number": 1, "takes": false}}})),
        ),
    ];
    for (part, mut plan) in parts {
        plan["event"] = json!("e");
        plan["fields"] = json!([text(true), text(true), "process"]);
        let running = Running::start(json!({
            "families": [],
            "plans": [plan],
            "ref_limit": COUNT,
            "worker_limit": COUNT,
            "call_paths": {"worker_limit": COUNT},
        }));
        let event = |number: usize| {
            let name = format!("{number:0100}");
            let given = [Given::Text(&name), Given::Text("other"), Given::Process(number as u64)];
            let process = || number as u64;
            local::record(running.plans[0], process, |inputs, fields| {
                telemetry_testing::decode(&given, inputs, fields)
            });
        };
        // What is allocated once for all.
        event(0);
        let told = || running.instance.info().memory_bytes;
        let (before, told_before) = (allocated(), told());
        (1..=COUNT).for_each(event);
        let (counted, told) = (allocated() - before, told() - told_before);
        println!("{COUNT} {part}: {counted} bytes allocated, {told} told");
        // But for free room in tables.
        assert!((counted * 8 / 10..=counted).contains(&told), "{part}: {counted} {told}");
    }
}

/// As many names as are counted, and more, which push each other out.
fn usage_takes_what_it_says() {
    const NAMES: usize = 1_000;
    for used in [NAMES, 3 * NAMES] {
        let before = allocated();
        let usage = Usage::new(NAMES);
        let told_empty = usage.memory_bytes();
        for number in 0..used {
            usage.add(UsageKind::Method, &format!("{number:0100}"), 1, 1);
        }
        let (counted, told) = (allocated() - before, usage.memory_bytes());
        println!(
            "usage of {used} names: {counted} bytes allocated, {told} told, {told_empty} of none"
        );
        assert!((counted * 9 / 10..=counted * 21 / 20).contains(&told), "{counted} {told}");
    }
}

/// A router without workers, with the limits that one has by default.
fn router() -> Router {
    let ejection =
        EjectionSpec { failures: None, error_rate: 1.0, base_ms: 0, longest_ms: 0, share: 0.0 };
    Router::new(RouterSpec {
        choices: 16,
        half_life_ms: 5_000,
        error_penalty: 10.0,
        exploration: 0,
        slow_start_ms: 0,
        ejection,
        command_limit: 128,
        sticky_limit: KEYS,
        worker_limit: 10_000,
        metrics_limit: 2_000,
    })
}

/// Workers that are there and each did requests of all commands, workers that have left, and keys.
fn a_router_takes_what_it_says_and_free_room_in_tables() {
    // What is allocated once for all and stays.
    router().add_worker("worker", 0);
    for (workers, departed, commands, keys) in [
        (1_000, 0, 0, 0),
        (5_000, 0, 0, 0),
        (1, 1_000, 0, 0),
        (100, 0, 20, 0),
        (1_000, 0, 128, 0),
        (1, 0, 0, 56_000),
        (1, 0, 0, 60_000),
        (1, 0, 0, 300_000),
    ] {
        let ids: Vec<_> = (0..workers).map(|number| format!("worker_{number:08}")).collect();
        let router = router();
        let before = allocated();
        for number in 0..departed {
            let id = format!("departed_{number:06}");
            router.add_worker(&id, 0);
            router.remove_worker(&id);
        }
        router.put_workers(ids.iter().map(String::as_str), 0);
        for command in 0..commands {
            let command = format!("command_{command:03}");
            ids.iter().for_each(|id| router.completed(&command, id, Outcome::Success, 1, 1));
        }
        let mut memory = Memory::default();
        for key in 0..keys {
            let key = format!("{key}");
            let request = Request { command: b"", key: Some(key.as_bytes()) };
            router.route(request, 0, &mut memory, |_, _| ()).unwrap();
        }
        // A scheduler's, and not the router's.
        drop(memory);
        let counted = allocated() - before;
        let told = router.memory_bytes();
        println!(
            "{workers} workers, {departed} have left, {commands} commands, {keys} keys: {counted} bytes \
             allocated, {told} told"
        );
        let keys = keys.min(KEYS);
        // More than half of a table may be free, and two thirds of one whose entries come and go.
        let free_room = 54 * workers + 30 * departed + 60 * commands + 50 * keys + 4_096;
        assert!((told..=told + free_room).contains(&counted), "{counted} allocated, {told} told");
        // And what was told of each that has metrics of its own.
        drop(router.tally(1));
        let (counted, told) = (allocated() - before, router.memory_bytes());
        let free_room = free_room + 160 * (workers.min(2_000) + departed);
        println!("after a scrape {counted} bytes allocated, {told} told");
        assert!((told..=told + free_room).contains(&counted), "{counted} allocated, {told} told");
    }
}

/// All workers of a router leave, or all but some, that did requests of all commands and have keys.
fn a_router_gives_back_what_workers_took_that_have_left() {
    const WORKERS: usize = 10_000;
    const COMMANDS: usize = 50;
    const MB: usize = 1 << 20;
    let ids: Vec<_> = (0..WORKERS).map(|number| format!("worker_{number:08}")).collect();
    for staying in [0, 64] {
        let before = allocated();
        let router = router();
        let put = |count: usize| router.put_workers(ids[..count].iter().map(String::as_str), 0);
        put(WORKERS);
        for command in 0..COMMANDS {
            let command = format!("command_{command:03}");
            ids.iter().for_each(|id| router.completed(&command, id, Outcome::Success, 5_000, 1));
        }
        let mut memory = Memory::default();
        for key in 0..WORKERS {
            let request = Request { command: b"command_001", key: Some(&key.to_le_bytes()) };
            router.route(request, 1, &mut memory, |_, _| ()).unwrap();
        }
        let full = allocated() - before;
        assert!(full > 40 * MB, "{full}");
        let usual = |router: &Router| router.explain("command_000", 1).usual_us;
        let known = usual(&router);
        assert_eq!(put(staying).removed, WORKERS - staying);
        // As a scheduler does with its next decision.
        let request = Request { command: b"command_001", key: None };
        router.route(request, 1, &mut memory, |_, _| ());
        let (left, told) = (allocated() - before, router.memory_bytes());
        println!("{full} bytes of {WORKERS} workers, {left} left of {staying}, {told} told");
        // Workers are in chunks with neighbours, of which each that stays may keep others' place.
        let most = if staying == 0 { MB } else { 18 * MB };
        assert!((told..most).contains(&left), "{left} left, {told} told");
        // What is known of commands, and of those that stay, is known still.
        assert_eq!(usual(&router), known);
        let candidates = router.explain("command_049", 1).candidates;
        assert_eq!(candidates.len(), staying);
        assert!(candidates.iter().all(|one| one.successes == 1 && one.latency_from == "command"));
        assert_eq!(put(WORKERS).added, WORKERS - staying);
        assert_eq!(router.report(1).commands.len(), COMMANDS);
    }
}

/// A thread has routed requests, and routes none any more.
fn a_thread_that_is_idle_keeps_nothing_of_workers_that_have_left() {
    const WORKERS: usize = 2_000;
    const NUMBER: u64 = 7;
    let running = Running::start(json!({
        "families": [], "plans": [], "ref_limit": 0, "worker_limit": 0,
        "router": {
            "choices": 16, "half_life_ms": 5_000, "error_penalty": 10.0, "exploration": 0,
            "slow_start_ms": 0,
            "ejection": {"failures": null, "error_rate": 1.0, "base_ms": 0, "longest_ms": 0, "share": 0.0},
            "command_limit": 8, "sticky_limit": 8, "worker_limit": WORKERS, "metrics_limit": 8,
        },
    }));
    running.instance.publish_router(NUMBER, || 1);
    let ids: Vec<_> = (0..WORKERS).map(|number| format!("worker_{number:08}")).collect();
    let crew = Crew::new(1);
    let route = || {
        let request = Request { command: b"command", key: None };
        let route = |router: &Arc<Router>, memory: &mut Memory| {
            router.route(request, 1, memory, |_, _| ()).is_some()
        };
        published::with_router(NUMBER, route)
    };
    assert_eq!(crew.run(0, route), Some(false));
    let before = allocated();
    running.instance.put_workers(ids.iter().map(String::as_str), 1);
    assert_eq!(crew.run(0, route), Some(true));
    let full = allocated() - before;
    assert_eq!(running.instance.put_workers(std::iter::empty(), 1).removed, WORKERS);
    let left = allocated() - before;
    println!("{full} bytes of {WORKERS} workers, {left} left of none");
    assert!(left < 200_000 && full > 1_400_000, "{left} left of {full}");
    assert_eq!(crew.run(0, route), Some(false));
    crew.end();
}

/// A map from reference to class whose references are bound again and again, each time to another class.
fn references_take_what_they_say_and_free_room_in_tables_however_often_they_are_bound() {
    for (references, times) in [(1, 100_000), (1_000, 100)] {
        let before = allocated();
        let refs = Refs::new(1_000);
        for time in 0..times {
            for reference in 0..references {
                refs.bind(&format!("reference-{reference}"), &format!("Class{time}.{reference}"));
            }
        }
        let (counted, told) = (allocated() - before, refs.memory_bytes());
        println!("{references} references, {times} classes each: {counted} bytes, {told} told");
        // The shards of the table, and its free room.
        assert!((told..=told + 100 * references + 16_384).contains(&counted), "{counted} {told}");
        let texts = references * ("reference-000".len() + "Class00.000".len());
        assert!(told >= texts, "{told}, texts alone {texts}");
    }
}

/// Room for signals is not taken before they come, and given back when they have been taken out.
fn signals_take_memory_only_while_they_wait() {
    let overflow = |limit| Signal::Overflow(Overflow { event: String::new(), limit });
    let now = Moment { ms: 0, unix_ms: 0 };
    let before = allocated();
    let signals = Signals::new(1_000_000);
    let empty = allocated() - before;
    (0..100_000).for_each(|limit| signals.send(now, overflow(limit)));
    let full = allocated() - before;
    assert_eq!(signals.receiver().try_iter().count(), 100_000);
    let emptied = allocated() - before;
    println!(
        "signals: {empty} bytes for none of 1,000,000, {full} for 100,000, {emptied} afterwards"
    );
    assert!(empty < 10_000, "{empty}");
    assert!((100_000 * size_of::<Sent>()..20_000_000).contains(&full), "{full}");
    assert!(emptied < 20_000, "{emptied}");
}

/// One after the other, without the usual test runner: it allocates, and tens of kilobytes of that when
/// the first of its tests has ended and others are under way.
fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let tests: [(&str, fn()); 14] = [
        (
            "a_series_takes_what_it_says_and_no_more_than_promised",
            a_series_takes_what_it_says_and_no_more_than_promised,
        ),
        (
            "label_sets_over_the_limit_leave_nothing_behind",
            label_sets_over_the_limit_leave_nothing_behind,
        ),
        ("an_hour_of_windows_stays_within_its_limit", an_hour_of_windows_stays_within_its_limit),
        (
            "threads_take_what_they_say_for_their_tables",
            threads_take_what_they_say_for_their_tables,
        ),
        (
            "a_family_takes_what_it_says_before_it_has_series",
            a_family_takes_what_it_says_before_it_has_series,
        ),
        ("anomalies_take_what_they_say", anomalies_take_what_they_say),
        ("spikes_and_causes_take_what_they_say", spikes_and_causes_take_what_they_say),
        ("what_steps_remember_takes_what_it_says", what_steps_remember_takes_what_it_says),
        ("usage_takes_what_it_says", usage_takes_what_it_says),
        (
            "a_router_takes_what_it_says_and_free_room_in_tables",
            a_router_takes_what_it_says_and_free_room_in_tables,
        ),
        (
            "a_router_gives_back_what_workers_took_that_have_left",
            a_router_gives_back_what_workers_took_that_have_left,
        ),
        (
            "a_thread_that_is_idle_keeps_nothing_of_workers_that_have_left",
            a_thread_that_is_idle_keeps_nothing_of_workers_that_have_left,
        ),
        (
            "references_take_what_they_say_and_free_room_in_tables_however_often_they_are_bound",
            references_take_what_they_say_and_free_room_in_tables_however_often_they_are_bound,
        ),
        ("signals_take_memory_only_while_they_wait", signals_take_memory_only_while_they_wait),
    ];
    // Printing allocates when it is done for the first time.
    println!("what is allocated, counted for the whole process");
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part)) {
            // A panic ends the process with a status that says so.
            test();
            println!("test {name} ... ok");
        }
    }
}
