//! A pool of workers in virtual time: each does one request after the other, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

use crate::policy::{Policy, Sent};

pub const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

const WORKERS: usize = 16;
/// In the case of many.
const MANY: usize = 200;
/// Mean time of a request, which is exponentially distributed.
const SERVICE: f64 = 10.0 * MS as f64;
/// For each worker: 80 % of what it does while it is healthy.
const ARRIVALS_PER_SECOND: f64 = 0.8 * 100.0;
/// How long a worker that fails takes to do so.
const FAILURE: u64 = MS / 2;
/// A failed request is sent again at once, so many times in all; then it is lost.
const ATTEMPTS: u32 = 5;
/// What a lost request is counted as.
const LOST: u64 = 10 * SECOND;
/// The start is not counted.
const WARM_UP: u64 = 5 * SECOND;

/// How long the case of many workers takes.
const MANY_LENGTH: u64 = 15 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Equal,
    OneSlow,
    OneFailing,
    OneStalling,
    TwoRecovering,
    RollingRestart,
    Many,
}

impl Case {
    pub const ALL: [Self; 7] = [
        Self::Equal,
        Self::OneSlow,
        Self::OneFailing,
        Self::OneStalling,
        Self::TwoRecovering,
        Self::RollingRestart,
        Self::Many,
    ];

    fn workers(self) -> usize {
        if self == Self::Many { MANY } else { WORKERS }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "all equal",
            Self::OneSlow => "one 10 × slower",
            Self::OneFailing => "one failing fast",
            Self::OneStalling => "one stalling for 5 s",
            Self::TwoRecovering => "two recovering",
            Self::RollingRestart => "rolling restart",
            Self::Many => "200, ten 10 × slower",
        }
    }

    /// How many times as long as usual a request takes that a worker begins now.
    fn slowness(self, worker: usize, now: u64, born: u64, length: u64) -> f64 {
        match self {
            Self::OneSlow if worker == 3 => 10.0,
            Self::Many if worker % 20 == 3 => 10.0,
            Self::TwoRecovering if (worker == 3 || worker == 9) && now < length / 2 => 10.0,
            // A new worker is cold.
            Self::RollingRestart if born > 0 && now < born + SECOND => 3.0,
            _ => 1.0,
        }
    }

    /// When a worker that does not do anything now goes on.
    fn stalled_until(self, worker: usize, now: u64) -> Option<u64> {
        let round = now / (20 * SECOND) * 20 * SECOND;
        let stall = (round + 8 * SECOND)..(round + 13 * SECOND);
        (self == Self::OneStalling && worker == 3 && stall.contains(&now)).then_some(stall.end)
    }

    fn fails(self, worker: usize) -> bool {
        self == Self::OneFailing && worker == 3
    }

    /// When workers leave and come back.
    fn restarts(self, length: u64) -> Vec<(u64, usize, bool)> {
        if self != Self::RollingRestart {
            return Vec::new();
        }
        let restarts = (0..WORKERS).map(|worker| (WARM_UP + worker as u64 * 4 * SECOND, worker));
        let restarts = restarts.filter(|(at, _)| at + 2 * SECOND < length);
        restarts
            .flat_map(|(at, worker)| [(at, worker, false), (at + 2 * SECOND, worker, true)])
            .collect()
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Result {
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
    /// Attempts that failed, in percent.
    pub failed: f64,
}

enum Event {
    Arrival,
    Done { sent: Sent, sent_at: u64, first: u64, attempt: u32, success: bool },
    Restart { worker: usize, back: bool },
}

struct World<'a> {
    case: Case,
    length: u64,
    policy: &'a mut dyn Policy,
    /// For arrivals and service times, which are the same for every policy.
    rng: Rng,
    /// For what the policy makes of chance.
    choices: Rng,
    /// When each worker will have done all that it has.
    free_at: Vec<u64>,
    born: Vec<u64>,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    events: Vec<Option<Event>>,
    free_events: Vec<usize>,
    latencies: Vec<u64>,
    attempts: u64,
    failures: u64,
}

/// Runs a case for so long, or where there are many workers for a shorter time with more requests.
pub fn simulate(case: Case, policy: &mut dyn Policy, seed: u64, length: u64) -> Result {
    let length = if case == Case::Many { length.min(MANY_LENGTH) } else { length };
    let mut world = World {
        case,
        length,
        policy,
        rng: Rng::with_seed(seed),
        choices: Rng::with_seed(!seed),
        free_at: vec![0; case.workers()],
        born: vec![0; case.workers()],
        queue: BinaryHeap::new(),
        events: Vec::new(),
        free_events: Vec::new(),
        latencies: Vec::new(),
        attempts: 0,
        failures: 0,
    };
    (0..case.workers()).for_each(|worker| world.policy.join(worker, 0));
    for (at, worker, back) in case.restarts(length) {
        world.schedule(at, Event::Restart { worker, back });
    }
    world.schedule(0, Event::Arrival);
    world.run();
    world.result()
}

impl World<'_> {
    fn schedule(&mut self, at: u64, event: Event) {
        let slot = self.free_events.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.queue.push(Reverse((at, slot)));
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.rng.f64()).ln() * mean) as u64
    }

    fn run(&mut self) {
        while let Some(Reverse((now, slot))) = self.queue.pop() {
            self.free_events.push(slot);
            match self.events[slot].take().unwrap() {
                Event::Arrival => {
                    self.send(now, now, 1);
                    let arrivals = ARRIVALS_PER_SECOND * self.case.workers() as f64;
                    let next = now + self.exponential(SECOND as f64 / arrivals);
                    if next < self.length {
                        self.schedule(next, Event::Arrival);
                    }
                }
                Event::Restart { worker, back: false } => self.policy.leave(worker),
                Event::Restart { worker, back: true } => {
                    self.policy.join(worker, now);
                    self.born[worker] = now;
                    self.free_at[worker] = now;
                }
                Event::Done { sent, sent_at, first, attempt, success } => {
                    self.policy.done(sent, sent_at, now, success);
                    self.attempts += 1;
                    self.failures += u64::from(!success);
                    if !success && attempt < ATTEMPTS {
                        self.send(now, first, attempt + 1);
                    } else if first >= WARM_UP {
                        self.latencies.push(if success { now - first } else { LOST });
                    }
                }
            }
        }
    }

    fn send(&mut self, now: u64, first: u64, attempt: u32) {
        let sent = self.policy.send(now, &mut self.choices);
        let worker = sent.worker;
        let mut start = now.max(self.free_at[worker]);
        if let Some(until) = self.case.stalled_until(worker, start) {
            start = until;
        }
        let success = !self.case.fails(worker);
        let service = if success {
            let slowness = self.case.slowness(worker, start, self.born[worker], self.length);
            self.exponential(SERVICE * slowness)
        } else {
            FAILURE
        };
        let mut done = start + service;
        if let Some(until) = self.case.stalled_until(worker, done) {
            // It stalls in the middle of it.
            done += until - (until - 5 * SECOND).max(start);
        }
        self.free_at[worker] = done;
        self.schedule(done, Event::Done { sent, sent_at: now, first, attempt, success });
    }

    fn result(mut self) -> Result {
        self.latencies.sort_unstable();
        let count = self.latencies.len();
        let ms = |ns: u64| ns as f64 / MS as f64;
        Result {
            mean: self.latencies.iter().map(|latency| ms(*latency)).sum::<f64>() / count as f64,
            p50: ms(self.latencies[count / 2]),
            p99: ms(self.latencies[count * 99 / 100]),
            failed: 100.0 * self.failures as f64 / self.attempts as f64,
        }
    }
}
