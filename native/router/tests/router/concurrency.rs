//! Many threads at once, while workers come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use fastrand::Rng;
use telemetry_router::{Memory, Outcome, Reason, Request, Router, RouterSpec};

use crate::support::{MS, Running, id, spec};

const THREADS: u64 = 4;
const REQUESTS: u64 = 20_000;

#[test]
fn nothing_stays_in_flight_and_every_decision_is_counted() {
    let router = Arc::new(Router::new(RouterSpec { exploration: 50, sticky_limit: 64, ..spec() }));
    (0..8).for_each(|worker| assert!(router.add_worker(&id(worker), 0)));
    let (clock, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let changes = thread::spawn({
        let (router, clock, done) = (Arc::clone(&router), Arc::clone(&clock), Arc::clone(&done));
        move || {
            let mut rng = Rng::with_seed(99);
            while !done.load(SeqCst) {
                // At least one is always there.
                let worker = id(rng.usize(1..8));
                router.remove_worker(&worker);
                router.report(clock.load(SeqCst));
                router.tally(clock.load(SeqCst));
                router.add_worker(&worker, clock.load(SeqCst));
                thread::yield_now();
            }
        }
    });
    let callers: Vec<_> = (0..THREADS)
        .map(|seed| {
            let (router, clock) = (Arc::clone(&router), Arc::clone(&clock));
            thread::spawn(move || call(&router, &clock, seed))
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    done.store(true, SeqCst);
    changes.join().unwrap();
    let now = clock.load(SeqCst);
    let report = router.report(now);
    assert!(report.workers.iter().all(|worker| worker.tickets == 0), "{report:?}");
    assert!(report.sticky_keys <= 64);
    let decided: u64 = Reason::ALL.into_iter().map(|reason| router.decisions(reason)).sum();
    assert_eq!(decided, THREADS * REQUESTS);
}

fn call(router: &Arc<Router>, clock: &AtomicU64, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut memory = Memory::new(rng.fork(), seed as usize);
    for number in 0..REQUESTS {
        let now = clock.fetch_add(MS / 10, SeqCst);
        let (command, key) = (format!("command {}", number % 200), rng.u8(..).to_string());
        let key = rng.bool().then_some(key.as_bytes());
        let request = Request { command: command.as_bytes(), key };
        let ticket = router.checkout(request, now, &mut memory).unwrap();
        match rng.u8(..4) {
            0 => drop(ticket),
            1 => ticket.abandon(now + MS),
            2 => drop(ticket.complete(Outcome::Failure, None, now + MS)),
            _ => drop(ticket.complete(Outcome::Success, None, now + MS)),
        }
    }
}

/// A key is bound while requests with it are routed for the first time.
#[test]
fn a_bind_is_not_lost_to_a_request_that_is_routed_at_that_moment() {
    const ROUNDS: u64 = 10_000;
    let running = Running::start(8, spec());
    let (router, start) = (&running.router, Barrier::new(2));
    let route = |round: u64, memory: &mut Memory| {
        let key = round.to_le_bytes();
        let request = Request { command: b"work", key: Some(&key) };
        router.route(request, running.now, memory, |id, _| id.to_vec()).unwrap()
    };
    // Nobody panics between two rounds, as the other would wait for ever.
    let lost = thread::scope(|scope| {
        scope.spawn(|| {
            let mut memory = Memory::new(Rng::with_seed(1), 1);
            for round in 0..ROUNDS {
                start.wait();
                route(round, &mut memory);
            }
        });
        let mut memory = Memory::new(Rng::with_seed(2), 2);
        let lost = (0..ROUNDS).filter(|round| {
            start.wait();
            router.bind(&round.to_le_bytes(), "w3");
            route(*round, &mut memory) != b"w3"
        });
        lost.count()
    });
    assert_eq!(lost, 0);
    // `sticky_limit` keys are left.
    let mut memory = Memory::new(Rng::with_seed(3), 0);
    let elsewhere = |round: &u64| route(*round, &mut memory) != b"w3";
    assert_eq!((ROUNDS - 900..ROUNDS).filter(elsewhere).count(), 0);
}

#[test]
fn a_ticket_that_several_complete_at_once_is_over_once() {
    let router = Arc::new(Router::new(spec()));
    router.add_worker("w0", 0);
    let mut memory = Memory::default();
    for _ in 0..500 {
        let request = Request { command: b"work", key: None };
        let ticket = router.checkout(request, 0, &mut memory).unwrap();
        let counted = thread::scope(|scope| {
            let complete = || ticket.complete(Outcome::Success, None, 1);
            let threads = [scope.spawn(complete), scope.spawn(complete)];
            threads.map(|thread| thread.join().unwrap())
        });
        let again = counted.iter().filter(|one| **one == telemetry_router::Completion::Again);
        assert_eq!(again.count(), 1);
    }
    assert_eq!(router.report(0).workers[0].tickets, 0);
    assert_eq!(router.explain("work", 0).candidates[0].successes, 500);
}
