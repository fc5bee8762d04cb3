//! Counts for metrics.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_router::{Outcome, Reason, Router, RouterSpec};

use crate::support::{Running, SECOND, id, spec};

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
    // What was told under a name is not told again.
    assert_eq!(told(&running, "other"), Some((3, 0, false)));
    assert_eq!(running.router.decisions(Reason::Best), 15);
}

/// Who saw it before takes what it begins with for what goes on.
#[test]
fn a_worker_whose_name_was_dropped_begins_with_zero_when_it_is_back() {
    let mut running = Running::start(1, RouterSpec { metrics_limit: 1, ..spec() });
    running.shares("work", 1, 5);
    assert_eq!(told(&running, "w0"), Some((5, 0, true)));
    running.router.remove_worker("w0");
    running.router.add_worker("w1", 0);
    running.router.remove_worker("w1");
    assert_eq!((told(&running, "w0"), told(&running, "w1")), (None, Some((0, 0, false))));
    running.router.add_worker("w0", 0);
    running.shares("work", 1, 7);
    assert_eq!(told(&running, "w0"), Some((0, 0, true)));
    assert_eq!(told(&running, "other"), Some((7, 0, false)));
    running.shares("work", 1, 2);
    assert_eq!(told(&running, "w0"), Some((2, 0, true)));
    assert_eq!(told(&running, "other"), Some((7, 0, false)));
    assert_eq!(running.router.decisions(Reason::Best), 14);
}

/// So that whoever watches them sees from where they go up.
#[test]
fn all_others_are_told_before_the_first_worker_may_be_one_of_them() {
    for (metrics_limit, others) in [(0, Some((0, 0, true))), (1, Some((0, 0, false))), (2, None)] {
        let running = Running::start(1, RouterSpec { metrics_limit, ..spec() });
        assert_eq!(told(&running, "other"), others, "{metrics_limit}");
    }
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
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Workers come, leave and come back, under more names than may have metrics, and get requests or fail.
    /// What scrapes tell goes up by what was decided, whenever they come. Where one comes after every
    /// step, it goes up from zero everywhere.
    #[test]
    fn what_scrapes_add_up_to_is_what_was_decided(
        limit in 0..5usize,
        is_eager: bool,
        steps in vec(step(), 1..150),
    ) {
        let spec = RouterSpec { metrics_limit: limit, sticky_limit: 0, ..spec() };
        let (mut running, mut scrapes, mut truth) = (Running::start(0, spec), Increase::default(), [0, 0]);
        for step in steps.into_iter().chain([Step::Scrape]) {
            match step {
                Step::Join(worker) => drop(running.router.add_worker(&id(worker), 0)),
                Step::Leave(worker) => drop(running.router.remove_worker(&id(worker))),
                Step::Route(times) => {
                    let tickets: Vec<_> = (0..times).filter_map(|_| running.try_checkout("work")).collect();
                    truth[0] += tickets.len() as u64;
                }
                Step::Fail(worker) => {
                    let before = ejections(&running, worker);
                    running.ended(worker, "work", Outcome::Failure, 1, 5);
                    truth[1] += ejections(&running, worker) - before;
                    running.now += 11 * SECOND;
                }
                Step::Scrape => {}
            }
            let is_scraped = is_eager || matches!(step, Step::Scrape);
            if is_scraped {
                let told = scrapes.scrape(&running);
                prop_assert!(told <= 2 * limit + 1, "{} names", told);
                prop_assert_eq!(scrapes.from_zero, truth);
            }
        }
        if is_eager {
            prop_assert_eq!(scrapes.from_first, truth);
        }
        let decided: u64 = Reason::ALL.iter().map(|reason| running.router.decisions(*reason)).sum();
        prop_assert_eq!(decided, truth[0]);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Join(usize),
    Leave(usize),
    Route(usize),
    Fail(usize),
    Scrape,
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..6usize;
    prop_oneof![
        3 => worker.clone().prop_map(Step::Join),
        3 => worker.clone().prop_map(Step::Leave),
        3 => (1..30usize).prop_map(Step::Route),
        1 => worker.prop_map(Step::Fail),
        2 => Just(Step::Scrape),
    ]
}

fn ejections(running: &Running, worker: usize) -> u64 {
    let workers = running.router.report(running.now).workers;
    workers.iter().find(|one| one.worker_id == id(worker)).map_or(0, |worker| worker.ejections)
}

/// What `increase` of Prometheus makes of scrapes, over all series: of decisions and of ejections.
///
/// A sample that is less than the last one of its series, however long ago that was, says that the counter
/// began again at zero. Prometheus counts a series from its first sample, so it misses what that has; who
/// knows when a series was created, as VictoriaMetrics guesses, counts it from zero.
#[derive(Default)]
struct Increase {
    last: HashMap<(String, Option<usize>), u64>,
    from_zero: [u64; 2],
    from_first: [u64; 2],
}

impl Increase {
    /// Returns how many names are told.
    fn scrape(&mut self, running: &Running) -> usize {
        let tally = running.router.tally(running.now);
        let workers: Vec<_> = tally.workers.into_iter().chain(tally.others).collect();
        for worker in &workers {
            for (reason, decisions) in worker.decisions.into_iter().enumerate() {
                self.sample(&worker.id, Some(reason), decisions);
            }
            self.sample(&worker.id, None, worker.ejections);
        }
        let names: std::collections::HashSet<_> = workers.iter().map(|worker| &worker.id).collect();
        assert_eq!(names.len(), workers.len(), "a series is there twice");
        workers.len()
    }

    fn sample(&mut self, id: &str, reason: Option<usize>, value: u64) {
        let before = self.last.insert((id.to_owned(), reason), value);
        let increase = value - before.filter(|before| *before <= value).unwrap_or(0);
        let of = usize::from(reason.is_none());
        self.from_zero[of] += increase;
        self.from_first[of] += if before.is_some() { increase } else { 0 };
    }
}

/// As the issue had it: 300 requests for each of 1,000 workers, which leave for 1,000 others.
#[test]
fn what_workers_have_counted_that_left_long_ago_is_not_counted_again() {
    let (mut running, mut scrapes) = (Running::start(0, spec()), Increase::default());
    scrapes.scrape(&running);
    for worker in 0..3_000 {
        running.router.add_worker(&id(worker), 0);
        if worker % 100 == 0 {
            scrapes.scrape(&running);
        }
        running.shares("work", 3_000, 300);
        running.router.remove_worker(&id(worker));
    }
    let told = scrapes.scrape(&running);
    assert_eq!((told, scrapes.from_zero), (1_001, [900_000, 0]));
    assert_eq!(running.router.decisions(Reason::Best), 900_000);
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
