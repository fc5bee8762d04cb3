//! Whatever plans say and however threads interleave, every event is counted exactly where it
//! belongs.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use telemetry_common::label::normalise;
use telemetry_common::thread_number::set_exclusive_lanes;
use telemetry_recording::histogram::MAX_VALUE;
use telemetry_recording::local::RecordOutcome;
use telemetry_recording::series::Series;
use telemetry_reports::report::Report;
use telemetry_testing::{Calls, Given, NOW, Running, cases, counted, labels, role, send, text};
use telemetry_windows::window::Window;

/// Two of them share a lane, two have cells of their own but no histogram counters, and four have
/// both.
const THREADS: usize = 8;
const EXCLUSIVE_LANES: usize = 6;

const FLAG: [&str; 2] = ["true", "false"];
const CHOICE: [&str; 3] = ["error", "exit", "other"];
const FAMILIES: [&str; 3] = ["dspex.bridge.call_method", "dspex.tools.call", "queue"];

/// The fields of every plan.
const NUMBER: usize = 0;
const OPTIONAL_NUMBER: usize = 1;
const TEXTS: [usize; 3] = [2, 3, 4];
const FLAG_FIELD: usize = 5;
const CHOICE_FIELD: usize = 6;

/// Texts that are easily taken for each other: they share lengths, beginnings or ends, and lie
/// around the lengths at which comparing or hashing changes its ways.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = vec![b"".into(), b"unknown".into(), b"true".into()];
    for length in [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 32, 256] {
        for at in [0, length / 2, length - 1] {
            let mut text = vec![b'a'; length];
            text[at] = b'b';
            texts.push(text);
        }
    }
    texts.extend([vec![b'a'; 300], vec![b'a'; 400], b"inv\xFFalid".into(), "é🦀".into()]);
    texts
}

#[derive(Clone, Debug)]
struct FamilyShape {
    labels: usize,
    /// For each counter its dimensions: whether a choice rather than a flag.
    counters: Vec<Vec<bool>>,
    /// For each histogram its bounds.
    histograms: Vec<Vec<u64>>,
    digits: u8,
}

#[derive(Clone, Debug)]
enum LabelShape {
    Text(usize),
    Flag,
    Constant,
}

#[derive(Clone, Debug)]
struct FeedShape {
    family: Index,
    labels: Vec<LabelShape>,
    /// For each dimension a constant index, or none where the field decides.
    dimensions: Vec<Option<Index>>,
    /// For each histogram and counter whether the event feeds it.
    fed: Vec<bool>,
    /// For each histogram whether the optional field feeds it.
    optional: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Event {
    plan: Index,
    number: u64,
    optional_number: Option<u64>,
    texts: Vec<Option<Vec<u8>>>,
    flag: Option<bool>,
    choice: &'static str,
}

fn family_shape() -> impl Strategy<Value = FamilyShape> {
    let bounds = vec(0..5_000_u64, 0..20).prop_map(|mut bounds| {
        bounds.sort_unstable();
        bounds.dedup();
        bounds
    });
    (0..=3_usize, vec(vec(any::<bool>(), 0..3), 0..3), vec(bounds, 0..3), 1..=3_u8).prop_map(
        |(labels, counters, histograms, digits)| FamilyShape {
            labels,
            counters,
            histograms,
            digits,
        },
    )
}

fn feed_shape() -> impl Strategy<Value = FeedShape> {
    let label = prop_oneof![
        6 => (0..3_usize).prop_map(LabelShape::Text),
        1 => Just(LabelShape::Flag),
        1 => Just(LabelShape::Constant),
    ];
    let dimensions = vec(option::weighted(0.3, any::<Index>()), 4);
    let fed = vec(prop::bool::weighted(0.8), 4);
    (any::<Index>(), vec(label, 3), dimensions, fed, vec(any::<bool>(), 2)).prop_map(
        |(family, labels, dimensions, fed, optional)| FeedShape {
            family,
            labels,
            dimensions,
            fed,
            optional,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let number = prop_oneof![0..5_000_u64, Just(0), 0..=MAX_VALUE];
    let text = option::weighted(0.9, select(texts()));
    let texts = vec(text, TEXTS.len());
    let choice = select(vec!["error", "exit", "other", "no such word"]);
    let flag = option::of(any::<bool>());
    (any::<Index>(), number.clone(), option::of(number), texts, flag, choice).prop_map(
        |(plan, number, optional_number, texts, flag, choice)| Event {
            plan,
            number,
            optional_number,
            texts,
            flag,
            choice,
        },
    )
}

impl FeedShape {
    /// What the step does, in one form for the definition and for the model.
    fn resolve<'a>(&self, families: &'a [FamilyShape]) -> Feed<'a> {
        let index = self.family.index(families.len());
        let family = &families[index];
        let mut dimensions = self.dimensions.iter();
        let mut fed = self.fed.iter();
        let mut counts = Vec::new();
        for (counter, choices) in family.counters.iter().enumerate() {
            let constants: Vec<_> = choices
                .iter()
                .map(|choice| {
                    let values = if *choice { CHOICE.len() } else { FLAG.len() };
                    dimensions.next().unwrap().map(|constant| constant.index(values))
                })
                .collect();
            if *fed.next().unwrap() {
                counts.push((counter, constants));
            }
        }
        let observes = (0..family.histograms.len()).filter(|_| *fed.next().unwrap());
        let field = |histogram| if self.optional[histogram] { OPTIONAL_NUMBER } else { NUMBER };
        Feed {
            index,
            family,
            labels: self.labels[..family.labels].to_vec(),
            counts,
            observes: observes.map(|histogram| (histogram, field(histogram))).collect(),
        }
    }
}

struct Feed<'a> {
    index: usize,
    family: &'a FamilyShape,
    labels: Vec<LabelShape>,
    /// Counters with the constants among their dimensions.
    counts: Vec<(usize, Vec<Option<usize>>)>,
    /// Histograms with their fields.
    observes: Vec<(usize, usize)>,
}

fn family_json(name: &str, shape: &FamilyShape) -> Value {
    let dimension = |at: usize, choice: &bool| {
        let values = if *choice { &CHOICE[..] } else { &FLAG[..] };
        json!({"name": format!("dimension{at}"), "values": values})
    };
    let counter = |(at, choices): (usize, &Vec<bool>)| {
        let dimensions = choices.iter().enumerate().map(|(at, choice)| dimension(at, choice));
        json!({"name": format!("counter{at}"), "dimensions": dimensions.collect::<Vec<_>>()})
    };
    let histogram = |(at, bounds): (usize, &Vec<u64>)| json!({"name": format!("histogram{at}"), "unit": "nanosecond", "bounds": bounds});
    json!({
        "name": name,
        "role": role(name),
        "labels": (0..shape.labels).map(|at| format!("label{at}")).collect::<Vec<_>>(),
        "counters": shape.counters.iter().enumerate().map(counter).collect::<Vec<_>>(),
        "histograms": shape.histograms.iter().enumerate().map(histogram).collect::<Vec<_>>(),
        "digits": shape.digits,
        "series_limit": 100_000,
    })
}

fn feed_json(feed: &Feed<'_>) -> Value {
    let label = |shape: &LabelShape| match shape {
        LabelShape::Text(text) => json!({"field": TEXTS[*text]}),
        LabelShape::Flag => json!({"field": FLAG_FIELD}),
        LabelShape::Constant => json!({"constant": "always"}),
    };
    let count = |(counter, constants): &(usize, Vec<Option<usize>>)| {
        let choices = &feed.family.counters[*counter];
        let dimension = |(constant, choice): (&Option<usize>, &bool)| match constant {
            Some(index) => json!({"constant": index}),
            None => json!({"field": if *choice { CHOICE_FIELD } else { FLAG_FIELD }}),
        };
        let dimensions = constants.iter().zip(choices).map(dimension).collect::<Vec<_>>();
        json!({"counter": format!("counter{counter}"), "dimensions": dimensions})
    };
    let observe = |(histogram, field): &(usize, usize)| json!({"histogram": format!("histogram{histogram}"), "field": field});
    json!({"feed": {
        "family": FAMILIES[feed.index],
        "labels": feed.labels.iter().map(label).collect::<Vec<_>>(),
        "counts": feed.counts.iter().map(count).collect::<Vec<_>>(),
        "observes": feed.observes.iter().map(observe).collect::<Vec<_>>(),
    }})
}

fn start(families: &[FamilyShape], plans: &[Vec<Feed<'_>>]) -> Running {
    let plan = |feeds: &Vec<Feed<'_>>| {
        json!({
            "event": "event",
            "fields": [
                telemetry_testing::measurement(true),
                telemetry_testing::measurement(false),
                text(false),
                text(false),
                text(false),
                {"flag": {"default": true}},
                {"choice": {"values": CHOICE}},
            ],
            "steps": feeds.iter().map(feed_json).collect::<Vec<_>>(),
        })
    };
    let family = |(name, shape): (&&str, &FamilyShape)| family_json(name, shape);
    Running::start(json!({
        "families": FAMILIES.iter().zip(families).map(family).collect::<Vec<_>>(),
        "plans": plans.iter().map(plan).collect::<Vec<_>>(),
        "ref_limit": 0,
        "worker_limit": 0,
    }))
}

impl Event {
    fn send(&self, running: &Running) {
        let text = |at: usize| self.texts[at].as_deref().map_or(Given::Absent, Given::Bytes);
        let given = [
            Given::Number(self.number),
            self.optional_number.map_or(Given::Absent, Given::Number),
            text(0),
            text(1),
            text(2),
            self.flag.map_or(Given::Absent, Given::Flag),
            Given::Text(self.choice),
        ];
        let plan = running.plans[self.plan.index(running.plans.len())];
        assert_eq!(send(plan, &given), RecordOutcome::Recorded);
    }

    fn flag(&self) -> &'static str {
        FLAG[usize::from(!self.flag.unwrap_or(true))]
    }

    fn choice(&self) -> &'static str {
        CHOICE.into_iter().find(|word| *word == self.choice).unwrap_or("other")
    }
}

/// What a series must hold.
#[derive(Default)]
struct Expected {
    /// By counter and values of its dimensions.
    counts: HashMap<(usize, Vec<&'static str>), u64>,
    /// By histogram.
    samples: HashMap<usize, Vec<u64>>,
}

type Model = BTreeMap<(usize, Vec<String>), Expected>;

fn expect(model: &mut Model, feed: &Feed<'_>, event: &Event) {
    let label = |shape: &LabelShape| match shape {
        LabelShape::Text(at) => {
            event.texts[*at].as_ref().map_or("unknown".into(), |text| normalise(text).into_owned())
        }
        LabelShape::Flag => event.flag().to_owned(),
        LabelShape::Constant => "always".to_owned(),
    };
    let labels = feed.labels.iter().map(label).collect();
    let expected = model.entry((feed.index, labels)).or_default();
    for (counter, constants) in &feed.counts {
        let choices = &feed.family.counters[*counter];
        let value = |(constant, choice): (&Option<usize>, &bool)| match (constant, choice) {
            (Some(index), true) => CHOICE[*index],
            (Some(index), false) => FLAG[*index],
            (None, true) => event.choice(),
            (None, false) => event.flag(),
        };
        let values = constants.iter().zip(choices).map(value).collect();
        *expected.counts.entry((*counter, values)).or_default() += 1;
    }
    for (histogram, field) in &feed.observes {
        let optional = *field == OPTIONAL_NUMBER;
        let value = if optional { event.optional_number } else { Some(event.number) };
        expected.samples.entry(*histogram).or_default().extend(value);
    }
}

/// All combinations of values that a counter's dimensions can take.
fn combinations(choices: &[bool]) -> Vec<Vec<&'static str>> {
    choices.iter().fold(vec![vec![]], |combinations, choice| {
        let values = if *choice { &CHOICE[..] } else { &FLAG[..] };
        let with = |combination: &Vec<&'static str>, value: &'static str| {
            combination.iter().copied().chain([value]).collect()
        };
        combinations
            .iter()
            .flat_map(|combination| values.iter().map(move |value| with(combination, value)))
            .collect()
    })
}

fn check(running: &Running, families: &[FamilyShape], model: &Model) {
    for (index, shape) in families.iter().enumerate() {
        let family = running.family(FAMILIES[index]);
        let layout = family.layout();
        let mut series: Vec<_> = family.series();
        series.sort_by_key(|series| labels(series));
        let expected: Vec<_> = model.iter().filter(|((of, _), _)| *of == index).collect();
        let found: Vec<_> = series.iter().map(|series| labels(series)).collect();
        let wanted: Vec<_> = expected.iter().map(|((_, labels), _)| labels.clone()).collect();
        assert_eq!(found, wanted);
        for (series, ((_, labels), expected)) in series.iter().zip(expected) {
            for (at, choices) in shape.counters.iter().enumerate() {
                for values in combinations(choices) {
                    let count = counted(series, &layout.counters()[at], &values);
                    let expected = expected.counts.get(&(at, values.clone())).copied();
                    assert_eq!(count, expected.unwrap_or(0), "counter{at} {values:?} {labels:?}");
                }
            }
            for (at, bounds) in shape.histograms.iter().enumerate() {
                let samples = expected.samples.get(&at).map_or(&[][..], Vec::as_slice);
                let metric = &layout.histograms()[at];
                let sum = samples.iter().copied().fold(0, u64::saturating_add);
                assert_eq!(series.sample_count(at), samples.len() as u64);
                let point = series.point(layout);
                assert_eq!(point.cell(metric.sum_cell()), sum);
                assert_eq!(point.min(metric), samples.iter().copied().min());
                assert_eq!(point.max(metric), samples.iter().copied().max());
                let mut buckets = vec![0; bounds.len() + 1];
                for sample in samples {
                    buckets[bounds.partition_point(|bound| bound < sample)] += 1;
                }
                assert_eq!(series.buckets(metric), buckets);
            }
        }
    }
}

/// All counts of a series, none of which may ever go down: counters, and how many samples are at or
/// below each bound.
fn counts(running: &Running, series: &Series, family: &str) -> Vec<u64> {
    let layout = running.family(family).layout();
    let cells = layout.counters().iter().flat_map(|counter| counter.cells());
    let mut counts: Vec<_> = cells.map(|cell| series.lanes().sum(cell)).collect();
    for metric in layout.histograms() {
        let cumulated = series.buckets(metric).into_iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        counts.extend(cumulated);
    }
    counts
}

/// Reads all there is to read until told to stop.
fn read(running: &Running, families: usize, done: &AtomicBool) {
    let mut seen: HashMap<(&str, Vec<String>), Vec<u64>> = HashMap::new();
    while !done.load(SeqCst) {
        let report = Report::new(&running.instance, Window::SinceStart, NOW);
        report.to_json().unwrap();
        running.instance.info();
        for &family in &FAMILIES[..families] {
            for series in running.family(family).series() {
                let now = counts(running, &series, family);
                let key = (family, labels(&series));
                if let Some(before) = seen.insert(key, now.clone()) {
                    let gone_down = before.iter().zip(&now).any(|(before, now)| now < before);
                    assert!(!gone_down, "{now:?} after {before:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn every_event_is_counted_where_it_belongs(
        families in vec(family_shape(), 1..=3),
        plans in vec(vec(feed_shape(), 1..4), 1..4),
        events in vec(vec(event(), 1..120), THREADS),
    ) {
        set_exclusive_lanes(EXCLUSIVE_LANES);
        let resolve = |feeds: &Vec<FeedShape>| {
            feeds.iter().map(|feed| feed.resolve(&families)).collect::<Vec<_>>()
        };
        let plans: Vec<_> = plans.iter().map(resolve).collect();
        let running = start(&families, &plans);
        let warm_up = Calls::default().start();
        let barrier = Barrier::new(THREADS);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let recording: Vec<_> = events.iter().map(|events| {
                let (running, warm_up, barrier) = (&running, &warm_up, &barrier);
                scope.spawn(move || {
                    // Takes the thread's number, so that all threads have different ones.
                    warm_up.call("m", 0);
                    barrier.wait();
                    events.iter().for_each(|event| event.send(running));
                })
            }).collect();
            scope.spawn(|| read(&running, families.len(), &done));
            let recorded: Vec<_> = recording.into_iter().map(|thread| thread.join()).collect();
            done.store(true, SeqCst);
            recorded.into_iter().for_each(|recorded| recorded.unwrap());
        });
        let mut model = Model::new();
        for event in events.iter().flatten() {
            for feed in &plans[event.plan.index(plans.len())] {
                expect(&mut model, feed, event);
            }
        }
        check(&running, &families, &model);
    }
}

/// One series, which no two threads write to in different places, under as much contention as
/// there can be.
#[test]
fn one_series_counts_exactly_what_all_threads_record() {
    const EVENTS: u64 = 20_000;
    set_exclusive_lanes(EXCLUSIVE_LANES);
    let running = Calls { bounds: vec![EVENTS / 2], ..Calls::default() }.start();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let (running, barrier) = (&running, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for event in 1..=EVENTS {
                    running.call("m", event + thread);
                }
                barrier.wait();
            });
        }
    });
    let (series, index) = running.find("m").unwrap();
    let metric = &running.calls().layout().histograms()[index];
    let threads = THREADS as u64;
    assert_eq!(running.count(&series), threads * EVENTS);
    let of_one = EVENTS * (EVENTS + 1) / 2;
    let point = series.point(running.calls().layout());
    let sum = threads * of_one + threads * (threads - 1) / 2 * EVENTS;
    assert_eq!(point.cell(metric.sum_cell()), sum);
    assert_eq!(point.min(metric), Some(1));
    assert_eq!(point.max(metric), Some(EVENTS + threads - 1));
    let low = threads * (EVENTS / 2) - threads * (threads - 1) / 2;
    assert_eq!(series.buckets(metric), [low, threads * EVENTS - low]);
}
