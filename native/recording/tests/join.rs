//! Calls that carry a reference count for the class that the reference was last bound to.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Barrier};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use telemetry_recording::field::{Reject, TextInput};
use telemetry_recording::local::{self, RecordOutcome};
use telemetry_testing::{Crew, Given, Running, cases, counted, labels, send, text};

const REF_LIMIT: usize = 3;

/// Short and long ones, which are compared in different ways, and one that reads like a class.
const REFERENCES: [&str; 6] = [
    "r1",
    "r2",
    "Counter",
    "",
    "reference-of-32-characters-no-001",
    "reference-of-32-characters-no-002",
];
const CLASSES: [&str; 3] = ["Counter", "some.module.of.python.Index", "unknown"];
const METHODS: [&str; 2] = ["get", "a_method_with_a_long_name"];
const THREADS: usize = 3;

/// An instance in which `create` binds a reference, and `call` counts by method and class.
struct Bridge(Running);

impl Bridge {
    fn start() -> Arc<Self> {
        Self::start_with(REF_LIMIT)
    }

    fn start_with(ref_limit: usize) -> Arc<Self> {
        let counter = |name| json!([{"name": name, "dimensions": []}]);
        let family = |name, labels| {
            json!({
                "name": name,
                "labels": labels,
                "counters": counter(name),
                "histograms": [],
                "digits": 2,
                "series_limit": 1_000,
            })
        };
        let counts = |name| json!([{"counter": name, "dimensions": []}]);
        Arc::new(Self(Running::start(json!({
            "families": [
                family("instances", json!(["python_class"])),
                family("calls", json!(["method", "python_class"])),
            ],
            "plans": [
                {
                    "event": "create.stop",
                    "fields": [text(true), text(true)],
                    // Counted first, while the reference may still have another class.
                    "steps": [
                        {"feed": {
                            "family": "instances",
                            "labels": [{"class_of": {"reference": 0, "class": 1}}],
                            "counts": counts("instances"),
                            "observes": [],
                        }},
                        {"bind": {"reference": 0, "class": 1}},
                    ],
                },
                {
                    "event": "call.stop",
                    "fields": [text(true), text(false), text(false)],
                    "steps": [{"feed": {
                        "family": "calls",
                        "labels": [{"field": 0}, {"class_of": {"reference": 1, "class": 2}}],
                        "counts": counts("calls"),
                        "observes": [],
                    }}],
                },
            ],
            "ref_limit": ref_limit,
            "worker_limit": 0,
        }))))
    }

    fn create(&self, reference: &str, class: &str) {
        let outcome = send(self.0.plans[0], &[Given::Text(reference), Given::Text(class)]);
        assert_eq!(outcome, RecordOutcome::Recorded);
    }

    fn call(&self, method: &str, reference: Option<&str>, class: Option<&str>) {
        let optional = |text: Option<_>| text.map_or(Given::Absent, Given::Text);
        let fields = [Given::Text(method), optional(reference), optional(class)];
        assert_eq!(send(self.0.plans[1], &fields), RecordOutcome::Recorded);
    }

    fn counts(&self, family: &str) -> BTreeMap<Vec<String>, u64> {
        let family = self.0.family(family);
        let counter = &family.layout().counters()[0];
        let series = family.series().into_iter();
        series.map(|series| (labels(&series), counted(&series, counter, &[]))).collect()
    }

    fn calls_by_class(&self) -> BTreeMap<String, u64> {
        let mut by_class = BTreeMap::new();
        for (labels, count) in self.counts("calls") {
            *by_class.entry(labels[1].clone()).or_default() += count;
        }
        by_class
    }
}

/// What is known of references, as plainly as it can be said.
#[derive(Default)]
struct Model {
    oldest_first: VecDeque<&'static str>,
    classes: BTreeMap<&'static str, &'static str>,
}

impl Model {
    fn bind(&mut self, reference: &'static str, class: &'static str) {
        if self.classes.insert(reference, class).is_some() {
            return;
        }
        self.oldest_first.push_back(reference);
        if self.oldest_first.len() > REF_LIMIT {
            self.classes.remove(self.oldest_first.pop_front().unwrap());
        }
    }

    /// The class that a call counts for.
    fn class(&self, reference: Option<&str>, class: Option<&'static str>) -> &'static str {
        let of_reference = || self.classes.get(reference?).copied();
        class.or_else(of_reference).unwrap_or("unknown")
    }
}

#[derive(Clone, Debug)]
enum Event {
    Create { reference: usize, class: usize },
    Call { method: usize, reference: Option<usize>, class: Option<usize> },
}

fn event() -> impl Strategy<Value = Event> {
    let (reference, class) = (0..REFERENCES.len(), 0..CLASSES.len());
    let create = (reference.clone(), class.clone())
        .prop_map(|(reference, class)| Event::Create { reference, class });
    let optional = proptest::option::weighted;
    let call = (0..METHODS.len(), optional(0.9, reference), optional(0.2, class))
        .prop_map(|(method, reference, class)| Event::Call { method, reference, class });
    prop_oneof![1 => create, 4 => call]
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_call_counts_for_the_class_that_its_event_or_reference_says(
        events in vec((0..THREADS, event()), 1..150),
    ) {
        let bridge = Bridge::start();
        let crew = Crew::new(THREADS);
        let mut model = Model::default();
        let mut instances = BTreeMap::new();
        let mut calls = BTreeMap::new();
        for (thread, event) in events {
            let on_thread = Arc::clone(&bridge);
            match event {
                Event::Create { reference, class } => {
                    let (reference, class) = (REFERENCES[reference], CLASSES[class]);
                    crew.run(thread, move || on_thread.create(reference, class));
                    model.bind(reference, class);
                    *instances.entry(vec![class.to_owned()]).or_insert(0) += 1;
                }
                Event::Call { method, reference, class } => {
                    let method = METHODS[method];
                    let reference = reference.map(|reference| REFERENCES[reference]);
                    let class = class.map(|class| CLASSES[class]);
                    crew.run(thread, move || on_thread.call(method, reference, class));
                    let class = model.class(reference, class);
                    *calls.entry(vec![method.to_owned(), class.to_owned()]).or_insert(0) += 1;
                    prop_assert_eq!(&bridge.counts("calls"), &calls);
                }
            }
        }
        prop_assert_eq!(bridge.counts("instances"), instances);
        prop_assert!(bridge.0.instance.info().refs <= REF_LIMIT);
        crew.end();
    }
}

#[test]
fn a_reference_that_was_forgotten_and_is_bound_again_has_its_new_class() {
    let bridge = Bridge::start();
    bridge.create("r", "Old");
    bridge.call("get", Some("r"), None);
    for other in 0..REF_LIMIT {
        bridge.create(&format!("other-{other}"), "Other");
    }
    bridge.create("r", "New");
    bridge.call("get", Some("r"), None);
    let counts = bridge.calls_by_class();
    assert_eq!(counts, BTreeMap::from([("Old".to_owned(), 1), ("New".to_owned(), 1)]));
}

/// A full map forgets a few at a time, but never the newest.
#[test]
fn the_oldest_references_are_forgotten_and_the_newest_known() {
    const LIMIT: usize = 1_000;
    const REFERENCES: usize = 5_500;
    let bridge = Bridge::start_with(LIMIT);
    for reference in 0..REFERENCES {
        bridge.create(&format!("r{reference}"), "Known");
        assert!(bridge.0.instance.info().refs <= LIMIT);
    }
    for reference in 0..REFERENCES {
        bridge.call("get", Some(&format!("r{reference}")), None);
    }
    let known = bridge.0.instance.info().refs;
    assert!(known >= LIMIT * 9 / 10, "only {known} of {LIMIT} are known");
    let counts = bridge.calls_by_class();
    assert_eq!((counts["Known"], counts["unknown"]), (known as u64, (REFERENCES - known) as u64));
    // The border lies between two neighbours.
    bridge.call("known", Some(&format!("r{}", REFERENCES - known)), None);
    bridge.call("forgotten", Some(&format!("r{}", REFERENCES - known - 1)), None);
    let calls = bridge.counts("calls");
    assert_eq!(calls[&["known", "Known"].map(str::to_owned)[..]], 1);
    assert_eq!(calls[&["forgotten", "unknown"].map(str::to_owned)[..]], 1);
}

#[test]
fn no_call_is_lost_while_its_reference_is_rebound_and_all_threads_see_the_last_class() {
    const CALLS: u64 = 20_000;
    const REBINDINGS: usize = 4_000;
    let bridge = Bridge::start();
    bridge.create("r", "A");
    let crew = Crew::new(THREADS + 1);
    let barrier = Arc::new(Barrier::new(THREADS + 1));
    let together = |job: fn(&Bridge)| {
        let (bridge, barrier) = (Arc::clone(&bridge), Arc::clone(&barrier));
        move || {
            barrier.wait();
            job(&bridge);
        }
    };
    let call = |bridge: &Bridge| (0..CALLS).for_each(|_| bridge.call("get", Some("r"), None));
    let rebind = |bridge: &Bridge| {
        let classes = ["B", "A"].into_iter().cycle().take(REBINDINGS);
        classes.for_each(|class| bridge.create("r", class));
    };
    let mut jobs = vec![crew.start(THREADS, together(rebind))];
    jobs.extend((0..THREADS).map(|thread| crew.start(thread, together(call))));
    jobs.into_iter().for_each(|job| job.recv().unwrap());
    let before = bridge.calls_by_class();

    bridge.create("r", "Last");
    for thread in 0..THREADS {
        let on_thread = Arc::clone(&bridge);
        crew.run(thread, move || on_thread.call("get", Some("r"), None));
    }
    let counts = bridge.calls_by_class();
    assert_eq!(counts["Last"], THREADS as u64);
    assert!(before.keys().all(|class| ["A", "B"].contains(&&**class)), "{before:?}");
    assert_eq!(before.values().sum::<u64>(), THREADS as u64 * CALLS);
}

/// A worker is in the pool that an event has named, unless the name tells no pool from another.
#[test]
fn a_worker_is_in_the_pool_that_tells_it_from_others() {
    let running = Running::start(json!({
        "families": [{
            "name": "waits", "labels": ["pool"], "counters": [], "histograms": [],
            "digits": 2, "series_limit": 10,
        }],
        "plans": [
            {
                "event": "pool",
                "fields": [text(true), text(true)],
                "steps": [{"in_pool": {"worker": 0, "pool": 1, "except": ["default"]}}],
            },
            {
                "event": "wait",
                "fields": [text(true), text(true)],
                "steps": [{"feed": {
                    "family": "waits", "labels": [{"pool_of": {"worker": 0, "pool": 1}}],
                    "counts": [], "observes": [],
                }}],
            },
        ],
        "ref_limit": 10,
        "worker_limit": 10,
    }));
    let pools = || {
        let mut pools: Vec<_> =
            running.family("waits").series().iter().flat_map(|series| labels(series)).collect();
        pools.sort();
        pools
    };
    let [pool, wait] = [0, 1].map(|plan| {
        let plan = running.plans[plan];
        move |worker, pool| send(plan, &[Given::Text(worker), Given::Text(pool)])
    });
    pool("w", "default");
    wait("w", "own");
    assert_eq!(pools(), ["own"]);
    pool("w", "gpu");
    wait("w", "own");
    assert_eq!(pools(), ["gpu", "own"]);
}

/// A reference is not even looked at where the class is given, unless it is to be bound.
#[test]
fn a_reference_is_unneeded_beside_a_class_that_is_given() {
    let bridge = Bridge::start();
    let unneeded = |plan: usize| {
        let mut unneeded = Vec::new();
        let seen = local::record(
            bridge.0.plans[plan],
            || 0,
            |inputs, _| {
                let unless = |text: &TextInput| text.unless.map(|there| (text.at, there));
                unneeded.extend(inputs.texts.iter().filter_map(unless));
                Err(Reject::MissingMetadata)
            },
        );
        assert_eq!(seen, RecordOutcome::Rejected(Reject::MissingMetadata));
        unneeded
    };
    assert_eq!((unneeded(0), unneeded(1)), (vec![], vec![(1, 2)]));
}
