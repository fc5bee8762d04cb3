//! Counts for metrics.

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
    assert_eq!((&*others.id, others.in_flight), ("other", 60.0));
    assert_eq!((total(&running), tally.healthy), (100, 10));
    running.router.put_workers([id(3)].iter().map(String::as_str), running.now);
    assert_eq!(total(&running), 100);
    assert_eq!(running.router.decisions(Reason::Best), 100);
    running.router.reset();
    assert_eq!(total(&running), 0);
}

#[test]
fn states_are_counted_and_ejections_outlive_workers() {
    let running = Running::start(4, spec());
    running.router.add_worker("new", running.now);
    running.ended(0, "work", Outcome::Failure, 1, 5);
    let tally = running.router.tally(running.now);
    assert_eq!((tally.healthy, tally.starting, tally.ejected), (3, 1, 1));
    running.router.remove_worker("w0");
    let tally = running.router.tally(running.now);
    assert_eq!(tally.others.map(|others| others.ejections), Some(1));
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
