//! Ways to choose a worker, told of what became of each request.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::json;
use telemetry_router::{Memory, Outcome, Request, Router, RouterSpec, Ticket};

/// A request on its way.
pub struct Sent {
    pub worker: usize,
    ticket: Option<Ticket>,
}

impl Sent {
    fn to(worker: usize) -> Self {
        Self { worker, ticket: None }
    }
}

pub trait Policy {
    fn name(&self) -> &'static str;

    /// A worker has joined.
    fn join(&mut self, worker: usize, now: u64);

    /// A worker has left. What it has to do it still does.
    fn leave(&mut self, worker: usize);

    /// A worker for a request.
    fn send(&mut self, now: u64, rng: &mut Rng) -> Sent;

    /// A request is over that began at `sent_at`.
    fn done(&mut self, _sent: Sent, _sent_at: u64, _now: u64, _success: bool) {}
}

/// Any worker.
#[derive(Default)]
pub struct Random(Vec<usize>);

impl Policy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn join(&mut self, worker: usize, _now: u64) {
        self.0.push(worker);
    }

    fn leave(&mut self, worker: usize) {
        self.0.retain(|member| *member != worker);
    }

    fn send(&mut self, _now: u64, rng: &mut Rng) -> Sent {
        Sent::to(self.0[rng.usize(..self.0.len())])
    }
}

/// One after the other.
#[derive(Default)]
pub struct RoundRobin(Vec<usize>, usize);

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        "round robin"
    }

    fn join(&mut self, worker: usize, _now: u64) {
        self.0.push(worker);
    }

    fn leave(&mut self, worker: usize) {
        self.0.retain(|member| *member != worker);
    }

    fn send(&mut self, _now: u64, _rng: &mut Rng) -> Sent {
        self.1 = (self.1 + 1) % self.0.len();
        Sent::to(self.0[self.1])
    }
}

/// The one with the fewest requests in flight, any of these.
#[derive(Default)]
pub struct LeastInFlight {
    members: Vec<usize>,
    in_flight: Vec<usize>,
}

impl Policy for LeastInFlight {
    fn name(&self) -> &'static str {
        "least in flight"
    }

    fn join(&mut self, worker: usize, _now: u64) {
        self.members.push(worker);
        self.in_flight.resize(self.in_flight.len().max(worker + 1), 0);
    }

    fn leave(&mut self, worker: usize) {
        self.members.retain(|member| *member != worker);
    }

    fn send(&mut self, _now: u64, rng: &mut Rng) -> Sent {
        let least = self.members.iter().map(|worker| self.in_flight[*worker]).min().unwrap();
        let idle = self.members.iter().filter(|worker| self.in_flight[**worker] == least);
        let worker = *rng.choice(idle.collect::<Vec<_>>()).unwrap();
        self.in_flight[worker] += 1;
        Sent::to(worker)
    }

    fn done(&mut self, sent: Sent, _sent_at: u64, _now: u64, _success: bool) {
        self.in_flight[sent.worker] -= 1;
    }
}

/// The specification's: the one with the least average latency so far.
#[derive(Default)]
pub struct Greedy {
    members: Vec<usize>,
    /// Sum and count by worker.
    latencies: Vec<(u64, u64)>,
}

impl Policy for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn join(&mut self, worker: usize, _now: u64) {
        self.members.push(worker);
        self.latencies.resize(self.latencies.len().max(worker + 1), (0, 0));
    }

    fn leave(&mut self, worker: usize) {
        self.members.retain(|member| *member != worker);
        self.latencies[worker] = (0, 0);
    }

    fn send(&mut self, _now: u64, rng: &mut Rng) -> Sent {
        let known = self.members.iter().filter(|worker| self.latencies[**worker].1 > 0);
        let best = known.min_by_key(|worker| {
            let (sum, count) = self.latencies[**worker];
            sum / count
        });
        Sent::to(best.copied().unwrap_or_else(|| self.members[rng.usize(..self.members.len())]))
    }

    fn done(&mut self, sent: Sent, sent_at: u64, now: u64, _success: bool) {
        let (sum, count) = &mut self.latencies[sent.worker];
        *sum += now - sent_at;
        *count += 1;
    }
}

/// Ours, with the memories of one or more schedulers, one of which gets each request.
pub struct Routed {
    router: Arc<Router>,
    name: &'static str,
    memories: Vec<Memory>,
}

impl Routed {
    fn new(name: &'static str, spec: RouterSpec, schedulers: usize) -> Self {
        let memory = |thread| Memory::new(Rng::with_seed(thread as u64), thread);
        let memories = (0..schedulers).map(memory).collect();
        Self { router: Arc::new(Router::new(spec)), name, memories }
    }

    pub fn by_one() -> Self {
        Self::new("router", spec(), 1)
    }

    pub fn by_four() -> Self {
        Self::new("router, four schedulers", spec(), 4)
    }

    /// Ours if it compares two workers for each request, however few there are.
    pub fn of_two() -> Self {
        Self::new("router, two choices", RouterSpec { choices: 2, ..spec() }, 1)
    }
}

/// The options that an instance has by default.
pub fn spec() -> RouterSpec {
    let spec = json!({
        "choices": 16,
        "half_life_ms": 5_000,
        "error_penalty": 10.0,
        "exploration": 10,
        "slow_start_ms": 2_000,
        "ejection": {
            "failures": 5,
            "error_rate": 0.5,
            "base_ms": 10_000,
            "longest_ms": 300_000,
            "share": 0.5,
        },
        "command_limit": 128,
        "sticky_limit": 100_000,
        "worker_limit": 10_000,
        "metrics_limit": 2_000,
    });
    serde_json::from_value(spec).unwrap()
}

impl Policy for Routed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn join(&mut self, worker: usize, now: u64) {
        assert!(self.router.add_worker(&worker.to_string(), now));
    }

    fn leave(&mut self, worker: usize) {
        assert!(self.router.remove_worker(&worker.to_string()));
    }

    fn send(&mut self, now: u64, rng: &mut Rng) -> Sent {
        let request = Request { command: b"work", key: None };
        let memory = rng.choice(&mut self.memories).unwrap();
        let ticket = self.router.checkout(request, now, memory).unwrap();
        Sent { worker: ticket.worker_id().parse().unwrap(), ticket: Some(ticket) }
    }

    fn done(&mut self, sent: Sent, _sent_at: u64, now: u64, success: bool) {
        let outcome = if success { Outcome::Success } else { Outcome::Failure };
        sent.ticket.unwrap().complete(outcome, None, now);
    }
}
