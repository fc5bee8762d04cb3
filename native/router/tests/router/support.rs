//! A router with a clock and a generator.

use std::sync::Arc;

use fastrand::Rng;
use telemetry_router::{
    Candidate, EjectionSpec, Memory, Outcome, Reason, Request, Router, RouterSpec, Ticket,
};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

pub struct Running {
    pub router: Arc<Router>,
    pub memory: Memory,
    pub now: u64,
}

/// Options as an instance has them by default, without exploration, which would hide the rest.
pub fn spec() -> RouterSpec {
    RouterSpec {
        choices: 16,
        half_life_ms: 5_000,
        error_penalty: 10.0,
        exploration: 0,
        slow_start_ms: 5_000,
        ejection: EjectionSpec {
            failures: Some(5),
            error_rate: 0.5,
            base_ms: 10_000,
            longest_ms: 60_000,
            share: 0.5,
        },
        command_limit: 128,
        sticky_limit: 1_000,
        worker_limit: 10_000,
        metrics_limit: 2_000,
    }
}

impl Running {
    /// With workers `w0`, `w1`, … that have come up.
    pub fn start(workers: usize, spec: RouterSpec) -> Self {
        let router = Arc::new(Router::new(spec));
        let memory = Memory::new(Rng::with_seed(7), 0);
        let running = Self { router, memory, now: 100 * SECOND };
        (0..workers).for_each(|worker| assert!(running.router.add_worker(&id(worker), 0)));
        running
    }

    pub fn checkout(&mut self, command: &str) -> Ticket {
        self.try_checkout(command).expect("a worker")
    }

    pub fn try_checkout(&mut self, command: &str) -> Option<Ticket> {
        let request = Request { command: command.as_bytes(), key: None };
        self.router.checkout(request, self.now, &mut self.memory)
    }

    pub fn route(&mut self, command: &str, key: Option<&str>) -> Option<(String, Reason)> {
        let request = Request { command: command.as_bytes(), key: key.map(str::as_bytes) };
        let tell = |id: &[u8], reason| (String::from_utf8(id.to_vec()).unwrap(), reason);
        self.router.route(request, self.now, &mut self.memory, tell)
    }

    /// Requests of a worker end, of which nobody knew that they were on their way.
    pub fn ended(&self, worker: usize, command: &str, outcome: Outcome, ms: u64, times: usize) {
        for _ in 0..times {
            self.router.completed(command, &id(worker), outcome, ms * MS, self.now);
        }
    }

    pub fn candidate(&self, command: &str, worker: usize) -> Candidate {
        let explanation = self.router.explain(command, self.now);
        let found = explanation.candidates.into_iter().find(|one| one.worker_id == id(worker));
        found.expect("a worker")
    }

    pub fn in_flight(&self) -> u32 {
        self.router.report(self.now).workers.iter().map(|worker| worker.tickets).sum()
    }

    /// How many of some requests go to each worker, each of them over before the next.
    pub fn shares(&mut self, command: &str, workers: usize, requests: usize) -> Vec<usize> {
        let mut shares = vec![0; workers];
        for _ in 0..requests {
            let ticket = self.checkout(command);
            let worker: usize = ticket.worker_id()[1..].parse().unwrap();
            shares[worker] += 1;
        }
        shares
    }
}

pub fn id(worker: usize) -> String {
    format!("w{worker}")
}
