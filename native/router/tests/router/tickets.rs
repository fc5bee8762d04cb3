//! What is in flight: exactly the tickets that are neither completed nor abandoned nor dropped.

use std::collections::HashMap;

use proptest::prelude::*;
use telemetry_router::{Completion, Outcome, Ticket};

use crate::support::{MS, Running, SECOND, id, spec};

const WORKERS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Checkout,
    Complete(usize, Outcome),
    Abandon(usize),
    Drop(usize),
    Add(usize),
    Remove(usize),
    Put(Vec<bool>),
    Reset,
    Stop,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome =
        prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Unknown)];
    prop_oneof![
        8 => Just(Step::Checkout),
        6 => (any::<usize>(), outcome).prop_map(|(ticket, outcome)| Step::Complete(ticket, outcome)),
        2 => any::<usize>().prop_map(Step::Abandon),
        2 => any::<usize>().prop_map(Step::Drop),
        2 => (0..WORKERS).prop_map(Step::Add),
        1 => (0..WORKERS).prop_map(Step::Remove),
        1 => proptest::collection::vec(any::<bool>(), WORKERS).prop_map(Step::Put),
        1 => Just(Step::Reset),
        1 => (0..20_000u64).prop_map(Step::Wait),
        1 => prop_oneof![30 => Just(Step::Reset), 1 => Just(Step::Stop)],
    ]
}

/// A worker's id stands for a new worker each time that it is added.
#[derive(Default)]
struct Model {
    /// The generation of each worker that is there.
    present: HashMap<String, usize>,
    generations: usize,
    tickets: Vec<Known>,
    stopped: bool,
}

struct Known {
    ticket: Option<Ticket>,
    worker: (String, usize),
    is_over: bool,
}

impl Model {
    fn add(&mut self, worker: String) {
        if !self.stopped && !self.present.contains_key(&worker) {
            self.generations += 1;
            self.present.insert(worker, self.generations);
        }
    }

    fn is_present(&self, worker: &(String, usize)) -> bool {
        self.present.get(&worker.0) == Some(&worker.1)
    }

    fn in_flight(&self, worker: &str) -> usize {
        let open = self.tickets.iter().filter(|known| !known.is_over);
        open.filter(|known| known.worker.0 == worker && self.is_present(&known.worker)).count()
    }

    fn pick(&self, at: usize) -> Option<usize> {
        let held = self.tickets.iter().enumerate().filter(|(_, known)| known.ticket.is_some());
        let held: Vec<_> = held.map(|(at, _)| at).collect();
        (!held.is_empty()).then(|| held[at % held.len()])
    }
}

fn take(running: &mut Running, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Checkout => {
            let ticket = running.try_checkout("work");
            prop_assert_eq!(ticket.is_some(), !model.present.is_empty());
            if let Some(ticket) = ticket {
                let id = ticket.worker_id().to_owned();
                let generation = model.present.get(&id).copied();
                prop_assert!(generation.is_some(), "{} is not in the pool", id);
                let worker = (id, generation.unwrap());
                model.tickets.push(Known { ticket: Some(ticket), worker, is_over: false });
            }
        }
        Step::Complete(at, outcome) => {
            if let Some(at) = model.pick(at) {
                let known = &model.tickets[at];
                let expected = match (known.is_over, model.stopped) {
                    (true, _) => Completion::Again,
                    (_, true) => Completion::Stopped,
                    _ if model.is_present(&known.worker) => Completion::Counted,
                    _ => Completion::WorkerGone,
                };
                let ticket = known.ticket.as_ref().unwrap();
                prop_assert_eq!(ticket.complete(outcome, None, running.now), expected);
                model.tickets[at].is_over = true;
            }
        }
        Step::Abandon(at) => {
            if let Some(at) = model.pick(at) {
                model.tickets[at].ticket.as_ref().unwrap().abandon(running.now);
                model.tickets[at].is_over = true;
            }
        }
        Step::Drop(at) => {
            if let Some(at) = model.pick(at) {
                model.tickets[at].ticket = None;
                model.tickets[at].is_over = true;
            }
        }
        Step::Add(worker) => {
            prop_assert_eq!(running.router.add_worker(&id(worker), running.now), !model.stopped);
            model.add(id(worker));
        }
        Step::Remove(worker) => {
            let removed = model.present.remove(&id(worker)).is_some();
            prop_assert_eq!(running.router.remove_worker(&id(worker)), removed);
        }
        Step::Put(wanted) => {
            let wanted: Vec<_> = (0..WORKERS).filter(|worker| wanted[*worker]).map(id).collect();
            let ids = wanted.iter().map(String::as_str);
            let change = running.router.put_workers(ids, running.now);
            let before = model.present.len();
            if !model.stopped {
                model.present.retain(|worker, _| wanted.contains(worker));
                prop_assert_eq!(change.removed, before - model.present.len());
                let kept = model.present.len();
                wanted.into_iter().for_each(|worker| model.add(worker));
                prop_assert_eq!(change.added, model.present.len() - kept);
            }
        }
        Step::Reset => running.router.reset(),
        Step::Stop => {
            running.router.stop();
            model.stopped = true;
            model.present.clear();
        }
        Step::Wait(ms) => running.now += ms * MS,
    }
    let report = running.router.report(running.now);
    prop_assert_eq!(report.workers.len(), model.present.len());
    for worker in report.workers {
        prop_assert_eq!(worker.tickets as usize, model.in_flight(&worker.worker_id));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_flight_is_what_a_model_says(steps in proptest::collection::vec(step(), 1..80)) {
        let mut running = Running::start(WORKERS, spec());
        let mut model = Model::default();
        (0..WORKERS).for_each(|worker| model.add(id(worker)));
        for step in steps {
            take(&mut running, &mut model, step)?;
        }
        model.tickets.clear();
        prop_assert_eq!(running.in_flight(), 0);
    }
}

#[test]
fn an_abandoned_request_that_took_long_says_so_and_a_short_one_says_nothing() {
    let mut running = Running::start(1, spec());
    running.ended(0, "work", Outcome::Success, 10, 1);
    let before = running.candidate("work", 0).latency_us;
    running.checkout("work").abandon(running.now + MS);
    assert_eq!(running.candidate("work", 0).latency_us, before);
    let ticket = running.checkout("work");
    ticket.abandon(running.now + SECOND);
    assert!(running.candidate("work", 0).latency_us > before);
    let report = running.router.report(running.now);
    assert_eq!((report.workers[0].abandoned, report.workers[0].error_rate), (2, 0.0));
}

#[test]
fn a_given_duration_wins_over_the_time_since_the_checkout() {
    let mut running = Running::start(1, spec());
    let ticket = running.checkout("work");
    let later = running.now + 100 * MS;
    assert_eq!(ticket.complete(Outcome::Success, Some(3 * MS), later), Completion::Counted);
    assert_eq!(running.candidate("work", 0).latency_us, Some(3_000.0));
    let ticket = running.checkout("other");
    ticket.complete(Outcome::Success, None, running.now + 7 * MS);
    assert_eq!(running.candidate("other", 0).latency_us, Some(7_000.0));
}

#[test]
fn extreme_durations_leave_a_score_that_can_be_compared() {
    let mut running = Running::start(2, spec());
    for duration in [0, u64::MAX, 0, u64::MAX] {
        let ticket = running.checkout("work");
        ticket.complete(Outcome::Success, Some(duration), running.now);
    }
    for worker in 0..2 {
        let candidate = running.candidate("work", worker);
        assert!(candidate.score.is_finite(), "{candidate:?}");
    }
}
