//! Counts for metrics.

use super::Router;
use super::reason::Reason;
use super::record::Counts;
use super::stamped::Tick;

/// What the workers that have no metrics of their own are called.
pub(crate) const OTHERS: &str = "other";

/// The numbers of all workers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Workers, as far as they have metrics of their own: those that are there by id, then those that
    /// have left, the longest gone first.
    pub workers: Vec<WorkerTally>,
    /// All others together, if there are or were any.
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
    /// Requests in flight; `None` of workers that have left.
    pub in_flight: Option<f64>,
}

impl WorkerTally {
    fn new(id: &str, counts: Counts, in_flight: Option<f64>) -> Self {
        let Counts { decisions, ejections } = counts;
        Self { id: id.to_owned(), decisions, ejections, in_flight }
    }
}

impl Router {
    /// The numbers of all workers. None that is counted goes down from one time to the next, except
    /// by [`Router::reset`].
    pub fn tally(&self, now_ns: u64) -> Tally {
        let now = Tick::at(now_ns);
        let mut tally = Tally::default();
        // Nobody comes or leaves meanwhile.
        let changing = self.pool.changing();
        let records = &changing.records;
        let (mut of_others, mut in_flight_of_others) = (records.others(), None);
        for worker in &self.pool.members().workers {
            if worker.health.is_ejected(now_ns) {
                tally.ejected += 1;
            } else if worker.health.warmth(now_ns, self.rules.slow_start_ns) < 1.0 {
                tally.starting += 1;
            } else {
                tally.healthy += 1;
            }
            let (mut counts, in_flight) = (worker.counts(), worker.load.in_flight(now).into());
            if records.is_of_others(worker.record()) {
                of_others += counts;
                *in_flight_of_others.get_or_insert(0.0) += in_flight;
            } else {
                counts += worker.record().counts();
                tally.workers.push(WorkerTally::new(worker.id(), counts, Some(in_flight)));
            }
        }
        for (id, counts) in records.departed() {
            tally.workers.push(WorkerTally::new(id, counts, None));
        }
        let any_others = in_flight_of_others.is_some() || of_others != Counts::default();
        tally.others = any_others.then(|| WorkerTally::new(OTHERS, of_others, in_flight_of_others));
        tally
    }
}
