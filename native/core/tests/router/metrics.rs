//! Counts for metrics.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_core::router::{Outcome, Reason, Router, RouterSpec};

use crate::support::{Running, id, spec};

fn total(running: &Running) -> u64 {
    let tally = running.router.tally(running.now);
    let decisions = tally.workers.iter().chain(&tally.others).map(|worker| worker.decisions);
    decisions.flatten().sum()
}

#[test]
fn workers_beyond_a_limit_are_told_together_and_totals_outlive_workers() {
    let mut running = Running::start(10, RouterSpec { metrics_limit: 4, ..spec() });
    let _tickets: Vec<_> = (0..100).map(|_| running.checkout("work")).collect();
    let tally = running.router.tally(running.now);
    assert_eq!(tally.workers.len(), 4);
    let others = tally.others.unwrap();
    let of_own: f64 = tally.workers.iter().filter_map(|worker| worker.in_flight).sum();
    assert_eq!((&*others.id, others.in_flight), ("other", Some(100.0 - of_own)));
    assert!((30.0..50.0).contains(&of_own), "{of_own}");
    assert_eq!((total(&running), tally.healthy), (100, 10));
    running.router.put_workers([id(3)].iter().map(String::as_str), running.now);
    assert_eq!(total(&running), 100);
    assert_eq!(running.router.decisions(Reason::Best), 100);
    running.router.reset();
    assert_eq!(total(&running), 0);
    assert_eq!(running.router.tally(running.now).workers.len(), 1);
}

#[test]
fn states_are_counted() {
    let running = Running::start(4, spec());
    running.router.add_worker("new", running.now);
    running.ended(0, "work", Outcome::Failure, 1, 5);
    let tally = running.router.tally(running.now);
    assert_eq!((tally.healthy, tally.starting, tally.ejected), (3, 1, 1));
}

/// What is told under a worker's id.
fn told(running: &Running, id: &str) -> Option<(u64, u64, bool)> {
    let tally = running.router.tally(running.now);
    let told = tally.workers.iter().chain(&tally.others).find(|worker| worker.id == id)?;
    let decisions = told.decisions.iter().sum();
    Some((decisions, told.ejections, told.in_flight.is_some()))
}

#[test]
fn what_a_worker_has_counted_outlives_it_under_its_id_and_goes_on_when_it_is_back() {
    let mut running = Running::start(1, spec());
    running.shares("work", 1, 7);
    running.router.add_worker("w1", 0);
    running.ended(0, "work", Outcome::Failure, 1, 5);
    assert_eq!(told(&running, "w0"), Some((7, 1, true)));
    for life in 1..4 {
        running.router.remove_worker("w0");
        assert_eq!(told(&running, "w0"), Some((7 * life, life, false)));
        running.router.add_worker("w0", 0);
        assert_eq!(told(&running, "w0"), Some((7 * life, life, true)));
        running.router.remove_worker("w1");
        running.shares("work", 1, 7);
        running.router.add_worker("w1", 0);
        running.ended(1, "work", Outcome::Success, 1, 500);
        running.ended(0, "work", Outcome::Failure, 1, 5);
    }
    assert_eq!(told(&running, "other"), None);
    assert_eq!(running.router.decisions(Reason::Best), 28);
    running.router.reset();
    running.router.remove_worker("w0");
    assert_eq!(told(&running, "w0"), Some((0, 0, false)));
}

#[test]
fn of_workers_that_have_left_the_last_ones_are_told_apart_and_the_rest_together() {
    let mut running = Running::start(0, RouterSpec { metrics_limit: 3, ..spec() });
    for worker in 0..5 {
        running.router.add_worker(&id(worker), 0);
        running.shares("work", 5, worker + 1);
        running.router.remove_worker(&id(worker));
    }
    let tally = running.router.tally(running.now);
    let ids: Vec<_> = tally.workers.iter().map(|worker| &*worker.id).collect();
    assert_eq!(ids, ["w2", "w3", "w4"]);
    assert_eq!(told(&running, "other"), Some((3, 0, false)));
    // One that is back is the last to leave again.
    running.router.add_worker("w2", 0);
    running.router.remove_worker("w2");
    running.router.add_worker("w9", 0);
    running.router.remove_worker("w9");
    assert_eq!(told(&running, "w3"), None);
    assert_eq!(told(&running, "w2"), Some((3, 0, false)));
    assert_eq!(told(&running, "other"), Some((7, 0, false)));
}

#[test]
fn memory_does_not_grow_with_workers_that_come_and_go_and_is_told() {
    let running = Running::start(1, spec());
    let come_and_go = |from: usize, to: usize| {
        for worker in from..to {
            running.router.add_worker(&format!("worker-{worker:06}"), 0);
            running.router.remove_worker(&format!("worker-{worker:06}"));
        }
        running.router.memory_bytes()
    };
    let before = running.router.memory_bytes();
    let full = come_and_go(0, 1_000);
    assert!(full > before + 1_000 * 64, "{before} {full}");
    assert_eq!(come_and_go(1_000, 3_000), full);
    assert_eq!(running.router.tally(running.now).workers.len(), 1_001);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of four names three may have metrics; nothing that is told of a name goes down while it is told.
    #[test]
    fn nothing_that_is_counted_goes_down(steps in vec((0..6usize, any::<bool>()), 1..120)) {
        let mut running = Running::start(2, RouterSpec { metrics_limit: 3, ..spec() });
        let mut last: HashMap<String, ([u64; Reason::ALL.len()], u64)> = HashMap::new();
        for (worker, joins) in steps {
            if joins {
                running.router.add_worker(&id(worker), 0);
            } else {
                running.router.remove_worker(&id(worker));
            }
            running.ended(worker, "work", Outcome::Failure, 1, 3);
            let _tickets: Vec<_> = (0..3).map(|_| running.try_checkout("work")).collect();
            let tally = running.router.tally(running.now);
            let told: HashMap<_, _> = tally
                .workers
                .into_iter()
                .chain(tally.others)
                .map(|worker| (worker.id, (worker.decisions, worker.ejections)))
                .collect();
            prop_assert!(told.len() <= 3 + 3 + 1);
            for (id, (decisions, ejections)) in &told {
                if let Some((before, ejected)) = last.get(id) {
                    prop_assert!(ejections >= ejected);
                    prop_assert!(decisions.iter().zip(before).all(|(now, before)| now >= before));
                }
            }
            // Whoever is told of no more is told of under `other`.
            let sum: u64 = told.values().flat_map(|(decisions, _)| decisions).sum();
            let before: u64 = last.values().flat_map(|(decisions, _)| decisions).sum();
            prop_assert!(sum >= before);
            last = told;
        }
    }
}

#[test]
fn a_full_pool_refuses_and_says_so_and_one_that_is_off_has_no_room() {
    let running = Running::start(2, RouterSpec { worker_limit: 2, ..spec() });
    assert!(!running.router.add_worker("one too many", running.now));
    assert!(running.router.add_worker("w1", running.now));
    let ids = ["w1", "a", "b"];
    let change = running.router.put_workers(ids.into_iter(), running.now);
    assert_eq!((change.added, change.removed, change.refused), (1, 1, 1));
    assert_eq!(running.router.report(running.now).refused, 2);
    let off = Router::off();
    assert!(!off.add_worker("w", 0));
}
