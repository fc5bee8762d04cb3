//! Counts for metrics.

use super::Router;
use super::reason::Reason;
use super::stamped::Tick;
use super::worker::Worker;

/// What the workers that have no metrics of their own are called.
pub(crate) const OTHERS: &str = "other";

/// The numbers of all workers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Workers, as far as they have metrics of their own.
    pub workers: Vec<WorkerTally>,
    /// The others and those that have left, if there are any.
    pub others: Option<WorkerTally>,
    /// How many workers have nothing against them.
    pub healthy: usize,
    /// How many are coming up.
    pub starting: usize,
    /// How many are ejected.
    pub ejected: usize,
}

/// The numbers of a worker, or of several together.
#[derive(Clone, Debug)]
pub struct WorkerTally {
    /// Its id.
    pub id: String,
    /// Requests that were routed to it, in the order of [`Reason::ALL`].
    pub decisions: [u64; Reason::ALL.len()],
    /// How often it was ejected.
    pub ejections: u64,
    /// Requests in flight.
    pub in_flight: f64,
}

impl WorkerTally {
    fn new(worker: &Worker, now: Tick) -> Self {
        Self {
            id: worker.id().to_string(),
            decisions: Reason::ALL.map(|reason| worker.decisions(reason)),
            ejections: worker.vitals().health.ejections(),
            in_flight: f64::from(worker.vitals().load.in_flight(now)),
        }
    }

    fn add(&mut self, other: &Self) {
        for (sum, count) in self.decisions.iter_mut().zip(other.decisions) {
            *sum += count;
        }
        self.ejections += other.ejections;
        self.in_flight += other.in_flight;
    }
}

impl Router {
    /// The numbers of all workers.
    pub fn tally(&self, now_ns: u64) -> Tally {
        let now = Tick::at(now_ns);
        let members = self.pool.members();
        let mut tally = Tally::default();
        let mut others = WorkerTally {
            id: OTHERS.to_owned(),
            decisions: Reason::ALL.map(|reason| self.pool.departed(reason)),
            ejections: self.pool.departed_ejections(),
            in_flight: 0.0,
        };
        for worker in &members.workers {
            let health = &worker.vitals().health;
            if health.is_ejected(now_ns) {
                tally.ejected += 1;
            } else if health.warmth(now_ns, self.rules.slow_start_ns) < 1.0 {
                tally.starting += 1;
            } else {
                tally.healthy += 1;
            }
            let numbers = WorkerTally::new(worker, now);
            if tally.workers.len() < self.spec.metrics_limit {
                tally.workers.push(numbers);
            } else {
                others.add(&numbers);
            }
        }
        let any_others = members.workers.len() > tally.workers.len()
            || others.decisions.iter().sum::<u64>() + others.ejections > 0;
        tally.others = any_others.then_some(others);
        tally
    }
}
