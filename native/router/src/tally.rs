//! Counts for metrics.

use super::Router;
use super::reason::Reason;
use super::record::Counts;
use super::stamped::Tick;

/// What the workers that have no metrics of their own are called.
const OTHERS: &str = "other";

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
    /// by [`Router::reset`]; a worker that left long ago is told of no more, and what was told of it is
    /// not told again, so how much all go up from time to time is what was decided.
    pub fn tally(&self, now_ns: u64) -> Tally {
        let now = Tick::at(now_ns);
        let mut tally = Tally::default();
        // Nobody comes or leaves meanwhile.
        let mut changing = self.pool.changing();
        let records = &mut changing.records;
        let (mut of_others, mut in_flight_of_others) = (Counts::default(), None);
        for worker in &self.pool.members().workers {
            if worker.health.is_ejected(now_ns) {
                tally.ejected += 1;
            } else if worker.health.warmth(now_ns, self.rules.slow_start_ns) < 1.0 {
                tally.starting += 1;
            } else {
                tally.healthy += 1;
            }
            let (counts, in_flight) = (worker.counts(), worker.load.in_flight(now).into());
            match records.tell(worker.id(), worker.record(), counts) {
                Some(counts) => {
                    tally.workers.push(WorkerTally::new(worker.id(), counts, Some(in_flight)));
                }
                None => {
                    of_others += counts;
                    *in_flight_of_others.get_or_insert(0.0) += in_flight;
                }
            }
        }
        for (id, counts) in records.tell_departed() {
            tally.workers.push(WorkerTally::new(&id, counts, None));
        }
        of_others += records.others();
        let any_others = in_flight_of_others.is_some() || records.any_others();
        tally.others = any_others.then(|| WorkerTally::new(OTHERS, of_others, in_flight_of_others));
        tally
    }
}
