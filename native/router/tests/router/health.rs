//! Ejection, its limits, and the way back.

use telemetry_router::{EjectionSpec, Outcome, Reason, RouterSpec};

use crate::support::{MS, Running, SECOND, id, spec};

fn ejected_for_ms(running: &Running, worker: usize) -> Option<u64> {
    running.candidate("work", worker).ejected_for_ms
}

#[test]
fn failures_in_a_row_eject_and_successes_in_between_do_not() {
    let running = Running::start(4, spec());
    running.ended(0, "work", Outcome::Failure, 1, 4);
    assert_eq!(ejected_for_ms(&running, 0), None);
    running.ended(0, "work", Outcome::Success, 1, 1);
    running.ended(0, "work", Outcome::Failure, 1, 4);
    assert_eq!(ejected_for_ms(&running, 0), None);
    running.ended(0, "work", Outcome::Failure, 1, 1);
    assert_eq!(ejected_for_ms(&running, 0), Some(10_000));
}

/// As of an exception that the caller's own code raises in the worker.
#[test]
fn an_unknown_outcome_neither_ejects_nor_forgives() {
    let running = Running::start(4, spec());
    running.ended(0, "work", Outcome::Success, 10, 50);
    running.ended(0, "work", Outcome::Unknown, 10, 1_000);
    let health = |running: &Running| {
        let candidate = running.candidate("work", 0);
        (candidate.ejected_for_ms, candidate.error_rate, candidate.failures)
    };
    assert_eq!(health(&running), (None, 0.0, 0));
    // A run of failures goes on after it, and the share of failures is that of the others.
    running.ended(0, "work", Outcome::Failure, 10, 4);
    let before = health(&running);
    running.ended(0, "work", Outcome::Unknown, 10, 1_000);
    assert_eq!(health(&running), before);
    assert_eq!(running.candidate("work", 0).successes, 50);
    running.ended(0, "work", Outcome::Failure, 10, 1);
    assert_eq!(ejected_for_ms(&running, 0), Some(10_000));
}

#[test]
fn an_unknown_outcome_does_not_hide_that_a_worker_is_an_outlier() {
    let running = Running::start(4, spec());
    // Were they successes or failures of all workers, nobody or everybody would be an outlier.
    for worker in 1..4 {
        running.ended(worker, "work", Outcome::Unknown, 10, 1_000);
    }
    running.ended(0, "work", Outcome::Failure, 10, 5);
    assert_eq!(ejected_for_ms(&running, 0), Some(10_000));
    // Nor is an ejection forgiven for it, once the worker is back.
    let mut running = running;
    running.now += 30 * SECOND;
    running.ended(0, "work", Outcome::Unknown, 10, 1_000);
    running.ended(0, "work", Outcome::Failure, 10, 1);
    assert_eq!(ejected_for_ms(&running, 0), Some(20_000));
}

#[test]
fn an_unknown_outcome_says_that_a_worker_is_slow_but_not_that_it_is_fast() {
    let running = Running::start(2, spec());
    let latency_ms = || running.candidate("work", 0).latency_us.unwrap() / 1e3;
    running.ended(0, "work", Outcome::Success, 10, 50);
    running.ended(1, "work", Outcome::Success, 10, 50);
    running.ended(0, "work", Outcome::Unknown, 1, 100);
    assert_eq!(latency_ms(), 10.0);
    running.ended(0, "work", Outcome::Unknown, 50, 100);
    assert!(latency_ms() > 40.0, "{}", latency_ms());
    // What nobody has succeeded in has no latency yet.
    running.ended(0, "new", Outcome::Unknown, 50, 100);
    assert_eq!(running.candidate("new", 0).latency_us, None);
}

/// Requests that an event tells the end of are no longer in flight, whatever their outcome.
#[test]
fn an_unknown_outcome_ends_a_presumed_request() {
    let mut running = Running::start(1, spec());
    running.ended(0, "work", Outcome::Success, 10, 1);
    running.route("work", None);
    running.ended(0, "work", Outcome::Unknown, 10, 1);
    assert_eq!(running.candidate("work", 0).in_flight, 0.0);
}

#[test]
fn an_ejected_worker_gets_nothing_until_its_time_has_come() {
    let mut running = Running::start(4, RouterSpec { exploration: 500, ..spec() });
    running.ended(0, "work", Outcome::Failure, 1, 5);
    assert_eq!(running.shares("work", 4, 500)[0], 0);
    running.now += 10 * SECOND - 1;
    assert_eq!(running.shares("work", 4, 500)[0], 0);
    running.now += 1;
    assert!(running.shares("work", 4, 500)[0] > 0);
}

#[test]
fn each_ejection_is_twice_as_long_up_to_a_limit_and_being_well_for_as_long_forgives_it() {
    let mut running = Running::start(4, spec());
    running.ended(0, "work", Outcome::Failure, 1, 5);
    for expected in [10_000, 20_000, 40_000, 60_000, 60_000] {
        assert_eq!(ejected_for_ms(&running, 0), Some(expected));
        running.now += expected * MS;
        assert_eq!(ejected_for_ms(&running, 0), None);
        running.ended(0, "work", Outcome::Failure, 1, 1);
    }
    running.now += 60 * SECOND;
    running.ended(0, "work", Outcome::Success, 1, 100);
    running.now += 59 * SECOND;
    running.ended(0, "work", Outcome::Success, 1, 1);
    running.now += SECOND;
    running.ended(0, "work", Outcome::Success, 1, 1);
    running.ended(0, "work", Outcome::Failure, 1, 4);
    assert_eq!(ejected_for_ms(&running, 0), None);
    running.ended(0, "work", Outcome::Failure, 1, 1);
    assert_eq!(ejected_for_ms(&running, 0), Some(10_000));
    assert_eq!(running.candidate("work", 0).ejections, 7);
}

#[test]
fn one_failure_on_probation_ejects_again() {
    let mut running = Running::start(4, spec());
    running.ended(0, "work", Outcome::Failure, 1, 9);
    running.now += 10 * SECOND;
    assert_eq!(ejected_for_ms(&running, 0), None);
    running.ended(0, "work", Outcome::Failure, 1, 1);
    assert_eq!(ejected_for_ms(&running, 0), Some(20_000));
}

#[test]
fn many_failures_eject_though_none_are_in_a_row() {
    let running = Running::start(4, spec());
    for _ in 0..200 {
        running.ended(0, "work", Outcome::Failure, 1, 2);
        running.ended(0, "work", Outcome::Success, 1, 1);
        running.ended(1, "work", Outcome::Success, 1, 9);
        running.ended(2, "work", Outcome::Failure, 1, 1);
        running.ended(2, "work", Outcome::Success, 1, 3);
    }
    assert!(ejected_for_ms(&running, 0).is_some());
    assert!(ejected_for_ms(&running, 2).is_none());
}

#[test]
fn nobody_is_ejected_for_what_fails_everywhere() {
    let running = Running::start(16, spec());
    for _ in 0..50 {
        for worker in 0..16 {
            running.ended(worker, "work", Outcome::Failure, 1, 1);
        }
    }
    assert!((0..16).all(|worker| ejected_for_ms(&running, worker).is_none()));
}

#[test]
fn never_more_than_half_are_ejected() {
    for (workers, share, most) in
        [(1, 0.5, 0), (2, 0.5, 1), (5, 0.5, 2), (16, 0.25, 4), (4, 0.0, 0)]
    {
        let ejection = EjectionSpec { share, ..spec().ejection };
        let running = Running::start(workers, RouterSpec { ejection, ..spec() });
        // The last one is well, so that it is not what is asked that fails.
        for worker in 0..workers.max(2) - 1 {
            running.ended(workers - 1, "work", Outcome::Success, 1, 500);
            running.ended(worker, "work", Outcome::Failure, 1, 50);
        }
        let ejected = (0..workers).filter(|worker| ejected_for_ms(&running, *worker).is_some());
        assert_eq!(ejected.count(), most, "{workers} workers, {share}");
    }
}

#[test]
fn without_ejection_failures_only_cost() {
    let ejection = EjectionSpec { failures: None, ..spec().ejection };
    let mut running = Running::start(2, RouterSpec { ejection, ..spec() });
    running.ended(0, "work", Outcome::Success, 1, 1);
    running.ended(1, "work", Outcome::Success, 1, 1);
    running.ended(0, "work", Outcome::Failure, 1, 100);
    assert_eq!(ejected_for_ms(&running, 0), None);
    assert_eq!(running.route("work", None), Some((id(1), Reason::Best)));
}

#[test]
fn when_more_than_half_are_ejected_because_others_left_ejections_are_not_looked_at() {
    let mut running = Running::start(8, spec());
    for worker in 0..3 {
        running.ended(7, "work", Outcome::Success, 1, 500);
        running.ended(worker, "work", Outcome::Failure, 1, 5);
        assert!(ejected_for_ms(&running, worker).is_some());
    }
    assert!(running.shares("work", 8, 200)[..3].iter().all(|share| *share == 0));
    for worker in 3..7 {
        running.router.remove_worker(&id(worker));
    }
    // Of four, three are ejected; the one that is left could not carry it all.
    let tickets: Vec<_> = (0..100).map(|_| running.checkout("work")).collect();
    let others = tickets.iter().filter(|ticket| ticket.worker_id() != "w7").count();
    assert!((20..80).contains(&others), "{others}");
    assert_eq!(running.router.decisions(Reason::Panic), 100);
}

#[test]
fn with_few_choices_those_that_are_well_are_found() {
    let mut running = Running::start(20, RouterSpec { choices: 2, ..spec() });
    for worker in 0..10 {
        running.ended(19, "work", Outcome::Success, 1, 500);
        running.ended(worker, "work", Outcome::Failure, 1, 5);
    }
    let shares = running.shares("work", 20, 2_000);
    assert!(shares[..10].iter().all(|share| *share == 0), "{shares:?}");
}

/// However short the memory for failures is.
#[test]
fn a_worker_that_comes_back_is_twice_as_slow_at_first() {
    let mut running = Running::start(4, RouterSpec { half_life_ms: 1, ..spec() });
    running.ended(0, "work", Outcome::Success, 1, 1);
    running.ended(0, "work", Outcome::Failure, 1, 5);
    running.now += 10 * SECOND;
    let ratio = running.candidate("work", 0).score / running.candidate("work", 1).score;
    assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
    running.now += 5 * SECOND;
    let ratio = running.candidate("work", 0).score / running.candidate("work", 1).score;
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
}

#[test]
fn a_worker_comes_back_slowly() {
    let mut running = Running::start(4, spec());
    running.ended(0, "work", Outcome::Failure, 1, 5);
    let warmth = |running: &Running| running.router.report(running.now).workers[0].warmth;
    running.now += 10 * SECOND;
    assert_eq!(warmth(&running), 0.0);
    running.now += 5 * SECOND;
    assert_eq!(warmth(&running), 1.0);
}
