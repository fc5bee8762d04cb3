//! What is learned of workers, and what a decision makes of it.

use telemetry_router::{Outcome, Reason, RouterSpec};

use crate::support::{MS, Running, SECOND, id, spec};

#[test]
fn equal_workers_get_equal_shares() {
    let mut running = Running::start(8, spec());
    let shares = running.shares("work", 8, 8_000);
    assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
}

#[test]
fn the_fastest_gets_the_request_until_it_has_enough_to_do() {
    let mut running = Running::start(2, spec());
    running.ended(0, "work", Outcome::Success, 10, 1);
    running.ended(1, "work", Outcome::Success, 35, 1);
    let tickets: Vec<_> = (0..4).map(|_| running.checkout("work")).collect();
    let workers: Vec<_> = tickets.iter().map(|ticket| ticket.worker_id()).collect();
    assert_eq!(workers, ["w0", "w0", "w0", "w1"]);
}

#[test]
fn of_more_workers_than_are_compared_all_that_are_fast_are_chosen_and_slow_ones_rarely_are() {
    let workers = 200;
    let mut running = Running::start(workers, RouterSpec { choices: 4, ..spec() });
    // Last those who do most of the work, which is what is usual.
    for worker in (0..workers).rev() {
        let ms = if worker < 100 { 10 } else { 50 };
        running.ended(worker, "work", Outcome::Success, ms, 1);
    }
    let shares = running.shares("work", workers, 20_000);
    // All four that are drawn are slow with a probability of a sixteenth, and others are remembered.
    let slow: usize = shares[100..].iter().sum();
    assert!(slow < 1_000, "{slow}");
    assert!(shares[..100].iter().all(|share| *share > 0), "{shares:?}");
}

#[test]
fn a_command_that_a_worker_never_did_is_judged_by_how_slow_the_worker_is() {
    let mut running = Running::start(2, spec());
    for _ in 0..50 {
        running.ended(0, "slow command", Outcome::Success, 1_000, 1);
        running.ended(0, "work", Outcome::Success, 10, 1);
        // Three times as slow as the other, which does other things most of the time.
        running.ended(1, "work", Outcome::Success, 30, 1);
    }
    // Known, but by nobody here.
    running.router.add_worker("w2", 0);
    running.ended(2, "new", Outcome::Success, 100, 1);
    running.router.remove_worker("w2");
    let (fast, slow) = (running.candidate("new", 0), running.candidate("new", 1));
    assert_eq!((fast.latency_from, slow.latency_from), ("worker", "worker"));
    let ratio = slow.score / fast.score;
    assert!((1.5..4.0).contains(&ratio), "{ratio}");
    // What nobody has ever seen is judged the same way, but no latency is made up.
    let (fast, slow) = (running.candidate("unseen", 0), running.candidate("unseen", 1));
    assert!(slow.score > 1.5 * fast.score);
    assert_eq!(fast.latency_us, None);
    assert_eq!(running.route("new", None), Some((id(0), Reason::Best)));
}

#[test]
fn what_is_not_confirmed_is_forgotten() {
    let mut running = Running::start(2, spec());
    running.ended(0, "work", Outcome::Success, 10, 50);
    running.ended(1, "work", Outcome::Success, 100, 50);
    running.ended(0, "work", Outcome::Success, 10, 200);
    let slow = |running: &Running| running.candidate("work", 1).latency_us.unwrap();
    assert!(slow(&running) > 90_000.0);
    running.now += 5 * SECOND;
    let half = slow(&running);
    assert!((50_000.0..65_000.0).contains(&half), "{half}");
    running.now += 60 * SECOND;
    assert!(slow(&running) < 15_000.0);
}

/// After so many nanoseconds without a request one worker that was slow, one that had failed and one that
/// had much to do are as good as the fourth.
fn is_forgotten_after(quiet_ns: u64) {
    const WORKERS: usize = 4;
    let mut running = Running::start(WORKERS, spec());
    for worker in 0..WORKERS {
        running.ended(worker, "work", Outcome::Success, if worker == 3 { 500 } else { 10 }, 20);
    }
    running.ended(2, "work", Outcome::Failure, 10, 4);
    running.router.bind(b"key", "w1");
    for _ in 0..50 {
        running.route("work", Some("key"));
    }
    running.router.waited("w0", 200 * MS, running.now);
    running.now += quiet_ns;
    let shares = running.shares("work", WORKERS, 1_000);
    let all = shares.iter().all(|share| (150..350).contains(share));
    assert!(all, "{quiet_ns} ns: {shares:?}");
}

#[test]
fn after_a_quiet_weekend_everybody_is_asked() {
    (30..100).for_each(|hours| is_forgotten_after(hours * 3_600 * SECOND));
}

#[test]
fn what_was_measured_is_forgotten_however_long_nobody_asks() {
    let year = 365 * 24 * 3_600 * SECOND;
    // The first of them is two minutes.
    let powers = (37..63).map(|power| 1 << power).filter(|ns| *ns <= year);
    powers.chain([year]).for_each(is_forgotten_after);
}

#[test]
fn a_failure_that_was_fast_makes_nobody_fast() {
    let running = Running::start(2, spec());
    for worker in 0..2 {
        running.ended(worker, "work", Outcome::Success, 10, 20);
    }
    running.ended(0, "work", Outcome::Failure, 0, 3);
    let (failing, well) = (running.candidate("work", 0), running.candidate("work", 1));
    assert_eq!(failing.latency_us, well.latency_us);
    assert!(failing.score > 2.0 * well.score, "{failing:?}");
    assert_eq!((failing.successes, failing.failures), (20, 3));
    // One that was slow does count.
    running.ended(0, "work", Outcome::Failure, 100, 1);
    assert!(running.candidate("work", 0).latency_us > well.latency_us);
}

#[test]
fn waits_in_the_queue_add_to_the_score_and_are_forgotten() {
    let mut running = Running::start(2, spec());
    for worker in 0..2 {
        running.ended(worker, "work", Outcome::Success, 10, 1);
    }
    running.router.waited("w0", 20 * MS, running.now);
    running.router.waited("nobody", 20 * MS, running.now);
    assert_eq!(running.candidate("work", 0).queue_wait_us, 20_000.0);
    assert!((running.candidate("work", 0).score - 30_000.0).abs() < 1.0);
    running.now += 60 * SECOND;
    assert!(running.candidate("work", 0).queue_wait_us < 10.0);
}

#[test]
fn exploration_goes_to_idle_workers_only() {
    let mut running = Running::start(4, RouterSpec { exploration: 1_000, ..spec() });
    running.ended(0, "work", Outcome::Success, 100, 10);
    for worker in 1..4 {
        running.ended(worker, "work", Outcome::Success, 10, 10);
    }
    let shares = running.shares("work", 4, 400);
    assert!(shares[0] > 60, "{shares:?}");
    let _busy: Vec<_> = (0..4)
        .map(|worker| {
            running.router.bind(b"key", &id(worker));
            let request = telemetry_router::Request { command: b"work", key: Some(b"key") };
            running.router.checkout(request, running.now, &mut running.memory).unwrap()
        })
        .collect();
    assert!(running.route("work", None).is_some_and(|(_, reason)| reason == Reason::Best));
}

#[test]
fn a_new_worker_begins_with_half_of_its_share() {
    let mut running = Running::start(1, spec());
    running.router.add_worker("w1", running.now);
    let ratio =
        |running: &Running| running.candidate("work", 1).score / running.candidate("work", 0).score;
    assert!((ratio(&running) - 2.0).abs() < 0.01);
    running.now += 2_500 * MS;
    assert!((ratio(&running) - 1.5).abs() < 0.01);
    running.now += 2_500 * MS;
    assert!((ratio(&running) - 1.0).abs() < 0.01);
}

#[test]
fn requests_without_an_end_are_presumed_for_as_long_as_they_take() {
    let mut running = Running::start(2, spec());
    for worker in 0..2 {
        running.ended(worker, "work", Outcome::Success, 100, 20);
    }
    for _ in 0..10 {
        running.route("work", None);
    }
    let presumed = |running: &Running| {
        let workers = running.router.report(running.now).workers;
        workers.iter().map(|worker| worker.presumed).collect::<Vec<_>>()
    };
    assert!(
        presumed(&running).iter().all(|one| (one - 5.0).abs() < 0.01),
        "{:?}",
        presumed(&running)
    );
    running.now += 100 * MS;
    assert!(presumed(&running).iter().all(|one| (one - 1.84).abs() < 0.05));
    running.now += SECOND;
    assert_eq!(presumed(&running), [0.0, 0.0]);
}

#[test]
fn an_event_of_a_request_by_ticket_is_left_to_its_ticket() {
    let mut running = Running::start(1, spec());
    let ticket = running.checkout("work");
    running.ended(0, "work", Outcome::Failure, 10, 10);
    assert_eq!(running.candidate("work", 0).failures, 0);
    ticket.complete(Outcome::Success, None, running.now);
    assert_eq!(running.candidate("work", 0).successes, 1);
    // One that was routed without a ticket has nobody else.
    running.route("work", None);
    let _ticket = running.checkout("work");
    running.ended(0, "work", Outcome::Success, 10, 2);
    assert_eq!(running.candidate("work", 0).successes, 2);
    running.router.completed("work", "nobody", Outcome::Success, 1, running.now);
}

#[test]
fn commands_beyond_the_limit_are_routed_all_the_same() {
    let mut running = Running::start(2, RouterSpec { command_limit: 9, ..spec() });
    for number in 0..100 {
        let ticket = running.checkout(&format!("command {number}"));
        ticket.complete(Outcome::Success, None, running.now + MS);
    }
    let report = running.router.report(running.now);
    assert_eq!(report.commands.len(), 9);
    assert_eq!(report.workers.iter().map(|worker| worker.decisions).sum::<u64>(), 100);
    assert_eq!(running.candidate("command 50", 0).share, 0.0);
}

#[test]
fn a_new_worker_inherits_nothing_of_one_that_has_left() {
    let running = Running::start(2, spec());
    running.ended(0, "work", Outcome::Success, 10, 5);
    running.ended(1, "work", Outcome::Success, 100, 5);
    running.router.remove_worker("w1");
    running.router.add_worker("w2", 0);
    let candidate = running.candidate("work", 2);
    assert_eq!((candidate.latency_from, candidate.successes), ("usual", 0));
}

#[test]
fn shares_are_of_the_command_that_is_explained() {
    let mut running = Running::start(2, spec());
    running.router.bind(b"key", "w1");
    running.route("other", Some("key"));
    for _ in 0..3 {
        running.route("work", Some("key"));
    }
    running.router.bind(b"key", "w0");
    running.route("work", Some("key"));
    assert_eq!(running.candidate("work", 1).share, 0.75);
    assert_eq!(running.candidate("work", 0).share, 0.25);
}

#[test]
fn a_reset_forgets_all_but_workers_and_what_is_in_flight() {
    let mut running = Running::start(2, spec());
    running.ended(0, "work", Outcome::Success, 10, 5);
    running.ended(0, "work", Outcome::Failure, 10, 5);
    assert!(running.candidate("work", 0).ejected_for_ms.is_some());
    running.router.bind(b"bound", "w0");
    running.route("work", Some("sticky"));
    let ticket = running.checkout("work");
    running.router.reset();
    let candidate = running.candidate("work", 0);
    assert_eq!(
        (candidate.latency_us, candidate.ejected_for_ms, candidate.failures),
        (None, None, 0)
    );
    let report = running.router.report(running.now);
    assert_eq!((report.workers.len(), report.sticky_keys), (2, 1));
    assert_eq!(report.decisions.values().sum::<u64>(), 0);
    assert_eq!(running.in_flight(), 1);
    ticket.complete(Outcome::Success, None, running.now + MS);
    assert_eq!(running.in_flight(), 0);
}
